//! `containers-storage:`: images that podman has on this machine.

use std::{collections::HashMap, path::Path, time::Duration};

use super::{
    LayerData, LayerForm, ResolvedImage, SourceError, Wanted, files::read_document,
    image::Documents, layer_tar::LayerTar, store_lists::StoreLists,
};
use crate::{
    document::{DocumentError, IndexDocument, LAYER_LIMIT, parse_index, parse_manifest},
    name::{BlobDigest, ImageName, ManifestDigest},
    store_tree::{
        ImageRecord, LayerRecord, big_data_file_name, parse_images_json, parse_layers_json,
    },
    sys::RootDir,
};

/// Where containers-storage keeps root's images if nothing else is said.
pub const DEFAULT_ROOT: &str = "/var/lib/containers/storage";
/// How long a writer's lock is waited for.
const LOCK_LIMIT: Duration = Duration::from_secs(30);

/// A graph root of the overlay driver, read as it lies.
///
/// Its lists are read under its own shared locks; documents are hashed as
/// everywhere. The compressed blobs are gone: a layer is its tar, put together
/// from the tar-split and the files of the layer's folder, and only its DiffID
/// can be checked. What podman does to the image meanwhile shows up there.
#[derive(Debug)]
pub struct ContainersStorage {
    root: RootDir,
    origin: String,
    reference: Option<String>,
    images: Vec<ImageRecord>,
    layers: HashMap<String, LayerRecord>,
}

impl ContainersStorage {
    /// Opens the graph root at `path`, containers-storage's default for root if
    /// none is given. With a `reference` (a name, a digest or an image ID) only
    /// that image is seen.
    ///
    /// # Errors
    /// [`SourceError`]: another driver than overlay, no graph root, unusable
    /// lists, or a writer that keeps its lock for half a minute.
    pub fn open(
        path: Option<&Path>,
        driver: Option<&str>,
        reference: Option<&str>,
    ) -> Result<Self, SourceError> {
        let path = path.unwrap_or(Path::new(DEFAULT_ROOT));
        let origin = format!("containers-storage:[overlay@{}]", path.display());
        if let Some(driver) = driver.filter(|driver| *driver != "overlay") {
            return Err(SourceError::Unsupported {
                origin,
                reason: format!(
                    "only the overlay driver's storage is read, not {driver}; copy the image to oci: with skopeo"
                ),
            });
        }
        let root = RootDir::open(path)?;
        for folder in ["overlay-layers", "overlay-images"] {
            root.open_dir(folder)?;
        }
        let mut lists = StoreLists::new(&root, &origin, LOCK_LIMIT);
        let layers = lists.read("layers", parse_layers_json)?;
        let images = lists.read("images", parse_images_json)?;
        drop(lists);
        Ok(Self {
            layers: layers
                .into_iter()
                .map(|layer| (layer.id.clone(), layer))
                .collect(),
            images,
            root,
            reference: reference.map(str::to_owned),
            origin,
        })
    }

