//! From blocks to entries.

use std::io::{self, Read};

use super::{
    MAX_EXTENSION,
    entry::TarEntry,
    error::{SparseError, TarError},
    fields::{Extensions, Fields, global_header, lossy, pax_sparse},
    header::{BLOCK, Block, Format, Header},
    number::{numeric, until_nul},
    pax::{self, Records},
    sparse::{self, Sparse, SparseMap},
};
use crate::squash::tree::Metadata;

/// The literal bytes of a tar: headers, extension headers and padding.
///
/// Every [`Read`] is one, where a tar lies in one piece.
pub trait TarInput {
    /// Reads some of the next literal bytes; 0 at the end of the tar.
    ///
    /// # Errors
    /// Whatever stands in the way.
    fn literal(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
}

impl<R: Read> TarInput for R {
    fn literal(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

/// Reads the entries of a tar, one after the other.
///
/// After each entry the caller takes its [`TarEntry::stored_size`] bytes of
/// data from the input itself; padding is read here. Bytes after the end of
/// the archive are not touched. After an error the reader is of no use.
#[derive(Debug, Default)]
pub struct TarReader {
    offset: u64,
    padding: usize,
    ended: bool,
}

impl TarReader {
    /// Starts at the first byte of a tar.
    pub fn new() -> Self {
        Self::default()
    }

    /// How far the tar is read, with the data of the last entry.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads the padding after the last entry's data, which is else done on
    /// the way to the next entry. A tar may end in it.
    ///
    /// # Errors
    /// [`TarError::Read`]
    pub fn read_padding(&mut self, input: &mut impl TarInput) -> Result<(), TarError> {
        let mut block = [0; BLOCK];
        let padding = std::mem::take(&mut self.padding);
        self.fill(input, &mut block[..padding])?;
        Ok(())
    }

    /// Reads up to and with the next entry's headers; `None` at the end of the
    /// archive: two zero blocks, or the end of the input at a header's place.
    ///
    /// # Errors
    /// Anything that breaks the format, with its place.
    pub fn next_entry(&mut self, input: &mut impl TarInput) -> Result<Option<TarEntry>, TarError> {
        let mut extensions = Extensions::default();
        let mut start = None;
        loop {
            self.read_padding(input)?;
            let at = self.offset;
            let Some(block) = self.header_block(input)? else {
                return Ok(None);
            };
            let broken = |reason| TarError::Header { offset: at, reason };
            let mut header = Header::parse(&block).map_err(broken)?;
            let offset = *start.get_or_insert(at);
            if !matches!(header.flag, b'1'..=b'6') && header.size < 0 {
                return Err(broken("the size is negative"));
            }
            match header.flag {
                b'x' => extensions.records = self.records(input, &header, at)?,
                b'g' => {
                    let records = self.records(input, &header, at)?;
                    return global_header(header, &records, offset).map(Some);
                }
                b'L' => {
                    let payload = self.extension(input, &header, at)?;
                    extensions.long_name = until_nul(&payload).to_vec();
                }
                b'K' => {
                    let payload = self.extension(input, &header, at)?;
                    extensions.long_link = until_nul(&payload).to_vec();
                }
                _ => {
                    let mut metadata = extensions.apply(&mut header).map_err(broken)?;
                    return self
                        .entry(
                            input,
                            header,
                            &block,
                            &extensions.records,
                            &mut metadata,
                            offset,
                        )
                        .map(Some);
                }
            }
        }
    }

    /// Builds the entry of a header that is none of the extensions.
    fn entry(
        &mut self,
        input: &mut impl TarInput,
        mut header: Header,
        block: &Block,
        records: &Records,
        metadata: &mut Metadata,
        offset: u64,
    ) -> Result<TarEntry, TarError> {
        if header.flag == 0 {
            // before there was a type for directories, a slash at the end made one
            let slash = header.name.ends_with(b"/");
            header.flag = if slash { b'5' } else { b'0' };
        }
        let broken = |reason| TarError::Header { offset, reason };
        let stored_size = match header.flag {
            b'1'..=b'6' => 0,
            _ => u64::try_from(header.size).map_err(|_| broken("the size is negative"))?,
        };
        let sparse = if header.flag == b'S' {
            Some(self.old_gnu_sparse(input, &mut header, block, offset)?)
        } else {
            pax_sparse(&mut header, records).map_err(|source| TarError::Sparse {
                offset,
                name: lossy(&header.name),
                source,
            })?
        };
        if sparse.is_some() && matches!(header.flag, b'1'..=b'6') {
            return Err(broken("only a regular file can be sparse"));
        }
        let fields = Fields {
            name: &header.name,
            offset,
        };
        metadata.mode = u32::try_from(header.mode & 0o7777).unwrap_or_default();
        metadata.uid = fields.u32("owner", header.uid)?;
        metadata.gid = fields.u32("group", header.gid)?;
        let kind = fields.kind(&header)?;
        let name = fields.path(&header.name)?;
        self.offset = self.offset.saturating_add(stored_size);
        self.padding = padding(stored_size);
        Ok(TarEntry {
            name,
            offset,
            header_size: u64::try_from(header.size).unwrap_or(0),
            stored_size,
            metadata: std::mem::take(metadata),
            kind,
            sparse,
            raw_name: header.name,
        })
    }

    /// The next header block; `None` at the end of the archive.
    fn header_block(&mut self, input: &mut impl TarInput) -> Result<Option<Block>, TarError> {
        if self.ended {
            return Ok(None);
        }
        let offset = self.offset;
        let mut block = [0; BLOCK];
        for zeros_before in [false, true] {
            match self.fill(input, &mut block)? {
                0 => break,
                BLOCK => {}
                _ => return Err(self.truncated("a header")),
            }
            let zeros = block.iter().all(|byte| *byte == 0);
            match (zeros_before, zeros) {
                (false, false) => return Ok(Some(block)),
                (true, false) => {
                    let reason = "it follows a single block of zeros";
                    return Err(TarError::Header { offset, reason });
                }
                (_, true) => {}
            }
        }
        self.ended = true;
        Ok(None)
    }

    /// The payload of an extension header, with the padding after it left.
    fn extension(
        &mut self,
        input: &mut impl TarInput,
        header: &Header,
        offset: u64,
    ) -> Result<Vec<u8>, TarError> {
        let size = u64::try_from(header.size).unwrap_or(0);
        if size > MAX_EXTENSION {
            return Err(TarError::ExtensionTooLarge { offset, size });
        }
        // grows with what there is, not with what the header claims
        let mut payload = Vec::new();
        let mut left = usize::try_from(size).unwrap_or(0);
        let mut chunk = [0; 4096];
        while left > 0 {
            let most = left.min(chunk.len());
            let read = self.fill(input, &mut chunk[..most])?;
            if read < most {
                return Err(self.truncated("an extension header"));
            }
            payload.extend_from_slice(&chunk[..read]);
            left -= read;
        }
        self.padding = padding(size);
        Ok(payload)
    }

    fn records(
        &mut self,
        input: &mut impl TarInput,
        header: &Header,
        offset: u64,
    ) -> Result<Records, TarError> {
        let payload = self.extension(input, header, offset)?;
        pax::parse(&payload).map_err(|reason| TarError::Header { offset, reason })
    }

    /// The map of type `S`: four pieces in the header, 21 in each extension
    /// block. The header's size becomes the real one.
    fn old_gnu_sparse(
        &mut self,
        input: &mut impl TarInput,
        header: &mut Header,
        block: &Block,
        offset: u64,
    ) -> Result<Sparse, TarError> {
        let name = lossy(&header.name);
        let sparse = |source| TarError::Sparse {
            offset,
            name: name.clone(),
            source,
        };
        let malformed = || sparse(SparseError::Malformed);
        if header.format != Format::Gnu {
            return Err(malformed());
        }
        header.size = numeric(&block[483..495]).ok_or_else(malformed)?;
        let real_size = u64::try_from(header.size).map_err(|_| malformed())?;
        let mut map = Vec::new();
        sparse::push_old_gnu(&mut map, &block[386..482]).map_err(sparse)?;
        let mut extended = block[482] != 0;
        let mut blocks = 0;
        while extended {
            let mut block = [0; BLOCK];
            if self.fill(input, &mut block)? < BLOCK {
                return Err(self.truncated("a sparse map"));
            }
            blocks += 1;
            if blocks > sparse::MAX_SEGMENTS / 21 {
                return Err(sparse(SparseError::TooManySegments));
            }
            sparse::push_old_gnu(&mut map, &block[..504]).map_err(sparse)?;
            extended = block[504] != 0;
        }
        Sparse::new(real_size, SparseMap::Known(map)).map_err(sparse)
    }

    /// Reads until `buffer` is full or the input ends.
    fn fill(&mut self, input: &mut impl TarInput, buffer: &mut [u8]) -> Result<usize, TarError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let read = input
                .literal(&mut buffer[filled..])
                .map_err(|source| TarError::Read {
                    offset: self.offset,
                    source,
                })?;
            if read == 0 {
                break;
            }
            filled += read;
            self.offset += read as u64;
        }
        Ok(filled)
    }

    fn truncated(&self, inside: &'static str) -> TarError {
        TarError::Truncated {
            offset: self.offset,
            inside,
        }
    }
}

fn padding(size: u64) -> usize {
    let block = BLOCK as u64;
    usize::try_from((block - size % block) % block).unwrap_or(0)
}
