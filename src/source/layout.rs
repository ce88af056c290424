//! `oci:`: image layouts, in a folder or inside an archive.

use std::{io::Read, path::Path};

use serde::Deserialize;

use super::{
    LayerData, LayerForm, ResolvedImage, SourceError, Wanted,
    choose::choose,
    files::{Files, blob_path, read_document, verified},
    image::Documents,
    signatures::Signature,
};
use crate::{
    document::{
        DOCUMENT_LIMIT_BYTES, Descriptor, DocumentError, IndexEntry, parse_index, parse_manifest,
        parse_signatures,
    },
    name::{BlobDigest, ImageName, ManifestDigest},
    sys::RootDir,
};

/// What an entry of a layout is called.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// An image layout (OCI image spec, image-layout.md), held open.
///
/// Blobs are read from `blobs/sha256/` alone and hashed before they are parsed;
/// layers are hashed by whoever reads them.
#[derive(Debug)]
pub struct Layout {
    files: Box<dyn Files>,
    origin: String,
    reference: Option<String>,
    entries: Vec<IndexEntry>,
    signatures: Vec<IndexEntry>,
}

impl Layout {
    /// Opens the layout in the folder `path`; with a `reference` only the images
    /// of that name are seen.
    ///
    /// # Errors
    /// [`SourceError`]: no layout, or an `index.json` that is unusable.
    pub fn open_dir(path: &Path, reference: Option<&str>) -> Result<Self, SourceError> {
        let files = RootDir::open(path)?;
        Self::open(
            Box::new(files),
            format!("oci:{}", path.display()),
            reference,
        )
    }

    pub(super) fn open(
        files: Box<dyn Files>,
        origin: String,
        reference: Option<&str>,
    ) -> Result<Self, SourceError> {
        #[derive(Deserialize)]
        struct Marker {
            #[serde(rename = "imageLayoutVersion")]
            version: String,
        }
        let missing = |name: &str| SourceError::Damaged {
            origin: origin.clone(),
            reason: format!("it has no file {name}, so it is no OCI image layout"),
        };
        let marker =
            read_document(&*files, "oci-layout", &origin)?.ok_or_else(|| missing("oci-layout"))?;
        let marker: Marker =
            serde_json::from_slice(&marker).map_err(|error| SourceError::Damaged {
                origin: origin.clone(),
                reason: format!("its oci-layout is no JSON with an imageLayoutVersion: {error}"),
            })?;
        if !marker.version.starts_with("1.") {
            return Err(SourceError::Unsupported {
                origin,
                reason: format!("its layout version is {:?}, not 1.x", marker.version),
            });
        }
        let index =
            read_document(&*files, "index.json", &origin)?.ok_or_else(|| missing("index.json"))?;
        let index = parse_index(&index).map_err(|source| SourceError::Document {
            what: "index.json".into(),
            origin: origin.clone(),
            source,
        })?;
        let (signatures, entries) = index.entries.into_iter().partition(is_signature);
        Ok(Self {
            files,
            origin,
            reference: reference.map(str::to_owned),
            entries,
            signatures,
        })
    }

