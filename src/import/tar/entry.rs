//! One entry of a tar, with its extension headers applied.

use super::{error::TarError, sparse::Sparse};
use crate::squash::{
    EntryKind, EntryName, LayerEntry,
    tree::{Device, FileContent, Metadata},
};

/// One entry of a tar, with its extension headers applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarEntry {
    /// The name as Go's `Header.Name` has it, byte for byte: tar-split records
    /// it. Can be anything; only for that.
    pub raw_name: Vec<u8>,
    /// The name as a path inside the rootfs.
    pub name: EntryName,
    /// Where the entry's first header starts in the tar, in bytes.
    pub offset: u64,
    /// Go's `Header.Size`: a sparse file's with its holes; of a type that has
    /// no data, whatever the header says. tar-split records it.
    pub header_size: u64,
    /// How many bytes of data follow in the tar, before padding.
    pub stored_size: u64,
    /// Owner, mode, time and extended attributes, all of them.
    pub metadata: Metadata,
    /// What it is.
    pub kind: TarKind,
    /// Set where a regular file is stored without its holes.
    pub sparse: Option<Sparse>,
}

/// What an entry of a tar is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TarKind {
    /// A directory.
    Directory,
    /// A regular file, sparse or not.
    Regular,
    /// Another name of an earlier entry.
    Hardlink(EntryName),
    /// A symbolic link and its target.
    Symlink(Box<[u8]>),
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A PAX global header. podman ignores what it says, but tar-split has an
    /// entry for it.
    GlobalHeader,
}

impl TarEntry {
    /// The size of the file's content: with the holes of a sparse file, 0 for
    /// all that is no regular file.
    pub fn content_size(&self) -> u64 {
        match self.kind {
            TarKind::Regular => self.header_size,
            _ => 0,
        }
    }

    /// The bytes of what has no fixed length and stays in memory: name, link
    /// target, extended attributes.
    pub fn metadata_bytes(&self) -> u64 {
        let target = match &self.kind {
            TarKind::Hardlink(target) => target.components().map(|name| name.len() + 1).sum(),
            TarKind::Symlink(target) => target.len(),
            _ => 0,
        };
        let xattrs = self.metadata.xattrs.iter();
        let xattrs: usize = xattrs.map(|(name, value)| name.len() + value.len()).sum();
        (self.raw_name.len() + target + xattrs) as u64
    }

    /// The entry as squashing takes it; `content` counts for regular files
    /// only, none is the empty file.
    ///
    /// `None` for what podman skips: global headers, and the root by a
    /// relative name (`./`), of which it applies nothing. Only an absolute `/`
    /// sets the root's metadata.
    ///
    /// # Errors
    /// [`TarError::ContentSize`]
    pub fn into_layer_entry(
        self,
        content: Option<FileContent>,
    ) -> Result<Option<LayerEntry>, TarError> {
        if self.name.is_root() && is_dot(&self.raw_name) {
            return Ok(None);
        }
        let expected = self.content_size();
        let kind = match self.kind {
            TarKind::GlobalHeader => return Ok(None),
            TarKind::Directory => EntryKind::Directory,
            TarKind::Hardlink(target) => EntryKind::Hardlink(target),
            TarKind::Symlink(target) => EntryKind::Symlink(target),
            TarKind::CharDevice(device) => EntryKind::CharDevice(device),
            TarKind::BlockDevice(device) => EntryKind::BlockDevice(device),
            TarKind::Fifo => EntryKind::Fifo,
            TarKind::Regular => {
                let content = content.unwrap_or_else(|| FileContent::Inline(Box::default()));
                let found = content.size();
                if found != expected {
                    let name = String::from_utf8_lossy(&self.raw_name).into_owned();
                    return Err(TarError::ContentSize {
                        name,
                        expected,
                        found,
                    });
                }
                EntryKind::Regular(content)
            }
        };
        Ok(Some(LayerEntry {
            name: self.name,
            metadata: self.metadata,
            kind,
        }))
    }
}

/// Whether Go's `path.Clean` makes `.` of a name.
fn is_dot(raw: &[u8]) -> bool {
    let mut depth = 0_usize;
    for part in raw.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match depth.checked_sub(1) {
                Some(up) => depth = up,
                None => return false,
            },
            _ => depth += 1,
        }
    }
    depth == 0 && !raw.starts_with(b"/")
}
