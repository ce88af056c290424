//! Modification times.

/// A modification time: seconds and nanoseconds since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mtime {
    /// Seconds since the epoch; negative before it.
    pub sec: i64,
    /// Nanoseconds within the second, below 1,000,000,000, always forward.
    pub nsec: u32,
}

impl Mtime {
    /// The epoch: what everything gets that has no time of its own.
    pub const EPOCH: Mtime = Mtime { sec: 0, nsec: 0 };
}
