//! Folders that are exchanged while they are used (renameat2, RENAME_EXCHANGE):
//! nothing outside a root is read, nothing wrong comes out of a spool.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;
#[path = "common/layout.rs"]
mod layout;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use common::{
    Scratch, boundstore::Boundstore, describe, image::Image, output, ready, registry::Registry,
};
use layout::{LayerBlob, Layout, content, tar};
use rustix::fs::{CWD, RenameFlags, renameat_with};

const SHORT: usize = 40;
const LONG: usize = 800;

/// Exchanges each pair of paths, over and over, while `work` is done.
fn exchanging<R>(pairs: &[(PathBuf, PathBuf)], work: impl FnOnce() -> R) -> R {
    let (ended, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let done = thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                for (one, other) in pairs {
                    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        ended.store(true, Ordering::Relaxed);
        done
    });
    println!("{count:?} exchanges");
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn unit(folder: &Path, file: &str, image: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(file), format!("[Image]\nImage={image}\n")).unwrap();
}

/// Links out of the root take the place of its folders and files.
fn a_root(rounds: usize) {
    let scratch = Scratch::new();
    let (root, outside) = (scratch.join("root"), scratch.join("outside"));
    for (top, image) in [
        (&root, "localhost/good:1"),
        (&outside, "localhost/hidden-marker:1"),
    ] {
        let units = top.join("usr/share/containers/systemd");
        unit(&units, "a.image", image);
        let bound = top.join("usr/lib/bootc/bound-images.d");
        fs::create_dir_all(&bound).unwrap();
        // Those outside lead there by whatever root they are seen from.
        let target = match top == &root {
            true => PathBuf::from("/usr/share/containers/systemd/a.image"),
            false => units.join("a.image"),
        };
        symlink(target, bound.join("a.image")).unwrap();
    }
    let mut pairs = Vec::new();
    // Neither lies in the other: through a link this one here would rename
    // what is outside.
    let up = "../".repeat(20);
    for (path, up) in [("usr/lib/bootc", ""), ("usr/share", up.as_str())] {
        let link = root.join(path.replace('/', "-"));
        let target = outside.join(path);
        symlink(format!("{up}{}", target.display()), &link).unwrap();
        pairs.push((root.join(path), link));
    }
    let mut layout = Layout::new(&scratch.join("layout"));
    let layer = |seed| LayerBlob::plain(&tar(&[("file", &content(seed, 100))]));
    layout.image("localhost/good:1", &[layer(1)]);
    layout.image("localhost/hidden-marker:1", &[layer(2)]);
    let host = Boundstore::new(&scratch, "repo");
    let sync = format!(
        "{} --root {} --from oci:{} --dry-run",
        host.sync_args("d", &[]),
        root.display(),
        layout.path.display()
    );
    let lint = format!("lint --root {}", root.display());
    let mut whole = 0;
    exchanging(&pairs, || {
        for _ in 0..rounds {
            for args in [&sync, &lint] {
                let mut command = host.command(args);
                let output = output(&mut command);
                let said = describe(&command, &output);
                assert!(!said.contains("hidden-marker"), "{said}");
                assert!(!said.contains("panicked"), "{said}");
                whole += usize::from(said.contains("localhost/good:1"));
            }
        }
    });
    println!("{whole} of {} calls saw the root's own image", 2 * rounds);
    assert!(whole > 0, "no call ever saw the root as it is");
}

/// Another folder, with wrong blobs of the right names, takes the spool's place.
fn a_spool(rounds: usize) {
    if !ready(&["skopeo", "docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut layout = Layout::new(&scratch.join("layout"));
    let layer = |seed| LayerBlob::gzip(&tar(&[("file", &content(seed, 60_000))]));
    layout.image("app", &[layer(1), layer(2)]);
    let app = Image::read(&layout.path, "app");
    let registry = Registry::start(&scratch);
    registry.put(&app, "app:1");
    let other = scratch.dir("other");
    let precious = other.join("precious");
    fs::write(&precious, "precious").unwrap();
    let link = scratch.join("link");
    symlink(&other, &link).unwrap();
    let spool = scratch.dir("spool");
    let name = format!("{}/app:1", registry.address);
    let good = Boundstore::new(&scratch, "good");
    let expected = good.sync(
        "d",
        &[format!("localhost/app:1=docker://{name} --no-tls-verify")],
    );
    let mut synced = 0;
    let pairs = [(spool.clone(), scratch.dir("third")), (spool.clone(), link)];
    exchanging(&pairs, || {
        for round in 0..rounds {
            for blob in app.blobs() {
                let path = other.join(blob.replace(':', "-"));
                let length = fs::metadata(layout.blob_path(&blob)).unwrap().len();
                fs::write(path, vec![b'x'; usize::try_from(length).unwrap()]).unwrap();
            }
            let host = Boundstore::new(&scratch, &format!("repo{round}"));
            let args = format!(
                "--json sync --deployment d --image localhost/app:1=docker://{name} --policy {} \
                 --no-tls-verify --retry-for 0 --spool {}",
                scratch.join("good-host/policy.json").display(),
                spool.display()
            );
            let mut command = host.command(&args);
            let output = output(&mut command);
            let said = describe(&command, &output);
            assert!(!said.contains("panicked"), "{said}");
            if output.status.success() {
                let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
                assert_eq!(document["set_image"], expected["set_image"]);
                host.ok("verify --deep");
                synced += 1;
            } else {
                assert!(matches!(output.status.code(), Some(1 | 4)), "{said}");
            }
            assert_eq!(fs::read(&precious).unwrap(), b"precious");
            fs::remove_dir_all(host.repo()).ok();
        }
    });
    println!("{synced} of {rounds} syncs came to their end");
    assert!(synced > 0, "no sync came to its end");
}

#[test]
fn a_root_whose_folders_are_exchanged_is_not_left() {
    a_root(SHORT);
}

#[test]
fn a_spool_that_is_exchanged_gives_nothing_wrong() {
    a_spool(SHORT);
}

#[test]
#[ignore = "long: 800 rounds"]
fn a_root_whose_folders_are_exchanged_long() {
    a_root(LONG);
}

#[test]
#[ignore = "long: 800 rounds"]
fn a_spool_that_is_exchanged_long() {
    a_spool(LONG);
}
