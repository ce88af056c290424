//! Both formats hold the same trees; format 1, which composefs alone writes and
//! reads, is the oracle.

use std::collections::BTreeMap;

use composefs::erofs::{
    format::FormatVersion,
    reader::{Image, InodeHeader},
    writer::{ValidatedFileSystem, mkfs_erofs_versioned},
};
use proptest::{collection::vec, option, prelude::*};

use super::{graft::graft, *};
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

/// What composefs's own writer makes of a tree.
fn by_composefs<H: Convert>(tree: &Directory, format: SetFormat) -> Vec<u8> {
    let inventory = Inventory::of(tree, format, is_rootfs);
    let grafted = graft::<H>(&inventory).unwrap();
    let valid = ValidatedFileSystem::new(grafted).unwrap();
    let mut image = mkfs_erofs_versioned(&valid, FormatVersion::V1);
    if format >= SetFormat::V2 {
        let counts = LinkCounts::of(&image, is_rootfs).unwrap();
        counts.set_within(&mut image).unwrap();
    }
    image.into()
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
        prop_assert!(one == by_composefs::<Sha512HashValue>(&tree, SetFormat::V1));
        prop_assert!(two == by_composefs::<Sha512HashValue>(&tree, SetFormat::V2));
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

fn any_metadata() -> impl Strategy<Value = Metadata> {
    let name = prop_oneof![
        Just("security.selinux".to_owned()),
        Just("security.capability".to_owned()),
        Just("system.posix_acl_access".to_owned()),
        Just("system.posix_acl_default".to_owned()),
        Just("trusted.overlay.opaque".to_owned()),
        Just("trusted.overlay.overlay.metacopy".to_owned()),
        "(user|trusted|lustre|system|security)[.][a-c]{1,2}",
        "[a-c]{1,2}",
    ];
    let value = prop_oneof![vec(0..3u8, 0..4), vec(any::<u8>(), 0..300)];
    let id = prop_oneof![Just(0), 0..3u32, Just(65535), Just(65536), Just(u32::MAX)];
    let sec = prop_oneof![Just(0), 0..3i64, Just(-1), Just(1 << 40)];
    let all = (
        0..0o10000u32,
        id.clone(),
        id,
        sec,
        0..3u32,
        vec((name, value), 0..5),
    );
    all.prop_map(|(mode, uid, gid, sec, nsec, xattrs)| Metadata {
        mode,
        uid,
        gid,
        mtime: Mtime { sec, nsec },
        xattrs: xattrs
            .into_iter()
            .map(|(name, value)| (name.into_bytes().into(), value.into()))
            .collect(),
    })
}

fn any_inode() -> impl Strategy<Value = Inode> {
    // Near all lengths at which something lies otherwise.
    let length = || {
        let near = prop::sample::select(vec![0usize, 64, 2048, 3900, 4032, 4064, 4096, 6144, 8192]);
        prop_oneof![
            0..70usize,
            (near, 0..150usize).prop_map(|(a, b)| (a + b).saturating_sub(75))
        ]
    };
    let size = prop_oneof![
        0..5u64,
        4000..20_000u64,
        (0..50u32).prop_map(|bits| 1 << bits)
    ];
    let device = || {
        (0..3u32, 0..300u32).prop_map(|(major, minor)| Device {
            major: major + 1,
            minor,
        })
    };
    let content = prop_oneof![
        length()
            .prop_map(|length| InodeContent::Regular(FileContent::Inline(vec![7; length].into()))),
        length().prop_map(|length| InodeContent::Symlink(vec![b's'; length.clamp(1, 4095)].into())),
        (0..4u8, size).prop_map(|(kind, size)| {
            let id = ObjectId::Sha512([kind; 64]);
            InodeContent::Regular(FileContent::Object { id, size })
        }),
        device().prop_map(InodeContent::CharDevice),
        device().prop_map(InodeContent::BlockDevice),
        Just(InodeContent::Fifo),
    ];
    (any_metadata(), content).prop_map(|(metadata, content)| Inode { metadata, content })
}

/// A tree of few inodes under many names, some of them in directories.
fn any_rootfs(inodes: Vec<Arc<Inode>>) -> impl Strategy<Value = Directory> {
    let name = prop_oneof!["[!a-d]{1,3}", "[.,a]{3}", "[a-z]{200,255}"];
    let names = vec(
        (
            option::of("[!+a]{1,2}"),
            name,
            any::<prop::sample::Index>(),
            any::<bool>(),
        ),
        0..60,
    );
    (names, any_metadata()).prop_map(move |(names, metadata)| {
        let mut tree = Directory::new(metadata);
        let mut folders: BTreeMap<String, Directory> = BTreeMap::new();
        for (folder, name, inode, own) in names {
            let inode = inode.get(&inodes);
            let node = match own {
                true => Arc::new((**inode).clone()),
                false => Arc::clone(inode),
            };
            let folder = match folder {
                None => &mut tree,
                Some(folder) => folders
                    .entry(folder)
                    .or_insert_with(|| Directory::new(inode.metadata.clone())),
            };
            folder
                .entries
                .insert(name.into_bytes().into(), Node::Inode(node));
        }
        for (name, folder) in folders {
            let name = name.into_bytes().into();
            tree.entries.insert(name, Node::Directory(Arc::new(folder)));
        }
        tree
    })
}

fn any_store_tree() -> impl Strategy<Value = Directory> {
    let inodes = vec(any_inode().prop_map(Arc::new), 1..6);
    let all = inodes.prop_flat_map(|inodes| vec(any_rootfs(inodes), 0..4));
    (all, any_metadata()).prop_map(|(all, metadata)| Directory {
        metadata,
        ..store_tree(all)
    })
}

proptest! {
    /// composefs's writer is the oracle.
    #[test]
    fn images_are_those_of_composefs(tree in any_store_tree()) {
        for format in SetFormat::ALL {
            let expected = by_composefs::<Sha512HashValue>(&tree, format);
            prop_assert!(image(&tree, format) == expected, "{format:?}");
        }
    }
}

/// No squashed tree has any; they are shown, not obeyed.
#[test]
fn whiteouts_are_as_composefs_has_them() {
    let whiteout = |mode: u32| {
        let metadata = Metadata {
            mode,
            ..Metadata::default()
        };
        let content = InodeContent::CharDevice(Device { major: 0, minor: 0 });
        Node::Inode(Arc::new(Inode { metadata, content }))
    };
    let mut deep = Directory::default();
    deep.entries.insert(b"w"[..].into(), whiteout(0o600));
    deep.entries.insert(b"v"[..].into(), whiteout(0o601));
    let mut tree = Directory::default();
    for (name, mode) in [("ab", 0), ("cd", 0o644), ("long", 0o644), ("x", 0o1)] {
        tree.entries.insert(name.as_bytes().into(), whiteout(mode));
    }
    tree.entries
        .insert(b"file"[..].into(), Node::Inode(inode(1)));
    tree.entries
        .insert(b"z"[..].into(), Node::Directory(Arc::new(deep)));
    for tree in [tree.clone(), store_tree([tree])] {
        for format in SetFormat::ALL {
            let expected = by_composefs::<Sha512HashValue>(&tree, format);
            assert!(image(&tree, format) == expected, "{format:?}");
        }
    }
}

/// All lengths near those at which something lies otherwise.
#[test]
fn every_length_is_as_composefs_has_it() {
    let of = |metadata: &Metadata, length: usize| {
        let bytes = vec![b'x'; length].into_boxed_slice();
        let contents = [
            InodeContent::Regular(FileContent::Inline(bytes.clone())),
            InodeContent::Symlink(bytes),
        ];
        contents.map(|content| Inode {
            metadata: metadata.clone(),
            content,
        })
    };
    let short = Metadata::default();
    // Its inode is longer.
    let long = Metadata {
        uid: 70_000,
        ..Metadata::default()
    };
    let lengths = (1..130).chain(1900..2200).chain(3900..4096);
    for metadata in [short, long] {
        let all = lengths.clone().flat_map(|length| of(&metadata, length));
        let tree = store_tree([Directory {
            entries: (0..)
                .zip(all)
                .map(|(name, inode)| {
                    let name = format!("{name:04}").into_bytes().into();
                    (name, Node::Inode(Arc::new(inode)))
                })
                .collect(),
            ..Directory::default()
        }]);
        let expected = by_composefs::<Sha512HashValue>(&tree, SetFormat::NEWEST);
        assert!(image(&tree, SetFormat::NEWEST) == expected);
    }
}

/// More names than fit into the field of a short inode, in each rootfs and in all.
#[test]
fn files_of_very_many_names_are_those_of_composefs() {
    let file = inode(0);
    let of = |names: u32| Directory {
        entries: (0..names)
            .map(|name| {
                (
                    name.to_string().into_bytes().into(),
                    Node::Inode(Arc::clone(&file)),
                )
            })
            .collect(),
        ..Directory::default()
    };
    for names in [65_535, 65_536, 40_000] {
        let tree = store_tree([of(names), of(names)]);
        for format in SetFormat::ALL {
            let expected = by_composefs::<Sha512HashValue>(&tree, format);
            assert!(image(&tree, format) == expected, "{names} {format:?}");
        }
    }
}

#[test]
fn what_erofs_cannot_hold_is_an_error() {
    let of = |metadata: Metadata, content: InodeContent| {
        let file = Arc::new(Inode { metadata, content });
        let mut tree = Directory::default();
        tree.entries.insert(b"f"[..].into(), Node::Inode(file));
        render(
            Algorithm::Sha512,
            &store_tree([tree]),
            SetFormat::NEWEST,
            is_rootfs,
        )
    };
    let with = |name: &[u8], value: usize| Metadata {
        xattrs: [(name.into(), vec![1; value].into())].into(),
        ..Metadata::default()
    };
    let plain = Metadata::default;
    assert!(of(with(b"user.a", 65_535), InodeContent::Fifo).is_ok());
    assert!(of(with(b"user.a", 65_536), InodeContent::Fifo).is_err());
    assert!(of(with(&[b'u'; 256], 1), InodeContent::Fifo).is_err());
    let large = Device {
        major: u32::MAX,
        minor: 0,
    };
    assert!(of(plain(), InodeContent::BlockDevice(large)).is_err());
    let id = ObjectId::Sha256([1; 32]);
    let other = InodeContent::Regular(FileContent::Object { id, size: 70 });
    assert!(matches!(
        of(plain(), other),
        Err(RepoError::WrongAlgorithm { .. })
    ));
}
