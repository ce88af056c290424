//! Reading tar-split, ours and other people's.

use std::{
    borrow::Cow,
    io::{self, BufRead, BufReader, Read},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use super::{FILE, SEGMENT};

/// Longest line that is read: 12 MiB of literal bytes. The largest that
/// containers-storage writes hold one header with its PAX records, 1 MiB each.
const LINE_MAX: u64 = 16 << 20;

/// One piece of a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TarSplitItem {
    /// Literal bytes.
    Segment(Vec<u8>),
    /// An entry, in the place of its content.
    File {
        /// The name as the tar has it; hostile until parsed.
        name: Vec<u8>,
        /// How many bytes of the tar are to be read from the tree: 0 also for
        /// sparse files, whose bytes are segments.
        size: u64,
        /// Their checksum; 0 where there are none.
        crc64: u64,
    },
}

/// Why a tar-split cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarSplitError {
    /// The gzip is corrupt, or reading it failed.
    #[error("decompress the tar-split after line {line}")]
    Io {
        /// Lines read before.
        line: u64,
        /// What happened.
        source: io::Error,
    },
    /// More than was allowed for.
    #[error("the tar-split is larger than {limit} bytes uncompressed")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// A line out of bounds.
    #[error("line {line} of the tar-split is longer than {LINE_MAX} bytes")]
    LineTooLong {
        /// Which.
        line: u64,
    },
    /// A line that is not a tar-split entry.
    #[error("parse line {line} of the tar-split")]
    Json {
        /// Which.
        line: u64,
        /// Where in the line.
        source: serde_json::Error,
    },
    /// Bytes that are not base64.
    #[error("decode the base64 in line {line} of the tar-split")]
    Base64 {
        /// Which.
        line: u64,
        /// Where.
        source: base64::DecodeError,
    },
    /// A type that tar-split does not define.
    #[error("line {line} of the tar-split has the type {found}, not 1 or 2")]
    UnknownType {
        /// Which.
        line: u64,
        /// The type.
        found: u64,
    },
    /// Lines lost, added or moved.
    #[error("line {line} of the tar-split has the position {found}, not {expected}")]
    Position {
        /// Which.
        line: u64,
        /// What comes next.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// A checksum that is not 8 bytes long.
    #[error("line {line} of the tar-split has a checksum of {length} bytes, not 8")]
    Checksum {
        /// Which.
        line: u64,
        /// How many bytes.
        length: usize,
    },
}

#[derive(Deserialize)]
struct Line<'a> {
    r#type: u64,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    name_raw: Option<Cow<'a, str>>,
    #[serde(default)]
    size: Option<u64>,
    #[serde(borrow, default)]
    payload: Option<Cow<'a, str>>,
    #[serde(default)]
    position: u64,
}

/// Reads a `tar-split.gz`, item by item, with bounded memory.
///
/// After an error it yields nothing more.
pub struct TarSplitReader<R> {
    lines: BufReader<io::Take<MultiGzDecoder<R>>>,
    limit: u64,
    line: Vec<u8>,
    number: u64,
    position: u64,
    done: bool,
}

impl<R: Read> TarSplitReader<R> {
    /// How much is decompressed if nothing else is said: enough for some five
    /// million entries.
    pub const DEFAULT_LIMIT: u64 = 4 << 30;

    /// Reads the gzip in `reader`.
    pub fn new(reader: R) -> Self {
        Self::with_limit(reader, Self::DEFAULT_LIMIT)
    }

    /// Reads the gzip in `reader`, at most `limit` bytes uncompressed.
    pub fn with_limit(reader: R, limit: u64) -> Self {
        // One byte more than the limit tells a file of that size from a
        // larger one.
        let plain = MultiGzDecoder::new(reader).take(limit.saturating_add(1));
        Self {
            lines: BufReader::with_capacity(64 << 10, plain),
            limit,
            line: Vec::new(),
            number: 0,
            position: 0,
            done: false,
        }
    }

    fn read(&mut self) -> Result<Option<TarSplitItem>, TarSplitError> {
        loop {
            self.line.clear();
            let io = |source| TarSplitError::Io {
                line: self.number,
                source,
            };
            let mut line = (&mut self.lines).take(LINE_MAX + 1);
            let length = line.read_until(b'\n', &mut self.line).map_err(io)?;
            if self.lines.get_ref().limit() == 0 {
                return Err(TarSplitError::TooLarge { limit: self.limit });
            }
            if length == 0 {
                return Ok(None);
            }
            self.number += 1;
            if length as u64 > LINE_MAX {
                return Err(TarSplitError::LineTooLong { line: self.number });
            }
            if !self.line.trim_ascii().is_empty() {
                return self.parse().map(Some);
            }
        }
    }

    fn parse(&mut self) -> Result<TarSplitItem, TarSplitError> {
        let line = self.number;
        let json = |source| TarSplitError::Json { line, source };
        let decode = |text: Option<Cow<'_, str>>| {
            STANDARD
                .decode(text.as_deref().unwrap_or_default())
                .map_err(|source| TarSplitError::Base64 { line, source })
        };
        let entry: Line<'_> = serde_json::from_slice(&self.line).map_err(json)?;
        if entry.position != self.position {
            return Err(TarSplitError::Position {
                line,
                expected: self.position,
                found: entry.position,
            });
        }
        self.position += 1;
        match entry.r#type {
            SEGMENT => Ok(TarSplitItem::Segment(decode(entry.payload)?)),
            FILE => {
                let mut name = decode(entry.name_raw)?;
                if name.is_empty() {
                    name = entry.name.unwrap_or_default().into_owned().into_bytes();
                }
                let size = entry.size.unwrap_or_default();
                let crc64 = match size {
                    0 => 0,
                    _ => {
                        let bytes = decode(entry.payload)?;
                        let length = bytes.len();
                        let bytes = <[u8; 8]>::try_from(bytes)
                            .map_err(|_| TarSplitError::Checksum { line, length })?;
                        u64::from_be_bytes(bytes)
                    }
                };
                Ok(TarSplitItem::File { name, size, crc64 })
            }
            found => Err(TarSplitError::UnknownType { line, found }),
        }
    }
}

impl<R: Read> Iterator for TarSplitReader<R> {
    type Item = Result<TarSplitItem, TarSplitError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.read().transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}

impl<R> std::fmt::Debug for TarSplitReader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TarSplitReader")
            .field("line", &self.number)
            .finish_non_exhaustive()
    }
}
