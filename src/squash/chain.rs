//! The trees of a whole chain of layers.

use std::{error::Error, sync::Arc};

use super::{
    Dropped, LayerDiff, LayerEntry, SquashError,
    tree::{Directory, Metadata},
};
use crate::name::Mtime;

/// Squashes a chain of layers, base first; each push gives the tree so far.
///
/// Trees share what is equal: a layer costs what it changes, plus a copy of
/// the list of names of each directory it touches.
#[derive(Debug, Clone, Default)]
pub struct RootfsChain {
    top: Option<Arc<Directory>>,
    layers: usize,
    dropped: Dropped,
}

impl RootfsChain {
    /// Puts one layer on top and gives the tree up to and with it.
    ///
    /// # Errors
    /// What `entries` gave as an error, or the first entry that has no place
    /// in a file tree. The chain then is as it was.
    pub fn push<E: Into<Box<dyn Error + Send + Sync>>>(
        &mut self,
        entries: impl IntoIterator<Item = Result<LayerEntry, E>>,
    ) -> Result<Arc<Directory>, SquashError> {
        let mut diff = LayerDiff::new(self.root(), self.lower(), self.layers);
        for entry in entries {
            match entry {
                Ok(entry) => diff.add(entry)?,
                Err(error) => return Err(diff.read_error(error.into())),
            }
        }
        Ok(self.push_diff(diff))
    }

    /// Starts the next layer, for callers that cannot offer an iterator.
    pub fn layer(&self) -> LayerDiff {
        LayerDiff::new(self.root(), self.lower(), self.layers)
    }

    /// Puts a layer from [`RootfsChain::layer`] on top.
    ///
    /// It must be this chain's and nothing pushed since: its entries were
    /// checked against the tree that was on top then.
    pub fn push_diff(&mut self, diff: LayerDiff) -> Arc<Directory> {
        self.dropped = self.dropped.plus(diff.dropped());
        self.layers += 1;
        let tree = diff.merge();
        self.top = Some(Arc::clone(&tree));
        tree
    }

    /// The tree of all layers pushed; none before the first.
    pub fn top(&self) -> Option<&Arc<Directory>> {
        self.top.as_ref()
    }

    /// What was left out of the trees so far.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    fn lower(&self) -> Arc<Directory> {
        self.top.clone().unwrap_or_default()
    }

    /// The root a layer starts with, before any entry: containers-storage's
    /// overlay driver makes the base's 0555 root:root and gives a child the
    /// owner and permission bits of its parent's, through podman's umask of
    /// 022, nothing else.
    fn root(&self) -> Metadata {
        let (mode, uid, gid) = match &self.top {
            None => (0o555, 0, 0),
            Some(top) => {
                let root = &top.metadata;
                (root.mode & 0o755, root.uid, root.gid)
            }
        };
        Metadata {
            mode,
            uid,
            gid,
            mtime: Mtime::EPOCH,
            ..Metadata::default()
        }
    }
}

impl Dropped {
    fn plus(self, other: Self) -> Self {
        Self {
            whiteout_devices: self.whiteout_devices + other.whiteout_devices,
            overlay_xattrs: self.overlay_xattrs + other.overlay_xattrs,
            selinux_xattrs: self.selinux_xattrs + other.selinux_xattrs,
            unsettable_xattrs: self.unsettable_xattrs + other.unsettable_xattrs,
        }
    }
}
