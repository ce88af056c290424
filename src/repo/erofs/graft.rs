//! What an inventory lists, as composefs's writer takes it: the oracle.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use composefs::{
    generic_tree::LeafId,
    tree::{self, LeafContent, RegularFile, Stat},
};

use super::{
    RepoError,
    inventory::{Child, Inventory},
    rdev,
};
use crate::{
    repo::verity::Convert,
    squash::tree::{FileContent, Inode, InodeContent, Metadata},
};

/// Makes a tree of composefs's.
///
/// # Errors
/// An object of another algorithm.
pub(super) fn graft<H: Convert>(
    inventory: &Inventory<'_>,
) -> Result<tree::FileSystem<H>, RepoError> {
    let top = stat(inventory.metadata(Child::Folder(0)));
    let mut target = tree::FileSystem::new(top);
    let leaves = inventory.leaves.iter();
    let leaves = leaves.map(|leaf| {
        let content = content(leaf.inode)?;
        Ok(target.push_leaf(stat(&leaf.inode.metadata), content))
    });
    let leaves: Vec<LeafId> = leaves.collect::<Result<_, RepoError>>()?;
    target.root = directory(inventory, 0, &leaves);
    Ok(target)
}

fn directory<H: Convert>(
    inventory: &Inventory<'_>,
    folder: usize,
    leaves: &[LeafId],
) -> tree::Directory<H> {
    let metadata = inventory.metadata(Child::Folder(folder));
    let mut target = tree::Directory::new(stat(metadata));
    for (name, child) in inventory.entries(folder) {
        let node = match child {
            Child::Folder(child) => {
                tree::Inode::Directory(Box::new(directory(inventory, child, leaves)))
            }
            Child::Leaf(leaf) => tree::Inode::leaf(leaves[leaf]),
        };
        target.insert(OsStr::from_bytes(name), node);
    }
    target
}

fn content<H: Convert>(inode: &Inode) -> Result<LeafContent<H>, RepoError> {
    Ok(match &inode.content {
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
    })
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
