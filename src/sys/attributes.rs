//! Making files that have exactly the attributes they should have.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::fs::{
    self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags,
};

use crate::{
    error::{Doing, PathError},
    name::Mtime,
};

/// What a file is to have besides its content.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last modification.
    pub mtime: Mtime,
    /// Extended attributes: full name to value.
    pub xattrs: &'a BTreeMap<Box<[u8]>, Box<[u8]>>,
}

/// A file that is neither regular nor a directory.
#[derive(Debug, Clone, Copy)]
pub enum Special<'a> {
    /// A symbolic link and its target.
    Symlink(&'a [u8]),
    /// A character device, major and minor number.
    CharDevice(u32, u32),
    /// A block device, major and minor number.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

/// Creates the directory `name` in `dir`, mode 0700, and opens it.
///
/// # Errors
/// Whatever `mkdirat(2)` and `openat(2)` say; `EEXIST` for whatever is there.
pub fn create_dir_in(dir: impl AsFd, name: &Path) -> Result<OwnedFd, PathError> {
    fs::mkdirat(&dir, name, Mode::RWXU).doing("create directory", name)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(&dir, name, flags, Mode::empty()).doing("open", name)
}

/// Takes a directory's default access list away, which all that is made in it
/// would inherit.
///
/// # Errors
/// Whatever `fremovexattr(2)` says, but for there being none.
pub fn remove_default_acl(dir: impl AsFd, path: &Path) -> Result<(), PathError> {
    use rustix::io::Errno;
    match fs::fremovexattr(dir, "system.posix_acl_default") {
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        removed => removed.doing("remove the default access list of", path),
    }
}

/// Opens the directory that `dir` is in: so a tree of any depth is walked with
/// one handle.
///
/// # Errors
/// Whatever `openat(2)` says.
pub fn open_parent(dir: impl AsFd) -> Result<OwnedFd, PathError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fs::openat(dir, "..", flags, Mode::empty()).doing("open", "..")
}

/// Gives an open file or directory its attributes.
///
/// # Errors
/// Whatever the system says, and a time that the filesystem does not keep.
pub fn set_attributes(file: impl AsFd, of: Attributes<'_>) -> Result<(), PathError> {
    let here = Path::new("");
    // A new owner takes setuid and capabilities away: it comes first.
    fs::fchown(&file, uid(of.uid), gid(of.gid)).doing("change the owner of", here)?;
    fs::fchmod(&file, Mode::from_raw_mode(of.mode)).doing("change the mode of", here)?;
    for (name, value) in of.xattrs {
        fs::fsetxattr(&file, &**name, value, XattrFlags::empty())
            .doing("set an extended attribute of", here)?;
    }
    fs::futimens(&file, &times(of.mtime)).doing("set the time of", here)?;
    expect_mtime(fs::fstat(&file), of.mtime).doing("set the time of", here)
}

/// Creates `name` in `dir`, with its attributes.
///
/// # Errors
/// Whatever the system says; `EPERM` where devices need a privilege.
pub fn create_special(
    dir: impl AsFd,
    name: &Path,
    special: Special<'_>,
    of: Attributes<'_>,
) -> Result<(), PathError> {
    let node = |kind, major, minor| {
        let device = fs::makedev(major, minor);
        fs::mknodat(&dir, name, kind, Mode::RUSR, device)
    };
    match special {
        Special::Symlink(target) => fs::symlinkat(target, &dir, name),
        Special::CharDevice(major, minor) => node(FileType::CharacterDevice, major, minor),
        Special::BlockDevice(major, minor) => node(FileType::BlockDevice, major, minor),
        Special::Fifo => node(FileType::Fifo, 0, 0),
    }
    .doing("create", name)?;
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    fs::chownat(&dir, name, uid(of.uid), gid(of.gid), nofollow)
        .doing("change the owner of", name)?;
    if !matches!(special, Special::Symlink(_)) {
        let mode = Mode::from_raw_mode(of.mode);
        fs::chmodat(&dir, name, mode, AtFlags::empty()).doing("change the mode of", name)?;
    }
    // There is no lsetxattrat before Linux 6.13.
    let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_os_str().as_bytes());
    for (xattr, value) in of.xattrs {
        fs::lsetxattr(&*path, &**xattr, value, XattrFlags::empty())
            .doing("set an extended attribute of", name)?;
    }
    fs::utimensat(&dir, name, &times(of.mtime), nofollow).doing("set the time of", name)?;
    expect_mtime(fs::statat(&dir, name, nofollow), of.mtime).doing("set the time of", name)
}

/// Links the file at `first`, below `top`, to `name` in `dir` too.
///
/// # Errors
/// Whatever `openat(2)` and `linkat(2)` say.
pub fn link_in(top: impl AsFd, first: &Path, dir: impl AsFd, name: &Path) -> Result<(), PathError> {
    let file_name = Path::new(first.file_name().unwrap_or_default());
    let folder = folder_of(top, first)?;
    fs::linkat(&folder, file_name, dir, name, AtFlags::empty()).doing("link", name)
}

/// Opens the regular file at `path` below `top`, which may be longer than the
/// kernel takes in one go.
///
/// # Errors
/// Whatever `openat(2)` says.
pub fn open_deep(top: impl AsFd, path: &Path) -> Result<File, PathError> {
    let file_name = path.file_name().unwrap_or_default();
    super::open_file_at(folder_of(top, path)?, file_name)
}

/// The folder that `path`, below `top`, is in.
fn folder_of(top: impl AsFd, path: &Path) -> Result<OwnedFd, PathError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = fs::openat(top, ".", flags, Mode::empty()).doing("open", path)?;
    let mut folders = path.parent().into_iter().flat_map(Path::components);
    folders.try_fold(top, |dir, name| {
        fs::openat(dir, name.as_os_str(), flags, Mode::empty()).doing("open", path)
    })
}

fn uid(id: u32) -> Option<Uid> {
    Some(Uid::from_raw_unchecked(id))
}

fn gid(id: u32) -> Option<Gid> {
    Some(Gid::from_raw_unchecked(id))
}

fn times(mtime: Mtime) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.sec,
        tv_nsec: mtime.nsec.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Some filesystems keep whole seconds, or none before 1970, and say nothing.
fn expect_mtime(found: rustix::io::Result<fs::Stat>, mtime: Mtime) -> io::Result<()> {
    let found = found?;
    #[allow(
        clippy::useless_conversion,
        reason = "the types differ between machines"
    )]
    let kept = (
        i64::try_from(found.st_mtime),
        u32::try_from(found.st_mtime_nsec),
    );
    if kept == (Ok(mtime.sec), Ok(mtime.nsec)) {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        format!(
            "the filesystem does not keep the time {}.{:09}: use one that does (ext4, xfs, btrfs)",
            mtime.sec, mtime.nsec
        ),
    ))
}
