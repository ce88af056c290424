//! What bootc's upgrade of a composefs repository does to our sets. Not beside the
//! seam's other tests: those have no composefs-oci.

#![allow(clippy::unwrap_used)]

#[path = "../../../tests/common/layout.rs"]
mod layout;

use std::{fs::File, path::Path, process::Command, sync::Arc};

use composefs::{fsverity::Sha512HashValue, repository::Repository};
use layout::{LayerBlob, Layout, content, tar};

/// Runs a program, which must succeed.
#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
}

#[test]
fn bootcs_upgrade_passes_over_our_sets() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    run(Command::new(env!("CARGO")).current_dir(&project).args([
        "build",
        "--quiet",
        "--bin",
        "boundstore",
    ]));
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let repo = dir.path().join("repo");
    let mut layout = Layout::new(&dir.path().join("layout"));
    let base = tar(&[("etc/name", &content(7, 3000)), ("hello", b"tiny")]);
    let top = tar(&[("etc/.wh.name", b""), ("data", &content(2, 5000))]);
    layout.image("no-usr", &[LayerBlob::gzip(&base), LayerBlob::plain(&top)]);
    layout.image("no-layers", &[]);
    run(Command::new(project.join("target/debug/boundstore"))
        .args(["--allow-missing-verity", "--repo"])
        .arg(&repo)
        .args(["sync", "--deployment", "d"])
        .args(["--image", &layout.arg("localhost/static:1", "no-usr")])
        .args(["--image", &layout.arg("localhost/none:1", "no-layers")]));

    let open = || {
        let root = File::open("/").unwrap();
        Repository::<Sha512HashValue>::open_path(root, &repo).unwrap()
    };
    composefs_oci::upgrade_repo(&Arc::new(open())).unwrap();
    assert_eq!(open().gc(&[]).unwrap().objects_removed, 0);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let result = runtime.block_on(open().fsck()).unwrap();
    assert!(result.is_ok(), "{result}");
}
