//! fs-verity digests, whichever algorithm a repository has.

use std::{fs::File, io::Write};

use composefs::fsverity::{
    FsVerityHashValue, FsVerityHasher, Sha256HashValue, Sha512HashValue, enable_verity_with_retry,
    measure_verity_opt,
};
use zerocopy::IntoBytes;

use super::{
    error::{RepoError, Upstream},
    merkle::{MerkleTree, digests_of},
};
use crate::{
    name::{Algorithm, ObjectId},
    sys::has_lanes,
};

/// Computes a fs-verity digest piece by piece.
pub(super) enum VerityHasher {
    Sha256(Box<FsVerityHasher<Sha256HashValue>>),
    Sha512(Box<FsVerityHasher<Sha512HashValue>>),
    /// SHA-512 too, where the processor is faster so.
    Lanes(MerkleTree),
}

impl VerityHasher {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Box::new(FsVerityHasher::new())),
            Algorithm::Sha512 if has_lanes() => Self::Lanes(MerkleTree::default()),
            Algorithm::Sha512 => Self::Sha512(Box::new(FsVerityHasher::new())),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        // Hashing cannot fail, though the trait has a result.
        let _infallible = match self {
            Self::Sha256(hasher) => hasher.write_all(bytes),
            Self::Sha512(hasher) => hasher.write_all(bytes),
            Self::Lanes(tree) => {
                tree.update(bytes);
                Ok(())
            }
        };
    }

    pub(super) fn finish(self) -> ObjectId {
        match self {
            Self::Sha256(mut hasher) => hasher.digest().object_id(),
            Self::Sha512(mut hasher) => hasher.digest().object_id(),
            Self::Lanes(tree) => tree.finish(),
        }
    }
}

/// The fs-verity digest of `bytes` (Linux, `filesystems/fsverity.rst`, "File
/// digest computation"): 4 KiB blocks, no salt.
pub fn fs_verity_digest(algorithm: Algorithm, bytes: &[u8]) -> ObjectId {
    let mut hasher = VerityHasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

/// The fs-verity digest of each of these files, see [`fs_verity_digest`].
pub(super) fn fs_verity_digests(algorithm: Algorithm, files: &[&[u8]]) -> Vec<ObjectId> {
    match algorithm {
        Algorithm::Sha512 if has_lanes() => digests_of(files),
        _ => files
            .iter()
            .map(|bytes| fs_verity_digest(algorithm, bytes))
            .collect(),
    }
}

/// What the kernel says of a file's fs-verity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verity {
    /// It is enabled, with this digest.
    Digest(ObjectId),
    /// It is not enabled on this file, or this filesystem or kernel has none.
    Absent,
}

/// Asks the kernel (`FS_IOC_MEASURE_VERITY`).
pub(super) fn measure(algorithm: Algorithm, file: &File) -> Result<Verity, Upstream> {
    let measured = match algorithm {
        Algorithm::Sha256 => {
            measure_verity_opt::<Sha256HashValue>(file)?.map(|value| value.object_id())
        }
        Algorithm::Sha512 => {
            measure_verity_opt::<Sha512HashValue>(file)?.map(|value| value.object_id())
        }
    };
    Ok(measured.map_or(Verity::Absent, Verity::Digest))
}

/// Enables fs-verity on a file that nobody has open for writing.
pub(super) fn enable(algorithm: Algorithm, file: &File) -> Result<(), Upstream> {
    match algorithm {
        Algorithm::Sha256 => enable_verity_with_retry::<Sha256HashValue>(file)?,
        Algorithm::Sha512 => enable_verity_with_retry::<Sha512HashValue>(file)?,
    }
    Ok(())
}

/// Between the crate's digest types and ours.
pub(super) trait Convert: FsVerityHashValue {
    /// The algorithm of this type's repositories.
    const OURS: Algorithm;

    fn from_id(id: &ObjectId) -> Result<Self, RepoError> {
        Self::read_from_bytes(id.as_bytes()).map_err(|_| RepoError::WrongAlgorithm {
            id: *id,
            algorithm: Self::OURS,
        })
    }
    fn object_id(&self) -> ObjectId;
}

impl Convert for Sha256HashValue {
    const OURS: Algorithm = Algorithm::Sha256;

    fn object_id(&self) -> ObjectId {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.as_bytes());
        ObjectId::Sha256(bytes)
    }
}

impl Convert for Sha512HashValue {
    const OURS: Algorithm = Algorithm::Sha512;

    fn object_id(&self) -> ObjectId {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.as_bytes());
        ObjectId::Sha512(bytes)
    }
}
