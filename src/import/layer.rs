//! One layer: split into objects and a layer stream.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    io::{self, Read, Write},
};

use super::{
    ImportError,
    tar::{Sparse, TarEntry, TarError, TarInput, TarKind, TarReader},
    verified::{TooLong, VerifiedLayer},
};
use crate::{
    name::DiffId,
    repo::{LayerWriter, ObjectWriter, Repo, StoredLayer},
    source::{LayerData, LayerDescriptor},
    squash::{EntryName, tree::FileContent},
    store_tree::tar_split::{Crc64, TarSplitWriter},
};

/// How much of a layer is taken before it counts as an attack.
#[derive(Debug, Clone, Copy)]
pub struct ImportLimits {
    /// Bytes of a layer's uncompressed tar, and of any sparse file in it.
    pub max_bytes: u64,
    /// Entries of a layer. Their names, link targets and extended attributes,
    /// which stay in memory, may take 1 KiB for each that is allowed.
    pub max_entries: u64,
}

const METADATA_PER_ENTRY: u64 = 1 << 10;

impl Default for ImportLimits {
    /// 64 GiB and a million entries.
    fn default() -> Self {
        Self {
            max_bytes: 64 << 30,
            max_entries: 1_000_000,
        }
    }
}

/// Imports one layer: objects, tar-split, layer stream, partial ref. Nothing
/// is registered before blob and tar have the digests they should have.
///
/// Memory does not grow with the layer's bytes.
///
/// # Errors
/// See [`ImportError`]; what was written by then is garbage that no name reaches.
pub fn import_layer(
    repo: &Repo,
    descriptor: &LayerDescriptor,
    data: LayerData,
    limits: ImportLimits,
) -> Result<StoredLayer, ImportError> {
    let diff_id = descriptor.diff_id;
    let write = |source| ImportError::Write { diff_id, source };
    let mut split = Split {
        repo,
        diff_id,
        limits,
        input: VerifiedLayer::open(descriptor, data, limits.max_bytes)?,
        stream: repo.layer_writer()?,
        tar_split: TarSplitWriter::new(repo.object_writer()).map_err(write)?,
        seen: Seen::default(),
    };
    if let Err(error) = split.run() {
        return Err(blame(error, split.input, diff_id, limits));
    }
    let diff_size = match split.input.finish() {
        Err(ImportError::Read { source, .. }) if is_too_long(&source) => {
            return Err(ImportError::TooLarge {
                diff_id,
                max_bytes: limits.max_bytes,
            });
        }
        other => other?,
    };
    let tar_split = split.tar_split.finish().map_err(write)?;
    let size = tar_split.size();
    let id = tar_split.finish()?.into_inner();
    Ok(split
        .stream
        .register(&diff_id, diff_size, FileContent::Object { id, size })?)
}

fn is_whiteout(name: &EntryName) -> bool {
    name.components()
        .next_back()
        .is_some_and(|last| last.starts_with(b".wh."))
}

/// A tar that cannot be read may be so because it is not the one it should
/// be: then that is what is wrong.
fn blame(
    error: ImportError,
    input: VerifiedLayer,
    diff_id: DiffId,
    limits: ImportLimits,
) -> ImportError {
    let source = match &error {
        ImportError::Tar {
            source: TarError::Read { source, .. },
            ..
        }
        | ImportError::Read { source, .. }
        | ImportError::Write { source, .. } => Some(source),
        ImportError::Tar { .. } => None,
        _ => return error,
    };
    if source.is_some_and(is_too_long) {
        return ImportError::TooLarge {
            diff_id,
            max_bytes: limits.max_bytes,
        };
    }
    match input.finish() {
        Err(wrong @ (ImportError::WrongBlob { .. } | ImportError::WrongDiffId { .. })) => wrong,
        _ => error,
    }
}

fn is_too_long(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<TooLong>())
}

/// The tar on its way into the layer stream and the tar-split.
struct Split<'r> {
    repo: &'r Repo,
    diff_id: DiffId,
    limits: ImportLimits,
    input: VerifiedLayer,
    stream: LayerWriter<'r>,
    tar_split: TarSplitWriter<ObjectWriter<'r>>,
    seen: Seen,
}

/// The names seen so far, as hashes: tar-split allows no name twice, so what
/// comes again goes into it as literal bytes. That loses nothing where two
/// names should ever share a hash.
#[derive(Default)]
struct Seen {
    names: HashSet<u64>,
    state: RandomState,
}

impl Seen {
    /// Whether this is the first entry of that name.
    fn is_first(&mut self, name: &EntryName) -> bool {
        self.names.insert(self.state.hash_one(name))
    }
}

impl TarInput for Split<'_> {
    fn literal(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.literal(buffer)?;
        self.keep(&buffer[..length])?;
        Ok(length)
    }
}

