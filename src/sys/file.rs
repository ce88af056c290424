//! Files, directories and locks, relative to directory handles.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::fs::{self, AtFlags, Mode, OFlags};

use super::failpoint::{failpoint, write_all};
use crate::error::{Doing, PathError};

/// The folder that a path, mostly a relative one, is in.
pub fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) => Path::new("."),
        None => Path::new("/"),
    }
}

/// Opens a directory.
///
/// # Errors
/// Whatever `open(2)` says.
pub fn open_dir(path: &Path) -> Result<OwnedFd, PathError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fs::open(path, flags, Mode::empty()).doing("open", path)
}

/// Opens a file below `dir` for reading; never follows a symlink in the last
/// component and never blocks on a fifo.
///
/// # Errors
/// Whatever `openat(2)` says.
pub fn open_file_at(dir: impl AsFd, path: impl AsRef<Path>) -> Result<File, PathError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let fd = fs::openat(dir, path.as_ref(), flags, Mode::empty()).doing("open", &path)?;
    Ok(File::from(fd))
}

/// Opens an unnamed file in `dir`'s directory `path`, for reading and writing.
///
/// # Errors
/// Whatever `openat(2)` says; `EOPNOTSUPP` where the filesystem has no `O_TMPFILE`.
pub fn open_tmpfile(dir: impl AsFd, path: impl AsRef<Path>) -> Result<File, PathError> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let fd = fs::openat(dir, path.as_ref(), flags, Mode::from_raw_mode(0o644))
        .doing("create a file in", &path)?;
    Ok(File::from(fd))
}

/// An unnamed file in `dir`'s directory `path` that takes `bytes` of room; none
/// where the filesystem cannot tell room apart from data.
///
/// # Errors
/// As those of [`open_tmpfile`]; what `fallocate(2)` says of room.
pub fn reserve(dir: impl AsFd, path: &Path, bytes: u64) -> Result<File, PathError> {
    let file = open_tmpfile(dir, path)?;
    match fs::fallocate(&file, fs::FallocateFlags::empty(), 0, bytes) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(file),
        Err(error) => Err(error).doing("reserve room in", path),
    }
}

/// Opens the same file again, read-only, and closes the writable handle:
/// fs-verity can be enabled only when nobody holds the file open for writing.
///
/// # Errors
/// Whatever `open(2)` of the file's `/proc` name says.
pub fn reopen_read_only(file: File) -> Result<File, PathError> {
    let proc_name = proc_path(&file);
    let fd = fs::open(&proc_name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .doing("reopen", &proc_name)?;
    Ok(File::from(fd))
}

/// Gives an unnamed file a name below `dir`.
///
/// # Errors
/// Whatever `linkat(2)` says; `EEXIST` where the name is taken.
pub fn link_tmpfile(
    file: impl AsFd,
    dir: impl AsFd,
    path: impl AsRef<Path>,
) -> Result<(), PathError> {
    failpoint!("link").doing("link", &path)?;
    let link = |from: BorrowedFd<'_>, name: &str, flags| {
        fs::linkat(from, name, &dir, path.as_ref(), flags)
    };
    // Root need not go through /proc; to others it says ENOENT (open(2), O_TMPFILE).
    match link(file.as_fd(), "", AtFlags::EMPTY_PATH) {
        Err(rustix::io::Errno::NOENT) => link(fs::CWD, &proc_path(&file), AtFlags::SYMLINK_FOLLOW),
        linked => linked,
    }
    .doing("link", &path)
}

/// Creates the directory `path`, mode 0700; one that is there stays as it is.
///
/// # Errors
/// Whatever `mkdir(2)` says, but for `EEXIST`.
pub fn create_private_dir(path: &Path) -> Result<(), PathError> {
    match fs::mkdir(path, Mode::RWXU) {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        made => made.doing("create directory", path),
    }
}

