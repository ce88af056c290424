//! A layer over the tree below it, as overlayfs shows the two.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    LayerDiff,
    diff::{DiffDir, DiffNode, ROOT},
    tree::{Directory, Inode, Node},
};

/// Where a directory of the diff stands while the trees are put together.
#[derive(Clone, Copy, PartialEq)]
enum Reach {
    /// Not below the root: it was replaced.
    No,
    Yes {
        /// Some directory on the way is opaque, so nothing lies below.
        hidden: bool,
    },
}

impl LayerDiff {
    /// The merged tree. Directories the layer does not touch are those of the
    /// tree below, shared.
    pub(super) fn merge(self) -> Arc<Directory> {
        // parents stand before their children, so one pass down and one up do
        // without recursion
        let mut reach = vec![Reach::No; self.dirs.len()];
        // overlayfs ignores an opaque marker on a layer's root
        reach[ROOT] = Reach::Yes { hidden: false };
        for id in 0..self.dirs.len() {
            let Reach::Yes { hidden } = reach[id] else {
                continue;
            };
            for node in self.dirs[id].entries.values() {
                if let DiffNode::Directory(child) = node {
                    let hidden = hidden || self.dirs[*child].opaque;
                    reach[*child] = Reach::Yes { hidden };
                }
            }
        }
        let inodes: Vec<Arc<Inode>> = self.inodes.into_iter().map(Arc::new).collect();
        let mut merged: Vec<Option<Arc<Directory>>> = vec![None; self.dirs.len()];
        for (id, dir) in self.dirs.into_iter().enumerate().rev() {
            if let Reach::Yes { hidden } = reach[id] {
                let tree = merge_directory(dir, hidden, &inodes, &mut merged);
                merged[id] = Some(Arc::new(tree));
            }
        }
        merged.swap_remove(ROOT).unwrap_or_default()
    }
}

fn merge_directory(
    dir: DiffDir,
    hidden: bool,
    inodes: &[Arc<Inode>],
    merged: &mut [Option<Arc<Directory>>],
) -> Directory {
    let mut entries = match dir.lower {
        Some(lower) if !hidden => lower.entries.clone(),
        _ => BTreeMap::new(),
    };
    let own = dir.entries.into_iter().map(|(name, node)| {
        let node = match node {
            DiffNode::Whiteout => None,
            DiffNode::Directory(id) => merged[id].take().map(Node::Directory),
            DiffNode::Inode(id) => Some(Node::Inode(Arc::clone(&inodes[id]))),
            DiffNode::Lower(inode) => Some(Node::Inode(inode)),
        };
        (name, node)
    });
    if entries.is_empty() {
        // in order, so built in one go
        entries = own.filter_map(|(name, node)| Some((name, node?))).collect();
    } else {
        for (name, node) in own {
            match node {
                Some(node) => entries.insert(name, node),
                None => entries.remove(&name),
            };
        }
    }
    Directory {
        metadata: dir.metadata,
        entries,
    }
}
