//! Real podman reads a store tree as an additional image store.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;
#[path = "common/plain_tree.rs"]
mod plain_tree;
#[path = "common/store_images.rs"]
mod store_images;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use boundstore::store_tree::{StoreImage, lay_out};
use common::{describe, output, ready, text};
use serde_json::{Value, json};
use store_images::{image, layer, pinned, pinned_by_index, recompressed, small_set};

/// A set as a plain directory, and a podman that has it as additional store.
struct Podman {
    scratch: tempfile::TempDir,
}

impl Podman {
    fn new(images: &[StoreImage]) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let tree = lay_out(images).unwrap().validate().unwrap();
        plain_tree::write(tree.tree(), &scratch.path().join("store"));
        Self { scratch }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.path("primary"));
        command.arg("--runroot").arg(self.path("primary-run"));
        command.args(["--storage-driver", "overlay", "--storage-opt"]);
        let store = self.path("store");
        command.arg(format!("additionalimagestore={}", store.display()));
        command
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        text(self.command().args(args))
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.run(args)).unwrap()
    }

    fn all_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .json(&["images", "-a", "--format", "json"])
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|image| image["Names"].as_array().unwrap())
            .map(|name| name.as_str().unwrap().to_owned())
            .collect();
        // An image stands there once for each of its names.
        names.sort();
        names.dedup();
        names
    }
}

fn sha256(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    boundstore::name::BlobDigest::of(&bytes).hex()
}

#[test]
fn podman_shows_a_set() {
    if !ready(&["podman"]) {
        return;
    }
    let set = small_set();
    let podman = Podman::new(&set);
    let mut names: Vec<String> = set.iter().map(|image| image.name.to_string()).collect();
    names.sort();
    assert_eq!(podman.all_names(), names);
    for image in &set {
        let name = image.name.to_string();
        let inspect = podman.json(&["image", "inspect", &name]);
        assert_eq!(inspect[0]["Id"], image.config_digest.hex());
        let layers: Vec<String> = image.layers.iter().map(|l| l.diff_id.to_string()).collect();
        assert_eq!(inspect[0]["RootFS"]["Layers"], json!(layers), "{name}");
        let history = podman.json(&["history", "--format", "json", &name]);
        let rows = history.as_array().unwrap().len();
        assert_eq!(rows, image.layers.len(), "{name}");
        podman.run(&["image", "tree", &name]);
    }
    podman.run(&["system", "df"]);
}

#[test]
fn podman_shows_an_empty_set() {
    if !ready(&["podman"]) {
        return;
    }
    let podman = Podman::new(&[]);
    assert_eq!(podman.all_names(), Vec::<String>::new());
}

/// Trap T17 of the contract page.
#[test]
fn podman_with_vfs_lives_with_the_store() {
    if !ready(&["podman"]) {
        return;
    }
    let podman = Podman::new(&small_set());
    let conf = podman.path("storage.conf");
    let text = format!(
        "[storage]\ndriver = \"vfs\"\nrunroot = {:?}\ngraphroot = {:?}\n\
         [storage.options]\nadditionalimagestores = [{:?}]\n",
        podman.path("primary-run"),
        podman.path("primary"),
        podman.path("store")
    );
    std::fs::write(&conf, text).unwrap();
    // Read-only, or podman would make what is missing.
    let script = "mount --bind $0 $0 && mount -o remount,bind,ro $0 && podman system df";
    let images = || {
        let mut command = Command::new("unshare");
        command.env("CONTAINERS_STORAGE_CONF", &conf);
        command.args(["-m", "sh", "-c", script]);
        let output = output(command.arg(podman.path("store")));
        (output.status.success(), describe(&command, &output))
    };
    let (works, said) = images();
    assert!(works, "{said}");
    for directory in ["vfs-images", "vfs-layers"] {
        let aside = podman.path(directory);
        let in_store = podman.path("store").join(directory);
        std::fs::rename(&in_store, &aside).unwrap();
        let (works, said) = images();
        assert!(!works, "{said}");
        std::fs::rename(&aside, &in_store).unwrap();
    }
}

