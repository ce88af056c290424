//! `boundstore lock`: what a host image is locked to where it is built, and
//! what a host then makes of it.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "common/bootable.rs"]
mod bootable;
mod common;
#[path = "common/layout.rs"]
mod layout;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use bootable::{Backend, Bootable, assert_valid};
use boundstore::{
    name::{Algorithm, ObjectId, SetFormat},
    repo::{NewRepo, Repo, fs_verity_digest, read_back, render},
    store_tree::is_rootfs,
};
use common::{Scratch, boundstore::Boundstore, image::Image, ready, registry::Registry};
use layout::{LayerBlob, Layout, content, tar};
use serde_json::{Value, json};

const LOCK: &str = "usr/lib/boundstore/bound-images.lock.json";

/// A host image's root that binds two images, and where those are.
struct Build {
    scratch: Scratch,
    layout: Layout,
    registry: Registry,
}

impl Build {
    fn new() -> Option<Self> {
        if !ready(&["skopeo", "docker-registry"]) {
            return None;
        }
        let scratch = Scratch::new();
        let mut layout = Layout::new(&scratch.join("layout"));
        let registry = Registry::start(&scratch);
        let base = || LayerBlob::gzip(&tar(&[("base", &content(1, 9000))]));
        let top = |seed| LayerBlob::gzip(&tar(&[("top", &content(seed, 9000))]));
        layout.image("app", &[base(), top(2)]);
        layout.image("web", &[base(), top(3)]);
        let build = Self {
            scratch,
            layout,
            registry,
        };
        for name in ["app", "web"] {
            build.put(name, name);
            build.bind(name);
        }
        Some(build)
    }

    /// Pushes an image of the layout as `name:1`.
    fn put(&self, tag: &str, name: &str) {
        let image = Image::read(&self.layout.path, tag);
        self.registry.put(&image, &format!("{name}:1"));
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}:1", self.registry.address)
    }

    fn root(&self) -> PathBuf {
        self.scratch.join("root")
    }

    fn bind(&self, name: &str) {
        let units = self.scratch.dir("root/usr/share/containers/systemd");
        let bound = self.scratch.dir("root/usr/lib/bootc/bound-images.d");
        let file = format!("{name}.image");
        let unit = format!("[Image]\nImage={}\n", self.name(name));
        fs::write(units.join(&file), unit).unwrap();
        let target = format!("/usr/share/containers/systemd/{file}");
        symlink(target, bound.join(file)).unwrap();
    }

    fn host(&self, name: &str) -> Boundstore {
        Boundstore::new(&self.scratch, name)
    }

    /// `verb` for the root, its arguments split at blanks.
    fn args(&self, verb: &str) -> String {
        let at = |name: &str| self.scratch.join(name).display().to_string();
        let (root, policy, spool) = (at("root"), at("build-host/policy.json"), at("spool"));
        format!(
            "{verb} --root {root} --no-tls-verify --retry-for 0 --policy {policy} --spool {spool}"
        )
    }

    fn lock(&self, host: &Boundstore) -> Value {
        let result = host.json(&self.args("lock"));
        assert_valid("lock", &result);
        let file: Value =
            serde_json::from_slice(&fs::read(self.root().join(LOCK)).unwrap()).unwrap();
        assert_valid("lock-file", &file);
        assert_eq!(file["images"], result["images"]);
        file
    }

    /// A layout that holds `image` under the bound name of `name`.
    fn layout_of(&self, folder: &str, images: &[(&str, &[LayerBlob])]) -> String {
        let mut layout = Layout::new(&self.scratch.join(folder));
        for (name, layers) in images {
            layout.image(&self.name(name), layers);
        }
        format!("oci:{}", layout.path.display())
    }
}

fn set_image(file: &Value, algorithm: &str) -> String {
    file["set_image"][algorithm].as_str().unwrap().to_owned()
}

#[test]
fn a_sync_elsewhere_gives_the_locked_set_image() {
    let Some(build) = Build::new() else { return };
    let host = build.host("build");
    let file = build.lock(&host);
    let bytes = fs::read(build.root().join(LOCK)).unwrap();
    assert!(!host.repo().exists(), "a lock needs no repository");
    assert_eq!(
        fs::read_dir(build.scratch.join("spool")).unwrap().count(),
        0
    );
    // Again, from a layout, in another order: the same bytes.
    let from = format!("oci:{}", build.layout.path.display());
    let again = host.json(&build.args(&format!("lock --from {from}")));
    assert_eq!(again["unchanged"], true);
    assert_eq!(fs::read(build.root().join(LOCK)).unwrap(), bytes);
    // In repositories of both algorithms, over the network and without it.
    for (algorithm, name, from) in [
        (Algorithm::Sha512, "sha512", String::new()),
        (Algorithm::Sha256, "sha256", format!(" --from {from}")),
    ] {
        let host = build.host(name);
        let new = NewRepo {
            algorithm,
            insecure: true,
        };
        Repo::create(host.repo(), new, Repo::LOCK_LIMIT).unwrap();
        let sync = build.args(&format!("sync --locked --deployment d{from}"));
        let synced = host.json(&sync);
        assert_eq!(synced["set_image"], set_image(&file, name), "{name}");
        assert_eq!(host.json(&sync)["unchanged"], true);
        host.ok("verify --deep");
    }
}

