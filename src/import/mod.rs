//! Importing: from a layer's bytes to objects and a layer stream.
//!
//! Every byte is hashed before anything is registered: the blob against the
//! manifest, here or when it was fetched, the tar against the config's DiffID. A config that claims another
//! image's DiffID therefore poisons nothing.

mod batch;
mod entries;
mod layer;
mod pool;
mod read_ahead;
pub mod tar;
mod verified;

pub use entries::{LayerEntries, layer_entries};
pub use layer::{ImportLimits, import_alone, import_layer};
pub use pool::ObjectPool;

use crate::{
    name::{BlobDigest, DiffId},
    repo::RepoError,
};

/// Why a layer could not be imported. Nothing was registered then.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The bytes could not be read or decompressed.
    #[error("read the layer {diff_id}")]
    Read {
        /// The layer.
        diff_id: DiffId,
        /// Why.
        source: std::io::Error,
    },
    /// The blob is not the manifest's.
    #[error(
        "the layer blob {expected} of {expected_size} bytes is {found} of {found_size} bytes: \
         the source is damaged or lies"
    )]
    WrongBlob {
        /// What the manifest says.
        expected: BlobDigest,
        /// What the manifest says.
        expected_size: u64,
        /// What the bytes are.
        found: BlobDigest,
        /// What the bytes are.
        found_size: u64,
    },
    /// The tar is not the config's.
    #[error(
        "the config names a layer with DiffID {expected}, but its tar is {found}: \
         the image is damaged or lies"
    )]
    WrongDiffId {
        /// What the config says.
        expected: DiffId,
        /// What the tar is.
        found: DiffId,
    },
    /// The tar is larger than allowed.
    #[error(
        "the layer {diff_id} unpacks to more than {max_bytes} bytes: \
         --max-size raises the limit, if you trust the image"
    )]
    TooLarge {
        /// The layer.
        diff_id: DiffId,
        /// The limit.
        max_bytes: u64,
    },
    /// The tar has more entries than allowed.
    #[error(
        "the layer {diff_id} has more than {max_entries} entries: \
         --max-entries raises the limit, if you trust the image"
    )]
    TooManyEntries {
        /// The layer.
        diff_id: DiffId,
        /// The limit.
        max_entries: u64,
    },
    /// The tar's names, links and extended attributes are longer than allowed.
    #[error(
        "the names, link targets and extended attributes of the layer {diff_id} take more \
         than {max_bytes} bytes: --max-entries raises the limit, if you trust the image"
    )]
    TooMuchMetadata {
        /// The layer.
        diff_id: DiffId,
        /// The limit.
        max_bytes: u64,
    },
    /// The tar is malformed.
    #[error("the layer {diff_id} is no tar that can be unpacked")]
    Tar {
        /// The layer.
        diff_id: DiffId,
        /// What is wrong, and where.
        source: tar::TarError,
    },
    /// Writing failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// Writing an object failed.
    #[error("write an object of the layer {diff_id}")]
    Write {
        /// The layer.
        diff_id: DiffId,
        /// Why.
        source: std::io::Error,
    },
}
