//! fs-verity digests by another implementation than the repository's own: one
//! wrong line in that cannot make both agree.

use std::io::{self, Read};

use fs_verity::{InnerHashAlgorithm, new_dyn};

use crate::name::{Algorithm, ObjectId};

/// The fs-verity digest of what can be read (4 KiB blocks, no salt), and how
/// many bytes that was.
pub(super) fn fs_verity(algorithm: Algorithm, mut file: impl Read) -> io::Result<(ObjectId, u64)> {
    let mut digest = new_dyn(match algorithm {
        Algorithm::Sha256 => InnerHashAlgorithm::Sha256,
        Algorithm::Sha512 => InnerHashAlgorithm::Sha512,
    });
    let bytes = io::copy(&mut file, &mut digest)?;
    let digest = digest.finalize();
    let wrong = |_| io::Error::other("a digest of another length");
    let id = match algorithm {
        Algorithm::Sha256 => ObjectId::Sha256((*digest).try_into().map_err(wrong)?),
        Algorithm::Sha512 => ObjectId::Sha512((*digest).try_into().map_err(wrong)?),
    };
    Ok((id, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::fs_verity_digest;

    /// Around every size at which the Merkle tree changes its shape.
    #[test]
    fn both_implementations_agree() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for size in [
                0,
                1,
                64,
                4095,
                4096,
                4097,
                8192,
                64 << 12,
                (64 << 12) + 1,
                128 << 12,
                (128 << 12) + 1,
                9 << 20,
            ] {
                let bytes: Vec<u8> = (0..size).map(|at: usize| (at / 3) as u8).collect();
                let (id, read) = fs_verity(algorithm, &bytes[..]).unwrap();
                assert_eq!(id, fs_verity_digest(algorithm, &bytes), "{size}");
                assert_eq!(read, size as u64);
            }
        }
    }
}
