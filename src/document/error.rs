//! Why a document is not used.

use super::{DOCUMENT_LIMIT_BYTES, LAYER_LIMIT};
use crate::name::DigestError;

/// Why bytes are no manifest, index or config of an image that can be kept.
///
/// The texts in it are the document's own and may be anything; messages quote
/// them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// Longer than [`DOCUMENT_LIMIT_BYTES`].
    #[error("it is {found} bytes long, more than {DOCUMENT_LIMIT_BYTES}")]
    TooLong {
        /// How long it is.
        found: u64,
    },
    /// No JSON, or JSON with one key twice: Go takes the last, others the first.
    #[error("its JSON cannot be read")]
    Json(#[from] serde_json::Error),
    /// Two keys that Go takes for one field: it takes the last, others the one
    /// that is spelt as it should be.
    #[error("{field} is there twice, as {first:?} and as {second:?}")]
    Twice {
        /// Which field.
        field: String,
        /// Its first key.
        first: String,
        /// Its second key.
        second: String,
    },
    /// A value of another type than podman's.
    #[error("{} is not {expected}", if field.is_empty() { "it" } else { field })]
    Type {
        /// Which value; nothing for all of the document.
        field: String,
        /// What podman wants there.
        expected: &'static str,
    },
    /// Absent, though an image has one.
    #[error("{0} is missing")]
    Missing(
        /// Which field.
        String,
    ),
    /// A docker schema 1 manifest.
    #[error(
        "it is a docker schema 1 manifest, which no longer names its layers' contents; push the image again with a current tool"
    )]
    Schema1,
    /// Another kind of document than the place it was found at calls for.
    #[error("expected {expected}, found {found}")]
    Kind {
        /// What the place calls for.
        expected: &'static str,
        /// What its bytes are.
        found: String,
    },
    /// It carries the fields of two kinds of documents.
    #[error("it has the fields of two kinds of documents: {fields}")]
    TwoKinds {
        /// The fields that do not belong together.
        fields: &'static str,
    },
    /// A manifest of something that is no container image.
    #[error("it is an artifact of type {found:?}, not a container image")]
    Artifact {
        /// The artifactType, or the config's media type.
        found: String,
    },
    /// A layer whose bytes lie elsewhere and may not be passed on.
    #[error(
        "layer {index} is {media_type}: its bytes are not in the image; rebuild the image with distributable layers"
    )]
    ForeignLayer {
        /// Its place, base first, from 0.
        index: usize,
        /// Its media type.
        media_type: String,
    },
    /// A layer that is encrypted.
    #[error(
        "layer {index} is encrypted ({media_type}); decrypt the image first (skopeo copy --decryption-key)"
    )]
    EncryptedLayer {
        /// Its place, base first, from 0.
        index: usize,
        /// Its media type.
        media_type: String,
    },
    /// A config or layer of the other of the two formats, OCI and docker's, where
    /// podman fails for all images.
    #[error(
        "{field} is {media_type:?}, which podman does not take in {format} manifest; push the image again in one format (skopeo copy --format oci)"
    )]
    Mixed {
        /// Where it stands.
        field: String,
        /// Its media type.
        media_type: String,
        /// What the manifest is.
        format: &'static str,
    },
    /// A layer of a kind that is not known.
    #[error("layer {index} has the unknown media type {media_type:?}")]
    UnknownLayer {
        /// Its place, base first, from 0.
        index: usize,
        /// Its media type.
        media_type: String,
    },
    /// A digest that is no SHA-256.
    #[error("{field} is no usable digest")]
    Digest {
        /// Where it stands.
        field: String,
        /// What it says.
        source: DigestError,
    },
    /// A negative size.
    #[error("{field} is {found}, not a size in bytes")]
    Size {
        /// Where it stands.
        field: String,
        /// What it says.
        found: i64,
    },
    /// More layers than containers-storage can hold.
    #[error("it has {found} layers, more than {LAYER_LIMIT}")]
    TooManyLayers {
        /// How many.
        found: usize,
    },
    /// A `rootfs` that is no list of layers.
    #[error("its rootfs is of type {found:?}, not \"layers\"")]
    Rootfs {
        /// The type.
        found: String,
    },
    /// A time that podman could not read.
    #[error("its {field} is {found:?}, not a time like 2026-01-31T12:00:00Z")]
    Time {
        /// Where it stands.
        field: String,
        /// What it says.
        found: String,
    },
}

impl DocumentError {
    /// Whether the bytes are damaged, and not just of a kind that is refused.
    pub fn is_corrupt(&self) -> bool {
        match self {
            Self::TooLong { .. }
            | Self::Json(_)
            | Self::Twice { .. }
            | Self::Type { .. }
            | Self::Missing(_)
            | Self::TwoKinds { .. }
            | Self::Digest { .. }
            | Self::Size { .. }
            | Self::Rootfs { .. }
            | Self::Time { .. } => true,
            Self::Schema1
            | Self::Kind { .. }
            | Self::Artifact { .. }
            | Self::ForeignLayer { .. }
            | Self::EncryptedLayer { .. }
            | Self::Mixed { .. }
            | Self::UnknownLayer { .. }
            | Self::TooManyLayers { .. } => false,
        }
    }
}
