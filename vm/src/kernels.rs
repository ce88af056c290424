//! The kernels that are tested.

/// Where a kernel comes from.
#[derive(Debug, Clone, Copy)]
pub struct KernelSource {
    /// What tests call it: `6.12` of `6.12::data_only::intact`.
    pub name: &'static str,
    /// The Debian suites that have it; of several the newest is taken.
    pub suites: &'static [&'static str],
    /// The package that depends on the one with today's version.
    pub metapackage: &'static str,
    /// What there must be, with all it depends on; what the kernel has built
    /// in, or has not at all, is passed over.
    pub modules: &'static [&'static str],
    /// Whether its overlay can require fs-verity. Else a host of composefs
    /// boots only with `composefs=?..`, which its owner must write.
    pub requires_verity: bool,
}

const CLOUD: &str = "linux-image-cloud-amd64";
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "ext4",
    "erofs",
    "overlay",
    "loop",
    "dm_flakey",
    "sha512_generic",
    "xfs",
    "btrfs",
];

/// Adding a kernel is one line.
#[rustfmt::skip]
pub const KERNELS: &[KernelSource] = &[
    KernelSource { name: "6.1", suites: &["bookworm"], metapackage: CLOUD, modules: MODULES, requires_verity: false },
    KernelSource { name: "6.12", suites: &["trixie"], metapackage: CLOUD, modules: MODULES, requires_verity: true },
    KernelSource { name: "newest", suites: &["forky", "sid"], metapackage: CLOUD, modules: MODULES, requires_verity: true },
];