    /// Resolves `wanted` from a layout that was named for it: by REF, else by
    /// its digest, its full name, its bare tag, else the only image there is.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn resolve(&self, wanted: &Wanted) -> Result<ResolvedImage, SourceError> {
        if let Some(image) = self.find(wanted)? {
            return Ok(image);
        }
        let mut entries = self.visible();
        if self.reference.is_none()
            && let Some(tag) = wanted.name.tag()
            && entries.iter().any(|entry| is_bare_tag(entry, tag))
        {
            entries.retain(|entry| is_bare_tag(entry, tag));
        }
        let entry = self.sole(entries, wanted)?.ok_or_else(|| {
            wanted.not_found(self.reference.as_deref(), &self.origin, self.held())
        })?;
        self.resolve_entry(wanted, &entry.document)
    }

    /// Resolves `wanted` if this layout holds it by its digest or its full name.
    ///
    /// A bare tag is not enough here: any image of any repository may be called
    /// `latest`.
    ///
    /// # Errors
    /// [`SourceError`]: it is held, but damaged or not for the platform.
    pub fn find(&self, wanted: &Wanted) -> Result<Option<ResolvedImage>, SourceError> {
        for pin in wanted.pins() {
            if let Some(document) = self.held_digest(&pin)? {
                return self.resolve_entry(wanted, &document).map(Some);
            }
        }
        if wanted.pins().next().is_some() {
            return Ok(None);
        }
        let mut entries = self.visible();
        entries.retain(|entry| names(entry).any(|name| name == wanted.name));
        match self.sole(entries, wanted)? {
            Some(entry) => self.resolve_entry(wanted, &entry.document).map(Some),
            None => Ok(None),
        }
    }

    /// Opens layer `index` of an image that was resolved here.
    ///
    /// # Errors
    /// [`SourceError`]: its blob is missing or of another size.
    pub fn open_layer(
        &self,
        image: &ResolvedImage,
        index: usize,
    ) -> Result<LayerData, SourceError> {
        let layer = image.layer(index, &self.origin)?;
        let what = format!("layer {index}");
        let file = self
            .files
            .open(&blob_path(&layer.blob_digest))?
            .ok_or_else(|| self.missing(&what, layer.blob_digest))?;
        if file.size != layer.blob_size {
            return Err(SourceError::Mismatch {
                what: format!("{what} {}", layer.blob_digest),
                origin: self.origin.clone(),
                expected: format!("{} bytes", layer.blob_size),
                found: format!("{} bytes", file.size),
            });
        }
        Ok(LayerData {
            reader: file.reader,
            form: LayerForm::Blob,
        })
    }

    /// What this layout holds, for messages.
    pub fn held(&self) -> Vec<String> {
        self.entries
            .iter()
            .filter(|entry| !entry.is_artifact)
            .map(|entry| match annotated(entry).next() {
                Some(name) => name.to_owned(),
                None => format!("@{}", entry.document.digest),
            })
            .collect()
    }

    /// The signatures that are kept for the document `signed`, as cosign names
    /// them; nothing in them is believed but that their bytes are whole.
    ///
    /// All that is read for them is at most as long as one document: who fills
    /// a layout with signatures costs nobody more.
    pub(super) fn signatures(&self, signed: &BlobDigest) -> Result<Vec<Signature>, SourceError> {
        let tag = format!("sha256-{}.sig", signed.hex());
        let mut documents: Vec<Descriptor> = self
            .signatures
            .iter()
            .filter(|entry| annotated(entry).any(|name| last_of(name) == tag))
            .map(|entry| entry.document)
            .collect();
        documents.dedup();
        let mut left = DOCUMENT_LIMIT_BYTES;
        let mut read = |what, document: &Descriptor| {
            let rest = left.checked_sub(document.size);
            left = rest.ok_or_else(|| SourceError::Document {
                what: tag.clone(),
                origin: self.origin.clone(),
                source: DocumentError::TooLong {
                    found: DOCUMENT_LIMIT_BYTES.saturating_add(document.size),
                },
            })?;
            self.document(what, document)
        };
        let mut signatures = Vec::new();
        for document in &documents {
            let manifest = read("signature", document)?;
            let layers = parse_signatures(&manifest).map_err(|source| SourceError::Document {
                what: format!("{tag} {}", document.digest),
                origin: self.origin.clone(),
                source,
            })?;
            for layer in layers {
                signatures.push(Signature {
                    payload: read("payload of a signature", &layer.payload)?,
                    media_type: layer.media_type,
                    annotations: layer.annotations,
                });
            }
        }
        Ok(signatures)
    }

    /// Where it is, as text.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What its index lists, whatever that is; with a reference, what has it.
    pub fn entries(&self) -> impl Iterator<Item = &IndexEntry> {
        let reference = self.reference.as_deref();
        let meant = move |entry: &&IndexEntry| {
            reference.is_none_or(|reference| has_reference(entry, reference))
        };
        self.entries.iter().filter(meant)
    }

    /// All that its index lists.
    pub(super) fn all_entries(&self) -> impl Iterator<Item = &IndexEntry> {
        self.entries.iter().chain(&self.signatures)
    }

    /// Reads a document, and checks it against its descriptor.
    ///
    /// # Errors
    /// [`SourceError`]: missing, too long, other bytes.
    pub fn read(&self, what: &str, document: &Descriptor) -> Result<Vec<u8>, SourceError> {
        self.document(what, document)
    }

    /// Opens a blob, whose bytes nobody has checked.
    ///
    /// # Errors
    /// [`SourceError`]: it is missing.
    pub fn open_blob(
        &self,
        what: &str,
        blob: &Descriptor,
    ) -> Result<Box<dyn Read + Send>, SourceError> {
        let file = self.files.open(&blob_path(&blob.digest))?;
        let file = file.ok_or_else(|| self.missing(what, blob.digest))?;
        Ok(file.reader)
    }

    /// The entries that REF lets through.
    fn visible(&self) -> Vec<&IndexEntry> {
        let mut entries: Vec<_> = self.entries.iter().filter(|e| !e.is_artifact).collect();
        if let Some(reference) = &self.reference {
            entries.retain(|entry| has_reference(entry, reference));
        }
        entries
    }

    /// The only one of `entries`, or the only one of them for the platform.
    fn sole<'e>(
        &self,
        entries: Vec<&'e IndexEntry>,
        wanted: &Wanted,
    ) -> Result<Option<&'e IndexEntry>, SourceError> {
        let fits = |entry: &&&IndexEntry| {
            let platform = entry.platform.as_ref();
            platform.is_none_or(|platform| wanted.platform.accepts(platform))
        };
        match entries.as_slice() {
            [] => Ok(None),
            [entry] => Ok(Some(entry)),
            [first, rest @ ..] if rest.iter().all(|e| e.document == first.document) => {
                Ok(Some(first))
            }
            entries => {
                let fitting: Vec<_> = entries.iter().filter(fits).collect();
                match fitting.as_slice() {
                    [entry] => Ok(Some(entry)),
                    _ => Err(SourceError::Ambiguous {
                        origin: self.origin.clone(),
                        held: self.held(),
                    }),
                }
            }
        }
    }

    /// The document of this digest: an entry, or one that lies below an index.
    fn held_digest(&self, pin: &ManifestDigest) -> Result<Option<Descriptor>, SourceError> {
        let digest: BlobDigest = pin.cast();
        let mut visible = self.visible().into_iter();
        if let Some(entry) = visible.find(|entry| entry.document.digest == digest) {
            return Ok(Some(entry.document));
        }
        if self.reference.is_some() {
            return Ok(None);
        }
        let file = self.files.open(&blob_path(&digest))?;
        Ok(file
            .filter(|file| file.size <= DOCUMENT_LIMIT_BYTES)
            .map(|file| Descriptor {
                digest,
                size: file.size,
            }))
    }

    fn resolve_entry(
        &self,
        wanted: &Wanted,
        top: &Descriptor,
    ) -> Result<ResolvedImage, SourceError> {
        let top = self.document("document", top)?;
        let chosen = choose(top, &wanted.platform, &self.origin, &mut |descriptor| {
            self.document("document", descriptor)
        })?;
        let manifest =
            parse_manifest(&chosen.manifest).map_err(|source| SourceError::Document {
                what: format!("manifest {}", ManifestDigest::of(&chosen.manifest)),
                origin: self.origin.clone(),
                source,
            })?;
        let documents = Documents {
            name: wanted.name.clone(),
            config: self.document("config", &manifest.config)?,
            indexes: chosen.indexes,
            manifest: chosen.manifest,
            verdict: String::new(),
        };
        wanted.resolved(documents, &self.origin)
    }

    fn document(&self, what: &str, expected: &Descriptor) -> Result<Vec<u8>, SourceError> {
        let path = blob_path(&expected.digest);
        let bytes = read_document(&*self.files, &path, &self.origin)?
            .ok_or_else(|| self.missing(what, expected.digest))?;
        verified(bytes, expected, what, &self.origin)
    }

    fn missing(&self, what: &str, digest: BlobDigest) -> SourceError {
        SourceError::MissingBlob {
            what: what.to_owned(),
            digest,
            origin: self.origin.clone(),
        }
    }
}

