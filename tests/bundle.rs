//! `boundstore bundle`: from a registry, by any way that skopeo copies, to a host
//! that has no network.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "common/bootable.rs"]
mod bootable;
mod common;
#[path = "common/layout.rs"]
mod layout;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use bootable::assert_valid;
use common::{
    Scratch, boundstore::Boundstore, describe, ordinary_user::OrdinaryUser, output, ready,
    registry::Registry, text,
};
use layout::{LayerBlob, Layout, content, sha256, tar};
use serde_json::{Value, json};

const TOOLS: &[&str] = &["skopeo", "docker-registry"];
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry with a multi-arch image, one with a signature and an SBOM, and a
/// host image; a root that binds the first two.
struct World {
    scratch: Scratch,
    registry: Option<Registry>,
    address: String,
    index_digest: String,
    web_digest: String,
}

fn skopeo(args: &[&str]) -> String {
    text(Command::new("skopeo").args(args))
}

/// As anybody copies a bundle.
fn carry(options: &[&str], from: &str, to: &str) {
    let first = ["copy", "--quiet", "--all", "--insecure-policy"];
    let tls = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    skopeo(&[&first[..], &tls, options, &[from, to]].concat());
}

/// Lists `documents` in a layout's index.json, each with its media type and name.
fn list(layout: &Layout, documents: &[(&str, &[u8], &str)]) {
    let entries: Vec<Value> = documents
        .iter()
        .map(|(media_type, bytes, name)| {
            json!({
                "mediaType": media_type, "digest": layout.blob(bytes), "size": bytes.len(),
                "annotations": { "org.opencontainers.image.ref.name": name },
            })
        })
        .collect();
    let index = json!({ "schemaVersion": 2, "manifests": entries });
    fs::write(layout.path.join("index.json"), index.to_string()).unwrap();
}

/// The bytes of an index of two platforms, of which this machine's is first.
fn two_platforms(layout: &mut Layout) -> Vec<u8> {
    let own = layout.image(
        "own",
        &[LayerBlob::gzip(&tar(&[("own", &content(1, 9000))]))],
    );
    let other = layout.image(
        "other",
        &[LayerBlob::gzip(&tar(&[("other", &content(2, 9000))]))],
    );
    let entry = |digest: &str, architecture: &str| {
        let size = fs::metadata(layout.blob_path(digest)).unwrap().len();
        json!({
            "mediaType": MANIFEST, "digest": digest, "size": size,
            "platform": { "os": "linux", "architecture": architecture },
        })
    };
    let index = json!({
        "schemaVersion": 2, "mediaType": INDEX,
        "manifests": [entry(&own, "amd64"), entry(&other, "s390x")],
    });
    // As no tool of ours would write it.
    serde_json::to_vec_pretty(&index).unwrap()
}

/// The manifest of something that is about `subject`, its blob in the layout.
fn about(layout: &Layout, subject: &str, blob: &[u8], by_subject: bool) -> Vec<u8> {
    let config = br#"{"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": layout.blob(config), "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
            "digest": layout.blob(blob), "size": blob.len(),
            "annotations": { "dev.cosignproject.cosign/signature": "c2lnbmF0dXJl" },
        }],
    });
    if by_subject {
        let size = fs::metadata(layout.blob_path(subject)).unwrap().len();
        manifest["subject"] = json!({ "mediaType": MANIFEST, "digest": subject, "size": size });
    }
    serde_json::to_vec(&manifest).unwrap()
}

