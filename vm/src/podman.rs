//! The disks of the podman guest: a root filesystem with systemd and podman, and
//! what is to be tested, made anew each time.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    CheckName,
    command::output,
    disks::Attached,
    project,
    rootfs::{mebibytes, mkfs, rootfs},
    runner::{self, Runner},
};

/// `root` and `input`: see `podman-tests/src/stage.rs`; `flaky`: steps/device.rs.
pub(crate) fn disks(folder: &Path, checks: &[CheckName]) -> Result<Vec<Attached>> {
    let root = Attached::snapshot("root", rootfs()?.image);
    let input = input(folder, checks).context("make the input disk")?;
    let flaky = folder.join("flaky.ext4");
    mkfs(&flaky, 256, tempfile::tempdir_in(folder)?.path())?;
    Ok(vec![
        root,
        Attached::snapshot("input", input),
        Attached::snapshot("flaky", flaky),
    ])
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
    mkfs(&image, mebibytes(&tree)? * 2 + 64, &tree)?;
    fs::remove_dir_all(&tree)?;
    Ok(image)
}

/// The program as users have it, linked dynamically: the file that `BOUNDSTORE`
/// names, or else built.
pub(crate) fn boundstore() -> Result<PathBuf> {
    if let Some(built) = std::env::var_os("BOUNDSTORE") {
        return Ok(project().join(built));
    }
    let mut cargo = Command::new(runner::cargo());
    cargo
        .current_dir(project())
        .args(["build", "--quiet", "--bin", "boundstore"]);
    output(&mut cargo)?;
    Ok(project().join("target/debug/boundstore"))
}
