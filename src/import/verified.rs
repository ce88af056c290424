//! The bytes of a layer on their way in: counted, hashed, decompressed, hashed.

use std::{
    cell::RefCell,
    io::{self, BufRead, BufReader, Read},
    rc::Rc,
};

use flate2::bufread::MultiGzDecoder;

use super::ImportError;
use crate::{
    name::{BlobDigest, DiffId, Hasher},
    source::{LayerData, LayerDescriptor, LayerForm},
};

/// A reader that hashes what passes, and goes no further than a limit.
struct Hashed<R> {
    inner: R,
    hasher: Hasher,
    limit: u64,
}

/// The stream went past its limit: a marker inside an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("longer than {0} bytes")]
pub(super) struct TooLong(pub u64);

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        if self.hasher.length() > self.limit {
            return Err(io::Error::other(TooLong(self.limit)));
        }
        Ok(length)
    }
}

/// The blob as it comes, shared with what decompresses it.
#[derive(Clone)]
struct Blob(Rc<RefCell<RawBlob>>);

/// The source's own reader, hashed.
type RawBlob = Hashed<io::Take<Box<dyn Read>>>;

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(buffer)
    }
}

/// One layer's tar, read from its blob. [`VerifiedLayer::finish`] says whether
/// it was what manifest and config promised; until then nothing that came out
/// of it may be believed.
pub(super) struct VerifiedLayer {
    reader: Hashed<Box<dyn Read>>,
    blob: Blob,
    descriptor: LayerDescriptor,
    form: LayerForm,
}

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// zstd's skippable frames (RFC 8878, section 3.1.2): 0x184D2A50 to 5F.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

impl VerifiedLayer {
    /// Begins to read. The compression is told by the first bytes, as
    /// containers/image does: media types lie.
    pub(super) fn open(
        descriptor: &LayerDescriptor,
        data: LayerData,
        max_bytes: u64,
    ) -> Result<Self, ImportError> {
        // One byte more than promised is enough to know that it is too long.
        let most = match data.form {
            LayerForm::Blob => descriptor.blob_size.saturating_add(1),
            LayerForm::Tar => u64::MAX,
        };
        let blob = Blob(Rc::new(RefCell::new(Hashed {
            inner: Read::take(data.reader, most),
            hasher: Hasher::default(),
            limit: u64::MAX,
        })));
        let mut raw = BufReader::with_capacity(1 << 17, blob.clone());
        let read = |source| ImportError::Read {
            diff_id: descriptor.diff_id,
            source,
        };
        let head = raw.fill_buf().map_err(read)?;
        let plain: Box<dyn Read> = if head.starts_with(&GZIP) {
            Box::new(MultiGzDecoder::new(raw))
        } else if head.starts_with(&ZSTD)
            || (head.len() >= 4 && head[0] & 0xf0 == 0x50 && head[1..4] == ZSTD_SKIPPABLE)
        {
            Box::new(zstd::stream::read::Decoder::with_buffer(raw).map_err(read)?)
        } else {
            Box::new(raw)
        };
        let reader = Hashed {
            inner: plain,
            hasher: Hasher::default(),
            limit: max_bytes,
        };
        Ok(Self {
            reader,
            blob,
            descriptor: descriptor.clone(),
            form: data.form,
        })
    }

    /// How many bytes of the tar have been read.
    pub(super) fn tar_bytes(&self) -> u64 {
        self.reader.hasher.length()
    }

    /// Reads on to the end and compares all digests and sizes; returns the
    /// length of the tar.
    pub(super) fn finish(mut self) -> Result<u64, ImportError> {
        let descriptor = &self.descriptor;
        let read = |source| ImportError::Read {
            diff_id: descriptor.diff_id,
            source,
        };
        let unpacked = io::copy(&mut self.reader, &mut io::sink());
        if self.form == LayerForm::Blob {
            // Where it cannot be unpacked, what is left of it still tells
            // whether it is the blob that it should be.
            io::copy(&mut self.blob, &mut io::sink()).map_err(read)?;
            let blob = self.blob.0.borrow().hasher.clone();
            let (size, found) = (blob.length(), blob.finish::<_>());
            let found: BlobDigest = found;
            if found != descriptor.blob_digest || size != descriptor.blob_size {
                return Err(ImportError::WrongBlob {
                    expected: descriptor.blob_digest,
                    expected_size: descriptor.blob_size,
                    found,
                    found_size: size,
                });
            }
        }
        unpacked.map_err(read)?;
        let tar = self.reader.hasher;
        let length = tar.length();
        let found: DiffId = tar.finish();
        if found != descriptor.diff_id {
            return Err(ImportError::WrongDiffId {
                expected: descriptor.diff_id,
                found,
            });
        }
        Ok(length)
    }
}

impl Read for VerifiedLayer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}
