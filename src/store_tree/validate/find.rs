//! Finding what must be there, and what must not.

use std::collections::BTreeSet;

use super::violation::{ValidationError, Violation};
use crate::{
    name::Mtime,
    squash::tree::{Directory, FileContent, Inode, InodeContent, Metadata, Node},
    store_tree::node::{DIRECTORY_MODE, FILE_MODE, SYMLINK_MODE},
};

/// Looks paths up in a tree, checks what it finds and collects what is wrong.
pub(super) struct Finder<'a> {
    tree: &'a Directory,
    violations: Vec<Violation>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(tree: &'a Directory) -> Self {
        let violations = Vec::new();
        Self { tree, violations }
    }

    pub(super) fn violation(&mut self, violation: Violation) {
        self.violations.push(violation);
    }

    pub(super) fn finish(self) -> Result<(), ValidationError> {
        match self.violations {
            violations if violations.is_empty() => Ok(()),
            violations => Err(ValidationError { violations }),
        }
    }

    /// The directories that every store tree has.
    pub(super) fn top(&mut self) {
        self.metadata("", &self.tree.metadata, DIRECTORY_MODE);
        let names = [
            "overlay",
            "overlay-images",
            "overlay-layers",
            "vfs-images",
            "vfs-layers",
        ];
        self.only("", names);
        for name in names {
            self.directory(name);
        }
        self.directory("overlay/l");
        self.only("vfs-images", ["images.lock"]);
        self.only("vfs-layers", ["layers.lock"]);
    }

    fn node(&mut self, path: &str) -> Option<&'a Node> {
        let node = lookup(self.tree, path);
        if node.is_none() {
            self.violation(Violation::Missing { path: path.into() });
        }
        node
    }

    fn wrong_type(&mut self, path: &str, expected: &'static str, found: &Node) {
        let found = match found {
            Node::Directory(_) => "a directory",
            Node::Inode(inode) => match inode.content {
                InodeContent::Regular(_) => "a file",
                InodeContent::Symlink(_) => "a symlink",
                InodeContent::CharDevice(_) | InodeContent::BlockDevice(_) => "a device",
                InodeContent::Fifo => "a named pipe",
            },
        };
        self.violation(Violation::Type {
            path: path.into(),
            expected,
            found,
        });
    }

    fn inode(&mut self, path: &str, expected: &'static str) -> Option<&'a Inode> {
        match self.node(path)? {
            Node::Inode(inode) => Some(inode),
            node => {
                self.wrong_type(path, expected, node);
                None
            }
        }
    }

    /// A directory of whatever owner and mode.
    pub(super) fn any_directory(&mut self, path: &str) -> Option<&'a Directory> {
        match self.node(path)? {
            Node::Directory(directory) => Some(directory),
            node => {
                self.wrong_type(path, "a directory", node);
                None
            }
        }
    }

    /// A directory of the store tree's own.
    pub(super) fn directory(&mut self, path: &str) -> Option<&'a Directory> {
        let directory = self.any_directory(path)?;
        self.metadata(path, &directory.metadata, DIRECTORY_MODE);
        Some(directory)
    }

    /// A regular file of the store tree's own.
    pub(super) fn file(&mut self, path: &str) -> Option<&'a FileContent> {
        let inode = self.inode(path, "a file")?;
        self.metadata(path, &inode.metadata, FILE_MODE);
        match &inode.content {
            InodeContent::Regular(content) => Some(content),
            _ => {
                let node = self.node(path)?;
                self.wrong_type(path, "a file", node);
                None
            }
        }
    }

    /// The bytes of a regular file that must lie in the tree itself.
    pub(super) fn inline(&mut self, path: &str) -> Option<&'a [u8]> {
        match self.file(path)? {
            FileContent::Inline(bytes) => Some(bytes),
            FileContent::Object { .. } => {
                self.violation(Violation::NotInline { path: path.into() });
                None
            }
        }
    }

    /// The target of a symlink of the store tree's own.
    pub(super) fn symlink(&mut self, path: &str) -> Option<&'a [u8]> {
        let inode = self.inode(path, "a symlink")?;
        self.metadata(path, &inode.metadata, SYMLINK_MODE);
        match &inode.content {
            InodeContent::Symlink(target) => Some(target),
            _ => {
                let node = self.node(path)?;
                self.wrong_type(path, "a symlink", node);
                None
            }
        }
    }

    /// The directory at `path`, if it is one, has no entries but these.
    pub(super) fn only<'n>(&mut self, path: &str, names: impl IntoIterator<Item = &'n str>) {
        let directory = match path {
            "" => self.tree,
            _ => match lookup(self.tree, path) {
                Some(Node::Directory(directory)) => directory,
                _ => return,
            },
        };
        let names: BTreeSet<&[u8]> = names.into_iter().map(str::as_bytes).collect();
        for name in directory.entries.keys() {
            if !names.contains(&name[..]) {
                let name = String::from_utf8_lossy(name);
                let path = match path {
                    "" => name.into_owned(),
                    _ => format!("{path}/{name}"),
                };
                self.violation(Violation::Unexpected { path });
            }
        }
    }

    fn metadata(&mut self, path: &str, found: &Metadata, mode: u32) {
        let owner = |metadata: &Metadata| format!("{}:{}", metadata.uid, metadata.gid);
        let time = |time: Mtime| format!("{}.{:09}", time.sec, time.nsec);
        let expected = Metadata::default();
        let path = if path.is_empty() { "the top" } else { path };
        for (what, expected, found) in [
            (
                "the mode",
                format!("{mode:04o}"),
                format!("{:04o}", found.mode),
            ),
            ("the owner", owner(&expected), owner(found)),
            ("the time", time(Mtime::EPOCH), time(found.mtime)),
            (
                "extended attributes:",
                "0".to_owned(),
                found.xattrs.len().to_string(),
            ),
        ] {
            if expected != found {
                self.violation(Violation::Metadata {
                    path: path.into(),
                    what,
                    expected,
                    found,
                });
            }
        }
    }
}

/// [`Directory::lookup`] of a path that does not live as long as the tree.
fn lookup<'a>(tree: &'a Directory, path: &str) -> Option<&'a Node> {
    let mut parts = path.split('/').map(str::as_bytes);
    let mut node = tree.entries.get(parts.next()?)?;
    for part in parts {
        let Node::Directory(directory) = node else {
            return None;
        };
        node = directory.entries.get(part)?;
    }
    Some(node)
}