/// What is saved has the layers' very bytes: the tar-splits are right.
#[test]
fn podman_saves_the_layers_bytes() {
    if !ready(&["podman"]) {
        return;
    }
    for image in small_set() {
        if image.layers.is_empty() {
            continue;
        }
        let podman = Podman::new(std::slice::from_ref(&image));
        let saved = podman.path("saved");
        let name = image.name.to_string();
        let to = saved.to_str().unwrap();
        podman.run(&["save", "--format", "docker-dir", "-o", to, &name]);
        for layer in &image.layers {
            let hex = layer.diff_id.hex();
            assert_eq!(sha256(&saved.join(&hex)), hex);
        }
    }
}

#[test]
fn podman_saves_an_image_of_no_layers() {
    if !ready(&["podman"]) {
        return;
    }
    let none = image("localhost/none:1", &[], json!({}));
    let podman = Podman::new(std::slice::from_ref(&none));
    let saved = podman.path("saved");
    let to = saved.to_str().unwrap();
    podman.run(&["save", "--format", "oci-dir", "-o", to, "localhost/none:1"]);
    podman.run(&["create", "localhost/none:1", "/x"]);
}

/// podman shows a missing `created` as 292 years ago, ours as 1970.
#[test]
fn podman_takes_an_image_of_unknown_age() {
    if !ready(&["podman"]) {
        return;
    }
    let podman = Podman::new(&[image("localhost/a:1", &[], json!({}))]);
    let images = podman.json(&["images", "--format", "json"]);
    assert_eq!(images[0]["Created"], 0);
    assert_eq!(images[0]["CreatedAt"], "1970-01-01T00:00:00Z");
}

#[test]
fn podman_finds_pinned_names() {
    if !ready(&["podman"]) {
        return;
    }
    let (base, _) = layer(None, &[("f", Some(b"f"))]);
    let app = image("localhost/app:1", &[base], json!({}));
    let by_index = pinned_by_index(&app);
    let other = recompressed(&app, "localhost/app:2", 2);
    for set in [
        vec![by_index.clone()],
        vec![pinned(&app)],
        vec![by_index, pinned(&app), pinned(&other), app.clone(), other],
    ] {
        let podman = Podman::new(&set);
        assert_eq!(podman.all_names().len(), set.len());
        for image in &set {
            let name = image.name.to_string();
            let id = podman.run(&["create", "--pull=never", &name, "/f"]);
            let container = podman.json(&["container", "inspect", id.trim()]);
            assert_eq!(container[0]["Image"], app.config_digest.hex());
        }
    }
}

/// A container sees the merged tree, and what it commits is right.
#[test]
fn podman_mounts_and_commits() {
    if !ready(&["podman"]) {
        return;
    }
    let podman = Podman::new(&small_set());
    let id = podman.run(&["create", "quay.io/ns/app:1", "/app/one"]);
    let mounted = podman.run(&["mount", id.trim()]);
    let rootfs = Path::new(mounted.trim());
    assert_eq!(std::fs::read(rootfs.join("app/one")).unwrap(), [b'1'; 700]);
    let release = std::fs::read(rootfs.join("etc/os-release")).unwrap();
    assert_eq!(release, b"ID=fixture\n");
    std::fs::write(rootfs.join("new"), "new").unwrap();
    podman.run(&["umount", id.trim()]);
    podman.run(&["commit", "-q", id.trim(), "localhost/child:1"]);
    let inspect = podman.json(&["image", "inspect", "localhost/child:1"]);
    assert_eq!(inspect[0]["RootFS"]["Layers"].as_array().unwrap().len(), 3);
    let diff = podman.run(&["image", "diff", "localhost/child:1"]);
    assert!(diff.lines().any(|line| line == "A /new"), "{diff}");
    podman.run(&["image", "diff", "quay.io/ns/app:1"]);
    let saved = podman.path("saved");
    let to = saved.to_str().unwrap();
    podman.run(&["save", "--format", "oci-dir", "-o", to, "localhost/child:1"]);
    podman.run(&["tag", "localhost/two:2", "localhost/tagged:1"]);
}
