//! The disks of the podman guest: a root filesystem with systemd and podman,
//! made once, and what is to be tested, made anew each time.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::{
    CheckName, apt, cache,
    command::output,
    disks::Attached,
    project,
    runner::{self, Runner},
};

/// Debian suites that have podman 5.8 or newer: the first that can be had.
const SUITES: &[&str] = &["forky", "sid"];
/// What the tests call, and what brings it up.
const PACKAGES: &str = "systemd-sysv,mount,podman,crun,conmon,skopeo,docker-registry";
/// No manuals, no translations: nobody reads them there.
const EXCLUDED: &[&str] = &["man", "doc", "info", "locale"];
/// The root filesystem's size; most of it is a hole.
const ROOT_MEBIBYTES: u64 = 6 * 1024;

/// `root` and `input`: see `podman-tests/src/stage.rs`.
pub(crate) fn disks(folder: &Path, checks: &[CheckName]) -> Result<Vec<Attached>> {
    let root = Attached::snapshot("root", root()?);
    let input = input(folder, checks).context("make the input disk")?;
    Ok(vec![root, Attached::snapshot("input", input)])
}

/// The root filesystem, kept under the hash of all that makes it.
fn root() -> Result<PathBuf> {
    let recipe = format!("{SUITES:?} {PACKAGES} {EXCLUDED:?} {ROOT_MEBIBYTES} 1");
    let hash = hex::encode(Sha256::digest(recipe));
    let cached = cache().join("rootfs").join(&hash[..16]);
    let image = cached.join("root.ext4");
    if image.exists() {
        return Ok(image);
    }
    let parent = cache().join("rootfs");
    fs::create_dir_all(&parent)?;
    let work = tempfile::Builder::new()
        .prefix("work.")
        .tempdir_in(&parent)?;
    let tree = work.path().join("tree");
    let first = debootstrap(SUITES[0], &tree);
    if let Err(error) = first {
        eprintln!("{}: {error:#}", SUITES[0]);
        fs::remove_dir_all(&tree).ok();
        debootstrap(SUITES[1], &tree)?;
    }
    // Without an ID systemd takes every boot of it for the first one.
    fs::write(tree.join("etc/machine-id"), "b0".repeat(16) + "\n")?;
    fs::create_dir_all(tree.join("sysroot"))?;
    let made = work.path().join("made");
    fs::create_dir(&made)?;
    mkfs(&made.join("root.ext4"), ROOT_MEBIBYTES, &tree)?;
    // Another process may have been faster.
    if let Err(error) = fs::rename(&made, &cached) {
        ensure!(image.exists(), "keep {}: {error}", image.display());
    }
    Ok(image)
}

fn debootstrap(suite: &str, tree: &Path) -> Result<()> {
    eprintln!("podman: a root filesystem of {suite}, with mmdebstrap");
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

/// ```text
/// /podman-tests   the runner      /boundstore     as cargo builds it
/// /app            OCI layout      /storage.conf   as `make install` installs it
/// /checks         what to run, one a line
/// ```
fn input(folder: &Path, checks: &[CheckName]) -> Result<PathBuf> {
    let tree = folder.join("input");
    fs::create_dir(&tree)?;
    let fixtures = output(&mut Command::new(project().join("scripts/fixtures")))?;
    let app = Path::new(fixtures.trim_end()).join("app-small");
    output(Command::new("cp").arg("-a").arg(app).arg(tree.join("app")))?;
    fs::copy(boundstore()?, tree.join("boundstore"))?;
    fs::copy(Runner::path("podman-tests"), tree.join("podman-tests"))?;
    fs::copy(
        project().join("dist/storage.conf"),
        tree.join("storage.conf"),
    )?;
    let ids: Vec<&str> = checks.iter().map(|check| check.id.as_str()).collect();
    fs::write(tree.join("checks"), ids.join("\n"))?;
    let image = folder.join("input.ext4");
    let used = output(Command::new("du").args(["-sm"]).arg(&tree))?;
    let used: u64 = used.split_whitespace().next().unwrap_or_default().parse()?;
    mkfs(&image, used * 2 + 64, &tree)?;
    fs::remove_dir_all(&tree)?;
    Ok(image)
}

/// The program as users have it, linked dynamically.
fn boundstore() -> Result<PathBuf> {
    let mut cargo = Command::new(runner::cargo());
    cargo
        .current_dir(project())
        .args(["build", "--quiet", "--bin", "boundstore"]);
    output(&mut cargo)?;
    Ok(project().join("target/debug/boundstore"))
}

/// Small filesystems get 1 KiB blocks unless told otherwise, on which fs-verity
/// with 4 KiB blocks does not work.
fn mkfs(image: &Path, mebibytes: u64, tree: &Path) -> Result<()> {
    let file = fs::File::create(image).with_context(|| format!("create {}", image.display()))?;
    file.set_len(mebibytes << 20).context("make a disk image")?;
    let mut command = Command::new("mkfs.ext4");
    command.args(["-q", "-b", "4096", "-O", "verity", "-d"]);
    output(command.arg(tree).arg(image)).map(drop)
}
