//! Folders for work that ends with what makes them, even if that is killed.

use std::{
    fs, io,
    path::Path,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;

use super::DirLock;
use crate::error::{Doing, PathError};

/// How long a folder that nobody holds stays: its maker may not have come to lock
/// it yet.
const GRACE: Duration = Duration::from_secs(600);

/// A folder of its own, removed when dropped; where its maker was killed, by the
/// next that is made beside it.
#[derive(Debug)]
pub struct WorkDir {
    dir: TempDir,
    _lock: Option<DirLock>,
}

impl WorkDir {
    /// Makes one in `parent`, mode 0700, its name beginning with `prefix`, and
    /// removes those that were left there.
    ///
    /// # Errors
    /// The system's; what cannot be removed stays.
    pub fn new_in(parent: &Path, prefix: &str) -> Result<Self, PathError> {
        clear(parent, prefix);
        let dir = tempfile::Builder::new().prefix(prefix).tempdir_in(parent);
        let dir = dir.doing("create a folder in", parent)?;
        let lock = DirLock::exclusive(dir.path(), Duration::ZERO)?;
        Ok(Self { dir, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

fn clear(parent: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    let old = SystemTime::now().checked_sub(GRACE);
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(prefix);
        let is_old = || -> io::Result<bool> {
            let found = entry.metadata()?;
            Ok(found.is_dir() && old.is_some_and(|old| found.modified().is_ok_and(|at| at < old)))
        };
        if is_ours
            && is_old().unwrap_or(false)
            && let Ok(Some(_lock)) = DirLock::exclusive(&entry.path(), Duration::ZERO)
        {
            // It only takes room.
            let _left = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_a_kill_has_left_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| parent.path().join(name);
        let held = WorkDir::new_in(parent.path(), "work.").unwrap();
        for name in ["work.old", "work.new", "other.old"] {
            fs::create_dir_all(at(name).join("below")).unwrap();
        }
        let mut touch = Command::new("touch");
        touch.args(["--date", "1 hour ago"]).arg(held.path());
        let old = touch.args([at("work.old"), at("other.old")]).status();
        assert!(old.unwrap().success());
        let made = WorkDir::new_in(parent.path(), "work.").unwrap();
        for path in [held.path(), made.path(), &at("work.new"), &at("other.old")] {
            assert!(path.exists(), "{}", path.display());
        }
        assert!(!at("work.old").exists());
        let path = made.path().to_owned();
        drop(made);
        assert!(!path.exists());
    }
}
