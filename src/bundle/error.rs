//! Why a bundle could not be made or used.

use std::path::PathBuf;

use crate::{
    document::DocumentError,
    error::PathError,
    name::BlobDigest,
    source::{ImageError, SourceError},
};

/// Why a bundle could not be made or used. Nothing was left half done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// What it is to be made of, or is in, could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file could not be written.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The layout holds no bundle, or more than one.
    #[error("{origin} holds {found}: name one that `boundstore bundle create` has made")]
    NoBundle {
        /// Where it was looked for.
        origin: String,
        /// What is there instead.
        found: String,
    },
    /// Its index is none of a bundle.
    #[error("the index {digest} is unusable as a bundle: {reason}")]
    Index {
        /// Of the index.
        digest: BlobDigest,
        /// What is wrong with it.
        reason: String,
    },
    /// Some copy has written manifests anew.
    #[error(
        "{what} was {made} when the bundle was made and is {found} now: \
         a copy has changed it; copy the bundle again with `skopeo copy --all --preserve-digests`"
    )]
    Rewritten {
        /// The image or artifact.
        what: String,
        /// Its manifest's digest in the bundle as it was made.
        made: BlobDigest,
        /// What the index names now.
        found: BlobDigest,
    },
    /// A document in it is unusable.
    #[error("{what} is unusable")]
    Document {
        /// Which.
        what: String,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// The documents of an image contradict each other.
    #[error("the documents of {name} do not fit each other")]
    Image {
        /// Which.
        name: String,
        /// How.
        source: Box<ImageError>,
    },
    /// An original document is not there.
    #[error("the bundle has not the original document {digest} of {name}")]
    NoOriginal {
        /// Of which image.
        name: String,
        /// Which.
        digest: BlobDigest,
    },
    /// The manifest in the place of docker's is of another image.
    #[error("the manifest {digest} in the bundle is not that of {name}'s original one")]
    NotTheSame {
        /// Which image.
        name: String,
        /// What the bundle lists.
        digest: BlobDigest,
    },
    /// No OCI index can list it.
    #[error(
        "{what} has a manifest of docker's, which skopeo copies in no bundle: \
         leave what is about images out with --no-artifacts"
    )]
    Artifact {
        /// Which.
        what: String,
    },
    /// An index that lists the manifest only through another.
    #[error(
        "{name} names an index in an index, which no bundle can hold: \
         bind the inner one, by its digest"
    )]
    Nested {
        /// Which image.
        name: String,
    },
    /// Other bytes than a manifest names.
    #[error("{what}: {origin} gives {found}, but the manifest names {expected}: {way_out}")]
    Blob {
        /// Which blob of which image.
        what: String,
        /// Where it came from.
        origin: String,
        /// Digest and size in the manifest.
        expected: String,
        /// Digest and size of what came.
        found: String,
        /// What to do.
        way_out: &'static str,
    },
    /// Something is in the place of the layout.
    #[error("{} is there and not empty: remove it, or name another", path.display())]
    Occupied {
        /// The place.
        path: PathBuf,
    },
}
