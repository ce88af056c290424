//! One 512-byte header block.

use super::number::{numeric, octal, until_nul};

pub(super) const BLOCK: usize = 512;
pub(super) type Block = [u8; BLOCK];

/// Which fields a header has beyond those of Version 7 Unix.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    V7,
    /// POSIX 1003.1-1988, also below PAX.
    Ustar,
    /// Schilling's tar.
    Star,
    Gnu,
}

/// The fields of a header block that matter here, unchecked in range.
pub(super) struct Header {
    pub format: Format,
    pub flag: u8,
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub mode: i64,
    pub uid: i64,
    pub gid: i64,
    pub size: i64,
    pub mtime: i64,
    pub major: i64,
    pub minor: i64,
}

const BAD_NUMBER: &str = "a field is no number";

impl Header {
    /// Takes a block apart, as Go's `archive/tar` does.
    ///
    /// # Errors
    /// What is broken: the checksum or a number.
    pub(super) fn parse(block: &Block) -> Result<Self, &'static str> {
        check_sum(block)?;
        let format = Format::of(block);
        let number = |at: usize, length: usize| numeric(&block[at..at + length]).ok_or(BAD_NUMBER);
        let mut header = Self {
            format,
            flag: block[156],
            name: until_nul(&block[..100]).to_vec(),
            link: until_nul(&block[157..257]).to_vec(),
            mode: number(100, 8)?,
            uid: number(108, 8)?,
            gid: number(116, 8)?,
            size: number(124, 12)?,
            mtime: number(136, 12)?,
            major: 0,
            minor: 0,
        };
        if format == Format::V7 {
            return Ok(header);
        }
        header.major = number(329, 8)?;
        header.minor = number(337, 8)?;
        let prefix = match format {
            Format::V7 => &[][..],
            Format::Ustar => until_nul(&block[345..500]),
            Format::Star => {
                number(476, 12)?;
                number(488, 12)?;
                until_nul(&block[345..476])
            }
            Format::Gnu => gnu_prefix(block),
        };
        if !prefix.is_empty() {
            header.name = [prefix, b"/", &header.name].concat();
        }
        Ok(header)
    }
}

/// Old versions of Go wrote a ustar prefix where GNU tar has access and change
/// time: taken for one where these are no numbers.
fn gnu_prefix(block: &Block) -> &[u8] {
    let time = |at: usize| block[at] == 0 || numeric(&block[at..at + 12]).is_some();
    let prefix = until_nul(&block[345..500]);
    if time(345) && time(357) || !prefix.is_ascii() {
        return &[];
    }
    prefix
}

impl Format {
    fn of(block: &Block) -> Self {
        match &block[257..265] {
            b"ustar  \0" => Self::Gnu,
            magic if magic.starts_with(b"ustar\0") => {
                if block.ends_with(b"tar\0") {
                    Self::Star
                } else {
                    Self::Ustar
                }
            }
            _ => Self::V7,
        }
    }
}

/// The checksum takes its own field as spaces; some tars summed signed bytes.
fn check_sum(block: &Block) -> Result<(), &'static str> {
    let written = octal(&block[148..156]).ok_or("the checksum is no number")?;
    let (mut unsigned, mut signed) = (0, 0);
    for (at, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) {
            b' '
        } else {
            *byte
        };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    if written == unsigned || written == signed {
        Ok(())
    } else {
        Err("the checksum is wrong")
    }
}