/// Whether an entry is what a REF means: by name, or by `@sha256:..`.
fn has_reference(entry: &IndexEntry, reference: &str) -> bool {
    let digest = reference.strip_prefix('@').unwrap_or_default();
    annotated(entry).any(|name| name == reference) || entry.document.digest.to_string() == digest
}

/// Called as cosign calls what holds the signatures of a document.
fn is_signature(entry: &IndexEntry) -> bool {
    annotated(entry).any(|name| {
        let digits = last_of(name).strip_prefix("sha256-");
        let digits = digits.and_then(|rest| rest.strip_suffix(".sig"));
        digits.is_some_and(|hex| BlobDigest::from_hex(hex).is_ok())
    })
}

/// The tag of a name that may be a tag alone.
fn last_of(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or_default()
}

/// What an entry is called, however full.
pub(super) fn annotated(entry: &IndexEntry) -> impl Iterator<Item = &str> {
    [CONTAINERD_NAME, REF_NAME]
        .into_iter()
        .filter_map(|key| entry.annotations.get(key).map(String::as_str))
}

/// The full names an entry has: those that begin with a registry.
fn names(entry: &IndexEntry) -> impl Iterator<Item = ImageName> {
    annotated(entry)
        .filter_map(|text| ImageName::normalise(text).ok())
        .filter(|normalised| !normalised.was_short)
        .map(|normalised| normalised.name)
}

/// Called by a tag alone, with no other name that says of what.
fn is_bare_tag(entry: &IndexEntry, tag: &str) -> bool {
    !entry.annotations.contains_key(CONTAINERD_NAME)
        && entry
            .annotations
            .get(REF_NAME)
            .is_some_and(|name| name == tag)
}