/// Creates `path` below `dir` and all directories on the way, mode 0755
/// whatever the umask; those that are there stay as they are.
///
/// # Errors
/// Whatever `mkdirat(2)` says, but for `EEXIST`, and `fchmodat(2)`.
pub fn create_dir_all_at(dir: impl AsFd, path: impl AsRef<Path>) -> Result<(), PathError> {
    create_dirs(dir.as_fd(), path.as_ref())
}

fn create_dirs(dir: BorrowedFd<'_>, path: &Path) -> Result<(), PathError> {
    let mode = Mode::from_raw_mode(0o755);
    failpoint!("mkdir").doing("create directory", path)?;
    let make = || {
        fs::mkdirat(dir, path, mode)?;
        fs::chmodat(dir, path, mode, AtFlags::empty())
    };
    let made = match (make(), path.parent()) {
        (Err(rustix::io::Errno::NOENT), Some(parent)) if !parent.as_os_str().is_empty() => {
            create_dirs(dir, parent)?;
            make()
        }
        (made, _) => made,
    };
    match made {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        made => made.doing("create directory", path),
    }
}

/// Renames within `dir`, replacing what is there.
///
/// # Errors
/// Whatever `renameat(2)` says.
pub fn rename_at(dir: impl AsFd, from: &Path, to: &Path) -> Result<(), PathError> {
    failpoint!("rename").doing("rename to", to)?;
    fs::renameat(&dir, from, &dir, to).doing("rename to", to)
}

/// Renames within `dir`, unless the new name is taken.
///
/// # Errors
/// Whatever `renameat2(2)` says; `EEXIST` where it is.
pub fn rename_new_at(dir: impl AsFd, from: &Path, to: &Path) -> Result<(), PathError> {
    failpoint!("rename new").doing("rename to", to)?;
    fs::renameat_with(&dir, from, &dir, to, fs::RenameFlags::NOREPLACE).doing("rename to", to)
}

/// Lets two names within `dir` change places.
///
/// # Errors
/// Whatever `renameat2(2)` says; `EXDEV` where overlayfs would have to copy a
/// directory of a layer below.
pub fn exchange_at(dir: impl AsFd, one: &Path, other: &Path) -> Result<(), PathError> {
    fs::renameat_with(&dir, one, &dir, other, fs::RenameFlags::EXCHANGE).doing("rename to", other)
}

/// Creates a symlink below `dir`, atomically replacing what is there. A kill
/// on the way can leave `NAME~PID` beside it, see [`is_temporary`].
///
/// # Errors
/// Whatever `symlinkat(2)` and `renameat(2)` say.
pub fn symlink_at(target: &str, dir: impl AsFd, path: &Path) -> Result<(), PathError> {
    failpoint!("symlink").doing("create symlink", path)?;
    match fs::symlinkat(target, &dir, path) {
        Err(rustix::io::Errno::EXIST) => {}
        other => return other.doing("create symlink", path),
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!("~{}", std::process::id()));
    let temporary = path.with_file_name(name);
    remove_at(&dir, &temporary)?;
    failpoint!("symlink beside").doing("create symlink", &temporary)?;
    fs::symlinkat(target, &dir, &temporary).doing("create symlink", &temporary)?;
    rename_at(&dir, &temporary, path)
}

/// Whether a file name is that of a symlink which [`symlink_at`] had not put in
/// its place yet.
pub fn is_temporary(name: &str) -> bool {
    name.contains('~')
}

/// Reads a symlink below `dir`; `None` where there is nothing.
///
/// # Errors
/// Whatever `readlinkat(2)` says, but for `ENOENT`.
pub fn read_link_at(dir: impl AsFd, path: &Path) -> Result<Option<OsString>, PathError> {
    match fs::readlinkat(dir, path, Vec::new()) {
        Ok(target) => Ok(Some(OsString::from_vec(target.into_bytes()))),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error).doing("read symlink", path),
    }
}

