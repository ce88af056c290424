//! The link counts of a set image whose rootfs share inodes.
//!
//! composefs writes and reads an image as one file tree: an inode's count is
//! that of all its names. A container sees one rootfs, where it must be that of
//! its names there: overlayfs takes two names for one file by it, or for two.
//! So the counts are set after writing, and put back before reading.

use std::collections::{HashMap, HashSet};

use composefs::erofs::{
    format::{CompactInodeHeader, ExtendedInodeHeader},
    reader::{DirectoryBlock, Image, InodeHeader, InodeOps},
};
use zerocopy::FromBytes;

use super::{IsRootfs, Upstream};

/// The bytes of a slot: an inode's number is that of the slot it begins in.
const SLOT: u64 = 32;

/// Bytes of the longest path that Linux takes.
const PATH_MAX: usize = 4096;

/// How many names an inode has that is no directory, by its number.
type Counts = HashMap<u64, u32>;

/// The names of all inodes of a set image.
#[derive(Debug, Default)]
pub(super) struct LinkCounts {
    /// In the whole image.
    total: Counts,
    /// In each rootfs that has the inode.
    within: Counts,
}

impl LinkCounts {
    /// Counts the names in a set image.
    ///
    /// # Errors
    /// The image cannot be read; a directory has two names; an inode has more
    /// names in one rootfs than in another.
    pub(super) fn of(image: &[u8], is_rootfs: IsRootfs) -> Result<Self, Upstream> {
        let image = Image::open(image)?.restrict_to_composefs()?;
        let mut counts = Self::default();
        let mut seen = HashSet::new();
        let mut trees = vec![(u64::from(image.sb.root_nid.get()), Vec::new())];
        while let Some((top, path)) = trees.pop() {
            let mut here = Counts::new();
            let mut open = vec![(top, path)];
            while let Some((directory, path)) = open.pop() {
                if !seen.insert(directory) {
                    return Err(format!("the directory {directory} has two names").into());
                }
                for_each_name(&image, directory, |name, inode| {
                    if !image.inode(inode)?.mode().is_dir() {
                        *here.entry(inode).or_default() += 1;
                        return Ok(());
                    }
                    let below = below(&path, name);
                    let to = if is_rootfs(&below) {
                        &mut trees
                    } else {
                        &mut open
                    };
                    to.push((inode, below));
                    Ok(())
                })?;
            }
            counts.add(here)?;
        }
        Ok(counts)
    }

    fn add(&mut self, tree: Counts) -> Result<(), Upstream> {
        for (inode, links) in tree {
            if *self.within.entry(inode).or_insert(links) != links {
                return Err(format!("the inode {inode} has other names in each rootfs").into());
            }
            *self.total.entry(inode).or_default() += links;
        }
        Ok(())
    }

    /// Whether several rootfs have an inode.
    pub(super) fn is_any_shared(&self) -> bool {
        self.total != self.within
    }

    /// Lets an image that composefs has written say what each rootfs has.
    #[cfg(test)]
    pub(super) fn set_within(&self, image: &mut [u8]) -> Result<(), Upstream> {
        set(image, &self.total, &self.within)
    }

    /// Lets an image say what composefs would have written.
    ///
    /// # Errors
    /// It does not say what each rootfs has.
    pub(super) fn set_total(&self, image: &mut [u8]) -> Result<(), Upstream> {
        set(image, &self.within, &self.total)
    }
}

/// Replaces the counts `from`, which the image must have, by `to`.
fn set(image: &mut [u8], from: &Counts, to: &Counts) -> Result<(), Upstream> {
    for (inode, links) in to {
        let wrong = || Upstream::from(format!("the link count of the inode {inode} is wrong"));
        // composefs's images have their inodes from the first block on.
        let at = inode.checked_mul(SLOT).and_then(|at| at.try_into().ok());
        let slots = at
            .and_then(|at: usize| image.get_mut(at..))
            .ok_or_else(wrong)?;
        let is_extended = slots.first().is_some_and(|format| format & 1 != 0);
        if is_extended {
            let (header, _) = ExtendedInodeHeader::mut_from_prefix(slots).map_err(|_| wrong())?;
            if header.nlink.get() != from[inode] {
                return Err(wrong());
            }
            header.nlink = (*links).into();
        } else {
            let (header, _) = CompactInodeHeader::mut_from_prefix(slots).map_err(|_| wrong())?;
            if u32::from(header.nlink.get()) != from[inode] {
                return Err(wrong());
            }
            header.nlink = u16::try_from(*links).map_err(|_| wrong())?.into();
        }
    }
    Ok(())
}

/// Calls `visit` with each name in a directory, and its inode's number.
fn for_each_name(
    image: &Image<'_>,
    directory: u64,
    mut visit: impl FnMut(&[u8], u64) -> Result<(), Upstream>,
) -> Result<(), Upstream> {
    let directory = image.inode(directory)?;
    let mut block = |block: &DirectoryBlock| {
        for entry in block.entries()? {
            let entry = entry?;
            if entry.name != b"." && entry.name != b".." {
                visit(entry.name, entry.nid())?;
            }
        }
        Ok::<(), Upstream>(())
    };
    for id in image.inode_blocks(&directory)? {
        block(image.directory_block(id)?)?;
    }
    match directory.inline().map(DirectoryBlock::ref_from_bytes) {
        Some(Ok(last)) => block(last),
        _ => Ok(()),
    }
}

/// A path with one name more. Where no path ends that anybody could open it
/// grows no further: a hostile image may be as deep as it is long.
fn below(path: &[u8], name: &[u8]) -> Vec<u8> {
    match path.len() {
        0 => name.to_vec(),
        1..=PATH_MAX => [path, b"/", name].concat(),
        _ => path.to_vec(),
    }
}
