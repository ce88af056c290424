//! GLib's serialised variants, as far as ostree's files need them: dictionaries
//! `a{sv}` of strings, booleans, pairs of numbers and such dictionaries
//! (GVariant Specification 1.0, section 2.5).
//!
//! Nothing is copied or allocated: whatever a length or offset says, what is
//! taken lies within the bytes given.

/// Bytes that are no variant of the kind asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it holds no GVariant {0} where there must be one")]
pub struct NotVariant(pub(super) &'static str);

/// A dictionary `a{sv}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dict<'v>(&'v [u8]);

/// A value of a dictionary: its type string and its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant<'v> {
    kind: &'v [u8],
    data: &'v [u8],
}

/// The alignment of all containers here.
const ALIGNMENT: usize = 8;

impl<'v> Dict<'v> {
    /// The dictionary that `bytes` are: the empty one has none.
    pub const fn new(bytes: &'v [u8]) -> Self {
        Self(bytes)
    }

    /// The value of a key, where the dictionary has it.
    ///
    /// # Errors
    /// [`NotVariant`] where an entry on the way to it is none.
    pub fn get(self, key: &str) -> Result<Option<Variant<'v>>, NotVariant> {
        let broken = NotVariant("dictionary");
        if self.0.is_empty() {
            return Ok(None);
        }
        // Each entry's end is written behind the last entry.
        let (size, table) = last_offset(self.0).ok_or(broken)?;
        let ends = self.0.get(table..).ok_or(broken)?;
        let mut start = 0_usize;
        for end in ends.chunks(size) {
            let end = number(end).ok_or(broken)?;
            let entry = self.0.get(start..end.min(table)).ok_or(broken)?;
            let (name, value) = entry_parts(entry).ok_or(broken)?;
            if name == key.as_bytes() {
                return Ok(Some(value));
            }
            start = end.next_multiple_of(ALIGNMENT);
        }
        Ok(None)
    }
}

impl<'v> Variant<'v> {
    /// A string, type `s`.
    ///
    /// # Errors
    /// [`NotVariant`] for another type, and for what is no UTF-8.
    pub fn string(self) -> Result<&'v str, NotVariant> {
        let text = self.of(b"s").and_then(|data| data.strip_suffix(b"\0"));
        text.and_then(|text| std::str::from_utf8(text).ok())
            .ok_or(NotVariant("string"))
    }

    /// A boolean, type `b`.
    ///
    /// # Errors
    /// [`NotVariant`] for another type.
    pub fn boolean(self) -> Result<bool, NotVariant> {
        match self.of(b"b") {
            Some([value]) => Ok(*value != 0),
            _ => Err(NotVariant("boolean")),
        }
    }

    /// A pair of numbers, type `(tt)`, in this machine's byte order.
    ///
    /// # Errors
    /// [`NotVariant`] for another type.
    pub fn pair(self) -> Result<(u64, u64), NotVariant> {
        let number = |data: &[u8]| data.try_into().map(u64::from_ne_bytes).ok();
        self.of(b"(tt)")
            .and_then(|data| data.split_at_checked(8))
            .and_then(|(first, second)| Some((number(first)?, number(second)?)))
            .ok_or(NotVariant("pair of numbers"))
    }

    /// A dictionary, type `a{sv}`.
    ///
    /// # Errors
    /// [`NotVariant`] for another type.
    pub fn dict(self) -> Result<Dict<'v>, NotVariant> {
        let data = self.of(b"a{sv}").ok_or(NotVariant("dictionary"))?;
        Ok(Dict(data))
    }

    fn of(self, kind: &[u8]) -> Option<&'v [u8]> {
        (self.kind == kind).then_some(self.data)
    }
}

/// An entry `{sv}`: the string, its end written behind the variant.
fn entry_parts(entry: &[u8]) -> Option<(&[u8], Variant<'_>)> {
    let (size, end) = last_offset(entry)?;
    let body = entry.get(..entry.len() - size)?;
    let name = body.get(..end)?.strip_suffix(b"\0")?;
    let value = body.get(end.next_multiple_of(ALIGNMENT)..)?;
    // A variant is its value, a zero, and the value's type.
    let zero = value.iter().rposition(|byte| *byte == 0)?;
    let variant = Variant {
        kind: &value[zero + 1..],
        data: &value[..zero],
    };
    Some((name, variant))
}

/// The last offset of a container, and how many bytes its offsets have: as
/// many as the container's whole size needs.
fn last_offset(container: &[u8]) -> Option<(usize, usize)> {
    let size = match container.len() {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        _ => 4,
    };
    let at = container.len().checked_sub(size)?;
    let offset = number(&container[at..])?;
    (offset <= at).then_some((size, offset))
}

/// A number of up to four bytes, the least first.
fn number(bytes: &[u8]) -> Option<usize> {
    if bytes.len() > 4 {
        return None;
    }
    let fold = |number: usize, byte: &u8| number << 8 | usize::from(*byte);
    Some(bytes.iter().rev().fold(0, fold))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hand_made_dictionaries() {
        // {"b": <true>, "s": <"x">}, byte by byte as the specification has it.
        let bytes = b"b\0\0\0\0\0\0\0\x01\0b\x02\0\0\0\0s\0\0\0\0\0\0\0x\0\0s\x02\x0c\x1d";
        let dict = Dict::new(bytes);
        assert_eq!(dict.get("b").unwrap().unwrap().boolean(), Ok(true));
        let text = dict.get("s").unwrap().unwrap();
        assert_eq!(text.string(), Ok("x"));
        assert!(text.boolean().is_err() && text.pair().is_err() && text.dict().is_err());
        assert_eq!(dict.get("none"), Ok(None));
        assert_eq!(Dict::new(b"").get("b"), Ok(None));
        for length in 1..bytes.len() {
            assert!(Dict::new(&bytes[..length]).get("none").is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_dictionary_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
            ends in proptest::collection::vec(0_u8..=64, 0..8),
        ) {
            for bytes in [bytes.clone(), [bytes, ends].concat()] {
                if let Ok(Some(value)) = Dict::new(&bytes).get("") {
                    let _any = (value.string(), value.boolean(), value.pair());
                }
            }
        }
    }
}
