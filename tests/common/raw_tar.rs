//! Tars written by hand, with what no library would write.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

const BLOCK: usize = 512;

/// A tar so far.
#[derive(Default)]
pub struct RawTar {
    bytes: Vec<u8>,
    /// Where the last header is.
    last: usize,
}

impl RawTar {
    /// Records for the entry that comes next.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut payload = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length += 1;
            }
            payload.extend(format!("{length} {key}=").into_bytes());
            payload.extend(*value);
            payload.push(b'\n');
        }
        self.payload(b'x', "pax", &payload)
    }

    /// An entry of any type, and data.
    pub fn payload(mut self, flag: u8, name: &str, data: &[u8]) -> Self {
        self.header(name, flag, data.len() as u64, "", (0, 0));
        self.data(data);
        self
    }

    /// Writes over the last header, and makes its checksum right.
    pub fn field(mut self, at: usize, bytes: &[u8]) -> Self {
        let block = &mut self.bytes[self.last..self.last + BLOCK];
        block[at..at + bytes.len()].copy_from_slice(bytes);
        sum_up(block);
        self
    }

    /// Any bytes.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    /// All so far, without an end.
    pub fn unended(self) -> Vec<u8> {
        self.bytes
    }

    /// An entry without data.
    pub fn entry(mut self, name: &str, flag: u8, size: u64) -> Self {
        let link = if flag == b'2' { "target" } else { "" };
        self.header(name, flag, size, link, (0, 0));
        self
    }

    /// A link to `target`, symbolic or hard by its flag.
    pub fn link(mut self, name: &str, flag: u8, target: &str) -> Self {
        self = self.long(b'L', name).long(b'K', target);
        self.header(name, flag, 0, target, (0, 0));
        self
    }

    /// A device.
    pub fn device(mut self, name: &str, flag: u8, major: u64, minor: u64) -> Self {
        self.header(name, flag, 0, "", (major, minor));
        self
    }

    /// A file and its data.
    pub fn file(mut self, name: &str, content: &[u8]) -> Self {
        self = self.long(b'L', name);
        self.payload(b'0', name, content)
    }

    /// All so far and a header whose data never comes.
    pub fn header_only(mut self, name: &str, flag: u8, size: u64) -> Vec<u8> {
        self.header(name, flag, size, "", (0, 0));
        self.bytes
    }

    /// The end.
    pub fn done(mut self) -> Vec<u8> {
        self.bytes.extend([0; 2 * BLOCK]);
        self.bytes
    }

    fn long(self, flag: u8, text: &str) -> Self {
        if text.len() <= 100 {
            return self;
        }
        self.payload(flag, "long", format!("{text}\0").as_bytes())
    }

    fn data(&mut self, data: &[u8]) {
        self.bytes.extend(data);
        let padding = (BLOCK - data.len() % BLOCK) % BLOCK;
        self.bytes.extend(std::iter::repeat_n(0, padding));
    }

    fn header(&mut self, name: &str, flag: u8, size: u64, link: &str, device: (u64, u64)) {
        let mut block = [0_u8; BLOCK];
        let mut text = |at: usize, most: usize, text: &str| {
            let length = text.len().min(most);
            block[at..at + length].copy_from_slice(&text.as_bytes()[..length]);
        };
        text(0, 100, name);
        text(100, 8, if flag == b'5' { "0000755" } else { "0000644" });
        text(108, 8, "0000000");
        text(116, 8, "0000000");
        text(136, 12, "14524770400");
        text(157, 100, link);
        text(257, 8, "ustar  ");
        number(&mut block[124..136], size);
        number(&mut block[329..337], device.0);
        number(&mut block[337..345], device.1);
        block[156] = flag;
        sum_up(&mut block);
        self.last = self.bytes.len();
        self.bytes.extend(block);
    }
}

fn sum_up(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Octal, and in base 256 where that is too short.
fn number(field: &mut [u8], value: u64) {
    let digits = format!("{value:0width$o}", width = field.len() - 1);
    if digits.len() < field.len() {
        field[..digits.len()].copy_from_slice(digits.as_bytes());
        return;
    }
    let mut rest = value;
    for byte in field.iter_mut().rev() {
        *byte = u8::try_from(rest & 0xff).unwrap();
        rest >>= 8;
    }
    field[0] |= 0x80;
}