impl World {
    fn new() -> Option<Self> {
        if !ready(TOOLS) {
            return None;
        }
        let scratch = Scratch::new();
        let registry = Registry::start(&scratch);
        let address = registry.address.clone();
        let mut layout = Layout::new(&scratch.join("made"));
        let index = two_platforms(&mut layout);
        let layers = |seed| LayerBlob::gzip(&tar(&[("file", &content(seed, 9000))]));
        let web = layout.image("web", &[layers(3), layers(4)]);
        let host = layout.image("host", &[layers(5)]);
        let host = fs::read(layout.blob_path(&host)).unwrap();
        let web_bytes = fs::read(layout.blob_path(&web)).unwrap();
        let signature = about(&layout, &web, b"{\"critical\":1}", false);
        let sbom = about(&layout, &web, b"{\"sbom\":1}", true);
        let referrers = json!({
            "schemaVersion": 2, "mediaType": INDEX,
            "manifests": [{
                "mediaType": MANIFEST, "digest": sha256(&sbom), "size": sbom.len(),
            }],
        });
        let referrers = serde_json::to_vec(&referrers).unwrap();
        layout.blob(&sbom);
        let hex = web.strip_prefix("sha256:").unwrap();
        let (signature_tag, referrers_tag) = (format!("sha256-{hex}.sig"), format!("sha256-{hex}"));
        list(
            &layout,
            &[
                (INDEX, &index, "app"),
                (MANIFEST, &web_bytes, "web"),
                (MANIFEST, &host, "host"),
                (MANIFEST, &signature, "signature"),
                (INDEX, &referrers, "referrers"),
            ],
        );
        for (name, to) in [
            ("app", "app:1".to_owned()),
            ("web", "web:1".to_owned()),
            ("host", "host:1".to_owned()),
            ("signature", format!("web:{signature_tag}")),
            ("referrers", format!("web:{referrers_tag}")),
        ] {
            let from = format!("oci:{}:{name}", layout.path.display());
            carry(
                &["--preserve-digests"],
                &from,
                &format!("docker://{address}/{to}"),
            );
        }
        let world = Self {
            scratch,
            registry: Some(registry),
            address,
            index_digest: sha256(&index),
            web_digest: web,
        };
        let bound = world.scratch.dir("root/usr/lib/boundstore/bound-images.d");
        for (file, name) in [("app", world.pinned()), ("web", world.name("web"))] {
            let unit = format!("[Image]\nImage={name}\n");
            fs::write(bound.join(format!("{file}.image")), unit).unwrap();
        }
        Some(world)
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}:1", self.address)
    }

    /// The multi-arch image, by the digest of its index.
    fn pinned(&self) -> String {
        format!("{}/app@{}", self.address, self.index_digest)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    fn boundstore(&self, name: &str) -> Boundstore {
        Boundstore::new(&self.scratch, name)
    }

    /// The options of every call that brings something.
    fn options(&self) -> String {
        let accept = self.path("accept.json");
        fs::write(
            &accept,
            r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
        )
        .unwrap();
        let (policy, spool) = (accept.display(), self.path("spool"));
        format!(
            "--no-tls-verify --retry-for 0 --policy {policy} --spool {}",
            spool.display()
        )
    }

    fn rooted(&self, verb: &str) -> String {
        format!(
            "{verb} --root {} {}",
            self.path("root").display(),
            self.options()
        )
    }

    fn create(&self, output: &str) -> Value {
        let verb = format!(
            "bundle create --output {output} --host {}",
            self.name("host")
        );
        let document = self.boundstore("create").json(&self.rooted(&verb));
        assert_valid("bundle-create", &document);
        assert_eq!(fs::read_dir(self.path("spool")).unwrap().count(), 0);
        document
    }

    fn apply(&self, from: &str, to: &Path) -> Value {
        let call = format!("bundle apply {from} {} {}", to.display(), self.options());
        let document = self.boundstore("apply").json(&call);
        assert_valid("bundle-apply", &document);
        document
    }

    #[track_caller]
    fn refuses(&self, from: &str, words: &[&str]) {
        let to = self.path("refused");
        let call = format!("bundle apply {from} {} {}", to.display(), self.options());
        let (_, said) = self.boundstore("apply").exits(1, &call);
        for words in words {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(!to.exists(), "{said}");
        let left = fs::read_dir(self.scratch.path()).unwrap();
        let left = left.filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with(".boundstore")
        });
        assert_eq!(left.count(), 0, "something was left");
    }
}

fn oci(path: &Path) -> String {
    format!("oci:{}", path.display())
}

