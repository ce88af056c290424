//! Where the members of a tar lie: read once, then opened by offset.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::Arc,
};

use tar::{EntryType, Header, PaxExtensions};

use super::{
    SourceError,
    files::{Files, OpenFile},
};
use crate::error::Doing;

const BLOCK: u64 = 512;
/// The most members of an archive: an image has three or four for each layer.
const MEMBER_LIMIT: usize = 100_000;
/// The longest extended header (a long name, PAX records), in bytes.
const EXTENSION_LIMIT_BYTES: u64 = 1 << 20;
/// How many links are followed from one name.
const LINK_LIMIT: usize = 8;

/// The files of a tar, which is neither unpacked nor read as a whole.
///
/// The archive may be hostile: names that are absolute or contain `..`, names
/// that are there twice, links that leave it and members beyond its end are
/// errors; devices and the like are passed over.
#[derive(Debug)]
pub(super) struct TarIndex {
    file: Arc<File>,
    origin: String,
    members: HashMap<String, Member>,
}

#[derive(Debug)]
enum Member {
    File { offset: u64, size: u64 },
    Link { target: String },
}

/// The names and sizes that extended headers say of the member after them.
#[derive(Default)]
struct Extension {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl TarIndex {
    /// Walks the headers of the tar in `file`.
    pub(super) fn read(file: File, origin: &str) -> Result<Self, SourceError> {
        let length = file.metadata().doing("stat", origin)?.len();
        let mut index = Self {
            file: Arc::new(file),
            origin: origin.to_owned(),
            members: HashMap::new(),
        };
        let mut offset = 0;
        let mut seen = 0;
        let mut extension = Extension::default();
        // Two zero blocks end a tar; Go, like GNU tar, also takes one, or none.
        while let Some(header) = index.header(offset, length)? {
            seen += 1;
            if seen > MEMBER_LIMIT {
                return Err(index.unsupported(format!("it has more than {MEMBER_LIMIT} members")));
            }
            let kind = header.entry_type();
            let extends = kind.is_gnu_longname()
                || kind.is_gnu_longlink()
                || kind.is_pax_local_extensions()
                || kind.is_pax_global_extensions();
            let stated = match extension.size {
                Some(size) if !extends => size,
                _ => header
                    .entry_size()
                    .map_err(|error| index.damaged(format!("the size at {offset}: {error}")))?,
            };
            // Links and directories have no content, whatever their size says.
            let bare = matches!(kind, EntryType::Link | EntryType::Symlink) || kind.is_dir();
            let size = if bare { 0 } else { stated };
            let start = offset + BLOCK;
            let end = start
                .checked_add(size)
                .filter(|end| *end <= length)
                .ok_or_else(|| {
                    index.damaged(format!(
                        "the member at offset {offset} has {size} bytes, but the archive ends after {length}: it is cut short"
                    ))
                })?;
            if extends {
                index.extend(&mut extension, kind, start, size)?;
            } else {
                index.add(&header, &std::mem::take(&mut extension), start, size)?;
            }
            offset = end.next_multiple_of(BLOCK);
        }
        Ok(index)
    }

    fn header(&self, offset: u64, length: u64) -> Result<Option<Header>, SourceError> {
        if offset >= length {
            return Ok(None);
        }
        let mut block = [0; BLOCK as usize];
        match self.file.read_exact_at(&mut block, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(self.damaged(format!("its header at offset {offset} is cut short")));
            }
            read => read.doing("read", &self.origin)?,
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| {
                u32::from(if (148..156).contains(&at) {
                    b' '
                } else {
                    *byte
                })
            })
            .sum();
        if header.cksum().ok() != Some(sum) {
            return Err(self.damaged(format!(
                "the block at offset {offset} is no tar header: its checksum is wrong"
            )));
        }
        Ok(Some(header))
    }

