//! Writing a set image: what composefs's writer makes of the same tree (its
//! version 1, which is that of mkcomposefs), byte for byte, without a copy of the
//! tree. The crate's writer takes one, copies that, and keeps every name and
//! attribute beside; `tests.rs` holds the two against each other.
//!
//! An image is written twice, first to nowhere: then it is known what lies where
//! (Linux, `filesystems/erofs.rst`; `fs/erofs/erofs_fs.h`).

use std::collections::{HashMap, VecDeque};

use composefs::erofs::format::{
    BLOCK_BITS, BLOCK_SIZE, COMPOSEFS_FLAGS_HAS_ACL, COMPOSEFS_MAGIC, COMPOSEFS_VERSION_V1,
    CompactInodeHeader, ComposefsHeader, DataLayout, DirectoryEntryHeader, ExtendedInodeHeader,
    FEATURE_COMPAT_MTIME, FEATURE_COMPAT_XATTR_FILTER, FileType, InodeLayout, MAGIC_V1, Superblock,
    VERSION,
};
use zerocopy::{Immutable, IntoBytes};

use super::{
    Upstream,
    inventory::{Child, Folder, Inventory, Leaf},
    rdev,
    xattrs::{OfInode, Shared, Xattr},
};
use crate::squash::tree::{FileContent, Inode, InodeContent, Metadata};

const BLOCK: usize = BLOCK_SIZE as usize;
/// An inode's number is that of the slot it begins in.
const SLOT: usize = 32;
/// Of a directory's or a file's last block no more than this is kept beside the inode.
const TAIL_MAX: usize = BLOCK / 2;
/// What stands in the place of each chunk, whose bytes are in an object.
const NO_CHUNK: [u8; 4] = [0xff; 4];

/// Writes what is in the inventory.
///
/// # Errors
/// Something is longer, or more, than EROFS can hold.
pub(super) fn write(inventory: &Inventory<'_>) -> Result<Box<[u8]>, Upstream> {
    let writer = Writer::of(inventory);
    let mut length = Length(0);
    let places = writer.write(&mut length, &Places::default())?;
    let mut image = Vec::with_capacity(length.0);
    writer.write(&mut image, &places)?;
    Ok(image.into_boxed_slice())
}

/// The order in which an image has its inodes: first those that are less deep.
struct Numbered {
    inodes: Vec<Child>,
    folders: Vec<u32>,
    leaves: Vec<u32>,
}

impl Numbered {
    fn of(inventory: &Inventory<'_>) -> Self {
        const NONE: u32 = u32::MAX;
        let mut this = Self {
            inodes: vec![Child::Folder(0)],
            folders: vec![NONE; inventory.folders.len()],
            leaves: vec![NONE; inventory.leaves.len()],
        };
        this.folders[0] = 0;
        let mut open = VecDeque::from([0]);
        while let Some(folder) = open.pop_front() {
            for (_, child) in inventory.entries(folder) {
                let number = match child {
                    Child::Folder(child) => {
                        open.push_back(child);
                        &mut this.folders[child]
                    }
                    // Where mkcomposefs finds it first, which goes down at once.
                    Child::Leaf(leaf) if inventory.leaves[leaf].home == folder => {
                        &mut this.leaves[leaf]
                    }
                    Child::Leaf(_) => continue,
                };
                if *number == NONE {
                    *number = this.inodes.len() as u32;
                    this.inodes.push(child);
                }
            }
        }
        this
    }

    fn number(&self, child: Child) -> u32 {
        match child {
            Child::Folder(folder) => self.folders[folder],
            Child::Leaf(leaf) => self.leaves[leaf],
        }
    }
}

/// Where in an image things begin, in bytes.
#[derive(Default)]
struct Places {
    inodes: Vec<usize>,
    /// The end of the inodes, behind which shared attributes stand.
    inodes_end: usize,
    xattrs: Vec<usize>,
    /// The blocks of each inode, and how many these are.
    blocks: Vec<(usize, usize)>,
    end: usize,
}

impl Places {
    /// What a directory calls an inode; while nothing is placed yet, anything.
    fn slot(&self, number: u32) -> u64 {
        let place = self.inodes.get(number as usize).copied();
        (place.unwrap_or_default() / SLOT) as u64
    }

