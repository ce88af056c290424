//! `boundstore embed`: the store as files, held against the mounted set image,
//! read by podman, and the same bytes wherever and by whomever it is made.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "common/bootable.rs"]
mod bootable;
mod common;
#[path = "common/layout.rs"]
mod layout;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, symlink},
    },
    path::{Path, PathBuf},
    process::{Command, Output},
};

use bootable::assert_valid;
use common::{
    Scratch,
    battery::{self, Subject},
    boundstore::Boundstore,
    describe, fixtures,
    image::{Image, json_file},
    ordinary_user::OrdinaryUser,
    output,
    podman::Podman,
    project, ready, stores, text,
};
use layout::{LayerBlob, Layout, content, sha256, tar};
use serde_json::{Map, Value};

const V1: &str = "localhost/app:v1";
const V2: &str = "localhost/app:v2";
const PREFIX: &str = "usr/lib/containers/storage";

fn app(version: &str) -> Image {
    Image::read(&fixtures().join("app"), version)
}

fn bound(name: &str, source: impl std::fmt::Display) -> String {
    format!("{name}={source}")
}

/// Two versions of an image of four layers, three of them shared.
fn both() -> [String; 2] {
    let small = |tag| Image::read(&fixtures().join("app-small"), tag).source();
    [bound(V1, small("v1")), bound(V2, small("v2"))]
}

/// The arguments of an embed of `images`, which is to write where `to` says.
fn embed_args(scratch: &Scratch, images: &[String], to: &str) -> String {
    let accept = scratch.join("accept.json");
    fs::write(
        &accept,
        r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
    )
    .unwrap();
    let (policy, spool) = (accept.display(), scratch.join("spool"));
    let images: String = images.iter().map(|i| format!(" --image {i}")).collect();
    format!(
        "embed --policy {policy} --spool {}{images} {to}",
        spool.display()
    )
}

/// Embeds, and checks what it says and what it leaves.
#[track_caller]
fn embed(scratch: &Scratch, images: &[String], to: &str) -> Value {
    let boundstore = Boundstore::new(scratch, "embed-repo");
    let document = boundstore.json(&embed_args(scratch, images, to));
    assert_valid("embed", &document);
    assert!(!boundstore.repo().exists(), "it needs no repository");
    assert_eq!(fs::read_dir(scratch.join("spool")).unwrap().count(), 0);
    document
}

/// Compares two trees entry by entry, with a program that is not ours.
#[track_caller]
fn assert_same(expected: &Path, actual: &Path, options: &[&str]) {
    let mut compare = Command::new("python3");
    compare
        .arg(project().join("tests/oracle/compare.py"))
        .args(options);
    let output = output(compare.args([expected, actual]));
    assert!(output.status.success(), "{}", describe(&compare, &output));
}

/// What podman loses when it unpacks.
fn lost() -> &'static [&'static str] {
    match stores::loses_empty_xattrs() {
        true => &["--empty-xattrs-lost"],
        false => &[],
    }
}

/// All odd images, each under its name.
fn odd() -> Vec<String> {
    let odd = fixtures().join("odd");
    let kinds: Map<String, Value> =
        serde_json::from_value(json_file(&odd.join("odd.json"))).unwrap();
    assert!(kinds.len() >= 18);
    let name = |kind: &String| format!("localhost/{kind}:1=oci:{}:1", odd.join(kind).display());
    kinds.keys().map(name).collect()
}

