//! The gzip of format 1.

use std::io::{self, Write};

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress, create_comp_flags_from_zip_params,
};

/// Part of format 1. Measured on the tar-split of 20,000 files of /usr, 23 MB:
/// level 1 gives 1.73 MB in 76 ms, 2 1.28 in 87, 4 1.17 in 105, 6 1.16 in 175,
/// 9 1.16 in 496.
const LEVEL: i32 = 4;
/// Raw deflate: the gzip header is ours.
const WINDOW_BITS: i32 = -15;
const DEFAULT_STRATEGY: i32 = 0;
/// Compression method deflate, no flags, mtime 0, no extra flags, system
/// unknown (RFC 1952).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// The compressor gets its input in pieces of this size, however it comes:
/// the output must depend on the bytes alone.
const PIECE: usize = 64 << 10;

/// Compresses to `out`. The bytes are those of `miniz_oxide` 0.8.9, pinned:
/// they are part of format 1 and must never change.
pub(super) struct GzipWriter<W> {
    out: W,
    compressor: Box<CompressorOxide>,
    crc: flate2::Crc,
    piece: Vec<u8>,
    buffer: Box<[u8]>,
}

impl<W: Write> GzipWriter<W> {
    pub(super) fn new(out: W) -> io::Result<Self> {
        Self::with_level(out, LEVEL)
    }

    fn with_level(mut out: W, level: i32) -> io::Result<Self> {
        out.write_all(&HEADER)?;
        let flags = create_comp_flags_from_zip_params(level, WINDOW_BITS, DEFAULT_STRATEGY);
        Ok(Self {
            out,
            compressor: Box::new(CompressorOxide::new(flags)),
            crc: flate2::Crc::new(),
            piece: Vec::with_capacity(PIECE),
            buffer: vec![0; PIECE].into(),
        })
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.piece.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() == PIECE {
                self.compress(TDEFLFlush::None)?;
            }
        }
        Ok(())
    }

    fn compress(&mut self, flush: TDEFLFlush) -> io::Result<()> {
        let mut done = 0;
        loop {
            let piece = &self.piece[done..];
            let (status, read, written) =
                compress(&mut self.compressor, piece, &mut self.buffer, flush);
            done += read;
            self.out.write_all(&self.buffer[..written])?;
            match status {
                TDEFLStatus::Done => break,
                TDEFLStatus::Okay if done < self.piece.len() || written == self.buffer.len() => {}
                TDEFLStatus::Okay if flush == TDEFLFlush::None => break,
                TDEFLStatus::Okay => {}
                status => {
                    return Err(io::Error::other(format!("deflate failed: {status:?}")));
                }
            }
        }
        self.piece.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.compress(TDEFLFlush::Finish)?;
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        self.out.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn gzip(level: i32, pieces: &[&[u8]]) -> Vec<u8> {
        let mut gzip = GzipWriter::with_level(Vec::new(), level).unwrap();
        for piece in pieces {
            gzip.write(piece).unwrap();
        }
        gzip.finish().unwrap()
    }

    fn gunzip(bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut reader = flate2::read::GzDecoder::new(bytes);
        reader.read_to_end(&mut plain).unwrap();
        plain
    }

    /// Format 1: this test must never be changed.
    #[test]
    fn bytes_of_format_1() {
        let empty = "1f8b08000000000000ff030000000000 00000000".replace(' ', "");
        assert_eq!(hex::encode(gzip(LEVEL, &[])), empty);
    }

    #[test]
    fn incompressible_and_repetitive_input_survive() {
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_be_bytes()[0]
        })
        .take(300_000)
        .collect();
        for plain in [noise, vec![0; 1_000_000], Vec::new(), vec![7; PIECE]] {
            assert_eq!(gunzip(&gzip(LEVEL, &[&plain])), plain);
        }
    }

    proptest! {
        #[test]
        fn bytes_do_not_depend_on_pieces(
            seed in proptest::collection::vec(any::<u8>(), 1..200),
            repeat in 1_usize..2000,
            cut in any::<prop::sample::Index>(),
        ) {
            let plain = seed.repeat(repeat);
            let (one, two) = plain.split_at(cut.index(plain.len()));
            let whole = gzip(LEVEL, &[&plain]);
            prop_assert_eq!(&gzip(LEVEL, &[one, two]), &whole);
            prop_assert_eq!(gunzip(&whole), plain);
        }
    }
}
