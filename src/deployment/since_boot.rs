//! What was mounted since boot: markers below `/run`, and the rule that keeps
//! these sets until the next one.
//!
//! A container goes on reading its set's files after `umount`, and after
//! another set has taken the place of its own: nobody can tell when the last
//! reader is gone. So a set that was mounted once stays until reboot, also
//! where its deployment has another one or none by then.
//!
//! `mount` writes a marker and nothing else: it holds no lock of the repository
//! and may find it read-only. Whoever takes a set's ref away asks the marker
//! first, and gives the set another ref, which other collectors heed as well.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::expose::{Exposed, exposed_as};
use crate::{
    error::{Doing, PathError},
    name::ObjectId,
    repo::{BootId, DeploymentId, Repo, RepoError, RepoView},
    sys::{self, failpoint::write_all},
};

/// Where this boot's state is.
#[derive(Debug, Clone)]
pub struct SinceBoot {
    run_dir: PathBuf,
    boot_id: PathBuf,
}

/// Which repository a set was mounted from. One path can be another directory
/// later, and one directory have two paths: either tells.
#[derive(Debug, Serialize, Deserialize)]
struct Origin {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Origin {
    fn of(view: &RepoView) -> Result<Self, PathError> {
        let path = view.path();
        let metadata = fs::metadata(path).doing("stat", path)?;
        Ok(Self {
            path: path.canonicalize().doing("resolve", path)?,
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    fn is(&self, other: &Self) -> bool {
        self.path == other.path || (self.device, self.inode) == (other.device, other.inode)
    }
}

/// Where the markers are, below a directory of ours in `/run`.
fn markers(run_dir: &Path) -> PathBuf {
    run_dir.join("mounted")
}

/// Notes that a set is about to be mounted, before anybody can see it.
///
/// The marker `mounted/<set image>` has a line for each repository.
///
/// # Errors
/// The marker cannot be written.
pub(super) fn record(
    run_dir: &Path,
    view: &RepoView,
    set_image: &ObjectId,
) -> Result<(), PathError> {
    let folder = markers(run_dir);
    fs::create_dir_all(&folder).doing("create", &folder)?;
    let path = folder.join(set_image.hex());
    let origin = Origin::of(view)?;
    let mut options = OpenOptions::new();
    let opened = options.read(true).append(true).create(true).open(&path);
    let mut file = opened.doing("open", &path)?;
    if origins(&mut file)
        .doing("read", &path)?
        .iter()
        .any(|known| {
            known
                .as_ref()
                .is_some_and(|known| known.is(&origin) && known.path == origin.path)
        })
    {
        return Ok(());
    }
    let line = serde_json::to_string(&origin).map_err(io::Error::from);
    let line = line.doing("write", &path)? + "\n";
    write_all!("write marker", &mut file, line.as_bytes()).doing("write", &path)
}

/// A line that cannot be read stands for any repository.
fn origins(file: &mut File) -> io::Result<Vec<Option<Origin>>> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let lines = text.lines().map(|line| serde_json::from_str(line).ok());
    Ok(lines.collect())
}

impl SinceBoot {
    /// That of the system whose root is `root`.
    pub fn of(root: &Path) -> Self {
        Self {
            run_dir: root.join("run/boundstore"),
            boot_id: root.join("proc/sys/kernel/random/boot_id"),
        }
    }

    /// The directory of ours in `/run`.
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// This boot.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn boot(&self) -> Result<BootId, PathError> {
        let text = fs::read_to_string(&self.boot_id).doing("read", &self.boot_id)?;
        let boot: Result<BootId, _> = text.trim_end().parse();
        boot.map_err(io::Error::other).doing("read", &self.boot_id)
    }

    /// The set images that were mounted from this repository since boot, or are
    /// mounted now without a marker, from whatever repository.
    ///
    /// # Errors
    /// The markers or the mount table cannot be read.
    pub fn mounted(&self, view: &RepoView) -> Result<BTreeSet<ObjectId>, PathError> {
        let mut found = BTreeSet::new();
        for mount in sys::mount_table()? {
            if let Some(Exposed::Set { set_image, .. }) = exposed_as(&mount) {
                found.insert(set_image);
            }
        }
        let folder = markers(&self.run_dir);
        let here = Origin::of(view)?;
        for name in sys::names_in(sys::current_dir(), &folder)? {
            let Some(set_image) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let path = folder.join(&name);
            let (mut file, _) = sys::open_regular(&path)?;
            let origins = origins(&mut file).doing("read", &path)?;
            // Without a line: its writer died before it came to that.
            let of_here = |origin: &Option<Origin>| origin.as_ref().is_none_or(|o| o.is(&here));
            if origins.is_empty() || origins.iter().any(of_here) {
                found.insert(set_image);
            }
        }
        found.retain(|set_image| set_image.algorithm() == view.algorithm());
        Ok(found)
    }

    /// Changes or removes a deployment's ref by `change`, so that a set which it
    /// names and which was mounted since boot has another ref by then. Says what
    /// `change` said, and whether such a set was kept.
    ///
    /// It looks twice. A `mount` writes its marker and then reads the ref again:
    /// either it is seen here, or it sees the ref that `change` wrote.
    ///
    /// # Errors
    /// Those of `change`; the set could not be kept.
    pub fn keeping<T>(
        &self,
        repo: &Repo,
        deployment: &DeploymentId,
        change: impl FnOnce() -> Result<T, RepoError>,
    ) -> Result<(T, bool), RepoError> {
        let set_image = repo.view().set_image_of(deployment)?;
        let keep = || match &set_image {
            Some(id) if self.mounted(repo.view())?.contains(id) => {
                repo.keep_mounted(&self.boot()?, id)
            }
            _ => Ok(false),
        };
        let before = keep()?;
        let changed = change()?;
        let after = repo.view().set_image_of(deployment)? != set_image && keep()?;
        Ok((changed, before || after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        name::Algorithm,
        repo::{NewRepo, fs_verity_digest},
    };

    fn repository(path: &Path) -> RepoView {
        let new = NewRepo {
            algorithm: Algorithm::Sha512,
            insecure: true,
        };
        Repo::create(path, new, Repo::LOCK_LIMIT).unwrap();
        RepoView::open(path).unwrap()
    }

    #[test]
    fn markers_tell_of_which_repository() {
        let root = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let since = SinceBoot::of(root.path());
        let (one, two) = (root.path().join("one"), root.path().join("two"));
        let (one, two) = (repository(&one), repository(&two));
        let [a, b, c, d] =
            [b"a", b"b", b"c", b"d"].map(|text| fs_verity_digest(Algorithm::Sha512, text));
        let mounted = |view: &RepoView| {
            let mut found = since.mounted(view).unwrap();
            // What this machine has mounted is none of this test's.
            found.retain(|id| [a, b, c, d].contains(id));
            found
        };
        assert!(mounted(&one).is_empty(), "no folder yet");
        for _ in 0..2 {
            record(since.run_dir(), &one, &a).unwrap();
        }
        record(since.run_dir(), &two, &b).unwrap();
        record(since.run_dir(), &one, &b).unwrap();
        let folder = since.run_dir().join("mounted");
        let lines = |id: &ObjectId| {
            let text = fs::read_to_string(folder.join(id.hex())).unwrap();
            text.lines().count()
        };
        assert_eq!((lines(&a), lines(&b)), (1, 2));
        fs::write(folder.join(c.hex()), "").unwrap();
        fs::write(folder.join(d.hex()), "torn {").unwrap();
        fs::write(folder.join("stray"), "").unwrap();
        let sha256 = fs_verity_digest(Algorithm::Sha256, b"a");
        fs::write(folder.join(sha256.hex()), "").unwrap();
        assert_eq!(mounted(&one), BTreeSet::from([a, b, c, d]));
        assert_eq!(mounted(&two), BTreeSet::from([b, c, d]));
        assert!(!since.mounted(&one).unwrap().contains(&sha256));
        // By another path it is the same repository.
        std::os::unix::fs::symlink("one", root.path().join("link")).unwrap();
        let link = RepoView::open(&root.path().join("link")).unwrap();
        assert_eq!(mounted(&link), mounted(&one));
    }

    #[test]
    fn a_boot_has_an_id() {
        assert!(SinceBoot::of(Path::new("/")).boot().is_ok());
        let root = tempfile::tempdir().unwrap();
        let since = SinceBoot::of(root.path());
        assert!(since.boot().is_err());
        let folder = root.path().join("proc/sys/kernel/random");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("boot_id"), "../../x\n").unwrap();
        assert!(since.boot().is_err());
    }
}
