//! The seam with composefs: what its own gc, fsck and bootc's upgrade do to
//! our streams, and what an existing object is worth.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "common/host.rs"]
mod host;
#[path = "common/layout.rs"]
mod layout;

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use boundstore::{
    name::{Algorithm, ObjectId, SetFormat},
    repo::{NewRepo, Repo, RepoView, fs_verity_digest, read_back, render},
    store_tree::is_rootfs,
};
use host::Host;
use layout::{LayerBlob, Layout, content, sha256, tar};
use serde_json::Value;

fn base() -> Vec<u8> {
    tar(&[
        ("etc/", b""),
        ("etc/name", &content(7, 3000)),
        ("hello", &content(1, 70_000)),
    ])
}

fn two_layers(layout: &mut Layout, reference: &str, seed: u8) -> String {
    on_base(layout, reference, seed, LayerBlob::gzip(&base()))
}

fn on_base(layout: &mut Layout, reference: &str, seed: u8, base: LayerBlob) -> String {
    let top = tar(&[
        ("etc/.wh.name", b""),
        ("data", &content(seed, 5000)),
        ("small", b"tiny"),
    ]);
    layout.image(reference, &[base, LayerBlob::plain(&top)])
}

#[test]
fn the_crates_gc_takes_nothing_of_ours_until_it_is_removed() {
    let host = Host::new();
    let mut layout = Layout::new(&host.path("layout"));
    two_layers(&mut layout, "v1", 2);
    two_layers(&mut layout, "v2", 3);
    let arg = |reference: &str| layout.arg("localhost/app:1", reference);
    let first = host.ok(&["sync", "--deployment", "a", "--image", &arg("v1")]);
    let before = host.objects().len();
    assert_eq!(host.gc(), 0);
    assert_eq!(host.objects().len(), before);
    assert_eq!(
        host.ok(&["status"])["deployments"][0]["conditions"][0]["status"],
        true
    );

    // Again is a no-op that says so; the same set for another deployment is shared.
    let again = host.ok(&["sync", "--deployment", "a", "--image", &arg("v1")]);
    assert_eq!(again["unchanged"], true);
    let other = host.ok(&["sync", "--deployment", "b", "--image", &arg("v1")]);
    assert_eq!(other["set_image"], first["set_image"]);
    assert_eq!(host.objects().len(), before);

    // One changed layer costs its objects, its streams and a set image.
    let second = host.ok(&["sync", "--deployment", "b", "--image", &arg("v2")]);
    assert_ne!(second["set_image"], first["set_image"]);
    assert_eq!(
        (
            second["layers_imported"].as_u64(),
            second["layers_reused"].as_u64()
        ),
        (Some(1), Some(1))
    );
    assert_eq!(host.gc(), 0);

    host.ok(&["remove", "--deployment", "a"]);
    assert!(host.gc() > 0);
    assert_eq!(
        host.ok(&["status"])["deployments"][0]["conditions"][0]["status"],
        true
    );
    host.ok(&["remove", "--deployment", "b"]);
    host.gc();
    assert!(host.objects().is_empty());
}

#[test]
fn a_gc_between_two_images_of_one_sync_takes_nothing() {
    let host = Host::new();
    let mut layout = Layout::new(&host.path("layout"));
    two_layers(&mut layout, "good", 2);
    // The second image is cut off: the first one's layers are in by then.
    let digest = two_layers(&mut layout, "bad", 9);
    let manifest: Value =
        serde_json::from_slice(&fs::read(layout.blob_path(&digest)).unwrap()).unwrap();
    let blob = layout.blob_path(manifest["layers"][1]["digest"].as_str().unwrap());
    let whole = fs::read(&blob).unwrap();
    let mut torn = whole.clone();
    torn[600] ^= 1;
    fs::write(&blob, torn).unwrap();
    let images = [
        "--image",
        &layout.arg("localhost/a:1", "good"),
        "--image",
        &layout.arg("localhost/b:1", "bad"),
    ];
    let sync = [&["sync", "--deployment", "d"], images.as_slice()].concat();
    host.fails(&sync, 1, &["localhost/b:1", "layer 1"]);
    host.gc();
    let layers = host.path("repo/streams/refs/boundstore/partial");
    assert_eq!(
        fs::read_dir(&layers).unwrap().count(),
        3,
        "two layers and an image"
    );

    fs::write(&blob, whole).unwrap();
    let synced = host.ok(&sync);
    assert_eq!(synced["layers_imported"], 1);
    assert_eq!(host.gc(), 0);
    assert_eq!(fs::read_dir(&layers).unwrap().count(), 0);
}

