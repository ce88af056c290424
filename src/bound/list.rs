//! A plain list of images, for what no unit runs: `NN-name.toml`.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use crate::config::line_of;

/// What a list says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageList {
    /// The names as they are written, each with its line, from 1.
    pub images: Vec<(String, usize)>,
    /// Credentials for them all.
    pub auth_file: Option<PathBuf>,
}

/// Text that is no list of images.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ListError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
struct Document {
    images: Vec<Spanned<String>>,
    authfile: Option<PathBuf>,
}

/// Parses a list of images. Any bytes are accepted as input.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse_list(text: &[u8]) -> Result<ImageList, ListError> {
    let utf8 = str::from_utf8(text).map_err(|error| ListError {
        line: line_of(text, error.valid_up_to()),
        message: "not UTF-8".into(),
    })?;
    let document: Document = toml::from_str(utf8).map_err(|error| ListError {
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        message: error.message().trim_end().replace('\n', "; "),
    })?;
    let images = document.images.into_iter().map(|image| {
        let line = line_of(text, image.span().start);
        (image.into_inner(), line)
    });
    Ok(ImageList {
        images: images.collect(),
        auth_file: document.authfile,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_their_lines() {
        let text = "# c\nimages = [\"a\",\n  'b', # x\n]\nauthfile = \"/etc/a.json\"\n";
        let list = parse_list(text.as_bytes()).unwrap();
        assert_eq!(list.images, [("a".to_owned(), 2), ("b".to_owned(), 3)]);
        assert_eq!(list.auth_file, Some("/etc/a.json".into()));
        assert_eq!(parse_list(b"images = []").unwrap(), ImageList::default());
    }

    #[test]
    fn what_is_no_list() {
        for (text, line, said) in [
            (&b""[..], 1, "images"),
            (b"images = \"a\"", 1, "a sequence"),
            (b"images = [1]", 1, "string"),
            (b"images = []\nauth = 1", 2, "auth"),
            (b"images = []\n\nauthfile = 1", 3, "string"),
            (b"images = [", 1, ""),
            (b"images = []\n# \xff", 2, "UTF-8"),
            (b"[images]", 1, "sequence"),
        ] {
            let error = parse_list(text).unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(
                error.message.contains(said) && !error.message.contains('\n'),
                "{error}"
            );
        }
    }
}