#[test]
fn it_travels_and_gives_the_locked_set_image() {
    let Some(mut world) = World::new() else {
        return;
    };
    let locked = world.boundstore("lock").json(&world.rooted("lock"));
    let made = world.create(&oci(&world.path("bundle")));
    let roles = |document: &Value| -> Vec<String> {
        let members = document["members"].as_array().unwrap();
        { members.iter() }
            .map(|member| {
                let name = member["name"].as_str().unwrap_or_default();
                let role = member["role"].as_str().unwrap();
                format!("{role} {}", name.trim_start_matches(&world.address))
            })
            .collect()
    };
    let app = format!("bound /app@{}", world.index_digest);
    let wanted = [
        "host /host:1",
        &app,
        "bound /web:1",
        "artifact ",
        "artifact ",
        "originals ",
    ];
    assert_eq!(roles(&made), wanted);

    // With nothing but skopeo to a registry, and from there to an archive.
    let mirror = format!("docker://{}/mirror/bundle:1", world.address);
    carry(
        &[],
        &format!("{}:bundle", oci(&world.path("bundle"))),
        &mirror,
    );
    let archive = format!("oci-archive:{}", world.path("carried.tar").display());
    carry(&[], &mirror, &archive);
    let call = format!("bundle inspect {archive} {}", world.options());
    let inspected = world.boundstore("inspect").json(&call);
    assert_valid("bundle-inspect", &inspected);
    for field in ["digest", "bytes", "members"] {
        assert_eq!(inspected[field], made[field], "{field}");
    }
    // Any tool reads an image in it.
    let manifest = &made["members"][2]["digest"];
    let image = format!(
        "docker://{}/mirror/bundle@{}",
        world.address,
        manifest.as_str().unwrap()
    );
    let seen = skopeo(&["inspect", "--tls-verify=false", &image]);
    let seen: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen["Layers"].as_array().unwrap().len(), 2, "{seen}");

    drop(world.registry.take());
    let applied = world.path("applied");
    let told = world.apply(&archive, &applied);
    assert_eq!(told["members"], made["members"]);
    let host = world.boundstore("offline");
    let sync = format!(
        "{} --locked --deployment d --from {}",
        world.rooted("sync"),
        oci(&applied)
    );
    let synced = host.json(&sync);
    assert_eq!(synced["set_image"], locked["set_image"]["sha512"]);

    // The index, the signature and the SBOM are there, byte for byte.
    let hex = |digest: &str| digest.strip_prefix("sha256:").unwrap().to_owned();
    let blobs = applied.join("blobs/sha256");
    let index = fs::read(blobs.join(hex(&world.index_digest))).unwrap();
    assert_eq!(sha256(&index), world.index_digest);
    let listed: Value =
        serde_json::from_slice(&fs::read(applied.join("index.json")).unwrap()).unwrap();
    let names: Vec<Option<&str>> = listed["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["annotations"]["org.opencontainers.image.ref.name"].as_str())
        .collect();
    let signature = format!("sha256-{}.sig", hex(&world.web_digest));
    for name in [Some(signature.as_str()), None, Some(&world.name("host"))] {
        assert!(names.contains(&name), "{name:?}: {names:?}");
    }
    // What was applied is made a bundle of again: the same one.
    let verb = format!(
        "bundle create --output {} --host {} --from {}",
        oci(&world.path("again")),
        world.name("host"),
        oci(&applied)
    );
    let again = world.boundstore("again").json(&world.rooted(&verb));
    assert_eq!(again["digest"], made["digest"]);
}

#[test]
fn it_goes_straight_to_an_archive_and_a_registry() {
    let Some(world) = World::new() else { return };
    let archive = format!("oci-archive:{}", world.path("b.tar").display());
    let remote = format!("docker://{}/direct:1", world.address);
    let first = world.create(&archive);
    let bytes = fs::read(world.path("b.tar")).unwrap();
    let second = world.create(&remote);
    assert_eq!(first["digest"], second["digest"]);
    for (number, from) in [&archive, &remote].into_iter().enumerate() {
        let told = world.apply(from, &world.path(&format!("applied-{number}")));
        assert_eq!(told["digest"], first["digest"], "{from}");
    }
    let layouts = [0, 1].map(|number| world.path(&format!("applied-{number}")));
    let mut diff = Command::new("diff");
    text(diff.arg("--recursive").args(layouts));

    // The same bytes, for an ordinary user too.
    let user = OrdinaryUser::new();
    for name in ["root", "accept.json"] {
        user.bring(&world.path(name), name);
    }
    let verb = format!(
        "bundle create --output {archive} --host {}",
        world.name("host")
    );
    let own = user.path().to_str().unwrap();
    let call = world
        .rooted(&verb)
        .replace(world.scratch.path().to_str().unwrap(), own);
    let mut command = user.command(&call);
    let done = output(&mut command);
    assert!(done.status.success(), "{}", describe(&command, &done));
    assert!(fs::read(user.join("b.tar")).unwrap() == bytes);
}