    fn extend(
        &self,
        extension: &mut Extension,
        kind: EntryType,
        start: u64,
        size: u64,
    ) -> Result<(), SourceError> {
        if size > EXTENSION_LIMIT_BYTES {
            return Err(self.unsupported(format!("an extended header is {size} bytes long")));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        self.file
            .read_exact_at(&mut bytes, start)
            .doing("read", &self.origin)?;
        let text = || {
            let end = bytes.iter().position(|byte| *byte == 0);
            bytes[..end.unwrap_or(bytes.len())].to_vec()
        };
        if kind.is_gnu_longname() {
            extension.name = Some(text());
        } else if kind.is_gnu_longlink() {
            extension.link = Some(text());
        } else if kind.is_pax_local_extensions() {
            for record in PaxExtensions::new(&bytes) {
                let record =
                    record.map_err(|error| self.damaged(format!("a PAX record: {error}")))?;
                let value = record.value_bytes();
                match record.key_bytes() {
                    b"path" => extension.name = Some(value.to_vec()),
                    b"linkpath" => extension.link = Some(value.to_vec()),
                    b"size" => {
                        let size = std::str::from_utf8(value).ok();
                        let size = size.and_then(|size| size.parse().ok());
                        extension.size =
                            Some(size.ok_or_else(|| self.damaged("a PAX size is no number"))?);
                    }
                    key if key.starts_with(b"GNU.sparse.") => extension.sparse = true,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        header: &Header,
        extension: &Extension,
        offset: u64,
        size: u64,
    ) -> Result<(), SourceError> {
        let name = match &extension.name {
            Some(name) => name.clone(),
            None => header.path_bytes().into_owned(),
        };
        let shown = String::from_utf8_lossy(&name).into_owned();
        let kind = header.entry_type();
        if kind.is_dir() || (kind.is_file() && shown.ends_with('/')) {
            return Ok(());
        }
        let name = String::from_utf8(name)
            .ok()
            .and_then(|name| inside("", &name))
            .ok_or_else(|| {
                self.damaged(format!("its member {shown:?} has a name that leaves it"))
            })?;
        let member = match kind {
            EntryType::Symlink | EntryType::Link => {
                let target = match &extension.link {
                    Some(target) => target.clone(),
                    None => header
                        .link_name_bytes()
                        .map(std::borrow::Cow::into_owned)
                        .unwrap_or_default(),
                };
                let parent = match kind {
                    EntryType::Symlink => name.rsplit_once('/').map_or("", |(parent, _)| parent),
                    _ => "",
                };
                let target = String::from_utf8_lossy(&target).into_owned();
                let target = inside(parent, &target).ok_or_else(|| {
                    self.damaged(format!("its link {shown:?} leads out of it, to {target:?}"))
                })?;
                Member::Link { target }
            }
            EntryType::Regular | EntryType::Continuous if !extension.sparse => {
                Member::File { offset, size }
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                return Err(self.unsupported(format!("its member {shown:?} is a sparse file")));
            }
            _ => return Ok(()),
        };
        if self.members.insert(name, member).is_some() {
            return Err(self.damaged(format!("its member {shown:?} is there twice")));
        }
        Ok(())
    }

    fn damaged(&self, reason: impl Into<String>) -> SourceError {
        SourceError::Damaged {
            origin: self.origin.clone(),
            reason: reason.into(),
        }
    }

    fn unsupported(&self, reason: String) -> SourceError {
        SourceError::Unsupported {
            origin: self.origin.clone(),
            reason,
        }
    }
}

impl Files for TarIndex {
    fn open(&self, path: &str) -> Result<Option<OpenFile>, SourceError> {
        let Some(mut name) = inside("", path) else {
            return Ok(None);
        };
        for _ in 0..=LINK_LIMIT {
            match self.members.get(&name) {
                None => return Ok(None),
                Some(Member::Link { target }) => name.clone_from(target),
                Some(Member::File { offset, size }) => {
                    return Ok(Some(OpenFile {
                        reader: Box::new(Section {
                            file: Arc::clone(&self.file),
                            at: *offset,
                            end: offset + size,
                        }),
                        size: *size,
                    }));
                }
            }
        }
        Err(self.damaged(format!("{path:?} is more than {LINK_LIMIT} links away")))
    }
}

/// Joins a path of an archive to a folder of it; nothing if it leaves.
fn inside(parent: &str, path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = parent.split('/').filter(|part| !part.is_empty()).collect();
    let within_parent = !parts.is_empty();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if within_parent => {
                parts.pop()?;
            }
            ".." => return None,
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// A part of a file, read without moving the file's own position.
struct Section {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.file.read_at(&mut buffer[..wanted], self.at)?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the archive was cut short while it was read",
            ));
        }
        self.at += read as u64;
        Ok(read)
    }
}
