//! Manifests, indexes and configs: parsed, bounded, and nothing believed.
//!
//! Pure: these functions are what the fuzz targets call.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    Compression,
    json::refuse_ambiguous,
    media_type::{self, DocumentKind},
};
use crate::name::{BlobDigest, DiffId, Digest, DigestError, Platform};

/// The longest manifest, index or config that is read, in bytes: the limit of
/// containers/image (`internal/iolimits`).
pub const DOCUMENT_LIMIT_BYTES: u64 = 4 << 20;

/// The most layers an image may have: c/storage's overlay driver makes no more.
pub const LAYER_LIMIT: usize = 500;

/// Why bytes are no manifest, index or config of an image that can be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// Longer than [`DOCUMENT_LIMIT_BYTES`].
    #[error("it is {found} bytes long, more than {DOCUMENT_LIMIT_BYTES}")]
    TooLong {
        /// How long it is.
        found: u64,
    },
    /// No JSON, JSON of another shape, or JSON with two readings.
    #[error("its JSON is not as expected")]
    Json(#[from] serde_json::Error),
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
    #[error("it has the fields of a manifest and of an index: {fields}")]
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
            | Self::UnknownLayer { .. }
            | Self::TooManyLayers { .. } => false,
        }
    }
}

/// A manifest, as far as an image needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestDocument {
    /// The config.
    pub config: Descriptor,
    /// The layers, base first; an image of metadata alone has none.
    pub layers: Vec<LayerBlob>,
}

/// Digest and size of a document: a claim until its bytes are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Digest of its bytes.
    pub digest: BlobDigest,
    /// Their number.
    pub size: u64,
}

impl Descriptor {
    /// The true one of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            digest: BlobDigest::of(bytes),
            size: bytes.len() as u64,
        }
    }
}

/// A layer as a manifest describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerBlob {
    /// Digest of the blob.
    pub digest: BlobDigest,
    /// Its size in bytes.
    pub size: u64,
    /// From its media type.
    pub compression: Compression,
}

/// An index (manifest list).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexDocument {
    /// What it lists, in its order.
    pub entries: Vec<IndexEntry>,
}

/// One entry of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// The document it names.
    pub document: Descriptor,
    /// What the entry says it is; the bytes decide.
    pub kind: Option<DocumentKind>,
    /// The platform, where it states one with an architecture.
    pub platform: Option<Platform>,
    /// It says of itself that it is no image: an attestation, a signature.
    pub is_artifact: bool,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A config, as far as resolving needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigDocument {
    /// What it was built for, where it says so.
    pub platform: Option<Platform>,
    /// The DiffIDs, base first.
    pub diff_ids: Vec<DiffId>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: i64,
    #[serde(default)]
    platform: Option<RawPlatform>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

impl RawPlatform {
    fn platform(self) -> Option<Platform> {
        let named = !self.os.is_empty() && !self.architecture.is_empty();
        named.then_some(Platform {
            os: self.os,
            architecture: self.architecture,
            variant: self.variant.filter(|variant| !variant.is_empty()),
        })
    }
}

impl RawDescriptor {
    fn check(&self, field: &str) -> Result<Descriptor, DocumentError> {
        Ok(Descriptor {
            digest: digest(&self.digest, field)?,
            size: u64::try_from(self.size).map_err(|_| DocumentError::Size {
                field: format!("the size of {field}"),
                found: self.size,
            })?,
        })
    }
}

fn digest<K>(text: &str, field: &str) -> Result<Digest<K>, DocumentError> {
    text.parse().map_err(|source| DocumentError::Digest {
        field: format!("the digest of {field}"),
        source,
    })
}

fn bounded(bytes: &[u8]) -> Result<(), DocumentError> {
    let found = bytes.len() as u64;
    if found > DOCUMENT_LIMIT_BYTES {
        return Err(DocumentError::TooLong { found });
    }
    Ok(refuse_ambiguous(bytes)?)
}

/// Tells whether bytes are a manifest or an index, as containers/image does:
/// by `mediaType`, and where that is missing by the fields.
///
/// # Errors
/// [`DocumentError`] for what is neither, for schema 1, and for documents that
/// carry the fields of both.
pub fn document_kind(bytes: &[u8]) -> Result<DocumentKind, DocumentError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Fields {
        #[serde(default)]
        media_type: Option<String>,
        #[serde(default)]
        schema_version: i64,
        #[serde(default)]
        config: Option<serde::de::IgnoredAny>,
        #[serde(default)]
        layers: Option<serde::de::IgnoredAny>,
        #[serde(default)]
        manifests: Option<serde::de::IgnoredAny>,
        #[serde(default)]
        fs_layers: Option<serde::de::IgnoredAny>,
    }
    bounded(bytes)?;
    let fields: Fields = serde_json::from_slice(bytes)?;
    if fields.schema_version == 1 {
        return Err(DocumentError::Schema1);
    }
    if fields.fs_layers.is_some() {
        return Err(DocumentError::TwoKinds {
            fields: "fsLayers and schemaVersion 2",
        });
    }
    let manifest = fields.config.is_some() || fields.layers.is_some();
    let index = fields.manifests.is_some();
    if manifest && index {
        return Err(DocumentError::TwoKinds {
            fields: "manifests beside config or layers",
        });
    }
    let found = match fields.media_type.as_deref().filter(|text| !text.is_empty()) {
        Some(text) => media_type::document(text).ok_or_else(|| DocumentError::Kind {
            expected: "an image manifest or index",
            found: format!("media type {text:?}"),
        })?,
        None if index => DocumentKind::Index,
        None => DocumentKind::Manifest,
    };
    let (fits, expected, found_fields) = match found {
        DocumentKind::Manifest => (manifest, "a manifest with config and layers", "neither"),
        DocumentKind::Index => (index, "an index with manifests", "none"),
    };
    if !fits {
        return Err(DocumentError::Kind {
            expected,
            found: found_fields.into(),
        });
    }
    Ok(found)
}

