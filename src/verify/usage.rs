//! What an object is used as: which file of which layer of which image.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

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
    /// Another part of a layer: its tar-split, headers of its tar.
    Layer {
        /// The bound image.
        image: ImageName,
        /// The layer.
        layer: DiffId,
    },
}

/// What each of `objects` is in a set. Reads the layers of the set, so it is
/// for the few cases in which something is bad. What cannot be read any more
/// is left out; an object that is found nowhere is a stream of ours.
pub(super) fn find(
    view: &RepoView,
    set: &SetRecord,
    objects: &BTreeSet<ObjectId>,
) -> BTreeMap<ObjectId, Vec<Usage>> {
    let mut uses: BTreeMap<ObjectId, BTreeSet<Usage>> = BTreeMap::new();
    let mut note = |id: ObjectId, usage: Usage| {
        if objects.contains(&id) {
            uses.entry(id).or_default().insert(usage);
        }
    };
    note(set.set_image, Usage::SetImage);
    for image in set.all_images() {
        for layer in &image.layers {
            let mut others: BTreeSet<ObjectId> = match view.layer_parts(layer) {
                Ok(parts) => parts.all().copied().collect(),
                Err(_) => continue,
            };
            if others.is_disjoint(objects) {
                continue;
            }
            let entries = layer_entries(view, layer).into_iter().flatten();
            for entry in entries.map_while(Result::ok) {
                if let EntryKind::Regular(FileContent::Object { id, .. }) = entry.kind {
                    others.remove(&id);
                    let usage = Usage::File {
                        image: image.name.clone(),
                        layer: *layer,
                        path: entry.name.to_string(),
                    };
                    note(id, usage);
                }
            }
            for id in others {
                let image = image.name.clone();
                note(
                    id,
                    Usage::Layer {
                        image,
                        layer: *layer,
                    },
                );
            }
        }
    }
    let listed = |(id, uses): (ObjectId, BTreeSet<Usage>)| (id, uses.into_iter().collect());
    uses.into_iter().map(listed).collect()
}
