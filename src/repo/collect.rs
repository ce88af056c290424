//! Garbage collection, by the crate's own.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{Inner, Repo, RepoError, is_ours};
use crate::{
    error::{Below, Doing},
    sys::{self, failpoint::failpoint},
};

/// A repository that nobody else uses: its exclusive lock is held.
#[derive(Debug)]
pub struct Collector(Repo);

/// What a collection took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collected {
    /// How many objects.
    pub objects: u64,
    /// Their sizes in bytes.
    pub bytes: u64,
}

impl Collector {
    /// Opens the repository at `path` for this process alone.
    ///
    /// The lock is tried, never waited for: the crate, and so bootc, waits for
    /// it without limit, and would wait behind us.
    ///
    /// # Errors
    /// As [`Repo::open`]; [`RepoError::InUse`] where others hold the shared lock
    /// for longer than `limit`.
    pub fn open(path: &Path, limit: Duration) -> Result<Self, RepoError> {
        let begun = Instant::now();
        let repo = Repo::open(path, limit)?;
        let fd = match &repo.inner {
            Inner::Sha256(inner) => inner.repo_fd(),
            Inner::Sha512(inner) => inner.repo_fd(),
        };
        let rest = limit.saturating_sub(begun.elapsed());
        if sys::lock_exclusive(fd, rest).doing("lock", path)? {
            return Ok(Self(repo));
        }
        Err(RepoError::InUse {
            path: path.to_owned(),
            waited_secs: limit.as_secs(),
        })
    }

    /// The repository.
    pub fn repo(&self) -> &Repo {
        &self.0
    }

    /// Removes every object that no ref reaches. What is others' stays, with a
    /// ref or without: bootc keeps images that only its boot entries name.
    ///
    /// The handle goes, as the lock of one whose collection fails stays.
    ///
    /// # Errors
    /// A stream, an image or a ref cannot be understood, ours or others': then
    /// nothing was taken. Or an object could not be removed.
    pub fn collect(self) -> Result<Collected, RepoError> {
        let view = self.0.view();
        let streams = view.stream_names()?;
        let images = view.image_names()?;
        let others = streams.iter().filter(|name| !is_ours(name)).chain(&images);
        let others: Vec<&str> = others.map(String::as_str).collect();
        failpoint!("collect").doing("collect objects of", self.0.path())?;
        let collected = match &self.0.inner {
            Inner::Sha256(inner) => inner.gc(&others),
            Inner::Sha512(inner) => inner.gc(&others),
        };
        let result = collected.map_err(|error| RepoError::Collect {
            path: self.0.path().to_owned(),
            source: error.into(),
        })?;
        Ok(Collected {
            objects: result.objects_removed,
            bytes: result.objects_bytes,
        })
    }
}

impl Repo {
    /// Removes streams of ours that no ref reaches any more, durably; their
    /// objects stay until a collection.
    ///
    /// # Errors
    /// Whatever removing them says.
    pub fn forget_streams<'n>(
        &self,
        streams: impl IntoIterator<Item = &'n String>,
    ) -> Result<(), RepoError> {
        let folder = Path::new("streams");
        let mut any = false;
        for name in streams.into_iter().filter(|name| is_ours(name)) {
            any |= sys::remove_at(self.fd(), &folder.join(name)).below(self.path())?;
        }
        if any {
            sys::fsync_dir(self.fd(), folder).below(self.path())?;
        }
        Ok(())
    }
}
