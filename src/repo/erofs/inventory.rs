//! What a set image has to hold: the directories and inodes of a store tree,
//! each once.

use std::{collections::HashMap, sync::Arc};

use super::{IsRootfs, whiteout_metadata};
use crate::{
    name::SetFormat,
    squash::tree::{Device, Directory, Inode, InodeContent, Metadata, Node},
};

/// The directories and inodes of a tree, in the order in which one finds them
/// who goes down into each directory at once.
pub(super) struct Inventory<'t> {
    /// The tree's own first.
    pub(super) folders: Vec<Folder<'t>>,
    pub(super) leaves: Vec<Leaf<'t>>,
    /// What the names of all directories stand for.
    children: Vec<Child>,
}

/// A directory at its place in the tree.
pub(super) struct Folder<'t> {
    pub(super) directory: &'t Directory,
    pub(super) parent: usize,
    /// Whether it has whiteouts that are to be seen.
    pub(super) shows_whiteouts: bool,
    /// Where its children begin.
    first: usize,
}

/// An inode that is no directory.
pub(super) struct Leaf<'t> {
    pub(super) inode: &'t Inode,
    /// The directory of its first name.
    pub(super) home: usize,
    /// How many names it has in each rootfs that has it.
    pub(super) within: u32,
    /// How many it has altogether.
    pub(super) total: u32,
    /// Whether it is a whiteout that is to be seen: one of the tree, and not of the
    /// image's own at the top.
    pub(super) is_shown_whiteout: bool,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Child {
    Folder(usize),
    Leaf(usize),
}

impl<'t> Inventory<'t> {
    /// Lists what is in a tree. Equal files of several rootfs are one inode from
    /// format 2 on, if they have equally many names in theirs.
    pub(super) fn of(tree: &'t Directory, format: SetFormat, is_rootfs: IsRootfs) -> Self {
        let mut listing = Listing {
            found: Self {
                folders: Vec::new(),
                leaves: Vec::new(),
                children: Vec::new(),
            },
            alike: HashMap::new(),
            rootfs: 0,
            own_whiteouts: whiteout_metadata(tree),
            format,
            is_rootfs,
        };
        let mut scope = listing.scope(tree, &mut Vec::new());
        listing.folder(tree, 0, &mut scope, &mut Vec::new());
        listing.found
    }

    /// The names in a directory, in byte order, and what they stand for.
    pub(super) fn entries(&self, folder: usize) -> impl Iterator<Item = (&'t [u8], Child)> {
        let Folder {
            directory, first, ..
        } = &self.folders[folder];
        let names = directory.entries.keys().map(|name| &name[..]);
        names.zip(self.children[*first..].iter().copied())
    }

    pub(super) fn metadata(&self, child: Child) -> &'t Metadata {
        match child {
            Child::Folder(folder) => &self.folders[folder].directory.metadata,
            Child::Leaf(leaf) => &self.leaves[leaf].inode.metadata,
        }
    }
}

struct Listing<'t> {
    found: Inventory<'t>,
    /// From format 2 on: the leaves of each kind of inode. What an inode is, and
    /// how many names it has in its rootfs, make the kind.
    alike: HashMap<(&'t Inode, u32), Alike>,
    /// How many rootfs were begun.
    rootfs: usize,
    own_whiteouts: Metadata,
    format: SetFormat,
    is_rootfs: IsRootfs,
}

/// Leaves that differ in nothing, which one rootfs has beside each other.
#[derive(Default)]
struct Alike {
    leaves: Vec<usize>,
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
    leaves: HashMap<*const Inode, usize>,
}

impl<'t> Listing<'t> {
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

    fn folder(
        &mut self,
        directory: &'t Directory,
        parent: usize,
        scope: &mut Scope,
        path: &mut Vec<u8>,
    ) -> usize {
        let (number, first) = (self.found.folders.len(), self.found.children.len());
        self.found.folders.push(Folder {
            directory,
            parent,
            shows_whiteouts: false,
            first,
        });
        let end = first + directory.entries.len();
        self.found.children.resize(end, Child::Leaf(usize::MAX));
        for (place, (name, node)) in (first..).zip(&directory.entries) {
            let child = match node {
                Node::Inode(inode) => {
                    let leaf = self.leaf(inode, number, scope);
                    if is_whiteout(inode) && !self.is_own_whiteout(name, inode, number) {
                        self.show_whiteout(leaf);
                    }
                    Child::Leaf(leaf)
                }
                Node::Directory(child) => at(path, name, |path| {
                    Child::Folder(if (self.is_rootfs)(path) {
                        let mut rootfs = self.scope(child, path);
                        self.folder(child, number, &mut rootfs, path)
                    } else {
                        self.folder(child, number, scope, path)
                    })
                }),
            };
            self.found.children[place] = child;
        }
        number
    }

    fn leaf(&mut self, inode: &'t Arc<Inode>, home: usize, scope: &mut Scope) -> usize {
        let address = Arc::as_ptr(inode);
        let known = scope.leaves.get(&address).copied();
        let leaf = known.unwrap_or_else(|| {
            let links = scope.links.get(&address).copied().unwrap_or(1);
            // The image has whiteouts of its own, which nobody shares.
            let is_shared = self.format >= SetFormat::V2 && !is_whiteout(inode);
            let leaf = match is_shared {
                false => self.new_leaf(inode, home, links),
                true => self.shared_leaf(inode, home, links, scope.number),
            };
            if links > 1 {
                scope.leaves.insert(address, leaf);
            }
            leaf
        });
        self.found.leaves[leaf].total += 1;
        leaf
    }

    /// Whether it is one that the image has at its top, as composefs tells them
    /// apart from those of a tree.
    fn is_own_whiteout(&self, name: &[u8], inode: &Inode, folder: usize) -> bool {
        let is_hex = |sign: &u8| matches!(sign, b'0'..=b'9' | b'a'..=b'f');
        let is_folder_of_objects = name.len() == 2 && name.iter().all(is_hex);
        folder == 0 && is_folder_of_objects && inode.metadata == self.own_whiteouts
    }

    fn show_whiteout(&mut self, leaf: usize) {
        let leaf = &mut self.found.leaves[leaf];
        leaf.is_shown_whiteout = true;
        self.found.folders[leaf.home].shows_whiteouts = true;
    }

    /// The next leaf of this kind that the rootfs has not.
    fn shared_leaf(&mut self, inode: &'t Inode, home: usize, links: u32, rootfs: usize) -> usize {
        let next = self.found.leaves.len();
        let alike = self.alike.entry((inode, links)).or_default();
        if alike.rootfs != rootfs {
            alike.rootfs = rootfs;
            alike.used = 0;
        }
        alike.used += 1;
        if let Some(leaf) = alike.leaves.get(alike.used - 1) {
            return *leaf;
        }
        alike.leaves.push(next);
        self.new_leaf(inode, home, links)
    }

    fn new_leaf(&mut self, inode: &'t Inode, home: usize, within: u32) -> usize {
        let leaves = &mut self.found.leaves;
        leaves.push(Leaf {
            inode,
            home,
            within,
            total: 0,
            is_shown_whiteout: false,
        });
        leaves.len() - 1
    }
}

fn is_whiteout(inode: &Inode) -> bool {
    inode.content == InodeContent::CharDevice(Device { major: 0, minor: 0 })
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
