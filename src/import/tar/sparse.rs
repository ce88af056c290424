//! Sparse files: GNU's old format, and PAX 0.0, 0.1 and 1.0.

use std::io::{self, Read};

use super::{
    error::SparseError,
    header::{BLOCK, Block},
    number::{decimal, numeric},
};

/// How many pieces of data one sparse file may have. Bounds the memory a
/// hostile map takes: 16 MiB.
pub const MAX_SEGMENTS: usize = 1 << 20;

/// A piece of a sparse file that has data; all between pieces is zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where in the file.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

/// Where a sparse file's map is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SparseMap {
    /// In the headers: checked against the file's size. The entry's stored
    /// data are the pieces, one after the other.
    Known(Vec<Segment>),
    /// In front of the stored data (PAX 1.0), in whole blocks.
    InData,
}

/// How a sparse file is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sparse {
    /// Size of the file with its holes. A hostile header can claim any size up
    /// to 2^63-1: whoever writes it out must bound it.
    pub real_size: u64,
    /// Where the data go.
    pub map: SparseMap,
}

/// Checks a map: in order, no overlaps, inside the file.
///
/// # Errors
/// [`SparseError::OutOfBounds`]
fn check(map: &[Segment], real_size: u64) -> Result<(), SparseError> {
    let mut end = 0;
    for segment in map {
        let next = segment.offset.checked_add(segment.length);
        match next {
            Some(next) if segment.offset >= end && next <= real_size => end = next,
            _ => return Err(SparseError::OutOfBounds),
        }
    }
    Ok(())
}

fn push(map: &mut Vec<Segment>, offset: i64, length: i64) -> Result<(), SparseError> {
    if map.len() == MAX_SEGMENTS {
        return Err(SparseError::TooManySegments);
    }
    let unsigned = |number: i64| u64::try_from(number).map_err(|_| SparseError::OutOfBounds);
    map.push(Segment {
        offset: unsigned(offset)?,
        length: unsigned(length)?,
    });
    Ok(())
}

/// Adds the pieces of an old GNU header or extension block: as many as there
/// are up to the first empty one.
pub(super) fn push_old_gnu(map: &mut Vec<Segment>, array: &[u8]) -> Result<(), SparseError> {
    for element in array.chunks_exact(24) {
        if element[0] == 0 {
            break;
        }
        let number = |field: &[u8]| numeric(field).ok_or(SparseError::Malformed);
        push(map, number(&element[..12])?, number(&element[12..])?)?;
    }
    Ok(())
}

/// A map in a PAX record (0.1): `offset,length,offset,length`.
pub(super) fn parse_pax_map(count: &[u8], text: &[u8]) -> Result<Vec<Segment>, SparseError> {
    let count = decimal(count).ok_or(SparseError::Malformed)?;
    let mut map = Vec::new();
    let mut numbers = text.split(|byte| *byte == b',');
    if !text.is_empty() {
        while let Some(offset) = numbers.next() {
            let length = numbers.next().and_then(decimal);
            match (decimal(offset), length) {
                (Some(offset), Some(length)) => push(&mut map, offset, length)?,
                _ => return Err(SparseError::Malformed),
            }
        }
    }
    if usize::try_from(count) != Ok(map.len()) {
        return Err(SparseError::Malformed);
    }
    Ok(map)
}

impl Sparse {
    /// Makes sure that map and sizes fit each other.
    pub(super) fn new(real_size: u64, map: SparseMap) -> Result<Self, SparseError> {
        if let SparseMap::Known(map) = &map {
            check(map, real_size)?;
        }
        Ok(Self { real_size, map })
    }

