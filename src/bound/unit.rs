//! Unit files: systemd's syntax, nothing of its meaning.

use std::sync::Arc;

/// The assignments of a unit file, in the order they were written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unit {
    sections: Vec<(Arc<str>, usize)>,
    assignments: Vec<Assignment>,
    drop_ins: usize,
}

/// One `key=value` of a unit file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The section it is in, without brackets.
    pub section: Arc<str>,
    /// What stands before the first `=`, trimmed; never empty.
    pub key: String,
    /// What stands after it, trimmed, continuation lines joined by a space.
    pub value: String,
    /// The file it is in: 0 is the unit, n the nth drop-in laid over it.
    pub file: usize,
    /// The line it begins in, from 1.
    pub line: usize,
}

/// A line that is no unit file syntax.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}")]
pub struct UnitError {
    /// The line, from 1; where lines were joined, the first of them.
    pub line: usize,
    /// What is wrong with it.
    #[source]
    pub fault: SyntaxFault,
}

/// What can be wrong with a line of a unit file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyntaxFault {
    /// A section header without `]` at its end, without a name, or with
    /// brackets in its name.
    #[error("a section header must look like [Name]")]
    SectionHeader,
    /// An assignment before the first section header.
    #[error("an assignment must follow a section header like [Image]")]
    NoSection,
    /// Text without `=`, or with nothing before it.
    #[error("neither a comment, a [Section] nor Key=value")]
    NoAssignment,
    /// Bytes that are no UTF-8, in a line that is no comment.
    #[error("not UTF-8")]
    NotUtf8,
    /// A NUL byte, or a carriage return inside a line: systemd ends a line
    /// there, podman does not.
    #[error("a NUL byte or a lone carriage return")]
    ControlByte,
}

impl Unit {
    /// The value that counts of a key which takes one: the last, unless that is
    /// empty, which takes all earlier ones back.
    pub fn last(&self, section: &str, key: &str) -> Option<&Assignment> {
        self.assignments
            .iter()
            .rev()
            .find(|a| &*a.section == section && a.key == key)
            .filter(|a| !a.value.is_empty())
    }

    /// The values that count of a key which takes several: those after the last
    /// empty one.
    pub fn all(&self, section: &str, key: &str) -> Vec<&Assignment> {
        let of_key = |a: &&Assignment| &*a.section == section && a.key == key;
        let mut values: Vec<_> = self
            .assignments
            .iter()
            .rev()
            .filter(of_key)
            .take_while(|a| !a.value.is_empty())
            .collect();
        values.reverse();
        values
    }

    /// Lays a drop-in over it: what that says comes later.
    pub fn merge(&mut self, drop_in: Unit) {
        self.drop_ins += 1;
        self.sections.extend(drop_in.sections);
        let here = |assignment| Assignment {
            file: self.drop_ins,
            ..assignment
        };
        self.assignments
            .extend(drop_in.assignments.into_iter().map(here));
    }

    /// The line of the first header of a section.
    pub fn section_line(&self, section: &str) -> Option<usize> {
        self.sections
            .iter()
            .find(|(name, _)| &**name == section)
            .map(|(_, line)| *line)
    }

    /// All assignments, in order.
    pub fn assignments(&self) -> &[Assignment] {
        &self.assignments
    }
}

