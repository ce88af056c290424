//! Layer streams: one layer's tar, split into literal bytes and objects.
//!
//! `boundstore-layer-v1-sha256:<DiffID>` is a splitstream whose content is the
//! uncompressed tar, byte for byte: headers, padding and small files inline,
//! larger files as references to objects. Long runs of literal bytes are
//! objects too, so that no layer needs memory by its size. Named references:
//! `tar-split-v1` is the gzipped tar-split of format 1; `expanded-<n>` is the
//! expanded content of the n-th entry, where that is sparse.

use std::{fs::File, panic::resume_unwind, path::Path, sync::mpsc, thread};

use composefs::{
    fsverity::{FsVerityHashValue, Sha256HashValue, Sha512HashValue},
    splitstream::{SplitStreamData, SplitStreamReader, SplitStreamWriter},
};

use super::{Inner, Repo, RepoError, RepoView, error::Upstream, verity::Convert, view::refs_dir};
use crate::{
    error::Below,
    name::{Algorithm, DiffId, ObjectId},
    squash::tree::FileContent,
    sys::{self, failpoint::failpoint},
};

/// `bndlayr1`, little endian: the content type of a layer stream.
pub(super) const LAYER: u64 = u64::from_le_bytes(*b"bndlayr1");
const TAR_SPLIT: &str = "tar-split-v1";
const EXPANDED: &str = "expanded-";
/// How many literal bytes are kept in memory before they become an object.
const LITERAL: usize = 1 << 20;

/// A layer that is in the repository.
#[derive(Debug, Clone)]
pub struct StoredLayer {
    /// Digest of its uncompressed tar.
    pub diff_id: DiffId,
    /// The layer stream's object.
    pub stream: ObjectId,
    /// Length of the uncompressed tar in bytes.
    pub diff_size: u64,
    /// The gzipped tar-split.
    pub tar_split: FileContent,
}

/// A stream that is written, but neither durable nor found by its name.
#[must_use = "a staged stream is garbage until Repo::register()"]
#[derive(Debug)]
pub struct StagedStream {
    name: String,
    id: ObjectId,
    /// The name of the ref that keeps it until a pin does.
    partial: Option<String>,
}

impl StagedStream {
    /// The stream's object.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    pub(super) fn kept_as(self, partial: String) -> Self {
        let partial = Some(partial);
        Self { partial, ..self }
    }
}

/// Writes a layer stream.
pub struct LayerWriter<'r> {
    repo: &'r Repo,
    literal: Vec<u8>,
    writer: AnyWriter,
}

enum AnyWriter {
    Sha256(Box<SplitStreamWriter<Sha256HashValue>>),
    Sha512(Box<SplitStreamWriter<Sha512HashValue>>),
}

/// Runs the same code for either algorithm's writer.
macro_rules! on_writer {
    ($any:expr, $writer:ident => $code:expr) => {
        match $any {
            AnyWriter::Sha256($writer) => $code,
            AnyWriter::Sha512($writer) => $code,
        }
    };
}

impl std::fmt::Debug for LayerWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerWriter").finish_non_exhaustive()
    }
}

fn write_error(what: &str) -> impl FnOnce(anyhow::Error) -> RepoError + '_ {
    move |error| RepoError::Write {
        what: what.to_owned(),
        source: error.into(),
    }
}

impl Repo {
    fn stream_writer(&self, content_type: u64) -> Result<AnyWriter, RepoError> {
        Ok(match &self.inner {
            Inner::Sha256(repo) => AnyWriter::Sha256(Box::new(
                repo.create_stream(content_type)
                    .map_err(write_error("a stream"))?,
            )),
            Inner::Sha512(repo) => AnyWriter::Sha512(Box::new(
                repo.create_stream(content_type)
                    .map_err(write_error("a stream"))?,
            )),
        })
    }

