//! A stretch of a layer's tar between the thread that reads it, the one that
//! writes its objects, and the layer stream.

use std::{
    io::{self, Write},
    sync::mpsc::Receiver,
};

use bytes::Bytes;

use super::ImportError;
use crate::{
    name::{DiffId, ObjectId},
    repo::{LayerWriter, Repo},
    store_tree::tar_split::{Crc64, TarSplitWriter},
};

/// Some pieces of a tar, in order.
#[derive(Default)]
pub(super) struct Batch {
    /// What is kept as it is.
    kept: Vec<u8>,
    pieces: Vec<Piece>,
    file_bytes: usize,
}

enum Piece {
    /// As many bytes that are kept as they are.
    Literal(usize),
    /// An entry of which nothing is to be read from the tree.
    Name(Box<[u8]>),
    /// An entry whose few bytes are kept, and seen in the tree.
    Small(Box<[u8]>, usize),
    /// An entry whose bytes are an object, and seen in the tree.
    File(File),
}

struct File {
    name: Box<[u8]>,
    size: u64,
    /// All of them, until the object is made.
    content: Bytes,
    made: Option<(ObjectId, u64)>,
}

/// When a batch is worth another thread's while.
const ENOUGH_BYTES: usize = 256 << 10;
const ENOUGH_PIECES: usize = 1 << 10;

impl Batch {
    /// The largest file that goes into a batch; a larger one is a job of its own.
    pub(super) const LARGEST: u64 = 1 << 20;

    pub(super) fn is_full(&self) -> bool {
        self.kept.len() + self.file_bytes >= ENOUGH_BYTES || self.pieces.len() >= ENOUGH_PIECES
    }

    pub(super) fn literal(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        self.pieces.push(Piece::Literal(bytes.len()));
    }

    pub(super) fn name(&mut self, name: &[u8]) {
        self.pieces.push(Piece::Name(name.into()));
    }

    pub(super) fn small(&mut self, name: &[u8], content: &[u8]) {
        self.kept.extend_from_slice(content);
        self.pieces.push(Piece::Small(name.into(), content.len()));
    }

    /// Adds a file, of at most [`Batch::LARGEST`] bytes.
    pub(super) fn file(&mut self, name: &[u8], content: Bytes) {
        self.file_bytes += content.len();
        self.pieces.push(Piece::File(File {
            name: name.into(),
            size: content.len() as u64,
            content,
            made: None,
        }));
    }

    /// Makes the objects of its files.
    pub(super) fn write(mut self, repo: &Repo) -> Result<Self, ImportError> {
        let mut files: Vec<&mut File> = self
            .pieces
            .iter_mut()
            .filter_map(Piece::as_file_mut)
            .collect();
        let contents: Vec<&[u8]> = files.iter().map(|file| &*file.content).collect();
        let made = repo.ensure_objects(&contents)?;
        for (file, id) in files.iter_mut().zip(made) {
            let content = std::mem::take(&mut file.content);
            file.made = Some((id, Crc64::of(&content)));
        }
        Ok(self)
    }

    /// One file that is too large for a batch: its bytes come meanwhile.
    pub(super) fn write_large(
        repo: &Repo,
        held: usize,
        diff_id: DiffId,
        (name, size): (Box<[u8]>, u64),
        content: &Receiver<Bytes>,
    ) -> Result<Self, ImportError> {
        let write = |source| ImportError::Write { diff_id, source };
        let mut object = repo.object_writer_holding(size, held);
        let mut crc = Crc64::new();
        for bytes in content {
            crc.update(&bytes);
            object.write_all(&bytes).map_err(write)?;
        }
        if object.size() != size {
            return Err(write(io::ErrorKind::UnexpectedEof.into()));
        }
        let id = object.finish()?.into_inner();
        Ok(Self {
            pieces: vec![Piece::File(File {
                name,
                size,
                content: Bytes::new(),
                made: Some((id, crc.finish())),
            })],
            ..Self::default()
        })
    }

    /// Adds it to the layer stream and the tar-split.
    pub(super) fn assemble<W: Write>(
        self,
        diff_id: DiffId,
        stream: &mut LayerWriter<'_>,
        tar_split: &mut TarSplitWriter<W>,
    ) -> Result<(), ImportError> {
        let write = |source| ImportError::Write { diff_id, source };
        let mut rest = self.kept.as_slice();
        let mut kept = |length| {
            let (bytes, left) = rest.split_at(length);
            rest = left;
            bytes
        };
        for piece in self.pieces {
            match piece {
                Piece::Literal(length) => {
                    let bytes = kept(length);
                    stream.literal(bytes)?;
                    tar_split.segment(bytes).map_err(write)?;
                }
                Piece::Name(name) => tar_split.file(&name, 0, 0).map_err(write)?,
                Piece::Small(name, length) => {
                    let bytes = kept(length);
                    stream.literal(bytes)?;
                    let (size, crc) = (bytes.len() as u64, Crc64::of(bytes));
                    tar_split.file(&name, size, crc).map_err(write)?;
                }
                Piece::File(file) => {
                    let made = file.made.ok_or(io::ErrorKind::NotFound.into());
                    let (id, crc) = made.map_err(write)?;
                    stream.object(&id, file.size)?;
                    tar_split.file(&file.name, file.size, crc).map_err(write)?;
                }
            }
        }
        Ok(())
    }
}

impl Piece {
    fn as_file_mut(&mut self) -> Option<&mut File> {
        match self {
            Self::File(file) => Some(file),
            _ => None,
        }
    }
}
