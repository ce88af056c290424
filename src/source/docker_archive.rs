//! `docker-archive:`: what `docker save` writes.

use std::{collections::HashMap, fmt::Write as _, io, path::Path};

use super::{
    LayerData, LayerForm, ResolvedImage, SourceError, Wanted,
    archive::{decompressed, open_tar},
    files::{Files, read_document},
    image::Documents,
    tar_index::TarIndex,
};
use crate::{
    document::{
        ConfigDocument, Descriptor, DocumentError, Json,
        Shape::{self, List, Record, Text},
        parse_config,
    },
    name::{ConfigDigest, DiffId, ImageName, ManifestDigest},
};

/// The most images of one archive.
const IMAGE_LIMIT: usize = 4096;

/// A `docker save` archive, held open.
///
/// It has no manifest: the one that is resolved is the v2s2 manifest that
/// containers/image makes up for it, byte for byte, with the DiffIDs as blob
/// digests. So only the config and the DiffIDs can be checked; nothing here
/// ties the image to what a registry once served.
#[derive(Debug)]
pub struct DockerArchive {
    files: TarIndex,
    origin: String,
    reference: Option<String>,
    images: Vec<SavedImage>,
}

/// `manifest.json` (containers/image, `docker/internal/tarfile/types.go`).
const SAVED_IMAGES: Shape = List(&Record(&[
    ("Config", Text),
    ("RepoTags", List(&Text)),
    ("Layers", List(&Text)),
]));

/// One element of `manifest.json`.
#[derive(Debug)]
struct SavedImage {
    config: String,
    tags: Vec<String>,
    layers: Vec<String>,
}

impl SavedImage {
    fn read(json: &Json<'_>) -> Self {
        let texts = |name| {
            let items = json.get(name).items().iter();
            items.map(|item| item.text().to_owned()).collect()
        };
        Self {
            config: json.get("Config").text().to_owned(),
            tags: texts("RepoTags"),
            layers: texts("Layers"),
        }
    }

    fn is_called(&self, name: &ImageName) -> bool {
        self.tags
            .iter()
            .filter_map(|tag| tag.parse::<ImageName>().ok())
            .any(|tag| tag == *name)
    }
}

impl DockerArchive {
    /// Opens the archive at `path`; a compressed one is decompressed into an
    /// unnamed file in `spool_dir`. With a `reference` (a name, or `@N`) only
    /// that image is seen.
    ///
    /// # Errors
    /// [`SourceError`]: no archive, a damaged or hostile one, no `manifest.json`.
    pub fn open(
        path: &Path,
        reference: Option<&str>,
        spool_dir: &Path,
    ) -> Result<Self, SourceError> {
        let origin = format!("docker-archive:{}", path.display());
        let files = open_tar(path, &origin, spool_dir)?;
        let manifest = read_document(&files, "manifest.json", &origin)?.ok_or_else(|| {
            SourceError::Damaged {
                origin: origin.clone(),
                reason: "it has no manifest.json, so no docker since 1.10 has saved it".into(),
            }
        })?;
        let json =
            Json::read(&manifest, &SAVED_IMAGES).map_err(|source| SourceError::Document {
                what: "manifest.json".into(),
                origin: origin.clone(),
                source,
            })?;
        let images: Vec<_> = json.items().iter().map(SavedImage::read).collect();
        if images.len() > IMAGE_LIMIT {
            return Err(SourceError::Unsupported {
                origin,
                reason: format!("it holds more than {IMAGE_LIMIT} images"),
            });
        }
        Ok(Self {
            files,
            origin,
            reference: reference.map(str::to_owned),
            images,
        })
    }

