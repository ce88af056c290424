//! Named files of an image source: a folder, or a tar that is read in place.

use std::{fmt::Debug, io::Read};

use super::SourceError;
use crate::{
    document::{DOCUMENT_LIMIT_BYTES, Descriptor, DocumentError},
    error::Doing,
    name::BlobDigest,
    sys::RootDir,
};

/// A file, ready to be read once.
pub(super) struct OpenFile {
    pub(super) reader: Box<dyn Read + Send>,
    pub(super) size: u64,
}

/// The files of a layout or an archive, by their path inside it.
pub(super) trait Files: Debug + Send + Sync {
    /// Opens the regular file at `path`; nothing where there is none.
    fn open(&self, path: &str) -> Result<Option<OpenFile>, SourceError>;
}

impl Files for RootDir {
    fn open(&self, path: &str) -> Result<Option<OpenFile>, SourceError> {
        let file = self.open_file(path)?;
        Ok(file.map(|(file, size)| OpenFile {
            reader: Box::new(file.take(size)),
            size,
        }))
    }
}

/// Reads a whole document, at most [`DOCUMENT_LIMIT_BYTES`] of it.
pub(super) fn read_document(
    files: &dyn Files,
    path: &str,
    origin: &str,
) -> Result<Option<Vec<u8>>, SourceError> {
    let Some(file) = files.open(path)? else {
        return Ok(None);
    };
    if file.size > DOCUMENT_LIMIT_BYTES {
        return Err(SourceError::Document {
            what: path.to_owned(),
            origin: origin.to_owned(),
            source: DocumentError::TooLong { found: file.size },
        });
    }
    let mut bytes = Vec::new();
    let mut reader = file.reader.take(DOCUMENT_LIMIT_BYTES);
    reader.read_to_end(&mut bytes).doing("read", path)?;
    Ok(Some(bytes))
}

/// Checks the bytes of a document against what is said of it elsewhere.
pub(super) fn verified(
    bytes: Vec<u8>,
    expected: &Descriptor,
    what: &str,
    origin: &str,
) -> Result<Vec<u8>, SourceError> {
    let found = Descriptor::of(&bytes);
    if found == *expected {
        return Ok(bytes);
    }
    Err(SourceError::Mismatch {
        what: format!("{what} {}", expected.digest),
        origin: origin.to_owned(),
        expected: format!("{} of {} bytes", expected.digest, expected.size),
        found: format!("{} of {} bytes", found.digest, found.size),
    })
}

/// Where an image layout keeps a blob: no other path is ever read for it.
pub(super) fn blob_path(digest: &BlobDigest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
