//! A store tree in parts that change apart from each other.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{ImageRecord, ValidStoreTree, node, parse_images_json, parse_layers_json};
use crate::{
    name::ImageName,
    squash::tree::{Directory, FileContent, InodeContent, Node},
};

/// One part of a store tree; all of them together are the whole.
#[derive(Debug, Clone)]
pub struct StorePart {
    /// The ID of the image whose layers it has; `None` for the part with the
    /// lists and documents, without which the others are nothing.
    pub image_id: Option<String>,
    /// The image's names.
    pub names: Vec<ImageName>,
    /// The part: of the whole tree's shape.
    pub tree: Arc<Directory>,
}

impl ValidStoreTree {
    /// Parts it: for each image, by its first name, the layers that no image
    /// before it has; the rest last. The layers of an image do not change
    /// with other images, unless those share some.
    pub fn parts(&self) -> Vec<StorePart> {
        // A valid tree has both lists.
        let images = read(self.tree(), "overlay-images", "images.json");
        let mut images = images
            .and_then(|json| parse_images_json(json).ok())
            .unwrap_or_default();
        let layers = read(self.tree(), "overlay-layers", "layers.json");
        let layers = layers
            .and_then(|json| parse_layers_json(json).ok())
            .unwrap_or_default();
        let parents: HashMap<&str, Option<&str>> = layers
            .iter()
            .map(|layer| (layer.id.as_str(), layer.parent.as_deref()))
            .collect();
        // Those without a name, kept for others, last.
        let by_name = |image: &ImageRecord| (image.names.is_empty(), image.names.clone());
        images.sort_by_cached_key(|image| (by_name(image), image.id.clone()));

        let mut taken = BTreeSet::new();
        let mut parts = Vec::new();
        for image in &images {
            let mut own = BTreeSet::new();
            let mut next = image.layer.as_deref();
            while let Some(id) = next {
                if taken.insert(id.to_owned()) {
                    own.insert(id.to_owned());
                }
                next = parents.get(id).copied().flatten();
            }
            if own.is_empty() {
                continue;
            }
            let of_layer = |_: &str, id: &str| own.contains(id);
            parts.push(StorePart {
                image_id: Some(image.id.clone()),
                names: { image.names.iter() }
                    .filter_map(|name| name.parse().ok())
                    .collect(),
                tree: self.filtered(&["overlay", "overlay-layers"], of_layer),
            });
        }
        let all = self.tree().entries.keys();
        let all: Vec<&str> = all
            .filter_map(|name| std::str::from_utf8(name).ok())
            .collect();
        let is_rest = |folder: &str, id: &str| {
            !matches!(folder, "overlay" | "overlay-layers") || !taken.contains(id)
        };
        parts.push(StorePart {
            image_id: None,
            names: Vec::new(),
            tree: self.filtered(&all, is_rest),
        });
        parts
    }

    /// What is in `folders` and has a name, up to its first dot, that is taken.
    fn filtered(&self, folders: &[&str], take: impl Fn(&str, &str) -> bool) -> Arc<Directory> {
        let mut top = Directory::new(self.tree().metadata.clone());
        for folder in folders {
            let Some(Node::Directory(directory)) = self.tree().entries.get(folder.as_bytes())
            else {
                continue;
            };
            let mut filtered = Directory::new(directory.metadata.clone());
            for (name, node) in &directory.entries {
                let text = String::from_utf8_lossy(name);
                let id = text.split('.').next().unwrap_or_default();
                if take(folder, id) {
                    filtered.entries.insert(name.clone(), node.clone());
                }
            }
            node::put_directory(&mut top, folder, filtered);
        }
        Arc::new(top)
    }
}

fn read<'t>(tree: &'t Directory, folder: &str, file: &str) -> Option<&'t [u8]> {
    match tree.lookup([folder.as_bytes(), file.as_bytes()])? {
        Node::Inode(inode) => match &inode.content {
            InodeContent::Regular(FileContent::Inline(bytes)) => Some(bytes),
            _ => None,
        },
        Node::Directory(_) => None,
    }
}
