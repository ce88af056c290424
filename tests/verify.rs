//! `verify` finds what is bad and says what it is.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "common/host.rs"]
mod host;
#[path = "common/layout.rs"]
mod layout;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use boundstore::{
    name::{Algorithm, SetFormat},
    repo::{Repo, RepoView, SetRecord, render},
    squash::tree::Directory,
};
use composefs::fsverity::{FsVerityHashValue, Sha512HashValue, compute_verity};
use host::Host;
use layout::{LayerBlob, Layout, content, tar};
use serde_json::{Value, json};

/// A host with two deployments, `a` and `b`, that share an image's base layer.
struct Checked {
    host: Host,
    images: [String; 2],
    base: String,
}

const SHARED: (u8, usize) = (1, 70_000);
const OF_B: (u8, usize) = (3, 5000);

impl Checked {
    fn new() -> Self {
        let host = Host::new();
        let mut layout = Layout::new(&host.path("layout"));
        let base = tar(&[("etc/", b""), ("etc/hello", &content(SHARED.0, SHARED.1))]);
        let base = LayerBlob::gzip(&base);
        let mut image = |reference: &str, (seed, length): (u8, usize)| {
            let top = LayerBlob::plain(&tar(&[("data", &content(seed, length))]));
            layout.image(reference, &[base.clone(), top]);
            layout.arg(&format!("localhost/{reference}:1"), reference)
        };
        let images = [image("a", (2, 5000)), image("b", OF_B)];
        let base = base.diff_id;
        let this = Self { host, images, base };
        this.sync();
        this
    }

    fn sync(&self) {
        for (id, image) in ["a", "b"].iter().zip(&self.images) {
            self.host
                .ok(&["sync", "--deployment", id, "--image", image]);
        }
    }

    fn object(&self, (seed, length): (u8, usize)) -> PathBuf {
        let id: Sha512HashValue = compute_verity(&content(seed, length));
        self.host.path("repo/objects").join(id.to_object_pathname())
    }

    /// The problems of each deployment, and whether the exit status says so.
    fn problems(&self, args: &[&str]) -> [Vec<Value>; 2] {
        let output = self.host.run(&[&["verify"], args].concat());
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let problems = |index: usize| {
            let found = &document["deployments"][index]["problems"];
            found.as_array().unwrap().clone()
        };
        let found = [problems(0), problems(1)];
        let healthy = found.iter().all(Vec::is_empty);
        assert_eq!(output.status.code(), Some(if healthy { 0 } else { 3 }));
        found
    }

    fn is_clean(&self, args: &[&str]) -> bool {
        self.problems(args).iter().all(Vec::is_empty)
    }
}

