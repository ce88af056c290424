//! What a boot loader does: it reads the entries that a disk's `/boot` has, and
//! boots the first with its options (UAPI.1, Boot Loader Specification). The
//! kernel that they name is not looked at: that is the matrix's.

use std::{cmp::Reverse, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::command::output;

const ENTRIES: &str = "/boot/loader/entries";

/// The options of the default entry on an ext4 disk that nobody has mounted.
pub(crate) fn options(image: &Path) -> Result<String> {
    // What the machine wrote last may still be in the journal.
    output(Command::new("e2fsck").arg("-p").arg(image)).ok();
    let listed = debugfs(image, &format!("ls -p {ENTRIES}"))?;
    // `/inode/mode/uid/gid/name/size/`
    let names = listed.lines().filter_map(|line| line.split('/').nth(5));
    let mut entries = Vec::new();
    for name in names.filter(|name| name.ends_with(".conf")) {
        let text = debugfs(image, &format!("cat {ENTRIES}/{name}"))?;
        entries.push(Entry::parse(&text));
    }
    entries.sort_by(|a, b| a.order().cmp(&b.order()));
    let first = entries.into_iter().next();
    Ok(first.context("there is no boot entry")?.options)
}

#[derive(Debug, Default)]
struct Entry {
    sort_key: String,
    version: u64,
    options: String,
}

impl Entry {
    fn parse(text: &str) -> Self {
        let mut entry = Self::default();
        for line in text.lines() {
            let (key, value) = line.split_once([' ', '\t']).unwrap_or_default();
            match key {
                "sort-key" => value.trim().clone_into(&mut entry.sort_key),
                "version" => entry.version = value.trim().parse().unwrap_or_default(),
                "options" => value.trim().clone_into(&mut entry.options),
                _ => {}
            }
        }
        entry
    }

    /// By sort key, and the newest version first; one without a key comes last.
    fn order(&self) -> (bool, &str, Reverse<u64>) {
        (
            self.sort_key.is_empty(),
            &self.sort_key,
            Reverse(self.version),
        )
    }
}

fn debugfs(image: &Path, request: &str) -> Result<String> {
    output(Command::new("debugfs").args(["-R", request]).arg(image))
}

#[cfg(test)]
mod tests {
    use super::Entry;

    #[test]
    fn first_entry() {
        let first = |texts: &[&str]| {
            let mut entries: Vec<Entry> = texts.iter().map(|text| Entry::parse(text)).collect();
            entries.sort_by(|a, b| a.order().cmp(&b.order()));
            entries.remove(0).options
        };
        let ostree = [
            "version 1\noptions rw ostree=/a",
            "version 2\noptions rw ostree=/b",
        ];
        assert_eq!(first(&ostree), "rw ostree=/b");
        let bootc = [
            "sort-key bootc-debian-1\nversion 9\noptions composefs=a",
            "sort-key bootc-debian-0\nversion 1\noptions composefs=b",
        ];
        assert_eq!(first(&bootc), "composefs=b");
    }
}