/// The words of a value that is a list of them (systemd.syntax(7)): blanks
/// separate, quotes of both kinds hold together, a backslash takes the meaning
/// from a quote, a blank or another one, and `\\s` is a blank. An open quote goes
/// to the end.
pub fn words(value: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = value.chars().peekable();
    while let Some(char) = chars.next() {
        let escaped = chars
            .next_if(|next| char == '\\' && (" \t\\\"'s".contains(*next)))
            .map(|next| if next == 's' { ' ' } else { next });
        match char {
            '\\' => word.get_or_insert_default().push(escaped.unwrap_or(char)),
            _ if quote == Some(char) => quote = None,
            '"' | '\'' if quote.is_none() => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            _ if quote.is_none() && char.is_ascii_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    words
}

/// Parses the text of a unit file (systemd.syntax(7)).
///
/// As systemd does: a section that comes again goes on; comments start with `#`
/// or `;` and are skipped inside a continued line too; a backslash at the end
/// of a line joins the next one with a space; a byte order mark and CRLF are
/// accepted. Where systemd warns and goes on, and podman's generator fails,
/// this fails: a line that was not understood may have been the one that binds.
///
/// # Errors
/// The first line that is wrong. Any bytes are accepted as input, of any
/// length: the time is linear, the memory a small multiple of the input.
pub fn parse_unit(text: &[u8]) -> Result<Unit, UnitError> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut unit = Unit::default();
    let mut continued: Option<(usize, String)> = None;
    for (line, bytes) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let first = continued.as_ref().map_or(line, |(first, _)| *first);
        let fail = |fault| UnitError { line, fault };
        if bytes.iter().any(|byte| matches!(byte, 0 | b'\r')) {
            return Err(fail(SyntaxFault::ControlByte));
        }
        if matches!(bytes.trim_ascii_start().first(), Some(b'#' | b';')) {
            continue;
        }
        let piece = str::from_utf8(bytes).map_err(|_| fail(SyntaxFault::NotUtf8))?;
        let mut whole = continued.take().map_or_else(String::new, |(_, text)| text);
        whole.push_str(piece);
        // Two backslashes are one that was escaped, and end the line.
        let backslashes = whole.bytes().rev().take_while(|&b| b == b'\\').count();
        if backslashes % 2 == 1 {
            whole.pop();
            whole.push(' ');
            continued = Some((first, whole));
            continue;
        }
        unit.add_line(first, &whole)?;
    }
    match continued {
        Some((first, whole)) => unit.add_line(first, &whole).map(|()| unit),
        None => Ok(unit),
    }
}

