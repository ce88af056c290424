//! What a kernel can, as probed: expectations hang on nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Something that kernels differ in. Each is found out by doing it; see `probes.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// fs-verity on the ext4 that the checks run on.
    FsVerity,
    /// EROFS from a loop device.
    ErofsFromLoop,
    /// EROFS from a file.
    ErofsFromFile,
    /// Overlay `lowerdir=a:b` with data in `b`.
    DataInLower,
    /// Overlay `lowerdir=a::b`, data-only.
    DataOnly,
    /// Overlay `lowerdir+`, `datadir+`.
    DatadirPlus,
    /// Overlay takes `verity=require`.
    VerityRequire,
    /// Overlay `datadir+` without `metacopy=on`.
    DataWithoutMetacopy,
    /// Overlay layers by file handle.
    LayersByHandle,
    /// Overlay layers from a mount that is attached nowhere.
    DetachedLayers,
    /// `trusted.overlay.*` can be set on an overlay, and is stored escaped.
    XattrEscapes,
    /// A file with `overlay.whiteout` in a directory with `opaque=x` hides.
    XattrWhiteouts,
    /// Unnamed files (`O_TMPFILE`) on an overlay.
    OverlayTmpfile,
    /// A mount attached beneath another (`MOVE_MOUNT_BENEATH`).
    MountBeneath,
    /// Idmapped mounts of ext4.
    IdmapExt4,
    /// Idmapped mounts of EROFS.
    IdmapErofs,
    /// Idmapped mounts of tmpfs.
    IdmapTmpfs,
    /// Idmapped mounts of an overlay.
    IdmapOverlay,
    /// SELinux is built in and on: `vm` boots a second time with it.
    Selinux,
    /// SELinux judges `mprotect` on an overlay by the overlay's label.
    SelinuxMprotect,
    /// The kernel has XFS.
    Xfs,
    /// The kernel has Btrfs.
    Btrfs,
}

/// What the probes found: `yes`, or how it was refused.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Capabilities(pub BTreeMap<Capability, String>);

/// What a probe says of something that works.
pub const YES: &str = "yes";

impl Capabilities {
    /// Whether the kernel has it. What was not probed it has not.
    pub fn has(&self, capability: Capability) -> bool {
        self.0.get(&capability).is_some_and(|found| found == YES)
    }
}
