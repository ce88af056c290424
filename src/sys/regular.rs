//! Opening the regular files of a folder that somebody else wrote.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2},
    io::Errno,
};

use crate::error::{Doing, PathError};

/// A folder held open: what is opened in it stays in it.
///
/// Paths are resolved as if the folder were `/` (openat2, `RESOLVE_IN_ROOT`),
/// so neither links nor `..` lead out, and renaming the folder changes nothing.
#[derive(Debug)]
pub struct RootDir {
    fd: OwnedFd,
    path: PathBuf,
}

impl RootDir {
    /// Opens the folder at `path`; links on the way to it are followed.
    ///
    /// # Errors
    /// The system's: missing, no folder, no permission.
    pub fn open(path: &Path) -> Result<Self, PathError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, path, flags, Mode::empty()).doing("open folder", path)?;
        Ok(Self {
            fd,
            path: path.to_owned(),
        })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the folder at `path` inside this one.
    ///
    /// # Errors
    /// The system's.
    pub fn open_dir(&self, path: impl AsRef<Path>) -> Result<Self, PathError> {
        let shown = self.path.join(path.as_ref());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = self
            .open_in(path.as_ref(), flags)
            .doing("open folder", &shown)?;
        Ok(Self { fd, path: shown })
    }

    /// Opens the regular file at `path` for reading, with its size in bytes;
    /// nothing where there is none.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::InvalidInput`] for what is no regular file.
    pub fn open_file(&self, path: impl AsRef<Path>) -> Result<Option<(File, u64)>, PathError> {
        let shown = self.path.join(path.as_ref());
        // Opening a fifo waits and opening a device may act: look first.
        let seen = match self.open_in(path.as_ref(), OFlags::PATH) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            seen => seen.doing("open", &shown)?,
        };
        expect_regular(&seen).doing("open", &shown)?;
        let fd = self
            .open_in(path.as_ref(), OFlags::RDONLY | OFlags::NONBLOCK)
            .doing("open", &shown)?;
        let size = expect_regular(&fd).doing("open", &shown)?;
        Ok(Some((File::from(fd), size)))
    }

    fn open_in(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // EAGAIN: something was renamed meanwhile, and the kernel cannot tell
        // whether a `..` escaped.
        let mut tries = 0;
        loop {
            match openat2(
                &self.fd,
                path,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            ) {
                Err(Errno::AGAIN | Errno::INTR) if tries < 128 => tries += 1,
                result => return result,
            }
        }
    }
}

impl AsFd for RootDir {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<RootDir> for OwnedFd {
    fn from(folder: RootDir) -> Self {
        folder.fd
    }
}

/// Opens the regular file at `path` for reading, with its size in bytes.
///
/// # Errors
/// The system's; [`io::ErrorKind::InvalidInput`] for what is no regular file.
pub fn open_regular(path: &Path) -> Result<(File, u64), PathError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = openat(CWD, path, flags, Mode::empty()).doing("open", path)?;
    let size = expect_regular(&fd).doing("open", path)?;
    Ok((File::from(fd), size))
}

/// Reads the regular file at `path`, of at most `limit_bytes`.
///
/// A fifo or a device in its place does not make this wait.
///
/// # Errors
/// The system's; [`io::ErrorKind::InvalidInput`] for what is no regular file,
/// [`io::ErrorKind::FileTooLarge`] for one that is longer.
pub fn read_regular(path: &Path, limit_bytes: u64) -> Result<Vec<u8>, PathError> {
    let (file, _) = open_regular(path)?;
    let mut bytes = Vec::new();
    file.take(limit_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .doing("read", path)?;
    if bytes.len() as u64 > limit_bytes {
        let error = format!("it is larger than {limit_bytes} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, error)).doing("read", path);
    }
    Ok(bytes)
}

fn expect_regular(fd: &OwnedFd) -> io::Result<u64> {
    let stat = fstat(fd)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => u64::try_from(stat.st_size).map_err(io::Error::other),
        found => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("expected a regular file, found {found:?}"),
        )),
    }
}
