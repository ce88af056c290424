//! The rules of squashing, each in a few lines: see `docs/fidelity.md`.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use super::{
    tree::{Device, Directory, FileContent, InodeContent, Metadata, Node},
    *,
};
use crate::name::Mtime;

/// What a value must begin with for Linux to take it; tests write the rest.
fn in_front(xattr: &str) -> &'static [u8] {
    match xattr {
        "security.capability" => b"\x01\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        "system.posix_acl_default" => b"\x02\0\0\0\x01\0\x07\0\0\0\0",
        _ => b"",
    }
}

/// An entry in words: `file a =text`, `dir d 700 1:2 @5.25 user.x=1`,
/// `link b -> a`, `sym s -> a`, `chr n 1,3`, `fifo p`. Mode 644, 0:0, @1.
fn entry(text: &str) -> LayerEntry {
    let mut words = text.split(' ');
    let kind = words.next().unwrap();
    let name = EntryName::parse(words.next().unwrap().as_bytes()).unwrap();
    let mut metadata = Metadata {
        mode: 0o644,
        mtime: Mtime { sec: 1, nsec: 0 },
        ..Metadata::default()
    };
    let (mut content, mut target, mut device) = ("", "", Device { major: 0, minor: 0 });
    while let Some(word) = words.next() {
        if word == "->" {
            target = words.next().unwrap();
        } else if let Some(text) = word.strip_prefix('=') {
            content = text;
        } else if let Some(time) = word.strip_prefix('@') {
            let (sec, nsec) = time.split_once('.').unwrap_or((time, "0"));
            let (sec, nsec) = (sec.parse().unwrap(), nsec.parse().unwrap());
            metadata.mtime = Mtime { sec, nsec };
        } else if let Some((name, value)) = word.split_once('=') {
            let value = [in_front(name), value.as_bytes()].concat();
            metadata.xattrs.insert(name.as_bytes().into(), value.into());
        } else if let Some((uid, gid)) = word.split_once(':') {
            (metadata.uid, metadata.gid) = (uid.parse().unwrap(), gid.parse().unwrap());
        } else if let Some((major, minor)) = word.split_once(',') {
            let (major, minor) = (major.parse().unwrap(), minor.parse().unwrap());
            device = Device { major, minor };
        } else {
            metadata.mode = u32::from_str_radix(word, 8).unwrap();
        }
    }
    let kind = match kind {
        "dir" => EntryKind::Directory,
        "file" => EntryKind::Regular(FileContent::Inline(content.as_bytes().into())),
        "link" => EntryKind::Hardlink(EntryName::parse(target.as_bytes()).unwrap()),
        "sym" => EntryKind::Symlink(target.as_bytes().into()),
        "chr" => EntryKind::CharDevice(device),
        "blk" => EntryKind::BlockDevice(device),
        "fifo" => EntryKind::Fifo,
        other => panic!("{other}"),
    };
    LayerEntry {
        name,
        metadata,
        kind,
    }
}

fn push(chain: &mut RootfsChain, layer: &[&str]) -> Result<Arc<Directory>, SquashError> {
    chain.push(layer.iter().map(|text| Ok::<_, Infallible>(entry(text))))
}

fn chain(layers: &[&[&str]]) -> RootfsChain {
    let mut chain = RootfsChain::default();
    for layer in layers {
        push(&mut chain, layer).unwrap();
    }
    chain
}

/// The tree below the root, a line for each name; files with more than one
/// name have the first of them behind a `&`.
fn squash(layers: &[&[&str]]) -> Vec<String> {
    show(chain(layers).top().unwrap())
}

