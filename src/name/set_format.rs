//! How a store tree becomes the bytes of a set image.

use serde::{Deserialize, Serialize};

/// What renders the same store tree to the same bytes; see `docs/format.md`,
/// "Set image". Formats are append-only: each is rendered as long as sets and
/// lock files name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub enum SetFormat {
    /// Each rootfs has inodes of its own.
    V1,
    /// What several rootfs have alike is one inode.
    V2,
}

/// A number that is no format which this version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("format {0} is unknown here: this version has {first} to {newest}",
    first = SetFormat::V1.number(), newest = SetFormat::NEWEST.number())]
pub struct UnknownSetFormat(pub u32);

impl SetFormat {
    /// All, oldest first.
    pub const ALL: [Self; 2] = [Self::V1, Self::V2];
    /// That of new sets.
    pub const NEWEST: Self = Self::V2;

    /// Its number in records and lock files.
    pub const fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }
}

impl From<SetFormat> for u32 {
    fn from(format: SetFormat) -> Self {
        format.number()
    }
}

impl TryFrom<u32> for SetFormat {
    type Error = UnknownSetFormat;

    fn try_from(number: u32) -> Result<Self, UnknownSetFormat> {
        let known = Self::ALL.into_iter().find(|one| one.number() == number);
        known.ok_or(UnknownSetFormat(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_for_formats() {
        for format in SetFormat::ALL {
            assert_eq!(SetFormat::try_from(format.number()), Ok(format));
            assert!(format <= SetFormat::NEWEST);
        }
        for unknown in [0, 3, u32::MAX] {
            let error = SetFormat::try_from(unknown).unwrap_err();
            assert_eq!(error, UnknownSetFormat(unknown));
            assert!(error.to_string().ends_with("has 1 to 2"), "{error}");
        }
    }
}
