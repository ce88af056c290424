//! Damage to the repository under a mounted set, and what a container gets.

use std::{
    fs,
    path::{Path, PathBuf},
};

use guest::tamper;

use super::Seen;
use crate::{
    common::{Scratch, image::sha256, podman::Podman},
    host::{Host, ONE, STORE, V1, objects},
    stage::INPUT,
};

/// A file of the image that is an object by itself.
const FILE: &str = "app/payload";

/// fs-verity itself finds it, whoever mounted what.
pub fn block_flipped(host: &Host) -> Seen {
    let object = object(host);
    tamper::flip(&object, 100_000).unwrap();
    let observed = read_by_podman();
    tamper::flip(&object, 100_000).unwrap();
    Seen::is(observed, "EIO")
}

/// Only an overlay that requires fs-verity finds it.
pub fn object_replaced(host: &Host) -> Seen {
    let object = object(host);
    let kept = object.with_extension("kept");
    fs::hard_link(&object, &kept).unwrap();
    tamper::replace(&object, OTHER.repeat(20_000).as_bytes()).unwrap();
    let observed = read_by_podman();
    fs::rename(&kept, &object).unwrap();
    let expected = if host.requires_verity {
        "EIO"
    } else {
        "the other file"
    };
    Seen::is(observed, expected)
}

/// `verify` finds the block, `--repair` brings the layer again and mounts anew:
/// a live mount goes on failing on Linux 6.12.
pub fn repaired(host: &Host) -> Seen {
    // Whatever was seen bad before, the mount may still give.
    host.show(ONE);
    let object = object(host);
    tamper::flip(&object, 100_000).unwrap();
    let damaged = read_by_podman();
    let allow = if host.requires_verity {
        ""
    } else {
        "--allow-missing-verity "
    };
    let found = host.exits(3, "verify --deep");
    let found = String::from_utf8(found.stdout).unwrap();
    assert!(found.contains(&format!("/{FILE} of {V1}")), "{found}");
    let repair = format!("{allow}--json verify --deep --repair --from oci:{INPUT}/app");
    let repaired = host.exits(0, &repair).stdout;
    let repaired: serde_json::Value = serde_json::from_slice(&repaired).unwrap();
    let fetched = repaired["fetched"].as_array().unwrap();
    assert_eq!(fetched.len(), 1, "{repaired:#}");
    assert_eq!(repaired["exchanged"][0]["target"], STORE, "{repaired:#}");
    tamper::drop_caches().unwrap();
    host.exits(0, "verify --deep");
    Seen::is(format!("{damaged}; {}", read_by_podman()), "EIO; the file")
}

/// A new mount, and all is as it was.
pub fn mended(host: &Host) -> Seen {
    tamper::drop_caches().unwrap();
    host.show(ONE);
    Seen::is(read_by_podman(), "the file")
}

const OTHER: &str = "other bytes\n";

/// What a container that reads the file gets.
fn read_by_podman() -> String {
    let scratch = Scratch::new();
    let podman = Podman::new(scratch.join("podman"), Some(Path::new(STORE)));
    let got = podman.runtime(&format!("run --rm {V1} cat /{FILE}"));
    if got.status.success() {
        let other = got.stdout.starts_with(OTHER.as_bytes());
        return if other { "the other file" } else { "the file" }.to_owned();
    }
    let said = String::from_utf8_lossy(&got.stderr).into_owned();
    if said.contains("Input/output error") {
        return "EIO".to_owned();
    }
    said
}

/// The file's bytes in the repository, found without `boundstore`.
fn object(host: &Host) -> PathBuf {
    let top = host.v1.diff_ids().into_iter().reduce(|chain, diff| {
        let [chain, diff] = [&chain, &diff].map(|digest| digest.trim_start_matches("sha256:"));
        sha256(format!("{chain}+{diff}").as_bytes())
    });
    let top = top.unwrap_or_default();
    let top = top.trim_start_matches("sha256:");
    let file = Path::new(STORE).join(format!("overlay/{top}/diff/{FILE}"));
    let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let is_it = |object: &PathBuf| {
        let length = fs::metadata(object).unwrap().len();
        length == bytes.len() as u64 && fs::read(object).unwrap() == bytes
    };
    objects()
        .find(is_it)
        .expect("no object has the file's bytes")
}
