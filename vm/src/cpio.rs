//! The `newc` form of cpio, as `initramfs` takes it
//! (Linux, `driver-api/early-userspace/buffer-format.rst`).

use std::io::{self, Write};

const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const CHAR_DEVICE: u32 = 0o020_000;

/// Writes an archive.
#[derive(Debug)]
pub(crate) struct Cpio<W> {
    to: W,
    inode: u32,
}

impl<W: Write> Cpio<W> {
    pub(crate) fn new(to: W) -> Self {
        Self { to, inode: 0 }
    }

    pub(crate) fn directory(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, DIRECTORY | 0o755, (0, 0), &[])
    }

    pub(crate) fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.entry(name, FILE | mode, (0, 0), content)
    }

    pub(crate) fn char_device(&mut self, name: &str, number: (u32, u32)) -> io::Result<()> {
        self.entry(name, CHAR_DEVICE | 0o600, number, &[])
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn entry(&mut self, name: &str, mode: u32, rdev: (u32, u32), content: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let number = |length: usize| {
            u32::try_from(length).map_err(|_| io::Error::other(format!("{name} is too large")))
        };
        let fields = [
            self.inode,
            mode,
            0,
            0,
            1,
            0,
            number(content.len())?,
            0,
            0,
            rdev.0,
            rdev.1,
            number(name.len() + 1)?,
            0,
        ];
        self.to.write_all(b"070701")?;
        for field in fields {
            write!(self.to, "{field:08x}")?;
        }
        self.to.write_all(name.as_bytes())?;
        self.to.write_all(&[0])?;
        // The header has 110 bytes.
        self.pad(110 + name.len() + 1)?;
        self.to.write_all(content)?;
        self.pad(content.len())
    }

    fn pad(&mut self, length: usize) -> io::Result<()> {
        self.to.write_all(&[0; 3][..length.wrapping_neg() % 4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned() {
        let mut cpio = Cpio::new(Vec::new());
        cpio.directory("a").expect("written");
        cpio.file("a/b", 0o644, b"12345").expect("written");
        let bytes = cpio.finish().expect("written");
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let second = 110 + 2;
        assert_eq!(&text[second..second + 6], "070701");
        assert_eq!(&text[second + 6 + 48..second + 6 + 56], "00000005");
        assert!(text.contains("TRAILER!!!\0"));
    }
}
