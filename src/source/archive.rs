//! Archives of images: opened in place, decompressed first where they must be.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek},
    path::Path,
};

use super::{Layout, SourceError, spool::create_spool_dir, tar_index::TarIndex};
use crate::{error::Doing, sys::open_regular};

/// How a stream is compressed, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
    Unread(&'static str),
}

impl Packing {
    const MAGIC_LENGTH: u64 = 6;

    fn of(magic: &[u8]) -> Self {
        match magic {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame: zstd --patch-from, pzstd, zstd:chunked begin so.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', ..] => Self::Unread("bzip2"),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Unread("xz"),
            _ => Self::Plain,
        }
    }
}

/// Reads through the compression that the stream begins with, if any.
pub(super) fn decompressed(
    mut reader: Box<dyn Read + Send>,
    what: &str,
    origin: &str,
) -> Result<(Box<dyn Read + Send>, bool), SourceError> {
    let mut magic = Vec::new();
    (&mut reader)
        .take(Packing::MAGIC_LENGTH)
        .read_to_end(&mut magic)
        .doing("read", origin)?;
    let packing = Packing::of(&magic);
    let whole = io::Cursor::new(magic).chain(reader);
    let plain: Box<dyn Read + Send> = match packing {
        Packing::Plain => return Ok((Box::new(whole), false)),
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::new(whole))),
        Packing::Zstd => Box::new(zstd::Decoder::new(whole).doing("read", origin)?),
        Packing::Unread(name) => {
            return Err(SourceError::Unsupported {
                origin: origin.to_owned(),
                reason: format!(
                    "{what} is compressed with {name}; recompress it with gzip or zstd"
                ),
            });
        }
    };
    Ok((plain, true))
}

/// Opens the tar at `path`, decompressed into an unnamed file in `spool_dir`
/// where it is compressed: members are read by their offset.
pub(super) fn open_tar(
    path: &Path,
    origin: &str,
    spool_dir: &Path,
) -> Result<TarIndex, SourceError> {
    let (file, _) = open_regular(path)?;
    let copy = file.try_clone().doing("open", path)?;
    let (mut reader, compressed) = decompressed(Box::new(file), "it", origin)?;
    if !compressed {
        return TarIndex::read(copy, origin);
    }
    create_spool_dir(spool_dir)?;
    let mut spool: File = tempfile::tempfile_in(spool_dir).doing("create a file in", spool_dir)?;
    if let Err(error) = io::copy(&mut reader, &mut spool) {
        // A decoder's complaints have no errno, the disk's have one.
        if error.raw_os_error().is_some() {
            Err(error).doing("decompress an archive into", spool_dir)?;
        } else {
            return Err(SourceError::Damaged {
                origin: origin.to_owned(),
                reason: format!("its compression is damaged: {error}"),
            });
        }
    }
    spool.rewind().doing("rewind a file in", spool_dir)?;
    TarIndex::read(spool, origin)
}

impl Layout {
    /// Opens the layout in the tar at `path`, as `skopeo copy .. oci-archive:`
    /// and `podman save --format oci-archive` write it.
    ///
    /// A compressed tar is decompressed into an unnamed file in `spool_dir`,
    /// whatever its size: the disk is the limit.
    ///
    /// # Errors
    /// [`SourceError`]: no archive, a damaged or hostile one, no layout in it.
    pub fn open_archive(
        path: &Path,
        reference: Option<&str>,
        spool_dir: &Path,
    ) -> Result<Self, SourceError> {
        let origin = format!("oci-archive:{}", path.display());
        let files = open_tar(path, &origin, spool_dir)?;
        Self::open(Box::new(files), origin, reference)
    }
}
