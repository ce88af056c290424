//! The main job with the built binary: from an image, wherever it is kept, to
//! a store that podman cannot tell from its own.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;
#[path = "common/layout.rs"]
mod layout;

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use common::{
    Scratch,
    battery::{self, Subject},
    boundstore::Boundstore,
    describe, fixtures,
    image::{Image, json_file},
    mounts_below,
    ordinary_user::OrdinaryUser,
    output,
    podman::Podman,
    ready,
    registry::Registry,
    stores, text,
};
use layout::{LayerBlob, Layout};

const V1: &str = "localhost/app:v1";
const V2: &str = "localhost/app:v2";

/// No layer of the image has an entry for the root that podman heeds.
fn made_up() -> Value {
    json!([["."]])
}

fn app(version: &str) -> Image {
    Image::read(&fixtures().join("app"), version)
}

/// `NAME=SOURCE`, as `--image` takes it.
fn bound(name: &str, source: impl std::fmt::Display) -> String {
    format!("{name}={source}")
}

fn skopeo(args: &[&str]) {
    text(Command::new("skopeo").args(["copy", "--quiet"]).args(args));
}

/// Syncs v1 from `source` into a repository of its own, and holds every layer
/// prefix against podman's. The set image's digest.
fn sync_and_compare(scratch: &Scratch, reference: &Path, source: &str, options: &str) -> String {
    let kind = source.split(':').next().unwrap();
    let boundstore = Boundstore::new(scratch, &format!("repo-{kind}"));
    let args = boundstore.sync_args("a", &[bound(V1, source)]);
    let synced = boundstore.json(&format!("{args} {options}"));
    assert_eq!(synced["unchanged"], false, "{synced}");
    assert_eq!(synced["layers_imported"], 4, "{synced}");
    let store = scratch.join(format!("store-{kind}"));
    boundstore.mount("a", &store);
    stores::assert_prefixes_equal(reference, &store, &made_up());
    boundstore.umount(&store);
    println!("{source}: equal to podman's");
    synced["set_image"].as_str().unwrap().to_owned()
}

#[test]
fn every_source_gives_podmans_trees() {
    if !ready(battery::TOOLS) {
        return;
    }
    let scratch = Scratch::new();
    let v1 = app("v1");
    let layout = v1.source();
    let reference = stores::reference(scratch.join("reference"), &[(V1, &v1)]);
    let check = |source: &str, options| sync_and_compare(&scratch, &reference, source, options);

    let of_layout = check(&layout, "");

    let archive = format!("oci-archive:{}:v1", scratch.join("oci.tar").display());
    skopeo(&["--preserve-digests", &layout, &archive]);
    assert_eq!(check(&archive, ""), of_layout, "{archive}");

    let registry = Registry::start(&scratch);
    registry.put(&v1, "app:v1");
    let remote = format!("docker://{}/app:v1", registry.address);
    assert_eq!(check(&remote, "--no-tls-verify"), of_layout, "{remote}");

    // These two cannot have the blobs: the trees are the same all the same.
    let archive = format!("docker-archive:{}", scratch.join("docker.tar").display());
    skopeo(&[&layout, &format!("{archive}:{V1}")]);
    check(&archive, "");

    let run = reference.with_file_name("run");
    let local = format!(
        "containers-storage:[overlay@{}+{}]{V1}",
        reference.display(),
        run.display()
    );
    check(&local, "");
}

#[test]
fn every_compression_gives_podmans_trees() {
    if !ready(battery::TOOLS) {
        return;
    }
    let scratch = Scratch::new();
    let reference = stores::reference(scratch.join("reference"), &[(V1, &app("v1"))]);
    for layout in ["app-plain", "app-zstd"] {
        let image = Image::read(&fixtures().join(layout), "v1");
        let boundstore = Boundstore::new(&scratch, layout);
        boundstore.sync("a", &[bound(V1, image.source())]);
        let store = scratch.join(format!("store-{layout}"));
        boundstore.mount("a", &store);
        stores::assert_prefixes_equal(&reference, &store, &made_up());
        boundstore.umount(&store);
    }
}

