//! `verify --repair`: what is bad is brought again, and nothing else.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;
#[path = "common/host.rs"]
mod host;
#[path = "common/layout.rs"]
mod layout;

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use common::{Scratch, image::Image, podman::Podman, ready, registry::Registry};
use host::Host;
use layout::{LayerBlob, Layout, content, tar};
use serde_json::{Value, json};

const IMAGES: u8 = 20;

/// A host with a set of 20 images that share their base, and where they are from.
struct Case {
    host: Host,
    layout: Layout,
    scratch: Scratch,
    registry: Option<Registry>,
}

/// The file that only image `number` has.
fn own(number: u8) -> Vec<u8> {
    content(100 + number, 70_000)
}

impl Case {
    /// From a registry, or the layout itself.
    fn new(remote: bool) -> Self {
        let host = Host::new();
        let mut layout = Layout::new(&host.path("layout"));
        let base = LayerBlob::gzip(&tar(&[("etc/", b""), ("etc/base", &content(1, 70_000))]));
        for number in 0..IMAGES {
            let top = tar(&[("data", &own(number)), ("more", &content(number, 5000))]);
            let name = format!("app-{number}");
            layout.image(&name, &[base.clone(), LayerBlob::gzip(&top)]);
        }
        let scratch = Scratch::new();
        let registry = remote.then(|| {
            let registry = Registry::start(&scratch);
            for number in 0..IMAGES {
                let name = format!("app-{number}");
                registry.put(&Image::read(&layout.path, &name), &format!("{name}:1"));
            }
            registry
        });
        let accept = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
        fs::write(host.path("policy.json"), accept).unwrap();
        let case = Self {
            host,
            layout,
            scratch,
            registry,
        };
        let images: Vec<String> = (0..IMAGES).map(|number| case.image(number)).collect();
        let mut sync = case.sources(&["sync", "--deployment", "d"]);
        for image in &images {
            sync.args(["--image", image]);
        }
        let output = sync.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        case
    }

    fn name(&self, number: u8) -> String {
        match &self.registry {
            Some(registry) => format!("{}/app-{number}:1", registry.address),
            None => format!("localhost/app-{number}:1"),
        }
    }

    fn image(&self, number: u8) -> String {
        match &self.registry {
            Some(_) => self.name(number),
            None => self
                .layout
                .arg(&self.name(number), &format!("app-{number}")),
        }
    }

    /// A call that says where images come from.
    fn sources(&self, args: &[&str]) -> Command {
        let mut command = self.host.command(args);
        let root = self.host.dir.path();
        command.args(["--no-tls-verify", "--retry-for", "0", "--policy"]);
        command.arg(root.join("policy.json"));
        command.arg("--spool").arg(root.join("spool"));
        command
    }

    #[track_caller]
    fn verify(&self, code: i32, args: &[&str]) -> Value {
        let mut command = self.sources(&["verify"]);
        let output = command.args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let schema = include_str!("../schemas/verify.v1.json");
        let schema = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
        let errors: Vec<String> = schema
            .iter_errors(&document)
            .map(|e| e.to_string())
            .collect();
        assert!(errors.is_empty(), "{document:#}: {errors:?}");
        document
    }

    /// The only object that has these bytes.
    fn object(&self, bytes: &[u8]) -> PathBuf {
        let objects = self.host.objects();
        let mut found = objects
            .iter()
            .filter(|path| fs::read(path).unwrap() == bytes);
        found.next().unwrap().clone()
    }

    fn set_image(&self) -> PathBuf {
        let status = self.host.ok(&["status"]);
        let id = status["deployments"][0]["set"]["set_image"]
            .as_str()
            .unwrap();
        self.host
            .path(&format!("repo/objects/{}/{}", &id[..2], &id[2..]))
    }

    /// All files and links below the repository, and what they have.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut folders = vec![self.host.path("repo")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_symlink() {
                    let target = fs::read_link(&path).unwrap();
                    found.push((path, target.into_os_string().into_encoded_bytes()));
                } else if path.is_dir() {
                    folders.push(path);
                } else {
                    let bytes = fs::read(&path).unwrap();
                    found.push((path, bytes));
                }
            }
        }
        found.sort();
        found
    }
}

fn flip(object: &Path, at: u64) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(object)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

fn problems(document: &Value) -> &Vec<Value> {
    document["deployments"][0]["problems"].as_array().unwrap()
}

