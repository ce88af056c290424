//! From a tar-split and the files to the tar.

use std::io::{self, Read, Write};

use super::{Crc64, TarSplitError, TarSplitItem, TarSplitReader};

/// Why a tar cannot be put together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReassembleError {
    /// The tar-split is corrupt.
    #[error(transparent)]
    TarSplit(#[from] TarSplitError),
    /// A file could not be opened or read.
    #[error("read the layer's file {name:?}")]
    File {
        /// Its name in the tar.
        name: String,
        /// What happened.
        source: io::Error,
    },
    /// A file of another size than the tar's.
    #[error("the layer's file {name:?} is {longer_or_shorter} than the {size} bytes in its tar")]
    Size {
        /// Its name in the tar.
        name: String,
        /// The size in the tar.
        size: u64,
        /// `longer` or `shorter`.
        longer_or_shorter: &'static str,
    },
    /// A file with other bytes than the tar's.
    #[error("the layer's file {name:?} has the CRC64 {found:016x}, its tar {expected:016x}")]
    Checksum {
        /// Its name in the tar.
        name: String,
        /// What the tar-split says.
        expected: u64,
        /// What its bytes are.
        found: u64,
    },
    /// The tar could not be written.
    #[error("write the layer's tar")]
    Write(#[source] io::Error),
}

/// Puts a layer's tar together: `open_file` is called with the name (as the
/// tar has it: hostile) and size of each file that has content. Returns the
/// tar's length.
///
/// CRC64 is no cryptographic hash: whoever must know that it is the right
/// tar hashes `out` and compares the DiffID.
///
/// # Errors
/// A corrupt tar-split, and files that are missing or not those of the tar.
pub fn reassemble<S: Read, R: Read>(
    reader: TarSplitReader<S>,
    mut open_file: impl FnMut(&[u8], u64) -> io::Result<R>,
    mut out: impl Write,
) -> Result<u64, ReassembleError> {
    let mut length = 0;
    let mut buffer = vec![0; 64 << 10];
    for item in reader {
        match item? {
            TarSplitItem::Segment(bytes) => {
                out.write_all(&bytes).map_err(ReassembleError::Write)?;
                length += bytes.len() as u64;
            }
            TarSplitItem::File { size: 0, .. } => {}
            TarSplitItem::File { name, size, crc64 } => {
                let mut file =
                    open_file(&name, size).map_err(|source| file_error(&name, source))?;
                copy_file(&name, size, crc64, &mut file, &mut out, &mut buffer)?;
                length += size;
            }
        }
    }
    Ok(length)
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn file_error(name: &[u8], source: io::Error) -> ReassembleError {
    let name = text(name);
    ReassembleError::File { name, source }
}

fn copy_file(
    name: &[u8],
    size: u64,
    expected: u64,
    file: &mut impl Read,
    out: &mut impl Write,
    buffer: &mut [u8],
) -> Result<(), ReassembleError> {
    let wrong_size = |longer_or_shorter| ReassembleError::Size {
        name: text(name),
        size,
        longer_or_shorter,
    };
    let mut crc = Crc64::new();
    let mut left = size;
    loop {
        let read = match file.read(buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(file_error(name, source)),
        };
        if read == 0 {
            break;
        }
        left = left
            .checked_sub(read as u64)
            .ok_or_else(|| wrong_size("longer"))?;
        crc.update(&buffer[..read]);
        out.write_all(&buffer[..read])
            .map_err(ReassembleError::Write)?;
    }
    if left > 0 {
        return Err(wrong_size("shorter"));
    }
    let found = crc.finish();
    if found != expected {
        return Err(ReassembleError::Checksum {
            name: text(name),
            expected,
            found,
        });
    }
    Ok(())
}
