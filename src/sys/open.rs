//! Reading files of a tree that somebody else wrote, without leaving it.
//!
//! A path here is resolved as if `root` were `/`: absolute links and `..` stay
//! inside, and links of `/proc` (`fd/3`, `exe`) are not followed at all.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2, readlinkat},
    io::Errno,
};

use super::file::{entries_of, name_of};
use crate::error::{Below, Doing, PathError};

/// Why a file inside a root was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadInRootError {
    /// The system refused: missing, dangling, a loop of links, no permission.
    #[error(transparent)]
    Io(#[from] PathError),
    /// The path leads to something that is no regular file.
    #[error("{} is {found}, not a regular file", path.display())]
    NotRegular {
        /// The path, as it was asked for.
        path: PathBuf,
        /// What it leads to.
        found: &'static str,
    },
    /// The file is longer than the caller reads.
    #[error("{} is larger than {limit_bytes} bytes", path.display())]
    TooLarge {
        /// The path, as it was asked for.
        path: PathBuf,
        /// The most that is read.
        limit_bytes: u64,
    },
}

/// Reads the regular file at `path` inside `root`, of at most `limit_bytes`.
///
/// The tree may be hostile: no link leads out of `root`, a fifo does not make
/// this wait, a device is not opened, and a file that grows while it is read is
/// not read beyond the limit.
///
/// # Errors
/// [`ReadInRootError`]; a kernel without openat2 (before 5.6) is an `Io`.
pub fn read_in_root(
    root: BorrowedFd<'_>,
    path: &Path,
    limit_bytes: u64,
) -> Result<Vec<u8>, ReadInRootError> {
    // Opening a device node can already do something (a watchdog, a tape), so
    // the first look is at the name only.
    let seen = open_in_root(root, path, OFlags::PATH).doing("open", path)?;
    expect_regular(&seen, path)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = open_in_root(root, path, flags).doing("open", path)?;
    expect_regular(&file, path)?;

    let mut bytes = Vec::new();
    File::from(file)
        .take(limit_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .doing("read", path)?;
    if bytes.len() as u64 > limit_bytes {
        return Err(ReadInRootError::TooLarge {
            path: path.to_owned(),
            limit_bytes,
        });
    }
    Ok(bytes)
}

/// The target of the symbolic link at `path` inside `root`, as it is written;
/// nothing where `path` is no symbolic link.
///
/// # Errors
/// The system's, as verb and path.
pub fn read_link_in_root(root: BorrowedFd<'_>, path: &Path) -> Result<Option<PathBuf>, PathError> {
    let link = open_in_root(root, path, OFlags::PATH | OFlags::NOFOLLOW).doing("open", path)?;
    if file_type(&link).doing("stat", path)? != FileType::Symlink {
        return Ok(None);
    }
    let target = readlinkat(&link, "", Vec::new()).doing("read link", path)?;
    let target = OsString::from_vec(target.into_bytes());
    Ok(Some(target.into()))
}

/// The names in the directory at `path` inside `root`, sorted bytewise, without
/// `.` and `..`; nothing where there is no such directory.
///
/// A link to nowhere in its place is an error, not an absent directory.
///
/// # Errors
/// The system's, as verb and path.
pub fn read_dir_names_in_root(
    root: BorrowedFd<'_>,
    path: &Path,
) -> Result<Option<Vec<OsString>>, PathError> {
    let directory = match open_in_root(root, path, OFlags::RDONLY | OFlags::DIRECTORY) {
        Err(Errno::NOENT) if open_in_root(root, path, OFlags::PATH | OFlags::NOFOLLOW).is_err() => {
            return Ok(None);
        }
        opened => opened.doing("open directory", path)?,
    };
    let entries = entries_of(directory, "read directory", path)?;
    let names = entries.map(|entry| Ok(name_of(&entry?)));
    let mut names = names.collect::<Result<Vec<_>, PathError>>()?;
    names.sort();
    Ok(Some(names))
}

/// A number that tells folders of a root apart: links and mounts can show one
/// under several paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FolderId(u64, u64);

/// The folder at `path` inside `root`; nothing where there is none, or
/// something else.
///
/// # Errors
/// The system's, as verb and path.
pub fn folder_in_root(root: BorrowedFd<'_>, path: &Path) -> Result<Option<FolderId>, PathError> {
    match open_in_root(root, path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        opened => {
            let stat = opened.and_then(fstat).doing("open folder", path)?;
            Ok(Some(FolderId(stat.st_dev, stat.st_ino)))
        }
    }
}

/// Writes the file at `path` inside `root`, mode 0644, in place of what is there:
/// readers see the old bytes or the new. Its folder is made where it is not there.
///
/// # Errors
/// The system's, as verb and path.
pub fn write_in_root(root: BorrowedFd<'_>, path: &Path, bytes: &[u8]) -> Result<(), PathError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let open = || open_in_root(root, folder, OFlags::RDONLY | OFlags::DIRECTORY);
    let opened = match open() {
        Err(Errno::NOENT) => {
            super::create_dir_all_at(root, folder)?;
            open()
        }
        opened => opened,
    };
    let opened = opened.doing("open directory", folder)?;
    let name = Path::new(path.file_name().unwrap_or_default());
    let mut temporary = name.as_os_str().to_owned();
    temporary.push(format!("~{}", std::process::id()));
    let temporary = Path::new(&temporary);
    super::remove_at(&opened, temporary).below(folder)?;
    super::write_file_at(&opened, temporary, bytes).below(folder)?;
    super::rename_at(&opened, temporary, name).below(folder)
}

fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // Under RESOLVE_IN_ROOT the kernel gives up with EAGAIN when something was
    // renamed or mounted meanwhile and it cannot tell whether `..` escaped.
    let mut tries = 0;
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < 128 => tries += 1,
            result => return result,
        }
    }
}