/// Host images that were built by an older boundstore keep their set images.
#[test]
fn a_lock_of_an_older_format_is_rendered_in_it() {
    let Some(build) = Build::new() else { return };
    let host = build.host("build");
    let file = build.lock(&host);
    let sync = build.args("sync --locked --deployment d");
    let newest = host.json(&sync);
    let path = |id: &str| {
        let id: ObjectId = id.parse().unwrap();
        host.repo().join("objects").join(id.object_path())
    };
    let bytes = fs::read(path(newest["set_image"].as_str().unwrap())).unwrap();
    let tree = read_back(Algorithm::Sha512, bytes.clone(), is_rootfs).unwrap();
    let old = render(Algorithm::Sha512, &tree, SetFormat::V1, is_rootfs).unwrap();
    assert_ne!(*old, *bytes, "two images share a base");
    let old = fs_verity_digest(Algorithm::Sha512, &old).to_string();
    let text = fs::read_to_string(build.root().join(LOCK)).unwrap();
    let text = text
        .replace("\"format\": 2", "\"format\": 1")
        .replace(&set_image(&file, "sha512"), &old);
    fs::write(build.root().join(LOCK), text).unwrap();

    let synced = host.json(&sync);
    assert_eq!(synced["set_image"], old);
    assert_eq!(synced["unchanged"], false);
    assert_eq!(host.json(&sync)["unchanged"], true);
    assert_eq!(host.json("status")["deployments"][0]["set"]["format"], 1);
    host.ok("verify --deep");
    fs::remove_file(path(&old)).unwrap();
    host.exits(3, "verify");
    let repaired = host.json("verify --repair");
    assert_eq!(repaired["rendered"], json!(["d"]));
    host.ok("verify --deep");
}

#[test]
fn a_tag_that_moved_changes_nothing_on_the_host() {
    let Some(mut build) = Build::new() else {
        return;
    };
    let host = build.host("build");
    let file = build.lock(&host);
    host.ok(&build.args("lock --check"));
    let other = LayerBlob::gzip(&tar(&[("top", &content(9, 9000))]));
    build.layout.image("moved", &[other]);
    build.put("moved", "app");
    let (said, _) = host.exits(3, &build.args("--json lock --check"));
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_valid("lock-check", &said);
    let [difference] = &said["differences"].as_array().unwrap()[..] else {
        panic!("{said}");
    };
    assert_eq!(difference["difference"], "changed");
    assert_eq!(difference["name"], build.name("app"));
    let synced = host.json(&build.args("sync --deployment d"));
    assert_eq!(synced["set_image"], set_image(&file, "sha512"));
    // Locked anew, the host follows.
    assert_ne!(build.lock(&host), file);
    host.ok(&build.args("lock --check"));
    let synced = host.json(&build.args("sync --deployment d"));
    assert_ne!(synced["set_image"], set_image(&file, "sha512"));
}

