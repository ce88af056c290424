//! File trees as values: what a squashed rootfs and a store tree are made of.
//!
//! A tree is shared, never copied: directories and inodes stand behind
//! [`Arc`], so the trees of all prefixes of a layer chain share what is equal.
//! Two names of one tree that hold the same `Arc<Inode>` are hard links.

use std::{collections::BTreeMap, sync::Arc};

use crate::name::{Mtime, ObjectId};

/// Owner, mode, time and extended attributes of a file of any type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky: at most `0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last modification.
    pub mtime: Mtime,
    /// Extended attributes: full name to value.
    pub xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
}

/// The bytes of a regular file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FileContent {
    /// The bytes themselves.
    Inline(Box<[u8]>),
    /// An object of the repository.
    Object {
        /// The object's name.
        id: ObjectId,
        /// The file's size in bytes: must be the object's.
        size: u64,
    },
}

impl FileContent {
    /// Files up to this size lie in the set image itself, larger ones are
    /// objects: the convention of composefs, whose objects we share.
    pub const INLINE_MAX: usize = 64;

    /// The file's size in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Object { size, .. } => *size,
        }
    }
}

/// Anything but a directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Inode {
    /// Owner, mode, time, extended attributes.
    pub metadata: Metadata,
    /// What it is.
    pub content: InodeContent,
}

/// What an inode is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum InodeContent {
    /// A regular file.
    Regular(FileContent),
    /// A symbolic link and its target, any bytes but NUL, not empty.
    Symlink(Box<[u8]>),
    /// A character device, major and minor number; never 0:0.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
}

/// A device number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// One name in a directory.
#[derive(Debug, Clone)]
pub enum Node {
    /// A directory.
    Directory(Arc<Directory>),
    /// Anything else; the same `Arc` twice in one tree is a hard link.
    Inode(Arc<Inode>),
}

/// A directory. Names are single path components: not empty, not `.` or `..`,
/// no slash, no NUL, at most 255 bytes.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    /// Owner, mode, time, extended attributes.
    pub metadata: Metadata,
    /// The entries by name, in byte order.
    pub entries: BTreeMap<Box<[u8]>, Node>,
}

impl Directory {
    /// An empty directory.
    pub fn new(metadata: Metadata) -> Self {
        Self {
            metadata,
            entries: BTreeMap::new(),
        }
    }

    /// Looks a path of components up, without following symlinks.
    pub fn lookup<'p>(&self, path: impl IntoIterator<Item = &'p [u8]>) -> Option<&Node> {
        let mut path = path.into_iter().peekable();
        let mut directory = self;
        while let Some(name) = path.next() {
            let node = directory.entries.get(name)?;
            if path.peek().is_none() {
                return Some(node);
            }
            let Node::Directory(next) = node else {
                return None;
            };
            directory = next;
        }
        None
    }
}
