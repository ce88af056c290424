//! A layer's tar, put together again from its tar-split and its files.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use crate::{
    store_tree::tar_split::{Crc64, TarSplitItem, TarSplitReader},
    sys::RootDir,
};

/// Reads the tar of one layer of a containers-storage.
///
/// The tar-split says which bytes are literal and which are a file's; files are
/// looked up in the layer's own folder first and then in those below it, as
/// containers-storage does, and never outside of one. Their CRC64 tells a
/// changed file at once; only the DiffID of the whole is proof.
pub(super) struct LayerTar {
    items: TarSplitReader<File>,
    /// The layer's `diff` folder, then its parents'.
    dirs: Vec<RootDir>,
    layer: String,
    piece: Piece,
}

enum Piece {
    Literal { bytes: Vec<u8>, at: usize },
    File(Box<Content>),
}

struct Content {
    file: File,
    name: Vec<u8>,
    left: u64,
    crc: Crc64,
    expected: u64,
}

impl LayerTar {
    pub(super) fn new(tar_split: File, dirs: Vec<RootDir>, layer: &str) -> Self {
        Self {
            items: TarSplitReader::new(tar_split),
            dirs,
            layer: layer.to_owned(),
            piece: Piece::Literal {
                bytes: Vec::new(),
                at: 0,
            },
        }
    }

    fn open(&self, name: &[u8], size: u64) -> io::Result<File> {
        let path = Path::new(std::ffi::OsStr::from_bytes(name));
        for dir in &self.dirs {
            match dir.open_file(path).map_err(io::Error::other)? {
                Some((file, found)) if found == size => return Ok(file),
                Some((_, found)) => {
                    return Err(self.bad(name, format!("is {found} bytes long, not {size}")));
                }
                None => {}
            }
        }
        Err(self.bad(name, "is in no folder of the layer or below it (files kept in an image of their own are not read)"))
    }

    fn bad(&self, name: &[u8], what: impl std::fmt::Display) -> io::Error {
        let name = String::from_utf8_lossy(name);
        let layer = &self.layer;
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "file {name:?} of storage layer {layer} {what}; pull the image again, or copy it to oci: with skopeo"
            ),
        )
    }
}

impl Read for LayerTar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let read = match &mut self.piece {
                Piece::Literal { bytes, at } => (&bytes[*at..])
                    .read(buffer)
                    .inspect(|length| *at += length)?,
                Piece::File(content) => {
                    let most = usize::try_from(content.left).unwrap_or(usize::MAX);
                    let most = most.min(buffer.len());
                    let read = content.file.read(&mut buffer[..most])?;
                    content.crc.update(&buffer[..read]);
                    content.left -= read as u64;
                    read
                }
            };
            if read > 0 {
                return Ok(read);
            }
            if let Piece::File(content) = &mut self.piece {
                let crc = std::mem::take(&mut content.crc).finish();
                let (left, expected) = (content.left, content.expected);
                let name = std::mem::take(&mut content.name);
                if left > 0 || crc != expected {
                    return Err(self.bad(&name, "was changed since it was pulled"));
                }
            }
            self.piece = match self.items.next().transpose().map_err(io::Error::other)? {
                None => return Ok(0),
                Some(TarSplitItem::Segment(bytes)) => Piece::Literal { bytes, at: 0 },
                Some(TarSplitItem::File { size: 0, .. }) => Piece::Literal {
                    bytes: Vec::new(),
                    at: 0,
                },
                Some(TarSplitItem::File { name, size, crc64 }) => Piece::File(Box::new(Content {
                    file: self.open(&name, size)?,
                    name,
                    left: size,
                    crc: Crc64::new(),
                    expected: crc64,
                })),
            };
        }
    }
}
