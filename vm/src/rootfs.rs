//! Debian's root filesystem with systemd, podman and ostree, made once.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::{apt, cache, command::output};

/// Debian suites that have podman 5.8 or newer: the first that can be had.
const SUITES: &[&str] = &["forky", "sid"];
/// What the tests call, and what brings it up.
const PACKAGES: &str =
    "systemd-sysv,mount,dmsetup,podman,crun,conmon,skopeo,docker-registry,ostree,ostree-boot";
/// No manuals, no translations: nobody reads them there.
const EXCLUDED: &[&str] = &["man", "doc", "info", "locale"];
/// The size of its disk; most of it is a hole.
const ROOT_MEBIBYTES: u64 = 6 * 1024;

/// It, as files and as a disk.
#[derive(Debug)]
pub(crate) struct Rootfs {
    /// Its files. Nobody may change them.
    pub(crate) tree: PathBuf,
    /// An ext4 filesystem that holds them.
    pub(crate) image: PathBuf,
}

/// Makes it, unless it is there: it is kept under the hash of all that makes it.
pub(crate) fn rootfs() -> Result<Rootfs> {
    let recipe = format!("{SUITES:?} {PACKAGES} {EXCLUDED:?} {ROOT_MEBIBYTES} 2");
    let hash = hex::encode(Sha256::digest(recipe));
    let parent = cache().join("rootfs");
    let cached = parent.join(&hash[..16]);
    let rootfs = Rootfs {
        tree: cached.join("tree"),
        image: cached.join("root.ext4"),
    };
    if rootfs.image.exists() {
        return Ok(rootfs);
    }
    fs::create_dir_all(&parent)?;
    let work = tempfile::Builder::new()
        .prefix("work.")
        .tempdir_in(&parent)?;
    let made = work.path().join("made");
    fs::create_dir(&made)?;
    let tree = made.join("tree");
    let first = debootstrap(SUITES[0], &tree);
    if let Err(error) = first {
        eprintln!("{}: {error:#}", SUITES[0]);
        fs::remove_dir_all(&tree).ok();
        debootstrap(SUITES[1], &tree)?;
    }
    // Without an ID systemd takes every boot of it for the first one.
    fs::write(tree.join("etc/machine-id"), "b0".repeat(16) + "\n")?;
    fs::create_dir_all(tree.join("sysroot"))?;
    // ostree takes no devices.
    for folder in ["dev", "run"] {
        fs::remove_dir_all(tree.join(folder))?;
        fs::create_dir(tree.join(folder))?;
    }
    mkfs(&made.join("root.ext4"), ROOT_MEBIBYTES, &tree)?;
    // Another process may have been faster.
    if let Err(error) = fs::rename(&made, &cached) {
        let image = rootfs.image.display();
        ensure!(rootfs.image.exists(), "keep {image}: {error}");
    }
    Ok(rootfs)
}

fn debootstrap(suite: &str, tree: &Path) -> Result<()> {
    eprintln!("a root filesystem of {suite}, with mmdebstrap");
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--mode=root", "--variant=essential"]);
    command.arg(format!("--include={PACKAGES}"));
    for option in apt::acquire_options()? {
        command.arg(format!("--aptopt={option}"));
    }
    for part in EXCLUDED {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{part}/*"));
    }
    let source = format!("deb {}{} {suite} main", apt::keyring(), apt::mirror()?);
    output(command.arg(suite).arg(tree).arg(source)).map(drop)
}

/// What the files below a folder take.
pub(crate) fn mebibytes(tree: &Path) -> Result<u64> {
    let used = output(Command::new("du").arg("-sm").arg(tree))?;
    let used = used.split_whitespace().next().unwrap_or_default();
    Ok(used.parse()?)
}

/// An ext4 filesystem that holds a tree of files. Small ones get 1 KiB blocks
/// unless told otherwise, on which fs-verity with 4 KiB blocks does not work.
pub(crate) fn mkfs(image: &Path, mebibytes: u64, tree: &Path) -> Result<()> {
    let file = fs::File::create(image).with_context(|| format!("create {}", image.display()))?;
    file.set_len(mebibytes << 20).context("make a disk image")?;
    let mut command = Command::new("mkfs.ext4");
    command.args(["-q", "-b", "4096", "-O", "verity", "-d"]);
    output(command.arg(tree).arg(image)).map(drop)
}