    /// What an inode calls a shared attribute.
    fn xattr(&self, number: u32) -> u32 {
        let place = self.xattrs.get(number as usize).copied();
        let behind = place.unwrap_or_default().saturating_sub(self.inodes_end);
        ((self.inodes_end % BLOCK + behind) / 4) as u32
    }
}

/// Where an image goes.
trait Output {
    fn place(&self) -> usize;
    fn put(&mut self, bytes: &[u8]);
    fn pad_to(&mut self, place: usize);

    fn put_struct(&mut self, value: impl IntoBytes + Immutable) {
        self.put(value.as_bytes());
    }

    fn align(&mut self, to: usize) {
        self.pad_to(self.place().next_multiple_of(to));
    }
}

/// Nowhere: it is counted alone.
struct Length(usize);

impl Output for Length {
    fn place(&self) -> usize {
        self.0
    }

    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn pad_to(&mut self, place: usize) {
        self.0 = place;
    }
}

impl Output for Vec<u8> {
    fn place(&self) -> usize {
        self.len()
    }

    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn pad_to(&mut self, place: usize) {
        self.resize(place, 0);
    }
}

struct Writer<'w, 't> {
    inventory: &'w Inventory<'t>,
    numbered: Numbered,
    shared: Shared<'t>,
    /// The time that inodes have who say none.
    oldest: (u64, u32),
    flags: zerocopy::little_endian::U32,
}

/// How an inode lies in the image.
struct Shape {
    layout: DataLayout,
    size: u64,
    /// How many blocks of its own it has.
    blocks: usize,
    /// How many bytes stand beside it.
    tail: usize,
    /// The field whose meaning depends on the layout, but for the blocks' place.
    field: u32,
}

/// What an inode is written from.
enum Content<'w, 't> {
    Names(Names<'t>),
    Leaf(&'w Leaf<'t>),
}

/// The names of a directory, where they lie.
struct Names<'t> {
    blocks: Vec<Vec<Name<'t>>>,
    tail: Vec<Name<'t>>,
    tail_bytes: usize,
    folders: u32,
}

struct Name<'t> {
    name: &'t [u8],
    number: u32,
    kind: FileType,
}

impl<'w, 't> Writer<'w, 't> {
    /// Looks through all inodes for what concerns them together.
    fn of(inventory: &'w Inventory<'t>) -> Self {
        let numbered = Numbered::of(inventory);
        let mut oldest = (u64::MAX, u32::MAX);
        let mut flags = 0.into();
        let mut counts: HashMap<Xattr<'t>, u32> = HashMap::new();
        for child in &numbered.inodes {
            oldest = oldest.min(time(inventory.metadata(*child)));
            for xattr in Xattr::all_of(inventory, *child) {
                if xattr.is_acl() {
                    flags = COMPOSEFS_FLAGS_HAS_ACL;
                }
                *counts.entry(xattr).or_default() += 1;
            }
        }
        Self {
            inventory,
            numbered,
            shared: Shared::of(counts),
            oldest,
            flags,
        }
    }

    fn write(&self, out: &mut impl Output, places: &Places) -> Result<Places, Upstream> {
        let mut now = Places::default();
        out.put_struct(ComposefsHeader {
            magic: COMPOSEFS_MAGIC,
            version: VERSION,
            flags: self.flags,
            composefs_version: COMPOSEFS_VERSION_V1,
            ..Default::default()
        });
        out.align(1024);
        out.put_struct(Superblock {
            magic: MAGIC_V1,
            blkszbits: BLOCK_BITS,
            feature_compat: (FEATURE_COMPAT_MTIME | FEATURE_COMPAT_XATTR_FILTER).into(),
            root_nid: u16::try_from(places.slot(0))?.into(),
            inos: (self.numbered.inodes.len() as u64).into(),
            blocks: u32::try_from(places.end / BLOCK)?.into(),
            build_time: self.oldest.0.into(),
            build_time_nsec: self.oldest.1.into(),
            xattr_blkaddr: u32::try_from(places.inodes_end / BLOCK)?.into(),
            ..Default::default()
        });
        for (number, child) in (0..).zip(&self.numbered.inodes) {
            self.inode(out, number, *child, places, &mut now)?;
        }
        out.align(SLOT);
        now.inodes_end = out.place();
        for xattr in &self.shared.all {
            now.xattrs.push(out.place());
            let mut bytes = Vec::new();
            xattr.write(&mut bytes)?;
            out.put(&bytes);
        }
        out.align(BLOCK);
        for (child, (place, count)) in self.numbered.inodes.iter().zip(&mut now.blocks) {
            *place = out.place();
            self.blocks(out, *child, *count, places);
        }
        now.end = out.place();
        Ok(now)
    }

