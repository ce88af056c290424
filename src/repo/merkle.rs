//! fs-verity digests over SHA-512, of several blocks at once (Linux,
//! `filesystems/fsverity.rst`, "Merkle tree" and "File digest computation").

use std::{fs::File, io, os::unix::fs::FileExt};

use sha2::{Digest as _, Sha512};

use crate::{
    at_once::{at_once, cores},
    name::ObjectId,
    sys::{LANES, sha512_of_each},
};

/// Bytes of a block of the file, and of the tree.
const BLOCK: usize = 4096;
/// Bytes that are hashed at once.
const AT_ONCE: usize = LANES * BLOCK;

type Digest = [u8; 64];

/// A file's Merkle tree, from the bytes as they come.
#[derive(Default)]
pub(super) struct MerkleTree {
    size: u64,
    /// The file itself first, then the digests of the level before.
    levels: Vec<Level>,
}

#[derive(Default)]
struct Level {
    /// Bytes that are not hashed yet, fewer than of [`LANES`] blocks.
    pending: Vec<u8>,
    /// How many blocks are.
    hashed: usize,
}

impl MerkleTree {
    /// Adds the next bytes of the file.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.add(0, bytes);
    }

    /// The file's digest.
    pub(super) fn finish(self) -> ObjectId {
        let (size, root) = self.root();
        ObjectId::Sha512(Sha512::digest(descriptor(size, &root)).into())
    }

    fn add(&mut self, level: usize, bytes: &[u8]) {
        if self.levels.len() == level {
            self.levels.push(Level::default());
        }
        let Level { pending, hashed } = &mut self.levels[level];
        let mut digests = Vec::new();
        let missing = match pending.len() {
            0 => 0,
            length => (AT_ONCE - length).min(bytes.len()),
        };
        let (fill, rest) = bytes.split_at(missing);
        pending.extend_from_slice(fill);
        if pending.len() == AT_ONCE {
            sha512_of_each(pending, BLOCK, &mut digests);
            pending.clear();
        }
        let (whole, rest) = rest.split_at(rest.len() / AT_ONCE * AT_ONCE);
        sha512_of_each(whole, BLOCK, &mut digests);
        pending.extend_from_slice(rest);
        *hashed += digests.len();
        if !digests.is_empty() {
            self.add(level + 1, digests.as_flattened());
        }
    }

    /// The file's size, and the root of its tree.
    fn root(mut self) -> (u64, Digest) {
        if self.size == 0 {
            return (0, [0; 64]);
        }
        for level in 0.. {
            let Level { pending, hashed } = &mut self.levels[level];
            pending.resize(pending.len().next_multiple_of(BLOCK), 0);
            let mut digests = Vec::new();
            sha512_of_each(pending, BLOCK, &mut digests);
            if *hashed == 0
                && let [root] = digests[..]
            {
                return (self.size, root);
            }
            self.add(level + 1, digests.as_flattened());
        }
        unreachable!("each level is shorter than the one before")
    }
}

/// The digests of files that are at hand: the blocks of those whose tree has no
/// more than one block of digests are hashed side by side.
pub(super) fn digests_of(files: &[&[u8]]) -> Vec<ObjectId> {
    const MOST: usize = BLOCK / size_of::<Digest>() * BLOCK;
    let is_small = |file: &[u8]| (1..=MOST).contains(&file.len());
    // What fills all lanes alone need not be copied beside others.
    let alone = |file: &[u8]| file.len() / AT_ONCE * AT_ONCE;
    let (mut leaves, mut beside, mut blocks) = (Vec::new(), Vec::new(), Vec::new());
    for file in files.iter().filter(|file| is_small(file)) {
        let (filling, rest) = file.split_at(alone(file));
        sha512_of_each(filling, BLOCK, &mut leaves);
        blocks.extend_from_slice(rest);
        blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
    }
    sha512_of_each(&blocks, BLOCK, &mut beside);
    let (mut leaves, mut beside) = (leaves.into_iter(), beside.into_iter());
    let (mut above, mut roots) = (Vec::new(), Vec::new());
    for file in files {
        if !is_small(file) {
            let mut tree = MerkleTree::default();
            tree.update(file);
            roots.push(Some(tree.root().1));
            continue;
        }
        let (filling, rest) = file.split_at(alone(file));
        if file.len() <= BLOCK {
            roots.push(beside.next());
            continue;
        }
        let filling = leaves.by_ref().take(filling.len() / BLOCK);
        let rest = beside.by_ref().take(rest.len().div_ceil(BLOCK));
        filling
            .chain(rest)
            .for_each(|digest| above.extend_from_slice(&digest));
        above.resize(above.len().next_multiple_of(BLOCK), 0);
        roots.push(None);
    }
    let mut of_above = Vec::new();
    sha512_of_each(&above, BLOCK, &mut of_above);
    let mut of_above = of_above.into_iter();
    let mut descriptors = Vec::new();
    for (file, root) in files.iter().zip(roots) {
        let root = root.or_else(|| of_above.next()).unwrap_or([0; 64]);
        descriptors.extend_from_slice(&descriptor(file.len() as u64, &root));
    }
    let mut digests = Vec::new();
    sha512_of_each(&descriptors, DESCRIPTOR, &mut digests);
    digests.into_iter().map(ObjectId::Sha512).collect()
}

