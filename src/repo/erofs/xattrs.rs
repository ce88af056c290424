//! The extended attributes of a set image: what overlayfs finds the objects by,
//! and the files' own.

use std::{borrow::Cow, cmp::Ordering, collections::HashMap};

use composefs::erofs::format::{
    InodeXAttrHeader, XATTR_FILTER_SEED, XATTR_INDEX_LUSTRE, XATTR_INDEX_POSIX_ACL_ACCESS,
    XATTR_INDEX_POSIX_ACL_DEFAULT, XATTR_OVERLAY_ESCAPED_PREFIX, XATTR_OVERLAY_METACOPY,
    XATTR_OVERLAY_OPAQUE, XATTR_OVERLAY_OPAQUE_ROOT, XATTR_OVERLAY_PREFIX, XATTR_OVERLAY_REDIRECT,
    XATTR_OVERLAY_WHITEOUT, XATTR_OVERLAY_WHITEOUTS, XATTR_PREFIXES, XATTR_USERXATTR_OPAQUE,
    XATTR_USERXATTR_WHITEOUT, XATTR_USERXATTR_WHITEOUTS, XAttrHeader,
};
use xxhash_rust::xxh32::xxh32;
use zerocopy::IntoBytes;

use super::{
    Upstream,
    inventory::{Child, Inventory},
};
use crate::{
    name::{Algorithm, ObjectId},
    squash::tree::{FileContent, InodeContent},
};

/// One extended attribute, as an image has it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Xattr<'t> {
    /// Nothing of a lower layer is seen in this directory.
    Opaque,
    /// The file's bytes are those of an object with this fs-verity digest.
    Metacopy(&'t ObjectId),
    /// Where that object is.
    Redirect(&'t ObjectId),
    /// One that overlayfs shows as it would otherwise obey it: with its whole name.
    Escaped(&'static [u8], &'static [u8]),
    /// A file's own.
    Own { name: &'t [u8], value: &'t [u8] },
}

/// Those of one inode: the numbers of those that it shares, and its own.
pub(super) struct OfInode<'t> {
    shared: Vec<u32>,
    local: Vec<Xattr<'t>>,
    filter: u32,
}

/// Bytes in which attributes are counted.
const WORD: usize = 4;

impl<'t> Xattr<'t> {
    /// The attributes of an inode, in the order in which images have them.
    pub(super) fn all_of(inventory: &Inventory<'t>, child: Child) -> Vec<Self> {
        let own = inventory.metadata(child).xattrs.iter();
        let own = own.map(|(name, value)| Self::Own { name, value });
        let mut all: Vec<_> = own.collect();
        match child {
            Child::Folder(folder) => {
                if folder == 0 {
                    all.push(Self::Opaque);
                }
                if inventory.folders[folder].shows_whiteouts {
                    all.extend(Self::WHITEOUTS);
                }
            }
            Child::Leaf(leaf) => {
                let leaf = &inventory.leaves[leaf];
                if let InodeContent::Regular(FileContent::Object { id, .. }) = &leaf.inode.content {
                    all.extend([Self::Metacopy(id), Self::Redirect(id)]);
                }
                if leaf.is_shown_whiteout {
                    all.extend(Self::WHITEOUT);
                }
            }
        }
        all.sort_by(Self::order);
        all
    }

    /// What a whiteout has that is to be seen as one: it is a file then.
    const WHITEOUT: [Self; 2] = [
        Self::Escaped(XATTR_OVERLAY_WHITEOUT, b""),
        Self::Escaped(XATTR_USERXATTR_WHITEOUT, b""),
    ];

    /// What a directory has that has such.
    const WHITEOUTS: [Self; 4] = [
        Self::Escaped(XATTR_OVERLAY_WHITEOUTS, b""),
        Self::Escaped(XATTR_USERXATTR_WHITEOUTS, b""),
        Self::Escaped(XATTR_OVERLAY_OPAQUE, b"x"),
        Self::Escaped(XATTR_USERXATTR_OPAQUE, b"x"),
    ];

    /// By name, then by the value's length, then by the value.
    fn order(&self, other: &Self) -> Ordering {
        let by_value = || {
            let (ours, theirs) = (self.value(), other.value());
            let by_length = ours.len().cmp(&theirs.len());
            by_length.then_with(|| ours.cmp(&theirs))
        };
        self.name().cmp(&other.name()).then_with(by_value)
    }

