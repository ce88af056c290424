//! What resolving hands on: the documents of one image, verified against each other.

use std::io::Read;

use crate::name::{BlobDigest, ConfigDigest, DiffId, ImageName, IndexDigest, ManifestDigest};

/// One bound image, resolved: its manifest, config and perhaps index, hashed
/// and parsed, and its layers described. No layer has been read yet.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// The name it is bound under.
    pub name: ImageName,
    /// The manifest's digest.
    pub manifest_digest: ManifestDigest,
    /// The manifest as served: its bytes hash to `manifest_digest`.
    pub manifest: Vec<u8>,
    /// The index the manifest was chosen from, where there was one: digest and
    /// bytes as served.
    pub index: Option<(IndexDigest, Vec<u8>)>,
    /// The config's digest, as the manifest names it.
    pub config_digest: ConfigDigest,
    /// The config: its bytes hash to `config_digest`.
    pub config: Vec<u8>,
    /// One for each layer, base first: as many as the config's `rootfs.diff_ids`.
    pub layers: Vec<LayerDescriptor>,
    /// Why this image is accepted, for the publish record and `status`.
    pub verdict: String,
}

/// One layer of an image, as manifest and config describe it: claims, until
/// the bytes have been hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerDescriptor {
    /// Digest of the uncompressed tar, from the config.
    pub diff_id: DiffId,
    /// Digest of the blob, from the manifest.
    pub blob_digest: BlobDigest,
    /// Size of the blob in bytes, from the manifest.
    pub blob_size: u64,
    /// How the blob is compressed, from its media type.
    pub compression: Compression,
}

/// How a layer's blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip, of one or more members.
    Gzip,
    /// zstd, zstd:chunked too.
    Zstd,
}

/// The bytes of one layer, ready to be read once.
pub struct LayerData {
    /// The bytes: a blob as the manifest describes it, or a tar.
    pub reader: Box<dyn Read + Send>,
    /// Which of the two.
    pub form: LayerForm,
}

/// What a [`LayerData`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerForm {
    /// The blob: its digest and size are the descriptor's, or the layer is bad.
    Blob,
    /// The tar, uncompressed or not, where the source no longer has the blob
    /// (`docker-archive:`, `containers-storage:`): only the DiffID can be checked.
    Tar,
}

impl std::fmt::Debug for LayerData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerData")
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}
