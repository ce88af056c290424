//! Manifests and indexes.

use std::collections::BTreeMap;

use super::{
    Compression, DocumentError, DocumentKind, LAYER_LIMIT, json::Json, media_type,
    shape::MANIFEST_OR_INDEX,
};
use crate::name::{BlobDigest, Digest, Platform};

/// A manifest (OCI image-spec `manifest.md`, docker v2 schema 2), as far as an
/// image needs it.
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

    fn read(json: &Json<'_>, field: &str) -> Result<Self, DocumentError> {
        let size = match json.get("size") {
            Json::Integer(size) => *size,
            _ => return Err(DocumentError::Missing(format!("the size of {field}"))),
        };
        Ok(Self {
            digest: digest(json.get("digest"), &format!("the digest of {field}"))?,
            size: u64::try_from(size).map_err(|_| DocumentError::Size {
                field: format!("the size of {field}"),
                found: size,
            })?,
        })
    }
}

/// A layer as a manifest describes it: a claim until its bytes are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerBlob {
    /// Digest of the blob.
    pub digest: BlobDigest,
    /// Its size in bytes.
    pub size: u64,
    /// From its media type.
    pub compression: Compression,
}

/// A signature as the manifest that holds it describes it: claims, all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureLayer {
    /// What is signed: a blob of JSON.
    pub payload: Descriptor,
    /// Its media type: whoever checks the signature decides what it means.
    pub media_type: String,
    /// The signature itself, certificates and the like.
    pub annotations: BTreeMap<String, String>,
}

/// An index (OCI image-spec `image-index.md`, docker's manifest list).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexDocument {
    /// What it lists, in its order; it may list one document many times, or
    /// itself.
    pub entries: Vec<IndexEntry>,
    /// Its own annotations.
    pub annotations: BTreeMap<String, String>,
}

/// What any manifest refers to, an image's or an artifact's: claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct References {
    /// Config and layers.
    pub blobs: Vec<Descriptor>,
    /// What it says something about: a signature's image.
    pub subject: Option<Descriptor>,
}

/// One entry of an index: claims, until the document it names is read.
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

pub(super) fn digest<K>(json: &Json<'_>, field: &str) -> Result<Digest<K>, DocumentError> {
    json.text().parse().map_err(|source| DocumentError::Digest {
        field: field.to_owned(),
        source,
    })
}

/// The platform, where it is named.
pub(super) fn platform(json: &Json<'_>) -> Option<Platform> {
    let text = |name| Some(json.get(name).text().to_owned()).filter(|text| !text.is_empty());
    Some(Platform {
        os: text("os")?,
        architecture: text("architecture")?,
        variant: text("variant"),
    })
}

/// Tells whether bytes are a manifest or an index, as containers/image does:
/// by `mediaType`, and where that is missing by the fields.
///
/// # Errors
/// [`DocumentError`] for what is neither, for schema 1, and for documents that
/// carry the fields of both.
pub fn document_kind(bytes: &[u8]) -> Result<DocumentKind, DocumentError> {
    kind(&Json::read(bytes, &MANIFEST_OR_INDEX)?)
}

/// The media type that a manifest or index says it has, else OCI's.
///
/// # Errors
/// As [`document_kind`].
pub fn document_media_type(bytes: &[u8]) -> Result<String, DocumentError> {
    let json = Json::read(bytes, &MANIFEST_OR_INDEX)?;
    let said = json.get("mediaType").text();
    Ok(match (kind(&json)?, said) {
        (DocumentKind::Manifest, "") => media_type::OCI_MANIFEST.to_owned(),
        (DocumentKind::Index, "") => media_type::OCI_INDEX.to_owned(),
        (_, said) => said.to_owned(),
    })
}

/// What a manifest refers to, whatever it is the manifest of.
///
/// # Errors
/// [`DocumentError`].
pub fn parse_references(bytes: &[u8]) -> Result<References, DocumentError> {
    let manifest = read(bytes, DocumentKind::Manifest)?;
    let mut blobs = Vec::new();
    let config = manifest.get("config");
    if !config.is_null() {
        blobs.push(Descriptor::read(config, "the config")?);
    }
    for (index, layer) in manifest.get("layers").items().iter().enumerate() {
        blobs.push(Descriptor::read(layer, &format!("layer {index}"))?);
    }
    let subject = manifest.get("subject");
    let subject = match subject.is_null() {
        true => None,
        false => Some(Descriptor::read(subject, "the subject")?),
    };
    Ok(References { blobs, subject })
}

fn kind(json: &Json<'_>) -> Result<DocumentKind, DocumentError> {
    let has = |name| !json.get(name).is_null();
    if matches!(json.get("schemaVersion"), Json::Integer(1)) {
        return Err(DocumentError::Schema1);
    }
    // containers/image, `ValidateUnambiguousManifestFormat`.
    let is_manifest = has("config") || has("layers");
    let is_index = has("manifests");
    for (both, fields) in [
        (has("fsLayers"), "fsLayers, which are of schema 1"),
        (has("history"), "history, which is of schema 1"),
        (is_manifest && is_index, "manifests beside config or layers"),
    ] {
        if both {
            return Err(DocumentError::TwoKinds { fields });
        }
    }
    let found = match json.get("mediaType").text() {
        "" if is_index => DocumentKind::Index,
        "" => DocumentKind::Manifest,
        text => media_type::document(text).ok_or_else(|| DocumentError::Kind {
            expected: "an image manifest or index",
            found: format!("media type {text:?}"),
        })?,
    };
    let (fits, expected, none) = match found {
        DocumentKind::Manifest => (is_manifest, "a manifest with config and layers", "neither"),
        DocumentKind::Index => (is_index, "an index with manifests", "none"),
    };
    if !fits {
        return Err(DocumentError::Kind {
            expected,
            found: none.into(),
        });
    }
    Ok(found)
}

