//! One layer: split into objects and a layer stream.

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher, RandomState},
    io::{self, Read, Write},
    sync::mpsc::{Receiver, sync_channel},
};

use bytes::Bytes;

use super::{
    ImportError, ObjectPool,
    batch::Batch,
    tar::{Sparse, TarEntry, TarError, TarInput, TarKind, TarReader},
    verified::{TooLong, VerifiedLayer},
};
use crate::{
    name::DiffId,
    repo::{LayerWriter, ObjectWriter, Repo, StagedStream, StoredLayer},
    source::{LayerData, LayerDescriptor},
    squash::{EntryName, tree::FileContent},
    store_tree::tar_split::TarSplitWriter,
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

/// How many batches of a layer are being written at once, or wait for that.
const AT_ONCE: usize = 8;
/// How many pieces of a large file wait for the thread that writes it.
const PIECES: usize = 4;

/// Imports one layer: objects, tar-split, layer stream. It has no name in the
/// repository before [`Repo::register`] gives it
/// one; that blob and tar have the digests they should have is made sure of here,
/// but for a blob that has been hashed.
///
/// Decompressing, parsing and writing go on at the same time, each on threads
/// of its own. Memory does not grow with the layer's bytes.
///
/// # Errors
/// See [`ImportError`]; what was written by then is garbage that no name reaches.
pub fn import_layer(
    pool: &ObjectPool<'_>,
    descriptor: &LayerDescriptor,
    data: LayerData,
    limits: ImportLimits,
) -> Result<(StoredLayer, StagedStream), ImportError> {
    let (repo, diff_id) = (pool.repo(), descriptor.diff_id);
    let write = |source| ImportError::Write { diff_id, source };
    let mut split = Split {
        pool,
        diff_id,
        limits,
        input: VerifiedLayer::open(descriptor, data, limits.max_bytes)?,
        batch: Batch::default(),
        begun: VecDeque::new(),
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
    let tar_split = FileContent::Object { id, size };
    Ok(split.stream.finish(&diff_id, diff_size, tar_split)?)
}

/// Imports one layer and lets it be found.
///
/// # Errors
/// As those of [`import_layer`]; whatever registering says.
pub fn import_alone(
    repo: &Repo,
    descriptor: &LayerDescriptor,
    data: LayerData,
    limits: ImportLimits,
) -> Result<StoredLayer, ImportError> {
    let imported = ObjectPool::with(repo, |pool| import_layer(pool, descriptor, data, limits));
    let (layer, staged) = imported?;
    repo.register(&[staged])?;
    Ok(layer)
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
struct Split<'p, 'r> {
    pool: &'p ObjectPool<'r>,
    diff_id: DiffId,
    limits: ImportLimits,
    input: VerifiedLayer,
    /// What comes after all that has been begun.
    batch: Batch,
    begun: VecDeque<Receiver<Result<Batch, ImportError>>>,
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

impl TarInput for Split<'_, '_> {
    fn literal(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.literal(buffer)?;
        self.batch.literal(&buffer[..length]);
        Ok(length)
    }
}

impl Split<'_, '_> {
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
            self.write_if_full()?;
            number += 1;
        }
        // What stands behind the end of the archive belongs to the DiffID.
        let mut rest = [0; 1 << 14];
        loop {
            let read = self.literal(&mut rest);
            if read.map_err(|source| ImportError::Read { diff_id, source })? == 0 {
                return self.settle();
            }
            self.write_if_full()?;
        }
    }

    fn entry(&mut self, number: u64, entry: &TarEntry) -> Result<(), ImportError> {
        let name = &entry.raw_name;
        let size = entry.stored_size;
        let first = self.seen.is_first(&entry.name);
        let has_data = matches!(entry.kind, TarKind::Regular) && size > 0;
        // Only what the tree will show under this name can be read from it.
        let from_tree = first && has_data && entry.sparse.is_none() && !is_whiteout(&entry.name);
        if first && !from_tree {
            self.batch.name(name);
        }
        if let Some(sparse) = &entry.sparse {
            self.settle()?;
            return self.sparse(number, sparse, size);
        }
        if !has_data {
            return Ok(());
        }
        if size <= FileContent::INLINE_MAX as u64 {
            let content = self.data(size)?;
            if from_tree {
                self.batch.small(name, &content);
            } else {
                self.batch.literal(&content);
            }
            return Ok(());
        }
        if !from_tree {
            self.settle()?;
            return self.unseen(size);
        }
        if size <= Batch::LARGEST {
            let content = self.data(size)?;
            self.batch.file(name, content);
            return Ok(());
        }
        self.large(name, size)
    }

    fn write_if_full(&mut self) -> Result<(), ImportError> {
        if self.batch.is_full() {
            self.write_batch()?;
        }
        Ok(())
    }

    fn write_batch(&mut self) -> Result<(), ImportError> {
        let batch = std::mem::take(&mut self.batch);
        let written = self.pool.run(move |repo| batch.write(repo));
        self.begin(written)
    }

    /// What is being written takes its place; the oldest is waited for where
    /// that is too much at once.
    fn begin(&mut self, written: Receiver<Result<Batch, ImportError>>) -> Result<(), ImportError> {
        self.begun.push_back(written);
        if self.begun.len() > AT_ONCE {
            self.assemble_oldest()?;
        }
        Ok(())
    }

    fn assemble_oldest(&mut self) -> Result<(), ImportError> {
        let diff_id = self.diff_id;
        let Some(oldest) = self.begun.pop_front() else {
            return Ok(());
        };
        let written = oldest.recv().map_err(|_| ImportError::Write {
            diff_id,
            source: io::Error::other("the thread that writes it is gone"),
        })?;
        written?.assemble(diff_id, &mut self.stream, &mut self.tar_split)
    }

    /// Lets layer stream and tar-split have all that has been read.
    fn settle(&mut self) -> Result<(), ImportError> {
        while !self.begun.is_empty() {
            self.assemble_oldest()?;
        }
        let batch = std::mem::take(&mut self.batch).write(self.pool.repo())?;
        batch.assemble(self.diff_id, &mut self.stream, &mut self.tar_split)
    }

    /// A file's bytes, all of which are held.
    fn data(&mut self, size: u64) -> Result<Bytes, ImportError> {
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        let data = self.input.exact_bytes(length);
        data.map_err(|source| self.not_read(source))
    }

    fn not_read(&self, source: io::Error) -> ImportError {
        let (diff_id, offset) = (self.diff_id, self.input.tar_bytes());
        let source = match source.kind() {
            io::ErrorKind::UnexpectedEof => truncated(offset),
            _ => TarError::Read { offset, source },
        };
        ImportError::Tar { diff_id, source }
    }

    /// A large file goes piece by piece to the thread that writes it.
    fn large(&mut self, name: &[u8], size: u64) -> Result<(), ImportError> {
        let diff_id = self.diff_id;
        self.write_batch()?;
        let (send, content) = sync_channel(PIECES);
        let (name, held) = (name.into(), self.pool.held());
        let written = self
            .pool
            .run(move |repo| Batch::write_large(repo, held, diff_id, (name, size), &content));
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let piece = self.input.next_bytes(most);
            let piece = piece.map_err(|source| self.not_read(source))?;
            if piece.is_empty() {
                return Err(self.not_read(io::ErrorKind::UnexpectedEof.into()));
            }
            left -= piece.len() as u64;
            if send.send(piece).is_err() {
                // It has failed, which is what is to be told: what comes next is no header.
                self.begin(written)?;
                return self.settle();
            }
        }
        drop(send);
        self.begin(written)
    }

    /// A file that the tree does not show under its name is kept in the
    /// tar-split too.
    fn unseen(&mut self, size: u64) -> Result<(), ImportError> {
        let diff_id = self.diff_id;
        let read = |source| ImportError::Read { diff_id, source };
        let mut stored = Stored {
            input: (&mut self.input).take(size),
            object: self.pool.repo().object_writer(),
            tar_split: &mut self.tar_split,
        };
        if io::copy(&mut stored, &mut io::sink()).map_err(read)? != size {
            let offset = self.input.tar_bytes();
            let source = truncated(offset);
            return Err(ImportError::Tar { diff_id, source });
        }
        let id = stored.object.finish()?.into_inner();
        Ok(self.stream.object(&id, size)?)
    }

    /// A sparse file is kept twice: as it is stored, for the tar, and with its
    /// holes, for the tree.
    fn sparse(
        &mut self,
        number: u64,
        sparse: &Sparse,
        stored_size: u64,
    ) -> Result<(), ImportError> {
        let (repo, diff_id) = (self.pool.repo(), self.diff_id);
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

fn truncated(offset: u64) -> TarError {
    TarError::Truncated {
        offset,
        inside: "a file's data",
    }
}

/// A file's stored bytes, kept as they are read.
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
