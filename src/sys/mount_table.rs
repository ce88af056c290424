//! `/proc/thread-self/mountinfo`, as far as we need it (proc_pid_mountinfo(5)).

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::error::{Doing, PathError};

/// One mount of the caller's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Its number.
    pub id: u64,
    /// The number of the mount it is on: of one it hides, where both have the
    /// same target.
    pub parent: u64,
    /// Where it is.
    pub target: PathBuf,
    /// `overlay`, `tmpfs`, ..
    pub filesystem: String,
    /// What was mounted; ours say `boundstore:..`.
    pub source: String,
    /// Options of the filesystem.
    pub options: String,
}

/// Of all mounts at `target`, a path without symlinks, the one on top. The
/// order of the table does not tell: a later one may have gone in beneath.
pub fn top_mount<'t>(table: &'t [MountEntry], target: &Path) -> Option<&'t MountEntry> {
    let here = || table.iter().filter(|mount| mount.target == target);
    here().rfind(|mount| here().all(|other| other.parent != mount.id || other.id == mount.id))
}

/// The number of the mount that `path` leads to, whatever covers what; `None`
/// before Linux 5.8.
///
/// # Errors
/// Whatever `statx(2)` says.
pub fn mount_id(path: &Path) -> Result<Option<u64>, PathError> {
    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).doing("stat", path)?;
    let told = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID);
    Ok(told.then_some(found.stx_mnt_id))
}

/// Reads all mounts, in no order that tells which is seen: see [`top_mount`].
///
/// # Errors
/// `/proc` is not there.
pub fn mount_table() -> Result<Vec<MountEntry>, PathError> {
    mount_table_of(Path::new("/proc/thread-self/mountinfo"))
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
    let mut head = head.split(' ');
    let id = head.next()?.parse().ok()?;
    let parent = head.next()?.parse().ok()?;
    let target = unescape(head.nth(2)?);
    let mut tail = tail.split(' ');
    Some(MountEntry {
        id,
        parent,
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
        assert_eq!((entry.id, entry.parent), (36, 35));
        assert_eq!(entry.target, PathBuf::from(r"/mnt 2\x"));
        assert_eq!(entry.filesystem, "overlay");
        assert_eq!(entry.source, "boundstore:ab");
        assert_eq!(entry.options, "ro,verity=require");
        assert_eq!(parse_line(b""), None);
        assert!(!mount_table().unwrap().is_empty());
    }

    #[test]
    fn the_top_is_told_by_parents() {
        let entry = |id, parent, target: &str| MountEntry {
            id,
            parent,
            target: target.into(),
            filesystem: "overlay".into(),
            source: "boundstore:ab".into(),
            options: String::new(),
        };
        // 9 went in beneath 5 after that was there.
        let table = [
            entry(1, 0, "/"),
            entry(5, 9, "/a"),
            entry(7, 5, "/a/b"),
            entry(9, 1, "/a"),
        ];
        let top = |target| top_mount(&table, Path::new(target)).map(|mount| mount.id);
        assert_eq!(top("/a"), Some(5));
        assert_eq!(top("/a/b"), Some(7));
        assert_eq!(top("/"), Some(1));
        assert_eq!(top("/b"), None);
        // The root of a namespace may say to be its own parent.
        assert_eq!(
            top_mount(&[entry(3, 3, "/")], Path::new("/")).map(|m| m.id),
            Some(3)
        );
    }
}
