//! Rendering a tree to an EROFS image, the set image, and reading it back.

use std::{collections::HashMap, ffi::OsStr, os::unix::ffi::OsStrExt, sync::Arc};

use composefs::{
    erofs::{
        format::FormatVersion,
        reader::erofs_to_filesystem,
        writer::{ValidatedFileSystem, mkfs_erofs_versioned},
    },
    fsverity::{Sha256HashValue, Sha512HashValue},
    generic_tree::LeafId,
    tree::{self, LeafContent, RegularFile, Stat},
};

use super::{RepoError, error::Upstream, verity::Convert};
use crate::{
    name::{Algorithm, Mtime},
    squash::tree::{Device, Directory, FileContent, Inode, InodeContent, Metadata, Node},
};

/// Renders a tree to the bytes of an EROFS image of format V1, whose large
/// files are objects.
///
/// Pure: the same tree gives the same bytes. Every directory below
/// `overlay/*/diff` counts its own hard links, though inodes are shared
/// between the trees of a chain: a hard link never crosses `separate`.
///
/// # Errors
/// An object of another algorithm; a tree that EROFS cannot hold.
pub fn render(
    algorithm: Algorithm,
    tree: &Directory,
    separate: impl Fn(&[&[u8]]) -> bool,
) -> Result<Box<[u8]>, RepoError> {
    match algorithm {
        Algorithm::Sha256 => render_with::<Sha256HashValue>(tree, &separate),
        Algorithm::Sha512 => render_with::<Sha512HashValue>(tree, &separate),
    }
}

fn render_with<H: Convert>(
    root: &Directory,
    separate: &dyn Fn(&[&[u8]]) -> bool,
) -> Result<Box<[u8]>, RepoError> {
    let mut target = tree::FileSystem::<H>::new(stat(&root.metadata));
    let mut graft = Graft {
        leaves: HashMap::new(),
        separate,
    };
    let mut directory = tree::Directory::new(stat(&root.metadata));
    graft.fill(&mut target, &mut directory, root, &mut Vec::new())?;
    target.root = directory;
    let valid = ValidatedFileSystem::new(target).map_err(|error| RepoError::Write {
        what: "the set image".into(),
        source: error.into(),
    })?;
    Ok(mkfs_erofs_versioned(&valid, FormatVersion::V1))
}

struct Graft<'a> {
    /// By the address of the shared inode: one leaf for all names of one tree.
    leaves: HashMap<*const Inode, LeafId>,
    separate: &'a dyn Fn(&[&[u8]]) -> bool,
}

impl Graft<'_> {
    fn fill<'t, H: Convert>(
        &mut self,
        target: &mut tree::FileSystem<H>,
        directory: &mut tree::Directory<H>,
        source: &'t Directory,
        path: &mut Vec<&'t [u8]>,
    ) -> Result<(), RepoError> {
        for (name, node) in &source.entries {
            let inode = match node {
                Node::Inode(inode) => tree::Inode::leaf(self.leaf(target, inode)?),
                Node::Directory(child) => {
                    let mut grafted = tree::Directory::new(stat(&child.metadata));
                    path.push(name);
                    if (self.separate)(path) {
                        let outer = std::mem::take(&mut self.leaves);
                        self.fill(target, &mut grafted, child, path)?;
                        self.leaves = outer;
                    } else {
                        self.fill(target, &mut grafted, child, path)?;
                    }
                    path.pop();
                    tree::Inode::Directory(Box::new(grafted))
                }
            };
            directory.insert(OsStr::from_bytes(name), inode);
        }
        Ok(())
    }

    fn leaf<H: Convert>(
        &mut self,
        target: &mut tree::FileSystem<H>,
        inode: &Arc<Inode>,
    ) -> Result<LeafId, RepoError> {
        let key = Arc::as_ptr(inode);
        if let Some(id) = self.leaves.get(&key) {
            return Ok(*id);
        }
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
        let id = target.push_leaf(stat(&inode.metadata), content);
        self.leaves.insert(key, id);
        Ok(id)
    }
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

/// The kernel's `new_encode_dev`, as EROFS stores it and glibc's `makedev` agrees for small numbers.
fn rdev(device: Device) -> u64 {
    let (major, minor) = (u64::from(device.major), u64::from(device.minor));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

fn device(rdev: u64) -> Device {
    let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    Device {
        major: number((rdev >> 8) & 0xfff),
        minor: number((rdev & 0xff) | ((rdev >> 12) & !0xff)),
    }
}

/// Reads an EROFS image of format V1 back: the inverse of [`render`].
///
/// # Errors
/// What is wrong with the image; a hostile one is refused, not believed.
pub fn read_back(algorithm: Algorithm, image: &[u8]) -> Result<Directory, Upstream> {
    match algorithm {
        Algorithm::Sha256 => read_with::<Sha256HashValue>(image),
        Algorithm::Sha512 => read_with::<Sha512HashValue>(image),
    }
}

fn read_with<H: Convert>(image: &[u8]) -> Result<Directory, Upstream> {
    let read = erofs_to_filesystem::<H>(image)?;
    let inodes = read.leaves.iter().map(|leaf| {
        Ok(Arc::new(Inode {
            metadata: metadata(&leaf.stat),
            content: match &leaf.content {
                LeafContent::Regular(RegularFile::Inline(bytes)) => {
                    InodeContent::Regular(FileContent::Inline(bytes.clone()))
                }
                LeafContent::Regular(RegularFile::External(id, size)) => {
                    let (id, size) = (id.object_id(), *size);
                    InodeContent::Regular(FileContent::Object { id, size })
                }
                LeafContent::Symlink(to) => InodeContent::Symlink(to.as_bytes().into()),
                LeafContent::CharacterDevice(rdev) => InodeContent::CharDevice(device(*rdev)),
                LeafContent::BlockDevice(rdev) => InodeContent::BlockDevice(device(*rdev)),
                LeafContent::Fifo => InodeContent::Fifo,
                other => return Err(format!("it has {other:?}, which no set has").into()),
            },
        }))
    });
    let inodes: Vec<_> = inodes.collect::<Result<_, Upstream>>()?;
    Ok(ungraft(&read.root, &inodes))
}

/// The reader has bounded how deep directories go.
fn ungraft<H: Convert>(source: &tree::Directory<H>, inodes: &[Arc<Inode>]) -> Directory {
    let mut directory = Directory::new(metadata(&source.stat));
    for (name, inode) in source.entries() {
        let node = match inode {
            tree::Inode::Directory(child) => Node::Directory(Arc::new(ungraft(child, inodes))),
            tree::Inode::Leaf(id, ..) => Node::Inode(Arc::clone(&inodes[id.0])),
        };
        directory.entries.insert(name.as_bytes().into(), node);
    }
    directory
}

fn metadata(stat: &Stat) -> Metadata {
    let xattrs = stat.xattrs.iter();
    Metadata {
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Mtime {
            sec: stat.st_mtim_sec,
            nsec: stat.st_mtim_nsec,
        },
        xattrs: xattrs
            .map(|(name, value)| (name.as_bytes().into(), value.clone()))
            .collect(),
    }
}