/// The only diff ID that is told.
fn diff_id(document: &Value) -> String {
    let layers = document["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1, "{document}");
    layers[0]["diff_id"].as_str().unwrap().to_owned()
}

/// Unpacks an image of `layers`, files with layer tars, as podman does; its
/// rootfs.
fn unpacked(scratch: &Scratch, name: &str, layers: &[PathBuf]) -> PathBuf {
    let mut layout = Layout::new(&scratch.join(format!("{name}-layout")));
    let blobs: Vec<LayerBlob> = layers
        .iter()
        .map(|file| LayerBlob::plain(&fs::read(file).unwrap()))
        .collect();
    layout.image("1", &blobs);
    let podman = Podman::new(scratch.join(format!("{name}-podman")), None);
    let from = format!("oci:{}:1", layout.path.display());
    let to = format!("containers-storage:localhost/{name}:1");
    let mut copy = podman.tool("skopeo");
    text(copy.args(["copy", "--quiet", "--insecure-policy", &from, &to]));
    podman
        .ok(&format!("image mount localhost/{name}:1"))
        .trim()
        .into()
}

/// Directories, and a layer that podman unpacks: what the mounted set image
/// shows, of every odd image at once.
#[test]
fn files_are_what_the_set_image_shows() {
    if !ready(battery::TOOLS) {
        return;
    }
    let scratch = Scratch::new();
    let images = odd();
    let mounted = Boundstore::new(&scratch, "repo");
    mounted.sync("a", &images);
    let store = scratch.join("store");
    mounted.mount("a", &store);
    let plain = scratch.join("plain");
    // An umask and a default access list of the place change nothing.
    let parent = scratch.dir("strict");
    let list = "import os, struct, sys\n\
        entries = [(1, 7, -1), (2, 7, 7), (4, 5, -1), (16, 7, -1), (32, 5, -1)]\n\
        acl = struct.pack('<I', 2) + b''.join(struct.pack('<HHi', *e) for e in entries)\n\
        os.setxattr(sys.argv[1], 'system.posix_acl_default', acl)";
    text(Command::new("python3").args(["-c", list]).arg(&parent));
    let strict = parent.join("plain");
    embed(&scratch, &images, &format!("--output {}", plain.display()));
    assert_same(&store, &plain, &["--store"]);
    let boundstore = Boundstore::new(&scratch, "strict-repo");
    let mut command = Command::new("sh");
    command.args(["-c", r#"umask 077; exec "$@""#, "sh"]);
    let args = embed_args(&scratch, &images, &format!("--output {}", strict.display()));
    let wrapped = boundstore.command(&args);
    command.arg(wrapped.get_program()).args(wrapped.get_args());
    text(&mut command);
    assert_same(&store, &strict, &["--store"]);

    let file = scratch.join("layer.tar");
    let written = embed(&scratch, &images, &format!("--tar {}", file.display()));
    assert_eq!(diff_id(&written), sha256(&fs::read(&file).unwrap()));
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o644);
    let rootfs = unpacked(&scratch, "tar", &[file]);
    let options = lost();
    assert_same(&rootfs.join(PREFIX), &plain, options);
    for folder in ["usr", "usr/lib", "usr/lib/containers"] {
        let found = fs::metadata(rootfs.join(folder)).unwrap();
        assert_eq!(
            (found.mode() & 0o7777, found.mtime()),
            (0o755, 0),
            "{folder}"
        );
    }

    let folder = scratch.join("layers");
    let written = embed(&scratch, &images, &format!("--layers {}", folder.display()));
    let files = written["layers"].as_array().unwrap().iter();
    let files: Vec<PathBuf> = files
        .map(|layer| layer["file"].as_str().unwrap().into())
        .collect();
    assert!(files.len() > 10, "{files:?}");
    let rootfs = unpacked(&scratch, "layers", &files);
    assert_same(&rootfs.join(PREFIX), &plain, options);
    mounted.umount(&store);
}

#[test]
fn podman_reads_it_in_place() {
    if !ready(battery::TOOLS) {
        return;
    }
    let scratch = Scratch::new();
    let plain = scratch.join("plain");
    let images = [("v1", V1), ("v2", V2)].map(|(tag, name)| bound(name, app(tag).source()));
    let told = embed(&scratch, &images, &format!("--output {}", plain.display()));
    let repeated = told["repeated_bytes"].as_u64().unwrap();
    assert!(repeated > told["bytes"].as_u64().unwrap() / 2, "{told}");
    let store = scratch.join("store");
    stores::bind_read_only(&plain, &store);
    battery::run_all(Subject {
        store: &store,
        name: V1,
        image: &app("v1"),
    });
    let podman = Podman::new(scratch.join("podman"), Some(&store));
    let mapped = "--rm --uidmap 0:100000:65536 --gidmap 0:100000:65536";
    let said = podman.run(
        mapped,
        V1,
        "cat /app/version; stat -c '%u %g' / /app/version; cat /proc/self/uid_map; \
         touch /app/new && stat -c '%u' /app/new; cd / && sha256sum --check --quiet /app/SHA256SUMS && echo right bytes",
    );
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(
        words,
        [
            "v1", "0", "0", "0", "0", "0", "100000", "65536", "0", "right", "bytes"
        ]
    );
}

/// Linked across the trees each file takes its room once, and podman does the
/// same with it.
#[test]
fn linked_across_the_trees_it_takes_its_room_once() {
    if !ready(battery::TOOLS) {
        return;
    }
    let scratch = Scratch::new();
    let (apart, linked) = (scratch.join("apart"), scratch.join("linked"));
    let apart_told = embed(&scratch, &both(), &format!("--output {}", apart.display()));
    let told = embed(
        &scratch,
        &both(),
        &format!("--hardlink --output {}", linked.display()),
    );
    let size = |path: &Path| {
        let du = text(Command::new("du").args(["-s", "-B1"]).arg(path));
        du.split_whitespace()
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    println!(
        "apart {} bytes, linked {} bytes",
        size(&apart),
        size(&linked)
    );
    assert!(size(&linked) * 2 < size(&apart));
    assert!(told["bytes"].as_u64() < apart_told["bytes"].as_u64());
    // A few files of one tree have the same content; they stay apart.
    let repeated = |told: &Value| told["repeated_bytes"].as_u64().unwrap();
    assert!(repeated(&told) * 10 < repeated(&apart_told), "{told}");
    // But for the link counts all is the same.
    let layers: Vec<_> = fs::read_dir(apart.join("overlay"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    for layer in layers.iter().filter(|name| *name != "l") {
        let diff = Path::new("overlay").join(layer).join("diff");
        assert_same(&apart.join(&diff), &linked.join(&diff), &[]);
    }
    let podman = Podman::new(scratch.join("podman"), Some(&linked));
    for (name, version) in [(V1, "v1\n"), (V2, "v2\n")] {
        let script = "cat /app/version; sha256sum --check --quiet /app/SHA256SUMS";
        assert_eq!(podman.run("--rm", name, script), version);
        let archive = scratch.join("saved.tar");
        podman.ok(&format!("save --output {} {name}", archive.display()));
        fs::remove_file(archive).unwrap();
    }
    // As a layer: the size of what is unique, not of all trees.
    let tar = |options: &str, name: &str| {
        let file = scratch.join(name);
        embed(
            &scratch,
            &both(),
            &format!("{options} --tar {}", file.display()),
        );
        file
    };
    let (apart_tar, linked_tar) = (tar("", "apart.tar"), tar("--hardlink", "linked.tar"));
    let length = |path: &Path| fs::metadata(path).unwrap().len();
    assert!(length(&linked_tar) * 2 < length(&apart_tar));
    let rootfs = unpacked(&scratch, "linked-tar", &[linked_tar]);
    assert_same(&rootfs.join(PREFIX), &linked, lost());
}

/// GNU tar's digest of a directory, with everything that an image keeps.
fn digest_of_directory(path: &Path) -> String {
    let script = "tar --sort=name --format=posix --pax-option=delete=atime,delete=ctime \
        --xattrs --xattrs-include='*' --numeric-owner -C \"$0\" -cf - . | sha256sum";
    text(Command::new("sh").args(["-c", script]).arg(path))
}

#[test]
fn the_bytes_do_not_depend_on_where_when_and_who() {
    if !ready(&["setpriv", "python3", "skopeo", "tar"]) {
        return;
    }
    let scratch = Scratch::new();
    let images = [odd(), both().to_vec()].concat();
    let mut turned = images.clone();
    turned.reverse();
    let at = |name: &str| scratch.join(name);
    for (name, images) in [("a", &images), ("b", &turned)] {
        embed(
            &scratch,
            images,
            &format!("--output {}", at(name).display()),
        );
    }
    assert_eq!(digest_of_directory(&at("a")), digest_of_directory(&at("b")));
    let first = embed(
        &scratch,
        &images,
        &format!("--tar {}", at("1.tar").display()),
    );
    let second = embed(
        &scratch,
        &turned,
        &format!("--tar {}", at("2.tar").display()),
    );
    assert_eq!(diff_id(&first), diff_id(&second));

    let user = OrdinaryUser::new();
    let layouts = fixtures();
    for name in ["odd", "app-small"] {
        user.bring(&layouts.join(name), name);
    }
    user.accept("accept.json");
    let own: Vec<String> = images
        .iter()
        .map(|image| image.replace(layouts.to_str().unwrap(), user.path().to_str().unwrap()))
        .collect();
    let as_user = |to: &str| -> (Command, Output) {
        let args = embed_args(&scratch, &own, to).replace(
            scratch.path().to_str().unwrap(),
            user.path().to_str().unwrap(),
        );
        let mut command = user.command(&format!("--json {args}"));
        let output = output(&mut command);
        (command, output)
    };
    let (command, done) = as_user("--tar layer.tar");
    assert!(done.status.success(), "{}", describe(&command, &done));
    let document: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(diff_id(&document), diff_id(&first));

    // Directories are not for such a user, who is told so and left with nothing.
    let (command, done) = as_user("--output plain");
    let said = describe(&command, &done);
    assert_eq!(done.status.code(), Some(1), "{said}");
    for words in [
        "takes root",
        "layer tar",
        "change the owner of",
        "plain/overlay",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let left: BTreeSet<String> = fs::read_dir(user.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let known = [
        "accept.json",
        "app-small",
        "boundstore",
        "layer.tar",
        "odd",
        "spool",
    ];
    assert_eq!(left, BTreeSet::from(known.map(str::to_owned)));
}

/// An image that changes leaves the layers of the others as they are.
#[test]
fn an_unchanged_image_gives_an_unchanged_layer() {
    if !ready(&["skopeo"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut layout = Layout::new(&scratch.join("layout"));
    let layer = |name: &str, seed| LayerBlob::gzip(&tar(&[(name, &content(seed, 9000))]));
    let (base, mine) = (layer("base", 1), layer("top", 2));
    layout.image("a", &[base.clone(), mine]);
    layout.image("b", &[layer("other", 3), layer("top", 4)]);
    layout.image("b2", &[layer("other", 3), layer("top", 5)]);
    layout.image("c", &[base, layer("more", 6)]);
    let image = |name: &str, tag: &str| {
        format!("registry.test/{name}:1=oci:{}:{tag}", layout.path.display())
    };
    let layers = |folder: &str, images: &[String]| -> Vec<(String, String)> {
        let to = scratch.join(folder);
        let told = embed(&scratch, images, &format!("--layers {}", to.display()));
        let layers = told["layers"].as_array().unwrap();
        let of = |layer: &Value| {
            let names = layer["names"].as_array().unwrap();
            let name = names.first().map_or("", |name| name.as_str().unwrap());
            let file = fs::read(layer["file"].as_str().unwrap()).unwrap();
            assert_eq!(layer["diff_id"], sha256(&file));
            (name.to_owned(), sha256(&file))
        };
        layers.iter().map(of).collect()
    };
    let before = layers("1", &[image("a", "a"), image("b", "b"), image("c", "c")]);
    let names: Vec<&str> = before.iter().map(|(name, _)| &**name).collect();
    let wanted = [
        "registry.test/a:1",
        "registry.test/b:1",
        "registry.test/c:1",
        "",
    ];
    assert_eq!(names, wanted);
    let after = layers("2", &[image("a", "a"), image("b", "b2"), image("c", "c")]);
    let same = |at: usize| before[at] == after[at];
    assert_eq!(
        [same(0), same(1), same(2), same(3)],
        [true, false, true, false]
    );
    // Alone it has the same layer, too.
    assert_eq!(layers("3", &[image("a", "a")])[0], before[0]);
    // A folder that has something is not written to.
    let boundstore = Boundstore::new(&scratch, "embed-repo");
    let to = format!("--layers {}", scratch.join("3").display());
    let (_, said) = boundstore.exits(1, &embed_args(&scratch, &[image("a", "a")], &to));
    assert!(said.contains("not empty: remove it"), "{said}");
}

/// The empty store of `make install` makes room; nothing else does.
#[test]
fn only_a_store_without_images_is_replaced() {
    if !ready(&["skopeo", "podman"]) {
        return;
    }
    let scratch = Scratch::new();
    let images = [both()[0].clone()];
    let place = scratch.join("usr/lib/containers/storage");
    let to = format!("--output {}", place.display());
    let empty = || {
        for kind in ["overlay", "vfs"] {
            for what in ["images", "layers"] {
                let folder = place.join(format!("{kind}-{what}"));
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join(format!("{what}.lock")), "").unwrap();
            }
        }
        fs::create_dir_all(place.join("overlay/l")).unwrap();
    };
    empty();
    embed(&scratch, &images, &to);
    let podman = Podman::new(scratch.join("podman"), Some(&place));
    assert_eq!(podman.images(), [(V1.to_owned(), true)]);

    let boundstore = Boundstore::new(&scratch, "embed-repo");
    let refused = |found: &str| {
        let (_, said) = boundstore.exits(1, &embed_args(&scratch, &images, &to));
        for words in [place.to_str().unwrap(), found, "remove it"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        let left = fs::read_dir(place.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "something was left beside it");
    };
    // What was embedded before.
    refused("overlay");
    assert_eq!(podman.images(), [(V1.to_owned(), true)]);
    fs::remove_dir_all(&place).unwrap();
    empty();
    fs::write(place.join("overlay/mine"), "").unwrap();
    refused("overlay/mine");
    fs::remove_dir_all(&place).unwrap();
    // An empty store by its names alone: links that lead elsewhere, a file with
    // something in it, a filesystem of somebody else's.
    empty();
    let elsewhere = scratch.dir("elsewhere");
    fs::rename(place.join("overlay-images"), elsewhere.join("images")).unwrap();
    symlink(elsewhere.join("images"), place.join("overlay-images")).unwrap();
    refused("overlay-images");
    assert!(elsewhere.join("images/images.lock").exists());
    fs::remove_dir_all(&place).unwrap();
    empty();
    fs::write(place.join("vfs-images/images.lock"), [b'x'; 65]).unwrap();
    refused("vfs-images/images.lock");
    assert_eq!(
        fs::read(place.join("vfs-images/images.lock")).unwrap(),
        [b'x'; 65]
    );
    fs::remove_dir_all(&place).unwrap();
    empty();
    let mut mount = Command::new("mount");
    text(mount.arg("--bind").args([&place, &place]));
    refused("a filesystem mounted on it");
    text(Command::new("umount").arg(&place));
    assert!(place.join("vfs-layers/layers.lock").exists());
    fs::remove_dir_all(&place).unwrap();
    symlink("elsewhere", &place).unwrap();
    refused("no directory");
    fs::remove_file(&place).unwrap();
    fs::write(&place, "a file").unwrap();
    refused("no directory");
    assert_eq!(fs::read(&place).unwrap(), b"a file");
}

/// A filesystem of its own, mounted at `disk` in the scratch directory.
fn disk(scratch: &Scratch, mkfs: &str, megabytes: u64) -> PathBuf {
    let image = scratch.join("disk.img");
    let file = fs::File::create(&image).unwrap();
    file.set_len(megabytes << 20).unwrap();
    let mut words = mkfs.split_whitespace();
    text(Command::new(words.next().unwrap()).args(words).arg(&image));
    let disk = scratch.dir("disk");
    let mut mount = Command::new("mount");
    text(mount.args(["-o", "loop"]).args([&image, &disk]));
    disk
}

/// Where the filesystem can, the trees share the blocks of their files.
#[test]
fn trees_share_blocks_on_btrfs() {
    if !ready(&["mkfs.btrfs", "btrfs", "mount", "skopeo"]) {
        return;
    }
    let scratch = Scratch::new();
    let disk = disk(&scratch, "mkfs.btrfs -q", 600);
    let plain = disk.join("plain");
    let told = embed(&scratch, &both(), &format!("--output {}", plain.display()));
    text(
        Command::new("btrfs")
            .args(["filesystem", "sync"])
            .arg(&disk),
    );
    let mut usage = Command::new("btrfs");
    usage.args(["filesystem", "du", "--raw", "-s"]).arg(&plain);
    let usage = text(&mut usage);
    let numbers: Vec<u64> = { usage.lines().last().unwrap().split_whitespace() }
        .filter_map(|word| word.parse().ok())
        .collect();
    let [total, exclusive, shared] = numbers[..] else {
        panic!("{usage}");
    };
    println!("{total} bytes, {exclusive} in one file, {shared} on disk for the rest");
    let repeated = told["repeated_bytes"].as_u64().unwrap();
    assert!(
        total - exclusive - shared > repeated * 9 / 10,
        "{usage}{told}"
    );
}

/// What a filesystem cannot hold is said, and nothing is left.
#[test]
fn a_filesystem_that_cannot_hold_it() {
    if !ready(&["mkfs.ext4", "mount", "skopeo"]) {
        return;
    }
    for (mkfs, megabytes, words) in [
        ("mkfs.ext4 -q -I 128", 64, "does not keep the time"),
        ("mkfs.ext4 -q -m 0", 4, "No space left on device"),
    ] {
        let scratch = Scratch::new();
        let disk = disk(&scratch, mkfs, megabytes);
        let plain = disk.join("plain");
        let images = [bound(V1, app("v1").source())];
        let images = match megabytes {
            4 => images.to_vec(),
            _ => odd(),
        };
        let boundstore = Boundstore::new(&scratch, "embed-repo");
        let to = format!("--output {}", plain.display());
        let (_, said) = boundstore.exits(1, &embed_args(&scratch, &images, &to));
        assert!(said.contains(words), "{words}: {said}");
        let file = format!("{}/overlay", plain.display());
        assert!(said.contains(&file), "{file}: {said}");
        let left: Vec<_> = fs::read_dir(&disk).unwrap().collect();
        assert_eq!(left.len(), 1, "more than lost+found: {left:?}");
        if megabytes == 4 {
            let file = disk.join("layer.tar");
            let to = format!("--tar {}", file.display());
            let (_, said) = boundstore.exits(1, &embed_args(&scratch, &images, &to));
            for words in [words, file.to_str().unwrap()] {
                assert!(said.contains(words), "{words}: {said}");
            }
            assert_eq!(fs::read_dir(&disk).unwrap().count(), 1);
        }
    }
}

/// A root's lock file says which images, as for `sync`.
#[test]
fn a_lock_file_is_followed() {
    if !ready(&["skopeo"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut layout = Layout::new(&scratch.join("layout"));
    // Nobody listens there.
    let name = "127.0.0.1:9/app:1";
    let layer = |seed| LayerBlob::gzip(&tar(&[("file", &content(seed, 9000))]));
    layout.image(name, &[layer(1)]);
    let root = scratch.dir("root");
    let bound = scratch.dir("root/usr/lib/boundstore/bound-images.d");
    fs::write(bound.join("app.image"), format!("[Image]\nImage={name}\n")).unwrap();
    let boundstore = Boundstore::new(&scratch, "embed-repo");
    let from = |folder: &Path| format!("--root {} --from oci:{}", root.display(), folder.display());
    let lock = embed_args(&scratch, &[], &from(&layout.path)).replacen("embed", "lock", 1);
    boundstore.ok(&lock);
    let told = embed(
        &scratch,
        &[],
        &format!(
            "{} --output {}",
            from(&layout.path),
            scratch.join("a").display()
        ),
    );
    assert_eq!(told["images"][0]["name"], name);
    // Other bytes than the locked ones, and the same that make another set image.
    let place = scratch.join("b");
    let file = root.join("usr/lib/boundstore/bound-images.lock.json");
    let locked = fs::read_to_string(&file).unwrap();
    let parsed: Value = serde_json::from_str(&locked).unwrap();
    let id = parsed["set_image"]["sha512"].as_str().unwrap();
    let wrong = locked.replace(id, &"0".repeat(128));
    fs::write(&file, wrong).unwrap();
    let to = format!("{} --output {}", from(&layout.path), place.display());
    let (_, said) = boundstore.exits(5, &embed_args(&scratch, &[], &to));
    assert!(
        said.contains(id) && said.contains(&"0".repeat(128)),
        "{said}"
    );
    assert!(!place.exists());
    fs::write(&file, &locked).unwrap();
    let digest = parsed["images"][0]["manifest"]["digest"].as_str().unwrap();
    let moved_lock = locked.replace(digest, &sha256(b"another"));
    fs::write(&file, moved_lock).unwrap();
    let args = format!("{} --retry-for 0", embed_args(&scratch, &[], &to));
    let (_, said) = boundstore.exits(4, &args);
    assert!(said.contains(name), "{said}");
    fs::write(&file, locked).unwrap();
    // The tag has moved: the lock has not.
    let mut moved = Layout::new(&scratch.join("moved"));
    moved.image(name, &[layer(2)]);
    let to = format!("{} --output {}", from(&moved.path), place.display());
    let (_, said) = boundstore.exits(
        4,
        &format!("{} --retry-for 0", embed_args(&scratch, &[], &to)),
    );
    assert!(said.contains(name), "{said}");
    assert!(!place.exists());
    // A name that is not locked.
    fs::write(
        bound.join("new.image"),
        "[Image]\nImage=127.0.0.1:9/new:1\n",
    )
    .unwrap();
    let (_, said) = boundstore.exits(5, &embed_args(&scratch, &[], &to));
    assert!(said.contains("127.0.0.1:9/new:1"), "{said}");
    assert!(!place.exists());
}

#[test]
fn what_is_asked_wrongly() {
    let scratch = Scratch::new();
    let boundstore = Boundstore::new(&scratch, "embed-repo");
    let image = bound("localhost/x:1", "oci:/nonexistent");
    let at = |name: &str| scratch.join(name).display().to_string();
    for (to, words) in [
        (String::new(), "--output"),
        (
            format!("--output {} --tar {}", at("a"), at("b")),
            "cannot be used",
        ),
        (format!("--tar {} --prefix ../x", at("b")), "leads out"),
        (format!("--tar {} --prefix /", at("b")), "the root itself"),
    ] {
        let args = embed_args(&scratch, std::slice::from_ref(&image), &to);
        let (_, said) = boundstore.exits(2, &args);
        assert!(said.contains(words), "{words}: {said}");
    }
    let to = format!("--tar {}", at("no/such/folder/x.tar"));
    let args = embed_args(&scratch, &both(), &to);
    let (_, said) = boundstore.exits(1, &args);
    assert!(said.contains("no/such/folder"), "{said}");
    // What is no file is not replaced by one; a name of any bytes is.
    let fifo = scratch.join("fifo");
    text(Command::new("mkfifo").arg(&fifo));
    let link = scratch.join("link");
    symlink("target", &link).unwrap();
    for place in [&fifo, &link] {
        let to = format!("--tar {}", place.display());
        let (_, said) = boundstore.exits(1, &embed_args(&scratch, &both(), &to));
        assert!(said.contains("is no file: remove it"), "{said}");
    }
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let mut odd = boundstore.command(&embed_args(&scratch, &both()[..1], "--json --tar"));
    let name = std::ffi::OsStr::from_bytes(b"odd\xff.tar");
    let done = output(odd.arg(scratch.join(name)));
    assert!(done.status.success(), "{}", describe(&odd, &done));
    assert!(scratch.join(name).exists());
}

/// More names than ext4 gives one file: the trees get copies.
#[test]
fn more_links_than_a_filesystem_has() {
    if !ready(&["mkfs.ext4", "mount", "skopeo"]) {
        return;
    }
    let scratch = Scratch::new();
    let disk = disk(&scratch, "mkfs.ext4 -q", 96);
    let mut builder = ::tar::Builder::new(Vec::new());
    for number in 0..40_000 {
        let mut header = ::tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(if number == 0 { 9000 } else { 0 });
        let path = format!("d/{number}");
        if number == 0 {
            builder
                .append_data(&mut header, path, &content(1, 9000)[..])
                .unwrap();
        } else {
            header.set_entry_type(::tar::EntryType::Link);
            builder.append_link(&mut header, path, "d/0").unwrap();
        }
    }
    let many = LayerBlob::gzip(&builder.into_inner().unwrap());
    let mut layout = Layout::new(&scratch.join("layout"));
    let top = LayerBlob::gzip(&tar(&[("top", b"x")]));
    layout.image("1", &[many, top]);
    let images = [layout.arg("localhost/many:1", "1")];
    let place = disk.join("linked");
    embed(
        &scratch,
        &images,
        &format!("--hardlink --output {}", place.display()),
    );
    let linked = fs::metadata(place.join("overlay/l"));
    assert!(linked.unwrap().is_dir());
    let names = text(Command::new("find").arg(&place).args(["-path", "*/d/*"]));
    assert_eq!(names.lines().count(), 80_000);
}

/// Owners that a user namespace has not: it is told what takes none.
#[test]
fn a_user_namespace_that_lacks_owners() {
    if !ready(&["unshare", "skopeo"]) {
        return;
    }
    let scratch = Scratch::new();
    let boundstore = Boundstore::new(&scratch, "embed-repo");
    let owners = Image::read(&fixtures().join("odd/owners"), "1");
    let images = [bound("localhost/owners:1", owners.source())];
    let place = scratch.join("plain");
    let wrapped = boundstore.command(&embed_args(
        &scratch,
        &images,
        &format!("--output {}", place.display()),
    ));
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user"])
        .arg(wrapped.get_program());
    let done = output(command.args(wrapped.get_args()));
    let said = describe(&command, &done);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(
        said.contains("takes root") && said.contains("layer tar"),
        "{said}"
    );
    assert!(!place.exists());
}