/// One byte of a layer, of a config, of the set image.
#[test]
fn what_is_not_locked_is_refused_by_name() {
    let Some(build) = Build::new() else { return };
    let host = build.host("build");
    let file = build.lock(&host);
    let base = || LayerBlob::gzip(&tar(&[("base", &content(1, 9000))]));
    let mut bytes = content(3, 9000);
    bytes[4567] ^= 1;
    let other = LayerBlob::gzip(&tar(&[("top", &bytes)]));
    let (name, from) = (
        build.name("web"),
        build.layout_of("other", &[("web", &[base(), other])]),
    );
    let sync = build.args(&format!("sync --deployment d --image {name}={from}"));
    let (_, said) = host.exits(5, &sync);
    let locked = file["images"][1]["manifest"]["digest"].as_str().unwrap();
    for words in [&*build.name("web"), "the lock", locked] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(host.json("images")["images"].as_array().unwrap().len(), 0);
    // A lock of another set image.
    let text = fs::read_to_string(build.root().join(LOCK)).unwrap();
    let digest = set_image(&file, "sha512");
    let wrong = format!("{}{}", &digest[2..], &digest[..2]);
    fs::write(build.root().join(LOCK), text.replace(&digest, &wrong)).unwrap();
    let (_, said) = host.exits(5, &build.args("sync --deployment d"));
    for words in [&*digest, &wrong, "nothing was published"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(host.json("images")["images"].as_array().unwrap().len(), 0);
    fs::write(build.root().join(LOCK), text).unwrap();
    host.ok(&build.args("sync --deployment d"));
}

#[test]
fn names_that_drift_from_the_lock_are_refused() {
    let Some(build) = Build::new() else { return };
    let host = build.host("build");
    let (_, said) = host.exits(5, &build.args("sync --locked --deployment d"));
    assert!(said.contains("boundstore lock"), "{said}");
    let (_, said) = host.exits(3, &build.args("lock --check"));
    assert!(said.contains("boundstore lock"), "{said}");
    build.lock(&host);
    build.put("app", "third");
    build.bind("third");
    let unit = build.root().join("usr/lib/bootc/bound-images.d/web.image");
    fs::remove_file(unit).unwrap();
    let drift = [
        format!("+ {} is bound and not locked", build.name("third")),
        format!("- {} is locked and not bound", build.name("web")),
    ];
    let (_, said) = host.exits(5, &build.args("sync --deployment d"));
    let (told, _) = host.exits(3, &build.args("lock --check"));
    for line in drift {
        assert!(
            said.contains(&line) && told.contains(&line),
            "{said} {told}"
        );
    }
    // Nor can an option bind more than is locked.
    build.lock(&host);
    let (_, said) = host.exits(
        5,
        &build.args(&format!(
            "sync --deployment d --image {}",
            build.name("web")
        )),
    );
    assert!(said.contains("is bound and not locked"), "{said}");
    let (_, said) = host.exits(
        2,
        &build.args("sync --deployment d --keep-layers referenced"),
    );
    assert!(said.contains("lock file"), "{said}");
}

/// A lock file in a root is as hostile as the root.
#[test]
fn a_bad_lock_file_is_told_and_stops_a_sync() {
    let Some(build) = Build::new() else { return };
    let host = build.host("build");
    build.lock(&host);
    let path = build.root().join(LOCK);
    let good = fs::read_to_string(&path).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let newer = good
        .replace(version, "7.0.0")
        .replace("\"format\": 2", "\"format\": 3");
    for (text, words) in [
        ("{}", vec!["is no lock file", "boundstore lock"]),
        (&newer, vec!["boundstore 7.0.0", version, "formats up to 2"]),
    ] {
        fs::write(&path, text).unwrap();
        let (_, said) = host.exits(1, &build.args("sync --deployment d"));
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
    fs::remove_file(&path).unwrap();
    let outside = build.scratch.join("outside");
    fs::write(&outside, &good).unwrap();
    symlink(&outside, &path).unwrap();
    // The link is to nowhere inside the root.
    host.exits(5, &build.args("sync --locked --deployment d"));
    fs::remove_file(&path).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(fifo.unwrap().success());
    let (_, said) = host.exits(1, &build.args("sync --deployment d"));
    assert!(said.contains("a fifo"), "{said}");
}

/// The root of a deployment of the host, where a mount finds its lock.
#[test]
fn a_set_that_is_not_the_locked_one_is_not_mounted() {
    let Some(build) = Build::new() else { return };
    let build_host = build.host("build");
    let file = build.lock(&build_host);
    let mut host = Bootable::new(Backend::Ostree);
    let id = host.deploy("v1", &[&build.name("app"), &build.name("web")]);
    host.boot(&id);
    let of = |id: &str| {
        let folder = id.strip_prefix("os-").unwrap();
        format!("sysroot/ostree/deploy/os/deploy/{folder}/{LOCK}")
    };
    let bytes = fs::read_to_string(build.root().join(LOCK)).unwrap();
    host.write(&of(&id), &bytes);
    let spool = host.path("spool").display().to_string();
    let (synced, _) = host.exits(
        0,
        &format!("sync --deployment booted --no-tls-verify --spool {spool}"),
    );
    let digest = set_image(&file, "sha512");
    assert_eq!(synced["set_image"], digest);
    let store = host.scratch.dir("store");
    let mount = format!("mount --deployment booted {}", store.display());
    host.exits(0, &mount);
    assert!(is_set(&store));
    host.exits(0, &format!("umount {}", store.display()));
    // The deployment's own root says otherwise.
    let wrong = format!("{}{}", &digest[2..], &digest[..2]);
    host.write(&of(&id), bytes.replace(&digest, &wrong));
    let (_, said) = host.exits(5, &mount);
    for words in [&*wrong, &digest, "lock file", "an empty store stands in"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!is_set(&store));
    host.exits(0, &format!("umount {}", store.display()));
    host.write(&of(&id), "{}");
    let (_, said) = host.exits(1, &mount);
    assert!(said.contains("is no lock file"), "{said}");
    host.exits(0, &format!("umount {}", store.display()));
    // A staged deployment of such a lock is incomplete: it does not become the
    // next boot.
    let next = host.deploy("v2", &[&build.name("app"), &build.name("web")]);
    host.write(&of(&next), &bytes);
    host.stage(&next, false);
    host.exits(
        0,
        &format!("sync --deployment staged --no-tls-verify --spool {spool}"),
    );
    host.exits(0, "guard veto");
    host.write(&of(&next), bytes.replace(&digest, &wrong));
    let (veto, _) = host.exits(3, "guard veto");
    assert!(veto.to_string().contains(&wrong), "{veto}");
    assert!(host.is_locked());
}

fn is_set(store: &Path) -> bool {
    store.join("overlay-images/images.json").exists()
}
