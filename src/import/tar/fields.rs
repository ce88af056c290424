//! From raw fields and extension headers to values.

use super::{
    entry::{TarEntry, TarKind},
    error::{SparseError, TarError},
    header::Header,
    number::{decimal, pax_time},
    pax::{self, Records},
    sparse::{self, Sparse, SparseMap},
};
use crate::{
    name::Mtime,
    squash::{
        EntryName,
        tree::{Device, Metadata},
    },
};

/// The extension headers seen since the last entry.
#[derive(Default)]
pub(super) struct Extensions {
    pub long_name: Vec<u8>,
    pub long_link: Vec<u8>,
    pub records: Records,
}

impl Extensions {
    /// Puts what the extension headers say over the header's own fields.
    pub(super) fn apply(&self, header: &mut Header) -> Result<Metadata, &'static str> {
        let metadata = merge_records(header, &self.records)?;
        if !self.long_name.is_empty() {
            header.name.clone_from(&self.long_name);
        }
        if !self.long_link.is_empty() {
            header.link.clone_from(&self.long_link);
        }
        Ok(metadata)
    }
}

fn merge_records(header: &mut Header, records: &Records) -> Result<Metadata, &'static str> {
    let mut metadata = Metadata {
        mtime: Mtime {
            sec: header.mtime,
            nsec: 0,
        },
        ..Metadata::default()
    };
    let number = |value: &[u8]| decimal(value).ok_or("a PAX record is no number");
    let time = |value: &[u8]| pax_time(value).ok_or("a PAX record is no time");
    for (key, value) in records {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            metadata
                .xattrs
                .insert(name.into(), value.clone().into_boxed_slice());
            continue;
        }
        if value.is_empty() {
            continue; // the header's own value stays
        }
        match key.as_slice() {
            b"path" => header.name.clone_from(value),
            b"linkpath" => header.link.clone_from(value),
            b"uid" => header.uid = number(value)?,
            b"gid" => header.gid = number(value)?,
            b"size" => header.size = number(value)?,
            b"mtime" => metadata.mtime = time(value)?,
            b"atime" | b"ctime" => {
                time(value)?;
            }
            _ => {}
        }
    }
    Ok(metadata)
}

/// A PAX sparse file, if these records make one. The header's name and size
/// become the real ones.
pub(super) fn pax_sparse(
    header: &mut Header,
    records: &Records,
) -> Result<Option<Sparse>, SparseError> {
    let get = |key: &[u8]| records.get(key).map_or(&[][..], Vec::as_slice);
    let map = get(pax::SPARSE_MAP);
    let in_data = match (get(b"GNU.sparse.major"), get(b"GNU.sparse.minor")) {
        (b"0", b"0" | b"1") => false,
        (b"1", b"0") => true,
        (b"", b"") if !map.is_empty() => false,
        _ => return Ok(None),
    };
    let name = get(b"GNU.sparse.name");
    if !name.is_empty() {
        header.name = name.to_vec();
    }
    let size = match get(b"GNU.sparse.size") {
        b"" => get(b"GNU.sparse.realsize"),
        size => size,
    };
    if !size.is_empty() {
        header.size = decimal(size).ok_or(SparseError::Malformed)?;
    }
    let real_size = u64::try_from(header.size).map_err(|_| SparseError::Malformed)?;
    let map = if in_data {
        SparseMap::InData
    } else {
        SparseMap::Known(sparse::parse_pax_map(get(b"GNU.sparse.numblocks"), map)?)
    };
    Sparse::new(real_size, map).map(Some)
}

pub(super) fn global_header(
    mut header: Header,
    records: &Records,
    offset: u64,
) -> Result<TarEntry, TarError> {
    merge_records(&mut header, records).map_err(|reason| TarError::Header { offset, reason })?;
    Ok(TarEntry {
        raw_name: header.name,
        name: EntryName::default(),
        offset,
        header_size: 0,
        stored_size: 0,
        metadata: Metadata::default(),
        kind: TarKind::GlobalHeader,
        sparse: None,
    })
}

/// Turns raw fields into values, for errors that name the entry.
pub(super) struct Fields<'a> {
    pub name: &'a [u8],
    pub offset: u64,
}

impl Fields<'_> {
    pub(super) fn u32(&self, field: &'static str, value: i64) -> Result<u32, TarError> {
        self.below(1 << 32, field, value)
    }

    fn below(&self, end: u64, field: &'static str, value: i64) -> Result<u32, TarError> {
        let number = u32::try_from(value)
            .ok()
            .filter(|number| u64::from(*number) < end);
        number.ok_or_else(|| TarError::OutOfRange {
            offset: self.offset,
            name: lossy(self.name),
            field,
            value,
        })
    }

    pub(super) fn path(&self, raw: &[u8]) -> Result<EntryName, TarError> {
        EntryName::parse(raw).map_err(|source| TarError::Name {
            offset: self.offset,
            source,
        })
    }

    fn device(&self, header: &Header) -> Result<Device, TarError> {
        Ok(Device {
            major: self.below(1 << 12, "major device number", header.major)?,
            minor: self.below(1 << 20, "minor device number", header.minor)?,
        })
    }

    pub(super) fn kind(&self, header: &Header) -> Result<TarKind, TarError> {
        Ok(match header.flag {
            b'0' | b'7' | b'S' => TarKind::Regular,
            b'1' => TarKind::Hardlink(self.path(&header.link)?),
            b'2' => TarKind::Symlink(header.link.as_slice().into()),
            b'3' => TarKind::CharDevice(self.device(header)?),
            b'4' => TarKind::BlockDevice(self.device(header)?),
            b'5' => TarKind::Directory,
            b'6' => TarKind::Fifo,
            flag => {
                return Err(TarError::Unsupported {
                    offset: self.offset,
                    name: lossy(self.name),
                    flag: char::from(flag),
                    what: match flag {
                        b'D' => "a directory of an incremental dump",
                        b'M' => "the rest of a file from another volume",
                        b'N' => "an old long name",
                        b'V' => "a volume label",
                        b'A' => "a Solaris access control list",
                        b'X' => "a Solaris extended header",
                        _ => "unknown",
                    },
                });
            }
        })
    }
}

pub(super) fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(4096)]).into_owned()
}
