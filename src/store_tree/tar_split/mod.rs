//! tar-split: what a layer's tar holds besides the bytes of its files.
//!
//! `<layer>.tar-split.gz` is a gzip of JSON lines: literal bytes of the tar
//! (headers, padding, the end) and references to files, whose bytes lie in the
//! layer's tree (github.com/vbatts/tar-split, `tar/storage`). podman puts the
//! tar together again from both, byte for byte, when it saves or pushes.

mod crc64;
mod gzip;
mod read;
mod reassemble;
mod write;

pub use crc64::Crc64;
pub use read::{TarSplitError, TarSplitItem, TarSplitReader};
pub use reassemble::{ReassembleError, reassemble};
pub use write::TarSplitWriter;

/// tar-split's number for a file reference.
const FILE: u64 = 1;
/// tar-split's number for literal bytes.
const SEGMENT: u64 = 2;

#[cfg(test)]
mod tests;