    /// Writes an inode, and what stands beside it.
    fn inode(
        &self,
        out: &mut impl Output,
        number: u32,
        child: Child,
        places: &Places,
        now: &mut Places,
    ) -> Result<(), Upstream> {
        let metadata = self.inventory.metadata(child);
        let of_inode: OfInode<'t> = self.shared.divide(Xattr::all_of(self.inventory, child));
        let xattrs = of_inode.bytes(|number| places.xattr(number))?;
        let content = match child {
            Child::Folder(folder) => Content::Names(self.names(folder)),
            Child::Leaf(leaf) => Content::Leaf(&self.inventory.leaves[leaf]),
        };
        let (kind, mut shape, links, all_links) = match &content {
            Content::Names(names) => {
                let links = names.folders;
                (FileType::Directory, names.shape(), links, links)
            }
            Content::Leaf(leaf) => (kind(leaf), shape(leaf.inode)?, leaf.within, leaf.total),
        };
        let is_compact = time(metadata) == self.oldest
            && u16::try_from(all_links).is_ok()
            && u16::try_from(metadata.uid).is_ok()
            && u16::try_from(metadata.gid).is_ok()
            && u32::try_from(shape.size).is_ok();
        let head = xattrs.len()
            + match is_compact {
                true => size_of::<CompactInodeHeader>(),
                false => size_of::<ExtendedInodeHeader>(),
            };
        shape.part_from_inode(kind, head, xattrs.len());
        out.align(SLOT);
        out.pad_to(shape.begin(kind, out.place(), head));
        now.inodes.push(out.place());
        now.blocks.push((0, shape.blocks));

        let mut field = shape.field;
        if shape.blocks > 0 {
            let place = places.blocks.get(number as usize);
            let block = u32::try_from(place.map_or(0, |(place, _)| *place) / BLOCK)?;
            field |= match shape.layout {
                DataLayout::ChunkBased => block & 0xffff_0000,
                _ => block,
            };
        }
        let xattr_icount = OfInode::count(&xattrs)?.into();
        if is_compact {
            out.put_struct(CompactInodeHeader {
                format: InodeLayout::Compact | shape.layout,
                xattr_icount,
                mode: kind | metadata.mode,
                nlink: u16::try_from(links)?.into(),
                size: u32::try_from(shape.size)?.into(),
                u: field.into(),
                ino: number.into(),
                uid: u16::try_from(metadata.uid)?.into(),
                gid: u16::try_from(metadata.gid)?.into(),
                ..Default::default()
            });
        } else {
            let (seconds, nanoseconds) = time(metadata);
            out.put_struct(ExtendedInodeHeader {
                format: InodeLayout::Extended | shape.layout,
                xattr_icount,
                mode: kind | metadata.mode,
                size: shape.size.into(),
                u: field.into(),
                ino: number.into(),
                uid: metadata.uid.into(),
                gid: metadata.gid.into(),
                mtime: seconds.into(),
                mtime_nsec: nanoseconds.into(),
                nlink: links.into(),
                ..Default::default()
            });
        }
        out.put(&xattrs);
        match content {
            Content::Names(names) => self.name_block(out, &names.tail, places),
            Content::Leaf(leaf) => match &leaf.inode.content {
                InodeContent::Regular(FileContent::Inline(bytes)) => {
                    out.put(&bytes[bytes.len() - shape.tail..]);
                }
                InodeContent::Regular(FileContent::Object { .. }) => {
                    (0..shape.tail / NO_CHUNK.len()).for_each(|_| out.put(&NO_CHUNK));
                }
                InodeContent::Symlink(target) if shape.blocks == 0 => out.put(target),
                _ => {}
            },
        }
        out.align(SLOT);
        Ok(())
    }

