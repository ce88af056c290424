//! What a sync refuses or puts off: the exit status tells which, and nothing
//! is left behind.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;
#[path = "common/layout.rs"]
mod layout;

use std::{fs, path::Path, process::Command};

use common::{Scratch, boundstore::Boundstore, describe, output, ready, text};
use layout::{LayerBlob, Layout, content, tar};

/// `localhost/app:1`, as `--image` takes it.
fn app(scratch: &Scratch) -> String {
    let mut layout = Layout::new(&scratch.join("layout"));
    let layer = LayerBlob::gzip(&tar(&[("etc/", b""), ("etc/name", &content(7, 3000))]));
    layout.image("1", &[layer]);
    layout.arg("localhost/app:1", "1")
}

/// A sync of `image` into a repository at `repo`, with fs-verity, that must
/// exit with `code`; what it says on stderr.
#[track_caller]
fn refused(repo: &Path, image: &str, code: i32) -> String {
    let mut sync = Command::new(env!("CARGO_BIN_EXE_boundstore"));
    sync.arg("--repo").arg(repo);
    sync.args(["sync", "--deployment", "d", "--image", image]);
    let found = output(&mut sync);
    assert_eq!(
        found.status.code(),
        Some(code),
        "{}",
        describe(&sync, &found)
    );
    String::from_utf8(found.stderr).unwrap()
}

#[test]
fn no_repository_is_made_where_fs_verity_is_missing() {
    if !ready(&["mount"]) {
        return;
    }
    let scratch = Scratch::new();
    let image = app(&scratch);
    let tmpfs = scratch.dir("tmpfs");
    text(
        Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(&tmpfs),
    );
    let said = refused(&tmpfs.join("repo"), &image, 5);
    assert!(said.contains("--allow-missing-verity"), "{said}");
    assert_eq!(fs::read_dir(&tmpfs).unwrap().count(), 0);
}

/// What is wrong there is not fs-verity, and the error must not say so.
#[test]
fn a_repository_that_cannot_be_made_says_why() {
    let scratch = Scratch::new();
    let image = app(&scratch);
    fs::write(scratch.join("file"), "").unwrap();
    let said = refused(&scratch.join("file/repo"), &image, 1);
    assert!(said.contains("Not a directory"), "{said}");
    assert!(!said.contains("verity"), "{said}");
}

#[test]
fn a_registry_that_does_not_answer_is_for_later() {
    if !ready(&["skopeo"]) {
        return;
    }
    let scratch = Scratch::new();
    let host = Boundstore::new(&scratch, "repo");
    // No one listens on the discard port.
    let images = ["localhost/app:1=docker://127.0.0.1:9/app:1".to_owned()];
    let (said, error) = host.exits(4, &host.sync_args("d", &images));
    assert_eq!(said, "");
    assert!(error.contains("localhost/app:1"), "{error}");
    assert!(error.contains("connection refused"), "{error}");
    // The same call is taken up when the image is there.
    host.sync("d", &[app(&scratch)]);
}

#[test]
fn a_repository_may_be_named_by_one_word() {
    let scratch = Scratch::new();
    let image = app(&scratch);
    let mut sync = Command::new(env!("CARGO_BIN_EXE_boundstore"));
    sync.current_dir(scratch.path());
    sync.args(["--allow-missing-verity", "--repo", "r"]);
    sync.args(["sync", "--deployment", "d", "--image", &image]);
    text(&mut sync);
    assert!(scratch.join("r/meta.json").is_file());
}
