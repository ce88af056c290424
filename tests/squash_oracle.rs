//! Squashing against the real thing: overlayfs over layers extracted as podman
//! extracts them, and podman itself.
//!
//! Needs root, mount(8), python3; the last test skopeo and podman too. Where
//! they lack, the tests fail if `CI` is set and else say that they did nothing.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use boundstore::{
    import::tar::{read_layer, squash_tar_layers},
    name::{BlobDigest, Mtime},
    squash::{
        EntryKind,
        tree::{Directory, FileContent, InodeContent, Metadata, Node},
    },
};
use proptest::{prelude::*, test_runner::TestRunner};
use serde::Deserialize;
use serde_json::json;

/// One entry of a layer to be written as a tar.
#[derive(Debug, Clone)]
struct Item {
    flag: u8,
    name: String,
    link: String,
    content: Vec<u8>,
    mode: u32,
    owner: (u64, u64),
    mtime: &'static str,
    device: (u32, u32),
    xattrs: Vec<(&'static str, &'static [u8])>,
}

impl Item {
    fn new(flag: u8, name: &str) -> Self {
        Self {
            flag,
            name: name.into(),
            link: String::new(),
            content: Vec::new(),
            mode: 0o644,
            owner: (0, 0),
            mtime: "1000.5",
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }

    fn write(&self, tar: &mut tar::Builder<Vec<u8>>) {
        let mut records: Vec<(String, &[u8])> = vec![("mtime".into(), self.mtime.as_bytes())];
        for (name, value) in &self.xattrs {
            records.push((format!("SCHILY.xattr.{name}"), value));
        }
        let records = records.iter().map(|(key, value)| (key.as_str(), *value));
        tar.append_pax_extensions(records).unwrap();
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..self.name.len()].copy_from_slice(self.name.as_bytes());
        header.as_old_mut().linkname[..self.link.len()].copy_from_slice(self.link.as_bytes());
        header.set_entry_type(tar::EntryType::new(self.flag));
        header.set_size(self.content.len() as u64);
        header.set_mode(self.mode);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_mtime(0);
        header.set_device_major(self.device.0).unwrap();
        header.set_device_minor(self.device.1).unwrap();
        header.set_cksum();
        tar.append(&header, self.content.as_slice()).unwrap();
    }
}

fn tar_of(items: &[Item]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    items.iter().for_each(|item| item.write(&mut tar));
    tar.into_inner().unwrap()
}

/// What a walk finds at one path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct File {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, u32),
    xattrs: BTreeMap<String, String>,
    content: Option<String>,
    target: Option<String>,
    device: Option<(u32, u32)>,
    inode: Option<u64>,
}

/// What a walk finds below a directory, and which entries (layer, number)
/// podman would have refused.
#[derive(Debug, Deserialize)]
struct Answer {
    files: BTreeMap<String, File>,
    left_out: Vec<(usize, usize)>,
}

/// The Python half.
struct Oracle {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    folder: tempfile::TempDir,
}

