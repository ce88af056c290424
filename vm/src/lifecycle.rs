//! The disks of the guest that has deployments: host images of three versions,
//! deployed as its backend does it, and what tests them.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    CheckName,
    command::output,
    disks::Attached,
    ostree,
    podman::boundstore,
    project,
    rootfs::{mkfs, rootfs},
    runner::Runner,
};

/// The package of the runner.
pub(crate) const PACKAGE: &str = "lifecycle-tests";
/// Of the root disk; most of it is a hole.
const ROOT_MEBIBYTES: u64 = 6 * 1024;

/// One disk: see `lifecycle-tests/src/stage.rs`.
pub(crate) fn disks(folder: &Path, checks: &[CheckName]) -> Result<Vec<Attached>> {
    let work = tempfile::Builder::new()
        .prefix("host.")
        .tempdir_in(folder)?;
    let images = HostImages::make(work.path()).context("make the host images")?;
    let sysroot = work.path().join("sysroot");
    fs::create_dir(&sysroot)?;
    let options = checks.first().map(|check| check.kernel_options.as_str());
    let var = match options {
        Some("lifecycle=ostree") => ostree::deploy(&images, &sysroot)?,
        Some("lifecycle=composefs") => composefs(&images, &sysroot)?,
        other => bail!("there is no disk for {other:?}"),
    };
    input(&sysroot.join(var), checks).context("put in what tests it")?;
    let image = folder.join("root.ext4");
    mkfs(&image, ROOT_MEBIBYTES, &sysroot)?;
    let root = Attached {
        serial: "root",
        image,
        snapshot: false,
        boot_loader: true,
        log: None,
    };
    Ok(vec![root])
}

/// As bootc's composefs backend installs; where its `/var` is.
fn composefs(images: &HostImages, sysroot: &Path) -> Result<&'static str> {
    let mut runner = Command::new(Runner::path(PACKAGE));
    runner.arg("--install").arg(sysroot).arg(&images.base);
    output(runner.args(&images.own)).context("install as bootc does")?;
    Ok("state/os/default/var")
}

/// Host images as trees of files.
#[derive(Debug)]
pub(crate) struct HostImages {
    /// What all versions have.
    pub(crate) base: PathBuf,
    /// What each has over that, from version 1 on.
    pub(crate) own: Vec<PathBuf>,
}

impl HostImages {
    fn make(folder: &Path) -> Result<Self> {
        let base = folder.join("base");
        output(Command::new("cp").arg("-a").arg(rootfs()?.tree).arg(&base))?;
        read_only(&base)?;
        install(&base)?;
        let mut own = Vec::new();
        for version in ["1", "2", "3"] {
            let tree = folder.join(version);
            let mut runner = Command::new(Runner::path(PACKAGE));
            output(runner.args(["--host-image", version]).arg(&tree))?;
            own.push(tree);
        }
        Ok(Self { base, own })
    }
}

/// From Debian's layout to one whose `/` need not be written to, as bootc and
/// ostree want it.
fn read_only(tree: &Path) -> Result<()> {
    for folder in ["var", "boot"] {
        fs::remove_dir_all(tree.join(folder))?;
        fs::create_dir(tree.join(folder))?;
    }
    let links = [
        ("root", "var/roothome"),
        ("home", "var/home"),
        ("srv", "var/srv"),
        ("opt", "var/opt"),
        ("mnt", "var/mnt"),
        ("media", "run/media"),
        ("ostree", "sysroot/ostree"),
    ];
    for (name, to) in links {
        fs::remove_dir_all(tree.join(name)).ok();
        symlink(to, tree.join(name)).with_context(|| format!("link /{name}"))?;
    }
    let tmpfiles = "d /var/roothome 0700 root root -\nd /var/log 0755 root root -\n";
    fs::write(tree.join("usr/lib/tmpfiles.d/host.conf"), tmpfiles)?;
    // The tests start the registry, when they want it.
    fs::remove_file(
        tree.join("etc/systemd/system/multi-user.target.wants/docker-registry.service"),
    )
    .context("disable docker-registry")?;
    // The kernel that boots is another: that of the matrix.
    let kernel = tree.join("usr/lib/modules/0-matrix");
    fs::create_dir_all(&kernel)?;
    fs::write(kernel.join("vmlinuz"), "the kernel of the matrix\n")?;
    fs::write(kernel.join("initramfs.img"), "the runner\n")?;
    Ok(())
}

/// boundstore as a Containerfile would install it, and what lets podman work.
fn install(tree: &Path) -> Result<()> {
    let mut make = Command::new("make");
    make.args(["--silent", "install", "PREFIX=/usr", "CARGO=true"])
        .arg(format!("DESTDIR={}", tree.display()))
        .arg(format!("BINARY={}", boundstore()?.display()))
        .current_dir(project());
    output(&mut make)?;
    let containers = tree.join("etc/containers");
    fs::create_dir_all(&containers)?;
    let files = [
        (
            "policy.json",
            r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
        ),
        (
            "registries.conf",
            "[[registry]]\nlocation = \"127.0.0.1:5000\"\ninsecure = true\n",
        ),
        (
            "containers.conf",
            "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n",
        ),
    ];
    for (name, text) in files {
        fs::write(containers.join(name), text)?;
    }
    Ok(())
}

/// In `/var/lib/lifecycle-tests/input`:
/// ```text
/// lifecycle-tests   the runner    app     OCI layout
/// checks            what to run, one a line
/// ```
fn input(var: &Path, checks: &[CheckName]) -> Result<()> {
    let input = var.join("lib").join(PACKAGE).join("input");
    fs::create_dir_all(&input)?;
    let fixtures = output(&mut Command::new(project().join("scripts/fixtures")))?;
    let app = Path::new(fixtures.trim_end()).join("app-small");
    output(Command::new("cp").arg("-a").arg(app).arg(input.join("app")))?;
    fs::copy(Runner::path(PACKAGE), input.join(PACKAGE))?;
    let ids: Vec<&str> = checks.iter().map(|check| check.id.as_str()).collect();
    fs::write(input.join("checks"), ids.join("\n"))?;
    Ok(())
}
