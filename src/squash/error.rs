//! Why layers cannot be squashed.

use super::{
    EntryName, MAX_DEPTH,
    sanitize::{MAX_XATTR_BYTES, MAX_XATTRS},
};

/// Why a layer cannot be squashed. The chain is as it was before the layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SquashError {
    /// An entry has no place in a file tree.
    #[error("place {kind} {name}, entry {number} of layer {layer}")]
    Entry {
        /// The layer's place in the chain; 0 is the base.
        layer: usize,
        /// The entry's place in its layer, from 0.
        number: u64,
        /// Where the entry goes.
        name: EntryName,
        /// What the entry is.
        kind: &'static str,
        /// What is wrong with it.
        source: EntryFault,
    },
    /// The source of the entries failed.
    #[error("read entry {number} of layer {layer}")]
    Read {
        /// The layer's place in the chain; 0 is the base.
        layer: usize,
        /// The entry's place in its layer, from 0.
        number: u64,
        /// What the source said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What is wrong with an entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryFault {
    /// A component of the path is a file of this layer.
    #[error("the path leads through {0:?}, which this layer has as a file")]
    NotADirectory(String),
    /// The path follows more symlinks than Linux would (40).
    #[error("the path leads through too many symlinks at {0:?}")]
    SymlinkLoop(String),
    /// The path, with its symlinks followed, is nested too deeply.
    #[error("the path lies deeper than {MAX_DEPTH} directories")]
    TooDeep,
    /// A hard link to nothing.
    #[error("the hard link's target {0} is neither in this layer so far nor in one below")]
    LinkTargetMissing(EntryName),
    /// A hard link to a directory.
    #[error("the hard link's target {0} is a directory")]
    LinkToDirectory(EntryName),
    /// The root of the rootfs as anything but a directory.
    #[error("the root of the file tree can only be a directory")]
    RootNotADirectory,
    /// A whiteout that names nothing: `.wh.`, `.wh..`, `.wh...`.
    #[error("the whiteout names no file")]
    BadWhiteout,
    /// A symlink without a target or with one no system call takes.
    #[error("the symlink's target is empty, longer than 4095 bytes or has a NUL")]
    BadSymlink,
    /// An extended attribute that no file of a set image can carry.
    #[error("the extended attribute {0:?} has a name over 255 bytes or a value over 65535")]
    XattrTooLarge(String),
    /// Capabilities or an access list that are none.
    #[error("the extended attribute {0:?} has a value that Linux takes on no file")]
    XattrMalformed(String),
    /// More extended attributes than one inode of a set image can carry.
    #[error(
        "its {count} extended attributes have {bytes} bytes: an inode takes {MAX_XATTRS} \
         with {MAX_XATTR_BYTES} bytes"
    )]
    TooManyXattrs {
        /// How many there are.
        count: usize,
        /// Bytes of their names and values.
        bytes: usize,
    },
}