    /// Begins a layer stream.
    ///
    /// # Errors
    /// The repository is not writable.
    pub fn layer_writer(&self) -> Result<LayerWriter<'_>, RepoError> {
        Ok(LayerWriter {
            repo: self,
            literal: Vec::new(),
            writer: self.stream_writer(LAYER)?,
        })
    }

    /// Writes a stream of inline bytes with references.
    pub(super) fn stage_record(
        &self,
        content_type: u64,
        name: &str,
        content: &[u8],
        streams: &[(String, ObjectId)],
        objects: &[ObjectId],
    ) -> Result<StagedStream, RepoError> {
        let mut any = self.stream_writer(content_type)?;
        on_writer!(&mut any, writer => {
            writer.write_inline(content);
            for (name, id) in streams {
                writer.add_named_stream_ref(name, &Convert::from_id(id)?);
            }
            for id in objects {
                writer.add_object_ref(&Convert::from_id(id)?);
            }
        });
        self.stage(any, name)
    }

    fn stage(&self, any: AnyWriter, name: &str) -> Result<StagedStream, RepoError> {
        self.discard_damaged(name)?;
        Ok(StagedStream {
            name: name.to_owned(),
            id: finish(any, name)?,
            partial: None,
        })
    }

    /// Removes what is left of a stream that is about to be written again. The
    /// crate takes an object for good by its name alone.
    fn discard_damaged(&self, name: &str) -> Result<(), RepoError> {
        let Ok(Some(id)) = self.view().stream(name) else {
            return Ok(());
        };
        let distrusted = self.distrusted().remove(&id);
        if distrusted
            || matches!(
                self.view().check_object(&id),
                Err(RepoError::BadObject { .. })
            )
        {
            let path = format!("objects/{}", id.object_path());
            sys::remove_at(self.fd(), path.as_ref()).below(self.path())?;
        }
        Ok(())
    }

    /// Gives streams their names, once they and all before them are durable:
    /// from here on they are found, and kept from garbage collection by partial
    /// refs. Who staged them has hashed what they stand for, and vouches for it.
    ///
    /// However many, they cost one `syncfs`.
    ///
    /// # Errors
    /// Whatever writing says.
    pub fn register(&self, staged: &[StagedStream]) -> Result<(), RepoError> {
        if staged.is_empty() {
            return Ok(());
        }
        self.sync()?;
        self.name_streams(staged)
    }

    /// As [`Repo::register`], while `meanwhile` works with what the streams stand
    /// for, which it finds by their objects. What it writes leaves them room.
    ///
    /// # Errors
    /// As those of [`Repo::register`]: what came of `meanwhile` is lost then.
    pub fn registering<R>(
        &self,
        staged: &[StagedStream],
        meanwhile: impl FnOnce() -> R,
    ) -> Result<R, RepoError> {
        if staged.is_empty() {
            return Ok(meanwhile());
        }
        let Ok(room) = self.reserve(staged.len()) else {
            self.register(staged)?;
            return Ok(meanwhile());
        };
        thread::scope(|scope| {
            let registering = scope.spawn(|| {
                self.sync()?;
                drop(room);
                self.name_streams(staged)
            });
            let done = meanwhile();
            let registered = registering.join();
            registered.unwrap_or_else(|panic| resume_unwind(panic))?;
            Ok(done)
        })
    }

    fn name_streams(&self, staged: &[StagedStream]) -> Result<(), RepoError> {
        sys::create_dir_all_at(self.fd(), "streams").below(self.path())?;
        for stream in staged {
            let target = format!("../objects/{}", stream.id.object_path());
            let path = format!("streams/{}", stream.name);
            sys::symlink_at(&target, self.fd(), path.as_ref()).below(self.path())?;
        }
        sys::fsync_dir(self.fd(), "streams".as_ref()).below(self.path())?;
        let partial = |stream: &StagedStream| {
            let partial = stream.partial.as_ref()?;
            Some((format!("partial/{partial}"), stream.name.clone()))
        };
        self.set_references(&staged.iter().filter_map(partial).collect::<Vec<_>>())
    }

    /// Lets refs of one folder below `streams/refs/boundstore` name streams,
    /// durably. The streams must be durable themselves.
    pub(super) fn set_references(&self, named: &[(String, String)]) -> Result<(), RepoError> {
        let mut folder = None;
        for (name, stream) in named {
            let path = refs_dir().join(name);
            let parent = path.parent().unwrap_or(&path);
            if folder.as_deref() != Some(parent) {
                sys::create_dir_all_at(self.fd(), parent).below(self.path())?;
                folder = Some(parent.to_owned());
            }
            let up = "../".repeat(parent.components().count() - 1);
            sys::symlink_at(&format!("{up}{stream}"), self.fd(), &path).below(self.path())?;
        }
        match folder {
            Some(folder) => Ok(sys::fsync_dir(self.fd(), &folder).below(self.path())?),
            None => Ok(()),
        }
    }

    pub(super) fn set_reference(&self, name: &str, stream: &str) -> Result<(), RepoError> {
        self.set_references(&[(name.to_owned(), stream.to_owned())])
    }

    /// Removes a ref, durably; says whether there was one.
    pub(super) fn remove_reference(&self, name: &str) -> Result<bool, RepoError> {
        Ok(self.remove_references([name.to_owned()])? > 0)
    }

    /// Removes refs of one folder, durably; says how many there were.
    pub(super) fn remove_references(
        &self,
        names: impl IntoIterator<Item = String>,
    ) -> Result<usize, RepoError> {
        let mut removed = 0;
        let mut folder = None;
        for name in names {
            let path = refs_dir().join(name);
            if sys::remove_at(self.fd(), &path).below(self.path())? {
                removed += 1;
                folder = path.parent().map(Path::to_owned);
            }
        }
        if let Some(folder) = folder {
            sys::fsync_dir(self.fd(), &folder).below(self.path())?;
        }
        Ok(removed)
    }
}