#[test]
fn the_first_object_of_a_repository_may_be_large() {
    let host = Host::new();
    let mut layout = Layout::new(&host.path("layout"));
    let large = tar(&[("large", &content(5, (3 << 20) + 1))]);
    layout.image("v1", &[LayerBlob::plain(&large)]);
    let arg = layout.arg("localhost/large:1", "v1");
    host.ok(&["sync", "--deployment", "d", "--image", &arg]);
    host.gc();
    let view = RepoView::open(&host.path("repo")).unwrap();
    let set = view.set(&"d".parse().unwrap()).unwrap().unwrap();
    view.check_object(&set.set_image).unwrap();
}

#[test]
fn a_config_that_claims_anothers_layer_poisons_nothing() {
    let host = Host::new();
    let genuine = tar(&[("bin/", b""), ("bin/login", &content(1, 4000))]);
    let evil = tar(&[("bin/", b""), ("bin/login", &content(66, 4000))]);
    let mut layout = Layout::new(&host.path("layout"));
    layout.image("genuine", &[LayerBlob::gzip(&genuine)]);
    layout.image(
        "evil",
        &[LayerBlob {
            diff_id: sha256(&genuine),
            ..LayerBlob::gzip(&evil)
        }],
    );
    let evil_arg = layout.arg("localhost/evil:1", "evil");
    let words = [&sha256(&genuine), &sha256(&evil), "DiffID"].map(String::from);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    host.fails(
        &["sync", "--deployment", "d", "--image", &evil_arg],
        1,
        &words,
    );
    let view = RepoView::open(&host.path("repo")).unwrap();
    assert!(
        view.layer(&sha256(&genuine).parse().unwrap())
            .unwrap()
            .is_none()
    );
    host.fsck();
    host.ok(&[
        "sync",
        "--deployment",
        "d",
        "--image",
        &layout.arg("localhost/app:1", "genuine"),
    ]);
    host.gc();
    assert!(host.objects().iter().all(|object| {
        !fs::read(object)
            .unwrap()
            .windows(4000)
            .any(|window| window == content(66, 4000))
    }));
}

#[test]
fn objects_that_are_there_are_not_believed_by_name() {
    let host = Host::new();
    let mut layout = Layout::new(&host.path("layout"));
    two_layers(&mut layout, "v1", 2);
    let sync = [
        "sync",
        "--deployment",
        "d",
        "--image",
        &layout.arg("localhost/app:1", "v1"),
    ];
    host.ok(&sync);
    let find = |length: u64| {
        let mut objects: Vec<PathBuf> = host.objects().into_iter().collect();
        objects.retain(|object| object.metadata().unwrap().len() == length);
        assert_eq!(objects.len(), 1, "one object of {length} bytes");
        objects.remove(0)
    };
    let (torn, linked) = (find(70_000), find(5000));
    let (whole, genuine) = (fs::read(&torn).unwrap(), fs::read(&linked).unwrap());
    host.ok(&["remove", "--deployment", "d"]);
    for stream in fs::read_dir(host.path("repo/streams")).unwrap() {
        let stream = stream.unwrap().path();
        if stream.is_symlink() {
            fs::remove_file(stream).unwrap();
        }
    }
    // A torn write, and a file that lives on under another name and was changed there.
    fs::write(&torn, &whole[..10]).unwrap();
    fs::hard_link(&linked, host.path("alias")).unwrap();
    let mut changed = genuine.clone();
    changed[0] ^= 1;
    fs::write(host.path("alias"), &changed).unwrap();
    host.ok(&sync);
    assert_eq!(fs::read(&torn).unwrap(), whole);
    assert_eq!(fs::read(&linked).unwrap(), genuine);
    assert_eq!(
        fs::read(host.path("alias")).unwrap(),
        changed,
        "not written through"
    );
    host.fsck();
}

