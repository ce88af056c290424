//! What PID 1 does first, in every guest.

use std::{
    fs::{self, DirEntry, File},
    io,
};

use anyhow::{Context as _, Result};
use rustix::{
    mount::{MountFlags, mount},
    system::finit_module,
};

/// The kernel's own filesystems.
pub const KERNELS: [(&str, &str); 3] = [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")];

/// Mounts filesystems that need no device, each at its place.
pub fn mount_all(filesystems: &[(&str, &str)]) -> Result<()> {
    for (filesystem, target) in filesystems {
        mount(*filesystem, *target, *filesystem, MountFlags::empty(), c"")
            .with_context(|| format!("mount {target}"))?;
    }
    Ok(())
}

/// Loads the modules that `vm` has put in `/modules`, in their order.
pub fn load_modules() -> Result<()> {
    let modules: io::Result<Vec<DirEntry>> =
        fs::read_dir("/modules").context("read /modules")?.collect();
    let mut modules = modules?;
    modules.sort_by_key(DirEntry::file_name);
    for module in modules {
        let file = File::open(module.path())?;
        if let Err(errno) = finit_module(&file, c"", 0) {
            // What needs it will say what comes of it.
            eprintln!("load {}: {errno}", module.path().display());
        }
    }
    Ok(())
}
