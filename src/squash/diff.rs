//! One layer, extracted on its own.

use std::{collections::BTreeMap, error::Error, sync::Arc};

use super::{
    Dropped, EntryFault, EntryKind, EntryName, LayerEntry, SquashError, acl,
    resolve::Walk,
    sanitize::{WHITEOUT, check_xattrs, sanitize},
    tree::{Directory, Inode, InodeContent, Metadata, Node},
};
use crate::name::Mtime;

/// What one layer adds and hides: the `diff` directory that podman would
/// extract it to.
///
/// Directories and inodes lie in two lists and are named by their place there.
/// A directory stands behind its parent, always; one that was replaced stays
/// in the list, out of reach from the root.
#[derive(Debug)]
pub struct LayerDiff {
    pub(super) dirs: Vec<DiffDir>,
    pub(super) inodes: Vec<Inode>,
    layer: usize,
    added: u64,
    dropped: Dropped,
}

/// A directory of a [`LayerDiff`].
#[derive(Debug)]
pub(super) struct DiffDir {
    pub metadata: Metadata,
    pub entries: BTreeMap<Box<[u8]>, DiffNode>,
    /// What the tree below has in this place, if a directory.
    pub lower: Option<Arc<Directory>>,
    pub parent: DirId,
    pub depth: usize,
    /// Hides all that lies below.
    pub opaque: bool,
    /// Made for an entry, not just as the parent of a whiteout.
    pub wanted: bool,
}

/// A name in a [`DiffDir`].
#[derive(Debug, Clone)]
pub(super) enum DiffNode {
    Directory(DirId),
    Inode(InodeId),
    /// A hard link to a file that only the tree below has.
    Lower(Arc<Inode>),
    /// Hides what lies below.
    Whiteout,
}

pub(super) type DirId = usize;
pub(super) type InodeId = usize;

pub(super) const ROOT: DirId = 0;

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";

impl LayerDiff {
    /// An empty layer number `layer` over `lower`, with this root directory.
    pub(super) fn new(root: Metadata, lower: Arc<Directory>, layer: usize) -> Self {
        let root = DiffDir {
            metadata: root,
            entries: BTreeMap::new(),
            lower: Some(lower),
            parent: ROOT,
            depth: 0,
            opaque: false,
            wanted: true,
        };
        Self {
            dirs: vec![root],
            inodes: Vec::new(),
            layer,
            added: 0,
            dropped: Dropped::default(),
        }
    }

    /// What this layer's entries lost.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Adds the next entry, in the order of the tar.
    ///
    /// # Errors
    /// It has no place in the tree; the diff then is of no use any more.
    pub fn add(&mut self, entry: LayerEntry) -> Result<(), SquashError> {
        let number = self.added;
        self.added += 1;
        let LayerEntry {
            name,
            metadata,
            kind,
        } = entry;
        let label = kind.label();
        self.place(&name, metadata, kind)
            .map_err(|source| SquashError::Entry {
                layer: self.layer,
                number,
                name,
                kind: label,
                source,
            })
    }

    /// The error for a source that failed instead of giving an entry.
    pub(super) fn read_error(&self, source: Box<dyn Error + Send + Sync>) -> SquashError {
        SquashError::Read {
            layer: self.layer,
            number: self.added,
            source,
        }
    }

    fn place(
        &mut self,
        name: &EntryName,
        metadata: Metadata,
        kind: EntryKind,
    ) -> Result<(), EntryFault> {
        let mut parents = name.components();
        let Some(base) = parents.next_back() else {
            return self.place_root(metadata, kind);
        };
        if base == OPAQUE_MARKER {
            if let Some(dir) = self.walk(parents, Walk::Marker)? {
                self.dirs[dir].opaque = true;
            }
            return Ok(());
        }
        if let Some(hidden) = base.strip_prefix(WHITEOUT_PREFIX) {
            if matches!(hidden, b"" | b"." | b"..") {
                return Err(EntryFault::BadWhiteout);
            }
            if let Some(dir) = self.walk(parents, Walk::Marker)? {
                self.hide(dir, hidden);
            }
            return Ok(());
        }
        let metadata = sanitize(metadata, &kind, &mut self.dropped)?;
        let Some(dir) = self.walk(parents, Walk::Entry)? else {
            return Err(EntryFault::NotADirectory(name.to_string()));
        };
        let content = match kind {
            EntryKind::Directory => return self.place_directory(dir, base, metadata),
            EntryKind::Hardlink(target) => return self.place_link(dir, base, &target, metadata),
            EntryKind::CharDevice(WHITEOUT) => {
                self.dropped.whiteout_devices += 1;
                self.put(dir, base, DiffNode::Whiteout);
                return Ok(());
            }
            EntryKind::CharDevice(device) => InodeContent::CharDevice(device),
            EntryKind::BlockDevice(device) => InodeContent::BlockDevice(device),
            EntryKind::Fifo => InodeContent::Fifo,
            EntryKind::Regular(content) => InodeContent::Regular(content),
            EntryKind::Symlink(target) => {
                if target.is_empty() || target.len() > EntryName::MAX || target.contains(&0) {
                    return Err(EntryFault::BadSymlink);
                }
                InodeContent::Symlink(target)
            }
        };
        let mut metadata = metadata;
        acl::set_mode(&mut metadata);
        self.inodes.push(Inode { metadata, content });
        self.put(dir, base, DiffNode::Inode(self.inodes.len() - 1));
        Ok(())
    }

