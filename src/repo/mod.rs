//! The seam: a composefs repository, as boundstore uses it. The only folder
//! that names `composefs`.
//!
//! ```text
//! objects/xx/yyyy..                          file contents, streams, set images
//! streams/boundstore-layer-v1-sha256:..      one layer: its tar, split      (stream.rs)
//! streams/boundstore-image-v1-sha256:..      manifest, config, layers       (record.rs)
//! streams/boundstore-set-v1-<set image>      the pin: all objects of a set  (record.rs)
//! streams/refs/boundstore/partial/..         what an unfinished sync keeps
//! streams/refs/boundstore/deployments/<id>   THE ref: its deployment's set
//! streams/refs/boundstore/mounted/..         a set mounted since a boot (reference.rs)
//! ```
//! Two handles: [`RepoView`] reads without any lock, so that it never waits
//! behind somebody's gc; [`Repo`] holds the shared lock and writes. A third,
//! [`Collector`], holds the exclusive lock, for a gc of ours.

mod collect;
mod erofs;
mod error;
mod merkle;
mod object;
mod reach;
mod record;
mod reference;
mod stream;
mod verity;
mod view;

use std::{
    collections::BTreeSet,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use composefs::{
    fsverity::{Algorithm as Alg, EnableVerityError, Sha256HashValue, Sha512HashValue},
    repository::{Repository, RepositoryConfig},
};

pub use self::{
    collect::{Collected, Collector},
    erofs::{IsRootfs, format_of, read_back, render},
    error::RepoError,
    object::{Ensured, ObjectWriter},
    reach::{Reach, Streams, is_ours},
    record::{DeploymentId, DeploymentIdError, ImageStream, SetImageRecord, SetRecord},
    reference::{BootId, BootIdError, Purpose, Reference},
    stream::{Chunk, LayerChunks, LayerWriter, StagedStream, StoredLayer, StreamParts},
    verity::{Verity, fs_verity_digest},
    view::RepoView,
};
use crate::{
    error::{Below, Doing, PathError},
    name::{Algorithm, ObjectId},
    sys::{self, DirLock, failpoint::failpoint},
};

/// A composefs repository, open for writing under its shared lock.
///
/// The lock is what protects objects that no ref covers yet from a concurrent
/// gc: hold it from the first object until the ref, never across the network.
#[derive(Debug)]
pub struct Repo {
    inner: Inner,
    view: RepoView,
    distrusted: Mutex<BTreeSet<ObjectId>>,
    /// Bytes of new objects since it was last time to write back.
    unwritten: AtomicU64,
    /// What a write-back has said.
    not_written: Mutex<Option<PathError>>,
}

#[derive(Debug)]
enum Inner {
    Sha256(Arc<Repository<Sha256HashValue>>),
    Sha512(Arc<Repository<Sha512HashValue>>),
}

/// Room on the repository's filesystem, taken by a file without a name.
#[derive(Debug)]
pub struct ReservedRoom {
    _file: std::fs::File,
}

/// How a repository is to be created where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewRepo {
    /// bootc's is [`Algorithm::Sha512`].
    pub algorithm: Algorithm,
    /// Without fs-verity: for filesystems that have none.
    pub insecure: bool,
}

impl Repo {
    /// How long a gc is waited for where nobody says.
    pub const LOCK_LIMIT: Duration = Duration::from_secs(60);

    /// Opens the repository at `path` and takes its shared lock.
    ///
    /// # Errors
    /// [`RepoError::Busy`] where a gc holds the lock for longer than `limit`;
    /// [`RepoError::Absent`] where there is none; a foreign or newer format is
    /// refused, never upgraded.
    pub fn open(path: &Path, limit: Duration) -> Result<Self, RepoError> {
        let view = RepoView::open(path)?;
        let lock = bounded_lock(path, limit)?;
        let opened = |error| RepoError::Open {
            path: path.to_owned(),
            source: error,
        };
        let cwd = rustix_cwd();
        let inner = match view.algorithm() {
            Algorithm::Sha256 => Inner::Sha256(Arc::new(
                Repository::open_path(&cwd, path).map_err(|error| opened(error.into()))?,
            )),
            Algorithm::Sha512 => Inner::Sha512(Arc::new(
                Repository::open_path(&cwd, path).map_err(|error| opened(error.into()))?,
            )),
        };
        // The crate waits for its lock without limit: ours, shared too, has
        // made sure that it need not, and can go now.
        drop(lock);
        Ok(Self {
            inner,
            view,
            distrusted: Mutex::default(),
            unwritten: AtomicU64::new(0),
            not_written: Mutex::default(),
        })
    }