    fn names(&self, folder: usize) -> Names<'t> {
        let number = |child| self.numbered.number(child);
        let kind_of = |child| match child {
            Child::Folder(_) => FileType::Directory,
            Child::Leaf(leaf) => kind(&self.inventory.leaves[leaf]),
        };
        let Folder { parent, .. } = self.inventory.folders[folder];
        let own = [
            (&b"."[..], Child::Folder(folder)),
            (b"..", Child::Folder(parent)),
        ];
        let mut all: Vec<_> = own
            .into_iter()
            .chain(self.inventory.entries(folder))
            .map(|(name, child)| Name {
                name,
                number: number(child),
                kind: kind_of(child),
            })
            .collect();
        all.sort_by_key(|name| name.name);
        Names::of(all)
    }

    /// Writes the names of one block: what they stand for first.
    fn name_block(&self, out: &mut impl Output, names: &[Name<'_>], places: &Places) {
        let mut offset = size_of::<DirectoryEntryHeader>() * names.len();
        for name in names {
            out.put_struct(DirectoryEntryHeader {
                inode_offset: places.slot(name.number).into(),
                name_offset: (offset as u16).into(),
                file_type: name.kind.into(),
                ..Default::default()
            });
            offset += name.name.len();
        }
        names.iter().for_each(|name| out.put(name.name));
    }

    /// Writes the blocks of an inode that has so many.
    fn blocks(&self, out: &mut impl Output, child: Child, count: usize, places: &Places) {
        if count == 0 {
            return;
        }
        let leaf = match child {
            Child::Folder(folder) => {
                for names in self.names(folder).blocks {
                    self.name_block(out, &names, places);
                    out.align(BLOCK);
                }
                return;
            }
            Child::Leaf(leaf) => &self.inventory.leaves[leaf],
        };
        match &leaf.inode.content {
            InodeContent::Regular(FileContent::Inline(bytes)) => {
                out.put(&bytes[..bytes.len().min(count * BLOCK)]);
            }
            InodeContent::Symlink(target) => out.put(&target[..target.len().min(BLOCK)]),
            InodeContent::Regular(FileContent::Object { .. }) => {
                (0..BLOCK / NO_CHUNK.len()).for_each(|_| out.put(&NO_CHUNK));
            }
            _ => {}
        }
        out.align(BLOCK);
    }
}

impl<'t> Names<'t> {
    fn of(all: Vec<Name<'t>>) -> Self {
        let is_folder = |name: &&Name<'_>| matches!(name.kind, FileType::Directory);
        let mut names = Self {
            folders: all.iter().filter(is_folder).count() as u32,
            blocks: Vec::new(),
            tail: Vec::new(),
            tail_bytes: 0,
        };
        for name in all {
            let bytes = size_of::<DirectoryEntryHeader>() + name.name.len();
            if names.tail_bytes + bytes > BLOCK {
                names.end_block();
            }
            names.tail_bytes += bytes;
            names.tail.push(name);
        }
        if names.tail_bytes > TAIL_MAX {
            names.end_block();
        }
        names
    }

    fn end_block(&mut self) {
        self.blocks.push(std::mem::take(&mut self.tail));
        self.tail_bytes = 0;
    }

    fn shape(&self) -> Shape {
        Shape {
            layout: match self.tail_bytes {
                0 => DataLayout::FlatPlain,
                _ => DataLayout::FlatInline,
            },
            size: (self.blocks.len() * BLOCK + self.tail_bytes) as u64,
            blocks: self.blocks.len(),
            tail: self.tail_bytes,
            field: 0,
        }
    }
}

fn time(metadata: &Metadata) -> (u64, u32) {
    // Before 1970 it is a large number: EROFS has the same 64 bits.
    (metadata.mtime.sec.cast_unsigned(), metadata.mtime.nsec)
}

