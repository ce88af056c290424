//! PID 1 of the initramfs: from modules to the systemd of a root filesystem.

use std::{
    convert::Infallible,
    fs,
    os::unix::{fs::symlink, process::CommandExt},
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};
use rustix::{
    mount::{MountFlags, UnmountFlags, mount, mount_move, unmount},
    process::{chdir, chroot},
    system::{RebootCommand, reboot},
};

use crate::{disk, early};

/// Does not come back, but where it fails: then the machine is turned off.
pub fn start(switch_root: impl FnOnce() -> Result<Infallible>) -> ExitCode {
    let Err(error) = switch_root();
    eprintln!("stage: {error:#}");
    let _gone = reboot(RebootCommand::Restart);
    ExitCode::FAILURE
}

/// Mounts the kernel's own filesystems, and loads the modules.
///
/// # Errors
/// What could not be mounted. Modules that do not load are told only.
pub fn begin() -> Result<()> {
    early::mount_all(&early::KERNELS)?;
    early::load_modules()
}

/// Mounts the disk with this serial number, at a folder that need not be there.
///
/// # Errors
/// There is no such disk, or it cannot be mounted.
pub fn mount_disk(serial: &str, target: &str, flags: MountFlags) -> Result<()> {
    let device = disk::find(serial)?;
    fs::create_dir_all(target).with_context(|| format!("create {target}"))?;
    mount(&device, target, "ext4", flags, c"").with_context(|| format!("mount {target}"))
}

/// Mounts an empty `/run` at a folder; systemd takes one that is there already.
/// `unit` is a service for it, which `target` wants.
///
/// # Errors
/// It cannot be mounted or written.
pub fn mount_run(at: &str, unit: (&str, &str), target: &str) -> Result<()> {
    mount("tmpfs", at, "tmpfs", MountFlags::empty(), c"mode=0755")
        .with_context(|| format!("mount {at}"))?;
    let units = Path::new(at).join("systemd/system");
    let wants = units.join(format!("{target}.wants"));
    fs::create_dir_all(&wants)?;
    fs::write(units.join(unit.0), unit.1)?;
    symlink(Path::new("..").join(unit.0), wants.join(unit.0))?;
    Ok(())
}

/// Makes a folder the root, and its systemd PID 1.
///
/// # Errors
/// Always, if it comes back.
pub fn switch_root(root: &str) -> Result<Infallible> {
    for (_, target) in early::KERNELS {
        unmount(target, UnmountFlags::DETACH).with_context(|| format!("unmount {target}"))?;
    }
    chdir(root)?;
    mount_move(".", "/").context("move the root")?;
    chroot(".").context("chroot")?;
    chdir("/")?;
    Err(Command::new("/sbin/init").exec()).context("start /sbin/init")
}