fn finish(any: AnyWriter, name: &str) -> Result<ObjectId, RepoError> {
    failpoint!("write stream").map_err(|error| write_error(name)(error.into()))?;
    on_writer!(any, writer => Ok(writer.done().map_err(write_error(name))?.object_id()))
}

impl LayerWriter<'_> {
    /// Adds the tar's next bytes, literally.
    ///
    /// # Errors
    /// Whatever writing says.
    pub fn literal(&mut self, bytes: &[u8]) -> Result<(), RepoError> {
        self.literal.extend_from_slice(bytes);
        if self.literal.len() >= LITERAL {
            let bytes = std::mem::take(&mut self.literal);
            let id = self.repo.ensure_object(&bytes)?.into_inner();
            self.reference(&id, bytes.len() as u64)?;
        }
        Ok(())
    }

    /// Adds the tar's next bytes, which are an object's.
    ///
    /// # Errors
    /// Whatever writing says.
    pub fn object(&mut self, id: &ObjectId, size: u64) -> Result<(), RepoError> {
        self.flush();
        self.reference(id, size)
    }

    fn flush(&mut self) {
        let literal = std::mem::take(&mut self.literal);
        on_writer!(&mut self.writer, writer => writer.write_inline(&literal));
    }

    fn reference(&mut self, id: &ObjectId, size: u64) -> Result<(), RepoError> {
        on_writer!(&mut self.writer, writer => {
            writer.add_external_size(size);
            writer.write_reference(Convert::from_id(id)?).map_err(write_error("a reference"))
        })
    }

    /// Notes the expanded content of the `entry`-th entry of the tar, a sparse file.
    ///
    /// # Errors
    /// An object of another algorithm.
    pub fn expanded(&mut self, entry: u64, id: &ObjectId) -> Result<(), RepoError> {
        let name = format!("{EXPANDED}{entry}");
        on_writer!(&mut self.writer, writer => {
            writer.add_named_stream_ref(&name, &Convert::from_id(id)?);
        });
        Ok(())
    }

    /// Writes the stream. The caller has hashed the tar and vouches for `diff_id`.
    ///
    /// # Errors
    /// Whatever writing says.
    pub fn finish(
        mut self,
        diff_id: &DiffId,
        diff_size: u64,
        tar_split: FileContent,
    ) -> Result<(StoredLayer, StagedStream), RepoError> {
        self.flush();
        let name = layer_name(diff_id);
        let FileContent::Object { id: split, .. } = &tar_split else {
            return Err(RepoError::BadStream {
                name,
                source: "tar-split is no object".into(),
            });
        };
        on_writer!(&mut self.writer, writer => writer.add_named_stream_ref(TAR_SPLIT, &Convert::from_id(split)?));
        let staged = self.repo.stage(self.writer, &name)?.kept_as(diff_id.hex());
        let stored = StoredLayer {
            diff_id: *diff_id,
            stream: staged.id,
            diff_size,
            tar_split,
        };
        Ok((stored, staged))
    }
}

/// The stream of a layer.
pub(super) fn layer_name(diff_id: &DiffId) -> String {
    format!("boundstore-layer-v1-{diff_id}")
}

/// What a layer stream is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    /// Bytes of the tar.
    Literal(Box<[u8]>),
    /// An object whose bytes stand here in the tar.
    Object(ObjectId),
}

