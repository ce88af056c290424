//! The lists of a containers-storage graph root, read under its own locks.

use std::{fs::File, io::Read, time::Duration};

use super::SourceError;
use crate::{
    error::Doing,
    sys::{ReadLock, RootDir},
};

/// The longest list that is read, in bytes.
const LIMIT_BYTES: u64 = 256 << 20;

/// Reads the lists of a graph root of the overlay driver.
///
/// Each is read under its shared lock, as containers-storage takes it, and all
/// locks are kept until this is dropped: the lists are of one instant. Taken in
/// containers-storage's order (layers, images, containers), they never make a
/// writer and this wait for each other.
#[derive(Debug)]
pub struct StoreLists<'r> {
    root: &'r RootDir,
    origin: &'r str,
    lock_limit: Duration,
    locks: Vec<ReadLock>,
}

impl<'r> StoreLists<'r> {
    /// Of the graph root `root`, called `origin` in messages. A writer's lock is
    /// waited for no longer than `lock_limit`.
    pub fn new(root: &'r RootDir, origin: &'r str, lock_limit: Duration) -> Self {
        Self {
            root,
            origin,
            lock_limit,
            locks: Vec::new(),
        }
    }

    /// All entries of `overlay-<kind>/<kind>.json`, and of the list beside it
    /// that newer versions keep of what a crash may lose; none where there is
    /// no such file.
    ///
    /// # Errors
    /// [`SourceError::Locked`], and whatever is no list of that kind.
    pub fn read<T>(
        &mut self,
        kind: &str,
        parse: impl Fn(&[u8]) -> Result<Vec<T>, serde_json::Error>,
    ) -> Result<Vec<T>, SourceError> {
        self.lock(&format!("overlay-{kind}/{kind}.lock"))?;
        let mut all = Vec::new();
        for file in [format!("{kind}.json"), format!("volatile-{kind}.json")] {
            let bytes = self.bytes(&format!("overlay-{kind}/{file}"))?;
            all.extend(parse(&bytes).map_err(|error| SourceError::Document {
                what: file,
                origin: self.origin.to_owned(),
                source: error.into(),
            })?);
        }
        Ok(all)
    }

    fn lock(&mut self, path: &str) -> Result<(), SourceError> {
        // A read-only store may have none, and then no writer either.
        let Some((file, _)) = self.root.open_file(path)? else {
            return Ok(());
        };
        let path = self.root.path().join(path);
        let lock = ReadLock::shared(file, self.lock_limit).doing("lock", &path)?;
        self.locks.push(lock.ok_or(SourceError::Locked { path })?);
        Ok(())
    }

    fn bytes(&self, path: &str) -> Result<Vec<u8>, SourceError> {
        let Some((file, size)) = self.root.open_file(path)? else {
            return Ok(Vec::new());
        };
        if size > LIMIT_BYTES {
            return Err(SourceError::Damaged {
                origin: self.origin.to_owned(),
                reason: format!("its {path} is {size} bytes long"),
            });
        }
        let mut bytes = Vec::new();
        File::take(file, LIMIT_BYTES)
            .read_to_end(&mut bytes)
            .doing("read", self.root.path().join(path))?;
        Ok(bytes)
    }
}
