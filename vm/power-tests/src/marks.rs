//! Marks: what the deployments may have from a moment on, in the disk's own
//! stream of writes. They lie behind the filesystem and are written past every
//! cache, without a flush: they make nothing durable that was not.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use anyhow::{Context as _, Result};
use rustix::fs::OFlags;

/// Where they are: `vm/src/power/log.rs` looks there.
const OFFSET: u64 = 511 << 20;
const BLOCK: usize = 4096;

/// Writes marks, and tells the host that it did.
#[derive(Debug)]
pub struct Marks {
    disk: File,
    port: File,
}

impl Marks {
    /// On this disk.
    pub fn open(disk: &Path) -> Result<Self> {
        let direct = i32::try_from(OFlags::DIRECT.bits())?;
        let opened = OpenOptions::new()
            .write(true)
            .custom_flags(direct)
            .open(disk);
        Ok(Self {
            disk: opened.with_context(|| format!("open {}", disk.display()))?,
            port: File::options().write(true).open("/dev/ttyS1")?,
        })
    }

    /// From here on the deployments have what `allowed` says:
    /// `keep=v1 app=none,v2`.
    pub fn set(&mut self, allowed: &str) -> Result<()> {
        // What is written past the cache must be aligned.
        let mut buffer = vec![0; 2 * BLOCK];
        let skip = buffer.as_ptr().align_offset(BLOCK);
        let block = &mut buffer[skip..skip + BLOCK];
        block[..allowed.len()].copy_from_slice(allowed.as_bytes());
        self.disk
            .write_all_at(block, OFFSET)
            .context("write a mark")?;
        writeln!(self.port, "MARK {allowed}").context("tell of a mark")
    }
}
