//! Locks between processes.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, fcntl_lock, flock},
    io::Errno,
};

use super::open_dir;
use crate::error::{Doing, PathError};

/// A flock(2) on a folder, held until dropped, and the folder itself: what is
/// done relative to it happens in the one that is locked, whatever its path
/// leads to by then.
#[derive(Debug)]
pub struct DirLock(OwnedFd);

impl AsFd for DirLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl DirLock {
    /// Takes the lock for this process alone, waiting no longer than `limit`;
    /// nothing if somebody else holds it for longer.
    ///
    /// # Errors
    /// The system's.
    pub fn exclusive(path: &Path, limit: Duration) -> Result<Option<Self>, PathError> {
        Self::within(path, FlockOperation::NonBlockingLockExclusive, limit)
    }

    /// Takes a shared lock, waiting no longer than `limit`; nothing if somebody
    /// holds it exclusively for longer.
    ///
    /// # Errors
    /// The system's.
    pub fn shared(path: &Path, limit: Duration) -> Result<Option<Self>, PathError> {
        Self::within(path, FlockOperation::NonBlockingLockShared, limit)
    }

    fn within(
        path: &Path,
        lock: FlockOperation,
        limit: Duration,
    ) -> Result<Option<Self>, PathError> {
        let dir = open_dir(path)?;
        let locked = flock_within(&dir, lock, limit).doing("lock", path)?;
        Ok(locked.then_some(Self(dir)))
    }
}

/// Makes the shared flock(2) of `fd` an exclusive one, waiting no longer than
/// `limit`; says whether it is. Where not, the shared one is lost, too.
///
/// # Errors
/// The system's.
pub fn lock_exclusive(fd: impl AsFd, limit: Duration) -> io::Result<bool> {
    flock_within(fd, FlockOperation::NonBlockingLockExclusive, limit)
}

/// Tries until `limit`: a lock that others wait for without limit, as the
/// composefs crate does, would keep all newcomers out meanwhile.
fn flock_within(fd: impl AsFd, lock: FlockOperation, limit: Duration) -> io::Result<bool> {
    let begun = Instant::now();
    while !try_flock(&fd, lock)? {
        if begun.elapsed() >= limit {
            return Ok(false);
        }
        sleep(Duration::from_millis(50));
    }
    Ok(true)
}

fn try_flock(fd: impl AsFd, lock: FlockOperation) -> io::Result<bool> {
    loop {
        match flock(&fd, lock) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A shared fcntl(2) record lock on a whole file, as containers-storage takes
/// it to read; held until dropped.
///
/// Such locks belong to the process: another of this process on the same file
/// ends with the first that is dropped, which for a reader is a risk it takes.
#[derive(Debug)]
pub struct ReadLock(#[expect(dead_code, reason = "open means locked")] File);

impl ReadLock {
    /// Locks `file`, waiting no longer than `limit`; nothing if a writer keeps it.
    ///
    /// # Errors
    /// The system's.
    pub fn shared(file: File, limit: Duration) -> io::Result<Option<Self>> {
        let begun = Instant::now();
        loop {
            match fcntl_lock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => return Ok(Some(Self(file))),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::ACCESS) if begun.elapsed() < limit => {
                    sleep(Duration::from_millis(20));
                }
                Err(Errno::AGAIN | Errno::ACCESS) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