    fn name(&self) -> Cow<'t, [u8]> {
        Cow::Borrowed(match self {
            Self::Opaque => XATTR_OVERLAY_OPAQUE_ROOT,
            Self::Metacopy(_) => XATTR_OVERLAY_METACOPY,
            Self::Redirect(_) => XATTR_OVERLAY_REDIRECT,
            Self::Escaped(name, _) => name,
            // So overlayfs shows what it would otherwise obey.
            Self::Own { name, .. } => match name.strip_prefix(XATTR_OVERLAY_PREFIX) {
                Some(rest) => return [XATTR_OVERLAY_ESCAPED_PREFIX, rest].concat().into(),
                None => name,
            },
        })
    }

    fn value(&self) -> Cow<'t, [u8]> {
        match self {
            Self::Opaque => b"y".into(),
            // `struct ovl_metacopy` (Linux, fs/overlayfs/overlayfs.h).
            Self::Metacopy(id) => {
                let digest = id.as_bytes();
                let algorithm = match id.algorithm() {
                    Algorithm::Sha256 => 1,
                    Algorithm::Sha512 => 2,
                };
                // Of 32 bytes, or 64.
                let length = 4 + digest.len() as u8;
                [&[0, length, 0, algorithm], digest].concat().into()
            }
            Self::Redirect(id) => format!("/{}", id.object_path()).into_bytes().into(),
            Self::Escaped(_, value) => (*value).into(),
            Self::Own { value, .. } => (*value).into(),
        }
    }

    /// The number of the name's prefix, and the rest of it. That of Lustre is none
    /// in composefs's version 1.
    fn split(name: &[u8]) -> (u8, &[u8]) {
        let mut usable = (1..=6).rev().filter(|index| *index != XATTR_INDEX_LUSTRE);
        let rest = |index: u8| name.strip_prefix(XATTR_PREFIXES[usize::from(index)]);
        let found = usable.find_map(|index| Some((index, rest(index)?)));
        found.unwrap_or((0, name))
    }

    /// Whether it is an access control list.
    pub(super) fn is_acl(&self) -> bool {
        let (index, _) = Self::split(&self.name());
        [XATTR_INDEX_POSIX_ACL_ACCESS, XATTR_INDEX_POSIX_ACL_DEFAULT].contains(&index)
    }

    fn filter(&self) -> u32 {
        let name = self.name();
        let (index, rest) = Self::split(&name);
        1 << (xxh32(rest, XATTR_FILTER_SEED + u32::from(index)) % 32)
    }

    /// Appends it as it stands in an image.
    ///
    /// # Errors
    /// Its name or value is longer than EROFS can hold.
    pub(super) fn write(&self, to: &mut Vec<u8>) -> Result<(), Upstream> {
        let (name, value) = (self.name(), self.value());
        let (index, rest) = Self::split(&name);
        let too_long = || format!("an extended attribute of {} bytes", value.len());
        let header = XAttrHeader {
            name_len: rest.len().try_into().map_err(|_| too_long())?,
            name_index: index,
            value_size: u16::try_from(value.len()).map_err(|_| too_long())?.into(),
        };
        to.extend_from_slice(header.as_bytes());
        to.extend_from_slice(rest);
        to.extend_from_slice(&value);
        to.resize(to.len().next_multiple_of(WORD), 0);
        Ok(())
    }
}

/// The attributes that several inodes have, in the order of their numbers.
pub(super) struct Shared<'t> {
    pub(super) all: Vec<Xattr<'t>>,
    numbers: HashMap<Xattr<'t>, u32>,
}

impl<'t> Shared<'t> {
    /// Those that are counted more than once.
    pub(super) fn of(counts: HashMap<Xattr<'t>, u32>) -> Self {
        let several = counts.into_iter().filter(|(_, count)| *count > 1);
        let mut all: Vec<_> = several.map(|(xattr, _)| xattr).collect();
        all.sort_by(|a, b| b.order(a));
        let numbers = all.iter().copied().zip(0..).collect();
        Self { all, numbers }
    }

    /// Divides an inode's attributes.
    pub(super) fn divide(&self, all: Vec<Xattr<'t>>) -> OfInode<'t> {
        let filter = all.iter().fold(0, |filter, xattr| filter | xattr.filter());
        let number = |xattr: &Xattr<'t>| self.numbers.get(xattr).copied();
        OfInode {
            shared: all.iter().filter_map(number).collect(),
            filter,
            local: all
                .into_iter()
                .filter(|xattr| number(xattr).is_none())
                .collect(),
        }
    }
}

impl OfInode<'_> {
    /// The bytes behind the inode's header: with what the shared ones are referred
    /// to by, where that is known yet.
    ///
    /// # Errors
    /// They are more, or longer, than EROFS can hold.
    pub(super) fn bytes(&self, reference: impl Fn(u32) -> u32) -> Result<Vec<u8>, Upstream> {
        if self.filter == 0 {
            return Ok(Vec::new());
        }
        let header = InodeXAttrHeader {
            name_filter: (!self.filter).into(),
            shared_count: self.shared.len().try_into()?,
            ..Default::default()
        };
        let mut bytes = header.as_bytes().to_vec();
        for number in &self.shared {
            bytes.extend_from_slice(&reference(*number).to_le_bytes());
        }
        for xattr in &self.local {
            xattr.write(&mut bytes)?;
        }
        Ok(bytes)
    }

    /// What an inode says of the length of these bytes.
    ///
    /// # Errors
    /// They are longer than EROFS can hold.
    pub(super) fn count(bytes: &[u8]) -> Result<u16, Upstream> {
        Ok(
            match bytes.len().checked_sub(size_of::<InodeXAttrHeader>()) {
                None => 0,
                Some(rest) => u16::try_from(1 + rest / WORD)?,
            },
        )
    }
}
