//! Results to stdout, messages to stderr.

use std::io::{self, Write};

use serde::Serialize;

use super::{escape, failure::Failure};

/// How the user wants to be told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    pub(super) json: bool,
    pub(super) verbose: bool,
    pub(super) quiet: bool,
}

impl Output {
    /// A result: as JSON with its schema's name, or as text.
    pub(super) fn result(
        &self,
        verb: &str,
        value: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Document<'a, T> {
            schema: String,
            #[serde(flatten)]
            value: &'a T,
        }
        if self.json {
            let document = Document {
                schema: format!("boundstore.{verb}/v1"),
                value,
            };
            return self.document(&document);
        }
        write(&escape::lines(&text()))
    }

    /// A result that is a document in any case.
    pub(super) fn document(&self, value: &impl Serialize) -> Result<(), Failure> {
        let json = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
        write(&(escape::json(&json) + "\n"))
    }

    /// Something worth knowing, unless silence was asked for.
    pub(super) fn say(&self, message: &str) {
        if !self.quiet {
            tell(message);
        }
    }

    /// A line for programs, silence or not.
    pub(super) fn line(&self, value: &impl Serialize) {
        if let Ok(line) = serde_json::to_string(value) {
            to_stderr(&escape::json(&line));
        }
    }

    /// Something that may be wrong.
    pub(super) fn warn(&self, message: &str) {
        self.say(&format!("Warning: {message}"));
    }

    /// A detail.
    pub(super) fn detail(&self, message: &str) {
        if self.verbose {
            tell(message);
        }
    }
}

/// A message, wanted or not.
pub(super) fn tell(message: &str) {
    to_stderr(&escape::message(message));
}

/// Where nobody reads what is told, the work goes on.
fn to_stderr(line: &str) {
    let _unread = io::stderr().write_all(format!("{line}\n").as_bytes());
}

fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Bytes as people read them: `1.5 MiB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scaled = count;
    let mut rest = 0;
    while scaled >= 1024 && unit + 1 < UNITS.len() {
        rest = scaled % 1024;
        scaled /= 1024;
        unit += 1;
    }
    match unit {
        0 => format!("{scaled} B"),
        _ => format!("{scaled}.{} {}", rest * 10 / 1024, UNITS[unit]),
    }
}

/// A number of things: `1 image`, `2 images`.
pub(super) fn count(number: usize, thing: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{ending}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_are_readable() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(super::bytes(count), text);
        }
    }
}
