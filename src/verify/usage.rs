//! What an object is used as: which file of which layer of which image.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Serialize;

use super::survey::SurveyedLayer;
use crate::{
    import::layer_entries,
    name::{DiffId, ImageName, ObjectId},
    repo::{RepoView, SetRecord},
    squash::{EntryKind, tree::FileContent},
};

/// One use of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Usage {
    /// The set image: without it nothing of the set can be mounted.
    SetImage,
    /// A file of an image.
    File {
        /// The bound image.
        image: ImageName,
        /// The layer that brings the file.
        layer: DiffId,
        /// Its path in the rootfs; bytes that are no UTF-8 are replaced.
        path: String,
    },
    /// Another part of a layer: its stream, its tar-split, headers of its tar.
    Layer {
        /// The bound image.
        image: ImageName,
        /// The layer.
        layer: DiffId,
    },
}

/// The bad objects of each layer that has any, each with the paths of the files
/// it is; without one it is another part of the layer.
pub(super) struct Usages(BTreeMap<DiffId, BTreeMap<ObjectId, BTreeSet<String>>>);

impl Usages {
    /// Reads each layer that has a bad object, once. What cannot be read any
    /// more is left out.
    pub(super) fn of(
        view: &RepoView,
        layers: &BTreeMap<DiffId, SurveyedLayer>,
        bad: &BTreeMap<ObjectId, String>,
    ) -> Self {
        let mut usages = BTreeMap::new();
        for (layer, found) in layers {
            let here = found.objects().filter(|id| bad.contains_key(id));
            let mut files: BTreeMap<ObjectId, BTreeSet<String>> =
                here.map(|id| (*id, BTreeSet::new())).collect();
            if files.is_empty() {
                continue;
            }
            let stream = view.layer_stream(layer).ok().flatten();
            let entries = stream.and_then(|stream| layer_entries(view, layer, &stream).ok());
            let entries = entries.into_iter().flatten();
            for entry in entries.map_while(Result::ok) {
                if let EntryKind::Regular(FileContent::Object { id, .. }) = entry.kind
                    && let Some(paths) = files.get_mut(&id)
                {
                    paths.insert(entry.name.to_string());
                }
            }
            usages.insert(*layer, files);
        }
        Self(usages)
    }

    /// What an object is in a set; one that is found nowhere is a record's.
    pub(super) fn in_set(&self, set: &SetRecord, id: &ObjectId) -> Vec<Usage> {
        let mut uses = BTreeSet::new();
        if *id == set.set_image {
            uses.insert(Usage::SetImage);
        }
        for image in set.all_images() {
            for layer in image.layers.iter().collect::<HashSet<_>>() {
                let paths = self.0.get(layer).and_then(|files| files.get(id));
                let Some(paths) = paths else {
                    continue;
                };
                let (image, layer) = (&image.name, *layer);
                let files = paths.iter().map(|path| Usage::File {
                    image: image.clone(),
                    layer,
                    path: path.clone(),
                });
                uses.extend(files);
                if paths.is_empty() {
                    let image = image.clone();
                    uses.insert(Usage::Layer { image, layer });
                }
            }
        }
        uses.into_iter().collect()
    }
}
