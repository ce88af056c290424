//! Reading a bundle, and putting its images back as they were.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{
    BundleError, BundleIndex, BundledImage, Content, NewLayout, StagedLayout,
    oci_manifest::oci_manifest,
};
use crate::{
    document::{
        Descriptor, DocumentKind, References, document_media_type, parse_manifest, parse_references,
    },
    name::BlobDigest,
    source::{Documents, Layout, ResolvedImage},
};

/// How many indexes of a layout are looked into.
const INDEX_LIMIT: usize = 64;

/// A bundle in a layout.
#[derive(Debug)]
pub struct Bundle<'l> {
    /// Where it is.
    pub layout: &'l Layout,
    /// The digest of its index.
    pub digest: BlobDigest,
    /// Its index.
    pub index: BundleIndex,
}

/// What came of a bundle.
#[derive(Debug)]
pub struct Applied {
    /// The layout with its images.
    pub layout: StagedLayout,
    /// Bytes of all blobs, each once.
    pub bytes: u64,
}

impl<'l> Bundle<'l> {
    /// The only bundle in `layout`.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn open(layout: &'l Layout) -> Result<Self, BundleError> {
        let none = |found: &str| BundleError::NoBundle {
            origin: layout.origin().to_owned(),
            found: found.to_owned(),
        };
        let mut bundle: Option<Vec<u8>> = None;
        let mut unusable = None;
        let mut seen = BTreeSet::new();
        for entry in layout.entries() {
            if entry.kind != Some(DocumentKind::Index) || !seen.insert(entry.document.digest) {
                continue;
            }
            if seen.len() > INDEX_LIMIT {
                return Err(none(&format!("more than {INDEX_LIMIT} indexes")));
            }
            let bytes = layout.read("the index", &entry.document)?;
            match BundleIndex::is_one(&bytes) {
                Ok(true) if bundle.is_some() => return Err(none("several bundles")),
                Ok(true) => bundle = Some(bytes),
                Ok(false) => {}
                Err(error) => unusable = Some(error),
            }
        }
        match bundle {
            Some(bytes) => Ok(Self {
                layout,
                digest: BlobDigest::of(&bytes),
                index: BundleIndex::parse(&bytes)?,
            }),
            // It may be the bundle, or not: what is wrong with it says more.
            None => Err(unusable.unwrap_or_else(|| none("no bundle"))),
        }
    }

    /// Bytes of all that it holds, each blob once, as its manifests say.
    ///
    /// # Errors
    /// [`BundleError`]: a manifest that is missing or unusable.
    pub fn bytes(&self) -> Result<u64, BundleError> {
        let mut blobs = BTreeMap::new();
        for member in &self.index.members {
            let (_, references) = self.manifest(&member.document)?;
            blobs.insert(member.document.digest, member.document.size);
            blobs.extend(references.blobs.iter().map(|blob| (blob.digest, blob.size)));
        }
        let sum = { blobs.values() }.try_fold(0_u64, |sum, size| sum.checked_add(*size));
        sum.ok_or_else(|| BundleError::Index {
            digest: self.digest,
            reason: "the sizes in it are more than there can be".to_owned(),
        })
    }

    fn manifest(&self, document: &Descriptor) -> Result<(Vec<u8>, References), BundleError> {
        let what = format!("the manifest {}", document.digest);
        let bytes = self.layout.read(&what, document)?;
        let references =
            parse_references(&bytes).map_err(|source| BundleError::Document { what, source })?;
        Ok((bytes, references))
    }
}

/// Writes the images of a bundle as a layout in a new folder in `parent`: each
/// under its name, with its own manifest and index, and what is about it. All of
/// it is hashed, and the documents of an image are held against each other.
///
/// # Errors
/// [`BundleError`]; nothing is left then.
pub fn apply(bundle: &Bundle<'_>, parent: &Path) -> Result<Applied, BundleError> {
    let mut restorer = Restorer {
        bundle,
        layout: NewLayout::begin(parent, "it was damaged on the way: copy the bundle again")?,
        originals: BTreeMap::new(),
    };
    restorer.check_originals()?;
    for (document, image) in bundle.index.images() {
        restorer.image(document, image)?;
    }
    for member in &bundle.index.members {
        if let Content::Artifact { subject, tag } = &member.content {
            restorer.artifact(&member.document, subject, tag.as_deref())?;
        }
    }
    Ok(Applied {
        bytes: bundle.bytes()?,
        layout: restorer.layout.finish()?,
    })
}