fn expect_kind(bytes: &[u8], expected: DocumentKind) -> Result<(), DocumentError> {
    let found = document_kind(bytes)?;
    if found != expected {
        return Err(DocumentError::Kind {
            expected: expected.as_str(),
            found: found.as_str().into(),
        });
    }
    Ok(())
}

/// Parses an OCI or docker v2s2 manifest.
///
/// # Errors
/// [`DocumentError`]: also for artifacts, and for layers that are foreign,
/// encrypted or of no known kind.
pub fn parse_manifest(bytes: &[u8]) -> Result<ManifestDocument, DocumentError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct RawManifest {
        #[serde(default)]
        artifact_type: Option<String>,
        config: RawDescriptor,
        layers: Vec<RawDescriptor>,
    }
    expect_kind(bytes, DocumentKind::Manifest)?;
    let raw: RawManifest = serde_json::from_slice(bytes)?;
    if let Some(found) = raw.artifact_type.filter(|text| !text.is_empty()) {
        return Err(DocumentError::Artifact { found });
    }
    if !media_type::is_image_config(&raw.config.media_type) {
        return Err(DocumentError::Artifact {
            found: raw.config.media_type,
        });
    }
    if raw.layers.len() > LAYER_LIMIT {
        return Err(DocumentError::TooManyLayers {
            found: raw.layers.len(),
        });
    }
    let layer = |(index, raw): (usize, &RawDescriptor)| {
        let compression = media_type::layer(&raw.media_type, index)?;
        let Descriptor { digest, size } = raw.check(&format!("layer {index}"))?;
        Ok(LayerBlob {
            digest,
            size,
            compression,
        })
    };
    Ok(ManifestDocument {
        config: raw.config.check("the config")?,
        layers: raw
            .layers
            .iter()
            .enumerate()
            .map(layer)
            .collect::<Result<_, DocumentError>>()?,
    })
}

/// Parses an OCI index or docker manifest list. Its entries may be anything.
///
/// # Errors
/// [`DocumentError`].
pub fn parse_index(bytes: &[u8]) -> Result<IndexDocument, DocumentError> {
    #[derive(Deserialize)]
    struct RawIndex {
        manifests: Vec<RawDescriptor>,
    }
    expect_kind(bytes, DocumentKind::Index)?;
    let raw: RawIndex = serde_json::from_slice(bytes)?;
    let entry = |(index, raw): (usize, RawDescriptor)| {
        let document = raw.check(&format!("entry {index}"))?;
        let annotations = raw.annotations.unwrap_or_default();
        // buildkit's attestations: an image by media type, of platform unknown.
        let unknown = raw
            .platform
            .as_ref()
            .is_some_and(|platform| platform.os == "unknown" || platform.architecture == "unknown");
        let kind = media_type::document(&raw.media_type);
        let known_kind = raw.media_type.is_empty() || kind.is_some();
        let is_artifact = unknown
            || !known_kind
            || raw.artifact_type.is_some_and(|text| !text.is_empty())
            || annotations.contains_key("vnd.docker.reference.type");
        Ok(IndexEntry {
            document,
            kind,
            platform: raw.platform.and_then(RawPlatform::platform),
            is_artifact,
            annotations,
        })
    };
    Ok(IndexDocument {
        entries: raw
            .manifests
            .into_iter()
            .enumerate()
            .map(entry)
            .collect::<Result<_, DocumentError>>()?,
    })
}

/// Parses an image config, and refuses what would make podman fail for every
/// image of the store: it reads the configs of all of them.
///
/// # Errors
/// [`DocumentError`].
pub fn parse_config(bytes: &[u8]) -> Result<ConfigDocument, DocumentError> {
    bounded(bytes)?;
    let raw: super::raw_config::RawConfig = serde_json::from_slice(bytes)?;
    for (field, time) in raw.times() {
        if !super::raw_config::is_time(time) {
            return Err(DocumentError::Time {
                field,
                found: time.to_owned(),
            });
        }
    }
    let kind = raw.rootfs.kind.as_str();
    if !matches!(kind, "layers" | "") {
        return Err(DocumentError::Rootfs { found: kind.into() });
    }
    let diff_ids = raw.rootfs.diff_ids.unwrap_or_default();
    if diff_ids.len() > LAYER_LIMIT {
        return Err(DocumentError::TooManyLayers {
            found: diff_ids.len(),
        });
    }
    let platform = RawPlatform {
        os: raw.os,
        architecture: raw.architecture,
        variant: raw.variant,
    };
    Ok(ConfigDocument {
        platform: platform.platform(),
        diff_ids: diff_ids
            .iter()
            .enumerate()
            .map(|(index, text)| digest(text, &format!("rootfs.diff_ids[{index}]")))
            .collect::<Result<_, DocumentError>>()?,
    })
}