/// The digest of a file of `size` bytes, more than a block, whose blocks are
/// hashed on all cores.
///
/// # Errors
/// Whatever reading says; it is shorter.
pub(super) fn digest_of_file(file: &File, size: u64) -> io::Result<ObjectId> {
    const PIECE: u64 = 64 << 10;
    /// Pieces whose digests are in memory.
    const AT_ONCE: usize = 1 << 10;
    let leaves = |piece: &u64, _: &dyn Fn(())| {
        let from = piece * PIECE;
        let length = usize::try_from(PIECE.min(size - from)).unwrap_or(0);
        let mut bytes = vec![0; length.next_multiple_of(BLOCK)];
        file.read_exact_at(&mut bytes[..length], from)?;
        let mut digests = Vec::new();
        sha512_of_each(&bytes, BLOCK, &mut digests);
        Ok::<_, io::Error>(digests)
    };
    let mut tree = MerkleTree {
        size,
        levels: vec![Level::default()],
    };
    let pieces: Vec<u64> = (0..size.div_ceil(PIECE)).collect();
    for pieces in pieces.chunks(AT_ONCE) {
        for digests in at_once(pieces, cores(), leaves, |_, ()| {})? {
            tree.levels[0].hashed += digests.len();
            tree.add(1, digests.as_flattened());
        }
    }
    Ok(tree.finish())
}

/// Bytes of what stands for the whole file.
const DESCRIPTOR: usize = 256;

/// `struct fsverity_descriptor`: version 1, SHA-512, blocks of 2^12, no salt.
fn descriptor(size: u64, root: &Digest) -> [u8; DESCRIPTOR] {
    let mut descriptor = [0; DESCRIPTOR];
    descriptor[..3].copy_from_slice(&[1, 2, 12]);
    descriptor[8..16].copy_from_slice(&size.to_le_bytes());
    descriptor[16..80].copy_from_slice(root);
    descriptor
}

#[cfg(test)]
mod tests {
    use composefs::fsverity::{Sha512HashValue, compute_verity};
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::repo::verity::Convert;

    fn content(size: usize) -> Vec<u8> {
        (0..size).map(|at| (at / 3 + at / 4096) as u8).collect()
    }

    fn expected(bytes: &[u8]) -> ObjectId {
        compute_verity::<Sha512HashValue>(bytes).object_id()
    }

    /// At each size at which the tree, or what is hashed at once, changes.
    #[test]
    fn trees_are_those_of_composefs() {
        let sizes = [
            0,
            1,
            4095,
            4096,
            4097,
            8 << 12,
            64 << 12,
            512 << 12,
            4096 << 12,
        ];
        let near = |size: usize| [size.saturating_sub(1), size, size + 1, size + 5000];
        let contents: Vec<_> = sizes.into_iter().flat_map(near).map(content).collect();
        for bytes in &contents {
            for piece in [1000, 4096, 1 << 20] {
                let mut tree = MerkleTree::default();
                bytes.chunks(piece).for_each(|piece| tree.update(piece));
                assert_eq!(tree.finish(), expected(bytes), "{} by {piece}", bytes.len());
            }
        }
        let all: Vec<_> = contents.iter().map(Vec::as_slice).collect();
        let each: Vec<_> = all.iter().map(|bytes| expected(bytes)).collect();
        assert_eq!(digests_of(&all), each);
        assert_eq!(digests_of(&[]), []);
    }

    #[test]
    fn a_files_pieces_are_put_together() {
        let file = tempfile::tempfile().unwrap();
        for size in [4097, 256 << 10, (256 << 10) + 1, (5 << 20) + 77] {
            let bytes = content(size);
            file.set_len(size as u64).unwrap();
            file.write_all_at(&bytes, 0).unwrap();
            assert_eq!(
                digest_of_file(&file, size as u64).unwrap(),
                expected(&bytes)
            );
        }
        assert!(digest_of_file(&file, 6 << 20).is_err());
    }

    proptest! {
        #[test]
        fn files_do_not_disturb_each_other(sizes in vec(0..80_000usize, 0..30)) {
            let contents: Vec<_> = sizes.into_iter().map(content).collect();
            let all: Vec<_> = contents.iter().map(Vec::as_slice).collect();
            let each: Vec<_> = all.iter().map(|bytes| expected(bytes)).collect();
            prop_assert_eq!(digests_of(&all), each);
        }
    }
}