fn kind(leaf: &Leaf<'_>) -> FileType {
    match leaf.inode.content {
        InodeContent::CharDevice(_) if leaf.is_shown_whiteout => FileType::RegularFile,
        InodeContent::CharDevice(_) => FileType::CharacterDevice,
        InodeContent::Regular(_) => FileType::RegularFile,
        InodeContent::Symlink(_) => FileType::Symlink,
        InodeContent::BlockDevice(_) => FileType::BlockDevice,
        InodeContent::Fifo => FileType::Fifo,
    }
}

/// How a file lies, before it is known what stands in front of it.
fn shape(inode: &Inode) -> Result<Shape, Upstream> {
    let mut shape = Shape {
        layout: DataLayout::FlatPlain,
        size: 0,
        blocks: 0,
        tail: 0,
        field: 0,
    };
    match &inode.content {
        InodeContent::Regular(FileContent::Inline(bytes)) => {
            (shape.blocks, shape.tail) = (bytes.len() / BLOCK, bytes.len() % BLOCK);
            if shape.tail > TAIL_MAX {
                (shape.blocks, shape.tail) = (shape.blocks + 1, 0);
            }
            if shape.tail > 0 {
                shape.layout = DataLayout::FlatInline;
            }
            shape.size = bytes.len() as u64;
        }
        InodeContent::Regular(FileContent::Object { size, .. }) => {
            let bits = chunk_bits(*size);
            shape.layout = DataLayout::ChunkBased;
            shape.size = *size;
            shape.tail = usize::try_from(size.div_ceil(1 << bits))? * NO_CHUNK.len();
            shape.field = bits - u32::from(BLOCK_BITS);
        }
        InodeContent::Symlink(target) => {
            shape.layout = DataLayout::FlatInline;
            shape.size = target.len() as u64;
            shape.tail = target.len();
        }
        InodeContent::CharDevice(device) | InodeContent::BlockDevice(device) => {
            shape.field = rdev(*device).try_into()?;
        }
        InodeContent::Fifo => {}
    }
    Ok(shape)
}

/// As few chunks as can be, and these no larger than they must: of 2^n bytes.
fn chunk_bits(size: u64) -> u32 {
    let least = u32::from(BLOCK_BITS);
    let bits = match size {
        0 | 1 => 1,
        _ => u64::BITS - (size - 1).leading_zeros(),
    };
    bits.clamp(least, least + 31)
}

impl Shape {
    /// What does not fit into a block with its inode gets one of its own; `head` are
    /// the bytes of the inode itself, `xattrs` those of its attributes.
    fn part_from_inode(&mut self, kind: FileType, head: usize, xattrs: usize) {
        let is_too_long = match (kind, self.layout) {
            (FileType::Symlink, _) => self.tail > 0 && head + self.tail >= BLOCK,
            (_, DataLayout::ChunkBased) => self.tail > 0 && self.tail + xattrs % SLOT > BLOCK,
            _ => false,
        };
        if is_too_long {
            (self.blocks, self.tail) = (1, 0);
            if matches!(kind, FileType::Symlink) {
                self.layout = DataLayout::FlatPlain;
            }
        }
    }

    /// Where an inode begins that could begin at `place`, for no block to end
    /// within what stands beside it; nor within a symlink (Linux before 6.12).
    fn begin(&self, kind: FileType, place: usize, head: usize) -> usize {
        let next_block = place.next_multiple_of(BLOCK);
        let ends_within = |bytes: usize| place / BLOCK != (place + bytes - 1) / BLOCK;
        match (kind, self.layout) {
            (FileType::Symlink, DataLayout::FlatPlain) => {
                // Its target stood here before it was too long.
                match ends_within(head + usize::try_from(self.size).unwrap_or(0)) {
                    true => next_block,
                    false => place,
                }
            }
            (FileType::Symlink, _) => match place % BLOCK + head + self.tail > BLOCK {
                true => next_block,
                false => place,
            },
            (_, DataLayout::ChunkBased) if self.tail == 0 && self.blocks > 0 => next_block,
            (_, DataLayout::ChunkBased | DataLayout::FlatInline) => {
                let begin = place + head;
                let room = begin.next_multiple_of(BLOCK) - begin;
                match (1..self.tail).contains(&room) {
                    true => place + room.next_multiple_of(SLOT),
                    false => place,
                }
            }
            _ => place,
        }
    }
}
