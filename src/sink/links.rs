//! Which names of a store tree become hard links.

use std::{collections::HashMap, sync::Arc};

use crate::{squash::tree::Inode, store_tree::is_rootfs};

/// Between which names hard links are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HardLinks {
    /// Those of one rootfs only: each shows the link counts that its layers
    /// make.
    #[default]
    WithinRootfs,
    /// Also those of several rootfs that have the very same file: it takes its
    /// room once, and its link count is that over all of them.
    AcrossRootfs,
}

/// The names of the inodes seen so far.
pub(super) struct Links {
    between: HardLinks,
    // By address: the tree lives as long as this.
    first: HashMap<*const Inode, Box<[u8]>>,
}

impl Links {
    pub(super) fn new(between: HardLinks) -> Self {
        Self {
            between,
            first: HashMap::new(),
        }
    }

    /// To be told of each directory before what is in it.
    pub(super) fn enter(&mut self, path: &[u8]) {
        if is_rootfs(path) && self.between == HardLinks::WithinRootfs {
            self.first.clear();
        }
    }

    /// Takes `path` for the first name of `inode` from now on.
    pub(super) fn begin_anew(&mut self, inode: &Arc<Inode>, path: &[u8]) {
        self.first.insert(Arc::as_ptr(inode), path.into());
    }

    /// The name that `inode` has already, which `path` is to be a link to; else
    /// remembers `path`.
    pub(super) fn first(&mut self, inode: &Arc<Inode>, path: &[u8]) -> Option<&[u8]> {
        use std::collections::hash_map::Entry;
        match self.first.entry(Arc::as_ptr(inode)) {
            Entry::Occupied(first) => Some(first.into_mut()),
            Entry::Vacant(vacant) => {
                vacant.insert(path.into());
                None
            }
        }
    }
}
