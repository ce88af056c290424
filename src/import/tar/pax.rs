//! PAX records: `<length> <key>=<value>\n`, again and again.

use std::collections::BTreeMap;

/// The records of one extended header by key, the last of each; the pieces of
/// a GNU 0.0 sparse map, which repeats its keys, joined as in 0.1.
pub(super) type Records = BTreeMap<Vec<u8>, Vec<u8>>;

pub(super) const SPARSE_MAP: &[u8] = b"GNU.sparse.map";
const SPARSE_OFFSET: &[u8] = b"GNU.sparse.offset";
const SPARSE_LENGTH: &[u8] = b"GNU.sparse.numbytes";

/// Reads all records of an extended header.
///
/// # Errors
/// What breaks the format.
pub(super) fn parse(mut bytes: &[u8]) -> Result<Records, &'static str> {
    let mut records = Records::new();
    let mut map: Vec<u8> = Vec::new();
    let mut pieces = 0;
    while !bytes.is_empty() {
        let (key, value, rest) = record(bytes).ok_or("a PAX record is malformed")?;
        bytes = rest;
        if key == SPARSE_OFFSET || key == SPARSE_LENGTH {
            let expected = [SPARSE_OFFSET, SPARSE_LENGTH][pieces % 2];
            if key != expected || value.contains(&b',') {
                return Err("the PAX records of a sparse map are out of order");
            }
            if pieces > 0 {
                map.push(b',');
            }
            map.extend_from_slice(value);
            pieces += 1;
        } else {
            records.insert(key.to_vec(), value.to_vec());
        }
    }
    if pieces > 0 {
        records.insert(SPARSE_MAP.to_vec(), map);
    }
    Ok(records)
}

/// Key, value and what follows the record.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    if length < 5 || length <= space + 1 || length > bytes.len() {
        return None;
    }
    let (record, rest) = bytes.split_at(length);
    let record = record[space + 1..].strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    let text = matches!(key, b"path" | b"linkpath" | b"uname" | b"gname");
    let valid = !key.is_empty() && !if text { value } else { key }.contains(&0);
    valid.then_some((key, value, rest))
}
