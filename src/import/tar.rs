//! The tar format of layers, read as podman reads it: by the rules of Go's
//! `archive/tar` and of its fork in tar-split.
//!
//! v7, ustar, STAR, GNU and PAX; sparse files in all four forms. The reader
//! sees headers only: the caller takes an entry's data from its own input and
//! decides what becomes of them, so that the same reader serves the tar of an
//! import and the layer stream of a squash.
//!
//! Spec: POSIX.1-2017 `pax`, "Extended Description"; GNU tar manual, "Tar
//! Internals".

mod entry;
mod error;
mod fields;
mod header;
mod layers;
mod number;
mod pax;
mod reader;
mod sparse;
#[cfg(test)]
mod tests;

pub use entry::{TarEntry, TarKind};
pub use error::{SparseError, TarError};
pub use layers::{SquashTarError, read_layer, squash_tar_layers};
pub use reader::{TarInput, TarReader};
pub use sparse::{Expanded, MAX_SEGMENTS, Segment, Sparse, SparseMap};

/// How many bytes a long name or an extended header may have: Go's limit.
pub const MAX_EXTENSION: u64 = 1 << 20;
