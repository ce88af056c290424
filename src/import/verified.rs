//! The bytes of a layer on their way in: counted, hashed where they are not yet,
//! decompressed, hashed.

use std::{
    io::{self, BufRead, BufReader, Read},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use flate2::bufread::MultiGzDecoder;

use super::{ImportError, read_ahead::ReadAhead};
use crate::{
    name::{DiffId, Hasher},
    source::{LayerData, LayerDescriptor, LayerForm},
};

/// The stream went past its limit: a marker inside an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("longer than {0} bytes")]
pub(super) struct TooLong(pub u64);

/// The blob as it comes, shared with what decompresses it on another thread.
#[derive(Clone)]
struct Blob(Arc<Mutex<RawBlob>>);

struct RawBlob {
    inner: io::Take<Box<dyn Read + Send>>,
    /// None where nobody asks for its digest.
    hasher: Option<Hasher>,
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut raw = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let length = raw.inner.read(buffer)?;
        if let Some(hasher) = &mut raw.hasher {
            hasher.update(&buffer[..length]);
        }
        Ok(length)
    }
}

impl Blob {
    /// The digest of what has been read of it, where it is asked for.
    fn hasher(&self) -> Option<Hasher> {
        let raw = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        raw.hasher.clone()
    }
}

/// One layer's tar, read from its blob. [`VerifiedLayer::finish`] says whether
/// it was what the config promised, and the manifest, where that has not been made
/// sure of before; until then nothing that came out
/// of it may be believed.
pub(super) struct VerifiedLayer {
    reader: ReadAhead,
    /// None where the blob is the tar, and hashed.
    hasher: Option<Hasher>,
    length: u64,
    limit: u64,
    blob: Blob,
    descriptor: LayerDescriptor,
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
            LayerForm::Blob | LayerForm::HashedBlob => descriptor.blob_size.saturating_add(1),
            LayerForm::Tar => u64::MAX,
        };
        let hasher = (data.form == LayerForm::Blob).then(Hasher::default);
        let is_hashed = hasher.is_some();
        let blob = Blob(Arc::new(Mutex::new(RawBlob {
            inner: Read::take(data.reader, most),
            hasher,
        })));
        let mut raw = BufReader::with_capacity(1 << 17, blob.clone());
        let read = |source| ImportError::Read {
            diff_id: descriptor.diff_id,
            source,
        };
        let head = raw.fill_buf().map_err(read)?;
        let is_skippable = |head: &[u8]| head[0] & 0xf0 == 0x50 && head[1..4] == ZSTD_SKIPPABLE;
        let (reader, is_packed) = if head.starts_with(&GZIP) {
            (ReadAhead::new(MultiGzDecoder::new(raw)), true)
        } else if head.starts_with(&ZSTD) || (head.len() >= 4 && is_skippable(head)) {
            let decoder = zstd::stream::read::Decoder::with_buffer(raw).map_err(read)?;
            (ReadAhead::new(decoder), true)
        } else {
            (ReadAhead::new(raw), false)
        };
        Ok(Self {
            reader: reader.map_err(read)?,
            hasher: (is_packed || !is_hashed).then(Hasher::default),
            length: 0,
            limit: max_bytes,
            blob,
            descriptor: descriptor.clone(),
        })
    }

    /// How many bytes of the tar have been read.
    pub(super) fn tar_bytes(&self) -> u64 {
        self.length
    }

    /// The next bytes of the tar, at most `most`; empty at its end alone, unless `most` is 0.
    pub(super) fn next_bytes(&mut self, most: usize) -> io::Result<Bytes> {
        let bytes = self.reader.next_bytes(most)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes);
        }
        self.length += bytes.len() as u64;
        if self.length > self.limit {
            return Err(io::Error::other(TooLong(self.limit)));
        }
        Ok(bytes)
    }

    /// The next `length` bytes: where they lie in one piece, they are not copied.
    ///
    /// # Errors
    /// As [`Read::read_exact`].
    pub(super) fn exact_bytes(&mut self, length: usize) -> io::Result<Bytes> {
        let mut all = BytesMut::new();
        loop {
            let next = self.next_bytes(length - all.len())?;
            if next.len() == length {
                return Ok(next);
            }
            if next.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            all.reserve(length - all.len());
            all.extend_from_slice(&next);
            if all.len() == length {
                return Ok(all.freeze());
            }
        }
    }

    /// Reads on to the end and compares the digests and sizes; returns the length
    /// of the tar.
    pub(super) fn finish(mut self) -> Result<u64, ImportError> {
        let unpacked = io::copy(&mut self, &mut io::sink());
        let descriptor = &self.descriptor;
        let read = |source| ImportError::Read {
            diff_id: descriptor.diff_id,
            source,
        };
        self.reader.stop();
        if self.blob.hasher().is_some() {
            // Where it cannot be unpacked, what is left of it still tells
            // whether it is the blob that it should be.
            io::copy(&mut self.blob, &mut io::sink()).map_err(read)?;
        }
        let blob = self.blob.hasher();
        if let Some(blob) = &blob {
            let (size, found) = (blob.length(), blob.clone().finish());
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
        let tar = self.hasher.or(blob);
        let found: DiffId = tar.unwrap_or_default().finish();
        if found != descriptor.diff_id {
            return Err(ImportError::WrongDiffId {
                expected: descriptor.diff_id,
                found,
            });
        }
        Ok(self.length)
    }
}

