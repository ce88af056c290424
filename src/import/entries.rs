//! The way back: from a layer stream to the entries that squashing takes.

use std::io::{self, Read};

use super::{
    ImportError,
    tar::{TarEntry, TarError, TarInput, TarReader},
};
use crate::{
    name::{DiffId, ObjectId},
    repo::{Chunk, LayerChunks, RepoError, RepoView},
    squash::{LayerEntry, tree::FileContent},
};

/// The entries of a layer that is in the repository, in the order of its tar.
#[derive(Debug)]
pub struct LayerEntries<'r> {
    diff_id: DiffId,
    reader: TarReader,
    input: StreamInput<'r>,
    number: u64,
}

/// Reads a stored layer from its stream.
///
/// # Errors
/// As those of [`RepoView::layer_chunks`].
pub fn layer_entries<'r>(
    view: &'r RepoView,
    diff_id: &DiffId,
    stream: &ObjectId,
) -> Result<LayerEntries<'r>, RepoError> {
    let chunks = view.layer_chunks(diff_id, stream)?;
    Ok(LayerEntries {
        diff_id: *diff_id,
        reader: TarReader::new(),
        input: StreamInput {
            view,
            chunks,
            literal: Box::default(),
            position: 0,
        },
        number: 0,
    })
}

/// A layer stream as a tar: literal bytes where headers stand, objects where
/// data stands.
#[derive(Debug)]
struct StreamInput<'r> {
    view: &'r RepoView,
    chunks: LayerChunks,
    literal: Box<[u8]>,
    position: usize,
}

impl TarInput for StreamInput<'_> {
    fn literal(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.literal.len() {
            self.position = 0;
            self.literal = match self.chunks.next().transpose().map_err(io::Error::other)? {
                None => return Ok(0),
                Some(Chunk::Literal(bytes)) => bytes,
                // A long run of literal bytes, kept as an object.
                Some(Chunk::Object(id)) => self.read_object(&id)?,
            };
        }
        let rest = &self.literal[self.position..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.position += length;
        Ok(length)
    }
}

impl StreamInput<'_> {
    fn read_object(&self, id: &ObjectId) -> io::Result<Box<[u8]>> {
        const MOST: u64 = 64 << 20;
        let file = self.view.open_object(id).map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes)?;
        Ok(bytes.into())
    }

    /// The object that stands here.
    fn object(&mut self) -> io::Result<ObjectId> {
        let inline = self.position < self.literal.len();
        match self
            .chunks
            .next()
            .filter(|_| !inline)
            .transpose()
            .map_err(io::Error::other)?
        {
            Some(Chunk::Object(id)) => Ok(id),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the layer stream has no object where a file's data should be",
            )),
        }
    }

    fn content(&mut self, entry: &TarEntry, number: u64) -> io::Result<Option<FileContent>> {
        let size = entry.content_size();
        if entry.sparse.is_some() {
            if entry.stored_size > 0 {
                self.object()?;
            }
            let id = self.chunks.expanded(number).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "a sparse file is not expanded")
            })?;
            if size <= FileContent::INLINE_MAX as u64 {
                return Ok(Some(FileContent::Inline(self.read_object(&id)?)));
            }
            return Ok(Some(FileContent::Object { id, size }));
        }
        if entry.stored_size > FileContent::INLINE_MAX as u64 {
            let id = self.object()?;
            return Ok(Some(FileContent::Object {
                id,
                size: entry.stored_size,
            }));
        }
        let mut bytes = vec![0; usize::try_from(entry.stored_size).unwrap_or(0)];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.literal(&mut bytes[filled..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => filled += length,
            }
        }
        Ok(Some(FileContent::Inline(bytes.into())))
    }
}

impl LayerEntries<'_> {
    fn read(&mut self) -> Result<Option<LayerEntry>, TarError> {
        while let Some(entry) = self.reader.next_entry(&mut self.input)? {
            let content =
                self.input
                    .content(&entry, self.number)
                    .map_err(|source| TarError::Read {
                        offset: entry.offset,
                        source,
                    })?;
            self.number += 1;
            if let Some(entry) = entry.into_layer_entry(content)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}

impl Iterator for LayerEntries<'_> {
    type Item = Result<LayerEntry, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        let diff_id = self.diff_id;
        self.read()
            .map_err(|source| ImportError::Tar { diff_id, source })
            .transpose()
    }
}