/// The set image of fixed inputs, as each format renders it. Formats are
/// append-only: if one of these changes, a released format has been broken.
const GOLDEN: [(Algorithm, SetFormat, &str); 4] = [
    (
        Algorithm::Sha256,
        SetFormat::V1,
        "1dc98a899ffb5a3a0e0790545f04273cd1046e87505284c9da3fb4b8cc4e4634",
    ),
    (
        Algorithm::Sha512,
        SetFormat::V1,
        "71951b2ba0d60bfa1013d4002eef4b7d6e6af3c6e38ebfe387af5a856dbfbbbad6006c5c88721b93bcdb5409eb04000536d024fd8ed19cf1a4b96a7c055de250",
    ),
    (
        Algorithm::Sha256,
        SetFormat::V2,
        "abff2604dc98256ccaab70062f3abc8c2724dcc35129169b6d3d87f3d0ce577f",
    ),
    (
        Algorithm::Sha512,
        SetFormat::V2,
        "d5494e6b292e9bb8b3537b9fab1de6c884f657d9e334aa2ba7e6d77cbd4dbfebba33d6ecefe5b666d5f7ff008ec20607b078d87a25a2e437739ee7588bf065f8",
    ),
];

fn golden(host: &Host, repo: &str, algorithm: Algorithm, layout: &Layout, user: &[&str]) -> String {
    let path = host.path(repo);
    Repo::create(
        &path,
        NewRepo {
            algorithm,
            insecure: true,
        },
        Repo::LOCK_LIMIT,
    )
    .unwrap();
    if !user.is_empty() {
        let own = Command::new("chown")
            .args(["-R", "65534:65534"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(own.success());
    }
    let binary = host.path("boundstore");
    let mut command = [user, &[binary.to_str().unwrap()]].concat();
    let program = command.remove(0);
    let output = Command::new(program)
        .args(command)
        .env("HOME", host.dir.path())
        .args(["--json", "--repo"])
        .arg(&path)
        .args(["sync", "--deployment", "d"])
        .args(["--image", &layout.arg("localhost/zstd:1", "zstd")])
        .args(["--image", &layout.arg("localhost/app:1", "v1")])
        .args(["--image", &layout.arg("localhost/app:2", "v1")])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    document["set_image"].as_str().unwrap().to_owned()
}

#[test]
fn a_format_renders_the_same_bytes_everywhere() {
    // An ordinary user must reach it, which the build directory may not allow.
    let host = Host {
        dir: tempfile::TempDir::new().unwrap(),
    };
    fs::set_permissions(host.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut layout = Layout::new(&host.path("layout"));
    // A set image has the blobs' digests: no compressor gives these everywhere.
    let base = LayerBlob {
        blob: include_bytes!("golden/set_image/base.tar.gz").to_vec(),
        ..LayerBlob::gzip(&base())
    };
    on_base(&mut layout, "v1", 2, base);
    let odd = tar(&[
        ("a/", b""),
        ("a/link->../b", b""),
        ("b", &content(3, 65)),
        ("c", &content(3, 64)),
    ]);
    let odd = LayerBlob {
        blob: include_bytes!("golden/set_image/odd.tar.zst").to_vec(),
        ..LayerBlob::zstd(&odd)
    };
    layout.image("zstd", &[odd, LayerBlob::plain(&tar(&[]))]);
    let as_nobody = [
        "setpriv",
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
    ];
    // Where an ordinary user can reach it, wherever it was built.
    fs::copy(env!("CARGO_BIN_EXE_boundstore"), host.path("boundstore")).unwrap();
    let root = std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap()) == 0;
    assert!(root || std::env::var_os("CI").is_none(), "CI must be root");
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let first = golden(&host, &format!("one-{algorithm}"), algorithm, &layout, &[]);
        let second = golden(&host, &format!("two-{algorithm}"), algorithm, &layout, &[]);
        assert_eq!(first, second);
        if root {
            let third = golden(
                &host,
                &format!("three-{algorithm}"),
                algorithm,
                &layout,
                &as_nobody,
            );
            assert_eq!(first, third, "as an ordinary user");
        } else {
            eprintln!("SKIPPED: as another user (needs root)");
        }
        let id: ObjectId = first.parse().unwrap();
        let object = format!("one-{algorithm}/objects/{}", id.object_path());
        let bytes = fs::read(host.path(&object)).unwrap();
        let tree = read_back(algorithm, bytes, is_rootfs).unwrap();
        for (_, format, digest) in GOLDEN.iter().filter(|golden| golden.0 == algorithm) {
            let image = render(algorithm, &tree, *format, is_rootfs).unwrap();
            let found = fs_verity_digest(algorithm, &image).to_string();
            assert_eq!(found, *digest, "{algorithm} {format:?}");
            assert_eq!(*format == SetFormat::NEWEST, found == first);
        }
    }
}
