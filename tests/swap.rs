//! Another set in place of one that is in use: nobody ever sees a gap.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;

use std::{
    fs,
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use common::{
    Scratch, battery, boundstore::Boundstore, fixtures, image::Image, mounts_below, podman::Podman,
    ready,
};
use serde_json::Value;

const SWAPS: usize = 50;

/// Reads all files of the image over and over, then once more to its end.
const READS: &str = "cd /app; check() { sha256sum --check --quiet SHA256SUMS; }; check || exit 1; \
    (while check; do sleep 0.1; done; echo LOST) & echo ready; cat >/dev/null; kill $!; \
    check && wc -l <SHA256SUMS";

/// Linux 6.5 has `MOVE_MOUNT_BENEATH`.
fn goes_beneath() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().unwrap().parse::<u32>().unwrap();
    (next(), next()) >= (6, 5)
}

#[test]
fn no_reader_sees_a_gap() {
    if !ready(battery::TOOLS) {
        return;
    }
    let scratch = Scratch::new();
    let boundstore = Boundstore::new(&scratch, "repo");
    let both = "localhost/both:1";
    // The sets differ in a name only: an image that goes away while podman
    // lists it fails that listing, in podman's own store too.
    let source = Image::read(&fixtures().join("app"), "v1").source();
    let images = [both, "localhost/also:1"].map(|name| format!("{name}={source}"));
    boundstore.sync("one", &images[..1]);
    boundstore.sync("two", &images);
    let store = scratch.join("store");
    boundstore.mount("one", &store);
    let podman = Podman::new(scratch.join("podman"), Some(&store));
    let mut container = podman.start("", both, READS);

    let done = AtomicBool::new(false);
    let reads = AtomicUsize::new(0);
    let stat = || {
        while !done.load(Ordering::Relaxed) {
            for file in ["overlay-images/images.json", "overlay-layers/layers.lock"] {
                let bytes = fs::read(store.join(file)).unwrap();
                assert!(!bytes.is_empty(), "{file}");
            }
            reads.fetch_add(1, Ordering::Relaxed);
        }
    };
    let list = || {
        let mut listed = 0;
        while !done.load(Ordering::Relaxed) {
            let images = podman.images();
            assert!(images.contains(&(both.to_owned(), true)), "{images:?}");
            listed += 1;
        }
        listed
    };
    thread::scope(|scope| {
        let (stat, list) = (scope.spawn(stat), scope.spawn(list));
        for turn in 0..SWAPS {
            let deployment = ["two", "one"][turn % 2];
            boundstore.mount(deployment, &store);
            let mounted = mounts_below(&store).len();
            let expected = if goes_beneath() { 1 } else { turn + 2 };
            assert_eq!(mounted, expected, "after swap {turn}");
            if stat.is_finished() || list.is_finished() {
                break;
            }
        }
        done.store(true, Ordering::Relaxed);
        stat.join().unwrap();
        let listed = list.join().unwrap();
        println!(
            "{} reads, {listed} times podman images",
            reads.load(Ordering::Relaxed)
        );
        assert!(listed > 0);
    });
    let (succeeded, said) = container.end();
    assert!(succeeded, "{said}");
    assert!(!said.contains("LOST"), "{said}");
    assert!(said.trim().parse::<u32>().unwrap() > 200, "{said}");
    boundstore.umount(&store);
    assert!(mounts_below(&store).is_empty());
}

/// The empty store goes as a set does.
#[test]
fn a_set_replaces_the_empty_store() {
    if !ready(&["mount"]) {
        return;
    }
    let scratch = Scratch::new();
    let boundstore = Boundstore::new(&scratch, "repo");
    let store = scratch.dir("store");
    boundstore.exits(1, &format!("mount --deployment none {}", store.display()));
    assert_eq!(mounts_below(&store).len(), 1);
    for file in ["new", "overlay-images/images.lock"] {
        let written = fs::write(store.join(file), "x").unwrap_err();
        assert_eq!(written.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }
    let root = scratch.dir("root");
    boundstore.ok(&format!("sync --deployment d --root {}", root.display()));
    boundstore.mount("d", &store);
    assert_eq!(
        mounts_below(&store).len(),
        if goes_beneath() { 1 } else { 2 }
    );
    let images = fs::read(store.join("overlay-images/images.json")).unwrap();
    assert_eq!(images, b"[]");
    boundstore.umount(&store);
    assert!(mounts_below(&store).is_empty());
}

#[test]
fn what_a_mount_above_hides_is_not_taken_for_shown() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    let boundstore = Boundstore::new(&scratch, "repo");
    let source = Image::read(&fixtures().join("app"), "v1").source();
    boundstore.sync("one", &[format!("localhost/app:1={source}")]);
    let usr = scratch.dir("usr");
    let store = usr.join("store");
    boundstore.mount("one", &store);
    // As `bootc usr-overlay` does.
    let mut cover = Command::new("mount");
    cover.args(["-t", "tmpfs", "cover"]).arg(&usr);
    assert!(cover.status().unwrap().success());
    fs::create_dir(&store).unwrap();
    let mount = format!("--json mount --deployment one {}", store.display());
    let mounted: Value = serde_json::from_str(&boundstore.ok(&mount)).unwrap();
    assert_eq!(mounted["already"], false);
    assert!(store.join("overlay-images/images.json").is_file());
    boundstore.umount(&store);
    // The hidden one is none that this path leads to.
    boundstore.exits(1, &format!("umount {}", store.display()));
    assert_eq!(mounts_below(&usr).len(), 2);
}