#[test]
fn one_flipped_byte_costs_one_layer() {
    if !ready(&["skopeo", "docker-registry"]) {
        return;
    }
    let case = Case::new(true);
    let registry = case.registry.as_ref().unwrap();
    let whole = case.files();
    flip(&case.object(&own(7)), 12_345);
    // Without fs-verity only reading tells.
    case.verify(0, &[]);
    let found = case.verify(3, &["--deep"]);
    let [problem] = &problems(&found)[..] else {
        panic!("{found:#}");
    };
    assert_eq!(found["deployments"][0]["id"], "d");
    let used = &problem["used_as"][0];
    let is = (&used["kind"], &used["image"], &used["path"]);
    assert_eq!(is, (&json!("file"), &json!(case.name(7)), &json!("/data")));

    let mark = registry.mark();
    let mended = case.verify(0, &["--deep", "--repair"]);
    assert!(problems(&mended).is_empty());
    let repair = &mended["repair"];
    assert_eq!(
        repair["layers"],
        json!([{ "image": case.name(7), "layer": used["layer"] }])
    );
    assert_eq!(repair["lost"], json!([]));
    let layers: Vec<String> = registry.fetched_since(mark);
    let of_config = |digest: &String| {
        let bytes = fs::read(case.layout.blob_path(digest)).unwrap();
        serde_json::from_slice::<Value>(&bytes).is_ok()
    };
    let (documents, blobs): (Vec<_>, Vec<_>) = layers.into_iter().partition(of_config);
    assert_eq!(blobs.len(), 1, "{blobs:?} besides {documents:?}");
    assert_eq!(case.files(), whole, "all as it was");
    // There is nothing to repair any more.
    let nothing = case.verify(0, &["--deep", "--repair"]);
    assert_eq!(nothing.get("repair"), None);
}

#[test]
fn all_that_can_break_is_mended() {
    let case = Case::new(false);
    let whole = case.files();
    let from = format!("oci:{}", case.layout.path.display());
    let repo = case.host.path("repo");
    let stream = |prefix: &str, at: usize| {
        let names = fs::read_dir(repo.join("streams")).unwrap();
        let mut names: Vec<PathBuf> = names.map(|name| name.unwrap().path()).collect();
        names.retain(|name| {
            name.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(prefix)
        });
        names.sort();
        names[at].clone()
    };
    type Damage<'d> = (&'d str, usize, Box<dyn Fn() + 'd>);
    let damage: Vec<Damage<'_>> = vec![
        (
            "a file's object is gone",
            1,
            Box::new(|| fs::remove_file(case.object(&own(1))).unwrap()),
        ),
        (
            "it is cut short",
            1,
            Box::new(|| {
                let file = fs::File::options()
                    .write(true)
                    .open(case.object(&own(2)))
                    .unwrap();
                file.set_len(10).unwrap();
            }),
        ),
        (
            "what all images share is bad",
            1,
            Box::new(|| flip(&case.object(&content(1, 70_000)), 0)),
        ),
        (
            "a layer's stream is unlinked",
            1,
            Box::new(|| {
                fs::remove_file(stream("boundstore-layer-", 3)).unwrap();
            }),
        ),
        (
            "a layer's stream is bad",
            1,
            Box::new(|| {
                flip(
                    &fs::canonicalize(stream("boundstore-layer-", 4)).unwrap(),
                    90,
                );
            }),
        ),
        (
            "a manifest is bad",
            0,
            Box::new(|| {
                flip(
                    &fs::canonicalize(stream("boundstore-image-", 5)).unwrap(),
                    90,
                );
            }),
        ),
        (
            "the set image is bad",
            0,
            Box::new(|| flip(&case.set_image(), 4096)),
        ),
        (
            "the set image is gone",
            0,
            Box::new(|| fs::remove_file(case.set_image()).unwrap()),
        ),
    ];
    for (what, layers, break_it) in &damage {
        break_it();
        let found = case.verify(3, &["--deep"]);
        assert!(!problems(&found).is_empty(), "{what}");
        let mended = case.verify(0, &["--deep", "--repair", "--from", &from]);
        assert_eq!(
            mended["repair"]["layers"].as_array().unwrap().len(),
            *layers,
            "{what}"
        );
        assert_eq!(case.files(), whole, "{what}");
    }
    for (_, _, break_it) in &damage[..7] {
        break_it();
    }
    case.verify(0, &["--deep", "--repair", "--from", &from]);
    assert_eq!(case.files(), whole, "all at once");
}

