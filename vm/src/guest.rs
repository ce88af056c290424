//! The guests: what boots, on what machine, and how long it may take.

use std::{path::Path, time::Duration};

use anyhow::Result;

use crate::{
    CheckName,
    disks::{self, Attached},
    lifecycle, podman,
};

/// A program that is `/init` in a virtual machine, and the machine.
#[derive(Debug, Clone, Copy)]
pub struct Guest {
    /// The package of its one program.
    pub(crate) package: &'static str,
    /// The folder in `target/` for what its runs leave.
    pub(crate) results: &'static str,
    /// Memory.
    pub(crate) mebibytes: u32,
    /// Processors of a machine, where it is not the only one.
    pub(crate) processors: u32,
    /// Machines at a time.
    pub(crate) at_once: usize,
    /// A boot that has not come to the checks by then is dead.
    pub(crate) start_limit: Duration,
    /// All checks of one kernel.
    pub(crate) limit: Duration,
    /// For the kernel's command line.
    pub(crate) append: &'static str,
    /// Modules of [`crate::KERNELS`] that it does without.
    pub(crate) without: &'static [&'static str],
    /// Makes its disks in a folder.
    pub(crate) disks: fn(&Path, &[CheckName]) -> Result<Vec<Attached>>,
}

/// `kernel-tests`: one static program and nothing else.
pub const KERNEL_TESTS: Guest = Guest {
    package: "kernel-tests",
    results: "kernels",
    mebibytes: 1024,
    processors: 2,
    at_once: 2,
    start_limit: Duration::from_secs(120),
    // Most checks take milliseconds.
    limit: Duration::from_secs(600),
    append: "",
    without: &[],
    disks: disks::make_all,
};

/// `podman-tests`: podman under the systemd of a Debian root filesystem.
pub const PODMAN_TESTS: Guest = Guest {
    package: "podman-tests",
    results: "podman",
    mebibytes: 2560,
    // Emulated processors spend a sixth of their time on each other.
    processors: 1,
    at_once: 3,
    // systemd starts; on an idle machine it takes 15 s.
    start_limit: Duration::from_secs(240),
    limit: Duration::from_secs(1800),
    // Nothing but the service and what every service needs. A pristine disk
    // would otherwise be set up as at a first boot.
    append: "mitigations=off systemd.unit=podman-tests.service \
        systemd.condition_needs_update=0 systemd.firstboot=0 systemd.show_status=0",
    without: &["xfs", "btrfs"],
    disks: podman::disks,
};

/// `lifecycle-tests`: a host with deployments, which starts again and again.
pub const LIFECYCLE_TESTS: Guest = Guest {
    package: lifecycle::PACKAGE,
    results: "lifecycle",
    mebibytes: 2560,
    processors: 1,
    at_once: 2,
    start_limit: Duration::from_secs(400),
    // One boot of several.
    limit: Duration::from_secs(1200),
    append: "mitigations=off systemd.unit=multi-user.target \
        systemd.condition_needs_update=0 systemd.firstboot=0 systemd.show_status=0",
    without: &["xfs", "btrfs"],
    disks: lifecycle::disks,
};

/// `power-tests`: a host whose power is cut, and one that looks at its disk.
pub(crate) const POWER_TESTS: Guest = Guest {
    package: "power-tests",
    results: "power",
    mebibytes: 1536,
    processors: 1,
    at_once: 2,
    start_limit: Duration::from_secs(120),
    limit: Duration::from_secs(1200),
    append: "mitigations=off",
    without: &["xfs", "btrfs"],
    // Each of its machines has others.
    disks: |_, _| Ok(Vec::new()),
};
