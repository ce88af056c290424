//! Files that are in memory only.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsRawFd,
    path::PathBuf,
};

use rustix::fs::{MemfdFlags, Mode, SealFlags, fchmod, fcntl_add_seals, memfd_create};

/// A file that is in no folder and ends with this process (`memfd_create(2)`),
/// for children that want a path.
#[derive(Debug)]
pub struct MemoryFile(File);

impl MemoryFile {
    /// One that holds `bytes` and cannot be changed; `name` shows in `/proc`
    /// only.
    ///
    /// # Errors
    /// The system's: no more file descriptors or memory.
    pub fn new(name: &str, bytes: &[u8]) -> io::Result<Self> {
        let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        fchmod(&fd, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(fd);
        file.write_all(bytes)?;
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(&file, seals)?;
        Ok(Self(file))
    }

    /// Its path for other processes of this user, as long as this lives; those
    /// of another user cannot follow it.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }
}