struct Restorer<'a> {
    bundle: &'a Bundle<'a>,
    layout: NewLayout,
    originals: BTreeMap<BlobDigest, Descriptor>,
}

impl Restorer<'_> {
    /// Hashes them, and keeps none: whoever made the bundle says how many there
    /// are.
    fn check_originals(&mut self) -> Result<(), BundleError> {
        for member in &self.bundle.index.members {
            if member.content != Content::Originals {
                continue;
            }
            let (_, references) = self.bundle.manifest(&member.document)?;
            for document in &references.blobs {
                self.read_original(document)?;
                self.originals.insert(document.digest, *document);
            }
        }
        Ok(())
    }

    fn read_original(&self, document: &Descriptor) -> Result<Vec<u8>, BundleError> {
        Ok(self.bundle.layout.read("an original document", document)?)
    }

    fn image(&mut self, document: &Descriptor, image: &BundledImage) -> Result<(), BundleError> {
        let name = image.name.to_string();
        let original = |digest: BlobDigest| {
            let name = name.clone();
            let document = self.originals.get(&digest);
            self.read_original(document.ok_or(BundleError::NoOriginal { name, digest })?)
        };
        let (carried, _) = self.bundle.manifest(document)?;
        let manifest = match image.manifest.cast() == document.digest {
            true => carried.clone(),
            false => original(image.manifest.cast())?,
        };
        let indexes = match image.top == image.manifest.cast() {
            true => Vec::new(),
            false => vec![original(image.top)?],
        };
        let unusable = |source| BundleError::Document {
            what: format!("the manifest of {name}"),
            source,
        };
        let parsed = parse_manifest(&manifest).map_err(unusable)?;
        if image.manifest.cast() != document.digest && carried != oci_manifest(&parsed) {
            let digest = document.digest;
            return Err(BundleError::NotTheSame { name, digest });
        }
        let what = format!("the config of {name}");
        let config = self.bundle.layout.read(&what, &parsed.config)?;
        let documents = Documents {
            name: image.name.clone(),
            indexes: indexes.clone(),
            manifest: manifest.clone(),
            config: config.clone(),
            verdict: String::new(),
        };
        ResolvedImage::new(documents, &image.platform, None).map_err(|source| {
            BundleError::Image {
                name: name.clone(),
                source: Box::new(source),
            }
        })?;
        self.layout.document(&config)?;
        for (index, layer) in parsed.layers.iter().enumerate() {
            let blob = Descriptor {
                digest: layer.digest,
                size: layer.size,
            };
            self.blob(&format!("layer {index} of {name}"), &blob)?;
        }
        self.layout.document(&manifest)?;
        let top = indexes.first().unwrap_or(&manifest);
        let media_type = document_media_type(top).map_err(unusable)?;
        let top = self.layout.document(top)?;
        self.layout.list(&top, &media_type, Some(&name));
        Ok(())
    }

    fn artifact(
        &mut self,
        document: &Descriptor,
        subject: &BlobDigest,
        tag: Option<&str>,
    ) -> Result<(), BundleError> {
        let (bytes, references) = self.bundle.manifest(document)?;
        let what = format!("an artifact of {subject}");
        for blob in &references.blobs {
            self.blob(&what, blob)?;
        }
        let unusable = |source| BundleError::Document {
            what: what.clone(),
            source,
        };
        let media_type = document_media_type(&bytes).map_err(unusable)?;
        let document = self.layout.document(&bytes)?;
        self.layout.list(&document, &media_type, tag);
        Ok(())
    }

    fn blob(&mut self, what: &str, blob: &Descriptor) -> Result<(), BundleError> {
        let from = self.bundle.layout;
        let origin = from.origin();
        self.layout
            .blob(blob, what, origin, || Ok(from.open_blob(what, blob)?))
    }
}
