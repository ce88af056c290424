//! The set image, read back and held against the contract.

use std::{collections::HashSet, io::Read};

use super::hash;
use crate::{
    error::{Doing, with_causes},
    name::ObjectId,
    repo::{RepoError, RepoView, SetRecord, StreamParts, read_back},
    squash::tree::{Directory, FileContent, InodeContent, Node},
    store_tree::{is_rootfs, validate_tree},
};

/// What is wrong with a set image; and an object that it needs and its pin does
/// not keep.
pub(super) struct Judged {
    pub(super) wrong: Option<String>,
    pub(super) uncovered: Option<ObjectId>,
}

/// Reads a set image back and holds it against podman's contract and the pin.
pub(super) fn judge(view: &RepoView, set: &SetRecord, pin: &StreamParts) -> Judged {
    match read(view, set) {
        Err(wrong) => Judged {
            wrong: Some(wrong),
            uncovered: None,
        },
        Ok(tree) => Judged {
            wrong: validate_tree(&tree).err().map(|error| {
                format!(
                    "it is no store that podman can use: {}",
                    with_causes(&error)
                )
            }),
            uncovered: uncovered(&tree, &pin.all().copied().collect()),
        },
    }
}

fn read(view: &RepoView, set: &SetRecord) -> Result<Directory, String> {
    let bytes = bytes(view, set).map_err(|error| with_causes(&error))?;
    if bytes.len() as u64 != set.set_image_bytes {
        let expected = set.set_image_bytes;
        return Err(format!("it has {} bytes, not {expected}", bytes.len()));
    }
    // The kernel has measured a secure repository's when it was opened.
    if !view.is_secure() {
        let hashed = hash::fs_verity(view.algorithm(), &bytes[..]);
        let (found, _) = hashed.map_err(|error| with_causes(&error))?;
        if found != set.set_image {
            return Err(format!("its bytes hash to {found}"));
        }
    }
    let read = read_back(view.algorithm(), bytes, is_rootfs);
    read.map_err(|error| format!("it is no set image: {}", with_causes(&*error)))
}

fn bytes(view: &RepoView, set: &SetRecord) -> Result<Vec<u8>, RepoError> {
    let mut bytes = Vec::new();
    let file = view.open_object(&set.set_image)?;
    // One byte more than recorded is enough to know that it is another.
    file.take(set.set_image_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .doing("read", view.object_path(&set.set_image))?;
    Ok(bytes)
}

/// An object of the tree that is not among those kept.
fn uncovered(directory: &Directory, kept: &HashSet<ObjectId>) -> Option<ObjectId> {
    directory.entries.values().find_map(|node| match node {
        Node::Directory(child) => uncovered(child, kept),
        Node::Inode(inode) => match &inode.content {
            InodeContent::Regular(FileContent::Object { id, .. }) if !kept.contains(id) => {
                Some(*id)
            }
            _ => None,
        },
    })
}
