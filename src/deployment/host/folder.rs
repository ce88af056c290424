//! The host's files, read with bounds and without leaving their folder.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use super::{HostError, Note};
use crate::{
    error::{Doing, PathError},
    sys::{self, ReadInRootError, RootDir},
};

/// A folder of the host held open. Paths below it are resolved as if it were
/// `/`: no link leads out of it.
#[derive(Debug)]
pub(super) struct Folder(RootDir);

/// What a directory is, whatever it is called and mounted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DirIdentity {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl Folder {
    /// The folder at `path`, where there is one.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, HostError> {
        found(RootDir::open(path).map(Self))
    }

    pub(super) fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(below)
    }

    /// A file's bytes, at most `limit_bytes`, where there is one. A link to
    /// nowhere is no absent file.
    pub(super) fn read(
        &self,
        path: impl AsRef<Path>,
        limit_bytes: u64,
    ) -> Result<Option<Vec<u8>>, HostError> {
        let path = path.as_ref();
        match sys::read_in_root(self.0.as_fd(), path, limit_bytes) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(ReadInRootError::Io(error)) if is_absent(&error) => match self.link(path)? {
                None => Ok(None),
                Some(to) => Err(self.malformed(path, format!("it links to {}", to.display()))),
            },
            Err(ReadInRootError::Io(error)) => Err(self.failed(error)),
            Err(other) => Err(self.malformed(path, other.to_string())),
        }
    }

    /// A text file, as [`Folder::read`].
    pub(super) fn text(
        &self,
        path: impl AsRef<Path>,
        limit_bytes: u64,
    ) -> Result<Option<String>, HostError> {
        let path = path.as_ref();
        let Some(bytes) = self.read(path, limit_bytes)? else {
            return Ok(None);
        };
        let text = String::from_utf8(bytes);
        text.map(Some)
            .map_err(|_| self.malformed(path, "it is not UTF-8"))
    }

    /// Whether anything has this name.
    pub(super) fn has(&self, path: impl AsRef<Path>) -> Result<bool, HostError> {
        let link = sys::read_link_in_root(self.0.as_fd(), path.as_ref());
        Ok(found(link.map_err(|error| self.located(error)))?.is_some())
    }

    /// What the link at `path` says, where there is a link.
    pub(super) fn link(&self, path: &Path) -> Result<Option<PathBuf>, HostError> {
        let link = sys::read_link_in_root(self.0.as_fd(), path);
        Ok(found(link.map_err(|error| self.located(error)))?.flatten())
    }

    /// The names in a directory, sorted; none where there is no directory.
    pub(super) fn names(&self, path: impl AsRef<Path>) -> Result<Vec<String>, HostError> {
        let path = path.as_ref();
        let names = sys::read_dir_names_in_root(self.0.as_fd(), path)
            .map_err(|error| self.failed(error))?;
        names
            .unwrap_or_default()
            .into_iter()
            .map(|name| {
                let odd = |name: std::ffi::OsString| {
                    self.malformed(path, format!("the name {name:?} in it is not UTF-8"))
                };
                name.into_string().map_err(odd)
            })
            .collect()
    }

    /// As [`Folder::names`], without those that are not UTF-8.
    pub(super) fn utf8_names(&self, path: impl AsRef<Path>) -> Result<Vec<String>, HostError> {
        let names = sys::read_dir_names_in_root(self.0.as_fd(), path.as_ref())
            .map_err(|error| self.failed(error))?;
        let names = names.unwrap_or_default().into_iter();
        Ok(names.filter_map(|name| name.into_string().ok()).collect())
    }

    /// The directory at `path`, where there is one.
    pub(super) fn dir(&self, path: impl AsRef<Path>) -> Result<Option<Self>, HostError> {
        found(self.0.open_dir(path).map(Self))
    }

    /// Creates an empty file, unless it is there; says whether it did. `note`
    /// hears of it before it has its name.
    pub(super) fn create_file(
        &self,
        path: impl AsRef<Path>,
        note: Note<'_>,
    ) -> Result<bool, HostError> {
        let (folder, name) = self.parent(path.as_ref())?;
        let located = |error| folder.failed(error);
        let temporary = folder.write_beside(name, b"")?;
        let noted = folder.note(&temporary, note);
        let done = noted.and_then(
            |()| match sys::rename_new_at(folder.fd(), &temporary, name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                renamed => renamed.map(|()| true).map_err(located),
            },
        );
        if !matches!(done, Ok(true)) {
            sys::remove_at(folder.fd(), &temporary).map_err(located)?;
        }
        done
    }

    /// A new file beside `name`, which takes the place of one that was left there.
    fn write_beside(&self, name: &Path, bytes: &[u8]) -> Result<PathBuf, HostError> {
        let temporary = PathBuf::from(format!(".{}.boundstore", name.display()));
        let located = |error| self.failed(error);
        sys::remove_at(self.fd(), &temporary).map_err(located)?;
        let written = sys::write_file_at(self.fd(), &temporary, bytes);
        if let Err(error) = written {
            let _the_first_error_counts = sys::remove_at(self.fd(), &temporary);
            return Err(located(error));
        }
        Ok(temporary)
    }

    fn note(&self, file: &Path, note: Note<'_>) -> Result<(), HostError> {
        let opened = sys::open_file_at(self.fd(), file).map_err(|error| self.failed(error))?;
        let metadata = opened.metadata().doing("stat", self.path(file))?;
        Ok(note(&metadata)?)
    }

    /// Puts a new file in the place of one, mode 0644, if `still` says so when
    /// the new one is complete; says whether it did. `note` hears of the new one
    /// before that.
    pub(super) fn replace(
        &self,
        path: impl AsRef<Path>,
        bytes: &[u8],
        note: Note<'_>,
        still: impl FnOnce() -> Result<bool, HostError>,
    ) -> Result<bool, HostError> {
        let path = path.as_ref();
        let (folder, name) = self.parent(path)?;
        let located = |error| folder.failed(error);
        let temporary = folder.write_beside(name, bytes)?;
        let noted = folder.note(&temporary, note);
        let done = noted.and_then(|()| still()).and_then(|still| {
            if still {
                sys::rename_at(folder.fd(), &temporary, name).map_err(located)?;
            }
            Ok(still)
        });
        if !matches!(done, Ok(true)) {
            sys::remove_at(folder.fd(), &temporary).map_err(located)?;
        }
        done
    }

    /// Removes a file, where it is there; says whether it did.
    pub(super) fn remove_file(&self, path: impl AsRef<Path>) -> Result<bool, HostError> {
        let (folder, name) = self.parent(path.as_ref())?;
        let removed = sys::remove_at(folder.fd(), name);
        removed.map_err(|error| folder.failed(error))
    }

    /// The folder a file is in, and its name there.
    fn parent<'p>(&self, path: &'p Path) -> Result<(Self, &'p Path), HostError> {
        let (folder, name) = (path.parent(), path.file_name());
        let (Some(folder), Some(name)) = (folder, name) else {
            return Err(self.malformed(path, "it is no path of a file"));
        };
        let folder = self.0.open_dir(folder)?;
        Ok((Self(folder), Path::new(name)))
    }

    /// Device and inode of the folder itself.
    pub(super) fn identity(&self) -> Result<DirIdentity, HostError> {
        let fd = self.0.as_fd().try_clone_to_owned();
        let metadata = fd.and_then(|fd| std::fs::File::from(fd).metadata());
        let metadata = metadata.doing("stat", self.0.path())?;
        Ok(DirIdentity {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.0.into()
    }

    pub(super) fn malformed(&self, path: impl AsRef<Path>, found: impl Into<String>) -> HostError {
        HostError::Malformed {
            path: self.path(path),
            found: found.into(),
        }
    }

    fn located(&self, error: PathError) -> PathError {
        PathError {
            path: self.path(&error.path),
            ..error
        }
    }

    fn failed(&self, error: PathError) -> HostError {
        self.located(error).into()
    }
}

fn is_absent(error: &PathError) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn found<T>(result: Result<T, PathError>) -> Result<Option<T>, HostError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
