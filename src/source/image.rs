//! What resolving hands on: the documents of one image, verified against each other.

use std::io::Read;

use crate::{
    document::{self, Compression, Descriptor, DocumentError},
    name::{BlobDigest, ConfigDigest, DiffId, ImageName, IndexDigest, ManifestDigest, Platform},
};

/// One bound image, resolved: its manifest, config and perhaps index, hashed
/// and parsed, and its layers described. No layer has been read yet.
///
/// Only [`ResolvedImage::new`] and [`ResolvedImage::stored`] make one. What the documents say of the layers
/// is still a claim: whoever reads a layer hashes it.
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
    _checked: Checked,
}

/// Keeps [`ResolvedImage`] from being written down as a literal.
#[derive(Debug, Clone)]
struct Checked;

/// The documents of one image, as some source served them: nothing checked.
#[derive(Debug, Clone)]
pub struct Documents {
    /// The name the image is bound under.
    pub name: ImageName,
    /// The indexes that led to the manifest, top-level first; mostly none or one.
    pub indexes: Vec<Vec<u8>>,
    /// The manifest.
    pub manifest: Vec<u8>,
    /// The config.
    pub config: Vec<u8>,
    /// Why the image is accepted.
    pub verdict: String,
}

/// What is wrong with the documents of an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// One of the documents is unusable.
    #[error("{what} is unusable")]
    Document {
        /// Which, with its digest.
        what: String,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// The bytes are not those that were asked for.
    #[error(
        "{wanted_by} asks for {expected}, but this is {found}; if the image was rebuilt, update the pin or the lock"
    )]
    NotThePinned {
        /// The name, or the lock.
        wanted_by: String,
        /// The digest asked for.
        expected: ManifestDigest,
        /// What there is: the manifest, and the index it was chosen from.
        found: String,
    },
    /// An index does not list the document that is said to come from it.
    #[error("index {index} does not list {child} with {child_bytes} bytes")]
    NotInIndex {
        /// The index.
        index: IndexDigest,
        /// The document.
        child: BlobDigest,
        /// Its true size.
        child_bytes: u64,
    },
    /// The config is another than the manifest names.
    #[error(
        "manifest {manifest} names config {} of {} bytes, but this is {} of {} bytes",
        expected.digest, expected.size, found.digest, found.size
    )]
    Config {
        /// The manifest.
        manifest: ManifestDigest,
        /// What it names.
        expected: Descriptor,
        /// What there is.
        found: Descriptor,
    },
    /// Manifest and config count different layers.
    #[error("manifest {manifest} has {layers} layers, but config {config} has {diff_ids} DiffIDs")]
    LayerCount {
        /// The manifest.
        manifest: ManifestDigest,
        /// Its layers.
        layers: usize,
        /// The config.
        config: ConfigDigest,
        /// Its DiffIDs.
        diff_ids: usize,
    },
    /// It is an image for another platform.
    #[error("the image is for {found}, but {wanted} is wanted")]
    Platform {
        /// What was asked for.
        wanted: Box<Platform>,
        /// What the index or the config says.
        found: Box<Platform>,
    },
}

impl ImageError {
    /// Whether what was served contradicts itself: damage, or a lie.
    pub fn is_corrupt(&self) -> bool {
        match self {
            Self::Document { source, .. } => source.is_corrupt(),
            Self::NotThePinned { .. } | Self::Platform { .. } => false,
            Self::NotInIndex { .. } | Self::Config { .. } | Self::LayerCount { .. } => true,
        }
    }
}

impl ResolvedImage {
    /// Checks `documents` against each other and against what is wanted: the
    /// pin in the name, the `locked` digest, and `platform`.
    ///
    /// A pin or a lock may name the top-level index or the manifest. Where an
    /// index states the manifest's platform that counts, otherwise the config's.
    ///
    /// # Errors
    /// [`ImageError`]: any hash, size or count that does not agree.
    pub fn new(
        documents: Documents,
        platform: &Platform,
        locked: Option<ManifestDigest>,
    ) -> Result<Self, ImageError> {
        let Documents {
            name,
            indexes,
            manifest,
            config,
            verdict,
        } = documents;
        let manifest_digest = ManifestDigest::of(&manifest);
        let top = indexes.first().map(|bytes| IndexDigest::of(bytes));
        let pins = [
            (name.to_string(), name.pinned()),
            ("the lock".to_owned(), locked),
        ];
        for (wanted_by, pin) in pins {
            if let Some(expected) = pin
                && expected != manifest_digest
                && Some(expected.cast()) != top
            {
                let chosen = top.map(|top| format!(", chosen from index {top}"));
                return Err(ImageError::NotThePinned {
                    wanted_by,
                    expected,
                    found: format!("manifest {manifest_digest}{}", chosen.unwrap_or_default()),
                });
            }
        }

        let stated = check_chain(&indexes, &manifest)?;
        let (image, of_config) = Self::of_documents(name, manifest, config, verdict)?;
        if let Some(found) = stated.or(of_config)
            && !platform.accepts(&found)
        {
            return Err(ImageError::Platform {
                wanted: Box::new(platform.clone()),
                found: Box::new(found),
            });
        }
        Ok(Self {
            index: top.zip(indexes.into_iter().next()),
            ..image
        })
    }