/// Removes a file or symlink below `dir`; says whether there was one.
///
/// # Errors
/// Whatever `unlinkat(2)` says, but for `ENOENT`.
pub fn remove_at(dir: impl AsFd, path: &Path) -> Result<bool, PathError> {
    failpoint!("remove").doing("remove", path)?;
    match fs::unlinkat(dir, path, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error).doing("remove", path),
    }
}

/// Makes a directory's entries durable.
///
/// # Errors
/// Whatever `open(2)` and `fsync(2)` say.
pub fn fsync_dir(dir: impl AsFd, path: &Path) -> Result<(), PathError> {
    failpoint!("fsync").doing("sync", path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = fs::openat(dir, path, flags, Mode::empty()).doing("open", path)?;
    fs::fsync(&fd).doing("sync", path)
}

/// Makes all that was written to the filesystem of `fd` durable.
///
/// # Errors
/// Whatever `syncfs(2)` says.
pub fn sync_filesystem(fd: impl AsFd, path: &Path) -> Result<(), PathError> {
    failpoint!("syncfs").doing("sync the filesystem of", path)?;
    fs::syncfs(fd).doing("sync the filesystem of", path)
}

/// The size in bytes of the regular file at `path`; nothing where there is none.
///
/// # Errors
/// Whatever `fstatat(2)` says, but for `ENOENT`.
pub fn file_size_at(dir: impl AsFd, path: impl AsRef<Path>) -> Result<Option<u64>, PathError> {
    let path = path.as_ref();
    let stat = match fs::statat(&dir, path, AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        stat => stat.doing("stat", path)?,
    };
    let is_file = fs::FileType::from_raw_mode(stat.st_mode).is_file();
    Ok(is_file.then_some(stat.st_size.try_into().unwrap_or_default()))
}

/// Bytes free to this user on the filesystem of `fd`.
///
/// # Errors
/// Whatever `fstatvfs(3)` says.
pub fn free_bytes(fd: impl AsFd, path: &Path) -> Result<u64, PathError> {
    let stat = fs::fstatvfs(fd).doing("ask the free space of", path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Whether `file` is one that nobody but us can have changed behind its name:
/// a regular file of our own with a single link.
///
/// # Errors
/// Whatever `fstat(2)` says.
pub fn trusted_owner(file: &File, size: u64) -> io::Result<bool> {
    let stat = fs::fstat(file)?;
    let regular = fs::FileType::from_raw_mode(stat.st_mode).is_file();
    Ok(regular
        && stat.st_uid == rustix::process::geteuid().as_raw()
        && stat.st_nlink == 1
        && u64::try_from(stat.st_size) == Ok(size))
}

/// The name of an open file that works where a path is asked for.
pub(super) fn proc_path(fd: &impl AsFd) -> String {
    let fd: BorrowedFd<'_> = fd.as_fd();
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The names in a directory below `dir`, `.` and `..` left out, unsorted;
/// empty where there is no such directory.
pub fn names_in(dir: impl AsFd, path: &Path) -> Result<Vec<OsString>, PathError> {
    let entries = entries_in(dir, path)?;
    entries.map(|entry| Ok(name_of(&entry?))).collect()
}

/// The names of the regular files in a directory below `dir`, as far as the directory
/// itself says what they are: no inode of theirs is read. `None` where it has more
/// than `most` entries; empty where there is no such directory.
pub fn file_names_in(
    dir: impl AsFd,
    path: &Path,
    most: usize,
) -> Result<Option<HashSet<OsString>>, PathError> {
    let mut names = HashSet::new();
    for (number, entry) in entries_in(dir, path)?.enumerate() {
        if number == most {
            return Ok(None);
        }
        let entry = entry?;
        if entry.file_type().is_file() {
            names.insert(name_of(&entry));
        }
    }
    Ok(Some(names))
}

fn entries_in(
    dir: impl AsFd,
    path: &Path,
) -> Result<impl Iterator<Item = Result<fs::DirEntry, PathError>>, PathError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let entries = match fs::openat(dir, path, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => None,
        fd => Some(entries_of(fd.doing("open", path)?, "read", path)?),
    };
    Ok(entries.into_iter().flatten())
}

/// The entries of the directory at `path`, `.` and `..` left out; errors say that
/// `verb` failed.
pub(super) fn entries_of(
    directory: OwnedFd,
    verb: &'static str,
    path: &Path,
) -> Result<impl Iterator<Item = Result<fs::DirEntry, PathError>>, PathError> {
    let entries = fs::Dir::new(directory).doing(verb, path)?;
    let entries = entries.map(move |entry| entry.doing(verb, path));
    Ok(entries.filter(|entry| !entry.as_ref().is_ok_and(is_self_or_parent)))
}

fn is_self_or_parent(entry: &fs::DirEntry) -> bool {
    matches!(entry.file_name().to_bytes(), b"." | b"..")
}

pub(super) fn name_of(entry: &fs::DirEntry) -> OsString {
    <OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(entry.file_name().to_bytes()).to_owned()
}

/// A symlink that was found.
#[derive(Debug, Clone)]
pub struct Symlink {
    /// Where, relative to the directory that was looked through.
    pub path: PathBuf,
    /// What it says.
    pub target: OsString,
    /// When it was made; never before 1970.
    pub modified: SystemTime,
}

/// All symlinks below `path`, however deep, unsorted; none where there is no
/// such directory.
///
/// # Errors
/// Whatever reading says, and something that is neither symlink nor directory.
pub fn symlinks_below(dir: impl AsFd, path: &Path) -> Result<Vec<Symlink>, PathError> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for name in names_in(&dir, &path.join(&folder))? {
            let below = folder.join(name);
            let at = path.join(&below);
            let stat = match fs::statat(&dir, &at, AtFlags::SYMLINK_NOFOLLOW) {
                // Somebody has just removed it.
                Err(rustix::io::Errno::NOENT) => continue,
                stat => stat.doing("stat", &at)?,
            };
            if fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
                folders.push(below);
                continue;
            }
            // Anything else is EINVAL here.
            let target = match fs::readlinkat(&dir, &at, Vec::new()) {
                Err(rustix::io::Errno::NOENT) => continue,
                target => target.doing("read symlink", &at)?,
            };
            let seconds = u64::try_from(stat.st_mtime).unwrap_or_default();
            found.push(Symlink {
                path: below,
                target: OsString::from_vec(target.into_bytes()),
                modified: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            });
        }
    }
    Ok(found)
}

