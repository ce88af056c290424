//! A mount namespace of our own, to write where the host mounts read-only.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{StatVfsMountFlags, statvfs},
    io::Errno,
    mount::{MountFlags, MountPropagationFlags, mount_change, mount_remount},
    thread::{UnshareFlags, unshare_unsafe},
};

use super::{failpoint::failpoint, is_root, mount_table};
use crate::error::{Doing, PathError};

/// Lets this process write below `path` where the mount that it is on, or will
/// be made on, is read-only; says whether that was needed. bootc hosts mount
/// `/sysroot` so.
///
/// The process leaves its mount namespace for a copy and makes the mount
/// writable there: nothing changes for others. A filesystem that is read-only
/// itself stays so. Does nothing for other users than root.
///
/// Only the calling thread moves: call it before there are others.
///
/// # Errors
/// Whatever `unshare(2)` and `mount(2)` say; [`io::ErrorKind::ReadOnlyFilesystem`]
/// where the filesystem itself is read-only.
pub fn make_writable(path: &Path) -> Result<bool, PathError> {
    let Some(path) = nearest(path) else {
        return Ok(false);
    };
    let flags = mount_flags(&path)?;
    if !flags.contains(StatVfsMountFlags::RDONLY) || !is_root() {
        return Ok(false);
    }
    let table = mount_table()?;
    let targets = table.iter().map(|mount| &mount.target);
    let below = targets.filter(|target| path.starts_with(target));
    let Some(target) = below.max_by_key(|target| target.components().count()) else {
        return Ok(false);
    };
    #[allow(unsafe_code)]
    // SAFETY: file descriptors stay shared with the process's other threads,
    // of which there are none yet; only mounts are unshared.
    let unshared = unsafe { unshare_unsafe(UnshareFlags::NEWNS) };
    unshared.doing("leave the mount namespace of", "/proc/self/ns/mnt")?;
    // What we mount does not come to the host; what it unmounts goes here too.
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    match mount_change("/", slave) {
        // In a chroot; a remount goes to nobody else in any case.
        Err(Errno::INVAL) => {}
        changed => changed.doing("keep the mounts apart below", "/")?,
    }
    let kept = kept_flags(flags) | MountFlags::BIND;
    failpoint!("remount").doing("make writable", target)?;
    mount_remount(target, kept, c"").doing("make writable", target)?;
    if mount_flags(&path)?.contains(StatVfsMountFlags::RDONLY) {
        return Err(PathError {
            verb: "make writable",
            path: target.clone(),
            source: io::ErrorKind::ReadOnlyFilesystem.into(),
        });
    }
    Ok(true)
}

/// `path`, or of what it is to be made in what is there.
fn nearest(path: &Path) -> Option<PathBuf> {
    path.ancestors()
        .find_map(|ancestor| ancestor.canonicalize().ok())
}

fn mount_flags(path: &Path) -> Result<StatVfsMountFlags, PathError> {
    let stat = statvfs(path).doing("ask the mount options of", path)?;
    Ok(stat.f_flag)
}

/// A remount sets all options of a mount: those it had, but for one.
fn kept_flags(flags: StatVfsMountFlags) -> MountFlags {
    let known = [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    let held = known.iter().filter(|(flag, _)| flags.contains(*flag));
    held.fold(MountFlags::empty(), |kept, (_, flag)| kept | *flag)
}