impl Read for VerifiedLayer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.next_bytes(buffer.len())?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{document::Compression, name::BlobDigest};

    fn gzip(tar: &[u8]) -> Vec<u8> {
        let mut gzip = Vec::new();
        let mut encoder = flate2::bufread::GzEncoder::new(tar, flate2::Compression::fast());
        encoder.read_to_end(&mut gzip).unwrap();
        gzip
    }

    /// Of a layer with this tar and blob.
    fn descriptor(tar: &[u8], blob: &[u8], compression: Compression) -> LayerDescriptor {
        LayerDescriptor {
            blob_digest: BlobDigest::of(blob),
            blob_size: blob.len() as u64,
            compression,
            diff_id: DiffId::of(tar),
        }
    }

    /// What becomes of these bytes in the place of the right ones.
    fn read(form: LayerForm, bytes: Vec<u8>) -> Result<u64, ImportError> {
        let tar = [7; 5000];
        let blob = match form {
            LayerForm::Tar => tar.to_vec(),
            _ => gzip(&tar),
        };
        let descriptor = descriptor(&tar, &blob, Compression::Gzip);
        let reader = Box::new(io::Cursor::new(bytes));
        let data = LayerData { reader, form };
        VerifiedLayer::open(&descriptor, data, 1 << 20)?.finish()
    }

    #[test]
    fn what_lies_in_several_pieces_is_put_together() {
        let tar: Vec<u8> = (0..700_000_u32).map(|at| (at % 251) as u8).collect();
        let open = |max_bytes| {
            let blob = gzip(&tar);
            let descriptor = descriptor(&tar, &blob, Compression::Gzip);
            let reader = Box::new(io::Cursor::new(blob));
            let form = LayerForm::Blob;
            VerifiedLayer::open(&descriptor, LayerData { reader, form }, max_bytes).unwrap()
        };
        // In one piece; in the next two; in those that follow; and none.
        let mut layer = open(1 << 20);
        let mut from = 0;
        for length in [200_000, 100_000, 400_000, 0] {
            let bytes = layer.exact_bytes(length).unwrap();
            assert!(bytes == tar[from..from + length], "{length} from {from}");
            from += length;
        }
        let past = layer.exact_bytes(1).unwrap_err();
        assert_eq!(past.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(layer.finish().unwrap(), 700_000);
        let short = open(1 << 20).exact_bytes(700_001).unwrap_err();
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
        let long = open(300_000).exact_bytes(400_000).unwrap_err();
        assert!(
            long.get_ref().is_some_and(|error| error.is::<TooLong>()),
            "{long}"
        );
    }

    /// The decoders of such frames are old C code that nobody else lets a layer
    /// choose; they come with zstd's default features, of any crate.
    #[test]
    fn frames_of_zstd_before_0_8_are_not_decoded() {
        let tar = b"hello";
        let skipped = [&[0x50], ZSTD_SKIPPABLE.as_slice(), &[0; 4]].concat();
        // doc/zstd_compression_format.md of 0.7: magic, one segment of 5 bytes, a
        // raw block, the end.
        let head = [0x27, 0xb5, 0x2f, 0xfd, 0x20, 5, 0x40, 0, 5];
        let old = [&head, tar.as_slice(), &[0xc0, 0, 0]].concat();
        let new = zstd::encode_all(tar.as_slice(), 0).unwrap();
        for (frame, is_read) in [(new, true), (old, false)] {
            let blob = [skipped.clone(), frame].concat();
            let descriptor = descriptor(tar, &blob, Compression::Zstd);
            let data = LayerData {
                reader: Box::new(io::Cursor::new(blob)),
                form: LayerForm::Blob,
            };
            let read = VerifiedLayer::open(&descriptor, data, 1 << 20)
                .unwrap()
                .finish();
            match is_read {
                true => assert_eq!(read.unwrap(), 5),
                false => assert!(matches!(read, Err(ImportError::Read { .. })), "{read:?}"),
            }
        }
    }

    #[test]
    fn a_layer_in_no_form_is_another() {
        use ImportError::{Read as NotRead, WrongBlob, WrongDiffId};
        for form in [LayerForm::Blob, LayerForm::HashedBlob] {
            assert_eq!(read(form, gzip(&[7; 5000])).unwrap(), 5000);
            let other = read(form, gzip(&[8; 5000])).unwrap_err();
            let longer = read(form, [gzip(&[7; 5000]), gzip(&[])].concat()).unwrap_err();
            let broken = read(form, gzip(&[7; 5000])[..20].to_vec()).unwrap_err();
            match form {
                LayerForm::Blob => {
                    let all = [other, longer, broken];
                    assert!(all.iter().all(|error| matches!(error, WrongBlob { .. })));
                }
                _ => {
                    assert!(matches!(other, WrongDiffId { .. }), "{other}");
                    // No further than one byte behind its end.
                    assert!(matches!(longer, NotRead { .. }), "{longer}");
                    assert!(matches!(broken, NotRead { .. }), "{broken}");
                }
            }
        }
        assert_eq!(read(LayerForm::Tar, vec![7; 5000]).unwrap(), 5000);
        let other = read(LayerForm::Tar, vec![8; 5000]).unwrap_err();
        assert!(matches!(other, WrongDiffId { .. }), "{other}");
    }
}
