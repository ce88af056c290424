//! `sync --dry-run` foretells what `sync` then fetches, by the registry's own log.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;
#[path = "common/layout.rs"]
mod layout;

use common::{Scratch, boundstore::Boundstore, image::Image, ready, registry::Registry};
use layout::{LayerBlob, Layout, tar};
use serde_json::Value;

const MIB: usize = 1 << 20;

fn layer(seed: u64) -> LayerBlob {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let noise = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    let bytes: Vec<u8> = (0..MIB).map(noise).collect();
    LayerBlob::gzip(&tar(&[("noise", &bytes)]))
}

fn network_bytes(forecast: &Value) -> u64 {
    let images = forecast["forecast"].as_array().unwrap();
    images
        .iter()
        .map(|image| image["network_bytes"].as_u64().unwrap())
        .sum()
}

fn places(forecast: &Value, image: usize) -> Vec<&str> {
    let layers = forecast["forecast"][image]["layers"].as_array().unwrap();
    layers
        .iter()
        .map(|layer| layer["place"].as_str().unwrap())
        .collect()
}

/// Cold; with a layer that the repository holds; and with one in the spool.
#[test]
fn a_dry_run_foretells_what_a_sync_fetches() {
    if !ready(&["skopeo", "docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut layout = Layout::new(&scratch.join("layout"));
    layout.image("one", &[layer(1), layer(2)]);
    layout.image("two", &[layer(1), layer(3), layer(4)]);
    let registry = Registry::start(&scratch);
    for tag in ["one", "two"] {
        registry.put(&Image::read(&layout.path, tag), &format!("{tag}:1"));
    }
    let host = Boundstore::new(&scratch, "repo");
    let names = ["one", "two"].map(|tag| format!("{}/{tag}:1", registry.address));
    let args = |names: &[String]| {
        let sync = host.sync_args("d", names);
        format!("{sync} --no-tls-verify --retry-for 0")
    };
    let compare = |names: &[String]| {
        let foretold = network_bytes(&host.json(&format!("{} --dry-run", args(names))));
        let mark = registry.mark();
        host.json(&args(names));
        let fetched = registry.bytes_since(mark);
        let off = foretold.abs_diff(fetched) as f64 / fetched as f64;
        println!(
            "foretold {foretold}, fetched {fetched}: {:.2} % off",
            off * 100.0
        );
        assert!(off < 0.01, "foretold {foretold}, fetched {fetched}");
    };
    let forecast = host.json(&format!("{} --dry-run", args(&names)));
    assert!(!host.repo().exists(), "a dry run wrote");
    assert_eq!(places(&forecast, 0), ["network", "network"]);
    assert_eq!(places(&forecast, 1), ["before", "network", "network"]);
    compare(&names[..1]);
    let forecast = host.json(&format!("{} --dry-run", args(&names)));
    assert_eq!(places(&forecast, 0), ["repository", "repository"]);
    assert_eq!(places(&forecast, 1), ["repository", "network", "network"]);
    // A fetch that was cut off after one blob.
    let blob = forecast["forecast"][1]["layers"][1]["digest"]
        .as_str()
        .unwrap();
    let held = scratch.dir("repo-host/spool").join(blob.replace(':', "-"));
    std::fs::copy(layout.blob_path(blob), held).unwrap();
    let forecast = host.json(&format!("{} --dry-run", args(&names)));
    assert_eq!(places(&forecast, 1), ["repository", "spool", "network"]);
    compare(&names);
    // Nothing is left to do: no blob comes.
    let forecast = host.json(&format!("{} --dry-run", args(&names)));
    assert_eq!(forecast["unchanged"], true);
    assert_eq!(places(&forecast, 1), ["repository"; 3]);
}

/// A host image that nobody has pulled: what it binds is read from as few of its
/// layers as it takes.
#[test]
fn a_host_image_that_is_not_pulled() {
    if !ready(&["skopeo", "docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut layout = Layout::new(&scratch.join("layout"));
    layout.image("app", &[layer(1), layer(2)]);
    let registry = Registry::start(&scratch);
    let put = |layout: &Layout, tag: &str| {
        registry.put(&Image::read(&layout.path, tag), &format!("{tag}:1"));
    };
    put(&layout, "app");
    let host = Boundstore::new(&scratch, "repo");
    let name = format!("{}/app:1", registry.address);
    let unit = format!("[Image]\nImage={name}\n");
    // The units are below, with what hides one; the lock file is above them.
    let link = "usr/lib/bootc/bound-images.d/app.image->/usr/share/containers/systemd/app.image";
    let units = LayerBlob::gzip(&tar(&[
        ("usr/share/containers/systemd/app.image", unit.as_bytes()),
        (link, b""),
        (
            "usr/lib/boundstore/bound-images.d/gone.image",
            b"[Image]\nImage=127.0.0.1:9/gone:1\n",
        ),
    ]));
    let hides = "usr/lib/boundstore/bound-images.d/.wh.gone.image";
    let hides = LayerBlob::gzip(&tar(&[(hides, b"")]));
    let root = scratch.join("root");
    let bound = root.join("usr/lib/boundstore/bound-images.d");
    std::fs::create_dir_all(&bound).unwrap();
    std::fs::write(bound.join("app.image"), &unit).unwrap();
    let options = host
        .sync_args("d", &[])
        .replacen("sync --deployment d", "", 1);
    host.ok(&format!(
        "lock --root {} --no-tls-verify {options}",
        root.display()
    ));
    let lock = "usr/lib/boundstore/bound-images.lock.json";
    let bytes = std::fs::read(root.join(lock)).unwrap();
    let lock = LayerBlob::gzip(&tar(&[(lock, &bytes)]));
    layout.image("units", &[layer(7), units.clone(), hides.clone(), layer(8)]);
    layout.image(
        "locked",
        &[
            layer(7),
            units.clone(),
            hides.clone(),
            lock.clone(),
            layer(8),
        ],
    );
    let unlock = LayerBlob::gzip(&tar(&[("usr/lib/boundstore/.wh..wh..opq", b"")]));
    layout.image("unlocked", &[layer(7), lock, units, hides, unlock]);
    for tag in ["units", "locked", "unlocked"] {
        put(&layout, tag);
    }
    for (tag, read) in [("units", 4), ("locked", 2), ("unlocked", 5)] {
        let call = format!(
            "sync --deployment d --dry-run --host-image {}/{tag}:1 --no-tls-verify {options}",
            registry.address
        );
        let mark = registry.mark();
        let forecast = host.json(&call);
        // The layers that were read, and the configs of both images.
        let fetched = registry.fetched_since(mark).len();
        assert_eq!(fetched, read + 2, "{tag}");
        let images = forecast["forecast"].as_array().unwrap();
        assert_eq!(images.len(), 1, "{tag}: {forecast}");
        assert_eq!(images[0]["name"], *name, "{tag}");
        assert_eq!(places(&forecast, 0), ["network", "network"], "{tag}");
    }
    assert!(!host.repo().exists(), "a dry run wrote");
    let spool = scratch.join("repo-host/spool");
    assert_eq!(std::fs::read_dir(spool).unwrap().count(), 0);
    let call = format!("sync --deployment d --host-image localhost/x:1 {options}");
    let (_, said) = host.exits(2, &call);
    assert!(said.contains("--dry-run"), "{said}");
}