/// The chunks of a layer stream, in order, read by a thread of their own.
#[derive(Debug)]
pub struct LayerChunks {
    receiver: mpsc::Receiver<Result<Vec<Chunk>, RepoError>>,
    at_hand: std::vec::IntoIter<Chunk>,
    expanded: std::collections::HashMap<u64, ObjectId>,
}

impl Iterator for LayerChunks {
    type Item = Result<Chunk, RepoError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(chunk) = self.at_hand.next() {
                return Some(Ok(chunk));
            }
            match self.receiver.recv().ok()? {
                Ok(chunks) => self.at_hand = chunks.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl LayerChunks {
    /// The expanded content of the `entry`-th entry, where that is sparse.
    pub fn expanded(&self, entry: u64) -> Option<ObjectId> {
        self.expanded.get(&entry).copied()
    }
}

impl RepoView {
    /// A stream's object, opened and its name checked where that costs little.
    pub(super) fn open_stream(&self, name: &str) -> Result<Option<(ObjectId, File)>, RepoError> {
        let Some(id) = self.stream(name)? else {
            return Ok(None);
        };
        Ok(Some((id, self.open_object(&id)?)))
    }

    /// Finds a layer by its DiffID; a damaged one counts as absent, since
    /// importing it again mends it.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub fn layer(&self, diff_id: &DiffId) -> Result<Option<StoredLayer>, RepoError> {
        let name = layer_name(diff_id);
        let (stream, file) = match self.open_stream(&name) {
            Ok(Some(found)) => found,
            Ok(None) | Err(RepoError::MissingObject(_) | RepoError::BadObject { .. }) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let Ok(parts) = self.parts(file, Some(LAYER)) else {
            return Ok(None);
        };
        let Some(split) = parts.named(TAR_SPLIT) else {
            return Ok(None);
        };
        for id in parts.all() {
            match self.open_object(id) {
                Ok(_) => {}
                Err(RepoError::MissingObject(_) | RepoError::BadObject { .. }) => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        let Ok(file) = self.open_object(&split) else {
            return Ok(None);
        };
        let Ok(metadata) = file.metadata() else {
            return Ok(None);
        };
        let tar_split = FileContent::Object {
            id: split,
            size: metadata.len(),
        };
        Ok(Some(StoredLayer {
            diff_id: *diff_id,
            stream,
            diff_size: parts.size,
            tar_split,
        }))
    }

    /// The object of a layer's stream.
    ///
    /// # Errors
    /// As those of [`RepoView::stream`].
    pub fn layer_stream(&self, diff_id: &DiffId) -> Result<Option<ObjectId>, RepoError> {
        self.stream(&layer_name(diff_id))
    }

    /// What the stream of a layer refers to.
    ///
    /// # Errors
    /// [`RepoError::MissingStream`], [`RepoError::BadStream`], and what opening
    /// an object says.
    pub fn layer_parts(&self, diff_id: &DiffId) -> Result<StreamParts, RepoError> {
        self.stream_parts(&layer_name(diff_id), LAYER)
    }

    pub(super) fn stream_parts(
        &self,
        name: &str,
        content_type: u64,
    ) -> Result<StreamParts, RepoError> {
        let (_, file) = self
            .open_stream(name)?
            .ok_or_else(|| RepoError::MissingStream(name.to_owned()))?;
        self.parts(file, Some(content_type))
            .map_err(|source| RepoError::BadStream {
                name: name.to_owned(),
                source,
            })
    }

    pub(super) fn parts(
        &self,
        file: File,
        content_type: Option<u64>,
    ) -> Result<StreamParts, Upstream> {
        match self.algorithm() {
            Algorithm::Sha256 => parts::<Sha256HashValue>(file, content_type),
            Algorithm::Sha512 => parts::<Sha512HashValue>(file, content_type),
        }
    }

    /// Reads a layer's tar, split, from its stream, which need not have a name yet.
    ///
    /// # Errors
    /// [`RepoError::BadStream`], and what opening an object says.
    pub fn layer_chunks(
        &self,
        diff_id: &DiffId,
        stream: &ObjectId,
    ) -> Result<LayerChunks, RepoError> {
        let name = layer_name(diff_id);
        let file = self.open_object(stream)?;
        match self.algorithm() {
            Algorithm::Sha256 => chunks::<Sha256HashValue>(file, name),
            Algorithm::Sha512 => chunks::<Sha512HashValue>(file, name),
        }
    }

    /// Reads a record's inline bytes and its references.
    pub(super) fn read_record(
        &self,
        content_type: u64,
        name: &str,
    ) -> Result<Option<Vec<u8>>, RepoError> {
        let Some((_, file)) = self.open_stream(name)? else {
            return Ok(None);
        };
        let content = match self.algorithm() {
            Algorithm::Sha256 => inline_content::<Sha256HashValue>(file, content_type),
            Algorithm::Sha512 => inline_content::<Sha512HashValue>(file, content_type),
        };
        let bad = |source| RepoError::BadStream {
            name: name.to_owned(),
            source,
        };
        content.map(Some).map_err(bad)
    }
}

/// What a stream refers to: all that keeps it whole.
#[derive(Debug, Clone)]
pub struct StreamParts {
    /// Length of what it stands for in bytes.
    pub size: u64,
    /// Objects by name: other streams, and what belongs to this one.
    pub named: Vec<(String, ObjectId)>,
    /// The other objects.
    pub objects: Vec<ObjectId>,
}

impl StreamParts {
    fn named(&self, name: &str) -> Option<ObjectId> {
        let found = self.named.iter().find(|(found, _)| found == name);
        found.map(|(_, id)| *id)
    }

    /// All objects, named or not.
    pub fn all(&self) -> impl Iterator<Item = &ObjectId> {
        self.named.iter().map(|(_, id)| id).chain(&self.objects)
    }
}

fn parts<H: Convert>(file: File, content_type: Option<u64>) -> Result<StreamParts, Upstream> {
    let mut reader = SplitStreamReader::<H>::new(file, content_type)?;
    let named = reader.iter_named_refs();
    let named = named.map(|(name, id)| (name.to_owned(), id.object_id()));
    let named = named.collect();
    let mut objects = Vec::new();
    reader.get_object_refs(|id| objects.push(id.object_id()))?;
    Ok(StreamParts {
        size: reader.total_size,
        named,
        objects,
    })
}

fn inline_content<H: FsVerityHashValue>(
    file: File,
    content_type: u64,
) -> Result<Vec<u8>, Upstream> {
    /// Records hold manifests and configs, whose size is bounded, of a set.
    const MAX: u64 = 64 << 20;
    let mut reader = SplitStreamReader::<H>::new(file, Some(content_type))?;
    if reader.total_size > MAX {
        return Err(format!("it says to be {} bytes long", reader.total_size).into());
    }
    let mut content = Vec::new();
    reader.for_each_chunk(|chunk| {
        if let SplitStreamData::Inline(bytes) = chunk {
            content.extend_from_slice(&bytes);
        }
        Ok(())
    })?;
    Ok(content)
}

fn chunks<H: Convert>(file: File, name: String) -> Result<LayerChunks, RepoError> {
    let bad = |name: &str, source: Upstream| RepoError::BadStream {
        name: name.to_owned(),
        source,
    };
    let mut reader =
        SplitStreamReader::<H>::new(file, Some(LAYER)).map_err(|error| bad(&name, error.into()))?;
    let expanded = reader
        .iter_named_refs()
        .filter_map(|(name, id)| Some((name.strip_prefix(EXPANDED)?.parse().ok()?, id.object_id())))
        .collect();
    let (sender, receiver) = mpsc::sync_channel(4);
    thread::spawn(move || {
        // One by one they would cost more than what is done with them.
        const AT_ONCE_BYTES: usize = 64 << 10;
        const AT_ONCE: usize = 256;
        let (mut chunks, mut bytes) = (Vec::new(), 0);
        let read = reader.for_each_chunk(|chunk| {
            chunks.push(match chunk {
                SplitStreamData::Inline(literal) => {
                    bytes += literal.len();
                    Chunk::Literal(literal)
                }
                SplitStreamData::External(id) => Chunk::Object(id.object_id()),
            });
            if bytes < AT_ONCE_BYTES && chunks.len() < AT_ONCE {
                return Ok(());
            }
            bytes = 0;
            // The reader has gone: so can we.
            let sent = sender.send(Ok(std::mem::take(&mut chunks)));
            sent.map_err(|_| anyhow::anyhow!("nobody reads"))
        });
        let _nobody_reads = sender.send(Ok(chunks));
        if let Err(error) = read {
            let _nobody_reads = sender.send(Err(bad(&name, error.into())));
        }
    });
    Ok(LayerChunks {
        receiver,
        at_hand: Vec::new().into_iter(),
        expanded,
    })
}
