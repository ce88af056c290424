//! What can be wrong with a store tree.

use crate::{document::DocumentError, store_tree::tar_split::TarSplitError};

/// All that is wrong with a store tree.
#[derive(Debug)]
pub struct ValidationError {
    /// At least one.
    pub violations: Vec<Violation>,
}

impl std::fmt::Display for ValidationError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 10;
        f.write_str("podman could not use the store tree: ")?;
        for (index, violation) in self.violations.iter().take(SHOWN).enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{violation}")?;
            let mut source = std::error::Error::source(violation);
            while let Some(cause) = source {
                write!(f, ": {cause}")?;
                source = cause.source();
            }
        }
        match self.violations.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for ValidationError {}

/// One thing that is wrong with a store tree. Paths are below its top.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what each field is
pub enum Violation {
    #[error("{path} is missing")]
    Missing { path: String },
    #[error("{path} is {found}, not {expected}")]
    Type {
        path: String,
        expected: &'static str,
        found: &'static str,
    },
    /// A `lower` file or anything else that the format does not name.
    #[error("{path} does not belong there")]
    Unexpected { path: String },
    #[error("{path} has {what} {found}, not {expected}")]
    Metadata {
        path: String,
        what: &'static str,
        expected: String,
        found: String,
    },
    /// The tree itself holds the files that podman reads at its start.
    #[error("{path} is an object of the repository, not inline")]
    NotInline { path: String },
    #[error("parse {path}")]
    Json {
        path: &'static str,
        source: serde_json::Error,
    },
    #[error("{path} does not hold the SHA-512 of layers.json and images.json")]
    LockContent { path: String },

    #[error("layers.json lists the layer {layer:?} twice")]
    DuplicateLayer { layer: String },
    #[error("the layer {layer:?} has no parent {parent:?}")]
    UnknownParent { layer: String, parent: String },
    #[error("the layer {layer:?} stands before its parent {parent:?}")]
    ParentAfterChild { layer: String, parent: String },
    /// Without it podman fails for all images.
    #[error("the layer {layer:?} has no diff-digest")]
    NoDiffDigest { layer: String },
    /// Without it podman fails for all images.
    #[error("the layer {layer:?} has no diff-size")]
    NoDiffSize { layer: String },
    #[error("the layer {layer:?} has the {key} {value:?}")]
    LayerValue {
        layer: String,
        key: &'static str,
        value: String,
    },
    /// podman would extract the layer again and again.
    #[error("the layer {layer:?} must have the ID {expected}")]
    LayerId { layer: String, expected: String },
    /// No image shows it, yet podman builds on it.
    #[error("the layer {layer:?} is in no image")]
    UnusedLayer { layer: String },
    #[error("{path} holds {found:?}, not {expected:?}")]
    Link {
        path: String,
        expected: String,
        found: String,
    },
    #[error("read {path}")]
    TarSplit { path: String, source: TarSplitError },
    #[error("{path} describes a tar of {found} bytes, its layer has {expected}")]
    TarSplitLength {
        path: String,
        expected: i64,
        found: u64,
    },
    /// podman refuses such a tar-split when it saves or pushes.
    #[error("{path} has two entries for {name:?}")]
    TarSplitDuplicate { path: String, name: String },

    #[error("images.json lists the image {image:?} twice")]
    DuplicateImage { image: String },
    /// podman fails for all images.
    #[error("the name {name:?} stands for the images {first:?} and {second:?}")]
    DuplicateName {
        name: String,
        first: String,
        second: String,
    },
    #[error("the name {name:?} of the image {image:?} is not normalised")]
    Name { image: String, name: String },
    #[error("the image {image:?} has the ID of no config")]
    ImageId { image: String },
    #[error("the image {image:?} has the top layer {layer:?}, which does not exist")]
    UnknownLayer { image: String, layer: String },
    /// podman could not parse images.json at all.
    #[error("the image {image:?} was created {value:?}, which is no RFC 3339 time")]
    Created { image: String, value: String },
    #[error("the image {image:?} has the digest {digest:?}, which none of its manifests has")]
    ImageDigest { image: String, digest: String },
    #[error("the image {image:?} has the metadata {found:?}, not JSON")]
    ImageMetadata { image: String, found: String },
    /// Without config and `manifest` podman fails for all images.
    #[error("the image {image:?} has no big data {key:?}")]
    NoBigData { image: String, key: String },
    #[error("the image {image:?} lists the big data {key:?} twice")]
    DuplicateBigData { image: String, key: String },
    /// podman could not tag the image.
    #[error("the big data {key:?} of the image {image:?} has no digest")]
    NoBigDataDigest { image: String, key: String },
    #[error("the image {image:?} has a {what} for the big data {key:?}, which it does not list")]
    UnlistedBigData {
        image: String,
        key: String,
        what: &'static str,
    },
    #[error("the big data {key:?} of the image {image:?} has {found} bytes, not {expected}")]
    BigDataSize {
        image: String,
        key: String,
        expected: String,
        found: u64,
    },
    #[error("the big data {key:?} of the image {image:?} is {found}, not {expected:?}")]
    BigDataDigest {
        image: String,
        key: String,
        expected: String,
        found: String,
    },
    /// podman fails for all images.
    #[error("read the big data {key:?} of the image {image:?}")]
    Document {
        image: String,
        key: String,
        source: DocumentError,
    },
    #[error("the {key:?} of the image {image:?} is that of the config {found}")]
    ManifestConfig {
        image: String,
        key: String,
        found: String,
    },
    /// podman cannot save, push or build on the image.
    #[error(
        "the image {image:?} has {chain} layers, its config {diff_ids} and its {key:?} {manifest}"
    )]
    LayerCount {
        image: String,
        chain: usize,
        diff_ids: usize,
        key: String,
        manifest: usize,
    },
    #[error("the layer {layer:?} of the image {image:?} is {found:?}, its config says {expected}")]
    DiffId {
        image: String,
        layer: String,
        expected: String,
        found: String,
    },

    /// In podman's overlay it would hide a file of a container.
    #[error("{path} is a whiteout")]
    Whiteout { path: String },
    /// In podman's overlay it would come alive.
    #[error("{path} has the extended attribute {name:?}")]
    Xattr { path: String, name: String },
    #[error("{path} is no name that a file can have")]
    FileName { path: String },
    #[error("{path} has a {what} that no file can have")]
    Impossible { path: String, what: &'static str },
}
