//! Boots Debian's kernels in virtual machines and runs `kernel-tests` there.
//!
//! ```text
//! KERNELS    kernels.rs     which: adding one is one line
//!    | fetch    apt.rs      by metapackage, with an apt of its own; cached by version
//! Kernel
//!    | pack     modules.rs, cpio.rs, runner.rs    modules + the static runner as /init
//! initramfs
//!    | boot     qemu.rs, kvm.rs, disks.rs
//! Report     report.rs      what each check observed
//!    | named tests          tests/kernels.rs      `6.12::data_only::intact`
//!    | a table              matrix.rs             for docs/kernel-support.md
//! ```
//! Which checks there are is not known here: the runner says it (`--list`).

mod apt;
pub mod boot;
mod cpio;
mod disks;
mod kernels;
mod kvm;
pub mod matrix;
mod modules;
mod qemu;
mod report;
mod runner;

use std::{
    env,
    path::{Path, PathBuf},
};

pub use apt::Kernel;
pub use kernels::{KERNELS, KernelSource};
pub use report::{CheckReport, Report};
pub use runner::{CheckName, Runner};

/// The project's root.
pub fn project() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// What is downloaded and kept: `$BOUNDSTORE_CACHE/vm`, else `.cache/vm`.
pub fn cache() -> PathBuf {
    let cache = env::var_os("BOUNDSTORE_CACHE").map(PathBuf::from);
    cache.unwrap_or_else(|| project().join(".cache")).join("vm")
}

/// What the last run left: reports and consoles, by kernel.
pub fn results() -> PathBuf {
    project().join("target/kernels")
}

/// Forgets what earlier runs left.
pub fn forget_results() -> std::io::Result<()> {
    match std::fs::remove_dir_all(results()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => std::fs::create_dir_all(results()),
    }
}
