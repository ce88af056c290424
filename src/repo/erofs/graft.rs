//! A store tree as composefs's writer takes it.

use std::{collections::HashMap, ffi::OsStr, os::unix::ffi::OsStrExt, sync::Arc};

use composefs::{
    generic_tree::LeafId,
    tree::{self, LeafContent, RegularFile, Stat},
};

use super::{IsRootfs, RepoError, rdev};
use crate::{
    name::SetFormat,
    repo::verity::Convert,
    squash::tree::{Directory, FileContent, Inode, InodeContent, Metadata, Node},
};

/// Copies a store tree.
///
/// # Errors
/// An object of another algorithm.
pub(super) fn graft<H: Convert>(
    tree: &Directory,
    format: SetFormat,
    is_rootfs: IsRootfs,
) -> Result<tree::FileSystem<H>, RepoError> {
    let mut graft = Graft {
        target: tree::FileSystem::new(stat(&tree.metadata)),
        alike: HashMap::new(),
        rootfs: 0,
        format,
        is_rootfs,
    };
    let mut scope = graft.scope(tree, &mut Vec::new());
    graft.target.root = graft.directory(tree, &mut scope, &mut Vec::new())?;
    Ok(graft.target)
}

struct Graft<'t, H: Convert> {
    target: tree::FileSystem<H>,
    /// From format 2 on: the leaves of each kind of inode. What an inode is, and
    /// how many names it has in its rootfs, make the kind.
    alike: HashMap<(&'t Inode, u32), Alike>,
    /// How many rootfs were begun.
    rootfs: usize,
    format: SetFormat,
    is_rootfs: IsRootfs,
}

/// Leaves that differ in nothing, which one rootfs has beside each other.
#[derive(Default)]
struct Alike {
    leaves: Vec<LeafId>,
    /// How many of them the rootfs has which was looked at last, and which it is.
    used: usize,
    rootfs: usize,
}

/// A rootfs, or what of the store tree is in none.
struct Scope {
    number: usize,
    /// How many names an inode has here, by its address.
    links: HashMap<*const Inode, u32>,
    /// The leaves of those with more than one.
    leaves: HashMap<*const Inode, LeafId>,
}

impl<'t, H: Convert> Graft<'t, H> {
    fn scope(&mut self, top: &'t Directory, path: &mut Vec<u8>) -> Scope {
        self.rootfs += 1;
        let mut links = HashMap::new();
        self.count(top, path, &mut links);
        Scope {
            number: self.rootfs,
            links,
            leaves: HashMap::new(),
        }
    }

    fn count(
        &self,
        directory: &Directory,
        path: &mut Vec<u8>,
        links: &mut HashMap<*const Inode, u32>,
    ) {
        for (name, node) in &directory.entries {
            match node {
                Node::Inode(inode) => *links.entry(Arc::as_ptr(inode)).or_default() += 1,
                Node::Directory(child) => at(path, name, |path| {
                    if !(self.is_rootfs)(path) {
                        self.count(child, path, links);
                    }
                }),
            }
        }
    }

    fn directory(
        &mut self,
        source: &'t Directory,
        scope: &mut Scope,
        path: &mut Vec<u8>,
    ) -> Result<tree::Directory<H>, RepoError> {
        let mut directory = tree::Directory::new(stat(&source.metadata));
        for (name, node) in &source.entries {
            let node = match node {
                Node::Inode(inode) => tree::Inode::leaf(self.leaf(inode, scope)?),
                Node::Directory(child) => at(path, name, |path| {
                    let child = if (self.is_rootfs)(path) {
                        let mut rootfs = self.scope(child, path);
                        self.directory(child, &mut rootfs, path)
                    } else {
                        self.directory(child, scope, path)
                    };
                    child.map(|child| tree::Inode::Directory(Box::new(child)))
                })?,
            };
            directory.insert(OsStr::from_bytes(name), node);
        }
        Ok(directory)
    }

    fn leaf(&mut self, inode: &'t Arc<Inode>, scope: &mut Scope) -> Result<LeafId, RepoError> {
        let address = Arc::as_ptr(inode);
        if let Some(id) = scope.leaves.get(&address) {
            return Ok(*id);
        }
        let links = scope.links.get(&address).copied().unwrap_or(1);
        let id = match self.format {
            SetFormat::V1 => self.new_leaf(inode)?,
            SetFormat::V2 => self.shared_leaf(inode, links, scope.number)?,
        };
        if links > 1 {
            scope.leaves.insert(address, id);
        }
        Ok(id)
    }

    /// The next leaf of this kind that the rootfs has not.
    fn shared_leaf(
        &mut self,
        inode: &'t Inode,
        links: u32,
        rootfs: usize,
    ) -> Result<LeafId, RepoError> {
        let alike = self.alike.entry((inode, links)).or_default();
        if alike.rootfs != rootfs {
            alike.rootfs = rootfs;
            alike.used = 0;
        }
        alike.used += 1;
        if let Some(id) = alike.leaves.get(alike.used - 1) {
            return Ok(*id);
        }
        let id = self.new_leaf(inode)?;
        if let Some(alike) = self.alike.get_mut(&(inode, links)) {
            alike.leaves.push(id);
        }
        Ok(id)
    }

    fn new_leaf(&mut self, inode: &Inode) -> Result<LeafId, RepoError> {
        let content = match &inode.content {
            InodeContent::Regular(FileContent::Inline(bytes)) => {
                LeafContent::Regular(RegularFile::Inline(bytes.clone()))
            }
            InodeContent::Regular(FileContent::Object { id, size }) => {
                LeafContent::Regular(RegularFile::External(H::from_id(id)?, *size))
            }
            InodeContent::Symlink(to) => LeafContent::Symlink(OsStr::from_bytes(to).into()),
            InodeContent::CharDevice(device) => LeafContent::CharacterDevice(rdev(*device)),
            InodeContent::BlockDevice(device) => LeafContent::BlockDevice(rdev(*device)),
            InodeContent::Fifo => LeafContent::Fifo,
        };
        Ok(self.target.push_leaf(stat(&inode.metadata), content))
    }
}

/// Does something with `path` while it has one name more.
fn at<T>(path: &mut Vec<u8>, name: &[u8], work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let length = path.len();
    if length > 0 {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    let done = work(path);
    path.truncate(length);
    done
}

fn stat(metadata: &Metadata) -> Stat {
    Stat {
        st_mode: metadata.mode,
        st_uid: metadata.uid,
        st_gid: metadata.gid,
        st_mtim_sec: metadata.mtime.sec,
        st_mtim_nsec: metadata.mtime.nsec,
        xattrs: metadata
            .xattrs
            .iter()
            .map(|(name, value)| (OsStr::from_bytes(name).into(), value.clone()))
            .collect(),
    }
}
