//! What a store tree is laid out from.

use std::sync::Arc;

use crate::{
    name::{BlobDigest, ConfigDigest, DiffId, ImageName, IndexDigest, ManifestDigest},
    squash::tree::{Directory, FileContent},
};

/// One bound image with all that the store tree shows of it.
#[derive(Debug, Clone)]
pub struct StoreImage {
    /// The name podman finds it by.
    pub name: ImageName,
    /// The manifest's digest.
    pub manifest_digest: ManifestDigest,
    /// The manifest's bytes.
    pub manifest: Arc<[u8]>,
    /// The index, ONLY where the bound name pins the index by its digest:
    /// otherwise it must not change the set image's bytes.
    pub index: Option<(IndexDigest, Arc<[u8]>)>,
    /// The config's digest: the image ID.
    pub config_digest: ConfigDigest,
    /// The config's bytes.
    pub config: Arc<[u8]>,
    /// The layers, base first.
    pub layers: Vec<StoreLayer>,
}

/// One layer of a bound image, with the squashed tree up to it.
#[derive(Debug, Clone)]
pub struct StoreLayer {
    /// Digest of the uncompressed tar.
    pub diff_id: DiffId,
    /// Length of the uncompressed tar in bytes.
    pub diff_size: u64,
    /// The compressed blob, as this image's manifest names it.
    pub blob: StoreBlob,
    /// `<layer>.tar-split.gz`
    pub tar_split: FileContent,
    /// The complete tree up to and with this layer.
    pub rootfs: Arc<Directory>,
}

/// A layer's blob as a manifest describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreBlob {
    /// Its digest.
    pub digest: BlobDigest,
    /// Its size in bytes.
    pub size: u64,
    /// containers-storage's number: 0 none, 2 gzip, 4 zstd.
    pub compression: u8,
}
