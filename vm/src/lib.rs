//! Boots Debian's kernels in virtual machines and runs `kernel-tests`,
//! `podman-tests` and `lifecycle-tests` there.
//!
//! ```text
//! KERNELS    kernels.rs     which: adding one is one line
//!    | fetch    apt.rs      by metapackage, with an apt of its own; cached by version
//! Kernel
//!    | pack     modules.rs, cpio.rs, runner.rs    modules + the static runner as /init
//! initramfs
//!    | boot     guest.rs, qemu.rs, kvm.rs, disks.rs, podman.rs
//!    |          lifecycle.rs, ostree.rs: and again, as boot_loader.rs reads
//! Report     report.rs      what each check observed
//!    | named tests          suite.rs, tests/      `6.12::data_only::intact`
//!    | a table              matrix.rs             for docs/kernel-support.md
//! ```
//! Power cuts go another way: power/, tests/power.rs.
//!
//! Which checks there are is not known here: the runner says it (`--list`).

mod apt;
mod boot;
mod boot_loader;
mod command;
mod cpio;
mod disks;
mod guest;
mod kernels;
mod kvm;
mod lifecycle;
pub mod matrix;
mod modules;
mod ostree;
mod podman;
pub mod power;
mod qemu;
mod report;
mod rootfs;
mod runner;
mod selinux;
pub mod suite;

use std::{
    env,
    path::{Path, PathBuf},
};

pub use apt::Kernel;
pub use guest::{Guest, KERNEL_TESTS, LIFECYCLE_TESTS, PODMAN_TESTS};
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

/// What the last run of a guest left: reports and consoles, by kernel.
pub fn results(guest: &Guest) -> PathBuf {
    project().join("target").join(guest.results)
}

/// Forgets what earlier runs left.
pub fn forget_results(guest: &Guest) -> std::io::Result<()> {
    let results = results(guest);
    match std::fs::remove_dir_all(&results) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => std::fs::create_dir_all(&results),
    }
}
