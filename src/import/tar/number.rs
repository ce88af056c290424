//! Numbers as tar headers and PAX records write them.

use crate::name::Mtime;

/// A number of a header: octal text, or base-256 where the first bit is set
/// (GNU). `None` where Go's `archive/tar` sees a broken header.
pub(super) fn numeric(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base256(field),
        _ => octal(field),
    }
}

/// Two's complement, big endian, without the marker bit.
fn base256(field: &[u8]) -> Option<i64> {
    let inverted = if field[0] & 0x40 != 0 { 0xff } else { 0 };
    let mut value: u64 = 0;
    for (place, byte) in field.iter().enumerate() {
        let mut byte = byte ^ inverted;
        if place == 0 {
            byte &= 0x7f;
        }
        if value >> 56 != 0 {
            return None;
        }
        value = value << 8 | u64::from(byte);
    }
    let value = i64::try_from(value).ok()?;
    Some(if inverted == 0 { value } else { !value })
}

/// Octal digits, padded by spaces and NULs on either side; nothing is zero.
pub(super) fn octal(field: &[u8]) -> Option<i64> {
    let pad = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field.iter().position(|byte| !pad(byte));
    let Some(start) = start else { return Some(0) };
    let digits = until_nul(&field[start..]);
    let end = digits.iter().rposition(|byte| !pad(byte))?;
    let mut value: i64 = 0;
    for byte in &digits[..=end] {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 8)?;
        value = value.checked_mul(8)?.checked_add(i64::from(digit))?;
    }
    Some(value)
}

/// A C string in a field.
pub(super) fn until_nul(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0);
    &field[..end.unwrap_or(field.len())]
}

/// A decimal number, with or without a sign.
pub(super) fn decimal(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A PAX time, `-100.5`: seconds, then as many digits as there are of a
/// second, cut after nine. The sign counts for both parts.
pub(super) fn pax_time(text: &[u8]) -> Option<Mtime> {
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let whole = parts.next()?;
    let sec = decimal(whole)?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut nsec: u32 = 0;
    for place in 0..9 {
        let digit = fraction.get(place).map_or(0, |byte| byte - b'0');
        nsec = nsec * 10 + u32::from(digit);
    }
    if nsec > 0 && whole.starts_with(b"-") {
        let sec = sec.checked_sub(1)?;
        return Some(Mtime {
            sec,
            nsec: 1_000_000_000 - nsec,
        });
    }
    Some(Mtime { sec, nsec })
}
