//! The directories and files of the store tree itself: one owner, one time.

use std::sync::Arc;

use crate::squash::tree::{Directory, FileContent, Inode, InodeContent, Metadata, Node};

/// Mode of every directory of the store tree outside the `diff`s.
pub(super) const DIRECTORY_MODE: u32 = 0o755;
/// Mode of every file of the store tree outside the `diff`s.
pub(super) const FILE_MODE: u32 = 0o644;
/// Mode of every symlink of the store tree outside the `diff`s.
pub(super) const SYMLINK_MODE: u32 = 0o777;

fn metadata(mode: u32) -> Metadata {
    Metadata {
        mode,
        ..Metadata::default()
    }
}

/// An empty directory, 0755 root:root.
pub(super) fn directory() -> Directory {
    Directory::new(metadata(DIRECTORY_MODE))
}

fn inode(mode: u32, content: InodeContent) -> Node {
    let metadata = metadata(mode);
    Node::Inode(Arc::new(Inode { metadata, content }))
}

/// A file with these bytes, 0644 root:root.
pub(super) fn file(bytes: impl Into<Box<[u8]>>) -> Node {
    file_of(FileContent::Inline(bytes.into()))
}

/// A file with this content, 0644 root:root.
pub(super) fn file_of(content: FileContent) -> Node {
    inode(FILE_MODE, InodeContent::Regular(content))
}

/// A symlink.
pub(super) fn symlink(target: String) -> Node {
    let target = target.into_bytes().into();
    inode(SYMLINK_MODE, InodeContent::Symlink(target))
}

/// Adds `node` to `directory`, in the place of what has that name.
pub(super) fn put(directory: &mut Directory, name: &str, node: Node) {
    directory.entries.insert(name.as_bytes().into(), node);
}

/// Adds a finished directory to `directory`.
pub(super) fn put_directory(directory: &mut Directory, name: &str, child: Directory) {
    put(directory, name, Node::Directory(Arc::new(child)));
}
