//! Writing tar-split.

use std::io::{self, Write};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{FILE, SEGMENT, gzip::GzipWriter};

/// No line holds more literal bytes than this.
const SEGMENT_MAX: usize = 1 << 20;

/// Writes a `tar-split.gz`, with bounded memory.
///
/// Fed with all bytes of a tar in order: [`segment`] for those that it keeps,
/// [`file`] in the place of a file's content. The output is a function of the
/// tar's bytes and of where its files lie, not of how segments are cut.
///
/// podman refuses two files of one path (after Go's `filepath.Clean`): of an
/// entry that a later one replaces, the content must be given as a segment and
/// the entry not as a file.
///
/// [`segment`]: TarSplitWriter::segment
/// [`file`]: TarSplitWriter::file
pub struct TarSplitWriter<W: Write> {
    gzip: GzipWriter<W>,
    segment: Vec<u8>,
    position: u64,
}

impl<W: Write> TarSplitWriter<W> {
    /// Starts a tar-split.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(out: W) -> io::Result<Self> {
        Ok(Self {
            gzip: GzipWriter::new(out)?,
            segment: Vec::new(),
            position: 0,
        })
    }

    /// Adds literal bytes of the tar.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn segment(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let space = SEGMENT_MAX - self.segment.len();
            let (now, later) = bytes.split_at(bytes.len().min(space));
            self.segment.extend_from_slice(now);
            bytes = later;
            if self.segment.len() == SEGMENT_MAX {
                self.flush_segment()?;
            }
        }
        Ok(())
    }

    /// Adds the entry `name`, whose header was the last segment, and of which
    /// `size` bytes with this checksum are to be read from the tree.
    ///
    /// `size` is 0, and the checksum does not matter, for entries without
    /// content and for sparse files, whose stored bytes follow as segments.
    ///
    /// # Errors
    /// Those of `out`; a size that Go's int64 cannot hold.
    pub fn file(&mut self, name: &[u8], size: u64, crc64: u64) -> io::Result<()> {
        if i64::try_from(size).is_err() {
            let error = format!("a file of {size} bytes has no place in a tar-split");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        self.flush_segment()?;
        let name = match std::str::from_utf8(name) {
            Ok(name) => format!(r#""name":{}"#, serde_json::to_string(name)?),
            Err(_) => format!(r#""name_raw":"{}""#, STANDARD.encode(name)),
        };
        let position = self.position;
        let line = match size {
            0 => format!(r#"{{"type":{FILE},{name},"payload":null,"position":{position}}}"#),
            _ => {
                let payload = STANDARD.encode(crc64.to_be_bytes());
                format!(
                    r#"{{"type":{FILE},{name},"size":{size},"payload":"{payload}","position":{position}}}"#
                )
            }
        };
        self.position += 1;
        self.gzip.write(line.as_bytes())?;
        self.gzip.write(b"\n")
    }

    /// Writes what is left and hands `out` back, not flushed.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush_segment()?;
        self.gzip.finish()
    }

    fn flush_segment(&mut self) -> io::Result<()> {
        if self.segment.is_empty() {
            return Ok(());
        }
        self.gzip
            .write(format!(r#"{{"type":{SEGMENT},"payload":""#).as_bytes())?;
        // A multiple of three, so that only the last piece is padded.
        let mut text = [0; 4096];
        for piece in self.segment.chunks(3072) {
            let length = STANDARD
                .encode_slice(piece, &mut text)
                .map_err(io::Error::other)?;
            self.gzip.write(&text[..length])?;
        }
        let position = self.position;
        self.gzip
            .write(format!("\",\"position\":{position}}}\n").as_bytes())?;
        self.position += 1;
        self.segment.clear();
        Ok(())
    }
}

impl<W: Write> std::fmt::Debug for TarSplitWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TarSplitWriter")
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
