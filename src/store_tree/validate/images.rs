//! Checking `overlay-images/`.

use std::collections::{BTreeMap, BTreeSet};

use super::{find::Finder, layers::CheckedLayers, violation::Violation};
use crate::{
    document::{
        ConfigDocument, DocumentKind, document_kind, is_rfc3339, parse_config, parse_manifest,
    },
    name::{BlobDigest, ConfigDigest, ImageName},
    store_tree::{
        big_data::big_data_file_name,
        images::{ImageRecord, parse_images_json},
    },
};

pub(super) fn check(finder: &mut Finder<'_>, json: Option<&[u8]>, layers: &CheckedLayers) {
    let images = match json.map(parse_images_json) {
        None => return,
        Some(Ok(images)) => images,
        Some(Err(source)) => {
            let path = "overlay-images/images.json";
            return finder.violation(Violation::Json { path, source });
        }
    };
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    let mut used = BTreeSet::new();
    for image in &images {
        if !ids.insert(image.id.as_str()) {
            let image = image.id.clone();
            finder.violation(Violation::DuplicateImage { image });
            continue;
        }
        for name in &image.names {
            check_name(finder, image, name);
            if let Some(first) = names.insert(name, &image.id) {
                finder.violation(Violation::DuplicateName {
                    name: name.clone(),
                    first: first.to_owned(),
                    second: image.id.clone(),
                });
            }
        }
        ImageCheck { image, layers }.run(finder);
        let chain = image.layer.as_deref().and_then(|top| layers.chain(top));
        used.extend(chain.into_iter().flatten().map(|layer| layer.id.as_str()));
    }
    for layer in layers.ids().filter(|id| !used.contains(id)) {
        let layer = layer.to_owned();
        finder.violation(Violation::UnusedLayer { layer });
    }
    finder.only(
        "overlay-images",
        ids.into_iter().chain(["images.json", "images.lock"]),
    );
}

fn check_name(finder: &mut Finder<'_>, image: &ImageRecord, name: &str) {
    let normalised = name.parse::<ImageName>();
    if normalised.ok().map(|name| name.to_string()).as_deref() != Some(name) {
        finder.violation(Violation::Name {
            image: image.id.clone(),
            name: name.to_owned(),
        });
    }
}

/// One image with what its checks need.
struct ImageCheck<'a> {
    image: &'a ImageRecord,
    layers: &'a CheckedLayers,
}

