//! Writes a tree out as a plain directory, for programs to look at.

use std::{
    collections::HashMap,
    fs::{self, File, FileTimes, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use boundstore::squash::tree::{Directory, FileContent, Inode, InodeContent, Metadata, Node};

/// Writes `tree` to `path`, which must not exist. Needs root if the tree has
/// other owners; devices and objects it does not know.
pub fn write(tree: &Directory, path: &Path) {
    fs::create_dir(path).unwrap();
    let mut links: HashMap<*const Inode, PathBuf> = HashMap::new();
    for (name, node) in &tree.entries {
        let path = path.join(std::str::from_utf8(name).unwrap());
        match node {
            Node::Directory(directory) => write(directory, &path),
            Node::Inode(inode) => match links.get(&Arc::as_ptr(inode)) {
                Some(first) => fs::hard_link(first, &path).unwrap(),
                None => {
                    links.insert(Arc::as_ptr(inode), path.clone());
                    write_inode(inode, &path);
                }
            },
        }
    }
    set(&tree.metadata, path);
}

fn write_inode(inode: &Inode, path: &Path) {
    match &inode.content {
        InodeContent::Regular(FileContent::Inline(bytes)) => {
            fs::write(path, bytes).unwrap();
            set(&inode.metadata, path);
        }
        InodeContent::Symlink(target) => {
            symlink(std::str::from_utf8(target).unwrap(), path).unwrap();
        }
        other => panic!("{other:?}"),
    }
}

fn set(metadata: &Metadata, path: &Path) {
    let (uid, gid) = (metadata.uid, metadata.gid);
    if (uid, gid) != (0, 0) {
        std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap();
    }
    fs::set_permissions(path, Permissions::from_mode(metadata.mode)).unwrap();
    let sec = u64::try_from(metadata.mtime.sec).unwrap();
    let mtime = SystemTime::UNIX_EPOCH + Duration::new(sec, metadata.mtime.nsec);
    let file = File::open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(mtime))
        .unwrap();
}