fn show(tree: &Directory) -> Vec<String> {
    fn walk(
        tree: &Directory,
        path: &str,
        first: &mut HashMap<usize, String>,
        out: &mut Vec<String>,
    ) {
        for (name, node) in &tree.entries {
            let path = format!("{path}{}", String::from_utf8_lossy(name));
            match node {
                Node::Directory(dir) => {
                    out.push(format!("dir {path}{}", details(&dir.metadata)));
                    walk(dir, &format!("{path}/"), first, out);
                }
                Node::Inode(inode) => {
                    let what = match &inode.content {
                        InodeContent::Regular(FileContent::Inline(text)) if text.is_empty() => {
                            format!("file {path}")
                        }
                        InodeContent::Regular(FileContent::Inline(text)) => {
                            format!("file {path} ={}", String::from_utf8_lossy(text))
                        }
                        InodeContent::Regular(_) => unreachable!(),
                        InodeContent::Symlink(target) => {
                            format!("sym {path} -> {}", String::from_utf8_lossy(target))
                        }
                        InodeContent::CharDevice(d) => {
                            format!("chr {path} {},{}", d.major, d.minor)
                        }
                        InodeContent::BlockDevice(d) => {
                            format!("blk {path} {},{}", d.major, d.minor)
                        }
                        InodeContent::Fifo => format!("fifo {path}"),
                    };
                    let key = Arc::as_ptr(inode) as usize;
                    let link = match first.get(&key) {
                        Some(first) => format!(" &{first}"),
                        None => String::new(),
                    };
                    first.entry(key).or_insert(path);
                    out.push(format!("{what}{}{link}", details(&inode.metadata)));
                }
            }
        }
    }
    let mut out = Vec::new();
    walk(tree, "", &mut HashMap::new(), &mut out);
    out
}

fn details(metadata: &Metadata) -> String {
    let mut text = String::new();
    if metadata.mode != 0o644 {
        text += &format!(" {:o}", metadata.mode);
    }
    if (metadata.uid, metadata.gid) != (0, 0) {
        text += &format!(" {}:{}", metadata.uid, metadata.gid);
    }
    if metadata.mtime != (Mtime { sec: 1, nsec: 0 }) {
        text += &format!(" @{}", metadata.mtime.sec);
        if metadata.mtime.nsec != 0 {
            text += &format!(".{}", metadata.mtime.nsec);
        }
    }
    for (name, value) in &metadata.xattrs {
        let name = String::from_utf8_lossy(name);
        let value = value.strip_prefix(in_front(&name)).unwrap();
        text += &format!(" {name}={}", String::from_utf8_lossy(value));
    }
    text
}

