//! Stores made by podman's own code, which ours are held against, and the
//! comparison with them.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

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
/// `reference`. `made_up` lists, for every length of the chain, the directories
/// that no layer describes; the last list stands for all longer ones.
///
/// # Panics
/// With the differences.
#[track_caller]
pub fn assert_prefixes_equal(reference: &Path, store: &Path, made_up: &Value) {
    let mut list = tempfile::NamedTempFile::new().unwrap();
    list.write_all(made_up.to_string().as_bytes()).unwrap();
    let mut command = Command::new("python3");
    command
        .arg(project().join("tests/oracle/prefixes.py"))
        .arg("--made-up")
        .arg(list.path());
    if loses_empty_xattrs() {
        command.arg("--empty-xattrs-lost");
    }
    let output = output(command.args([reference, store]));
    assert!(output.status.success(), "{}", describe(&command, &output));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(" 0 differences"), "nothing was compared");
}

/// Whether this machine's podman drops xattrs with an empty value: 4.3.1 does.
pub fn loses_empty_xattrs() -> bool {
    let version = text(Command::new("podman").arg("--version"));
    let major = version.rsplit(' ').next().and_then(|v| v.split('.').next());
    major.unwrap().parse::<u32>().unwrap() < 5
}
