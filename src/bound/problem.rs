//! What can be wrong with what a deployment asks for: all of it at once.

use std::{error::Error, fmt, path::PathBuf};

use crate::{
    error::{PathError, with_causes},
    name::ImageName,
    sys::ReadInRootError,
};

use super::{
    image::{Origin, leads_to},
    quadlet::{NameFault, UnitFault},
};

/// Everything that is wrong, never nothing. Printed one problem to a line, each
/// with its causes.
#[derive(Debug)]
pub struct ScanError {
    problems: Vec<Problem>,
}

impl ScanError {
    /// The problems, in the order of directories, file names and arguments.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    pub(super) fn unless_empty(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() {
            return Ok(());
        }
        Err(Self { problems })
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}

impl Error for ScanError {}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&one_line(problem))?;
        }
        Ok(())
    }
}

/// An error and its causes as one line: file names and link targets come from
/// the deployment and may hold line feeds and escape sequences.
pub(super) fn one_line(error: &dyn Error) -> String {
    shown(&with_causes(error))
}

/// A text without what a terminal takes for commands.
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    shown
}

/// One thing that is wrong with what a deployment asks for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A directory of links, or a link in it, cannot be read.
    #[error(transparent)]
    Directory(#[from] PathError),
    /// An entry that binds nothing: every entry must.
    #[error("{}", path.display())]
    Entry {
        /// The entry, relative to the root.
        path: PathBuf,
        /// What is wrong with it.
        source: EntryFault,
    },
    /// What a link points to cannot be read: it dangles, leads out of the root,
    /// or to something that is no small regular file.
    #[error("{}", leads_to(path, target.as_deref()))]
    Read {
        /// The entry, relative to the root.
        path: PathBuf,
        /// What the entry says where it is a link, or the file it leads to.
        target: Option<PathBuf>,
        /// Why.
        source: ReadInRootError,
    },
    /// The unit does not say clearly which image it needs.
    #[error("{origin}")]
    Unit {
        /// The unit and the line.
        origin: Origin,
        /// What is wrong there.
        source: UnitFault,
    },
    /// Two directories have an entry of one name, for two different images. It
    /// looks as if one should replace the other, and none does.
    #[error(
        "{first} binds {}, but {second} of the same name binds {}",
        list(first_names),
        list(second_names)
    )]
    TwoUnits {
        /// The entry in the first directory.
        first: Origin,
        /// What it binds.
        first_names: Vec<ImageName>,
        /// The entry in the second directory.
        second: Origin,
        /// What it binds.
        second_names: Vec<ImageName>,
    },
    /// One image name with two different settings.
    #[error(
        "{name} has two values for {setting}: {:?} ({}) and {:?} ({})",
        first.0, list(&first.1), second.0, list(&second.1)
    )]
    Conflict {
        /// The name.
        name: ImageName,
        /// Which setting.
        setting: &'static str,
        /// One value, and where it comes from.
        first: (String, Vec<Origin>),
        /// The other.
        second: (String, Vec<Origin>),
    },
    /// An `--image` that cannot be understood.
    #[error(transparent)]
    Argument(#[from] ArgumentError),
}

fn list<T: ToString>(things: &[T]) -> String {
    let texts: Vec<_> = things.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

/// What can be wrong with an entry of a directory of links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryFault {
    /// Its name is not UTF-8.
    #[error("the name is not UTF-8")]
    NotUtf8,
    /// It is a file or a directory.
    #[error("not a symbolic link; put the unit elsewhere and link to it")]
    NotSymlink,
    /// Its name ends in something else than bootc's folder may have.
    #[error("the name ends neither in .image nor in .container")]
    Extension,
    /// Its name ends in something else than our folder may have.
    #[error(
        "the name is none of a bound unit or list: \
         *.image, *.container, *.kube, *.volume, *.pod or *.toml"
    )]
    Form,
    /// It is a folder, and not one of drop-ins.
    #[error("a folder; only those of drop-ins belong here, like app.container.d")]
    Folder,
}

/// An `--image` that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--image {text:?}")]
pub struct ArgumentError {
    /// What was typed, without credentials.
    pub text: String,
    /// What is wrong with it.
    #[source]
    pub fault: ArgumentFault,
}

/// What can be wrong with an `--image`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArgumentFault {
    /// Nothing after the `=`.
    #[error("no source follows the =, like oci:/path/to/layout")]
    EmptySource,
    /// What is before it is no image name.
    #[error(transparent)]
    Name(#[from] NameFault),
}

/// Something that works, and may not do what was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// A name without a registry. podman asks its registries.conf what a short
    /// name means; here it always means docker.io, on every host the same.
    ShortName {
        /// Where it is written.
        origin: Origin,
        /// As it is written.
        written: String,
        /// What it was taken for.
        name: ImageName,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShortName {
                origin,
                written,
                name,
            } => f.write_str(&shown(&format!(
                "{origin}: {written:?} is a short name, taken for {name}; write the full name"
            ))),
        }
    }
}