/// The handle that stands for the current directory.
pub fn current_dir() -> BorrowedFd<'static> {
    fs::CWD
}

/// Creates an empty file below `dir`, mode 0644 whatever the umask.
///
/// # Errors
/// Whatever `openat(2)` and `fchmod(2)` say.
pub fn create_file_at(dir: impl AsFd, path: &Path) -> Result<(), PathError> {
    write_file_at(dir, path, b"")
}

/// Creates a file below `dir` for writing, mode 0600 where the umask says no more.
///
/// # Errors
/// Whatever `openat(2)` says; `EEXIST` for whatever is there, also a link.
pub fn create_new_at(dir: impl AsFd, path: &Path) -> Result<File, PathError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let fd = fs::openat(dir, path, flags, Mode::from_raw_mode(0o600)).doing("create", path)?;
    Ok(File::from(fd))
}

/// Creates a file below `dir` with these bytes, mode 0644 whatever the umask.
///
/// # Errors
/// Whatever `openat(2)`, `fchmod(2)` and `write(2)` say.
pub fn write_file_at(dir: impl AsFd, path: &Path, bytes: &[u8]) -> Result<(), PathError> {
    failpoint!("create file").doing("create", path)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let fd = fs::openat(dir, path, flags, mode).doing("create", path)?;
    fs::fchmod(&fd, mode).doing("change the mode of", path)?;
    write_all!("write file", &mut File::from(fd), bytes).doing("write", path)
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
