//! What can go wrong between a name and its bytes.

use std::path::PathBuf;

use super::{image::ImageError, policy::PolicyError};
use crate::{
    document::DocumentError,
    error::PathError,
    name::{BlobDigest, Platform},
};

/// Why an image, or one of its layers, could not be had.
///
/// [`SourceError::failing`] says what kind of trouble it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The source is there, the image is not in it.
    #[error("find {wanted:?} in {origin}: {}", list("it holds", held))]
    NotFound {
        /// What was looked for.
        wanted: String,
        /// Where.
        origin: String,
        /// What there is instead.
        held: Vec<String>,
    },
    /// Several images could be meant.
    #[error(
        "choose an image of {origin}: name one of its images; {}",
        list("it holds", held)
    )]
    Ambiguous {
        /// Where.
        origin: String,
        /// What there is.
        held: Vec<String>,
    },
    /// An index has no image for the platform.
    #[error("find {wanted} in {index} of {origin}: {}", list("there is", held))]
    NoPlatform {
        /// What was asked for.
        wanted: Box<Platform>,
        /// The index.
        index: String,
        /// Where.
        origin: String,
        /// The platforms there are.
        held: Vec<String>,
    },
    /// A blob that a manifest, an index or the layout names is not there.
    #[error(
        "find {what} {digest} in {origin}: it is named there, but missing; copy the image again"
    )]
    MissingBlob {
        /// What it is: `config`, `layer 2`.
        what: String,
        /// Its digest.
        digest: BlobDigest,
        /// Where.
        origin: String,
    },
    /// Bytes that are not what they are said to be.
    #[error("check {what} of {origin}: expected {expected}, found {found}; copy the image again")]
    Mismatch {
        /// What it is.
        what: String,
        /// Where.
        origin: String,
        /// What was promised.
        expected: String,
        /// What there is.
        found: String,
    },
    /// The documents of the image do not fit.
    #[error("resolve {wanted:?} from {origin}")]
    Image {
        /// What was looked for.
        wanted: String,
        /// Where.
        origin: String,
        /// What is wrong with it.
        source: Box<ImageError>,
    },
    /// A document is unusable.
    #[error("read {what} of {origin}")]
    Document {
        /// What it is, with its digest.
        what: String,
        /// Where.
        origin: String,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// The source itself is not what its transport calls for.
    #[error("read {origin}: {reason}")]
    Damaged {
        /// Where.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// The source is sound, but nothing that is read here.
    #[error("read {origin}: {reason}")]
    Unsupported {
        /// Where.
        origin: String,
        /// What it is, and the way out.
        reason: String,
    },
    /// The host's policy, or skopeo on its behalf, says no.
    #[error("accept {wanted:?} from {origin}")]
    Denied {
        /// What was looked for.
        wanted: String,
        /// Where.
        origin: String,
        /// The policy's line and the way out.
        source: Box<PolicyError>,
    },
    /// skopeo is not installed.
    #[error(
        "run {}: it is not there; install skopeo, or give the image from oci:, oci-archive:, docker-archive: or containers-storage:",
        program.display()
    )]
    NoSkopeo {
        /// The program that was looked for.
        program: PathBuf,
    },
    /// skopeo failed.
    #[error("{doing} {reference} with skopeo: {message}")]
    Skopeo {
        /// What was being done.
        doing: &'static str,
        /// To which image.
        reference: String,
        /// skopeo's own words.
        message: String,
        /// What they mean.
        failing: Failing,
    },
    /// Too little came for too long.
    #[error(
        "{doing} {reference}: nothing, or next to nothing, came for {idle_secs} s; try again later"
    )]
    Timeout {
        /// What was being done.
        doing: &'static str,
        /// To which image.
        reference: String,
        /// How long was waited.
        idle_secs: u64,
    },
    /// Another process is at it; waiting any longer is up to the caller.
    #[error("lock {}: another process holds it; try again later", path.display())]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// The layer was never fetched, or the spool was emptied.
    #[error("open layer {index} of {image}: it has not been fetched")]
    NotFetched {
        /// Its place, base first, from 0.
        index: usize,
        /// The image.
        image: String,
    },
    /// Files.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// The kinds of trouble, as the exit status and a retry need them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// No such image, or not to be chosen from what is there: exit status 1.
    NotFound,
    /// The registry wants other credentials: exit status 1.
    Unauthorised,
    /// Policy, pin or lock say no: exit status 5.
    Denied,
    /// Network, time, another's lock: worth a retry; exit status 4.
    Transient,
    /// The source contradicts itself: exit status 1.
    Corrupt,
    /// A kind of image or source that is not read: exit status 1.
    Unsupported,
    /// Everything else, local I/O above all: exit status 1.
    Other,
}

impl SourceError {
    /// What kind of trouble this is.
    pub fn failing(&self) -> Failing {
        let corrupt = |corrupt| match corrupt {
            true => Failing::Corrupt,
            false => Failing::Unsupported,
        };
        match self {
            Self::NotFound { .. } | Self::Ambiguous { .. } | Self::NoPlatform { .. } => {
                Failing::NotFound
            }
            Self::MissingBlob { .. } | Self::Mismatch { .. } | Self::Damaged { .. } => {
                Failing::Corrupt
            }
            Self::Image { source, .. } => match &**source {
                ImageError::NotThePinned { .. } => Failing::Denied,
                ImageError::Platform { .. } => Failing::NotFound,
                other => corrupt(other.is_corrupt()),
            },
            Self::Document { source, .. } => corrupt(source.is_corrupt()),
            Self::Unsupported { .. } => Failing::Unsupported,
            Self::Denied { .. } => Failing::Denied,
            Self::Skopeo { failing, .. } => *failing,
            Self::Timeout { .. } | Self::Locked { .. } => Failing::Transient,
            Self::NoSkopeo { .. } | Self::NotFetched { .. } | Self::Path(_) => Failing::Other,
        }
    }
}

fn list(verb: &str, held: &[String]) -> String {
    const SHOWN: usize = 20;
    match held.len() {
        0 => format!("{verb} none"),
        more if more > SHOWN => format!(
            "{verb} {} and {} more",
            held[..SHOWN].join(", "),
            more - SHOWN
        ),
        _ => format!("{verb} {}", held.join(", ")),
    }
}