macro_rules! squashes {
    ($($(#[$doc:meta])* $name:ident: [$([$($entry:expr),* $(,)?]),* $(,)?] => [$($line:expr),* $(,)?];)*) => {$(
        $(#[$doc])*
        #[test]
        fn $name() {
            let layers: &[&[&str]] = &[$(&[$($entry),*]),*];
            let expected: &[&str] = &[$($line),*];
            assert_eq!(squash(layers), expected);
        }
    )*};
}

squashes! {
    whiteout_hides_lower: [["file a", "file b"], ["file .wh.a"]] => ["file b"];
    whiteout_hides_directory: [["dir d", "file d/a"], ["file .wh.d"]] => [];
    whiteout_of_nothing: [["file .wh.a"]] => [];
    whiteout_can_be_of_any_type: [["file a", "file b"], ["dir .wh.a", "link .wh.b -> nowhere"]] => [];
    whiteout_spares_own_file_after: [["file a =1"], ["file .wh.a", "file a =2"]] => ["file a =2"];
    whiteout_spares_own_file_before: [["file a =1"], ["file a =2", "file .wh.a"]] => ["file a =2"];
    whiteout_before_own_directory_merges:
        [["dir d", "file d/low"], ["file .wh.d", "dir d 700", "file d/new"]]
        => ["dir d 700", "file d/low", "file d/new"];
    whiteout_after_own_directory_merges:
        [["dir d", "file d/low"], ["dir d 700", "file d/new", "file .wh.d"]]
        => ["dir d 700", "file d/low", "file d/new"];
    whiteout_before_implicit_directory_merges:
        [["dir d", "file d/low"], ["file .wh.d", "file d/new"]]
        => ["dir d 755 @0", "file d/low", "file d/new"];
    whiteout_then_whiteout_inside: [["dir d", "file d/a"], ["file .wh.d", "file d/.wh.a", "file d/.wh..wh..opq"]] => [];
    whiteout_inside_then_whiteout: [["dir d", "file d/a"], ["file d/.wh.a", "file .wh.d"]] => [];
    whiteout_below_a_file_says_nothing:
        [["dir d", "file d/a"], ["file d", "file d/.wh.a", "file d/x/.wh.a", "file d/.wh..wh..opq"]] => ["file d"];
    whiteout_makes_implicit_parents:
        [["dir d 700 5:5", "file d/a", "file d/b"], ["file d/.wh.a", "file x/y/.wh.z"]]
        => ["dir d 755 @0", "file d/b", "dir x 755 @0", "dir x/y 755 @0"];
    aufs_metadata_is_a_whiteout_of_the_rest:
        [["file .wh.plnk", "file .wh.aufs"], ["dir .wh..wh.plnk", "file .wh..wh.plnk/1.2 =q", "file .wh..wh.aufs"]]
        => ["dir .wh..wh.plnk 755 @0", "file .wh..wh.plnk/1.2 =q"];

    opaque_hides_lower_wherever_it_stands_1:
        [["dir d", "dir d/s", "file d/s/a"], ["file d/.wh..wh..opq", "dir d", "file d/s/new"]]
        => ["dir d", "dir d/s 755 @0", "file d/s/new"];
    opaque_hides_lower_wherever_it_stands_2:
        [["dir d", "dir d/s", "file d/s/a"], ["dir d", "file d/s/new", "file d/.wh..wh..opq"]]
        => ["dir d", "dir d/s 755 @0", "file d/s/new"];
    opaque_on_root_says_nothing: [["file a"], ["file b", "file .wh..wh..opq"]] => ["file a", "file b"];
    opaque_makes_implicit_directory_of_file: [["file d"], ["file d/.wh..wh..opq"]] => ["dir d 755 @0"];
    opaque_through_own_symlink:
        [["dir d", "file d/a"], ["dir d", "sym s -> d", "file s/.wh..wh..opq"]]
        => ["dir d", "sym s -> d 777"];

    implicit_parents_replace_metadata:
        [["dir d 700 5:6 user.x=1", "file d/a"], ["file d/new"]]
        => ["dir d 755 @0", "file d/a", "file d/new"];
    implicit_parents_inherit_setgid:
        [["dir d 2775 0:7", "file d/e/f/g"]]
        => ["dir d 2775 0:7", "dir d/e 2755 @0", "dir d/e/f 2755 @0", "file d/e/f/g"];
    implicit_then_explicit: [["file d/a", "dir d 700 @9"]] => ["dir d 700 @9", "file d/a"];
    directory_metadata_of_upper_wins_whole:
        [["dir d 700 5:6 @9 user.x=1", "file d/a"], ["dir d 711 user.y=2"]]
        => ["dir d 711 user.y=2", "file d/a"];

    lower_symlink_is_replaced:
        [["dir r", "file r/q", "sym s -> r"], ["file s/f"]]
        => ["dir r", "file r/q", "dir s 755 @0", "file s/f"];
    own_symlink_is_followed_inside_the_root:
        [["dir r", "sym s -> /r", "sym t -> ../../../r", "file s/f", "file t/g", "link h -> s/f"]]
        => ["file h", "dir r", "file r/f &h", "file r/g", "sym s -> /r 777", "sym t -> ../../../r 777"];
    own_symlink_to_nothing_makes_parents:
        [["sym s -> a/./b", "file s/f"]]
        => ["dir a 755 @0", "dir a/b 755 @0", "file a/b/f", "sym s -> a/./b 777"];
    symlink_dotdot_is_physical:
        [["dir a", "dir a/b", "sym s -> a/b", "sym t -> s/../x", "file t/f"]]
        => ["dir a", "dir a/b", "dir a/x 755 @0", "file a/x/f", "sym s -> a/b 777", "sym t -> s/../x 777"];

    file_over_directory_and_back:
        [["dir d", "file d/a"], ["file d =x"], ["dir d", "file d/b"]]
        => ["dir d", "file d/b"];
    file_over_directory_in_one_layer: [["dir d @5", "file d/a", "file d =x @7"]] => ["file d =x @7"];
    repeated_entry_last_wins: [["file a =1", "file a =2 600"]] => ["file a =2 600"];
    repeated_directory_keeps_children_and_xattrs:
        [["dir d user.a=1 user.b=1", "file d/x", "dir d 700 2:0 @9 user.b=2"]]
        => ["dir d 700 2:0 @9 user.a=1 user.b=2", "file d/x"];
    replaced_file_keeps_its_other_name: [["file a =1", "link b -> a", "file a =2"]] => ["file a =2", "file b =1"];

    hardlink_applies_its_header:
        [["file a user.a=1", "link b -> a 600 9:0 @22 user.b=1", "link c -> b 711 @33"]]
        => [
            "file a 711 @33 user.a=1 user.b=1",
            "file b 711 @33 user.a=1 user.b=1 &a",
            "file c 711 @33 user.a=1 user.b=1 &a",
        ];
    hardlink_to_symlink_sets_owner_only:
        [["sym s -> q @5", "link t -> s 600 4:0 @9"]]
        => ["sym s -> q 777 4:0 @5", "sym t -> q 777 4:0 @5 &s"];
    hardlink_with_another_owner_takes_capabilities:
        [["file a security.capability=x", "link b -> a 1:0",
          "file c security.capability=y", "link d -> c 600",
          "file e security.capability=y", "link f -> e 1:0 security.capability=z"]]
        => ["file a 1:0", "file b 1:0 &a",
            "file c 600 security.capability=y", "file d 600 security.capability=y &c",
            "file e 1:0 security.capability=z", "file f 1:0 security.capability=z &e"];
    hardlink_to_lower_file:
        [["file a =x 600 5:5"], ["link b -> a", "dir d", "link d/c -> b 777"]]
        => ["file a =x 600 5:5", "file b =x 600 5:5 &a", "dir d", "file d/c =x 600 5:5 &a"];
    hardlink_to_lower_file_and_whiteout_renames: [["file a =x"], ["link b -> a", "file .wh.a"]] => ["file b =x"];
    hardlink_prefers_own_layer: [["file a =1"], ["file a =2", "link b -> a"]] => ["file a =2", "file b =2 &a"];
    hardlink_name_is_cleaned: [["file d/a =1", "link b -> ../../x/../d/a"]] => ["file b =1", "dir d 755 @0", "file d/a =1 &b"];
    upper_file_breaks_link: [["file a =1", "link b -> a"], ["file b =2"]] => ["file a =1", "file b =2"];
    links_survive_whiteout: [["file a =1", "link b -> a", "link c -> a"], ["file .wh.b"]] => ["file a =1", "file c =1 &a"];

    whiteout_device_hides_and_vanishes:
        [["file a", "dir d", "file d/x"], ["chr a 0,0", "chr c 0,0", "link d -> c"]] => [];
    other_devices_stay: [["chr c 1,3", "blk b 0,0", "chr z 0,5", "fifo p 600"]]
        => ["blk b 0,0", "chr c 1,3", "fifo p 600", "chr z 0,5"];
    overlay_and_selinux_xattrs_are_dropped:
        [["dir d", "file d/low"],
         ["dir d trusted.overlay.opaque=y user.overlay.opaque=y security.selinux=l",
          "file f trusted.overlay.metacopy= trusted.x=1 trusted.overlay=1 security.capability=c security.ima=i user.e="]]
        => ["dir d", "file d/low", "file f security.capability=c security.ima=i trusted.overlay=1 trusted.x=1 user.e="];
    unsettable_xattrs_are_dropped:
        [["sym s -> t user.a=1 trusted.b=1 system.posix_acl_access=x", "fifo p user.a=1",
          "file f foo.a=1 system.nfs4_acl=1 user.=1 system.posix_acl_default=1",
          "dir d system.posix_acl_default=1"]]
        => ["dir d system.posix_acl_default=1", "file f", "fifo p", "sym s -> t 777 trusted.b=1"];
    run_and_odd_owners_stay: [["file run/x 4755 4294967294:65534 @3.999999999"]]
        => ["dir run 755 @0", "file run/x 4755 4294967294:65534 @3.999999999"];
    times_podman_cannot_set:
        [["file n @-100.5", "file z @-1.999999999", "file m @9223372036.854775807", "file o @9223372036.854775808",
          "dir d @-1", "sym n2 -> x @-101.5", "sym o2 -> x @9223372037", "sym p2 -> x @-9223372037"]]
        => ["dir d @0", "file m @9223372036.854775807", "file n @0", "sym n2 -> x 777 @-101.5",
            "file o @0", "sym o2 -> x 777 @0", "sym p2 -> x 777 @0", "file z @0"];
}

#[test]
fn root_without_an_entry() {
    let root = |layers: &[&[&str]]| details(&chain(layers).top().unwrap().metadata);
    assert_eq!(root(&[&["file a"]]), " 555 @0");
    assert_eq!(root(&[&["file a"], &[]]), " 555 @0");
    let base: &[&str] = &["dir / 1777 5:6 @9 user.x=1"];
    assert_eq!(root(&[base]), " 1777 5:6 @9 user.x=1");
    assert_eq!(root(&[base, &["file a"]]), " 755 5:6 @0");
    assert_eq!(root(&[base, &["dir / 700"]]), " 700");
}

#[test]
fn no_place_for_it() {
    use EntryFault::*;
    let name = |text: &str| EntryName::parse(text.as_bytes()).unwrap();
    let loops: Vec<String> = (0..41).map(|n| format!("sym s{n} -> s{}", n + 1)).collect();
    let loops: Vec<&str> = loops
        .iter()
        .map(String::as_str)
        .chain(["file s0/x"])
        .collect();
    for (layer, fault) in [
        (&["file a", "file a/b"][..], NotADirectory("a".into())),
        (&["sym s -> s", "file s/b"], SymlinkLoop("s".into())),
        (&loops, SymlinkLoop("s40".into())),
        (&["link b -> a"], LinkTargetMissing(name("a"))),
        (&["file a", "link a -> a"], LinkTargetMissing(name("a"))),
        (&["link b -> x/y/a"], LinkTargetMissing(name("x/y/a"))),
        (&["sym s -> s", "link b -> s/a"], SymlinkLoop("s".into())),
        (&["dir d", "link b -> d"], LinkToDirectory(name("d"))),
        (&["link b -> low"], LinkToDirectory(name("low"))),
        (&["link b -> /"], LinkToDirectory(name("/"))),
        (
            &["file low/.wh.f", "link b -> low/f/x"],
            LinkTargetMissing(name("low/f/x")),
        ),
        (&["file /"], RootNotADirectory),
        (&["file .wh."], BadWhiteout),
        (&["file d/.wh.."], BadWhiteout),
        (&["file d/.wh..."], BadWhiteout),
        (&["sym s -> "], BadSymlink),
    ] {
        let mut chain = chain(&[&["dir low", "file low/f"]]);
        let before = show(chain.top().unwrap());
        let error = push(&mut chain, layer).unwrap_err();
        let SquashError::Entry {
            layer: 1,
            number,
            name,
            source,
            ..
        } = &error
        else {
            panic!("{error:?}");
        };
        assert_eq!(
            (source, *number),
            (&fault, layer.len() as u64 - 1),
            "{layer:?}"
        );
        assert!(error.to_string().contains(&name.to_string()), "{error}");
        assert_eq!(show(chain.top().unwrap()), before);
    }
    let mut chain = RootfsChain::default();
    let error = chain.push([Err("no more")]).unwrap_err();
    assert_eq!(error.to_string(), "read entry 0 of layer 0");
    let text = format!("file f user.{}=1", "x".repeat(251));
    assert!(matches!(
        push(&mut chain, &[&text]).unwrap_err(),
        SquashError::Entry {
            source: XattrTooLarge(_),
            ..
        }
    ));
}

#[test]
fn dropped_is_counted() {
    let chain = chain(&[
        &[
            "chr a 0,0",
            "file b trusted.overlay.x=1 user.overlay.y=1 security.selinux=1",
        ],
        &["chr a 0,0", "sym s -> t user.a=1"],
    ]);
    let dropped = chain.dropped();
    assert_eq!(dropped.whiteout_devices, 2);
    assert_eq!(dropped.overlay_xattrs, 2);
    assert_eq!(dropped.selinux_xattrs, 1);
    assert_eq!(dropped.unsettable_xattrs, 1);
}

#[test]
fn access_list_and_mode_agree() {
    let list = |mask: u8, group: u8| {
        let entries = [[1, 6], [2, 7], [4, group], [0x10, mask], [0x20, 0]];
        let mut value = vec![2, 0, 0, 0];
        for [tag, permission] in entries {
            value.extend([tag, 0, permission, 0, 1, 0, 0, 0]);
        }
        value.into_boxed_slice()
    };
    let acl: &[u8] = b"system.posix_acl_access";
    let mut a = entry("file a 644");
    a.metadata.xattrs.insert(acl.into(), list(7, 4));
    let mut minimal = entry("file m 644");
    let full = list(7, 4);
    let value = full[..12]
        .iter()
        .copied()
        .chain([4, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 1, 0, 0, 0, 0, 0]);
    minimal.metadata.xattrs.insert(acl.into(), value.collect());
    let mut b = entry("file b 644");
    b.metadata.xattrs.insert(acl.into(), list(7, 4));
    let link = entry("link c -> b 600");
    let tree = RootfsChain::default()
        .push([a, minimal, b, link].map(Ok::<_, Infallible>))
        .unwrap();
    let get = |name: &[u8]| match &tree.entries[name] {
        Node::Inode(inode) => inode.metadata.clone(),
        Node::Directory(_) => unreachable!(),
    };
    assert_eq!(get(b"a").mode, 0o670);
    assert_eq!(get(b"a").xattrs[acl], list(7, 4));
    assert_eq!(get(b"m").mode, 0o601);
    assert!(get(b"m").xattrs.is_empty());
    assert_eq!(get(b"b").mode, 0o600);
    assert_eq!(get(b"b").xattrs[acl], list(0, 4));
}

#[test]
fn what_does_not_change_is_shared() {
    let mut chain = chain(&[&["file d/a", "file e/f/g", "file h"]]);
    let one = chain.top().unwrap().clone();
    let two = push(&mut chain, &["file d/b"]).unwrap();
    let directory = |tree: &Directory, name: &[u8]| match &tree.entries[name] {
        Node::Directory(dir) => dir.clone(),
        Node::Inode(_) => unreachable!(),
    };
    assert!(Arc::ptr_eq(&directory(&one, b"e"), &directory(&two, b"e")));
    assert!(!Arc::ptr_eq(&directory(&one, b"d"), &directory(&two, b"d")));
    let (Node::Inode(a), Node::Inode(b)) = (&one.entries[&b"h"[..]], &two.entries[&b"h"[..]])
    else {
        unreachable!()
    };
    assert!(Arc::ptr_eq(a, b));
}

#[test]
fn depth_has_a_limit() {
    let deepest = format!("file {}f", "d/".repeat(MAX_DEPTH));
    let mut chain = chain(&[&[&deepest], &["file d/d/x"], &[&deepest]]);
    let tree = chain.top().unwrap().clone();
    let path = deepest[5..].split('/').map(str::as_bytes);
    assert!(matches!(tree.lookup(path), Some(Node::Inode(_))));
    let deeper = format!("file {}f", "d/".repeat(MAX_DEPTH + 1));
    // a symlink must not get around it
    let link = format!("sym s -> {}", "d/".repeat(1000));
    let through = format!("file s/{}f", "d/".repeat(30));
    for layer in [&[deeper.as_str()][..], &[&link, &through]] {
        assert!(matches!(
            push(&mut chain, layer).unwrap_err(),
            SquashError::Entry {
                source: EntryFault::TooDeep,
                ..
            }
        ));
    }
}

/// 100,000 names in one directory, over three layers, must take no time.
#[test]
fn wide_directories_are_not_quadratic() {
    let mut chain = RootfsChain::default();
    for layer in 0..3 {
        let entries =
            (0..100_000).map(|n| Ok::<_, Infallible>(entry(&format!("file d/{layer}-{n}"))));
        chain.push(entries).unwrap();
    }
    let Node::Directory(dir) = &chain.top().unwrap().entries[&b"d"[..]] else {
        unreachable!()
    };
    assert_eq!(dir.entries.len(), 300_000);
}

#[test]
fn attributes_that_linux_takes_on_no_file_are_refused() {
    let version_3 = [&[1, 0, 0, 3][..], &[0; 20]].concat();
    let good: [(&str, &[u8]); 4] = [
        ("security.capability", b""),
        ("security.capability", &version_3),
        ("system.posix_acl_access", b"\x02\0\0\0"),
        ("system.posix_acl_access", b""),
    ];
    let bad: [(&str, &[u8]); 8] = [
        ("security.capability", b"xyz"),
        ("security.capability", b"\x01\0\0\x01\0\0\0\0\0\0\0\0"),
        ("security.capability", &version_3[..20]),
        (
            "security.capability",
            &[&[3, 0, 0, 2][..], &[0; 16]].concat(),
        ),
        ("system.posix_acl_access", b"\x02\0\0\0xyz"),
        ("system.posix_acl_access", b"\x01\0\0\0"),
        ("system.posix_acl_access", b"\x02\0\0\0\x01\0\x08\0\0\0\0\0"),
        (
            "system.posix_acl_default",
            b"\x02\0\0\0\x03\0\x07\0\0\0\0\0",
        ),
    ];
    let squash = |(name, value): (&str, &[u8])| {
        let mut entry = entry("dir d");
        entry
            .metadata
            .xattrs
            .insert(name.as_bytes().into(), value.into());
        let pushed = RootfsChain::default().push([Ok::<_, Infallible>(entry)]);
        pushed.map_err(|error| crate::error::with_causes(&error))
    };
    for pair in good {
        squash(pair).unwrap();
    }
    for pair in bad {
        let error = squash(pair).unwrap_err();
        assert!(
            error.contains("Linux takes on no file"),
            "{pair:?}: {error}"
        );
        assert!(error.contains(pair.0), "{error}");
    }
}
