//! What can go wrong with a repository.

use std::path::PathBuf;

use crate::{
    error::PathError,
    name::{Algorithm, ObjectId},
};

/// What the composefs crate said; its errors are untyped.
pub type Upstream = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong with a repository.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// There is no repository.
    #[error("{} is no composefs repository: it has no meta.json (sync creates one)", .0.display())]
    Absent(PathBuf),
    /// The repository could not be made.
    #[error("create the composefs repository {}", path.display())]
    Create {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: Upstream,
    },
    /// The repository could not be opened.
    #[error("open the composefs repository {}", path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: Upstream,
    },
    /// The filesystem has no fs-verity.
    #[error(
        "create a repository at {} with fs-verity: its filesystem cannot; \
         --allow-missing-verity creates one without the kernel's checks",
        path.display()
    )]
    NoVerity {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: Upstream,
    },
    /// The filesystem has no unnamed files, as which all objects begin.
    #[error(
        "a repository at {} cannot work: its filesystem has no unnamed files (O_TMPFILE), \
         as overlays of Linux 6.1; put it on a real filesystem",
        path.display()
    )]
    NoTmpfile {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: PathError,
    },
    /// Somebody holds the exclusive lock, most likely a gc.
    #[error("{} is locked by a garbage collection for over {waited_secs} s: try again later", path.display())]
    Busy {
        /// The repository.
        path: PathBuf,
        /// How long was waited.
        waited_secs: u64,
    },
    /// Others hold the shared lock.
    #[error(
        "{} is in use, by a sync or by bootc, for over {waited_secs} s: try again later",
        path.display()
    )]
    InUse {
        /// The repository.
        path: PathBuf,
        /// How long was waited.
        waited_secs: u64,
    },
    /// The garbage collection failed.
    #[error("collect the garbage of {}", path.display())]
    Collect {
        /// The repository.
        path: PathBuf,
        /// Why.
        source: Upstream,
    },
    /// A file of the repository could not be handled.
    #[error(transparent)]
    Path(#[from] PathError),
    /// An object's name is of another algorithm than the repository.
    #[error("object {id} is no {algorithm} digest, which this repository uses")]
    WrongAlgorithm {
        /// The name.
        id: ObjectId,
        /// The repository's.
        algorithm: Algorithm,
    },
    /// An object is not there.
    #[error("object {0} is missing: run `boundstore sync` again to bring it back")]
    MissingObject(ObjectId),
    /// An object is not what its name says.
    #[error("object {id} is damaged: {found}; run `boundstore sync` again to replace it")]
    BadObject {
        /// The name.
        id: ObjectId,
        /// What it is instead.
        found: String,
    },
    /// A stream is not what its name says.
    #[error("stream {name} is damaged")]
    BadStream {
        /// The stream.
        name: String,
        /// Why.
        source: Upstream,
    },
    /// A stream is not there.
    #[error("stream {0} is missing")]
    MissingStream(String),
    /// The crate refused to write.
    #[error("write {what} to the repository")]
    Write {
        /// What.
        what: String,
        /// Why.
        source: Upstream,
    },
}