    /// Creates a repository at `path`, mode 0700, in bootc's configuration.
    ///
    /// # Errors
    /// [`RepoError::NoTmpfile`] where the filesystem is of no use at all;
    /// [`RepoError::NoVerity`] where the filesystem has no fs-verity and
    /// `insecure` is not asked for; [`RepoError::Busy`] where somebody has made it
    /// meanwhile and a gc holds its lock for longer than `limit`;
    /// [`RepoError::Create`].
    pub fn create(path: &Path, new: NewRepo, limit: Duration) -> Result<(), RepoError> {
        let config = |algorithm| {
            let config = RepositoryConfig::new(algorithm);
            if new.insecure {
                config.set_insecure()
            } else {
                config
            }
        };
        let cwd = rustix_cwd();
        if let Some(parent) = path.parent().filter(|parent| *parent != Path::new("")) {
            sys::create_dir_all_at(&cwd, parent)?;
        }
        check_tmpfile(path)?;
        failpoint!("create repository").doing("create", path)?;
        // As in `open`: the crate opens what it has made.
        sys::create_private_dir(path)?;
        let _lock = bounded_lock(path, limit)?;
        let created = match new.algorithm {
            Algorithm::Sha256 => Repository::<Sha256HashValue>::init_path(
                &cwd,
                path,
                config(Alg::Sha256 { lg_blocksize: 12 }),
            )
            .map(drop),
            Algorithm::Sha512 => Repository::<Sha512HashValue>::init_path(
                &cwd,
                path,
                config(Alg::Sha512 { lg_blocksize: 12 }),
            )
            .map(drop),
        };
        created.map_err(|error| {
            // A directory that holds nothing is no loss.
            let _not_empty = std::fs::remove_dir(path);
            let no_verity = error.chain().any(|cause| cause.is::<EnableVerityError>());
            let (path, source) = (path.to_owned(), error.into());
            if no_verity {
                RepoError::NoVerity { path, source }
            } else {
                RepoError::Create { path, source }
            }
        })
    }

    /// The same repository, read without the lock.
    pub fn view(&self) -> &RepoView {
        &self.view
    }

    /// Takes these objects for damaged, whatever name, owner, size and the
    /// kernel's digest say, until they have been written again: a changed byte
    /// shows in none of those.
    pub fn distrust(&self, ids: impl IntoIterator<Item = ObjectId>) {
        self.distrusted().extend(ids);
    }

    fn distrusted(&self) -> MutexGuard<'_, BTreeSet<ObjectId>> {
        let lock = self.distrusted.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes all that was written durable.
    ///
    /// # Errors
    /// Whatever `syncfs(2)` says.
    pub fn sync(&self) -> Result<(), RepoError> {
        let synced = sys::sync_filesystem(self.fd(), self.path());
        match self.not_written().take() {
            Some(error) => Err(error.into()),
            None => Ok(synced?),
        }
    }

    /// Whether it is time to write back: once for so many bytes of new objects.
    pub fn is_time_to_write_back(&self) -> bool {
        /// More at a time is waited for at the end, less makes the disk seek.
        const MUCH: u64 = 64 << 20;
        let begun_anew = |bytes| (bytes >= MUCH).then_some(0);
        let update = self
            .unwritten
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, begun_anew);
        update.is_ok()
    }

    /// Writes back what was written so far: [`Repo::sync`] then has less to wait
    /// for, and says what went wrong. A filesystem may tell of that only once.
    pub fn write_back(&self) {
        if let Err(error) = sys::sync_filesystem(self.fd(), self.path()) {
            self.not_written().get_or_insert(error);
        }
    }

    fn not_written(&self) -> MutexGuard<'_, Option<PathError>> {
        let lock = self.not_written.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes room for the names of so many streams until it is dropped: so what
    /// has come whole can be registered, even where the rest has filled the disk.
    ///
    /// # Errors
    /// The filesystem is full already.
    pub fn reserve(&self, streams: usize) -> Result<ReservedRoom, RepoError> {
        /// A link and a ref, each a block, and as much for folders and a record.
        const EACH: u64 = 16 << 10;
        let bytes = EACH * (1 + streams as u64);
        sys::create_dir_all_at(self.fd(), "objects").below(self.path())?;
        let file = sys::reserve(self.fd(), "objects".as_ref(), bytes).below(self.path())?;
        Ok(ReservedRoom { _file: file })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.view.fd()
    }

    fn path(&self) -> &Path {
        self.view.path()
    }
}

/// Where there are no unnamed files, the crate writes its `meta.json` first and
/// takes it, unsealed, for somebody's when sealing fails: an insecure repository
/// that nobody asked for.
fn check_tmpfile(path: &Path) -> Result<(), RepoError> {
    const EOPNOTSUPP: i32 = 95;
    let folder = match path.is_dir() {
        true => path,
        false => sys::parent_of(path),
    };
    match sys::open_tmpfile(rustix_cwd(), folder) {
        Err(source) if source.source.raw_os_error() == Some(EOPNOTSUPP) => {
            let path = path.to_owned();
            Err(RepoError::NoTmpfile { path, source })
        }
        // What else may be wrong, creating it will say.
        _ => Ok(()),
    }
}

fn bounded_lock(path: &Path, limit: Duration) -> Result<DirLock, RepoError> {
    DirLock::shared(path, limit)?.ok_or_else(|| RepoError::Busy {
        path: path.to_owned(),
        waited_secs: limit.as_secs(),
    })
}

/// The crate opens relative to a directory handle; ours is that of `/` or `.`.
fn rustix_cwd() -> impl AsFd {
    sys::current_dir()
}

/// The path of a repository of its own below a sysroot.
pub fn default_path(sysroot: &Path) -> PathBuf {
    sysroot.join("composefs")
}
