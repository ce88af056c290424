//! Stores made by podman's own code, which ours are held against, and the
//! comparison with them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{describe, image::Image, output, podman::Podman, project, text};

/// A containers-storage directory with `images`, each under its name, filled
/// by skopeo; fit to be an additional image store for podman's vfs driver too.
pub fn reference(home: PathBuf, images: &[(&str, &Image)]) -> PathBuf {
    let podman = Podman::new(home, None);
    for (name, image) in images {
        let to = format!("containers-storage:{name}");
        text(
            podman
                .tool("skopeo")
                .args(["copy", "--quiet", "--preserve-digests"])
                .args([image.source(), to]),
        );
    }
    let root = podman.root();
    for (part, lock) in [("vfs-images", "images.lock"), ("vfs-layers", "layers.lock")] {
        fs::create_dir(root.join(part)).unwrap();
        fs::write(root.join(part).join(lock), "").unwrap();
    }
    root
}

/// The reference store as squashed trees, made by cp(1): the layout that our
/// stores have. Returns `to`.
pub fn chain(reference: &Path, to: PathBuf) -> PathBuf {
    text(
        Command::new("python3")
            .arg(project().join("tests/oracle/chain_store.py"))
            .args([reference, &to]),
    );
    to
}

/// Shows `from` read-only at `at`.
pub fn bind_read_only(from: &Path, at: &Path) {
    fs::create_dir_all(at).unwrap();
    text(Command::new("mount").arg("--bind").args([from, at]));
    text(
        Command::new("mount")
            .args(["-o", "remount,bind,ro"])
            .arg(at),
    );
}

/// Every layer prefix of `store` must equal podman's view of it in
/// `reference`; `options` are those of `tests/oracle/prefixes.py`.
///
/// # Panics
/// With the differences.
#[track_caller]
pub fn assert_prefixes_equal(reference: &Path, store: &Path, options: &[&str]) {
    let mut command = Command::new("python3");
    command
        .arg(project().join("tests/oracle/prefixes.py"))
        .args(options)
        .args([reference, store]);
    let output = output(&mut command);
    assert!(output.status.success(), "{}", describe(&command, &output));
}
