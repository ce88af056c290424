//! Manifests, indexes and configs, read as podman reads them, and nothing
//! believed.
//!
//! podman and skopeo decode them with Go's `encoding/json`: keys match without
//! regard to case, `null` fits everywhere, unknown keys do not matter, and of
//! two keys for one field the last counts. One image that they cannot decode
//! makes `podman images` fail for all. So the same bytes are read alike here,
//! what podman could not decode is refused, and so is what has two readings.
//!
//! Whoever makes an image has every byte of these documents. They are hashed
//! before they come here and kept as they came: nothing is written back.
//!
//! Pure: these functions are what the fuzz targets call.

mod config;
mod error;
mod json;
mod manifest;
mod media_type;
mod rfc3339;
mod shape;

pub use config::{ConfigDocument, parse_config};
pub use error::DocumentError;
pub(crate) use json::Json;
pub use manifest::{
    Descriptor, IndexDocument, IndexEntry, LayerBlob, ManifestDocument, References, SignatureLayer,
    document_kind, document_media_type, parse_index, parse_manifest, parse_references,
    parse_signatures,
};
pub use media_type::{Compression, DocumentKind, OCI_INDEX, OCI_MANIFEST};
pub(crate) use rfc3339::{format_rfc3339, is_rfc3339};
pub(crate) use shape::Shape;

/// The longest manifest, index or config that is read, in bytes: the limit of
/// containers/image (`internal/iolimits`).
pub const DOCUMENT_LIMIT_BYTES: u64 = 4 << 20;

/// The most layers an image may have: c/storage's overlay driver makes no more.
pub const LAYER_LIMIT: usize = 500;

#[cfg(test)]
mod tests;