fn file_type(fd: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode))
}

fn expect_regular(fd: &OwnedFd, path: &Path) -> Result<(), ReadInRootError> {
    let found = match file_type(fd).doing("stat", path)? {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "a directory",
        FileType::Fifo => "a fifo",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "of another kind",
    };
    Err(ReadInRootError::NotRegular {
        path: path.to_owned(),
        found,
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::AsFd, os::unix::fs::symlink};

    use super::*;

    fn root() -> (tempfile::TempDir, File) {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("secret"), "outside").unwrap();
        fs::create_dir_all(outer.path().join("root/etc")).unwrap();
        let root = File::open(outer.path().join("root")).unwrap();
        (outer, root)
    }

    #[test]
    fn what_is_written_stays_inside() {
        let (outer, root) = root();
        let write = |path: &str| write_in_root(root.as_fd(), Path::new(path), b"new");
        for path in ["etc/a", "etc/a", "x/y/z"] {
            write(path).unwrap();
            assert_eq!(
                fs::read(outer.path().join("root").join(path)).unwrap(),
                b"new"
            );
        }
        // A link out of it, as the file and as its folder.
        symlink(outer.path().join("secret"), outer.path().join("root/etc/b")).unwrap();
        write("etc/b").unwrap();
        symlink(outer.path(), outer.path().join("root/out")).unwrap();
        assert!(write("out/secret").is_err());
        symlink("../..", outer.path().join("root/up")).unwrap();
        write("up/c").unwrap();
        assert!(outer.path().join("root/c").exists());
        assert_eq!(fs::read(outer.path().join("secret")).unwrap(), b"outside");
        let left = fs::read_dir(outer.path().join("root/etc")).unwrap();
        assert_eq!(left.count(), 2);
    }

    fn read(root: &File, path: &str) -> Result<Vec<u8>, ReadInRootError> {
        read_in_root(root.as_fd(), Path::new(path), 8)
    }

    #[test]
    fn links_stay_inside() {
        let (outer, root) = root();
        let path = outer.path().join("root");
        fs::write(path.join("etc/passwd"), "inside").unwrap();
        for (name, target) in [
            ("absolute", "/etc/passwd"),
            ("dots", "../../../../../../etc/passwd"),
            ("chain", "absolute"),
        ] {
            symlink(target, path.join(name)).unwrap();
            assert_eq!(read(&root, name).unwrap(), b"inside", "{name}");
            let link = read_link_in_root(root.as_fd(), Path::new(name)).unwrap();
            assert_eq!(link.unwrap(), Path::new(target));
        }
        assert_eq!(read(&root, "/etc/passwd").unwrap(), b"inside");
        assert_eq!(read(&root, "../etc/passwd").unwrap(), b"inside");
        let plain = read_link_in_root(root.as_fd(), Path::new("etc/passwd")).unwrap();
        assert_eq!(plain, None);

        symlink("../secret", path.join("escape")).unwrap();
        symlink(outer.path().join("secret"), path.join("outside")).unwrap();
        for name in ["escape", "outside", "../secret"] {
            let ReadInRootError::Io(error) = read(&root, name).unwrap_err() else {
                panic!("{name} was found");
            };
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{name}");
        }
    }

    #[test]
    fn links_of_proc_are_not_followed() {
        let proc = File::open("/proc").unwrap();
        let error = read(&proc, "self/exe").unwrap_err();
        let ReadInRootError::Io(error) = error else {
            panic!("{error}");
        };
        assert_eq!(
            error.source.raw_os_error(),
            Some(Errno::LOOP.raw_os_error())
        );
    }

    #[test]
    fn only_regular_files_up_to_the_limit() {
        let (outer, root) = root();
        let path = outer.path().join("root");
        rustix::fs::mkfifoat(&root, "fifo", Mode::RUSR | Mode::WUSR).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap();
        for (name, found) in [("etc", "directory"), ("fifo", "fifo"), ("socket", "socket")] {
            let text = read(&root, name).unwrap_err().to_string();
            assert!(text.contains(found), "{text}");
        }
        let dev = File::open("/dev").unwrap();
        let text = read(&dev, "zero").unwrap_err().to_string();
        assert!(text.contains("device"), "{text}");

        fs::write(path.join("just"), "12345678").unwrap();
        fs::write(path.join("over"), "123456789").unwrap();
        assert_eq!(read(&root, "just").unwrap().len(), 8);
        assert!(matches!(
            read(&root, "over"),
            Err(ReadInRootError::TooLarge { limit_bytes: 8, .. })
        ));
    }

    #[test]
    fn names_are_sorted_and_a_dangling_directory_is_an_error() {
        let (outer, root) = root();
        let path = outer.path().join("root");
        let names = |name: &str| read_dir_names_in_root(root.as_fd(), Path::new(name));
        assert_eq!(names("none/at/all").unwrap(), None);
        for name in ["b", "a", "C"] {
            fs::write(path.join("etc").join(name), "").unwrap();
        }
        assert_eq!(names("etc").unwrap().unwrap(), ["C", "a", "b"]);
        symlink("/etc", path.join("link")).unwrap();
        assert_eq!(names("link").unwrap().unwrap().len(), 3);
        symlink("/nowhere", path.join("dangling")).unwrap();
        assert!(names("dangling").is_err());
        assert!(names("etc/a").is_err());
    }
}
