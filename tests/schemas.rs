//! Every `--json` document is what its schema in `schemas/` says.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "common/host.rs"]
mod host;
#[path = "common/layout.rs"]
mod layout;

use std::{fs, path::Path, process::Command};

use host::Host;
use layout::{LayerBlob, Layout, content, tar};
use serde_json::{Value, json};

/// A host whose documents are checked.
struct Checked(Host);

impl std::ops::Deref for Checked {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.0
    }
}

impl Checked {
    fn new() -> Self {
        Self(Host::new())
    }

    /// Runs a verb; its document, which must be valid.
    #[track_caller]
    fn valid(&self, code: i32, args: &[&str]) -> Value {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_valid(args[0], &document);
        document
    }
}

impl Drop for Checked {
    fn drop(&mut self) {
        // Where a test has failed half way; says nothing where nothing is mounted.
        let mount = self.path("store");
        if is_mounted(&mount) {
            let _gone = Command::new("umount").arg("-l").arg(&mount).status();
        }
    }
}

fn is_mounted(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let path = path.to_string_lossy();
    table
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(&*path))
}

fn schema(verb: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schemas/{verb}.v1.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn problems(verb: &str, document: &Value) -> Vec<String> {
    let validator = jsonschema::draft202012::new(&schema(verb)).unwrap();
    validator
        .iter_errors(document)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

#[track_caller]
fn assert_valid(verb: &str, document: &Value) {
    let found = problems(verb, document);
    assert!(found.is_empty(), "{verb}: {found:#?}\n{document:#}");
}

fn image(layout: &mut Layout, reference: &str, seed: u8) -> String {
    let base = tar(&[("etc/", b""), ("hello", &content(1, 70_000))]);
    let top = tar(&[("data", &content(seed, 5000))]);
    layout.image(reference, &[LayerBlob::gzip(&base), LayerBlob::plain(&top)]);
    layout.arg("localhost/app:1", reference)
}

#[test]
fn syncs_of_several_deployments() {
    let host = Checked::new();
    let sysroot = host.path("sysroot");
    let deployments = ["a", "b"].map(|digit| {
        let name = format!("{}.0", digit.repeat(64));
        let path = sysroot.join("ostree/deploy/os/deploy").join(&name);
        fs::create_dir_all(&path).unwrap();
        path
    });
    let root = host.path("root");
    fs::create_dir(&root).unwrap();
    let of_host = ["--host-root", root.to_str().unwrap(), "--sysroot"];
    let of_host = [&of_host[..], &[sysroot.to_str().unwrap()]].concat();
    let sync = |role| [&["sync", "--deployment", role][..], &of_host].concat();
    let none = host.valid(0, &sync("staged"));
    assert_eq!(none["deployments"], json!([]));
    let both = host.valid(0, &sync("all"));
    assert_eq!(both["deployments"][1]["images"], json!([]));
    // What binds an image is a link to a unit.
    let bound = deployments[1].join("usr/lib/bootc/bound-images.d/app.image");
    fs::create_dir_all(bound).unwrap();
    let one = host.valid(1, &sync("all"));
    assert_eq!(one["deployments"][0]["unchanged"], true);
    assert_eq!(one["deployments"][1]["exit_status"], 1);
}

#[test]
fn documents_without_a_mount() {
    let host = Checked::new();
    let image = image(&mut Layout::new(&host.path("layout")), "v1", 2);
    let sync = ["sync", "--deployment", "a", "--image", &image];
    let dry = [&sync[..], &["--dry-run"]].concat();
    assert_eq!(host.valid(0, &dry)["set_image"], Value::Null);
    let first = host.valid(0, &sync);
    assert_eq!(first["unchanged"], false);
    assert_eq!(host.valid(0, &sync)["unchanged"], true);
    assert_eq!(host.valid(0, &dry)["set_image"], first["set_image"]);
    assert_eq!(
        host.valid(0, &["images"])["images"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    host.valid(0, &["status"]);
    host.valid(0, &["verify", "--deep"]);
    host.valid(0, &["du"]);
    let dangling = host.path("repo/streams/refs/boundstore/partial/dangling");
    std::os::unix::fs::symlink("../../../none", dangling).unwrap();
    assert_eq!(
        host.valid(0, &["gc", "--dry-run"])["goes"][0]["reason"],
        "Broken"
    );
    assert_eq!(host.valid(0, &["gc"])["stays"][0]["reason"], "Manual");
    // Unhealthy: a deployment without a set, and one whose set image is gone.
    host.valid(3, &["status", "--deployment", "none"]);
    let id = first["set_image"].as_str().unwrap();
    let object = format!("repo/objects/{}/{}", &id[..2], &id[2..]);
    fs::remove_file(host.path(&object)).unwrap();
    let damaged = host.valid(3, &["status"]);
    assert_eq!(
        damaged["deployments"][0]["conditions"][0]["reason"],
        "Damaged"
    );
    host.valid(3, &["verify"]);
    assert_eq!(
        host.valid(0, &["remove", "--deployment", "a"])["removed"],
        true
    );
    assert_eq!(
        host.valid(0, &["remove", "--deployment", "a"])["removed"],
        false
    );
    host.valid(0, &["images"]);
    host.valid(0, &["status"]);
}

/// Whether sets can be mounted here. Says loudly where not; in CI that fails.
fn can_mount() -> bool {
    let root =
        fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    // The kernel may have EROFS as a module that is not loaded yet.
    let loaded = || {
        fs::read_to_string("/proc/filesystems").is_ok_and(|known| {
            known
                .lines()
                .any(|line| line.split_whitespace().last() == Some("erofs"))
        })
    };
    let erofs =
        loaded() || (root && Command::new("modprobe").arg("erofs").status().is_ok() && loaded());
    if root && erofs {
        return true;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "this test needs root and EROFS in the kernel (root: {root}, EROFS: {erofs})"
    );
    eprintln!("SKIPPED, NOT TESTED: needs root ({root}) and EROFS in the kernel ({erofs})");
    false
}

#[test]
fn documents_of_a_mount() {
    if !can_mount() {
        return;
    }
    let host = Checked::new();
    let image = image(&mut Layout::new(&host.path("layout")), "v1", 2);
    let store = host.path("store");
    fs::create_dir(&store).unwrap();
    let store = store.to_str().unwrap();
    host.valid(0, &["sync", "--deployment", "a", "--image", &image]);
    let mount = ["mount", "--deployment", "a", store];
    assert_eq!(host.valid(0, &mount)["already"], false);
    assert_eq!(host.valid(0, &mount)["already"], true);
    assert_eq!(
        host.valid(0, &["status"])["deployments"][0]["mounted_at"][0],
        store
    );
    host.valid(0, &["umount", store]);
}

#[test]
fn findings_of_a_root() {
    let host = Checked::new();
    let root = host.path("image");
    let ours = root.join("usr/lib/boundstore/bound-images.d");
    fs::create_dir_all(&ours).unwrap();
    let lint = ["lint", "--root", root.to_str().unwrap()];
    let nothing = host.valid(0, &lint);
    assert_eq!(nothing["findings"], json!([]));
    fs::write(ours.join("a.toml"), "images = [\"alpine\"]\n").unwrap();
    let found = host.valid(3, &lint);
    assert_eq!(found["findings"][0]["rule"], "short-name");
    assert_eq!(found["findings"][0]["line"], 1);
    let last = found["findings"].as_array().unwrap().last().unwrap();
    assert_eq!(last["file"], Value::Null);
}

/// The schemas can say no.
#[test]
fn a_broken_document_is_refused() {
    let host = Checked::new();
    let image = image(&mut Layout::new(&host.path("layout")), "v1", 2);
    let good = host.valid(0, &["sync", "--deployment", "a", "--image", &image]);
    type Break = fn(&mut Value);
    let breaks: [Break; 6] = [
        |document| document["schema"] = json!("boundstore.sync/v2"),
        |document| document["set_image"] = json!("short"),
        |document| document["bytes_fetched"] = json!(-1),
        |document| document["images"][0]["manifest_digest"] = json!("md5:00"),
        |document| document["surprise"] = json!(1),
        |document| {
            document.as_object_mut().unwrap().remove("unchanged");
        },
    ];
    for (index, broken) in breaks.iter().enumerate() {
        let mut document = good.clone();
        broken(&mut document);
        assert!(!problems("sync", &document).is_empty(), "break {index}");
    }
    for verb in [
        "mount", "umount", "status", "images", "remove", "verify", "gc", "du", "lint",
    ] {
        assert!(
            !problems(verb, &good).is_empty(),
            "sync's document as {verb}'s"
        );
    }
}
