//! `/proc/self/mountinfo`, as far as we need it (proc_pid_mountinfo(5)).

use std::path::{Path, PathBuf};

use crate::error::{Doing, PathError};

/// One mount of the caller's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Where it is.
    pub target: PathBuf,
    /// `overlay`, `tmpfs`, ..
    pub filesystem: String,
    /// What was mounted; ours say `boundstore:..`.
    pub source: String,
    /// Options of the filesystem.
    pub options: String,
}

/// Reads all mounts, in the order they were made: of two at one target the
/// later one is seen.
///
/// # Errors
/// `/proc` is not there.
pub fn mount_table() -> Result<Vec<MountEntry>, PathError> {
    mount_table_of(Path::new("/proc/self/mountinfo"))
}

/// Reads all mounts from a file in the form of `mountinfo`.
///
/// # Errors
/// It cannot be read.
pub fn mount_table_of(path: &Path) -> Result<Vec<MountEntry>, PathError> {
    Ok(parse_mount_table(&std::fs::read(path).doing("read", path)?))
}

/// The mounts that the text of a `mountinfo` lists; lines that are none are
/// left out.
pub fn parse_mount_table(text: &[u8]) -> Vec<MountEntry> {
    let lines = text.split(|&byte| byte == b'\n');
    lines.filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let line = String::from_utf8_lossy(line);
    let (head, tail) = line.split_once(" - ")?;
    let target = unescape(head.split(' ').nth(4)?);
    let mut tail = tail.split(' ');
    Some(MountEntry {
        target: target.into(),
        filesystem: tail.next()?.to_owned(),
        source: unescape(tail.next()?),
        options: unescape(tail.next().unwrap_or_default()),
    })
}

/// Blank, tab, newline and backslash are written as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed_and_unescaped() {
        let line = br"36 35 98:0 /mnt1 /mnt\0402\134x rw,noatime shared:1 master:2 - overlay boundstore:ab ro,verity=require";
        let entry = parse_line(line).unwrap();
        assert_eq!(entry.target, PathBuf::from(r"/mnt 2\x"));
        assert_eq!(entry.filesystem, "overlay");
        assert_eq!(entry.source, "boundstore:ab");
        assert_eq!(entry.options, "ro,verity=require");
        assert_eq!(parse_line(b""), None);
        assert!(!mount_table().unwrap().is_empty());
    }
}
