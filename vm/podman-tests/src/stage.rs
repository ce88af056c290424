//! PID 1 of the initramfs: from modules to the systemd of the root filesystem.

use std::{
    fs,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};
use rustix::{
    mount::{MountFlags, UnmountFlags, mount, mount_move, unmount},
    process::{chdir, chroot},
    system::{RebootCommand, reboot},
};

use crate::{disk, early};

/// Where this program, `boundstore` and the images are in the guest.
pub const INPUT: &str = "/mnt";
/// The service that systemd starts; nothing else is asked of it.
const UNIT: &str = include_str!("podman-tests.service");
const ROOT: &str = "/root";

/// Does not come back, but where it fails: then the machine is turned off.
pub fn start() -> ExitCode {
    let Err(error) = switch_root();
    eprintln!("podman-tests: {error:#}");
    let _gone = reboot(RebootCommand::Restart);
    ExitCode::FAILURE
}

fn switch_root() -> Result<std::convert::Infallible> {
    early::mount_all(&early::KERNELS)?;
    early::load_modules()?;
    let (root, input) = (disk::find("root")?, disk::find("input")?);
    fs::create_dir_all(ROOT)?;
    mount(&root, ROOT, "ext4", MountFlags::empty(), c"").context("mount the root disk")?;
    let at = format!("{ROOT}{INPUT}");
    mount(&input, at, "ext4", MountFlags::RDONLY, c"").context("mount the input disk")?;
    // systemd takes a /run that is there already.
    let run = format!("{ROOT}/run");
    mount("tmpfs", &run, "tmpfs", MountFlags::empty(), c"mode=0755").context("mount /run")?;
    let units = format!("{run}/systemd/system");
    fs::create_dir_all(&units)?;
    fs::write(format!("{units}/podman-tests.service"), UNIT)?;

    for (_, target) in early::KERNELS {
        unmount(target, UnmountFlags::DETACH).with_context(|| format!("unmount {target}"))?;
    }
    chdir(ROOT)?;
    mount_move(".", "/").context("move the root")?;
    chroot(".").context("chroot")?;
    chdir("/")?;
    Err(Command::new("/sbin/init").exec()).context("start /sbin/init")
}
