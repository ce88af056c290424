//! I/O errors that say what was being done, and to which path.

use std::{
    io,
    path::{Path, PathBuf},
};

/// An I/O error with the verb and the path it happened at.
///
/// Printed as `open /x/y`; the [`io::Error`] is its source, so a chain reads
/// `open /x/y: No such file or directory`.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {}", path.display())]
pub struct PathError {
    /// What was being done: `open`, `read`, `rename to`.
    pub verb: &'static str,
    /// The path it was done to, as the caller knows it.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl PathError {
    /// The kind of the underlying I/O error.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// Adds verb and path to any result whose error is an I/O error.
pub trait Doing<T> {
    /// Turns the error into a [`PathError`] for `verb` and `path`.
    ///
    /// # Errors
    /// The original error, wrapped.
    fn doing(self, verb: &'static str, path: impl AsRef<Path>) -> Result<T, PathError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, verb: &'static str, path: impl AsRef<Path>) -> Result<T, PathError> {
        self.map_err(|error| PathError {
            verb,
            path: path.as_ref().to_owned(),
            source: error.into(),
        })
    }
}

/// Completes errors of what was done relative to a directory's handle.
pub(crate) trait Below {
    /// The same with the path below `dir`.
    fn below(self, dir: &Path) -> Self;
}

impl<T> Below for Result<T, PathError> {
    fn below(self, dir: &Path) -> Self {
        self.map_err(|error| PathError {
            path: dir.join(error.path),
            ..error
        })
    }
}

/// An error and its causes in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
