//! Both formats hold the same trees; format 1, which composefs alone writes and
//! reads, is the oracle.

use std::collections::BTreeMap;

use composefs::erofs::reader::{Image, InodeHeader};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    name::ObjectId,
    squash::tree::{Directory, FileContent, Inode, InodeContent, Node},
};

fn is_rootfs(path: &[u8]) -> bool {
    let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    matches!(names[..], [b"overlay", _, b"diff"])
}

/// A file by its content, of few kinds so that many are alike.
fn inode(kind: u8) -> Arc<Inode> {
    let content = match kind {
        0..4 => InodeContent::Regular(FileContent::Inline(vec![kind; 9].into())),
        4..8 => InodeContent::Regular(FileContent::Object {
            id: ObjectId::Sha512([kind; 64]),
            size: 1 << (10 + kind),
        }),
        8 => InodeContent::Symlink(b"to"[..].into()),
        _ => InodeContent::Fifo,
    };
    let mut metadata = Metadata {
        mode: 0o600 + u32::from(kind),
        mtime: Mtime {
            sec: i64::from(kind / 2),
            nsec: 5,
        },
        ..Metadata::default()
    };
    if kind.is_multiple_of(3) {
        let value = vec![kind; 20].into_boxed_slice();
        metadata.xattrs.insert(b"user.x"[..].into(), value);
    }
    Arc::new(Inode { metadata, content })
}

/// A rootfs of names, each with a directory or none, a kind of file, and
/// whether it is one more name of the last file.
fn rootfs(names: &[(u8, u8, bool)]) -> Directory {
    let mut tree = Directory::default();
    let mut folders: BTreeMap<u8, Directory> = BTreeMap::new();
    let mut last = inode(0);
    for (place, (folder, kind, link)) in names.iter().enumerate() {
        if !link {
            last = inode(*kind);
        }
        let folder = match folder {
            0 => &mut tree,
            other => folders.entry(*other).or_default(),
        };
        let name = format!("f{place:02}").into_bytes().into();
        folder.entries.insert(name, Node::Inode(Arc::clone(&last)));
    }
    for (name, folder) in folders {
        let node = Node::Directory(Arc::new(folder));
        tree.entries.insert([b'a' + name].into(), node);
    }
    tree
}

fn store_tree(all: impl IntoIterator<Item = Directory>) -> Directory {
    let within = |name: &[u8], child: Directory| {
        let node = Node::Directory(Arc::new(child));
        let mut directory = Directory::default();
        directory.entries.insert(name.into(), node);
        directory
    };
    let mut overlay = Directory::default();
    for (number, tree) in all.into_iter().enumerate() {
        let layer = Node::Directory(Arc::new(within(b"diff", tree)));
        let name = format!("{number:02}").into_bytes().into();
        overlay.entries.insert(name, layer);
    }
    within(b"overlay", overlay)
}

/// A path, and what is there: nothing more of a directory.
type Listed = (Vec<u8>, Option<(Inode, usize)>);

/// Each name's inode, and the number of its hard links' first name in its
/// rootfs.
fn listing(tree: &Directory) -> Vec<Listed> {
    fn list(
        directory: &Directory,
        path: &mut Vec<u8>,
        groups: &mut Vec<*const Inode>,
        names: &mut Vec<Listed>,
    ) {
        for (name, node) in &directory.entries {
            let length = path.len();
            path.extend_from_slice(if length == 0 { b"" } else { b"/" });
            path.extend_from_slice(name);
            match node {
                Node::Directory(child) => {
                    names.push((path.clone(), None));
                    let own = &mut Vec::new();
                    let groups = if is_rootfs(path) { own } else { &mut *groups };
                    list(child, path, groups, names);
                }
                Node::Inode(inode) => {
                    let known = groups.iter().position(|one| *one == Arc::as_ptr(inode));
                    let group = known.unwrap_or(groups.len());
                    groups.extend(known.is_none().then_some(Arc::as_ptr(inode)));
                    names.push((path.clone(), Some(((**inode).clone(), group))));
                }
            }
            path.truncate(length);
        }
    }
    let mut names = Vec::new();
    list(tree, &mut Vec::new(), &mut Vec::new(), &mut names);
    names
}

fn image(tree: &Directory, format: SetFormat) -> Vec<u8> {
    render(Algorithm::Sha512, tree, format, is_rootfs)
        .unwrap()
        .into()
}

fn read(image: Vec<u8>) -> Result<Directory, Upstream> {
    read_back(Algorithm::Sha512, image, is_rootfs)
}