/// docker's manifests, which no OCI layout can hold, come back as they were.
#[test]
fn a_docker_manifest_comes_back_as_it_was() {
    let Some(world) = World::new() else { return };
    let web = format!("docker://{}/web:1", world.address);
    let docker = format!("{}/docker:1", world.address);
    let tls = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    let first = ["copy", "--quiet", "--insecure-policy", "--format", "v2s2"];
    skopeo(&[&first[..], &tls, &[&web, &format!("docker://{docker}")]].concat());
    let raw = ["inspect", "--raw", "--tls-verify=false"];
    let bytes = skopeo(&[&raw[..], &[&format!("docker://{docker}")]].concat());
    assert!(
        bytes.contains("vnd.docker.distribution.manifest.v2"),
        "{bytes}"
    );
    let bundle = world.path("bundle");
    let call = format!(
        "bundle create --output {} --image {docker} {}",
        oci(&bundle),
        world.options()
    );
    let made = world.boundstore("create").json(&call);
    let digest = sha256(bytes.as_bytes());
    assert_eq!(made["members"][0]["manifest"], digest);
    assert_ne!(made["members"][0]["digest"], digest);
    // Out to a registry, and into an archive: neither changes a byte.
    let mirror = format!("docker://{}/mirror:1", world.address);
    carry(&[], &format!("{}:bundle", oci(&bundle)), &mirror);
    let archive = format!("oci-archive:{}", world.path("b.tar").display());
    carry(&["--preserve-digests"], &mirror, &archive);
    let applied = world.path("applied");
    world.apply(&archive, &applied);
    let call = format!(
        "sync --deployment d --image {docker} --from {} {}",
        oci(&applied),
        world.options()
    );
    let synced = world.boundstore("offline").json(&call);
    assert_eq!(synced["images"][0]["manifest_digest"], digest);
    let call = format!("sync --deployment d --image {docker} {}", world.options());
    let online = world.boundstore("online").json(&call);
    assert_eq!(online["set_image"], synced["set_image"]);
}