#[test]
fn odd_images_give_podmans_trees() {
    if !ready(battery::TOOLS) {
        return;
    }
    let scratch = Scratch::new();
    let odd = fixtures().join("odd");
    let made_up: serde_json::Map<String, Value> =
        serde_json::from_value(json_file(&odd.join("odd.json"))).unwrap();
    assert!(made_up.len() >= 18);
    let boundstore = Boundstore::new(&scratch, "repo");
    let store = scratch.join("store");
    for (kind, made_up) in &made_up {
        let image = Image::read(&odd.join(kind), "1");
        let name = format!("localhost/{kind}:1");
        let reference = stores::reference(scratch.join(kind), &[(&name, &image)]);
        boundstore.sync(kind, &[bound(&name, image.source())]);
        boundstore.mount(kind, &store);
        stores::assert_prefixes_equal(&reference, &store, made_up);
        let ours = Podman::new(scratch.join(format!("{kind}-ours")), Some(&store));
        assert_eq!(ours.images(), [(name.clone(), true)]);
        // podman reassembles a layer through its tar-split, and checks its
        // digest. It can for all but a tar with an entry whose name leads
        // out of the tree, by itself or through a symlink; with a store of its own, also not
        // for one with sparse files.
        let theirs = Podman::new(scratch.join(format!("{kind}-theirs")), Some(&reference));
        let saved = |podman: &Podman| {
            let archive = podman.root().with_file_name("saved.tar");
            let mut save = podman.command(&format!("save --output {} {name}", archive.display()));
            let output = output(&mut save);
            (output.status.success(), describe(&save, &output))
        };
        let (ours, theirs) = (saved(&ours), saved(&theirs));
        assert_eq!(
            ours.0,
            !["symlinked-paths", "escaping"].contains(&&**kind),
            "{}",
            ours.1
        );
        assert!(
            ours.0 || !theirs.0,
            "{}
{}",
            ours.1,
            theirs.1
        );
        println!("{kind}: saved: {}", ours.0);
        boundstore.umount(&store);
        println!("{kind}: equal to podman's");
    }
}

#[test]
fn battery_passes_on_our_store() {
    if !ready(battery::TOOLS) {
        return;
    }
    let scratch = Scratch::new();
    let boundstore = Boundstore::new(&scratch, "repo");
    let v1 = app("v1");
    let images = [bound(V1, v1.source()), bound(V2, app("v2").source())];
    boundstore.sync("a", &images);
    let store = scratch.join("store");
    boundstore.mount("a", &store);
    battery::run_all(Subject {
        store: &store,
        name: V1,
        image: &v1,
    });
    boundstore.umount(&store);
    assert!(mounts_below(&store).is_empty());
}

/// v1 -> v2 -> back, under a running podman service, and what each costs.
#[test]
fn deployments_share_and_swap() {
    if !ready(battery::TOOLS) {
        return;
    }
    let scratch = Scratch::new();
    let boundstore = Boundstore::new(&scratch, "repo");
    let (one, two) = (bound(V1, app("v1").source()), bound(V2, app("v2").source()));

    let first = boundstore.sync("one", std::slice::from_ref(&one));
    assert_eq!(first["layers_imported"], 4);
    let objects = count_objects(boundstore.repo());

    let again = boundstore.sync("one", std::slice::from_ref(&one));
    assert_eq!(again["unchanged"], true, "{again}");
    assert_eq!(again["bytes_fetched"], 0, "{again}");
    assert_eq!(again["set_image"], first["set_image"]);
    assert_eq!(count_objects(boundstore.repo()), objects);

    let same = boundstore.sync("same", std::slice::from_ref(&one));
    assert_eq!(same["set_image"], first["set_image"], "{same}");
    assert_eq!(same["layers_imported"], 0, "{same}");
    assert!(
        count_objects(boundstore.repo()) <= objects + 2,
        "a second set image was stored"
    );

    let before = count_objects(boundstore.repo());
    let second = boundstore.sync("two", std::slice::from_ref(&two));
    assert_eq!(second["layers_imported"], 1, "{second}");
    assert_eq!(second["layers_reused"], 3, "{second}");
    // /app/payload, the layer's stream and tar-split, config and manifest,
    // the set image and its records: nothing that grows with the image.
    let added = count_objects(boundstore.repo()) - before;
    assert!(added <= 12, "{added} objects for one changed file");

    let store = scratch.join("store");
    let show = |deployment| {
        if !mounts_below(&store).is_empty() {
            boundstore.ok(&format!("umount --lazy {}", store.display()));
        }
        boundstore.mount(deployment, &store);
    };
    show("one");
    battery::service_sees_swap(&store, &[V1], || show("two"), &[V2]);
    battery::service_sees_swap(&store, &[V2], || show("one"), &[V1]);
    let podman = Podman::new(scratch.join("podman"), Some(&store));
    assert_eq!(podman.run("--rm", V1, "cat /app/version"), "v1\n");
    boundstore.umount(&store);

    for deployment in ["one", "same", "two"] {
        boundstore.ok(&format!("remove --deployment {deployment}"));
    }
    assert_eq!(boundstore.json("images")["images"], json!([]));
}