impl Unit {
    fn add_line(&mut self, line: usize, text: &str) -> Result<(), UnitError> {
        let fail = |fault| UnitError { line, fault };
        let text = text.trim_ascii();
        if text.is_empty() {
            return Ok(());
        }
        if let Some(header) = text.strip_prefix('[') {
            let name = header
                .strip_suffix(']')
                .filter(|name| !name.is_empty() && !name.contains(['[', ']']))
                .ok_or(fail(SyntaxFault::SectionHeader))?;
            self.sections.push((name.into(), line));
            return Ok(());
        }
        let (key, value) = text
            .split_once('=')
            .map(|(key, value)| (key.trim_ascii_end(), value.trim_ascii_start()))
            .filter(|(key, _)| !key.is_empty())
            .ok_or(fail(SyntaxFault::NoAssignment))?;
        let (section, _) = self.sections.last().ok_or(fail(SyntaxFault::NoSection))?;
        self.assignments.push(Assignment {
            section: Arc::clone(section),
            key: key.to_owned(),
            value: value.to_owned(),
            file: 0,
            line,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> Vec<(String, String, String, usize)> {
        parse_unit(text.as_bytes())
            .unwrap()
            .assignments
            .into_iter()
            .map(|a| (a.section.to_string(), a.key, a.value, a.line))
            .collect()
    }

    fn one(text: &str) -> (String, usize) {
        let mut all = found(text);
        assert_eq!(all.len(), 1, "{text:?}");
        let (section, key, value, line) = all.remove(0);
        assert_eq!((section.as_str(), key.as_str()), ("S", "k"), "{text:?}");
        (value, line)
    }

    #[test]
    fn one_assignment_however_it_is_written() {
        for (text, value, line) in [
            ("[S]\nk=v", "v", 2),
            ("[S]\nk=v\n\n", "v", 2),
            ("\u{feff}[S]\nk=v", "v", 2),
            ("[S]\r\nk=v\r\n", "v", 2),
            ("  [S]\t\n \tk \t= \t v \t", "v", 2),
            ("# c\n; c\n\n  # [X]\n[S]\nk=v", "v", 6),
            ("[S]\nk=a=b = c", "a=b = c", 2),
            ("[S]\nk=", "", 2),
            ("[S]\nk=v # no comment", "v # no comment", 2),
            ("[S]\nk=\"quoted\"", "\"quoted\"", 2),
            ("[S]\nk=é", "é", 2),
            // continuation
            ("[S]\nk=a\\\nb", "a b", 2),
            ("[S]\nk=a \\\n  b\\\n\tc", "a    b \tc", 2),
            ("[S]\r\nk=a\\\r\nb\r\n", "a b", 2),
            ("[S]\nk=a\\\n# skipped\\\n  ; skipped\nb", "a b", 2),
            ("[S]\nk=a\\\n#[X]\n", "a", 2),
            ("[S]\nk=a\\\n\n", "a", 2),
            ("[S]\nk=a\\", "a", 2),
            ("[S]\nk\\\n=v", "v", 2),
            ("\\\n[S]\nk=v", "v", 3),
            ("[S]\nk=a\\\\", "a\\\\", 2),
            ("[S]\nk=a\\\\\\\nb", "a\\\\ b", 2),
            ("[S]\nk=a\\ \n", "a\\", 2),
            ("# a comment does not go on \\\n[S]\nk=v", "v", 3),
        ] {
            assert_eq!(one(text), (value.to_owned(), line), "{text:?}");
        }
    }

    #[test]
    fn sections_merge_and_the_last_value_counts() {
        let text =
            "[A]\nk=1\n[B]\nk=2\n[A]\nk=3\nj=4\n[C]\nk=5\nk=\n[D]\nk=6\nk=\nk=7\n[X-Any]\nk=8";
        let unit = parse_unit(text.as_bytes()).unwrap();
        let last = |section, key| unit.last(section, key).map(|a| (a.value.as_str(), a.line));
        assert_eq!(last("A", "k"), Some(("3", 6)));
        assert_eq!(last("A", "j"), Some(("4", 7)));
        assert_eq!(last("B", "k"), Some(("2", 4)));
        assert_eq!(last("C", "k"), None);
        assert_eq!(last("D", "k"), Some(("7", 14)));
        assert_eq!(last("a", "k"), None);
        assert_eq!(last("A", "K"), None);
        assert_eq!(unit.section_line("A"), Some(1));
        assert_eq!(unit.section_line("D"), Some(11));
        assert_eq!(unit.section_line("E"), None);
        assert_eq!(unit.assignments().len(), 10);
    }

    #[test]
    fn a_wrong_line_is_named() {
        use SyntaxFault::*;
        for (text, line, fault) in [
            (&b"[S"[..], 1, SectionHeader),
            (b"[]", 1, SectionHeader),
            (b"\n[S] x", 2, SectionHeader),
            (b"[S]]", 1, SectionHeader),
            (b"[[S]", 1, SectionHeader),
            (b"k=v", 1, NoSection),
            (b"[S]\nk", 2, NoAssignment),
            (b"[S]\n=v", 2, NoAssignment),
            (b"[S]\n = v", 2, NoAssignment),
            (b"[S]\n\n.include x", 3, NoAssignment),
            (b"[S]\n# c\nk \\\n\\\nv", 3, NoAssignment),
            (b"[S]\nk=\xff", 2, NotUtf8),
            (b"[S]\nk=\\\n\xff", 3, NotUtf8),
            (b"[S]\nk=a\0b", 2, ControlByte),
            (b"[S]\rk=v", 1, ControlByte),
            (b"[S]\n#c\rk=v", 2, ControlByte),
            (b"\x7fELF\x02\x01\x01\0\0\0", 1, ControlByte),
        ] {
            let error = parse_unit(text).unwrap_err();
            assert_eq!(error, UnitError { line, fault }, "{text:?}");
            assert_eq!(error.to_string(), format!("line {line}"));
        }
        assert_eq!(parse_unit(b"# \xff\n;\xff").unwrap(), Unit::default());
        assert_eq!(parse_unit(b"").unwrap(), Unit::default());
    }

    #[test]
    fn a_drop_in_says_more_and_may_take_back() {
        let mut unit = parse_unit(b"[A]\nk=1\nk=2\nj=3\n").unwrap();
        let all = |unit: &Unit| -> Vec<(String, usize)> {
            let values = unit.all("A", "k");
            values.iter().map(|a| (a.value.clone(), a.file)).collect()
        };
        assert_eq!(all(&unit), [("1".into(), 0), ("2".into(), 0)]);
        unit.merge(parse_unit(b"[A]\nk=4\n[B]\nk=0\n").unwrap());
        assert_eq!(all(&unit).len(), 3);
        unit.merge(parse_unit(b"[A]\nk=\nk=5\nj=\n").unwrap());
        assert_eq!(all(&unit), [("5".into(), 2)]);
        assert_eq!(unit.last("A", "j"), None);
        assert_eq!(unit.last("B", "k").unwrap().file, 1);
        assert!(unit.all("A", "j").is_empty() && unit.all("C", "k").is_empty());
    }

    #[test]
    fn values_are_split_into_words() {
        for (value, expected) in [
            ("", &[][..]),
            (" a  b\tc ", &["a", "b", "c"]),
            ("--arch=\"a b\" 'c d'e", &["--arch=a b", "c de"]),
            (
                r#"a\ b a\sb \"x\" \\ \z"#,
                &["a b", "a b", "\"x\"", "\\", "\\z"],
            ),
            (r#"'a"b' "c'd" "" ''"#, &["a\"b", "c'd", "", ""]),
            ("\"open a", &["open a"]),
            ("a\\", &["a\\"]),
        ] {
            assert_eq!(words(value), expected, "{value}");
        }
    }

    fn check(text: &[u8]) {
        let lines = text.split(|&b| b == b'\n').count();
        match parse_unit(text) {
            Err(error) => assert!((1..=lines).contains(&error.line)),
            Ok(unit) => {
                for a in &unit.assignments {
                    assert!((1..=lines).contains(&a.line));
                    assert!(!a.key.is_empty() && !a.key.contains('='));
                    assert_eq!(a.value.trim_ascii(), a.value);
                    assert!(unit.section_line(&a.section).is_some_and(|s| s < a.line));
                }
            }
        }
    }

    /// A name for each of many assignments is stored once, not once for each.
    #[test]
    fn a_long_section_name_is_shared() {
        let text = format!("[{}]\n{}", "s".repeat(1 << 19), "k=\n".repeat(1 << 17));
        let unit = parse_unit(text.as_bytes()).unwrap();
        assert_eq!(unit.assignments().len(), 1 << 17);
    }

    proptest! {
        #[test]
        fn any_bytes(text in prop::collection::vec(any::<u8>(), 0..400)) {
            check(&text);
        }

        #[test]
        fn any_lines(text in r"([\[\]=\\#; \tA-Ck%\r]{0,12}\n){0,12}") {
            check(text.as_bytes());
        }

        /// What is written out plainly is read back.
        #[test]
        fn round_trip(all in prop::collection::vec(
            ("[A-C]", "[a-z]{1,4}", r"([!-\[\]-~]([ -\[\]-~]{0,9}[!-\[\]-~])?)?"), 0..12))
        {
            let text: String = all
                .iter()
                .map(|(section, key, value)| format!("[{section}]\n# c\n{key}={value}\n"))
                .collect();
            let read: Vec<_> = found(&text).into_iter().map(|(s, k, v, _)| (s, k, v)).collect();
            prop_assert_eq!(read, all);
        }
    }
}
