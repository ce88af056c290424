//! Checking a layer's tree.

use std::{collections::HashSet, sync::Arc};

use super::{find::Finder, violation::Violation};
use crate::{
    squash::tree::{Device, Directory, InodeContent, Metadata, Node},
    store_tree::walk::walk,
};

/// Checks that a tree holds nothing that comes alive in podman's overlay, and
/// nothing that no filesystem can hold. A directory that was `seen` in another
/// tree, by its address, is not looked at again.
pub(super) fn check(
    finder: &mut Finder<'_>,
    seen: &mut HashSet<*const Directory>,
    top: &str,
    diff: &Directory,
) {
    check_directory(finder, diff, || top.to_owned());
    walk(diff, |path, node| {
        let path = || format!("{top}/{}", String::from_utf8_lossy(path));
        let inode = match node {
            Node::Directory(directory) => {
                let new = seen.insert(Arc::as_ptr(directory));
                if new {
                    check_directory(finder, directory, path);
                }
                return new;
            }
            Node::Inode(inode) => inode,
        };
        check_metadata(finder, &inode.metadata, path);
        match &inode.content {
            InodeContent::CharDevice(Device { major: 0, minor: 0 }) => {
                finder.violation(Violation::Whiteout { path: path() });
            }
            InodeContent::Symlink(target)
                if target.is_empty() || target.len() > 4095 || target.contains(&0) =>
            {
                let what = "symlink target";
                finder.violation(Violation::Impossible { path: path(), what });
            }
            _ => {}
        }
        false
    });
}

fn check_directory(finder: &mut Finder<'_>, directory: &Directory, path: impl Fn() -> String) {
    check_metadata(finder, &directory.metadata, &path);
    // A slash or `..` would take a sink out of its directory.
    for name in directory.entries.keys() {
        let bad = matches!(&name[..], b"" | b"." | b"..")
            || name.len() > 255
            || name.contains(&b'/')
            || name.contains(&0);
        if bad {
            let path = format!("{}/{}", path(), String::from_utf8_lossy(name));
            finder.violation(Violation::FileName { path });
        }
    }
}

fn check_metadata(finder: &mut Finder<'_>, metadata: &Metadata, path: impl Fn() -> String) {
    for name in metadata.xattrs.keys() {
        let dangerous = name.starts_with(b"trusted.overlay.")
            || name.starts_with(b"user.overlay.")
            || **name == *b"security.selinux";
        if dangerous {
            finder.violation(Violation::Xattr {
                path: path(),
                name: String::from_utf8_lossy(name).into_owned(),
            });
        }
        if name.is_empty() || name.len() > 255 || name.contains(&0) {
            let what = "name of an extended attribute";
            finder.violation(Violation::Impossible { path: path(), what });
        }
    }
    let what = match metadata {
        metadata if metadata.mode > 0o7777 => "mode",
        metadata if metadata.mtime.nsec >= 1_000_000_000 => "time",
        // chown takes it for "leave it".
        metadata if metadata.uid == u32::MAX || metadata.gid == u32::MAX => "owner",
        _ => return,
    };
    finder.violation(Violation::Impossible { path: path(), what });
}