    /// Resolves `wanted` from a storage that was named for it: by REF, else by
    /// its digest or its name.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn resolve(&self, wanted: &Wanted) -> Result<ResolvedImage, SourceError> {
        if let Some(image) = self.find(wanted)? {
            return Ok(image);
        }
        match (&self.reference, self.visible().as_slice()) {
            (Some(_), [image]) => self.resolve_image(wanted, image),
            (Some(_), [_, _, ..]) => Err(SourceError::Ambiguous {
                origin: self.origin.clone(),
                held: self.held(),
            }),
            _ => Err(wanted.not_found(self.reference.as_deref(), &self.origin, self.held())),
        }
    }

    /// Resolves `wanted` if the storage holds it by its digest or its full name.
    ///
    /// # Errors
    /// [`SourceError`]: it is held, but damaged or not for the platform.
    pub fn find(&self, wanted: &Wanted) -> Result<Option<ResolvedImage>, SourceError> {
        let pins: Vec<_> = wanted.pins().collect();
        let held = |image: &&&ImageRecord| match pins.as_slice() {
            [] => image.names.contains(&wanted.name.to_string()),
            pins => pins.iter().any(|pin| has_digest(image, pin)),
        };
        match self.visible().iter().find(held) {
            Some(image) => self.resolve_image(wanted, image).map(Some),
            None => Ok(None),
        }
    }

    /// Opens layer `index` of an image that was resolved here: its tar.
    ///
    /// # Errors
    /// [`SourceError`]: it is gone, or kept in a way that is not read.
    pub fn open_layer(
        &self,
        image: &ResolvedImage,
        index: usize,
    ) -> Result<LayerData, SourceError> {
        let wanted = image.layer(index, &self.origin)?;
        let id = image.config_digest.hex();
        let record = self.images.iter().find(|record| record.id == id);
        let record = record.or_else(|| {
            self.images
                .iter()
                .find(|record| has_digest(record, &image.manifest_digest))
        });
        let record = record.ok_or_else(|| SourceError::NotFound {
            wanted: image.name.to_string(),
            origin: self.origin.clone(),
            held: self.held(),
        })?;
        let chain = self.chain(record)?;
        if chain.len() != image.layers.len() {
            return Err(SourceError::Mismatch {
                what: format!("the layers of {}", image.name),
                origin: self.origin.clone(),
                expected: format!("{} layers", image.layers.len()),
                found: format!("{} layers", chain.len()),
            });
        }
        let layer = chain[index];
        let diff_id = wanted.diff_id.to_string();
        if let Some(found) = layer.diff_digest.as_ref().filter(|it| **it != diff_id) {
            return Err(SourceError::Mismatch {
                what: format!("storage layer {}", layer.id),
                origin: self.origin.clone(),
                expected: diff_id,
                found: found.clone(),
            });
        }
        let path = format!("overlay-layers/{}.tar-split.gz", layer.id);
        let Some((tar_split, _)) = self.root.open_file(&path)? else {
            return Err(self.unsupported(layer, "it has no tar-split"));
        };
        let dirs = chain[..=index].iter().rev();
        let dirs = dirs.map(|layer| self.root.open_dir(format!("overlay/{}/diff", layer.id)));
        let dirs = dirs.collect::<Result<_, _>>()?;
        Ok(LayerData {
            reader: Box::new(LayerTar::new(tar_split, dirs, &layer.id)),
            form: LayerForm::Tar,
        })
    }

    /// What the storage holds, for messages.
    pub fn held(&self) -> Vec<String> {
        let shown = |image: &ImageRecord| match image.names.first() {
            Some(name) => name.clone(),
            None => image.id.clone(),
        };
        self.images.iter().map(shown).collect()
    }

    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    fn visible(&self) -> Vec<&ImageRecord> {
        let Some(reference) = &self.reference else {
            return self.images.iter().collect();
        };
        let text = reference.strip_prefix('@').unwrap_or(reference);
        let text = text.strip_prefix("sha256:").unwrap_or(text);
        let by_id = |image: &&ImageRecord| text.len() >= 12 && image.id.starts_with(text);
        let hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let found: Vec<_> = self.images.iter().filter(by_id).collect();
        if hexadecimal && !found.is_empty() {
            return found;
        }
        let Ok(name) = reference.parse::<ImageName>() else {
            return Vec::new();
        };
        let called = |image: &&ImageRecord| {
            image.names.contains(&name.to_string())
                || name.pinned().is_some_and(|pin| has_digest(image, &pin))
        };
        self.images.iter().filter(called).collect()
    }

    fn resolve_image(
        &self,
        wanted: &Wanted,
        image: &ImageRecord,
    ) -> Result<ResolvedImage, SourceError> {
        let manifest = self.big_data(image, "manifest")?;
        let parsed = parse_manifest(&manifest)
            .map_err(|source| self.document(&format!("manifest of image {}", image.id), source))?;
        let config = self.big_data(image, &parsed.config.digest.to_string())?;
        let documents = Documents {
            name: wanted.name.clone(),
            indexes: self.index(wanted, image, &manifest)?.into_iter().collect(),
            manifest,
            config,
            verdict: String::new(),
        };
        wanted.resolved(documents, &self.origin)
    }

    /// The index that the image was pulled by, if the storage still has it: the
    /// one that is wanted, or the one that the image goes by.
    fn index(
        &self,
        wanted: &Wanted,
        image: &ImageRecord,
        manifest: &[u8],
    ) -> Result<Option<Vec<u8>>, SourceError> {
        let digest = BlobDigest::of(manifest);
        let own = image.digest.as_deref().and_then(|text| text.parse().ok());
        for pin in wanted.pins().chain(own) {
            let key = format!("manifest-{pin}");
            if pin.cast() == digest || !image.big_data_names.contains(&key) {
                continue;
            }
            let bytes = self.big_data(image, &key)?;
            let lists = |index: IndexDocument| {
                let mut entries = index.entries.into_iter();
                entries.any(|entry| entry.document.digest == digest)
            };
            if parse_index(&bytes).is_ok_and(lists) {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// A document of the image, checked against the digest that the storage
    /// recorded for it and the one in its key.
    fn big_data(&self, image: &ImageRecord, key: &str) -> Result<Vec<u8>, SourceError> {
        let what = format!("{key} of image {}", image.id);
        if !is_id(&image.id) {
            return Err(self.damaged(format!("{:?} is no image ID", image.id)));
        }
        let path = format!("overlay-images/{}/{}", image.id, big_data_file_name(key));
        let bytes = read_document(&self.root, &path, &self.origin)?
            .ok_or_else(|| self.damaged(format!("{what} is missing; pull the image again")))?;
        let found = BlobDigest::of(&bytes);
        let recorded = image.big_data_digests.get(key).map(String::as_str);
        let in_key = key.strip_prefix("manifest-").unwrap_or(key);
        let expected = [recorded, Some(in_key).filter(|text| text.contains(':'))];
        for expected in expected.into_iter().flatten() {
            if expected != found.to_string() {
                return Err(SourceError::Mismatch {
                    what,
                    origin: self.origin.clone(),
                    expected: expected.to_owned(),
                    found: found.to_string(),
                });
            }
        }
        Ok(bytes)
    }

    /// The image's layers, base first.
    fn chain(&self, image: &ImageRecord) -> Result<Vec<&LayerRecord>, SourceError> {
        let mut chain = Vec::new();
        let mut next = image.layer.as_ref();
        while let Some(id) = next.filter(|id| !id.is_empty()) {
            let layer = self.layers.get(id).filter(|layer| is_id(&layer.id));
            let layer = layer.ok_or_else(|| {
                self.damaged(format!("layer {id:?} of image {} is missing", image.id))
            })?;
            chain.push(layer);
            if chain.len() > LAYER_LIMIT {
                return Err(self.damaged(format!("the layers of image {} have no end", image.id)));
            }
            next = layer.parent.as_ref();
        }
        chain.reverse();
        Ok(chain)
    }

    fn unsupported(&self, layer: &LayerRecord, why: &str) -> SourceError {
        SourceError::Unsupported {
            origin: self.origin.clone(),
            reason: format!(
                "layer {}: {why}; copy the image to oci: with skopeo",
                layer.id
            ),
        }
    }

    fn damaged(&self, reason: String) -> SourceError {
        SourceError::Damaged {
            origin: self.origin.clone(),
            reason,
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

fn has_digest(image: &ImageRecord, digest: &ManifestDigest) -> bool {
    let digest = digest.to_string();
    let manifest =
        |(key, value): (&String, &String)| key.starts_with("manifest") && *value == digest;
    image.digest.as_ref() == Some(&digest) || image.big_data_digests.iter().any(manifest)
}

/// IDs are parts of paths.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
