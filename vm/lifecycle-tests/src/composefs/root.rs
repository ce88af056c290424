//! The root of a deployment, as the initramfs and a soft reboot mount it.

use std::{
    fs::{self, File},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use anyhow::{Context as _, Result};
use boundstore::sys::{self, Overlay};
use guest::sys::enable_verity;
use rustix::{
    io::Errno,
    mount::{MountFlags, mount_bind, mount_remount},
};

use super::STATE;

/// Turns fs-verity on for what an installation on another kernel has left
/// without, once.
pub fn seal(sysroot: &Path) -> Result<()> {
    let done = sysroot.join("sealed");
    if done.exists() {
        return Ok(());
    }
    let repo = sysroot.join("composefs");
    for folder in fs::read_dir(repo.join("objects"))? {
        for object in fs::read_dir(folder?.path())? {
            seal_one(&object?.path())?;
        }
    }
    seal_one(&repo.join("meta.json"))?;
    fs::write(done, "")?;
    Ok(())
}

fn seal_one(path: &Path) -> Result<()> {
    match enable_verity(File::open(path)?) {
        Err(error) if error.raw_os_error() != Some(Errno::EXIST.raw_os_error()) => {
            Err(error).with_context(|| format!("seal {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The tree of a deployment, detached. Where the kernel can, it checks it.
pub fn mount_tree(sysroot: &Path, id: &str) -> Result<OwnedFd> {
    let repo = sysroot.join("composefs");
    let image = File::open(repo.join("images").join(id)).context("open the image")?;
    let objects = File::open(repo.join("objects"))?;
    let mount = |require_verity| {
        // One that an overlay had cannot be attached for another.
        let metadata = sys::mount_erofs(&image, false)?;
        sys::mount_overlay(&Overlay {
            metadata: metadata.as_fd(),
            objects: objects.as_fd(),
            require_verity,
            source: format!("composefs:{id}"),
            context: None,
            run_dir: Path::new("/run/lifecycle-tests"),
        })
    };
    Ok(mount(true).or_else(|_| mount(false))?)
}

/// Mounts the root of a deployment at `target`, with its state, and the sysroot
/// in it, read-only.
pub fn mount_root(sysroot: &Path, id: &str, target: &Path) -> Result<()> {
    fs::create_dir_all(target)?;
    fs::create_dir_all("/run/lifecycle-tests")?;
    sys::attach(&mount_tree(sysroot, id)?, target)?;
    let state = sysroot.join(STATE).join(id);
    for folder in ["etc", "var"] {
        let at = target.join(folder);
        mount_bind(state.join(folder), &at).with_context(|| format!("mount /{folder}"))?;
        // The sysroot of a running system is read-only.
        mount_remount(&at, MountFlags::BIND, c"")?;
    }
    let inner = target.join("sysroot");
    mount_bind(sysroot, &inner).context("mount /sysroot")?;
    let read_only = MountFlags::BIND | MountFlags::RDONLY;
    mount_remount(&inner, read_only, c"").context("make /sysroot read-only")
}
