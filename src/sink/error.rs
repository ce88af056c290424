//! Why a store tree could not be written as files.

use std::path::PathBuf;

use crate::{error::PathError, repo::RepoError};

/// Why a store tree could not be written as files. What was there is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// Its objects could not be read.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// A file could not be written.
    #[error(transparent)]
    Path(PathError),
    /// It takes a privilege to write a file as it must be.
    #[error("that takes root: become it, or write a layer tar, which takes none")]
    Privilege(#[source] PathError),
    /// It takes a privilege to make a device, which builds of containers lack.
    #[error(
        "a device takes CAP_MKNOD: build with `--cap-add CAP_MKNOD`, \
         or write a layer tar, which takes no privilege"
    )]
    Device(#[source] PathError),
    /// Something else is in the place of the directory.
    #[error(
        "{} has {found}, which is no part of a store without images: \
         remove it, or write the store elsewhere", path.display()
    )]
    Occupied {
        /// The place.
        path: PathBuf,
        /// What is there, relative to it.
        found: String,
    },
    /// Something is in the place of what is to be written.
    #[error("{} is {found}: remove it, or name another", path.display())]
    InTheWay {
        /// The place.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// A file cannot be written down in a tar.
    #[error("no tar can hold the extended attribute {name:?} of {}", path.display())]
    Xattr {
        /// The file.
        path: PathBuf,
        /// Its attribute.
        name: String,
    },
}

impl From<PathError> for SinkError {
    fn from(error: PathError) -> Self {
        const EPERM: i32 = 1;
        const EACCES: i32 = 13;
        const EINVAL: i32 = 22;
        match error.source.raw_os_error() {
            Some(EPERM | EACCES) => Self::Privilege(error),
            // An owner that this user namespace has not.
            Some(EINVAL) if error.verb == "change the owner of" => Self::Privilege(error),
            _ => Self::Path(error),
        }
    }
}