fn change(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[4000] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn all_is_well() {
    let checked = Checked::new();
    assert!(checked.is_clean(&[]));
    assert!(checked.is_clean(&["--deep"]));
    let deep = checked.host.ok(&["verify", "--deep", "--deployment", "a"]);
    assert!(deep["bytes_hashed"].as_u64().unwrap() > 75_000, "{deep}");
    assert_eq!(deep["deployments"].as_array().unwrap().len(), 1);
}

#[test]
fn a_missing_object_is_named_in_every_set_and_comes_back() {
    let checked = Checked::new();
    fs::remove_file(checked.object(SHARED)).unwrap();
    let found = checked.problems(&[]);
    for (problems, image) in found.iter().zip(["localhost/a:1", "localhost/b:1"]) {
        assert_eq!(problems.len(), 1, "{problems:?}");
        let usage =
            json!({ "kind": "file", "image": image, "layer": checked.base, "path": "/etc/hello" });
        assert_eq!(problems[0]["used_as"], json!([usage]));
        let message = problems[0]["message"].as_str().unwrap();
        assert!(message.contains("missing"), "{message}");
    }
    checked.sync();
    assert!(checked.is_clean(&["--deep"]));
}

/// Else a guard would try for ever, and hold its deployment back.
#[test]
fn a_sync_mends_whatever_verify_finds() {
    let checked = Checked::new();
    let repo = checked.host.path("repo");
    let streams = || {
        let names = fs::read_dir(repo.join("streams")).unwrap();
        let names = names.map(|entry| entry.unwrap().path());
        names.filter(|path| path.to_string_lossy().contains("boundstore-"))
    };
    let kinds = ["boundstore-image-v1-", "boundstore-layer-v1-"];
    let of_kind = |kind: &str| streams().find(|path| path.to_string_lossy().contains(kind));
    for kind in kinds {
        let stream = of_kind(kind).unwrap();
        fs::remove_file(&stream).unwrap();
        assert!(!checked.is_clean(&[]), "{kind}");
        checked.sync();
        assert!(checked.is_clean(&["--deep"]), "{kind}");
        // As a power cut leaves it.
        let object = stream.canonicalize().unwrap();
        fs::File::options()
            .write(true)
            .open(object)
            .unwrap()
            .set_len(10)
            .unwrap();
        assert!(!checked.is_clean(&[]), "{kind}");
        checked.sync();
        assert!(checked.is_clean(&["--deep"]), "{kind}");
    }
}

/// Without fs-verity only reading finds what has changed.
#[test]
fn a_changed_object_is_found_by_reading() {
    let checked = Checked::new();
    change(&checked.object(OF_B));
    assert!(checked.is_clean(&[]));
    let [a, b] = checked.problems(&["--deep"]);
    assert!(a.is_empty(), "{a:?}");
    assert_eq!(b[0]["used_as"][0]["path"], "/data");
    let message = b[0]["message"].as_str().unwrap();
    assert!(message.contains("hash to"), "{message}");
}

#[test]
fn a_damaged_set_image_is_the_set_image() {
    let checked = Checked::new();
    let status = checked.host.ok(&["status"]);
    let id = status["deployments"][0]["set"]["set_image"].as_str();
    let id = id.unwrap();
    let path = checked
        .host
        .path("repo/objects")
        .join(&id[..2])
        .join(&id[2..]);
    change(&path);
    let [a, b] = checked.problems(&["--deep"]);
    assert_eq!(a[0]["object"], id);
    assert_eq!(a[0]["used_as"], json!([{ "kind": "set-image" }]));
    assert!(b.is_empty(), "{b:?}");
}

#[test]
fn a_lost_stream_is_named() {
    let checked = Checked::new();
    let stream = format!("boundstore-layer-v1-{}", checked.base);
    fs::remove_file(checked.host.path("repo/streams").join(&stream)).unwrap();
    for problems in checked.problems(&[]) {
        let said = |problem: &Value| problem["message"].as_str().unwrap().contains(&stream);
        assert!(problems.iter().any(said), "{problems:?}");
    }
    checked.sync();
    assert!(checked.is_clean(&["--deep"]));
}

/// Each file of the repository that a set needs, damaged in turn.
#[test]
fn no_object_is_forgotten() {
    let checked = Checked::new();
    let objects = checked.host.objects();
    assert!(objects.len() > 8, "{objects:?}");
    for object in objects {
        let hidden = checked.host.path("hidden");
        fs::rename(&object, &hidden).unwrap();
        assert!(
            !checked.is_clean(&[]),
            "{object:?} is missing, and all is well"
        );
        fs::rename(&hidden, &object).unwrap();
    }
    assert!(checked.is_clean(&["--deep"]));
}

/// Every object of it has its name's digest; that is not enough.
#[test]
fn a_set_image_that_podman_cannot_use_is_found() {
    let checked = Checked::new();
    let repo = Repo::open(&checked.host.path("repo"), Duration::from_secs(10)).unwrap();
    let image = render(
        Algorithm::Sha512,
        &Directory::default(),
        SetFormat::V2,
        |_| false,
    )
    .unwrap();
    let set_image = repo.ensure_object(&image).unwrap().into_inner();
    let set = SetRecord {
        format: 2,
        set_image,
        set_image_bytes: image.len() as u64,
        images: Vec::new(),
        kept: Vec::new(),
    };
    repo.publish(&"c".parse().unwrap(), &set, &[set_image])
        .unwrap();
    drop(repo);
    let output = checked.host.run(&["verify", "--deployment", "c"]);
    assert_eq!(output.status.code(), Some(3));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let problem = &document["deployments"][0]["problems"][0];
    assert_eq!(problem["object"], set_image.to_string());
    let message = problem["message"].as_str().unwrap();
    assert!(
        message.contains("no store that podman can use"),
        "{message}"
    );
}

/// The next garbage collection would take the rest.
#[test]
fn a_pin_that_does_not_keep_all_is_found_and_mended() {
    let checked = Checked::new();
    let repo = Repo::open(&checked.host.path("repo"), Duration::from_secs(10)).unwrap();
    let id = "a".parse().unwrap();
    let set = repo.view().set(&id).unwrap().unwrap();
    let all = repo.view().pin_parts(&set).unwrap().objects;
    repo.pin(&set, &[set.set_image]).unwrap();
    drop(repo);
    let [a, b] = checked.problems(&[]);
    let message = a[0]["message"].as_str().unwrap();
    assert!(message.contains("is told to keep"), "{message}");
    assert!(b.is_empty(), "{b:?}");
    let repaired = checked.host.ok(&["verify", "--repair"]);
    assert_eq!(repaired["rendered"], json!(["a"]));
    assert!(checked.is_clean(&["--deep"]));
    let view = RepoView::open(&checked.host.path("repo")).unwrap();
    assert_eq!(view.pin_parts(&set).unwrap().objects, all);
}
