//! Locks between processes.

use std::{fs::File, io, os::fd::AsFd, path::Path};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::error::{Doing, PathError};

/// An exclusive flock(2) on a folder, held until dropped.
#[derive(Debug)]
pub struct DirLock(#[expect(dead_code, reason = "open means locked")] File);

impl DirLock {
    /// Takes the lock without waiting; nothing if somebody else holds it.
    ///
    /// # Errors
    /// The system's.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>, PathError> {
        let dir = File::open(path).doing("open folder", path)?;
        let taken = try_flock(&dir).doing("lock", path)?;
        Ok(taken.then_some(Self(dir)))
    }
}

fn try_flock(fd: impl AsFd) -> io::Result<bool> {
    loop {
        match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