    /// Resolves `wanted` from an archive that was named for it: by REF, else by
    /// its name, else the only image there is.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn resolve(&self, wanted: &Wanted) -> Result<ResolvedImage, SourceError> {
        if let Some(image) = self.find(wanted)? {
            return Ok(image);
        }
        match self.visible().as_slice() {
            [image] => self.resolve_image(wanted, image),
            [] => Err(wanted.not_found(self.reference.as_deref(), &self.origin, self.held())),
            _ => Err(SourceError::Ambiguous {
                origin: self.origin.clone(),
                held: self.held(),
            }),
        }
    }

    /// Resolves `wanted` if the archive holds it by name; by digest only if that
    /// is the digest of the made-up manifest.
    ///
    /// # Errors
    /// [`SourceError`]: it is held, but damaged or not for the platform.
    pub fn find(&self, wanted: &Wanted) -> Result<Option<ResolvedImage>, SourceError> {
        let pins: Vec<_> = wanted.pins().collect();
        for image in self.visible() {
            let held = if pins.is_empty() {
                image.is_called(&wanted.name)
            } else {
                let parts = self.parts(image)?;
                pins.contains(&ManifestDigest::of(&parts.manifest))
            };
            if held {
                return self.resolve_image(wanted, image).map(Some);
            }
        }
        Ok(None)
    }

    /// Opens layer `index` of an image that was resolved here: its tar.
    ///
    /// # Errors
    /// [`SourceError`]: the archive no longer holds it.
    pub fn open_layer(
        &self,
        image: &ResolvedImage,
        index: usize,
    ) -> Result<LayerData, SourceError> {
        let wanted = image.layer(index, &self.origin)?;
        for saved in &self.images {
            let Ok((bytes, config)) = self.config(saved) else {
                continue;
            };
            if ConfigDigest::of(&bytes) != image.config_digest {
                continue;
            }
            let at = config.diff_ids.iter().position(|id| *id == wanted.diff_id);
            if let Some(path) = at.and_then(|at| saved.layers.get(at)) {
                let (reader, _) = self.open_member(path)?;
                return Ok(LayerData {
                    reader,
                    form: LayerForm::Tar,
                });
            }
        }
        Err(SourceError::NotFound {
            wanted: format!("layer {index} of {}", image.name),
            origin: self.origin.clone(),
            held: self.held(),
        })
    }

    /// What the archive holds, for messages.
    pub fn held(&self) -> Vec<String> {
        let shown = |(at, image): (usize, &SavedImage)| match image.tags.first() {
            Some(tag) => tag.clone(),
            None => format!("@{at}"),
        };
        self.images.iter().enumerate().map(shown).collect()
    }

    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    fn visible(&self) -> Vec<&SavedImage> {
        let Some(reference) = &self.reference else {
            return self.images.iter().collect();
        };
        if let Some(at) = reference.strip_prefix('@') {
            let at = at.parse::<usize>().ok();
            return at.and_then(|at| self.images.get(at)).into_iter().collect();
        }
        let Ok(name) = reference.parse() else {
            return Vec::new();
        };
        let called = self.images.iter().filter(|image| image.is_called(&name));
        called.collect()
    }

    fn resolve_image(
        &self,
        wanted: &Wanted,
        image: &SavedImage,
    ) -> Result<ResolvedImage, SourceError> {
        let Parts { manifest, config } = self.parts(image)?;
        let documents = Documents {
            name: wanted.name.clone(),
            indexes: Vec::new(),
            manifest,
            config,
            verdict: String::new(),
        };
        wanted.resolved(documents, &self.origin)
    }

    fn config(&self, image: &SavedImage) -> Result<(Vec<u8>, ConfigDocument), SourceError> {
        let bytes = read_document(&self.files, &image.config, &self.origin)?
            .ok_or_else(|| self.missing(&image.config))?;
        let config = parse_config(&bytes).map_err(|source| self.document(&image.config, source))?;
        Ok((bytes, config))
    }

    fn parts(&self, image: &SavedImage) -> Result<Parts, SourceError> {
        let (bytes, config) = self.config(image)?;
        if config.diff_ids.len() != image.layers.len() {
            return Err(SourceError::Mismatch {
                what: image.config.clone(),
                origin: self.origin.clone(),
                expected: format!("{} DiffIDs, one for each layer", image.layers.len()),
                found: format!("{} DiffIDs", config.diff_ids.len()),
            });
        }
        // docker save makes a repeated layer a link to the first one.
        let mut sizes: HashMap<DiffId, u64> = HashMap::new();
        for (diff_id, path) in config.diff_ids.iter().zip(&image.layers) {
            if !sizes.contains_key(diff_id) {
                sizes.insert(*diff_id, self.tar_size(path)?);
            }
        }
        let layers = config.diff_ids.iter().map(|id| (*id, sizes[id]));
        Ok(Parts {
            manifest: made_up_manifest(&bytes, layers).into_bytes(),
            config: bytes,
        })
    }

    fn tar_size(&self, path: &str) -> Result<u64, SourceError> {
        let (mut reader, plain_size) = self.open_member(path)?;
        match plain_size {
            Some(size) => Ok(size),
            None => io::copy(&mut reader, &mut io::sink()).map_err(|error| SourceError::Damaged {
                origin: self.origin.clone(),
                reason: format!("{path}: its compression is damaged: {error}"),
            }),
        }
    }

    /// The member's tar, and its size where it is not compressed.
    fn open_member(
        &self,
        path: &str,
    ) -> Result<(Box<dyn io::Read + Send>, Option<u64>), SourceError> {
        let file = self.files.open(path)?.ok_or_else(|| self.missing(path))?;
        let (reader, compressed) = decompressed(file.reader, path, &self.origin)?;
        Ok((reader, (!compressed).then_some(file.size)))
    }

    fn missing(&self, path: &str) -> SourceError {
        SourceError::Damaged {
            origin: self.origin.clone(),
            reason: format!("its manifest.json names {path}, which is not there"),
        }
    }

    fn document(&self, what: &str, source: DocumentError) -> SourceError {
        SourceError::Document {
            what: what.to_owned(),
            origin: self.origin.clone(),
            source,
        }
    }
}

struct Parts {
    manifest: Vec<u8>,
    config: Vec<u8>,
}

/// The manifest that containers/image makes up for docker archives
/// (`docker/internal/tarfile/src.go`, `GetManifest`), byte for byte: Go's
/// `json.Marshal` of a `manifest.Schema2`, plain tars called gzip.
fn made_up_manifest(config: &[u8], layers: impl Iterator<Item = (DiffId, u64)>) -> String {
    let Descriptor { digest, size } = Descriptor::of(config);
    let mut json = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{{"mediaType":"application/vnd.docker.container.image.v1+json","size":{size},"digest":"{digest}"}},"layers":["#
    );
    for (at, (diff_id, size)) in layers.enumerate() {
        let comma = if at == 0 { "" } else { "," };
        // Writing to a String does not fail.
        let _ = write!(
            json,
            r#"{comma}{{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":{size},"digest":"{diff_id}"}}"#
        );
    }
    json.push_str("]}");
    json
}
