//! Blobs on their way from a registry: files named by their digest.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{ErrorKind, Read},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::SourceError;
use crate::{
    error::{Below, Doing, PathError},
    name::{BlobDigest, Hasher},
    sys::{
        self, DirLock,
        failpoint::{failpoint, write_all},
        open_regular,
    },
};

/// A folder of blobs that were fetched and not yet published.
///
/// `sha256-<hex>` was whole and hashed when it got its name, and is hashed again
/// before a later fetch does without it: nothing here need outlive a power cut.
/// `sha256-<hex>.part` is what an interrupted fetch left, and is begun anew: skopeo's proxy cannot send a part
/// of a blob, so a download resumes blob by blob and not inside one. Who has
/// published an image removes its blobs.
///
/// The folder is held open: one that takes its place under its path is not
/// looked into.
#[derive(Debug)]
pub struct Spool {
    folder: DirLock,
    path: PathBuf,
    /// What has been hashed since it was opened.
    hashed: Mutex<HashSet<BlobDigest>>,
}

/// Makes the folder of a spool, mode 0700, if it is not there.
///
/// # Errors
/// The system's.
pub fn create_spool_dir(dir: &Path) -> Result<(), PathError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .doing("create folder", dir)
}

/// A link, where none is followed.
const ELOOP: i32 = 40;

/// A lock that was just dropped lives on in children that were forked before
/// and have not come to their exec yet.
const LOCK_LIMIT: Duration = Duration::from_secs(1);

impl Spool {
    /// Opens the spool at `dir`, made with mode 0700 if it is not there, and
    /// keeps it locked against other processes until dropped.
    ///
    /// # Errors
    /// [`SourceError::Locked`] if another process has it, or the system's.
    pub fn open(dir: &Path) -> Result<Self, SourceError> {
        create_spool_dir(dir)?;
        let folder = DirLock::exclusive(dir, LOCK_LIMIT)?.ok_or_else(|| SourceError::Locked {
            path: dir.to_owned(),
        })?;
        Ok(Self {
            folder,
            path: dir.to_owned(),
            hashed: Mutex::default(),
        })
    }

    /// The spool at `dir`, where anything was left in it and nobody uses it.
    pub fn left_at(dir: &Path) -> Option<Self> {
        fs::read_dir(dir).ok()?.next()?.ok()?;
        Self::open(dir).ok()
    }

    /// Whether a file for the blob is there, of the right size.
    pub fn holds(&self, digest: &BlobDigest, size: u64) -> bool {
        let found = self.open_blob(digest).ok().flatten();
        found.is_some_and(|file| file.metadata().is_ok_and(|file| file.len() == size))
    }

    /// The same of the spool at `dir`, which is not opened.
    pub fn holds_at(dir: &Path, digest: &BlobDigest, size: u64) -> bool {
        open_regular(&dir.join(whole(digest))).is_ok_and(|(_, found)| found == size)
    }

    /// Opens a whole blob; nothing if there is no such file, or something else.
    ///
    /// # Errors
    /// The system's.
    pub fn open_blob(&self, digest: &BlobDigest) -> Result<Option<File>, PathError> {
        match sys::open_file_at(&self.folder, whole(digest)).below(&self.path) {
            Ok(file) => {
                let is_file = file.metadata().is_ok_and(|file| file.is_file());
                Ok(is_file.then_some(file))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if error.source.raw_os_error() == Some(ELOOP) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the blob was hashed, as it came or as it was found, since the spool
    /// was opened: no other boundstore writes here meanwhile.
    pub fn has_hashed(&self, digest: &BlobDigest) -> bool {
        self.hashed().contains(digest)
    }

    fn hashed(&self) -> MutexGuard<'_, HashSet<BlobDigest>> {
        self.hashed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes the blob, whole or in part; it need not be there.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&self, digest: &BlobDigest) -> Result<(), PathError> {
        self.hashed().remove(digest);
        self.remove_file(&whole(digest))?;
        self.remove_file(&part(digest))
    }

    /// Whether the blob is there and its bytes are still the right ones; if
    /// they are not, it is deleted.
    pub(super) fn recheck(&self, digest: &BlobDigest, size: u64) -> Result<bool, SourceError> {
        let Some(mut file) = self.open_blob(digest)? else {
            return Ok(false);
        };
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 1 << 17];
        loop {
            match file
                .read(&mut buffer)
                .doing("read", self.path.join(whole(digest)))?
            {
                0 => break,
                length => hasher.update(&buffer[..length]),
            }
        }
        let is_right = hasher.length() == size && hasher.finish() == *digest;
        if is_right {
            self.hashed().insert(*digest);
        } else {
            self.remove(digest)?;
        }
        Ok(is_right)
    }

    /// Begins to write the blob.
    pub(super) fn begin(&self, digest: &BlobDigest, size: u64) -> Result<Part<'_>, SourceError> {
        let name = part(digest);
        // Never written through: what lies there may be a link.
        self.remove_file(&name)?;
        let path = self.path.join(&name);
        failpoint!("create part").doing("create", &path)?;
        Ok(Part {
            file: sys::create_new_at(&self.folder, &name).below(&self.path)?,
            spool: self,
            path,
            digest: *digest,
            size,
            hasher: Hasher::default(),
        })
    }

    fn remove_file(&self, name: &Path) -> Result<(), PathError> {
        failpoint!("remove blob").doing("remove", self.path.join(name))?;
        sys::remove_at(&self.folder, name)
            .below(&self.path)
            .map(drop)
    }
}

fn whole(digest: &BlobDigest) -> PathBuf {
    format!("sha256-{}", digest.hex()).into()
}

fn part(digest: &BlobDigest) -> PathBuf {
    format!("sha256-{}.part", digest.hex()).into()
}

/// A blob that is being written: hashed on the way.
#[derive(Debug)]
pub(super) struct Part<'s> {
    spool: &'s Spool,
    file: File,
    path: PathBuf,
    digest: BlobDigest,
    size: u64,
    hasher: Hasher,
}

impl Part<'_> {
    /// Adds the next bytes; no more than the blob is said to have.
    pub(super) fn write(&mut self, bytes: &[u8], origin: &str) -> Result<(), SourceError> {
        if self.hasher.length() + bytes.len() as u64 > self.size {
            return Err(self.mismatch(format!("more than {} bytes", self.size), origin));
        }
        self.hasher.update(bytes);
        write_all!("write part", &mut self.file, bytes).doing("write", &self.path)?;
        Ok(())
    }

    /// Makes it a whole blob, if size and digest are right.
    pub(super) fn finish(mut self, origin: &str) -> Result<(), SourceError> {
        let hasher = std::mem::take(&mut self.hasher);
        let length = hasher.length();
        let found: BlobDigest = hasher.finish();
        if length != self.size || found != self.digest {
            return Err(self.mismatch(format!("{found} of {length} bytes"), origin));
        }
        failpoint!("rename part").doing("rename", &self.path)?;
        let (from, to) = (part(&self.digest), whole(&self.digest));
        sys::rename_at(&self.spool.folder, &from, &to).below(&self.spool.path)?;
        self.spool.hashed().insert(self.digest);
        Ok(())
    }

    fn mismatch(&self, found: String, origin: &str) -> SourceError {
        SourceError::Mismatch {
            what: format!("blob {}", self.digest),
            origin: origin.to_owned(),
            expected: format!("{} of {} bytes", self.digest, self.size),
            found,
        }
    }
}
