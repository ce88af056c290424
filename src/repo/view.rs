//! Reading a repository without its lock.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    io::Read,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use composefs::repository::read_repo_algorithm;

use super::{
    error::RepoError,
    merkle::digest_of_file,
    record::DeploymentId,
    verity::{Verity, VerityHasher, measure},
};
use crate::{
    at_once::on_all_cores,
    error::{Below, Doing, PathError},
    name::{Algorithm, ObjectId},
    sys,
};

/// A composefs repository, read by file handles alone.
///
/// `mount`, `status` and `images` use nothing else: the lock of a full handle
/// waits without limit behind a garbage collection. What is read may vanish
/// meanwhile; that is an error then, never a wrong answer, since whatever a
/// ref reaches is complete before the ref is.
#[derive(Debug)]
pub struct RepoView {
    dir: OwnedFd,
    path: PathBuf,
    algorithm: Algorithm,
    secure: bool,
}

impl RepoView {
    /// Opens the repository at `path`.
    ///
    /// # Errors
    /// [`RepoError::Absent`] where there is none, [`RepoError::Open`] where
    /// its `meta.json` is unreadable or of a kind unknown here.
    pub fn open(path: &Path) -> Result<Self, RepoError> {
        let dir = match sys::open_dir(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(RepoError::Absent(path.to_owned()));
            }
            other => other?,
        };
        let failed = |source| RepoError::Open {
            path: path.to_owned(),
            source,
        };
        // The crate would wait for the writer of a fifo.
        let meta = match sys::open_file_at(&dir, "meta.json").below(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(RepoError::Absent(path.to_owned()));
            }
            meta => meta?,
        };
        let kind = meta.metadata().doing("stat", path.join("meta.json"))?;
        if !kind.is_file() {
            return Err(failed("its meta.json is no regular file".into()));
        }
        let algorithm = read_repo_algorithm(&dir)
            .map_err(|error| failed(error.into()))?
            .ok_or_else(|| RepoError::Absent(path.to_owned()))?;
        let algorithm = match algorithm {
            composefs::fsverity::Algorithm::Sha256 { lg_blocksize: 12 } => Algorithm::Sha256,
            composefs::fsverity::Algorithm::Sha512 { lg_blocksize: 12 } => Algorithm::Sha512,
            other => {
                return Err(failed(
                    format!("its algorithm {other} is unknown here").into(),
                ));
            }
        };
        let secure = measure(algorithm, &meta).map_err(failed)? != Verity::Absent;
        Ok(Self {
            dir,
            path: path.to_owned(),
            algorithm,
            secure,
        })
    }

    /// The algorithm of its objects' names.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether its `meta.json` has fs-verity, as all its objects then must.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where an object is.
    pub(crate) fn object_path(&self, id: &ObjectId) -> PathBuf {
        self.path.join("objects").join(id.object_path())
    }

    /// Bytes free on the repository's filesystem.
    ///
    /// # Errors
    /// Whatever `fstatvfs(3)` says.
    pub fn free_bytes(&self) -> Result<u64, RepoError> {
        Ok(sys::free_bytes(self.fd(), &self.path)?)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The directory of objects, for mounting.
    ///
    /// # Errors
    /// Whatever `openat(2)` says.
    pub fn objects_dir(&self) -> Result<OwnedFd, PathError> {
        sys::open_dir(&self.path.join("objects"))
    }

    /// Opens an object. In a secure repository the kernel's digest must be its
    /// name; in an insecure one nothing is checked here.
    ///
    /// # Errors
    /// [`RepoError::MissingObject`], [`RepoError::BadObject`].
    pub fn open_object(&self, id: &ObjectId) -> Result<File, RepoError> {
        self.own(id)?;
        let path = format!("objects/{}", id.object_path());
        let file = match sys::open_file_at(&self.dir, &path).below(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(RepoError::MissingObject(*id));
            }
            other => other?,
        };
        if self.secure {
            match measure(self.algorithm, &file) {
                Ok(Verity::Digest(found)) if found == *id => {}
                Ok(Verity::Digest(found)) => {
                    let found = format!("its fs-verity digest is {found}");
                    return Err(RepoError::BadObject { id: *id, found });
                }
                Ok(Verity::Absent) => {
                    let found = "it has no fs-verity, though the repository requires it".into();
                    return Err(RepoError::BadObject { id: *id, found });
                }
                Err(error) => {
                    return Err(RepoError::BadObject {
                        id: *id,
                        found: error.to_string(),
                    });
                }
            }
        }
        Ok(file)
    }

    /// Whether an object is there, with this size.
    ///
    /// # Errors
    /// Whatever `fstatat(2)` says, but for `ENOENT`.
    pub fn has_object(&self, id: &ObjectId, size: Option<u64>) -> Result<bool, RepoError> {
        let path = format!("objects/{}", id.object_path());
        let found = sys::file_size_at(&self.dir, &path).below(&self.path)?;
        Ok(found.is_some_and(|found| size.is_none_or(|size| size == found)))
    }

    /// Which of these objects is not there, whatever is in the others. That one which is
    /// there has a damaged inode, only reading it tells.
    ///
    /// # Errors
    /// As those of [`RepoView::has_object`].
    pub fn missing_object(&self, objects: &[ObjectId]) -> Result<Option<ObjectId>, RepoError> {
        let mut by_folder: BTreeMap<u8, Vec<ObjectId>> = BTreeMap::new();
        for id in objects {
            by_folder.entry(id.as_bytes()[0]).or_default().push(*id);
        }
        let by_folder: Vec<_> = by_folder.into_iter().collect();
        // Digests decide which folder an object is in: one that is large tells of all.
        let are_large = AtomicBool::new(false);
        let first = OnceLock::new();
        on_all_cores(&by_folder, |(folder, wanted)| {
            let missing = match self.missing_in(*folder, wanted, &are_large) {
                Ok(None) => return true,
                Ok(Some(id)) => Ok(id),
                Err(error) => Err(error),
            };
            let _another_was_first = first.set(missing);
            false
        });
        first.into_inner().transpose()
    }

    /// Which of the objects in one of the 256 folders is not there. It is listed, as long
    /// as no folder is large.
    fn missing_in(
        &self,
        folder: u8,
        wanted: &[ObjectId],
        are_large: &AtomicBool,
    ) -> Result<Option<ObjectId>, RepoError> {
        /// A stat may have to read the inode from the disk; reading this many names instead
        /// is worth it.
        const NAMES_A_STAT: usize = 8;
        let path = PathBuf::from(format!("objects/{folder:02x}"));
        let most = wanted.len() * NAMES_A_STAT;
        let listed = match are_large.load(Ordering::Relaxed) {
            true => None,
            // What cannot be listed can be looked for all the same.
            false => sys::file_names_in(&self.dir, &path, most).ok().flatten(),
        };
        if listed.is_none() {
            are_large.store(true, Ordering::Relaxed);
        }
        let listed = listed.unwrap_or_default();
        for id in wanted {
            let in_folder = &id.hex()[2..];
            if !listed.contains(OsStr::new(in_folder)) && !self.has_object(id, None)? {
                return Ok(Some(*id));
            }
        }
        Ok(None)
    }

    /// Hashes an object's bytes and compares them with its name.
    ///
    /// # Errors
    /// [`RepoError::MissingObject`], [`RepoError::BadObject`].
    pub fn check_object(&self, id: &ObjectId) -> Result<(), RepoError> {
        let file = self.open_object(id)?;
        let found = self.hash(file).doing("read", self.object_path(id))?;
        if found == *id {
            return Ok(());
        }
        Err(RepoError::BadObject {
            id: *id,
            found: format!("its bytes hash to {found}"),
        })
    }

    pub(super) fn hash(&self, mut file: File) -> std::io::Result<ObjectId> {
        /// What is longer is worth all cores.
        const LONG: u64 = 1 << 20;
        let size = file.metadata()?.len();
        if size > LONG && self.algorithm == Algorithm::Sha512 && sys::has_lanes() {
            return digest_of_file(&file, size);
        }
        let mut hasher = VerityHasher::new(self.algorithm);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                return Ok(hasher.finish());
            }
            hasher.update(&buffer[..length]);
        }
    }

    /// The object a stream of this name stands for.
    ///
    /// # Errors
    /// [`RepoError::BadStream`] where the link is none of an object.
    pub fn stream(&self, name: &str) -> Result<Option<ObjectId>, RepoError> {
        self.linked("streams", name)
    }

    /// The object that a name in `streams/` or `images/` stands for.
    pub(super) fn linked(&self, folder: &str, name: &str) -> Result<Option<ObjectId>, RepoError> {
        let path = Path::new(folder).join(name);
        let Some(target) = sys::read_link_at(&self.dir, &path).below(&self.path)? else {
            return Ok(None);
        };
        let target = target.to_string_lossy();
        let id = target
            .strip_prefix("../objects/")
            .map(|hex| hex.replacen('/', "", 1));
        let bad = || RepoError::BadStream {
            name: name.to_owned(),
            source: format!("it links to {target:?}, which is no object").into(),
        };
        let id: ObjectId = id.ok_or_else(bad)?.parse().map_err(|_| bad())?;
        self.own(&id)?;
        Ok(Some(id))
    }

    /// The stream a ref below `streams/refs/boundstore` names.
    ///
    /// # Errors
    /// Whatever `readlink(2)` says, but for `ENOENT`.
    pub fn reference(&self, name: &str) -> Result<Option<String>, RepoError> {
        let path = refs_dir().join(name);
        let target = sys::read_link_at(&self.dir, &path).below(&self.path)?;
        Ok(target.and_then(|target| {
            Path::new(&target)
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
        }))
    }

    /// The names of all refs in a folder below `streams/refs/boundstore`, sorted.
    ///
    /// # Errors
    /// Whatever reading the directory says.
    pub fn references(&self, folder: &str) -> Result<Vec<String>, RepoError> {
        let mut names: Vec<String> = sys::names_in(&self.dir, &refs_dir().join(folder))
            .below(&self.path)?
            .into_iter()
            .map(|name| name.to_string_lossy().into_owned())
            .filter(|name| !sys::is_temporary(name))
            .collect();
        names.sort();
        Ok(names)
    }

    /// The deployments that have a published set, sorted.
    ///
    /// # Errors
    /// Whatever reading the directory says.
    pub fn deployments(&self) -> Result<Vec<DeploymentId>, RepoError> {
        let names = self.references("deployments")?;
        Ok(names
            .into_iter()
            .filter_map(|name| name.parse().ok())
            .collect())
    }

    pub(super) fn own(&self, id: &ObjectId) -> Result<(), RepoError> {
        if id.algorithm() == self.algorithm {
            return Ok(());
        }
        Err(RepoError::WrongAlgorithm {
            id: *id,
            algorithm: self.algorithm,
        })
    }
}