/// podman takes the keys of manifests and configs in any case.
#[test]
fn keys_in_another_case_give_podmans_image() {
    if !ready(&["podman", "skopeo"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut layout = Layout::new(&scratch.join("layout"));
    let layers = ["base", "top"].map(|name| LayerBlob::gzip(&layout::tar(&[(name, b"x")])));
    let diff_ids = layers.each_ref().map(|layer| &layer.diff_id);
    let config = json!({
        "CREATED": "2024-01-01T00:00:00Z", "Architecture": "amd64", "OS": "linux",
        "Config": { "cmd": ["/hello"] },
        "RootFS": { "Type": "layers", "Diff_ids": diff_ids },
    });
    let config = config.to_string();
    let described = layers.each_ref().map(|layer| {
        let (digest, size) = (layout.blob(&layer.blob), layer.blob.len());
        json!({ "MediaType": layer.media_type, "Digest": digest, "SIZE": size })
    });
    let manifest = json!({
        "SchemaVersion": 2,
        "mediatype": "application/vnd.oci.image.manifest.v1+json",
        "Config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": layout.blob(config.as_bytes()), "size": config.len(),
        },
        "Layers": described,
    });
    layout.manifest("1", manifest.to_string().as_bytes());
    let name = "localhost/folded:1";
    let source = format!("oci:{}:1", layout.path.display());

    let theirs = Podman::new(scratch.join("theirs"), None);
    let own = format!("containers-storage:{name}");
    let mut copy = theirs.tool("skopeo");
    text(copy.args(["copy", "--quiet", "--insecure-policy", &source, &own]));
    let boundstore = Boundstore::new(&scratch, "repo");
    boundstore.sync("a", &[bound(name, &source)]);
    let store = scratch.join("store");
    boundstore.mount("a", &store);
    let ours = Podman::new(scratch.join("ours"), Some(&store));
    let seen = |podman: &Podman| {
        let image = &podman.json(&format!("image inspect {name}"))[0];
        let container = podman.ok(&format!("create {name}"));
        let rootfs = podman.ok(&format!("mount {}", container.trim()));
        let files = ["base", "top"].map(|name| Path::new(rootfs.trim()).join(name).is_file());
        podman.ok("rm --all --force");
        let fields = ["Id", "Digest", "RootFS", "Config", "Created", "Os"];
        (fields.map(|field| image[field].clone()), files)
    };
    let found = seen(&ours);
    assert_eq!(found, seen(&theirs));
    assert_eq!(found.0[2]["Layers"], json!(diff_ids));
    assert_eq!(found.1, [true, true]);
    assert_eq!(ours.images(), [(name.to_owned(), true)]);
    boundstore.umount(&store);
}

fn count_objects(repo: &Path) -> usize {
    let directories = fs::read_dir(repo.join("objects")).unwrap();
    directories
        .map(|directory| fs::read_dir(directory.unwrap().path()).unwrap().count())
        .sum()
}

/// The set image does not depend on when, where and by whom it is made.
#[test]
fn same_input_gives_the_same_set_image() {
    if !ready(&["setpriv", "python3", "buildah", "mmdebstrap", "skopeo"]) {
        return;
    }
    let scratch = Scratch::new();
    let v1 = app("v1");
    let images = [bound(V1, v1.source()), bound(V2, app("v2").source())];
    let first = Boundstore::new(&scratch, "first").sync("a", &images);
    let mut turned = images.clone();
    turned.reverse();
    let other = Boundstore::new(&scratch, "other").sync("b", &turned);
    assert_eq!(other["set_image"], first["set_image"], "as root, elsewhere");

    let user = OrdinaryUser::new();
    user.bring(&v1.layout, "app");
    user.accept("policy.json");
    let at = user.path().display();
    let mut command = user.command(&format!(
        "--json --repo {at}/repo --allow-missing-verity sync --deployment c --policy {at}/policy.json \
         --spool {at}/spool --image {V1}=oci:{at}/app:v1 --image {V2}=oci:{at}/app:v2"
    ));
    let output = output(&mut command);
    assert!(output.status.success(), "{}", describe(&command, &output));
    let synced: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        synced["set_image"], first["set_image"],
        "as an ordinary user"
    );
}
