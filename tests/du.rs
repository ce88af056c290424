//! `du`: every byte is somebody's, once.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "common/host.rs"]
mod host;
#[path = "common/layout.rs"]
mod layout;

use std::fs;

use host::Host;
use layout::{LayerBlob, Layout, content, tar};
use serde_json::{Value, json};

fn bytes(value: &Value) -> [u64; 4] {
    ["total", "unique", "shared", "host"].map(|key| value["bytes"][key].as_u64().unwrap())
}

#[test]
fn every_byte_is_counted_where_it_belongs() {
    let host = Host::new();
    let mut layout = Layout::new(&host.path("layout"));
    let base = LayerBlob::plain(&tar(&[("base", &content(1, 100_000))]));
    let theirs = content(4, 30_000);
    for (reference, seed, length) in [("a", 2, 20_000), ("b", 3, 50_000)] {
        let own = content(seed, length);
        let top = LayerBlob::plain(&tar(&[("own", &own), ("theirs", &theirs)]));
        layout.image(reference, &[base.clone(), top]);
    }
    let images = [("localhost/a:1", "a"), ("localhost/b:1", "b")];
    let [a, b] = images.map(|(name, reference)| layout.arg(name, reference));
    host.ok(&["sync", "--deployment", "one", "--image", &a]);
    host.ok(&["sync", "--deployment", "two", "--image", &a, "--image", &b]);
    let also = layout.arg("localhost/also:1", "a");
    host.ok(&[
        "sync",
        "--deployment",
        "two",
        "--image",
        &a,
        "--image",
        &b,
        "--image",
        &also,
    ]);

    let on_disk = || -> u64 {
        let objects = host.objects().into_iter();
        objects
            .map(|object| fs::metadata(object).unwrap().len())
            .sum()
    };
    let used = host.ok(&["du"]);
    assert_eq!(used["bytes"]["total"], on_disk());
    // Of the first set of two only its pin and its set image are left.
    assert!(used["bytes"]["rest"].as_u64().unwrap() > 0);
    assert_eq!(used["bytes"]["host"], 0);
    host.ok(&["gc"]);

    // The host has one of the files, and one that nobody else has.
    let repo = std::sync::Arc::new(host.crate_repo());
    let mut stream = repo.create_stream(7).unwrap();
    stream.write_external(&theirs).unwrap();
    stream.write_external(&content(5, 7000)).unwrap();
    repo.write_stream(stream, "oci-layer-x", None).unwrap();
    drop(repo);
    let used = host.ok(&["du"]);
    assert_eq!(used["bytes"]["total"], on_disk());
    assert_eq!(used["bytes"]["both"], 30_000);
    assert_eq!(used["bytes"]["rest"], 0, "{used}");
    let host_bytes = used["bytes"]["host"].as_u64().unwrap();
    assert!((7000..8000).contains(&host_bytes), "{used}");
    let sum = ["sets", "host", "both", "rest"].map(|key| used["bytes"][key].as_u64().unwrap());
    assert_eq!(sum.iter().sum::<u64>(), on_disk());

    let images = used["images"].as_array().unwrap();
    assert_eq!(images.len(), 2);
    let named = |name: &str| {
        let has = |image: &&Value| image["names"].as_array().unwrap().contains(&json!(name));
        images.iter().find(has).unwrap()
    };
    let (a, b) = (named("localhost/a:1"), named("localhost/b:1"));
    assert_eq!(a["names"], json!(["localhost/a:1", "localhost/also:1"]));
    assert_eq!(a["deployments"], json!(["one", "two"]));
    assert_eq!(b["deployments"], json!(["two"]));
    for (image, own) in [(a, 20_000), (b, 50_000)] {
        let [total, unique, shared, host] = bytes(image);
        assert_eq!(unique + shared + host, total);
        assert_eq!(host, 30_000);
        // The base with its stream; the own file with streams.
        assert!((100_000..102_000).contains(&shared), "{image}");
        assert!((own..own + 4000).contains(&unique), "{image}");
    }
    let [one, two] = [0, 1].map(|at| bytes(&used["deployments"][at]));
    assert_eq!((one[3], two[3]), (30_000, 30_000));
    assert_eq!(one[2], two[2], "what they share they share");
    assert!(one[2] > 120_000 && two[1] > 50_000);

    let mut text = host.command(&["du"]);
    let args: Vec<_> = text.get_args().map(ToOwned::to_owned).collect();
    text = std::process::Command::new(env!("CARGO_BIN_EXE_boundstore"));
    text.args(args.iter().filter(|arg| *arg != "--json"));
    let said = String::from_utf8(text.output().unwrap().stdout).unwrap();
    assert!(
        said.contains("image localhost/a:1, localhost/also:1 (2 deployments)"),
        "{said}"
    );
    assert!(!said.contains('█'), "bars are for terminals: {said}");
    // What unique says is what removing frees, but for what two others kept.
    let freed = {
        let before = on_disk();
        host.ok(&["remove", "--deployment", "two"]);
        host.ok(&["gc"]);
        before - on_disk()
    };
    assert_eq!(freed, two[1]);
}
