//! Refs: what keeps a stream, and with it all that it refers to.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::SystemTime,
};

use serde::Serialize;

use super::{DeploymentId, Repo, RepoError, RepoView, SetRecord, view::refs_dir};
use crate::{error::Below, name::ObjectId, sys};

/// The kernel's name of one boot: `/proc/sys/kernel/random/boot_id`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct BootId(String);

/// A text that names no boot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no boot id: 36 of [0-9a-f-]")]
pub struct BootIdError(String);

impl FromStr for BootId {
    type Err = BootIdError;

    fn from_str(text: &str) -> Result<Self, BootIdError> {
        let plain = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
        if text.len() == 36 && text.bytes().all(plain) {
            return Ok(Self(text.to_owned()));
        }
        Err(BootIdError(text.to_owned()))
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a ref is there, by its place below `streams/refs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// `boundstore/deployments/<id>`: a deployment's set.
    Deployment(DeploymentId),
    /// `boundstore/mounted/<boot>.<set image>`: a set that no deployment has any
    /// more, and that was mounted since a boot.
    Mounted(BootId, ObjectId),
    /// `boundstore/partial/..`: a part of a set that is not published yet.
    Partial,
    /// What a killed writer left beside a ref it was about to replace.
    Leftover,
    /// Below `boundstore/`, but not understood: of a later version.
    Unknown,
    /// Somebody else's.
    Foreign,
}

/// A ref below `streams/refs`.
#[derive(Debug, Clone)]
pub struct Reference {
    /// Where, below `streams/refs`.
    pub path: PathBuf,
    /// Why it is there.
    pub purpose: Purpose,
    /// The stream it names.
    pub stream: String,
    /// Whether that stream is there, and its object. With a ref for which it is
    /// not, every garbage collection of the repository fails.
    pub is_whole: bool,
    /// When it was written.
    pub written: SystemTime,
}

impl Reference {
    /// The set image of the set whose pin it names.
    pub fn set_image(&self) -> Option<ObjectId> {
        pinned_set(&self.stream)
    }
}

fn pinned_set(stream: &str) -> Option<ObjectId> {
    stream.strip_prefix(SetRecord::STREAM_PREFIX)?.parse().ok()
}

fn purpose(path: &Path) -> Purpose {
    let Ok(ours) = path.strip_prefix("boundstore") else {
        return Purpose::Foreign;
    };
    let known = || {
        let (folder, name) = ours.to_str()?.split_once('/')?;
        if sys::is_temporary(name) {
            return Some(Purpose::Leftover);
        }
        match folder {
            "deployments" => Some(Purpose::Deployment(name.parse().ok()?)),
            "mounted" => {
                let (boot, set_image) = name.split_once('.')?;
                Some(Purpose::Mounted(
                    boot.parse().ok()?,
                    set_image.parse().ok()?,
                ))
            }
            "partial" if !name.contains('/') => Some(Purpose::Partial),
            _ => None,
        }
    };
    known().unwrap_or(Purpose::Unknown)
}

impl RepoView {
    /// All refs of streams, ours and others', sorted by path.
    ///
    /// # Errors
    /// Something below `streams/refs` is neither symlink nor directory; with
    /// that, no garbage collection works either.
    pub fn all_references(&self) -> Result<Vec<Reference>, RepoError> {
        let mut references = Vec::new();
        for link in sys::symlinks_below(self.fd(), Path::new("streams/refs"))? {
            let stream = Path::new(&link.target).file_name().unwrap_or_default();
            let stream = stream.to_string_lossy().into_owned();
            references.push(Reference {
                purpose: purpose(&link.path),
                is_whole: self.is_whole(&stream)?,
                path: link.path,
                stream,
                written: link.modified,
            });
        }
        references.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(references)
    }

    fn is_whole(&self, stream: &str) -> Result<bool, RepoError> {
        match self.stream(stream) {
            Ok(Some(id)) => self.has_object(&id, None),
            Ok(None) | Err(RepoError::BadStream { .. } | RepoError::WrongAlgorithm { .. }) => {
                Ok(false)
            }
            // No symlink at all.
            Err(RepoError::Path(error)) if error.kind() == std::io::ErrorKind::InvalidInput => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether there is a pin of this set.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub fn has_pin(&self, set_image: &ObjectId) -> Result<bool, RepoError> {
        self.is_whole(&SetRecord::stream_name(set_image))
    }

    /// The set image that a deployment's ref names, whether it is there or not.
    ///
    /// # Errors
    /// Whatever reading the ref says.
    pub fn set_image_of(&self, deployment: &DeploymentId) -> Result<Option<ObjectId>, RepoError> {
        let stream = self.reference(&deployment.reference())?;
        Ok(stream.as_deref().and_then(pinned_set))
    }
}

impl Repo {
    /// Keeps a set's pin from any garbage collection, durably, by a ref of its
    /// own; says whether there is such a pin.
    ///
    /// # Errors
    /// Whatever writing the ref says.
    pub fn keep_mounted(&self, boot: &BootId, set_image: &ObjectId) -> Result<bool, RepoError> {
        if !self.view().has_pin(set_image)? {
            return Ok(false);
        }
        let stream = SetRecord::stream_name(set_image);
        let reference = format!("mounted/{boot}.{set_image}");
        if self.view().reference(&reference)?.as_ref() != Some(&stream) {
            self.set_reference(&reference, &stream)?;
        }
        Ok(true)
    }

    /// Removes a ref of ours, durably.
    ///
    /// # Errors
    /// Whatever removing it says.
    pub fn drop_reference(&self, reference: &Reference) -> Result<(), RepoError> {
        let Ok(ours) = reference.path.strip_prefix("boundstore") else {
            return Ok(());
        };
        let path = refs_dir().join(ours);
        sys::remove_at(self.fd(), &path).below(self.path())?;
        Ok(sys::fsync_dir(self.fd(), path.parent().unwrap_or(&path)).below(self.path())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_nobodys_to_drop() {
        let boot = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
        let hex = "ab".repeat(64);
        let of = |path: &str| purpose(Path::new(path));
        let mounted = format!("boundstore/mounted/{boot}.{hex}");
        let expected = Purpose::Mounted(boot.parse().unwrap(), hex.parse().unwrap());
        assert_eq!(of(&mounted), expected);
        let expected = Purpose::Deployment("a.0".parse().unwrap());
        assert_eq!(of("boundstore/deployments/a.0"), expected);
        assert_eq!(of("boundstore/partial/00"), Purpose::Partial);
        let left = "boundstore/deployments/a.0~4242";
        assert_eq!(of(left), Purpose::Leftover);
        for unknown in [
            "boundstore",
            "boundstore/x",
            "boundstore/deployments/a/b",
            "boundstore/deployments/a b",
            "boundstore/partial/a/b",
            "boundstore/future/x",
            &format!("boundstore/mounted/{boot}"),
            &format!("boundstore/mounted/{}.{hex}", &boot[1..]),
            &format!("boundstore/mounted/{boot}.xx"),
        ] {
            assert_eq!(of(unknown), Purpose::Unknown, "{unknown}");
        }
        for foreign in ["oci/x", "boundstored/deployments/a", "a"] {
            assert_eq!(of(foreign), Purpose::Foreign, "{foreign}");
        }
    }
}
