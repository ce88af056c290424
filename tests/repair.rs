//! `verify --repair` brings back what is bad, and nothing else.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;
#[path = "common/host.rs"]
mod host;
#[path = "common/layout.rs"]
mod layout;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use common::{
    Scratch, battery, boundstore::Boundstore, describe, fixtures, image::Image, output,
    podman::Podman, ready, registry::Registry,
};
use composefs::fsverity::{FsVerityHashValue, Sha512HashValue, compute_verity};
use host::Host;
use layout::{LayerBlob, Layout, content, tar};
use serde_json::Value;

/// Two deployments, `a` and `b`, whose images share their base layer, and a
/// layout with each image alone.
struct Damaged {
    host: Host,
    layers: [LayerBlob; 3],
}

const BASE: (u8, usize) = (1, 70_000);
const OF_A: (u8, usize) = (2, 5000);
const OF_B: (u8, usize) = (3, 5000);

impl Damaged {
    fn new() -> Self {
        let host = Host::new();
        let file = |name: &str, (seed, length)| tar(&[(name, &content(seed, length))]);
        let layers = [
            LayerBlob::gzip(&file("hello", BASE)),
            LayerBlob::plain(&file("data", OF_A)),
            LayerBlob::plain(&file("data", OF_B)),
        ];
        let [base, of_a, of_b] = &layers;
        for (name, top) in [("a", of_a), ("b", of_b)] {
            let mut layout = Layout::new(&host.path(name));
            layout.image(name, &[base.clone(), top.clone()]);
            let image = layout.arg(&format!("localhost/{name}:1"), name);
            host.ok(&["sync", "--deployment", name, "--image", &image]);
        }
        Self { host, layers }
    }

    fn object(&self, (seed, length): (u8, usize)) -> PathBuf {
        let id: Sha512HashValue = compute_verity(&content(seed, length));
        self.host.path("repo/objects").join(id.to_object_pathname())
    }

    fn set_image(&self, deployment: &str) -> PathBuf {
        let status = self.host.ok(&["status", "--deployment", deployment]);
        let id = status["deployments"][0]["set"]["set_image"].as_str();
        let (folder, name) = id.unwrap().split_at(2);
        self.host.path("repo/objects").join(folder).join(name)
    }

    fn stream(&self, kind: &str, rest: &str) -> PathBuf {
        let folder = self.host.path("repo/streams");
        let mut names = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
        names
            .find(|path| {
                path.to_string_lossy()
                    .contains(&format!("{kind}-v1-{rest}"))
            })
            .unwrap()
    }

    fn stream_object(&self, kind: &str, rest: &str) -> PathBuf {
        self.stream(kind, rest).canonicalize().unwrap()
    }

