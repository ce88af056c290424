//! Why a tar cannot be read.

use std::io;

use crate::squash::EntryNameError;

/// Why a tar cannot be read. Offsets are bytes from the start of the tar.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarError {
    /// The input itself failed.
    #[error("read the tar at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// What the input said.
        source: io::Error,
    },
    /// The tar ends inside something.
    #[error("the tar is cut off at byte {offset}, inside {inside}")]
    Truncated {
        /// Where the input ended.
        offset: u64,
        /// What was being read.
        inside: &'static str,
    },
    /// A header that breaks the format.
    #[error("the tar header at byte {offset} is broken: {reason}")]
    Header {
        /// Where the header starts.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A long name or PAX record that is larger than anyone needs.
    #[error(
        "the extension header at byte {offset} holds {size} bytes, over the limit of {}",
        super::MAX_EXTENSION
    )]
    ExtensionTooLarge {
        /// Where the header starts.
        offset: u64,
        /// What it claims to hold.
        size: u64,
    },
    /// A type of entry that has no place in an image.
    #[error(
        "entry {name:?} at byte {offset} is of tar type {flag:?} ({what}), which no image can hold"
    )]
    Unsupported {
        /// Where the entry starts.
        offset: u64,
        /// Its name.
        name: String,
        /// Its type flag.
        flag: char,
        /// What GNU tar uses the flag for, where known.
        what: &'static str,
    },
    /// A value in the header that no file can have.
    #[error("entry {name:?} at byte {offset}: its {field} is out of range: {value}")]
    OutOfRange {
        /// Where the entry starts.
        offset: u64,
        /// Its name.
        name: String,
        /// Which value.
        field: &'static str,
        /// The value.
        value: i64,
    },
    /// A name that cannot be a path.
    #[error("entry at byte {offset}")]
    Name {
        /// Where the entry starts.
        offset: u64,
        /// Why.
        source: EntryNameError,
    },
    /// A sparse file whose map contradicts its data.
    #[error("entry {name:?} at byte {offset}: {source}")]
    Sparse {
        /// Where the entry starts.
        offset: u64,
        /// Its name.
        name: String,
        /// What is wrong with the map.
        source: SparseError,
    },
    /// A file's content that is not of the size its header gives.
    #[error("entry {name:?}: the header says {expected} bytes, the content has {found}")]
    ContentSize {
        /// The entry's name.
        name: String,
        /// By the header.
        expected: u64,
        /// By the content.
        found: u64,
    },
}

/// What is wrong with a sparse file's map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SparseError {
    /// Not numbers, or not as many as announced.
    #[error("the sparse map is malformed")]
    Malformed,
    /// More pieces than a file of an image ever has.
    #[error("the sparse map has more than {} pieces", super::MAX_SEGMENTS)]
    TooManySegments,
    /// Pieces overlap, are out of order or reach past the end of the file.
    #[error("the pieces of the sparse map overlap or leave the file")]
    OutOfBounds,
    /// The archive stores more or fewer bytes than the map takes.
    #[error("the sparse map takes {mapped} bytes, the archive has {stored}")]
    DataSize {
        /// Sum of the pieces.
        mapped: u64,
        /// Bytes of data in the archive, without the map.
        stored: u64,
    },
}
