//! Whose lock it is that holds a deployment back.
//!
//! A lock is a file or a flag of ostree's or bootc's that says nothing of who
//! made it. Ours has a record, `run/boundstore/locks/<deployment>`:
//!
//! 1. the file that is to be the lock is made, under another name;
//! 2. what it is, by device, inode and time of the host's files, is written to
//!    the record;
//! 3. it is given its name: the deployment is locked.
//!
//! Killed before 3, the deployment is not locked, and whatever the record says
//! it is begun again: a lock that somebody makes meanwhile is another file.
//! After 3 the lock is ours as long as the host's files are those: whoever
//! stages again, or unlocks and locks, makes others.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::GuardError;
use crate::{
    deployment::host::{Backend, Host, HostError, Staged},
    error::{Doing, PathError},
    repo::DeploymentId,
    sys::{DirLock, failpoint::failpoint, read_regular},
};

/// The longest record that is read: ours are shorter.
const LIMIT_BYTES: u64 = 64 << 10;

const FOLDER: &str = "run/boundstore/locks";
/// How long another guard is waited for; one takes milliseconds.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// Who holds a deployment back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Nobody,
    Us,
    Others,
}

/// The lock of one deployment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lock<'a> {
    pub(super) host: &'a dyn Host,
    pub(super) root: &'a Path,
    pub(super) id: &'a DeploymentId,
}

impl Lock<'_> {
    /// Who holds `staged` back. A record of what is not ours goes.
    pub(super) fn owner(&self, staged: &Staged) -> Result<Owner, GuardError> {
        let record = match self.read_record() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        if !staged.finalization_locked {
            self.forget()?;
            return Ok(Owner::Nobody);
        }
        if record == self.identity(None)? {
            return Ok(Owner::Us);
        }
        self.forget()?;
        Ok(Owner::Others)
    }

    /// Locks what nobody has locked: whoever did so meanwhile holds it.
    pub(super) fn take(&self) -> Result<Owner, GuardError> {
        let _alone = self.alone()?;
        let record = self.record();
        let mut note = |lock: &Metadata| {
            let identity = self.identity(Some(lock))?;
            failpoint!("write lock record").doing("write", &record)?;
            fs::write(&record, identity).doing("write", &record)
        };
        let before = self.identity(None)?;
        let (host, still) = (self.host, || self.is(&before));
        if host.set_finalization_locked(self.id, true, &mut note, &still)? {
            return Ok(Owner::Us);
        }
        self.forget()?;
        Ok(Owner::Others)
    }

    /// Two at once would each take the other's file for what was left there.
    fn alone(&self) -> Result<DirLock, PathError> {
        let folder = self.root.join(FOLDER);
        fs::create_dir_all(&folder).doing("create directory", &folder)?;
        let lock = DirLock::exclusive(&folder, LOCK_LIMIT)?;
        let busy = || io::Error::from(io::ErrorKind::WouldBlock);
        lock.ok_or_else(busy).doing("lock", folder)
    }

    /// Unlocks what is ours. Somebody may have staged another one, or made the
    /// lock his own: then there is nothing to do.
    pub(super) fn release(&self) -> Result<(), GuardError> {
        let _alone = self.alone()?;
        let ours = self.read_record()?;
        if self.is(&ours) {
            let (host, still) = (self.host, || self.is(&ours));
            match host.set_finalization_locked(self.id, false, &mut |_| Ok(()), &still) {
                Err(HostError::NotStaged(_) | HostError::HeldByOwner(_)) => {}
                unlocked => {
                    unlocked?;
                }
            }
        }
        Ok(self.forget()?)
    }

    /// Whether the host's files are still these.
    fn is(&self, identity: &str) -> bool {
        self.identity(None).is_ok_and(|now| now == identity)
    }

    fn forget(&self) -> Result<(), PathError> {
        super::remove_if_there(&self.record())
    }

    /// What is no text is no record of ours.
    fn read_record(&self) -> Result<String, PathError> {
        let bytes = read_regular(&self.record(), LIMIT_BYTES)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn record(&self) -> PathBuf {
        self.root.join(FOLDER).join(self.id.as_str())
    }

    /// The host's files that say what is staged and whether it is held back;
    /// the last of them, which is the lock, as `lock` will be.
    fn identity(&self, lock: Option<&Metadata>) -> Result<String, PathError> {
        let files: &[&str] = match self.host.backend() {
            Backend::Ostree => &[
                "ostree/staged-deployment",
                "ostree/staged-deployment-locked",
            ],
            Backend::Composefs => &["composefs/staged-deployment"],
        };
        let mut identity = String::new();
        for (index, file) in files.iter().enumerate() {
            let path = self.root.join("run").join(file);
            let lock = lock.filter(|_| index + 1 == files.len()).cloned();
            match lock.map_or_else(|| fs::symlink_metadata(&path), Ok) {
                Ok(file) => {
                    let (device, inode) = (file.dev(), file.ino());
                    let (seconds, rest) = (file.mtime(), file.mtime_nsec());
                    identity += &format!("{device} {inode} {seconds}.{rest:09}\n");
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => identity += "none\n",
                Err(error) => return Err(error).doing("stat", &path),
            }
        }
        Ok(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::host::{HostPaths, detect};

    #[test]
    fn a_lock_made_meanwhile_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let id: DeploymentId = "ab".repeat(64).parse().unwrap();
        fs::create_dir_all(root.join("run/composefs")).unwrap();
        fs::create_dir_all(root.join("sysroot/state/deploy")).unwrap();
        let stage = |locked: bool| {
            let text = format!(r#"{{"depl_id":"{id}","finalization_locked":{locked}}}"#);
            fs::write(root.join("run/composefs/staged-deployment"), text).unwrap();
        };
        let paths = HostPaths {
            root: root.to_owned(),
            sysroot: root.join("sysroot"),
            repo: root.join("sysroot/composefs"),
        };
        let host = detect(&paths).unwrap().unwrap();
        let lock = Lock {
            host: host.as_ref(),
            root,
            id: &id,
        };
        let owner = || lock.owner(&host.staged().unwrap().unwrap()).unwrap();
        stage(false);
        assert_eq!(owner(), Owner::Nobody);
        stage(true);
        assert_eq!(lock.take().unwrap(), Owner::Others);
        assert_eq!(owner(), Owner::Others);
        stage(false);
        assert_eq!(lock.take().unwrap(), Owner::Us);
        assert_eq!(owner(), Owner::Us);
    }
}