    /// A deep repair from the layouts of `names`; its document.
    #[track_caller]
    fn repair(&self, status: i32, names: &[&str]) -> Value {
        let from = names.iter().map(|name| {
            let path = self.host.path(name);
            format!("--from=oci:{}", path.display())
        });
        let from: Vec<String> = from.collect();
        let mut args = vec!["verify", "--deep", "--repair", "--retry-for", "0"];
        args.extend(from.iter().map(String::as_str));
        let output = self.host.run(&args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{stderr}");
        let document = serde_json::from_slice(&output.stdout).unwrap();
        assert_valid(&document);
        document
    }

    #[track_caller]
    fn is_clean(&self) {
        self.host.ok(&["verify", "--deep"]);
        self.host.fsck();
        assert!(self.host.partial().is_empty());
    }

    /// Each object with what tells whether it was written again.
    fn inodes(&self) -> BTreeMap<PathBuf, (u64, i64, u64)> {
        let objects = self.host.objects().into_iter();
        let of = |path: PathBuf| {
            let it = fs::symlink_metadata(&path).unwrap();
            (path, (it.ino(), it.ctime_nsec(), it.size()))
        };
        objects.map(of).collect()
    }
}

#[track_caller]
fn assert_valid(document: &Value) {
    let schema = fs::read(common::project().join("schemas/repair.v1.json")).unwrap();
    let schema: Value = serde_json::from_slice(&schema).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(document)
        .map(|it| it.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:#?}\n{document:#}");
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn cut(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(10).unwrap();
}

fn layers(repaired: &Value) -> Vec<&str> {
    let fetched = repaired["fetched"].as_array().unwrap().iter();
    fetched.filter_map(|it| it["layer"].as_str()).collect()
}

#[test]
fn what_is_good_is_not_touched() {
    let damaged = Damaged::new();
    let before = damaged.inodes();
    let repaired = damaged.repair(0, &[]);
    assert_eq!(repaired["fetched"], serde_json::json!([]));
    assert_eq!(damaged.inodes(), before);
    flip(&damaged.object(OF_B));
    let before = damaged.inodes();
    damaged.repair(0, &["b"]);
    let after = damaged.inodes();
    let changed: Vec<_> = after
        .iter()
        .filter(|it| before.get(it.0) != Some(it.1))
        .collect();
    assert_eq!(changed.len(), 1, "{changed:?}");
    assert_eq!(changed[0].0, &damaged.object(OF_B));
    assert_eq!(before.len(), after.len());
    damaged.is_clean();
}

/// Also where only the length tells, which no other check reads.
#[test]
fn one_layer_is_fetched_for_one_file() {
    let damaged = Damaged::new();
    for damage in [flip, cut, |path: &Path| fs::remove_file(path).unwrap()] {
        damage(&damaged.object(BASE));
        let repaired = damaged.repair(0, &["b"]);
        assert_eq!(layers(&repaired), [damaged.layers[0].diff_id.as_str()]);
        for deployment in repaired["deployments"].as_array().unwrap() {
            assert_eq!(deployment["repaired"][0]["used_as"][0]["path"], "/hello");
            assert_eq!(deployment["lost"], serde_json::json!([]));
        }
        assert_eq!(
            fs::read(damaged.object(BASE)).unwrap(),
            content(BASE.0, BASE.1)
        );
        damaged.is_clean();
    }
}

#[test]
fn set_images_are_rendered_without_any_source() {
    let damaged = Damaged::new();
    for damage in [flip, cut, |path: &Path| fs::remove_file(path).unwrap()] {
        let set_image = damaged.set_image("a");
        let bytes = fs::read(&set_image).unwrap();
        damage(&set_image);
        let repaired = damaged.repair(0, &[]);
        assert_eq!(repaired["rendered"], serde_json::json!(["a"]));
        assert_eq!(repaired["fetched"], serde_json::json!([]));
        assert_eq!(fs::read(&set_image).unwrap(), bytes);
        damaged.is_clean();
    }
}

#[test]
fn streams_come_back_from_what_they_stand_for() {
    let damaged = Damaged::new();
    let base = damaged.layers[0].diff_id.clone();
    for damage in [flip, cut, |path: &Path| fs::remove_file(path).unwrap()] {
        damage(&damaged.stream_object("layer", &base));
        let repaired = damaged.repair(0, &["a"]);
        assert_eq!(layers(&repaired), [base.as_str()]);
        damaged.is_clean();
        // Whose manifest and config it is, only they tell: both are named.
        damage(&damaged.stream_object("image", ""));
        let repaired = damaged.repair(0, &["a", "b"]);
        assert!(layers(&repaired).is_empty(), "{repaired:#}");
        assert_eq!(repaired["fetched"].as_array().unwrap().len(), 1);
        damaged.is_clean();
    }
    fs::remove_file(damaged.stream("layer", &base)).unwrap();
    fs::remove_file(damaged.stream("image", "")).unwrap();
    damaged.repair(0, &["a", "b"]);
    damaged.is_clean();
}

#[test]
fn a_damaged_pin_is_written_again() {
    let damaged = Damaged::new();
    for damage in [flip, cut, |path: &Path| fs::remove_file(path).unwrap()] {
        damage(&damaged.stream_object("set", ""));
        let repaired = damaged.repair(0, &[]);
        assert_eq!(repaired["fetched"], serde_json::json!([]), "{repaired:#}");
        damaged.is_clean();
    }
}

#[test]
fn several_at_once() {
    let damaged = Damaged::new();
    for path in [BASE, OF_A, OF_B].map(|file| damaged.object(file)) {
        flip(&path);
    }
    flip(&damaged.set_image("a"));
    cut(&damaged.stream_object("image", ""));
    cut(&damaged.stream_object("layer", &damaged.layers[1].diff_id));
    let repaired = damaged.repair(0, &["a", "b"]);
    let mut expected: Vec<&str> = damaged
        .layers
        .iter()
        .map(|it| it.diff_id.as_str())
        .collect();
    expected.sort_unstable();
    assert_eq!(layers(&repaired), expected);
    damaged.is_clean();
}

#[test]
fn with_the_source_gone_the_rest_is_repaired() {
    let damaged = Damaged::new();
    flip(&damaged.object(OF_A));
    flip(&damaged.object(OF_B));
    flip(&damaged.set_image("a"));
    let repaired = damaged.repair(3, &["b"]);
    let [a, b] = [0, 1].map(|index| &repaired["deployments"][index]);
    assert_eq!(b["lost"], serde_json::json!([]));
    assert_eq!(b["repaired"].as_array().unwrap().len(), 1);
    let lost = a["lost"].as_array().unwrap();
    assert_eq!(lost.len(), 1, "{repaired:#}");
    assert_eq!(lost[0]["used_as"][0]["path"], "/data");
    assert_eq!(lost[0]["used_as"][0]["image"], "localhost/a:1");
    let why = repaired["unmended"].as_array().unwrap();
    assert_eq!(why.len(), 1, "{repaired:#}");
    assert!(why[0]["error"].as_str().unwrap().contains("localhost/a"));
    // Nor is the damaged file worse off than before.
    damaged.host.fails(&["verify", "--deep"], 3, &[]);
    damaged.repair(0, &["a"]);
    damaged.is_clean();
}

/// The manifest is right, the layer's bytes are others.
#[test]
fn a_source_that_lies_is_refused() {
    let damaged = Damaged::new();
    let top = &damaged.layers[2];
    let blob = damaged.host.path("b/blobs/sha256");
    let blob = blob.join(top.diff_id.strip_prefix("sha256:").unwrap());
    let honest = fs::read(&blob).unwrap();
    flip(&damaged.object(OF_B));
    let bytes = fs::read(damaged.object(OF_B)).unwrap();
    let mut lie = honest.clone();
    lie[1000] ^= 1;
    fs::write(&blob, lie).unwrap();
    let repaired = damaged.repair(3, &["b"]);
    let why = repaired["unmended"][0]["error"].as_str().unwrap();
    assert!(why.contains("the source is damaged or lies"), "{why}");
    assert_eq!(fs::read(damaged.object(OF_B)).unwrap(), bytes);
    assert!(damaged.host.partial().is_empty());
    fs::write(&blob, honest).unwrap();
    damaged.repair(0, &["b"]);
    damaged.is_clean();
}

#[test]
fn a_source_without_repair_is_wrong_usage() {
    let host = Host::new();
    host.fails(&["verify", "--from", "oci:x"], 2, &["--repair"]);
}

/// Where the byte is, which image has it, and that a mount that showed it and
/// a container that read it are dealt with; from a real registry.
#[test]
fn one_byte_of_twenty_mounted_images() {
    if !ready(battery::TOOLS) {
        return;
    }
    const FILE: &str = "app/payload";
    let scratch = Scratch::new();
    let registry = Registry::start(&scratch);
    let boundstore = Boundstore::new(&scratch, "repo");
    let app = Image::read(&fixtures().join("app"), "v1");
    registry.put(&app, "app:1");
    let mut layout = Layout::new(&scratch.join("layout"));
    for number in 1..20 {
        let layer = LayerBlob::gzip(&tar(&[("data", &content(number, 5000))]));
        let tag = format!("n{number}");
        layout.image(&tag, &[layer]);
        registry.put(&Image::read(&layout.path, &tag), &format!("{tag}:1"));
    }
    let address = &registry.address;
    let mut names: Vec<String> = (1..20)
        .map(|number| format!("{address}/n{number}:1"))
        .collect();
    let name = format!("{address}/app:1");
    names.push(name.clone());
    boundstore.ok(&format!(
        "{} --no-tls-verify",
        boundstore.sync_args("d", &names)
    ));
    let store = scratch.join("store");
    boundstore.mount("d", &store);
    let podman = Podman::new(scratch.join("podman"), Some(&store));
    let mut container = podman.start("--name reader", &name, "echo ready; cat >/dev/null");
    let layers = fs::read_dir(store.join("overlay")).unwrap();
    let mut files = layers.map(|layer| layer.unwrap().path().join("diff").join(FILE));
    let shown = files.find(|path| path.exists()).unwrap();
    let bytes = fs::read(&shown).unwrap();

    let id: Sha512HashValue = compute_verity(&bytes);
    flip(
        &boundstore
            .repo()
            .join("objects")
            .join(id.to_object_pathname()),
    );
    assert_ne!(fs::read(&shown).unwrap(), bytes);
    let (found, _) = boundstore.exits(3, "verify --deep");
    assert!(found.contains("deployment d: 1 problem"), "{found}");
    assert!(
        found.contains(&format!("it is /{FILE} of {name}")),
        "{found}"
    );

    let mark = registry.mark();
    let (policy, spool) = (scratch.join("policy.json"), scratch.join("spool"));
    fs::write(
        &policy,
        r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
    )
    .unwrap();
    let mut repair = boundstore.command(&format!(
        "--json verify --deep --repair --no-tls-verify --policy {} --spool {}",
        policy.display(),
        spool.display()
    ));
    let conf = podman.root().with_file_name("storage.conf");
    let output = output(repair.env("CONTAINERS_STORAGE_CONF", conf));
    let said = describe(&repair, &output);
    assert!(output.status.success(), "{said}");
    let repaired: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_valid(&repaired);
    assert_eq!(repaired["restart"][0]["names"][0], "reader", "{said}");
    assert_eq!(repaired["exchanged"][0]["target"], store.to_str().unwrap());
    let blobs = registry.fetched_since(mark);
    let layers: Vec<_> = blobs
        .iter()
        .filter(|blob| app.blobs().contains(blob))
        .collect();
    assert_eq!(layers.len(), 1, "{blobs:?}");
    let config = format!("sha256:{}", app.id());
    let others = blobs
        .iter()
        .filter(|blob| !layers.contains(blob) && **blob != config);
    assert_eq!(others.count(), 0, "{blobs:?}");

    assert_eq!(fs::read(&shown).unwrap(), bytes);
    boundstore.ok("verify --deep");
    let run = podman.runtime(&format!("run --rm {name} cat /{FILE}"));
    assert_eq!(run.stdout, bytes);
    let (succeeded, said) = container.end();
    assert!(succeeded, "{said}");
    boundstore.umount(&store);
}
