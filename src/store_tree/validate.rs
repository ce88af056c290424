//! Reading a store tree back as podman would, before anyone shows it to one.
//!
//! A broken store is no missing image, it is a host-wide podman outage
//! (`docs/format.md`): so nothing here trusts what built the tree. The JSON
//! is parsed out of the tree, every digest is computed again, and whatever
//! the format does not name is a violation.

mod find;
mod images;
mod layers;
mod rootfs;
mod violation;

use std::sync::Arc;

pub use violation::{ValidationError, Violation};

use super::{layout::StoreTree, lock_content};
use crate::squash::tree::{Directory, Node};
use find::Finder;

/// A store tree that podman can read, every part of it: the only thing that a
/// sink accepts.
#[derive(Debug, Clone)]
pub struct ValidStoreTree {
    tree: Arc<Directory>,
}

impl ValidStoreTree {
    /// The tree.
    pub fn tree(&self) -> &Arc<Directory> {
        &self.tree
    }

    /// The layers' trees, `overlay/<layer ID>/diff`, with their layer IDs.
    ///
    /// Hard links are such within one of these only.
    pub fn rootfs_trees(&self) -> impl Iterator<Item = (&str, &Arc<Directory>)> {
        let overlay = match self.tree.entries.get(&b"overlay"[..]) {
            Some(Node::Directory(overlay)) => Some(&overlay.entries),
            _ => None,
        };
        overlay.into_iter().flatten().filter_map(|(name, node)| {
            let Node::Directory(layer) = node else {
                return None;
            };
            let Some(Node::Directory(diff)) = layer.entries.get(&b"diff"[..]) else {
                return None;
            };
            Some((std::str::from_utf8(name).ok()?, diff))
        })
    }
}

impl StoreTree {
    /// Checks the whole tree.
    ///
    /// # Errors
    /// All that is wrong with it, see [`validate_tree`].
    pub fn validate(self) -> Result<ValidStoreTree, ValidationError> {
        validate_tree(self.tree())?;
        Ok(ValidStoreTree {
            tree: Arc::clone(self.tree()),
        })
    }
}

/// Checks that `tree` is a store tree of format 1 that podman can read.
///
/// What it cannot see: the bytes of files that are objects of the repository
/// (the tar-splits' and the layers' own).
///
/// # Errors
/// All that is wrong with it.
pub fn validate_tree(tree: &Directory) -> Result<(), ValidationError> {
    let mut finder = Finder::new(tree);
    finder.top();
    let layers_json = finder.inline("overlay-layers/layers.json");
    let images_json = finder.inline("overlay-images/images.json");
    let layers = layers::check(&mut finder, layers_json);
    images::check(&mut finder, images_json, &layers);

    let lock = lock_content(
        layers_json.unwrap_or_default(),
        images_json.unwrap_or_default(),
    );
    for path in [
        "overlay-images/images.lock",
        "overlay-layers/layers.lock",
        "vfs-images/images.lock",
        "vfs-layers/layers.lock",
    ] {
        if let Some(found) = finder.inline(path)
            && *found != lock
        {
            finder.violation(Violation::LockContent { path: path.into() });
        }
    }
    finder.finish()
}

#[cfg(test)]
mod tests;
