//! The kernel's messages, from a moment on.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
};

/// A place in the kernel's log.
#[derive(Debug)]
pub struct Kmsg(File);

impl Kmsg {
    /// From now on.
    pub fn now() -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self(file))
    }

    /// What was said since. Each read takes one record,
    /// `level,sequence,time,flags;text`.
    pub fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut buffer = [0; 8192];
        while let Ok(length) = self.0.read(&mut buffer) {
            if length == 0 || lines.len() == 40 {
                break;
            }
            let record = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let text = record
                .split_once(';')
                .map_or(record.as_str(), |(_, text)| text);
            lines.extend(text.lines().take(1).map(str::to_owned));
        }
        lines
    }
}