impl ImageCheck<'_> {
    fn id(&self) -> String {
        self.image.id.clone()
    }

    fn run(&self, finder: &mut Finder<'_>) {
        let Ok(config) = ConfigDigest::from_hex(&self.image.id) else {
            return finder.violation(Violation::ImageId { image: self.id() });
        };
        let image = self.image;
        if let Some(value) = image.created.as_deref().filter(|text| !is_rfc3339(text)) {
            let value = value.to_owned();
            finder.violation(Violation::Created {
                image: self.id(),
                value,
            });
        }
        if serde_json::from_str::<serde::de::IgnoredAny>(&image.metadata).is_err() {
            let found = image.metadata.clone();
            finder.violation(Violation::ImageMetadata {
                image: self.id(),
                found,
            });
        }
        if let Some(digest) = &image.digest {
            let key = format!("manifest-{digest}");
            if !image.big_data_names.contains(&key) {
                let digest = digest.clone();
                finder.violation(Violation::ImageDigest {
                    image: self.id(),
                    digest,
                });
            }
        }
        let Some(data) = self.big_data(finder) else {
            return;
        };
        let config_key = config.to_string();
        let facts = self.config(finder, &config_key, &data);
        if !data.contains_key("manifest") && !self.lists("manifest") {
            let key = "manifest".to_owned();
            finder.violation(Violation::NoBigData {
                image: self.id(),
                key,
            });
        }
        for (&key, &bytes) in &data {
            if key == "manifest" || key.starts_with("manifest-") {
                self.manifest(finder, key, bytes, &config, facts.as_ref());
            }
        }
        self.chain(finder, facts.as_ref());
    }

    fn lists(&self, key: &str) -> bool {
        self.image.big_data_names.iter().any(|name| name == key)
    }

    /// Key to bytes of all big data that is there, each checked.
    fn big_data<'t>(&self, finder: &mut Finder<'t>) -> Option<BTreeMap<&str, &'t [u8]>> {
        let image = self.image;
        let directory = format!("overlay-images/{}", image.id);
        finder.directory(&directory)?;
        let mut data = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for key in &image.big_data_names {
            let owned = || (self.id(), key.clone());
            if !seen.insert(key.as_str()) {
                let (image, key) = owned();
                finder.violation(Violation::DuplicateBigData { image, key });
                continue;
            }
            let path = format!("{directory}/{}", big_data_file_name(key));
            let Some(bytes) = finder.inline(&path) else {
                continue;
            };
            data.insert(key.as_str(), bytes);
            let found = bytes.len() as u64;
            let size = image.big_data_sizes.get(key);
            if size.map(|&size| u64::try_from(size)) != Some(Ok(found)) {
                let (image, key) = owned();
                finder.violation(Violation::BigDataSize {
                    image,
                    key,
                    expected: size.map_or("absent".to_owned(), ToString::to_string),
                    found,
                });
            }
            let found = BlobDigest::of(bytes).to_string();
            // The key of all but `manifest` says the digest as well.
            let named = key.strip_prefix("manifest-").unwrap_or(key);
            let named = Some(named).filter(|_| key != "manifest");
            let Some(digest) = image.big_data_digests.get(key) else {
                let (image, key) = owned();
                finder.violation(Violation::NoBigDataDigest { image, key });
                continue;
            };
            for expected in [Some(digest.as_str()), named].into_iter().flatten() {
                if found != expected {
                    let (image, key) = owned();
                    finder.violation(Violation::BigDataDigest {
                        image,
                        key,
                        expected: expected.to_owned(),
                        found: found.clone(),
                    });
                    break;
                }
            }
        }
        let keys = image.big_data_sizes.keys().map(|key| ("size", key));
        let digests = image.big_data_digests.keys().map(|key| ("digest", key));
        for (what, key) in keys.chain(digests) {
            if !seen.contains(key.as_str()) {
                finder.violation(Violation::UnlistedBigData {
                    image: self.id(),
                    key: key.clone(),
                    what,
                });
            }
        }
        let files: Vec<String> = seen.iter().map(|key| big_data_file_name(key)).collect();
        finder.only(&directory, files.iter().map(String::as_str));
        Some(data)
    }

    fn config(
        &self,
        finder: &mut Finder<'_>,
        key: &str,
        data: &BTreeMap<&str, &[u8]>,
    ) -> Option<ConfigDocument> {
        let key = key.to_owned();
        let Some(bytes) = data.get(key.as_str()) else {
            if !self.lists(&key) {
                finder.violation(Violation::NoBigData {
                    image: self.id(),
                    key,
                });
            }
            return None;
        };
        match parse_config(bytes) {
            Ok(facts) => Some(facts),
            Err(source) => {
                let image = self.id();
                finder.violation(Violation::Document { image, key, source });
                None
            }
        }
    }

    fn manifest(
        &self,
        finder: &mut Finder<'_>,
        key: &str,
        bytes: &[u8],
        config: &ConfigDigest,
        facts: Option<&ConfigDocument>,
    ) {
        let (image, key) = (self.id(), key.to_owned());
        // podman reads an index only to find this image by the index's digest.
        if key != "manifest" && matches!(document_kind(bytes), Ok(DocumentKind::Index)) {
            return;
        }
        let manifest = match parse_manifest(bytes) {
            Ok(manifest) => manifest,
            Err(source) => return finder.violation(Violation::Document { image, key, source }),
        };
        if manifest.config.digest != config.cast() {
            let found = manifest.config.digest.to_string();
            return finder.violation(Violation::ManifestConfig { image, key, found });
        }
        let top = self.image.layer.as_deref();
        let chain = top.map_or(Some(0), |top| Some(self.layers.chain(top)?.len()));
        if let (Some(chain), Some(facts)) = (chain, facts)
            && (chain != facts.diff_ids.len() || chain != manifest.layers.len())
        {
            finder.violation(Violation::LayerCount {
                image,
                chain,
                diff_ids: facts.diff_ids.len(),
                key,
                manifest: manifest.layers.len(),
            });
        }
    }

    fn chain(&self, finder: &mut Finder<'_>, facts: Option<&ConfigDocument>) {
        let Some(top) = self.image.layer.as_deref() else {
            return;
        };
        if !self.layers.contains(top) {
            let (image, layer) = (self.id(), top.to_owned());
            return finder.violation(Violation::UnknownLayer { image, layer });
        }
        let (Some(chain), Some(facts)) = (self.layers.chain(top), facts) else {
            return;
        };
        for (layer, expected) in chain.iter().zip(&facts.diff_ids) {
            let found = layer.diff_digest.as_deref().unwrap_or_default();
            if found != expected.to_string() {
                finder.violation(Violation::DiffId {
                    image: self.id(),
                    layer: layer.id.clone(),
                    expected: expected.to_string(),
                    found: found.to_owned(),
                });
            }
        }
    }
}