impl Split<'_> {
    fn keep(&mut self, literal: &[u8]) -> io::Result<()> {
        self.stream.literal(literal).map_err(io::Error::other)?;
        self.tar_split.segment(literal)
    }

    fn run(&mut self) -> Result<(), ImportError> {
        let diff_id = self.diff_id;
        let bad = |source| ImportError::Tar { diff_id, source };
        let mut reader = TarReader::new();
        let mut number = 0;
        let mut metadata_bytes = 0;
        let max_bytes = self.limits.max_entries.saturating_mul(METADATA_PER_ENTRY);
        while let Some(entry) = reader.next_entry(self).map_err(bad)? {
            if number == self.limits.max_entries {
                let max_entries = self.limits.max_entries;
                return Err(ImportError::TooManyEntries {
                    diff_id,
                    max_entries,
                });
            }
            metadata_bytes += entry.metadata_bytes();
            if metadata_bytes > max_bytes {
                return Err(ImportError::TooMuchMetadata { diff_id, max_bytes });
            }
            self.entry(number, &entry)?;
            number += 1;
        }
        // What stands behind the end of the archive belongs to the DiffID.
        let mut rest = [0; 1 << 14];
        loop {
            let read = self.literal(&mut rest);
            if read.map_err(|source| ImportError::Read { diff_id, source })? == 0 {
                return Ok(());
            }
        }
    }

    fn entry(&mut self, number: u64, entry: &TarEntry) -> Result<(), ImportError> {
        let diff_id = self.diff_id;
        let write = |source| ImportError::Write { diff_id, source };
        let name = &entry.raw_name;
        let size = entry.stored_size;
        let first = self.seen.is_first(&entry.name);
        let has_data = matches!(entry.kind, TarKind::Regular) && size > 0;
        // Only what the tree will show under this name can be read from it.
        let from_tree = first && has_data && entry.sparse.is_none() && !is_whiteout(&entry.name);
        if first && !from_tree {
            self.tar_split.file(name, 0, 0).map_err(write)?;
        }
        if let Some(sparse) = &entry.sparse {
            return self.sparse(number, sparse, size);
        }
        if !has_data {
            return Ok(());
        }
        let mut crc = Crc64::new();
        if size <= FileContent::INLINE_MAX as u64 {
            let mut content = [0; FileContent::INLINE_MAX];
            let content = &mut content[..usize::try_from(size).unwrap_or(0)];
            self.data(content)?;
            self.note(from_tree, &mut crc, content).map_err(write)?;
            self.stream.literal(content)?;
        } else {
            let mut object = self.repo.object_writer();
            let mut buffer = vec![0; 1 << 16];
            let mut left = size;
            while left > 0 {
                let most = left.min(buffer.len() as u64);
                let piece = &mut buffer[..usize::try_from(most).unwrap_or(0)];
                self.data(piece)?;
                self.note(from_tree, &mut crc, piece).map_err(write)?;
                object.write_all(piece).map_err(write)?;
                left -= most;
            }
            let id = object.finish()?.into_inner();
            self.stream.object(&id, size)?;
        }
        if from_tree {
            self.tar_split
                .file(name, size, crc.finish())
                .map_err(write)?;
        }
        Ok(())
    }

    /// Data goes into the tar-split as a checksum of what the tree has, or as it is.
    fn note(&mut self, from_tree: bool, crc: &mut Crc64, data: &[u8]) -> io::Result<()> {
        if from_tree {
            crc.update(data);
            return Ok(());
        }
        self.tar_split.segment(data)
    }

    fn data(&mut self, buffer: &mut [u8]) -> Result<(), ImportError> {
        let diff_id = self.diff_id;
        self.input.read_exact(buffer).map_err(|source| {
            let offset = self.input.tar_bytes();
            let source = if source.kind() == io::ErrorKind::UnexpectedEof {
                TarError::Truncated {
                    offset,
                    inside: "a file's data",
                }
            } else {
                TarError::Read { offset, source }
            };
            ImportError::Tar { diff_id, source }
        })
    }

    /// A sparse file is kept twice: as it is stored, for the tar, and with its
    /// holes, for the tree.
    fn sparse(
        &mut self,
        number: u64,
        sparse: &Sparse,
        stored_size: u64,
    ) -> Result<(), ImportError> {
        let (repo, diff_id) = (self.repo, self.diff_id);
        let max_bytes = self.limits.max_bytes;
        if sparse.real_size > max_bytes {
            return Err(ImportError::TooLarge { diff_id, max_bytes });
        }
        let read = |source| ImportError::Read { diff_id, source };
        let mut stored = Stored {
            input: (&mut self.input).take(stored_size),
            object: repo.object_writer(),
            tar_split: &mut self.tar_split,
        };
        let mut expanded = repo.object_writer();
        let mut content = sparse.expand(&mut stored, stored_size).map_err(read)?;
        io::copy(&mut content, &mut expanded).map_err(read)?;
        io::copy(&mut stored, &mut io::sink()).map_err(read)?;
        let stored = stored.object.finish()?.into_inner();
        if stored_size > 0 {
            self.stream.object(&stored, stored_size)?;
        }
        self.stream
            .expanded(number, &expanded.finish()?.into_inner())?;
        Ok(())
    }
}

/// A sparse file's stored bytes, kept as they are read.
struct Stored<'a, 'r> {
    input: io::Take<&'a mut VerifiedLayer>,
    object: ObjectWriter<'r>,
    tar_split: &'a mut TarSplitWriter<ObjectWriter<'r>>,
}

impl Read for Stored<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        self.object.write_all(&buffer[..length])?;
        self.tar_split.segment(&buffer[..length])?;
        Ok(length)
    }
}