    /// Checks the documents of an image that was resolved and stored before:
    /// against each other only, whatever pin the name has.
    ///
    /// # Errors
    /// As those of [`ResolvedImage::new`].
    pub fn stored(
        name: ImageName,
        manifest: Vec<u8>,
        config: Vec<u8>,
        verdict: String,
    ) -> Result<Self, ImageError> {
        Ok(Self::of_documents(name, manifest, config, verdict)?.0)
    }

    /// The image, and the platform that its config states.
    fn of_documents(
        name: ImageName,
        manifest: Vec<u8>,
        config: Vec<u8>,
        verdict: String,
    ) -> Result<(Self, Option<Platform>), ImageError> {
        let manifest_digest = ManifestDigest::of(&manifest);
        let parsed =
            document::parse_manifest(&manifest).map_err(|source| ImageError::Document {
                what: format!("manifest {manifest_digest}"),
                source,
            })?;
        let found = Descriptor::of(&config);
        if found != parsed.config {
            return Err(ImageError::Config {
                manifest: manifest_digest,
                expected: parsed.config,
                found,
            });
        }
        let config_digest: ConfigDigest = found.digest.cast();
        let of_config = document::parse_config(&config).map_err(|source| ImageError::Document {
            what: format!("config {config_digest}"),
            source,
        })?;
        if parsed.layers.len() != of_config.diff_ids.len() {
            return Err(ImageError::LayerCount {
                manifest: manifest_digest,
                layers: parsed.layers.len(),
                config: config_digest,
                diff_ids: of_config.diff_ids.len(),
            });
        }
        let layers = parsed.layers.iter().zip(of_config.diff_ids);
        let image = Self {
            name,
            manifest_digest,
            manifest,
            index: None,
            config_digest,
            config,
            layers: layers
                .map(|(blob, diff_id)| LayerDescriptor {
                    diff_id,
                    blob_digest: blob.digest,
                    blob_size: blob.size,
                    // docker-archive manifests say gzip and name the plain tar.
                    compression: if blob.digest.cast() == diff_id {
                        Compression::None
                    } else {
                        blob.compression
                    },
                })
                .collect(),
            verdict,
            _checked: Checked,
        };
        Ok((image, of_config.platform))
    }

    /// Replaces the verdict, where it is known only after the documents.
    #[must_use]
    pub(super) fn with_verdict(self, verdict: String) -> Self {
        Self { verdict, ..self }
    }
}

/// Each index lists the next one, the last lists the manifest; returns the
/// platform that the last states for it.
fn check_chain(indexes: &[Vec<u8>], manifest: &[u8]) -> Result<Option<Platform>, ImageError> {
    let mut stated = None;
    for (at, bytes) in indexes.iter().enumerate() {
        let index = IndexDigest::of(bytes);
        let child = Descriptor::of(indexes.get(at + 1).map_or(manifest, Vec::as_slice));
        let parsed = document::parse_index(bytes).map_err(|source| ImageError::Document {
            what: format!("index {index}"),
            source,
        })?;
        let entry = parsed.entries.into_iter().find(|e| e.document == child);
        let Some(entry) = entry else {
            return Err(ImageError::NotInIndex {
                index,
                child: child.digest,
                child_bytes: child.size,
            });
        };
        stated = entry.platform;
    }
    Ok(stated)
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

/// The bytes of one layer, ready to be read once.
pub struct LayerData {
    /// The bytes: a blob as the manifest describes it, or a tar.
    pub reader: Box<dyn Read + Send>,
    /// Which, and what of it is yet to be checked.
    pub form: LayerForm,
}

/// What a [`LayerData`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerForm {
    /// The blob: its digest and size are the descriptor's, or the layer is bad.
    Blob,
    /// The blob, which has been hashed: the DiffID is yet to be checked.
    HashedBlob,
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