/// The number and the link count of the inode at a path.
fn stat(image: &[u8], path: &str) -> (u64, u32) {
    let image = Image::open(image).unwrap();
    let mut number = u64::from(image.sb.root_nid.get());
    for name in path.split('/') {
        number = image
            .find_child_nid(number, name.as_bytes())
            .unwrap()
            .unwrap();
    }
    (number, image.inode(number).unwrap().nlink())
}

#[test]
fn rootfs_share_what_has_as_many_names() {
    let file =
        |name: &str, inode: &Arc<Inode>| (name.as_bytes().into(), Node::Inode(Arc::clone(inode)));
    let (linked, alone) = (inode(5), inode(6));
    let of = |names: &[(&str, &Arc<Inode>)]| Directory {
        entries: names
            .iter()
            .map(|(name, inode)| file(name, inode))
            .collect(),
        ..Directory::default()
    };
    let tree = store_tree([
        of(&[("a", &linked), ("b", &linked), ("c", &alone)]),
        // A name of two is gone, another file is where it was.
        of(&[("a", &linked), ("b", &alone), ("c", &alone)]),
        // The same inodes made anew, under other names.
        of(&[("x", &inode(6)), ("y", &inode(6))]),
    ]);
    let bytes = image(&tree, SetFormat::V2);
    let stat = |path: &str| stat(&bytes, &format!("overlay/{path}"));
    assert_eq!(stat("00/diff/a"), stat("00/diff/b"));
    assert_eq!(stat("00/diff/a").1, 2);
    assert_eq!(stat("01/diff/a").1, 1);
    assert_eq!(stat("00/diff/c").1, 1);
    assert_eq!(stat("01/diff/b"), stat("01/diff/c"));
    assert_eq!(stat("01/diff/b").1, 2);
    // Two files, not two names of one: the first is that of the first rootfs.
    assert_eq!(stat("02/diff/x"), stat("00/diff/c"));
    assert_ne!(stat("02/diff/y"), stat("02/diff/x"));
    assert_eq!(stat("02/diff/y").1, 1);
    assert_eq!(listing(&read(bytes).unwrap()), listing(&tree));
}

#[test]
fn a_wrong_link_count_is_refused() {
    let names = [(0, 5, false), (0, 5, true), (0, 1, false)];
    let tree = store_tree([rootfs(&names), rootfs(&names)]);
    for format in SetFormat::ALL {
        let good = image(&tree, format);
        for path in ["overlay/00/diff/f00", "overlay/01/diff/f02"] {
            let (inode, links) = stat(&good, path);
            let at = usize::try_from(inode).unwrap() * 32;
            let field = if good[at] & 1 == 0 { at + 6 } else { at + 44 };
            let mut bad = good.clone();
            assert_eq!(u32::from(bad[field]), links);
            bad[field] += 1;
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains("link count"), "{error}");
        }
        assert!(read(good).is_ok());
    }
}

#[test]
fn a_directory_with_two_names_is_refused() {
    let tree = store_tree([rootfs(&[(1, 1, false), (2, 1, false)])]);
    let mut bytes = image(&tree, SetFormat::V2);
    let (number, _) = stat(&bytes, "overlay/00/diff/b");
    let (other, _) = stat(&bytes, "overlay/00/diff/c");
    // The name is in the parent's inode, behind its own number.
    let parent = usize::try_from(stat(&bytes, "overlay/00/diff").0).unwrap() * 32;
    let mut entries = bytes[parent..].windows(8);
    let at = parent
        + entries
            .position(|bytes| bytes == other.to_le_bytes())
            .unwrap();
    bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
    let error = read(bytes).unwrap_err().to_string();
    assert!(error.contains("two names"), "{error}");
}

proptest! {
    #[test]
    fn formats_hold_the_same_trees(
        all in vec(vec((0..3u8, 0..10u8, any::<bool>()), 0..12), 0..5),
    ) {
        let tree = store_tree(all.iter().map(|names| rootfs(names)));
        let (one, two) = (image(&tree, SetFormat::V1), image(&tree, SetFormat::V2));
        let expected = listing(&tree);
        prop_assert_eq!(&listing(&read(one.clone()).unwrap()), &expected);
        prop_assert_eq!(&listing(&read(two.clone()).unwrap()), &expected);
        prop_assert!(two.len() <= one.len());
        let format = |image: &[u8]| format_of(image, is_rootfs).unwrap();
        prop_assert_eq!(format(&one), SetFormat::V1);
        prop_assert_eq!(format(&two) == SetFormat::V2, one != two);
        // Whatever the trees share in memory: here each has all its own.
        let again = read(one.clone()).unwrap();
        prop_assert_eq!(&image(&again, SetFormat::V2), &two);
        let again = read(two).unwrap();
        prop_assert_eq!(&image(&again, SetFormat::V1), &one);
    }
}
