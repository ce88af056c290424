//! Text for terminals: names and messages that others made may hold characters
//! that act on one, or that show it in another order than it is read.

/// Text of several lines, without characters that act.
pub(super) fn lines(text: &str) -> String {
    escaped(text, |c| acts(c) && c != '\n', for_people)
}

/// A value in a line: it cannot begin another.
pub(super) fn value(text: &str) -> String {
    escaped(text, acts, for_people)
}

/// A JSON document: serde_json leaves in it what acts beyond ASCII. It can be
/// in strings only.
pub(super) fn json(text: &str) -> String {
    let beyond = |c| acts(c) && !matches!(c, '\n' | '\r');
    escaped(text, beyond, |c| format!("\\u{:04x}", u32::from(c)))
}

fn acts(c: char) -> bool {
    let reorders = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks = matches!(c, '\u{2028}' | '\u{2029}');
    (c.is_control() && c != '\t') || reorders || breaks
}

fn for_people(c: char) -> String {
    match u32::from(c) {
        0x0a => "\\n".to_owned(),
        code @ ..=0xff => format!("\\x{code:02x}"),
        code => format!("\\u{{{code:x}}}"),
    }
}

fn escaped(text: &str, which: impl Fn(char) -> bool, how: impl Fn(char) -> String) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if which(c) {
            shown += &how(c);
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A message: its lines after the first are indented, so that none of them
/// looks like a message of its own.
pub(super) fn message(text: &str) -> String {
    let text = lines(text);
    let mut parts = text.trim_end_matches('\n').split('\n');
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        shown.push('\n');
        shown += format!("  {}", part.trim_start()).trim_end();
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_shown() {
        for (text, shown) in [
            ("plain é ☃\tx", "plain é ☃\tx"),
            ("\u{1b}[2J", "\\x1b[2J"),
            ("a\rb\0c\u{7f}", "a\\x0db\\x00c\\x7f"),
            ("\u{9b}31m", "\\x9b31m"),
            ("gpj\u{202e}exe", "gpj\\u{202e}exe"),
            ("\u{2066}x\u{2069}\u{2028}", "\\u{2066}x\\u{2069}\\u{2028}"),
        ] {
            assert_eq!(lines(text), shown);
            assert_eq!(value(text), shown);
            assert_eq!(message(text), shown);
        }
    }

    #[test]
    fn a_line_feed_begins_no_message() {
        let text = "no\nError: yes\n";
        assert_eq!(lines(text), text);
        assert_eq!(value(text), "no\\nError: yes\\n");
        assert_eq!(message(text), "no\n  Error: yes");
    }

    #[test]
    fn json_stays_the_same_document() {
        let value = serde_json::json!({ "a\u{202e}": "\u{9b}\u{1b}\n\u{7f}\t" });
        let text = json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!text.chars().any(|c| acts(c) && c != '\n'), "{text}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            value
        );
    }
}