    /// Reads the map in front of the data (PAX 1.0), or takes the known one.
    /// Gives it and how many bytes of `data` it took.
    ///
    /// # Errors
    /// A [`SparseError`] as [`io::ErrorKind::InvalidData`], or what `data` gave.
    pub fn read_map(&self, data: &mut impl Read) -> io::Result<(Vec<Segment>, u64)> {
        let map = match &self.map {
            SparseMap::Known(map) => return Ok((map.clone(), 0)),
            SparseMap::InData => read_leading_map(data)?,
        };
        check(&map.0, self.real_size).map_err(invalid)?;
        Ok(map)
    }

    /// The file with its holes, from the entry's stored data, which `data`
    /// must be: `stored_size` bytes. The reader fails if the map does not fit
    /// them, before the first byte.
    ///
    /// # Errors
    /// As [`Sparse::read_map`].
    pub fn expand<R: Read>(&self, mut data: R, stored_size: u64) -> io::Result<Expanded<R>> {
        let (map, taken) = self.read_map(&mut data)?;
        let mapped = map.iter().map(|segment| segment.length).sum();
        let stored = stored_size.checked_sub(taken);
        if stored != Some(mapped) {
            let stored = stored.unwrap_or(0);
            return Err(invalid(SparseError::DataSize { mapped, stored }));
        }
        Ok(Expanded {
            data,
            map: map.into_iter(),
            current: Segment {
                offset: 0,
                length: 0,
            },
            position: 0,
            size: self.real_size,
        })
    }
}

/// The map of PAX 1.0: decimal numbers, one a line, how many pieces first;
/// padded to whole blocks.
fn read_leading_map(data: &mut impl Read) -> io::Result<(Vec<Segment>, u64)> {
    let mut lines = Lines {
        data,
        block: [0; BLOCK],
        at: BLOCK,
        taken: 0,
    };
    let count = lines.number()?;
    if usize::try_from(count).map_err(|_| invalid(SparseError::Malformed))? > MAX_SEGMENTS {
        return Err(invalid(SparseError::TooManySegments));
    }
    let mut map = Vec::new();
    for _ in 0..count {
        let (offset, length) = (lines.number()?, lines.number()?);
        push(&mut map, offset, length).map_err(invalid)?;
    }
    Ok((map, lines.taken))
}

struct Lines<'a, R> {
    data: &'a mut R,
    block: Block,
    at: usize,
    taken: u64,
}

impl<R: Read> Lines<'_, R> {
    fn number(&mut self) -> io::Result<i64> {
        let mut text = Vec::with_capacity(20);
        loop {
            if self.at == BLOCK {
                self.data.read_exact(&mut self.block)?;
                self.taken += BLOCK as u64;
                self.at = 0;
            }
            let byte = self.block[self.at];
            self.at += 1;
            if byte == b'\n' {
                return decimal(&text).ok_or_else(|| invalid(SparseError::Malformed));
            }
            if text.len() == 20 {
                return Err(invalid(SparseError::Malformed));
            }
            text.push(byte);
        }
    }
}

fn invalid(error: SparseError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A sparse file with its holes as zeros; takes no memory by its size.
#[derive(Debug)]
pub struct Expanded<R> {
    data: R,
    map: std::vec::IntoIter<Segment>,
    /// The piece at or before `position`; its length is what is left of it.
    current: Segment,
    position: u64,
    size: u64,
}

impl<R: Read> Read for Expanded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.size || buffer.is_empty() {
            return Ok(0);
        }
        while self.current.length == 0 {
            self.current = self.map.next().unwrap_or(Segment {
                offset: self.size,
                length: u64::MAX,
            });
        }
        let hole = self.current.offset.saturating_sub(self.position);
        let most = if hole > 0 { hole } else { self.current.length };
        let length = buffer
            .len()
            .min(usize::try_from(most).unwrap_or(usize::MAX));
        let buffer = &mut buffer[..length];
        let read = if hole > 0 {
            buffer.fill(0);
            length
        } else {
            match self.data.read(buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => read,
            }
        };
        self.position += read as u64;
        if hole == 0 {
            self.current.offset += read as u64;
            self.current.length -= read as u64;
        }
        Ok(read)
    }
}