impl Oracle {
    /// Starts it, or says why not.
    fn start(commands: &[&str]) -> Option<Self> {
        let missing = |what: &str| {
            let text = format!("the squash oracle needs {what}: NOTHING WAS COMPARED");
            assert!(std::env::var_os("CI").is_none(), "{text}");
            eprintln!("{text}");
            None
        };
        let uid = Command::new("id").arg("-u").output().unwrap().stdout;
        if uid != b"0\n" {
            return missing("root");
        }
        for command in commands {
            let found = Command::new(command).arg("--version").output();
            if !found.is_ok_and(|output| output.status.success()) {
                return missing(command);
            }
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/unpack.py");
        let mut child = Command::new("python3")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Some(Self {
            ask: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
            folder: tempfile::tempdir().unwrap(),
        })
    }

    fn ask(&mut self, command: &str, folder: &Path) -> Answer {
        writeln!(self.ask, "{command} {}", folder.display()).unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn layers(&mut self, tars: &[Vec<u8>]) -> Answer {
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap();
        for (layer, tar) in tars.iter().enumerate() {
            std::fs::write(folder.path().join(format!("{layer}.tar")), tar).unwrap();
        }
        self.ask("layers", folder.path())
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Our tree as a walk would find it.
fn walk(tree: &Directory) -> BTreeMap<String, File> {
    let mut files = BTreeMap::new();
    let mut todo = vec![(String::new(), tree)];
    while let Some((path, dir)) = todo.pop() {
        files.insert(path.clone(), file(0o040000, &dir.metadata));
        for (name, node) in &dir.entries {
            let name = std::str::from_utf8(name).unwrap();
            let path = if path.is_empty() {
                name.to_owned()
            } else {
                format!("{path}/{name}")
            };
            let inode = match node {
                Node::Directory(dir) => {
                    todo.push((path, dir));
                    continue;
                }
                Node::Inode(inode) => inode,
            };
            let kind = match &inode.content {
                InodeContent::Regular(_) => 0o100000,
                InodeContent::Symlink(_) => 0o120000,
                InodeContent::CharDevice(_) => 0o020000,
                InodeContent::BlockDevice(_) => 0o060000,
                InodeContent::Fifo => 0o010000,
            };
            let mut file = file(kind, &inode.metadata);
            file.inode = Some(Arc::as_ptr(inode) as u64);
            match &inode.content {
                InodeContent::Regular(FileContent::Inline(bytes)) => {
                    file.content = Some(STANDARD.encode(bytes));
                }
                InodeContent::Symlink(target) => {
                    file.target = Some(String::from_utf8(target.to_vec()).unwrap());
                }
                InodeContent::CharDevice(device) | InodeContent::BlockDevice(device) => {
                    file.device = Some((device.major, device.minor));
                }
                _ => {}
            }
            files.insert(path, file);
        }
    }
    files
}

fn file(kind: u32, metadata: &Metadata) -> File {
    File {
        mode: kind | metadata.mode,
        owner: (metadata.uid, metadata.gid),
        mtime: (metadata.mtime.sec, metadata.mtime.nsec),
        xattrs: metadata
            .xattrs
            .iter()
            .map(|(name, value)| {
                let name = String::from_utf8(name.to_vec()).unwrap();
                (name, STANDARD.encode(value))
            })
            .collect(),
        content: None,
        target: None,
        device: None,
        inode: None,
    }
}

/// Makes two walks comparable: an inode is the first name it has; a directory
/// that was made during the test has our one time for such.
fn settle(mut files: BTreeMap<String, File>) -> BTreeMap<String, (File, Option<String>)> {
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs();
    let recent = now.cast_signed() - 86_400..now.cast_signed() + 86_400;
    let mut first: HashMap<u64, String> = HashMap::new();
    for (path, file) in &mut files {
        if let Some(inode) = file.inode {
            first.entry(inode).or_insert_with(|| path.clone());
        }
        if file.mode & 0o170000 == 0o040000 && recent.contains(&file.mtime.0) {
            file.mtime = (Mtime::EPOCH.sec, Mtime::EPOCH.nsec);
        }
    }
    let link = |(path, mut file): (String, File)| {
        let first = file.inode.take().map(|inode| first[&inode].clone());
        (path, (file, first))
    };
    files.into_iter().map(link).collect()
}

/// The first difference, if any.
fn compare(ours: &Directory, theirs: BTreeMap<String, File>) -> Result<(), String> {
    let (ours, theirs) = (settle(walk(ours)), settle(theirs));
    for (path, file) in &theirs {
        let found = ours.get(path);
        if found != Some(file) {
            return Err(format!("{path:?}\n theirs {file:?}\n ours   {found:?}"));
        }
    }
    match ours.keys().find(|path| !theirs.contains_key(*path)) {
        Some(path) => Err(format!("{path:?} is ours only")),
        None => Ok(()),
    }
}

fn squash(tars: &[Vec<u8>]) -> Result<Vec<Arc<Directory>>, String> {
    let tars: Vec<&[u8]> = tars.iter().map(Vec::as_slice).collect();
    match squash_tar_layers(&tars) {
        Ok((trees, _)) => Ok(trees),
        Err(error) => Err(format!("{error}: {:?}", std::error::Error::source(&error))),
    }
}

/// A path whose parents are mostly directories and whose last name mostly is
/// none: now and then it is the other way round.
fn path() -> impl Strategy<Value = String> {
    let choose = prop::sample::select::<&'static str>;
    let parent = prop_oneof![9 => choose(vec!["a", "b"]), 1 => choose(vec!["s", "x"])];
    let base = prop_oneof![6 => choose(vec!["x", "y", "z", "s"]), 1 => choose(vec!["a", "b"])];
    let prefix = prop_oneof![8 => Just(""), 2 => choose(vec!["./", "/", "q/../", "../"])];
    (prefix, prop::collection::vec(parent, 0..3), base).prop_map(|(prefix, mut parts, base)| {
        parts.push(base);
        prefix.to_owned() + &parts.join("/")
    })
}

const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn item() -> impl Strategy<Value = Item> {
    let kind = prop_oneof![
        6 => Just("file"), 6 => Just("dir"), 4 => Just("link"), 3 => Just("symlink"), 4 => Just("whiteout"),
        2 => Just("opaque"), 1 => Just("device"), 1 => Just("whiteout device"), 1 => Just("fifo"), 1 => Just("root"),
    ];
    let mode = prop::sample::select(vec![0o644, 0o755, 0o700, 0o4755, 0o2775, 0o1777, 0]);
    let mtime = prop::sample::select(vec![
        "5",
        "1234567890.123456789",
        "-100.5",
        "99999999999",
        "9223372036.854775807",
        "7000000000.000000001",
    ]);
    let target = prop::sample::select(vec![
        "a",
        "b/c",
        "/a",
        "../b",
        ".",
        "c/../a",
        "/",
        "s",
        "nowhere",
        "../../a/b",
    ]);
    let xattrs = prop::sample::subsequence(
        vec![
            ("user.a", &b"1"[..]),
            ("user.b", b"a\n\0\xff"),
            ("trusted.c", b"2"),
            ("security.capability", CAPABILITY),
            ("security.selinux", b"x"),
        ],
        0..3,
    );
    let owner = prop::sample::select(vec![(0, 0), (0, 0), (1000, 5), (4_294_967_294, 65_534)]);
    let content = prop::collection::vec(any::<u8>(), 0..9);
    (
        kind,
        (path(), path()),
        target,
        mode,
        mtime,
        owner,
        xattrs,
        content,
    )
        .prop_map(
            |(kind, (name, other), target, mode, mtime, owner, mut xattrs, content)| {
                let mut item = Item::new(b'0', &name);
                (item.mode, item.mtime, item.owner) = (mode, mtime, owner);
                let (parent, base) = name.rsplit_once('/').unwrap_or(("", &name));
                match kind {
                    "file" => item.content = content,
                    "dir" => {
                        item.flag = b'5';
                        if !parent.is_empty() && mode != 0 {
                            item.name = parent.into();
                        }
                    }
                    "root" => {
                        let name = if mode == 0 { "./" } else { "/." };
                        (item.flag, item.name) = (b'5', name.into());
                    }
                    "link" => (item.flag, item.link) = (b'1', other),
                    "symlink" => (item.flag, item.link) = (b'2', target.into()),
                    "whiteout" => item.name = format!("{parent}/.wh.{base}"),
                    "opaque" => item.name = format!("{name}/.wh..wh..opq"),
                    "device" => (item.flag, item.device) = (b'3', (1, 3)),
                    "whiteout device" => item.flag = b'3',
                    "fifo" => item.flag = b'6',
                    _ => unreachable!(),
                }
                // the kernel has others on files and directories only
                if !matches!(item.flag, b'0' | b'5') {
                    xattrs.retain(|(name, _)| *name == "trusted.c");
                }
                if item.flag == b'2' && matches!(mtime, "99999999999" | "9223372036.854775807") {
                    item.mtime = "6"; // podman's come from an overflow
                }
                item.xattrs = xattrs;
                item
            },
        )
}

/// Random layer stacks, squashed and stacked. Without the entries that podman
/// would refuse boundstore must take the image and show the same.
#[test]
fn squash_is_what_overlayfs_shows() {
    let Some(oracle) = Oracle::start(&["python3", "mount"]) else {
        return;
    };
    let oracle = RefCell::new(oracle);
    let cases = if std::env::var_os("BOUNDSTORE_LONG").is_some() {
        1000
    } else {
        200
    };
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    };
    let (names, refused) = (Cell::new(0), Cell::new(0));
    let stacks = prop::collection::vec(prop::collection::vec(item(), 1..16), 1..5);
    TestRunner::new(config)
        .run(&stacks, |mut layers| {
            let tars = |layers: &[Vec<Item>]| -> Vec<Vec<u8>> {
                layers.iter().map(|items| tar_of(items)).collect()
            };
            let answer = oracle.borrow_mut().layers(&tars(&layers));
            let mut left_out = answer.left_out;
            left_out.sort_unstable();
            for (layer, number) in left_out.iter().rev() {
                layers[*layer].remove(*number);
            }
            let (files, tars) = (answer.files, tars(&layers));
            refused.set(refused.get() + left_out.len());
            names.set(names.get() + files.len());
            squash(&tars)
                .and_then(|trees| compare(trees.last().unwrap(), files))
                .map_err(|error| TestCaseError::fail(format!("{error}\n{layers:#?}")))
        })
        .unwrap();
    let (names, refused) = (names.get(), refused.get());
    println!("{cases} stacks, {names} names compared, {refused} entries refused");
    assert!(names > 3 * cases as usize);
}

/// An odd image by hand, through `skopeo copy` into podman's own store and
/// looked at where podman mounts it.
#[test]
fn squash_is_what_podman_shows() {
    let Some(mut oracle) = Oracle::start(&["python3", "mount", "skopeo", "podman"]) else {
        return;
    };
    let file = |name: &str, content: &str| Item {
        content: content.into(),
        ..Item::new(b'0', name)
    };
    let dir = |name: &str| Item {
        mode: 0o755,
        ..Item::new(b'5', name)
    };
    let link = |flag: u8, name: &str, link: &str| Item {
        link: link.into(),
        ..Item::new(flag, name)
    };
    let xattr = |item: Item, name: &'static str, value: &'static [u8]| Item {
        xattrs: [item.xattrs.clone(), vec![(name, value)]].concat(),
        ..item
    };
    let acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x07\0\xe8\x03\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x07\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
    let layers: [&[Item]; 3] = [
        &[
            Item {
                mode: 0o700,
                ..dir("./")
            },
            Item {
                mode: 0o700,
                owner: (5, 6),
                ..xattr(dir("d"), "user.d", b"1")
            },
            file("d/gone", "x"),
            file("d/kept", "kept"),
            Item {
                mode: 0o4755,
                ..xattr(file("bin/tool", "#!"), "security.capability", CAPABILITY)
            },
            link(b'1', "bin/alias", "bin/tool"),
            xattr(file("bin/cap", "c"), "security.capability", CAPABILITY),
            Item {
                mode: 0o600,
                owner: (7, 8),
                mtime: "77",
                ..link(b'1', "bin/same", "./bin/cap")
            },
            dir("real"),
            link(b'2', "sym", "real"),
            link(b'2', "abs", "/real"),
            file("abs/through", "t"),
            link(b'1', "h", "abs/through"),
            dir("opq"),
            file("opq/sub/deep", "1"),
            file("opq/low", "1"),
            Item {
                owner: (3, 3),
                mode: 0o600,
                mtime: "9",
                ..link(b'1', "symlink2", "sym")
            },
            Item {
                mtime: "-100.5",
                ..file("old", "")
            },
            Item {
                mtime: "-100.5",
                ..link(b'2', "oldlink", "x")
            },
            Item {
                mtime: "99999999999",
                ..file("future", "")
            },
            Item {
                mtime: "1.000000001",
                ..file("nano", "")
            },
            Item {
                device: (1, 3),
                ..Item::new(b'3', "null")
            },
            Item {
                device: (8, 1),
                ..Item::new(b'4', "sda1")
            },
            Item::new(b'6', "pipe"),
            xattr(file("acl", ""), "system.posix_acl_access", acl),
            Item {
                mode: 0o2775,
                owner: (0, 9),
                ..dir("sgid")
            },
            file("sgid/x/y/z", ""),
            file("run/secrets", "r"),
            file(".wh.plnk", ""),
            file("../../up", "u"),
            file("tofile/x", ""),
            file("todir", ""),
        ],
        &[
            file("d/new", "n"),
            file("d/.wh.gone", ""),
            file("sym/f", "replaces the link"),
            file("opq/.wh..wh..opq", ""),
            file("opq/sub/new", "2"),
            file(".wh..wh.plnk/1.2", ""),
            file(".wh..wh.aufs", ""),
            file(".wh.tofile", ""),
            file("tofile", "now a file"),
            file("todir/x", ""),
            Item::new(b'3', "null"),
            file(".wh..wh..opq", ""),
            xattr(file("xs", ""), "trusted.t", b"1"),
        ],
        &[
            file(".wh.h", ""),
            file(".wh.todir", ""),
            Item {
                mode: 0o711,
                ..dir("todir")
            },
            Item {
                mode: 0o711,
                mtime: "12",
                ..dir("d")
            },
            file("nowhere/.wh.x", ""),
            xattr(file("sel", ""), "security.selinux", b"x"),
            Item::new(b'g', "pax_global_header"),
        ],
    ];
    let tars: Vec<Vec<u8>> = layers.iter().map(|items| tar_of(items)).collect();
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_layout(&at.join("oci"), &tars);
    let (root, run) = (at.join("root"), at.join("run"));
    let name = "localhost/odd:1";
    let store = format!(
        "containers-storage:[overlay@{}+{}]{name}",
        root.display(),
        run.display()
    );
    let layout = format!("oci:{}:x", at.join("oci").display());
    command(Command::new("skopeo").args(["--insecure-policy", "copy", "-q", &layout, &store]));
    let podman = |args: &[&str]| {
        let mut podman = Command::new("podman");
        podman.arg("--root").arg(&root).arg("--runroot").arg(&run);
        command(podman.args(["--storage-driver", "overlay"]).args(args))
    };
    let mounted = podman(&["image", "mount", name]);
    let answer = oracle.ask("walk", Path::new(mounted.trim()));
    podman(&["image", "unmount", name]);
    let theirs = answer.files;
    let trees = squash(&tars).unwrap();
    assert!(!trees[2].entries.contains_key(&b"pax_global_header"[..]));
    // known: the time podman makes of a symlink's is the filesystem's business
    assert_eq!(theirs["oldlink"].mtime, (-101, 500_000_000));
    compare(&trees[2], theirs).unwrap();
}

/// An OCI image layout with one image of uncompressed layers, named `x`.
fn write_layout(folder: &Path, layers: &[Vec<u8>]) {
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |media: &str, bytes: &[u8]| {
        let digest = BlobDigest::of(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        json!({ "mediaType": format!("application/vnd.oci.image.{media}"), "digest": digest, "size": bytes.len() })
    };
    let digests: Vec<BlobDigest> = layers.iter().map(|layer| BlobDigest::of(layer)).collect();
    let config = json!({
        "architecture": boundstore::name::Platform::host().architecture, "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": digests },
    });
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| put("layer.v1.tar", layer))
        .collect();
    let config = put("config.v1+json", config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": layers,
    });
    let mut manifest = put("manifest.v1+json", manifest.to_string().as_bytes());
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": "x" });
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    std::fs::write(folder.join("index.json"), index.to_string()).unwrap();
    std::fs::write(
        folder.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
}

fn command(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Every format GNU tar writes, sparse files in all of theirs.
#[test]
fn reads_what_gnu_tar_writes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let deep = "long-".repeat(15) + "/" + &"name-".repeat(10);
    std::fs::create_dir_all(at.join(&deep)).unwrap();
    std::fs::write(at.join("plain"), b"hello").unwrap();
    std::fs::hard_link(at.join("plain"), at.join("twin")).unwrap();
    std::os::unix::fs::symlink("plain", at.join("sym")).unwrap();
    std::fs::write(at.join(&deep).join("f"), b"deep").unwrap();
    let sparse = std::fs::File::create(at.join("sparse")).unwrap();
    let mut expected = vec![0; 3 << 20];
    for n in 0..40_u64 {
        let piece = format!("piece {n}");
        std::os::unix::fs::FileExt::write_all_at(&sparse, piece.as_bytes(), n << 16).unwrap();
        let start = usize::try_from(n << 16).unwrap();
        expected[start..start + piece.len()].copy_from_slice(piece.as_bytes());
    }
    sparse.set_len(3 << 20).unwrap();
    for (format, sparse) in [
        ("v7", None),
        ("oldgnu", Some("1.0")),
        ("gnu", None),
        ("gnu", Some("1.0")),
        ("ustar", None),
        ("posix", None),
        ("posix", Some("0.0")),
        ("posix", Some("0.1")),
        ("posix", Some("1.0")),
    ] {
        let mut tar = Command::new("tar");
        tar.arg("-C")
            .arg(at)
            .args(["-c", "--sort=name", "--format", format]);
        if let Some(version) = sparse {
            tar.args(["-S", "--sparse-version", version]);
        }
        let output = tar
            .args(["plain", "twin", "sym", "sparse"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let entries = read_layer(&output.stdout).unwrap();
        let names: Vec<String> = entries.iter().map(|entry| entry.name.to_string()).collect();
        assert_eq!(
            names,
            ["/plain", "/twin", "/sym", "/sparse"],
            "{format} {sparse:?}"
        );
        assert!(
            matches!(&entries[1].kind, EntryKind::Hardlink(target) if target.as_bytes() == b"plain")
        );
        assert_eq!(entries[2].kind, EntryKind::Symlink((*b"plain").into()));
        let EntryKind::Regular(FileContent::Inline(bytes)) = &entries[3].kind else {
            panic!()
        };
        assert!(**bytes == expected[..], "{format} {sparse:?}");
        if sparse.is_some() {
            assert!(
                output.stdout.len() < 1 << 20,
                "tar wrote no sparse file: {format}"
            );
        }
        if format == "v7" {
            continue;
        }
        let mut tar = Command::new("tar");
        tar.arg("-C")
            .arg(at)
            .args(["-c", "--format", format])
            .arg(&deep);
        let entries = read_layer(&tar.output().unwrap().stdout).unwrap();
        assert_eq!(entries[1].name.to_string(), format!("/{deep}/f"));
    }
}
