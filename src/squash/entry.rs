//! One entry of a layer, parsed.

use super::tree::{Device, FileContent, Metadata};

/// A path in a layer: components inside the rootfs, `.` and `..` resolved by
/// name as Go's `path.Clean` does, never leaving the root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntryName(Vec<u8>);

impl EntryName {
    /// Longest path, and longest component, that Linux takes.
    pub const MAX: usize = 4095;
    /// Longest component.
    pub const COMPONENT_MAX: usize = 255;

    /// Cleans a name from a tar header.
    ///
    /// # Errors
    /// A NUL, a component over 255 bytes, a path over 4095 bytes.
    pub fn parse(raw: &[u8]) -> Result<Self, EntryNameError> {
        let error = |reason| EntryNameError {
            name: String::from_utf8_lossy(&raw[..raw.len().min(200)]).into_owned(),
            reason,
        };
        if raw.contains(&0) {
            return Err(error("it contains a NUL byte"));
        }
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in raw.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop();
                }
                part if part.len() > Self::COMPONENT_MAX => {
                    return Err(error("a component is longer than 255 bytes"));
                }
                part => parts.push(part),
            }
        }
        let clean = parts.join(&b'/');
        if clean.len() > Self::MAX {
            return Err(error("the path is longer than 4095 bytes"));
        }
        Ok(Self(clean))
    }

    /// The path without leading or trailing slash; empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The components, none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty())
    }

    /// Whether it is the root of the rootfs.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for EntryName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.0))
    }
}

/// Why a tar entry's name cannot be a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the name {name:?} of a layer's entry cannot be a path: {reason}")]
pub struct EntryNameError {
    name: String,
    reason: &'static str,
}

/// One entry of a layer, in the order of the tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerEntry {
    /// Where it goes; whiteouts still carry their `.wh.` here.
    pub name: EntryName,
    /// Owner, mode, time, extended attributes as the header gives them.
    pub metadata: Metadata,
    /// What it is.
    pub kind: EntryKind,
}

/// What a layer's entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    Regular(FileContent),
    /// Another name of a file that stands earlier in this layer or below it.
    Hardlink(EntryName),
    /// A symbolic link and its target.
    Symlink(Box<[u8]>),
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
}

impl EntryKind {
    /// What it is, in a word or two, for messages.
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Regular(_) => "file",
            Self::Hardlink(_) => "hard link",
            Self::Symlink(_) => "symlink",
            Self::CharDevice(_) => "character device",
            Self::BlockDevice(_) => "block device",
            Self::Fifo => "pipe",
        }
    }
}