    fn place_root(&mut self, metadata: Metadata, kind: EntryKind) -> Result<(), EntryFault> {
        if kind != EntryKind::Directory {
            return Err(EntryFault::RootNotADirectory);
        }
        let metadata = sanitize(metadata, &kind, &mut self.dropped)?;
        overlay_metadata(&mut self.dirs[ROOT].metadata, metadata)
    }

    fn place_directory(
        &mut self,
        parent: DirId,
        base: &[u8],
        metadata: Metadata,
    ) -> Result<(), EntryFault> {
        let id = match self.dirs[parent].entries.get(base) {
            Some(DiffNode::Directory(id)) => *id,
            _ => self.make_directory(parent, base, true)?,
        };
        self.dirs[id].wanted = true;
        overlay_metadata(&mut self.dirs[id].metadata, metadata)
    }

    /// A new directory in place of whatever stood there, with the metadata
    /// podman gives to the parents it has to make up.
    pub(super) fn make_directory(
        &mut self,
        parent: DirId,
        base: &[u8],
        wanted: bool,
    ) -> Result<DirId, EntryFault> {
        let above = &self.dirs[parent];
        let depth = above.depth + 1;
        // mkdir(2) hands setgid on, and podman's chown leaves it
        let setgid = above.metadata.mode & 0o2000;
        if depth > super::MAX_DEPTH {
            return Err(EntryFault::TooDeep);
        }
        let lower = match above.lower.as_ref().and_then(|dir| dir.entries.get(base)) {
            Some(Node::Directory(dir)) => Some(Arc::clone(dir)),
            _ => None,
        };
        self.dirs.push(DiffDir {
            metadata: Metadata {
                mode: 0o755 | setgid,
                mtime: Mtime::EPOCH,
                ..Metadata::default()
            },
            entries: BTreeMap::new(),
            lower,
            parent,
            depth,
            opaque: false,
            wanted,
        });
        let id = self.dirs.len() - 1;
        self.put(parent, base, DiffNode::Directory(id));
        Ok(id)
    }

    fn place_link(
        &mut self,
        dir: DirId,
        base: &[u8],
        target: &EntryName,
        metadata: Metadata,
    ) -> Result<(), EntryFault> {
        // podman removes what stands in the way before it links, so a link to
        // itself finds nothing
        if !matches!(
            self.dirs[dir].entries.get(base),
            Some(DiffNode::Directory(_))
        ) {
            self.dirs[dir].entries.remove(base);
        }
        let node = self.link_target(target)?;
        if let DiffNode::Inode(id) = &node {
            let linked = &mut self.inodes[*id];
            let symlink = matches!(linked.content, InodeContent::Symlink(_));
            let own = &linked.metadata;
            let mut metadata = metadata;
            if symlink {
                metadata.mode = own.mode;
                metadata.mtime = own.mtime;
            }
            if (own.uid, own.gid) != (metadata.uid, metadata.gid) {
                // chown(2) takes file capabilities away
                linked.metadata.xattrs.remove(&b"security.capability"[..]);
            }
            overlay_metadata(&mut linked.metadata, metadata)?;
        }
        self.put(dir, base, node);
        Ok(())
    }

    /// A whiteout: an entry of this layer of the same name outlives it.
    fn hide(&mut self, dir: DirId, name: &[u8]) {
        let taken = match self.dirs[dir].entries.get(name) {
            None => false,
            Some(DiffNode::Directory(id)) => self.dirs[*id].wanted,
            Some(_) => true,
        };
        if !taken {
            self.put(dir, name, DiffNode::Whiteout);
        }
    }

    fn put(&mut self, dir: DirId, name: &[u8], node: DiffNode) {
        let entries = &mut self.dirs[dir].entries;
        match entries.get_mut(name) {
            Some(slot) => *slot = node,
            None => {
                entries.insert(name.into(), node);
            }
        }
    }
}

/// Applies a header to a file that is there already: extended attributes are
/// only ever added, all else is replaced.
fn overlay_metadata(old: &mut Metadata, new: Metadata) -> Result<(), EntryFault> {
    let xattrs = std::mem::take(&mut old.xattrs);
    let added = new.xattrs;
    *old = Metadata { xattrs, ..new };
    acl::set_list(old);
    old.xattrs.extend(added);
    acl::set_mode(old);
    check_xattrs(old)
}
