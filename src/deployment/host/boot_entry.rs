//! Boot loader entries (UAPI Boot Loader Specification, type 1).

use std::cmp::Ordering;

/// One entry of the boot menu.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct BootEntry {
    /// The file's name.
    pub(super) file: String,
    /// `version`
    pub(super) version: Option<String>,
    /// `sort-key`
    pub(super) sort_key: Option<String>,
    /// `machine-id`
    pub(super) machine_id: Option<String>,
    /// `options`: the kernel's arguments.
    pub(super) options: String,
    /// `efi` or `uki`: the path of a unified kernel image.
    pub(super) image: Option<String>,
}

impl BootEntry {
    pub(super) fn parse(file: &str, text: &str) -> Self {
        let mut entry = Self {
            file: file.to_owned(),
            ..Self::default()
        };
        for line in text.lines() {
            let Some((key, value)) = line.trim().split_once([' ', '\t']) else {
                continue;
            };
            let value = value.trim();
            match key {
                "version" => entry.version = Some(value.to_owned()),
                "sort-key" => entry.sort_key = Some(value.to_owned()),
                "machine-id" => entry.machine_id = Some(value.to_owned()),
                "efi" | "uki" => entry.image = Some(value.to_owned()),
                "options" => {
                    entry.options.push_str(value);
                    entry.options.push(' ');
                }
                _ => {}
            }
        }
        entry
    }

    pub(super) fn argument(&self, name: &str) -> Option<&str> {
        argument(&self.options, name)
    }

    /// ostree's order of the menu: the highest version first.
    pub(super) fn by_version(&self, other: &Self) -> Ordering {
        match (&self.version, &other.version) {
            (Some(ours), Some(theirs)) => compare_versions(theirs, ours),
            (ours, theirs) => theirs.is_some().cmp(&ours.is_some()),
        }
    }
}

/// The value of the first kernel argument `NAME=VALUE`.
pub(super) fn argument<'a>(options: &'a str, name: &str) -> Option<&'a str> {
    let value = |word: &'a str| word.strip_prefix(name)?.strip_prefix('=');
    options.split_ascii_whitespace().find_map(value)
}

/// Versions as people read them: runs of digits are numbers.
pub(super) fn compare_versions(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (a_text, a_digits, a_rest) = next_run(a);
        let (b_text, b_digits, b_rest) = next_run(b);
        let order = a_text
            .cmp(b_text)
            .then_with(|| compare_digits(a_digits, b_digits));
        if order != Ordering::Equal || (a_rest.is_empty() && b_rest.is_empty()) {
            return order.then_with(|| a_rest.cmp(b_rest));
        }
        (a, b) = (a_rest, b_rest);
    }
}

/// The text up to the first digit, the digits, and the rest.
fn next_run(text: &str) -> (&str, &str, &str) {
    let start = text.find(|c: char| c.is_ascii_digit());
    let (before, tail) = text.split_at(start.unwrap_or(text.len()));
    let end = tail.find(|c: char| !c.is_ascii_digit());
    let (digits, rest) = tail.split_at(end.unwrap_or(tail.len()));
    (before, digits, rest)
}

/// Numbers of any length.
fn compare_digits(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_unknown_ones_ignored() {
        let text = "title An OS\nversion 2\n# options none\noptions root=UUID=1 rw ostree=/a\n\
                    options ostree=/b x\nlinux /vmlinuz\nuki /EFI/x.efi\n";
        let entry = BootEntry::parse("ostree-2.conf", text);
        assert_eq!(entry.version.as_deref(), Some("2"));
        assert_eq!(entry.argument("ostree"), Some("/a"));
        assert_eq!(entry.argument("root"), Some("UUID=1"));
        assert_eq!(entry.argument("rw"), None);
        assert_eq!(entry.argument("x"), None);
        assert_eq!(entry.image.as_deref(), Some("/EFI/x.efi"));
        assert_eq!(BootEntry::parse("", "\0\n \nversion"), BootEntry::default());
    }

    #[test]
    fn versions_are_numbers_where_they_have_digits() {
        for (low, high) in [
            ("1", "2"),
            ("2", "10"),
            ("09", "10"),
            ("fedora-41.2", "fedora-42.0"),
            ("1.2", "1.2.1"),
            ("", "1"),
            ("1", "18446744073709551617"),
        ] {
            assert_eq!(compare_versions(low, high), Ordering::Less, "{low} {high}");
            assert_eq!(compare_versions(high, low), Ordering::Greater);
            assert_eq!(compare_versions(low, low), Ordering::Equal);
        }
        let entry = |text| BootEntry::parse("", text);
        let mut menu = [entry("linux x"), entry("version 1"), entry("version 2")];
        menu.sort_by(BootEntry::by_version);
        let versions = menu.map(|entry| entry.version.unwrap_or_default());
        assert_eq!(versions, ["2", "1", ""]);
    }
}
