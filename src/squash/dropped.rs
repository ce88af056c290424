//! Counting what was left out, and telling it.

use std::fmt;

use super::Dropped;

impl Dropped {
    /// How many things were left out.
    pub fn total(&self) -> u64 {
        self.counts().iter().map(|(count, _)| count).sum()
    }

    /// What was left out here and there.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    /// What was left out since `earlier` of the same chain.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        self.zip(earlier, u64::saturating_sub)
    }

    fn zip(self, other: Self, by: fn(u64, u64) -> u64) -> Self {
        Self {
            whiteout_devices: by(self.whiteout_devices, other.whiteout_devices),
            overlay_xattrs: by(self.overlay_xattrs, other.overlay_xattrs),
            selinux_xattrs: by(self.selinux_xattrs, other.selinux_xattrs),
            unsettable_xattrs: by(self.unsettable_xattrs, other.unsettable_xattrs),
        }
    }

    fn counts(&self) -> [(u64, &'static str); 4] {
        [
            (self.whiteout_devices, "overlay whiteout devices"),
            (self.overlay_xattrs, "overlay xattrs"),
            (self.selinux_xattrs, "SELinux labels"),
            (
                self.unsettable_xattrs,
                "xattrs that Linux keeps on no such file",
            ),
        ]
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (count, what) in self.counts().into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{separator}{count} {what}")?;
            separator = ", ";
        }
        Ok(())
    }
}