/// Where our refs are, below the repository.
pub(super) fn refs_dir() -> PathBuf {
    PathBuf::from("streams/refs/boundstore")
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::repo::{NewRepo, Repo};

    #[test]
    fn objects_are_missed_among_few_names_and_among_many() {
        let sysroot = tempfile::tempdir().unwrap();
        let path = sysroot.path().join("repo");
        let new = NewRepo {
            algorithm: Algorithm::Sha256,
            insecure: true,
        };
        Repo::create(&path, new, std::time::Duration::ZERO).unwrap();
        let view = RepoView::open(&path).unwrap();
        // One folder of 40, none of which is read here.
        let id = |number| {
            let mut bytes = [0xab; 32];
            bytes[31] = number;
            ObjectId::Sha256(bytes)
        };
        let at = |id: ObjectId| path.join("objects").join(id.object_path());
        let all: Vec<_> = (0..40).map(id).collect();
        fs::create_dir_all(path.join("objects/ab")).unwrap();
        for id in &all {
            fs::write(at(*id), "").unwrap();
        }
        // Its names are read, or it has too many for the few that are wanted.
        for wanted in [&all[..], &all[..2]] {
            assert_eq!(view.missing_object(wanted).unwrap(), None);
        }
        let (victim, absent) = (all[1], id(40));
        type Replace = fn(&Path);
        let replacements: [(&str, Replace); 3] = [
            ("gone", |_| ()),
            ("a folder", |at| fs::create_dir(at).unwrap()),
            ("a symlink", |at| symlink("../../meta.json", at).unwrap()),
        ];
        for (what, replace) in replacements {
            let _gone = fs::remove_file(at(victim)).or_else(|_| fs::remove_dir(at(victim)));
            replace(&at(victim));
            for wanted in [&all[..], &all[..2]] {
                let missing = view.missing_object(wanted).unwrap();
                assert_eq!(missing, Some(victim), "{what}, {} wanted", wanted.len());
            }
        }
        assert_eq!(
            view.missing_object(&[all[0], absent]).unwrap(),
            Some(absent)
        );
        // Nor is a folder that is not there an error.
        fs::remove_dir_all(path.join("objects")).unwrap();
        assert_eq!(view.missing_object(&[absent]).unwrap(), Some(absent));
    }
}