#[test]
fn what_is_lost_is_said_and_nothing_else_breaks() {
    let case = Case::new(false);
    let whole = case.files();
    let (one, two) = (case.object(&own(1)), case.object(&own(2)));
    flip(&one, 5);
    flip(&two, 5);
    let broken = fs::read(&one).unwrap();
    // One image is somewhere else; what has the other's name is another.
    let mut elsewhere = Layout::new(&case.host.path("elsewhere"));
    let base = LayerBlob::gzip(&tar(&[("etc/", b""), ("etc/base", &content(1, 70_000))]));
    let top = tar(&[("data", &own(2)), ("more", &content(2, 5000))]);
    elsewhere.image("localhost/app-2:1", &[base.clone(), LayerBlob::gzip(&top)]);
    let other = tar(&[("data", &own(99)), ("more", &content(1, 5000))]);
    elsewhere.image("localhost/app-1:1", &[base, LayerBlob::gzip(&other)]);
    let from = format!("oci:{}", elsewhere.path.display());
    let left = case.verify(3, &["--deep", "--repair", "--from", &from]);
    let [problem] = &problems(&left)[..] else {
        panic!("{left:#}");
    };
    assert_eq!(problem["used_as"][0]["image"], case.name(1));
    let lost = left["repair"]["lost"].as_array().unwrap();
    let [lost] = &lost[..] else {
        panic!("{lost:#?}");
    };
    assert_eq!(
        (&lost["deployment"], &lost["image"]),
        (&json!("d"), &json!(case.name(1)))
    );
    assert!(!lost["reason"].as_str().unwrap().is_empty());
    // The bad object is still the one that was there: most of it may be right.
    let now = case.files();
    let differ: Vec<_> = now.iter().filter(|file| !whole.contains(file)).collect();
    assert_eq!(differ, [&(one, broken)]);
    // It comes back another day.
    let from = format!("oci:{}", case.layout.path.display());
    case.verify(0, &["--deep", "--repair", "--from", &from]);
    assert_eq!(case.files(), whole);
}

#[test]
fn a_set_whose_record_is_gone_can_be_synced_again() {
    let case = Case::new(false);
    let pin = fs::read_dir(case.host.path("repo/streams")).unwrap();
    let pin = pin.map(|name| name.unwrap().path());
    let mut pin = pin.filter(|path| path.to_string_lossy().contains("boundstore-set-"));
    flip(&fs::canonicalize(pin.next().unwrap()).unwrap(), 90);
    let left = case.verify(3, &["--deep", "--repair"]);
    let lost = &left["repair"]["lost"][0];
    assert_eq!(lost["deployment"], "d");
    let said = lost["reason"].as_str().unwrap();
    assert!(said.contains("sync --deployment d"), "{said}");
}

#[test]
fn a_mounted_set_serves_the_right_byte_again() {
    if !ready(&["podman", "crun", "mount"]) {
        return;
    }
    let case = Case::new(false);
    let store = case.scratch.dir("store");
    let mount = || {
        case.host
            .ok(&["mount", "--deployment", "d", store.to_str().unwrap()])
    };
    mount();
    let file = || {
        let trees = fs::read_dir(store.join("overlay")).unwrap();
        let files = trees.map(|tree| tree.unwrap().path().join("diff/data"));
        let mut bytes = files.filter_map(|path| fs::read(path).ok());
        bytes.any(|bytes| bytes == own(3))
    };
    assert!(file());
    let podman = Podman::new(case.scratch.join("podman"), Some(&store));
    for number in [3, 4] {
        let image = case.name(number);
        podman.ok(&format!("create --name of-{number} {image} /none"));
    }
    flip(&case.object(&own(3)), 100);
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    assert!(!file());
    let from = format!("oci:{}", case.layout.path.display());
    let mut command = case.sources(&["verify", "--deep", "--repair", "--from", &from]);
    let conf = podman.tool("true");
    let conf = conf
        .get_envs()
        .find(|(name, _)| *name == "CONTAINERS_STORAGE_CONF");
    let output = command
        .env("CONTAINERS_STORAGE_CONF", conf.unwrap().1.unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["repair"]["mounted_anew"], json!([store]));
    assert_eq!(document["repair"]["restart"], json!(["of-3"]));
    assert!(file());
    podman.ok("rm of-3 of-4");
    case.host.ok(&["umount", store.to_str().unwrap()]);
}
