//! Rendering a tree to an EROFS image, the set image, and reading it back.

#[cfg(test)]
mod graft;
mod inventory;
mod link_counts;
#[cfg(test)]
mod tests;
mod writer;
mod xattrs;

use std::{os::unix::ffi::OsStrExt, sync::Arc};

use composefs::{
    erofs::{format::XATTR_SECURITY_SELINUX, reader::erofs_to_filesystem},
    fsverity::{Sha256HashValue, Sha512HashValue},
    tree::{self, LeafContent, RegularFile, Stat},
};

use self::{inventory::Inventory, link_counts::LinkCounts};
use super::{RepoError, error::Upstream, verity::Convert};
use crate::{
    name::{Algorithm, Mtime, SetFormat},
    squash::tree::{Device, Directory, FileContent, Inode, InodeContent, Metadata, Node},
};

/// Whether the directory at this path of a store tree is a layer's rootfs:
/// names of one file are hard links within one of these only.
pub type IsRootfs = fn(&[u8]) -> bool;

/// Renders a tree to the bytes of an EROFS image as composefs's version 1
/// writes it, whose large files are objects.
///
/// Pure: the same tree gives the same bytes, whatever its parts share in
/// memory. See `docs/format.md`, "Set image".
///
/// # Errors
/// An object of another algorithm; a tree that EROFS cannot hold.
pub fn render(
    algorithm: Algorithm,
    tree: &Directory,
    format: SetFormat,
    is_rootfs: IsRootfs,
) -> Result<Box<[u8]>, RepoError> {
    let tree = with_whiteouts(tree);
    let inventory = Inventory::of(&tree, format, is_rootfs);
    for leaf in &inventory.leaves {
        if let InodeContent::Regular(FileContent::Object { id, .. }) = leaf.inode.content
            && id.algorithm() != algorithm
        {
            return Err(RepoError::WrongAlgorithm { id, algorithm });
        }
    }
    writer::write(&inventory).map_err(|source| RepoError::Write {
        what: "the set image".into(),
        source,
    })
}

/// A tree with what composefs's images have at their top: a whiteout for each
/// folder of objects, so that nobody sees these through the image's mount.
fn with_whiteouts(tree: &Directory) -> Directory {
    let mut tree = tree.clone();
    let metadata = whiteout_metadata(&tree);
    for folder in 0..=u8::MAX {
        let whiteout = Inode {
            metadata: metadata.clone(),
            content: InodeContent::CharDevice(Device { major: 0, minor: 0 }),
        };
        let name = format!("{folder:02x}").into_bytes().into();
        let entry = tree.entries.entry(name);
        entry.or_insert_with(|| Node::Inode(Arc::new(whiteout)));
    }
    tree
}

/// What the whiteouts at the top of an image have of that.
fn whiteout_metadata(top: &Directory) -> Metadata {
    let label = top.metadata.xattrs.get_key_value(XATTR_SECURITY_SELINUX);
    let label = label.map(|(name, value)| (name.clone(), value.clone()));
    Metadata {
        mode: 0o644,
        xattrs: label.into_iter().collect(),
        ..top.metadata
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

/// The format of a set image. Where no two rootfs have anything alike, all
/// formats have the same bytes: then it is the oldest.
///
/// # Errors
/// What is wrong with the image, as far as was looked.
pub fn format_of(image: &[u8], is_rootfs: IsRootfs) -> Result<SetFormat, Upstream> {
    let counts = LinkCounts::of(image, is_rootfs)?;
    Ok(match counts.is_any_shared() {
        false => SetFormat::V1,
        true => SetFormat::V2,
    })
}

/// Reads a set image of any format back: the inverse of [`render`].
///
/// # Errors
/// What is wrong with the image; a hostile one is refused, not believed.
pub fn read_back(
    algorithm: Algorithm,
    mut image: Vec<u8>,
    is_rootfs: IsRootfs,
) -> Result<Directory, Upstream> {
    LinkCounts::of(&image, is_rootfs)?.set_total(&mut image)?;
    match algorithm {
        Algorithm::Sha256 => read_with::<Sha256HashValue>(&image),
        Algorithm::Sha512 => read_with::<Sha512HashValue>(&image),
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