fn read(bytes: &[u8], expected: DocumentKind) -> Result<Json<'_>, DocumentError> {
    let json = Json::read(bytes, &MANIFEST_OR_INDEX)?;
    let found = kind(&json)?;
    if found != expected {
        return Err(DocumentError::Kind {
            expected: expected.as_str(),
            found: found.as_str().into(),
        });
    }
    Ok(json)
}

/// Parses an OCI or docker v2s2 manifest.
///
/// # Errors
/// [`DocumentError`]: also for artifacts, and for layers that are foreign,
/// encrypted or of no known kind.
pub fn parse_manifest(bytes: &[u8]) -> Result<ManifestDocument, DocumentError> {
    let manifest = read(bytes, DocumentKind::Manifest)?;
    let config = manifest.get("config");
    if config.is_null() {
        return Err(DocumentError::Missing("its config".into()));
    }
    let artifact = manifest.get("artifactType").text();
    let config_type = config.get("mediaType").text();
    for (found, is_artifact) in [
        (artifact, !artifact.is_empty()),
        (config_type, !media_type::is_image_config(config_type)),
    ] {
        if is_artifact {
            let found = found.to_owned();
            return Err(DocumentError::Artifact { found });
        }
    }
    let media_type = manifest.get("mediaType").text();
    if media_type.is_empty() && !matches!(manifest.get("schemaVersion"), Json::Integer(2)) {
        return Err(DocumentError::Missing(
            "its mediaType or schemaVersion 2".into(),
        ));
    }
    let docker = media_type == media_type::DOCKER_MANIFEST;
    let fits = |fits: bool, field: &str, text: &str| match fits {
        true => Ok(()),
        false => Err(DocumentError::Mixed {
            field: field.to_owned(),
            media_type: text.to_owned(),
            format: if docker { "a docker" } else { "an OCI" },
        }),
    };
    fits(
        media_type::config_fits(config_type, docker),
        "the config",
        config_type,
    )?;
    let layers = manifest.get("layers").items();
    if layers.len() > LAYER_LIMIT {
        return Err(DocumentError::TooManyLayers {
            found: layers.len(),
        });
    }
    let layer = |(index, layer): (usize, &Json<'_>)| {
        let (field, text) = (format!("layer {index}"), layer.get("mediaType").text());
        let compression = media_type::layer(text, index)?;
        fits(media_type::layer_fits(text, docker), &field, text)?;
        let Descriptor { digest, size } = Descriptor::read(layer, &field)?;
        Ok(LayerBlob {
            digest,
            size,
            compression,
        })
    };
    Ok(ManifestDocument {
        config: Descriptor::read(config, "the config")?,
        layers: layers
            .iter()
            .enumerate()
            .map(layer)
            .collect::<Result<_, DocumentError>>()?,
    })
}

/// Parses the manifest that cosign keeps signatures in: each layer is one.
///
/// # Errors
/// [`DocumentError`].
pub fn parse_signatures(bytes: &[u8]) -> Result<Vec<SignatureLayer>, DocumentError> {
    let manifest = read(bytes, DocumentKind::Manifest)?;
    let layers = manifest.get("layers").items();
    if layers.len() > LAYER_LIMIT {
        return Err(DocumentError::TooManyLayers {
            found: layers.len(),
        });
    }
    let layer = |(at, layer): (usize, &Json<'_>)| {
        Ok(SignatureLayer {
            payload: Descriptor::read(layer, &format!("layer {at}"))?,
            media_type: layer.get("mediaType").text().to_owned(),
            annotations: annotations(layer),
        })
    };
    layers.iter().enumerate().map(layer).collect()
}

fn annotations(json: &Json<'_>) -> BTreeMap<String, String> {
    let members = json.get("annotations").members().iter();
    members
        .map(|(key, value)| (key.clone(), value.text().to_owned()))
        .collect()
}

/// Parses an OCI index or docker manifest list. Its entries may be anything.
///
/// # Errors
/// [`DocumentError`].
pub fn parse_index(bytes: &[u8]) -> Result<IndexDocument, DocumentError> {
    let index = read(bytes, DocumentKind::Index)?;
    let entry = |(at, entry): (usize, &Json<'_>)| {
        let annotations = annotations(entry);
        let stated = entry.get("platform");
        // buildkit's attestations: an image by media type, of platform unknown.
        let unknown = ["os", "architecture"].map(|name| stated.get(name).text() == "unknown");
        let text = entry.get("mediaType").text();
        let kind = media_type::document(text);
        Ok(IndexEntry {
            document: Descriptor::read(entry, &format!("entry {at}"))?,
            kind,
            platform: platform(stated),
            is_artifact: unknown.contains(&true)
                || !(text.is_empty() || kind.is_some())
                || !entry.get("artifactType").text().is_empty()
                || annotations.contains_key("vnd.docker.reference.type"),
            annotations,
        })
    };
    let entries = index.get("manifests").items().iter().enumerate();
    Ok(IndexDocument {
        entries: entries.map(entry).collect::<Result<_, DocumentError>>()?,
        annotations: annotations(&index),
    })
}