#[test]
fn what_was_changed_on_the_way_is_told() {
    let Some(world) = World::new() else { return };
    let bundle = world.path("bundle");
    world.create(&oci(&bundle));
    let from = oci(&bundle);
    let blob = |digest: &str| {
        bundle
            .join("blobs/sha256")
            .join(digest.strip_prefix("sha256:").unwrap())
    };
    let read = |digest: &str| -> Value {
        serde_json::from_slice(&fs::read(blob(digest)).unwrap()).unwrap()
    };
    let listed: Value =
        serde_json::from_slice(&fs::read(bundle.join("index.json")).unwrap()).unwrap();
    let top = listed["manifests"][0]["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    let index = read(&top);
    let member = |at: usize| {
        index["manifests"][at]["digest"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    // The second layer of web, and its config.
    let web = read(&member(2));
    let layer = web["layers"][1]["digest"].as_str().unwrap();
    let name = world.name("web");
    let flip = |digest: &str, words: &[&str]| {
        let path = blob(digest);
        let right = fs::read(&path).unwrap();
        let mut wrong = right.clone();
        wrong[right.len() / 2] ^= 1;
        fs::write(&path, &wrong).unwrap();
        world.refuses(&from, words);
        fs::write(&path, &right[..right.len() - 1]).unwrap();
        world.refuses(&from, words);
        fs::write(&path, [&right[..], b"!"].concat()).unwrap();
        world.refuses(&from, &[]);
        fs::remove_file(&path).unwrap();
        world.refuses(&from, &["missing"]);
        fs::write(&path, right).unwrap();
    };
    flip(layer, &["layer 1 of", &name, layer]);
    flip(
        web["config"]["digest"].as_str().unwrap(),
        &["the config of", &name],
    );
    flip(&member(2), &["the manifest"]);
    let originals = read(&member(5));
    flip(
        originals["layers"][0]["digest"].as_str().unwrap(),
        &["an original document"],
    );
    let signature = read(&member(3));
    flip(
        signature["layers"][0]["digest"].as_str().unwrap(),
        &["an artifact", &world.web_digest[7..20]],
    );

    // An index that says something else.
    let with = |change: &dyn Fn(&mut Value), words: &[&str]| {
        let mut changed = index.clone();
        change(&mut changed);
        let bytes = serde_json::to_vec(&changed).unwrap();
        let digest = sha256(&bytes);
        fs::write(blob(&digest), &bytes).unwrap();
        let list = json!({ "schemaVersion": 2, "manifests": [
            { "mediaType": INDEX, "digest": digest, "size": bytes.len() },
        ]});
        fs::write(bundle.join("index.json"), list.to_string()).unwrap();
        world.refuses(&from, words);
    };
    let key = |name: &str| format!("dev.boundstore.bundle.{name}");
    let annotate = |at: usize, name: &'static str, value: Value| {
        move |index: &mut Value| {
            index["manifests"][at]["annotations"][key(name)] = value.clone();
        }
    };
    let other = sha256(b"other");
    with(
        &annotate(2, "digest", other.clone().into()),
        &[&name, "--preserve-digests", &other],
    );
    with(&annotate(2, "role", "guest".into()), &["entry 2", "guest"]);
    with(
        &annotate(2, "name", "../../etc".into()),
        &["entry 2", "name"],
    );
    with(
        &annotate(
            2,
            "name",
            index["manifests"][1]["annotations"][key("name")].clone(),
        ),
        &["twice"],
    );
    with(
        &annotate(1, "role", "host".into()),
        &["the host image twice"],
    );
    let host = index["manifests"][0]["annotations"][key("name")].clone();
    with(
        &annotate(2, "name", host.clone()),
        &["twice", host.as_str().unwrap()],
    );
    with(
        &|index| index["manifests"][2]["digest"] = "sha256:../../../../etc/passwd".into(),
        &["the index", "digest"],
    );
    // An index where a manifest is due, which skopeo would have refused.
    let inner = originals["layers"][0].clone();
    with(
        &|index| {
            let entry = &mut index["manifests"][2];
            entry["digest"] = inner["digest"].clone();
            entry["size"] = inner["size"].clone();
            entry["annotations"][key("digest")] = inner["digest"].clone();
        },
        &[
            "the manifest",
            inner["digest"].as_str().unwrap(),
            "unusable",
        ],
    );
    with(
        &|index| index["manifests"][2]["size"] = (1_u64 << 40).into(),
        &["the manifest", &member(2)],
    );
    with(
        &|index| index["padding"] = "x".repeat(5 << 20).into(),
        &["4194304"],
    );
    with(
        &annotate(2, "top", other.clone().into()),
        &["has not the original", &other, &name],
    );
    with(
        &annotate(2, "manifest", other.clone().into()),
        &["has not the original", &other],
    );
    with(&annotate(3, "tag", "../../x".into()), &["../../x"]);
    with(&annotate(3, "tag", "\u{1b}[31m".into()), &["no tag"]);
    with(
        &annotate(3, "role", "originals".into()),
        &["the originals twice"],
    );
    with(
        &|index| {
            index["manifests"][2]
                .as_object_mut()
                .unwrap()
                .remove("platform");
        },
        &["platform"],
    );
    with(
        &|index| index["manifests"][2]["platform"]["architecture"] = "s390x".into(),
        &["s390x"],
    );
    with(
        &|index| index["annotations"][key("version")] = "2".into(),
        &["version \"2\""],
    );
    with(
        &|index| {
            index.as_object_mut().unwrap().remove("annotations");
        },
        &["no bundle"],
    );
    // An index of the originals that does not list the manifest.
    let web_top = index["manifests"][1]["annotations"][key("top")].clone();
    with(&annotate(2, "top", web_top), &["fit each other", &name]);
    let list = json!({ "schemaVersion": 2, "manifests": [] });
    fs::write(bundle.join("index.json"), list.to_string()).unwrap();
    world.refuses(&from, &["no bundle"]);
}

/// A copy that compresses layers makes other manifests: it is told apart from
/// damage.
#[test]
fn a_copy_that_rewrites_manifests_is_told() {
    if !ready(TOOLS) {
        return;
    }
    let scratch = Scratch::new();
    let registry = Registry::start(&scratch);
    let mut layout = Layout::new(&scratch.join("plain"));
    let name = "registry.test/app:1";
    layout.image(
        "app",
        &[LayerBlob::plain(&tar(&[("file", &content(1, 9000))]))],
    );
    let boundstore = Boundstore::new(&scratch, "repo");
    let at = |name: &str| scratch.join(name);
    let accept = at("accept.json");
    fs::write(
        &accept,
        r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
    )
    .unwrap();
    let options = format!(
        "--policy {} --spool {}",
        accept.display(),
        at("spool").display()
    );
    let bundle = oci(&at("bundle"));
    boundstore.ok(&format!(
        "bundle create --output {bundle} --image {} {options}",
        layout.arg(name, "app")
    ));
    let mirror = format!("docker://{}/mirror:1", registry.address);
    for (copy, code) in [(&[][..], 1), (&["--preserve-digests"][..], 0)] {
        carry(copy, &format!("{bundle}:bundle"), &mirror);
        let to = at(&format!("applied-{code}"));
        let call = format!(
            "bundle apply {mirror} {} --no-tls-verify {options}",
            to.display()
        );
        let (_, said) = boundstore.exits(code, &call);
        assert_eq!(
            said.contains("copy --all --preserve-digests"),
            code == 1,
            "{said}"
        );
        assert_eq!(to.exists(), code == 0);
    }
    // A place that has something.
    let to = at("applied-0");
    let call = format!("bundle apply {bundle} {} {options}", to.display());
    let (_, said) = boundstore.exits(1, &call);
    assert!(
        said.contains("not empty") && said.contains("remove it"),
        "{said}"
    );
}

#[test]
fn what_cannot_be_bundled_is_told() {
    let Some(world) = World::new() else { return };
    let boundstore = world.boundstore("create");
    let (archive, bundle) = (world.path("docker.tar"), world.path("bundle"));
    // docker-archive: the layers there are plain, and the manifest says so.
    let web = format!("docker://{}/web:1", world.address);
    let to = format!("docker-archive:{}:registry.test/web:1", archive.display());
    let tls = ["--src-tls-verify=false"];
    skopeo(
        &[
            &["copy", "--quiet", "--insecure-policy"][..],
            &tls,
            &[&web, &to],
        ]
        .concat(),
    );
    let call = |rest: &str| {
        format!(
            "bundle create --output {} {} {rest}",
            oci(&bundle),
            world.options()
        )
    };
    let image = format!(
        "--image registry.test/web:1=docker-archive:{}",
        archive.display()
    );
    boundstore.ok(&call(&image));
    fs::remove_dir_all(&bundle).unwrap();
    // An index in an index.
    let mut layout = Layout::new(&world.path("nested"));
    let inner = two_platforms(&mut layout);
    let outer = json!({
        "schemaVersion": 2, "mediaType": INDEX,
        "manifests": [{ "mediaType": INDEX, "digest": layout.blob(&inner), "size": inner.len() }],
    });
    list(
        &layout,
        &[(INDEX, &serde_json::to_vec(&outer).unwrap(), "nested")],
    );
    for (code, rest, words) in [
        (
            1,
            format!("--image {}", layout.arg("registry.test/x:1", "nested")),
            "index in an index",
        ),
        (
            1,
            format!("--image {}", layout.arg("registry.test/x:1", "none")),
            "none",
        ),
        (
            2,
            format!("--host {0} --image {0}", world.name("web")),
            "and bound",
        ),
        (4, "--image 127.0.0.1:9/x:1".to_owned(), "127.0.0.1:9/x:1"),
    ] {
        let (_, said) = boundstore.exits(code, &call(&rest));
        assert!(said.contains(words), "{words}: {said}");
        assert!(!bundle.exists(), "{said}");
    }
    let call = call(&image).replace(&oci(&bundle), "containers-storage:[/x]x:1");
    let (_, said) = boundstore.exits(2, &call);
    assert!(said.contains("no place for a bundle"), "{said}");
}

/// Its first image is the host's, whatever name it is taken for.
#[test]
fn a_bundle_is_no_image() {
    let Some(world) = World::new() else { return };
    let bundle = world.path("bundle");
    let remote = format!("docker://{}/app:bundle", world.address);
    world.create(&format!("{}:{}", oci(&bundle), world.name("web")));
    world.create(&remote);
    let host = world.boundstore("host");
    for args in [
        format!("--image {} --from {}", world.name("web"), oci(&bundle)),
        format!("--image {}={}", world.name("web"), oci(&bundle)),
        format!("--image {}={remote}", world.name("web")),
    ] {
        let call = format!("sync --deployment d {args} {}", world.options());
        let (_, said) = host.exits(1, &call);
        assert!(said.contains("boundstore bundle apply"), "{args}: {said}");
    }
}

/// A bundle in a folder, whose documents are changed.
struct Changed {
    world: World,
    bundle: PathBuf,
    top: Value,
    index: Value,
}

impl Changed {
    fn new() -> Option<Self> {
        let world = World::new()?;
        let bundle = world.path("bundle");
        world.create(&oci(&bundle));
        let mut changed = Self {
            world,
            bundle,
            top: Value::Null,
            index: Value::Null,
        };
        let listed = fs::read(changed.bundle.join("index.json")).unwrap();
        let listed: Value = serde_json::from_slice(&listed).unwrap();
        changed.top = listed["manifests"][0].clone();
        changed.index = changed.read(&changed.top["digest"]);
        Some(changed)
    }

    fn read(&self, digest: &Value) -> Value {
        let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        let bytes = fs::read(self.bundle.join("blobs/sha256").join(hex)).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    /// Its digest and size.
    fn put(&self, value: &Value) -> (Value, Value) {
        let bytes = serde_json::to_vec(value).unwrap();
        let digest = sha256(&bytes);
        let blobs = self.bundle.join("blobs/sha256");
        fs::write(blobs.join(&digest[7..]), &bytes).unwrap();
        (digest.into(), bytes.len().into())
    }

    fn entry(&self, index: &Value) -> Value {
        let (digest, size) = self.put(index);
        json!({ "mediaType": INDEX, "digest": digest, "size": size })
    }

    fn list(&self, entries: &[Value]) {
        let list = json!({ "schemaVersion": 2, "manifests": entries });
        fs::write(self.bundle.join("index.json"), list.to_string()).unwrap();
    }

    /// `web` is another manifest now, its own or one in the place of `original`.
    fn web(&self, manifest: &Value, original: Option<&Value>) -> Value {
        let mut index = self.index.clone();
        let member = &mut index["manifests"][2];
        let (digest, size) = self.put(manifest);
        let own = original.unwrap_or(&digest).clone();
        for (key, value) in [("digest", &digest), ("manifest", &own), ("top", &own)] {
            member["annotations"][format!("dev.boundstore.bundle.{key}")] = value.clone();
        }
        member["digest"] = digest;
        member["size"] = size;
        index
    }

    fn from(&self) -> String {
        oci(&self.bundle)
    }

    fn inspect(&self) -> String {
        format!("bundle inspect {} {}", self.from(), self.world.options())
    }
}

/// Claims that are not so, and more of anything than there is.
#[test]
fn a_hostile_bundle_costs_nothing() {
    let Some(changed) = Changed::new() else {
        return;
    };
    let boundstore = changed.world.boundstore("inspect");
    let manifest = changed.read(&changed.index["manifests"][2]["digest"]);
    // One blob of two sizes.
    let mut twice = manifest.clone();
    twice["layers"][1] = twice["layers"][0].clone();
    twice["layers"][1]["size"] = 12_345.into();
    changed.list(&[changed.entry(&changed.web(&twice, None))]);
    changed
        .world
        .refuses(&changed.from(), &["layer 1 of", "12345 bytes"]);
    // Sizes that add up to more than there is.
    let mut long = manifest.clone();
    for (at, layer) in long["layers"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .enumerate()
    {
        layer["size"] = i64::MAX.into();
        layer["digest"] = sha256(at.to_string().as_bytes()).into();
    }
    let third = json!({ "mediaType": MANIFEST, "digest": sha256(b"3"), "size": i64::MAX });
    long["layers"].as_array_mut().unwrap().push(third);
    changed.list(&[changed.entry(&changed.web(&long, None))]);
    let (_, said) = boundstore.exits(1, &changed.inspect());
    assert!(said.contains("more than there can be"), "{said}");
    // One index over and over is read once, and of many others not all are.
    changed.list(&vec![changed.top.clone(); 10_000]);
    boundstore.ok(&changed.inspect());
    let other = |number: usize| {
        let annotations = json!({ "n": number.to_string() });
        changed.entry(&json!({ "schemaVersion": 2, "manifests": [], "annotations": annotations }))
    };
    let others = (0..100).map(other).chain([changed.top.clone()]);
    changed.list(&others.collect::<Vec<_>>());
    let (_, said) = boundstore.exits(1, &changed.inspect());
    assert!(said.contains("more than 64 indexes"), "{said}");
    // A platform that would write a line of its own.
    let mut forged = changed.index.clone();
    forged["manifests"][2]["platform"]["architecture"] = "x\nhost image".into();
    changed.list(&[changed.entry(&forged)]);
    let (_, said) = boundstore.exits(1, &changed.inspect());
    assert!(said.contains("entry 2: its platform"), "{said}");
}

/// What is listed in the place of docker's manifest is of the same image.
#[test]
fn the_manifest_for_dockers_is_held_against_it() {
    let Some(changed) = Changed::new() else {
        return;
    };
    let manifest = changed.read(&changed.index["manifests"][2]["digest"]);
    let mut docker = manifest.clone();
    docker["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json".into();
    docker["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json".into();
    for layer in docker["layers"].as_array_mut().unwrap() {
        layer["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip".into();
    }
    let with = |docker: &Value| {
        let (digest, size) = changed.put(docker);
        let mut index = changed.web(&manifest, Some(&digest));
        let mut originals = changed.read(&index["manifests"][5]["digest"]);
        let media_type = "application/vnd.boundstore.original.v1+json";
        let original = json!({ "mediaType": media_type, "digest": digest, "size": size });
        originals["layers"].as_array_mut().unwrap().push(original);
        let (digest, size) = changed.put(&originals);
        let member = &mut index["manifests"][5];
        member["annotations"]["dev.boundstore.bundle.digest"] = digest.clone();
        member["digest"] = digest;
        member["size"] = size;
        changed.list(&[changed.entry(&index)]);
    };
    with(&docker);
    changed
        .world
        .apply(&changed.from(), &changed.world.path("applied"));
    docker["layers"].as_array_mut().unwrap().swap(0, 1);
    with(&docker);
    let name = changed.world.name("web");
    changed
        .world
        .refuses(&changed.from(), &["is not that of", &name]);
}

/// What is about an image can stand in the way, and be left out.
#[test]
fn artifacts_are_few_and_can_be_left_out() {
    let Some(world) = World::new() else { return };
    let mut layout = Layout::new(&world.path("many"));
    let name = "registry.test/many:1";
    let layer = LayerBlob::gzip(&tar(&[("file", &content(1, 9000))]));
    let subject = layout.image(name, &[layer]);
    let image = fs::read(layout.blob_path(&subject)).unwrap();
    let mut documents = vec![(image, name.to_owned())];
    for number in 0..257 {
        let sbom = about(&layout, &subject, number.to_string().as_bytes(), true);
        documents.push((sbom, format!("n{number}")));
    }
    documents.push((vec![b' '; 5 << 20], "long".to_owned()));
    let all: Vec<(&str, &[u8], &str)> = { documents.iter() }
        .map(|(bytes, name)| (MANIFEST, &bytes[..], &name[..]))
        .collect();
    list(&layout, &all);
    let boundstore = world.boundstore("create");
    let bundle = world.path("bundle");
    let call = |more: &str| {
        let (to, from, options) = (oci(&bundle), oci(&layout.path), world.options());
        format!("bundle create --output {to} --image {name} --from {from} {options} {more}")
    };
    let (_, said) = boundstore.exits(1, &call(""));
    for words in ["more than 256", "--no-artifacts"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    boundstore.ok(&call("--no-artifacts"));
    fs::remove_dir_all(&bundle).unwrap();
    // What is damaged or too long is about nothing: a layout holds much else.
    list(&layout, &[&all[..10], &all[258..]].concat());
    fs::remove_file(layout.blob_path(&sha256(all[9].1))).unwrap();
    let mut masked = Command::new("sh");
    let create = boundstore.command(&format!("--json {}", call("")));
    masked.args(["-c", r#"umask 077; exec "$@""#, "sh"]);
    masked.arg(create.get_program()).args(create.get_args());
    let made: Value = serde_json::from_str(&text(&mut masked)).unwrap();
    assert_eq!(made["members"].as_array().unwrap().len(), 1 + 8);
    // Everybody can read it, whatever the umask.
    let mut find = Command::new("find");
    assert_eq!(text(find.arg(&bundle).args(["!", "-perm", "-444"])), "");
}
