//! Damaged, lying and hostile images: each is a clear error with the exit
//! status that is documented for it, and leaves the repository sound.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "common/host.rs"]
mod host;
#[path = "common/layout.rs"]
mod layout;
#[path = "common/raw_tar.rs"]
mod raw_tar;

use std::fs;

use host::Host;
use layout::{LayerBlob, Layout, content, sha256, tar};
use raw_tar::RawTar;
use serde_json::{Value, json};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A host with a published set, and a layout to put bad images in.
struct Attack {
    host: Host,
    layout: Layout,
    before: Value,
}

impl Attack {
    fn new() -> Self {
        let host = Host::new();
        let mut layout = Layout::new(&host.path("layout"));
        let base = tar(&[("etc/", b""), ("etc/name", &content(7, 3000))]);
        layout.image("good", &[LayerBlob::gzip(&base)]);
        let good = layout.arg("localhost/good:1", "good");
        let before = host.ok(&["sync", "--deployment", "before", "--image", &good]);
        Self {
            host,
            layout,
            before,
        }
    }

    fn arg(&self) -> String {
        self.layout.arg("localhost/bad:1", "bad")
    }

    /// Syncing the image `bad` must fail so, and nothing may come of it.
    #[track_caller]
    fn fails(&self, status: i32, words: &[&str]) {
        self.fails_with(&[], status, words);
    }

    #[track_caller]
    fn fails_with(&self, options: &[&str], status: i32, words: &[&str]) {
        let arg = self.arg();
        let sync = [&["sync", "--deployment", "d", "--image", &arg], options].concat();
        self.host.fails(&sync, status, words);
        self.nothing_came_of_it();
    }

    /// The set that was there is as it was; what was begun is a leftover that
    /// gc takes, but for whole layers, which partial refs keep for the next try.
    #[track_caller]
    fn nothing_came_of_it(&self) {
        let host = &self.host;
        let status = host.ok(&["status"]);
        let deployments = status["deployments"].as_array().unwrap();
        assert_eq!(deployments.len(), 1, "{status}");
        assert_eq!(deployments[0]["conditions"][0]["status"], true, "{status}");
        host.gc();
        let good = self.layout.arg("localhost/good:1", "good");
        let again = host.ok(&["sync", "--deployment", "before", "--image", &good]);
        assert_eq!(again["unchanged"], true);
        assert_eq!(again["set_image"], self.before["set_image"]);
        host.ok(&["remove", "--deployment", "before"]);
        for partial in host.partial() {
            fs::remove_file(partial).unwrap();
        }
        host.gc();
        assert!(host.objects().is_empty(), "{:?}", host.objects());
    }

    /// An image of these layers syncs, and all it left is taken once removed.
    #[track_caller]
    fn syncs(&mut self, layers: &[LayerBlob]) -> Value {
        self.layout.image("bad", layers);
        let arg = self.arg();
        let synced = self
            .host
            .ok(&["sync", "--deployment", "d", "--image", &arg]);
        assert_eq!(self.host.gc(), 0);
        synced
    }

    fn layer(&mut self, layer: LayerBlob) -> &Self {
        self.layout.image("bad", &[layer]);
        self
    }

    fn tar(&mut self, tar: RawTar) -> &Self {
        self.layer(LayerBlob::plain(&tar.done()))
    }

    /// An image whose manifest and config are as `change` leaves them.
    fn lying(&mut self, change: impl FnOnce(&mut Value, &mut Value)) -> &Self {
        let base = LayerBlob::gzip(&tar(&[("hello", &content(1, 7000))]));
        self.layout.lying("bad", &base, change);
        self
    }
}

fn hello() -> Vec<u8> {
    tar(&[("hello", &noise(50_000)), ("world", &noise(300))])
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// Changes the blob of `layer` where it lies, keeping its name.
fn damaged(layer: LayerBlob, damage: impl FnOnce(&mut Vec<u8>)) -> (Attack, String) {
    let mut attack = Attack::new();
    let digest = sha256(&layer.blob);
    let mut blob = layer.blob.clone();
    attack.layer(layer);
    damage(&mut blob);
    fs::write(attack.layout.blob_path(&digest), blob).unwrap();
    (attack, digest)
}

#[test]
fn a_corrupt_blob() {
    for layer in [LayerBlob::gzip, LayerBlob::zstd, LayerBlob::plain] {
        let (attack, digest) = damaged(layer(&hello()), |blob| {
            let middle = blob.len() / 2;
            blob[middle] ^= 0x55;
        });
        attack.fails(1, &["localhost/bad:1", "layer 0", &digest, "damaged"]);
    }
}

#[test]
fn a_blob_cut_off_where_it_lies() {
    for layer in [LayerBlob::gzip, LayerBlob::zstd, LayerBlob::plain] {
        let (attack, digest) = damaged(layer(&hello()), |blob| blob.truncate(20_000));
        attack.fails(
            1,
            &[
                "localhost/bad:1",
                &digest,
                "20000 bytes",
                "copy the image again",
            ],
        );
    }
}

#[test]
fn a_blob_longer_than_its_manifest_says() {
    let (attack, digest) = damaged(LayerBlob::gzip(&hello()), |blob| blob.extend(b"more"));
    attack.fails(1, &["localhost/bad:1", &digest, "expected", "found"]);
}

/// The blob is what the manifest says; what is packed in it is cut off.
#[test]
fn a_tar_cut_off_before_it_was_packed() {
    let whole = hello();
    let mut gzip = LayerBlob::gzip(&whole);
    gzip.blob.truncate(20_000);
    let mut zstd = LayerBlob::zstd(&whole);
    zstd.blob.truncate(20_000);
    let plain = LayerBlob::plain(&whole[..20_000]);
    for layer in [gzip, zstd, plain] {
        let diff_id = layer.diff_id.clone();
        let mut attack = Attack::new();
        attack.layer(layer).fails(1, &["localhost/bad:1", &diff_id]);
    }
}

#[test]
fn garbage_behind_the_gzip() {
    let mut layer = LayerBlob::gzip(&hello());
    layer.blob.extend(b"garbage behind the end");
    let diff_id = layer.diff_id.clone();
    let mut attack = Attack::new();
    attack.layer(layer).fails(1, &["localhost/bad:1", &diff_id]);
}

#[test]
fn a_blob_that_is_missing() {
    let mut attack = Attack::new();
    let layer = LayerBlob::gzip(&hello());
    let digest = sha256(&layer.blob);
    attack.layer(layer);
    fs::remove_file(attack.layout.blob_path(&digest)).unwrap();
    attack.fails(
        1,
        &[
            "localhost/bad:1",
            "layer 0",
            &digest,
            "copy the image again",
        ],
    );
}

#[test]
fn a_manifest_that_lies_about_a_layer() {
    let mut attack = Attack::new();
    attack
        .lying(|manifest, _| manifest["layers"][0]["size"] = 12.into())
        .fails(1, &["localhost/bad:1", "layer 0", "12 bytes"]);
    for (size, says) in [
        (json!(-1), "the size of layer 0 is -1"),
        (json!("7"), "layers[0].size is not a whole number"),
    ] {
        let mut attack = Attack::new();
        attack
            .lying(|manifest, _| manifest["layers"][0]["size"] = size)
            .fails(1, &["localhost/bad:1", " sha256:", says]);
    }
    let mut attack = Attack::new();
    attack
        .lying(|manifest, _| manifest["layers"][0]["digest"] = "sha256:../../x".into())
        .fails(1, &["localhost/bad:1", "layer 0", "digest"]);
}

#[test]
fn a_manifest_that_lies_about_the_config() {
    let mut attack = Attack::new();
    attack
        .lying(|manifest, _| manifest["config"]["size"] = 12.into())
        .fails(1, &["localhost/bad:1", "config", "12 bytes"]);
    let mut attack = Attack::new();
    let other = attack.layout.blob(b"{}");
    attack
        .lying(|manifest, _| manifest["config"]["digest"] = other.as_str().into())
        .fails(1, &["localhost/bad:1", "config", &other]);
}

#[test]
fn an_index_that_lies_about_the_manifest() {
    let mut attack = Attack::new();
    attack.lying(|_, _| {});
    let path = attack.layout.path.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let digest = index["manifests"][1]["digest"].as_str().unwrap().to_owned();
    let blob = attack.layout.blob_path(&digest);
    let mut manifest = fs::read(&blob).unwrap();
    manifest.push(b' ');
    fs::write(&blob, &manifest).unwrap();
    attack.fails(1, &["localhost/bad:1", &digest, "copy the image again"]);

    let mut attack = Attack::new();
    attack.lying(|_, _| {});
    let path = attack.layout.path.join("index.json");
    index["manifests"][1]["size"] = 7.into();
    fs::write(&path, index.to_string()).unwrap();
    attack.fails(1, &["localhost/bad:1", &digest, "7 bytes"]);
}

#[test]
fn a_config_with_another_count_of_layers() {
    for diff_ids in [json!([]), json!([sha256(b"a"), sha256(b"b")]), json!(null)] {
        let mut attack = Attack::new();
        attack
            .lying(|_, config| config["rootfs"]["diff_ids"] = diff_ids)
            .fails(1, &["localhost/bad:1", "1 layers", "DiffIDs"]);
    }
}

#[test]
fn images_of_a_kind_that_is_not_kept() {
    for (media_type, words) in [
        (
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "distributable",
        ),
        (
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "distributable",
        ),
        (
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "decrypt",
        ),
        ("application/vnd.example.layer", "unknown media type"),
    ] {
        let mut attack = Attack::new();
        attack
            .lying(|manifest, _| manifest["layers"][0]["mediaType"] = media_type.into())
            .fails(1, &["localhost/bad:1", "layer 0", media_type, words]);
    }
    let mut attack = Attack::new();
    attack
        .lying(|manifest, _| manifest["artifactType"] = "application/x-helm".into())
        .fails(1, &["localhost/bad:1", "artifact", "application/x-helm"]);
    let mut attack = Attack::new();
    attack
        .lying(|manifest, _| manifest["config"]["mediaType"] = "application/x-wasm".into())
        .fails(1, &["localhost/bad:1", "artifact", "application/x-wasm"]);
    let mut attack = Attack::new();
    attack
        .lying(|_, config| config["architecture"] = "s390x".into())
        .fails(1, &["localhost/bad:1", "linux/s390x"]);
    let mut attack = Attack::new();
    attack
        .lying(|manifest, _| manifest["schemaVersion"] = 1.into())
        .fails(1, &["localhost/bad:1", "schema 1", "push the image again"]);
}

#[test]
fn documents_that_are_too_long() {
    let mut attack = Attack::new();
    let padding = "x".repeat(5 << 20);
    attack
        .lying(|manifest, _| manifest["annotations"] = json!({ "padding": padding }))
        .fails(1, &["localhost/bad:1", "4194304"]);

    let mut attack = Attack::new();
    attack
        .lying(|_, config| config["author"] = padding.as_str().into())
        .fails(1, &["localhost/bad:1", "4194304"]);

    let attack = Attack::new();
    let path = attack.layout.path.join("index.json");
    let index = fs::read(&path).unwrap();
    let long = [index.as_slice(), &vec![b' '; 5 << 20]].concat();
    fs::write(&path, long).unwrap();
    let bad = attack.arg();
    let sync = ["sync", "--deployment", "d", "--image", &bad];
    attack.host.fails(&sync, 1, &["index.json", "4194304"]);
    fs::write(&path, index).unwrap();
    attack.nothing_came_of_it();
}

#[test]
fn an_index_without_images() {
    let mut attack = Attack::new();
    let index = json!({ "schemaVersion": 2, "manifests": [],
        "mediaType": "application/vnd.oci.image.index.v1+json" });
    attack.layout.manifest("bad", index.to_string().as_bytes());
    attack.fails(1, &["localhost/bad:1", "there is none"]);
}

/// The name says what is wanted; a pin that the source does not hold is refused.
#[test]
fn an_image_that_is_not_the_pinned_one() {
    let mut attack = Attack::new();
    let digest = attack.layout.image("bad", &[LayerBlob::gzip(&hello())]);
    let other = sha256(b"another manifest");
    let arg = attack.layout.arg(&format!("localhost/bad@{other}"), "bad");
    let sync = ["sync", "--deployment", "d", "--image", &arg];
    attack.host.fails(
        &sync,
        5,
        &["localhost/bad", &other, &digest, "update the pin"],
    );
    attack.nothing_came_of_it();
}

#[test]
fn one_name_from_two_sources() {
    let mut attack = Attack::new();
    attack.layout.image("bad", &[LayerBlob::gzip(&hello())]);
    let bad = attack.layout.arg("localhost/same:1", "bad");
    let good = attack.layout.arg("localhost/same:1", "good");
    let sync = [
        "sync",
        "--deployment",
        "d",
        "--image",
        &bad,
        "--image",
        &good,
    ];
    attack.host.fails(&sync, 1, &["localhost/same:1"]);
    attack.nothing_came_of_it();
}

/// An image may claim a DiffID that is stored already: it then gets the stored
/// layer, which is verified content of that DiffID, and its own blob, whatever
/// it holds, is not even opened.
#[test]
fn a_config_that_claims_a_stored_layer_gets_that_layer() {
    let mut attack = Attack::new();
    let genuine = tar(&[("bin/login", &content(1, 4000))]);
    let evil = tar(&[("bin/login", &content(66, 4000))]);
    let genuine_set = attack.syncs(&[LayerBlob::gzip(&genuine)]);
    let objects = attack.host.objects();
    let lying = LayerBlob {
        diff_id: sha256(&genuine),
        ..LayerBlob::gzip(&evil)
    };
    attack.layout.image("evil", &[lying]);
    let arg = attack.layout.arg("localhost/bad:1", "evil");
    let synced = attack
        .host
        .ok(&["sync", "--deployment", "e", "--image", &arg]);
    assert_eq!(synced["layers_imported"], 0);
    assert_ne!(
        synced["set_image"], genuine_set["set_image"],
        "another manifest"
    );
    attack.host.gc();
    let evil = content(66, 4000);
    for object in attack.host.objects().difference(&objects) {
        let bytes = fs::read(object).unwrap();
        assert!(!bytes.windows(4000).any(|window| window == evil));
    }
}

/// What was imported before the failure is kept, by refs of its own.
#[test]
fn what_was_whole_before_the_failure_is_kept() {
    let mut attack = Attack::new();
    let whole = LayerBlob::gzip(&hello());
    let broken = LayerBlob::plain(&hello()[..30_000]);
    attack.layout.image("bad", &[whole, broken]);
    let arg = attack.arg();
    let sync = ["sync", "--deployment", "d", "--image", &arg];
    attack.host.fails(&sync, 1, &["localhost/bad:1", "layer 1"]);
    attack.host.gc();
    assert_eq!(attack.host.partial().len(), 1, "the first layer");
    attack.nothing_came_of_it();
}

#[test]
fn a_set_stays_when_its_next_version_fails() {
    let mut attack = Attack::new();
    let first = attack.syncs(&[LayerBlob::gzip(&hello())]);
    attack.layer(LayerBlob::plain(&hello()[..30_000]));
    let path = attack.layout.path.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    // `bad` now is the second of that name.
    index["manifests"].as_array_mut().unwrap().remove(1);
    fs::write(&path, index.to_string()).unwrap();
    let arg = attack.arg();
    attack.host.fails(
        &["sync", "--deployment", "d", "--image", &arg],
        1,
        &["layer 0"],
    );
    let status = attack.host.ok(&["status", "--deployment", "d"]);
    assert_eq!(
        status["deployments"][0]["set"]["set_image"], first["set_image"],
        "{status}"
    );
    assert_eq!(attack.host.gc(), 0);
}

#[test]
fn a_header_with_a_wrong_checksum() {
    let mut tar = hello();
    tar[20] ^= 1;
    let mut attack = Attack::new();
    attack
        .layer(LayerBlob::plain(&tar))
        .fails(1, &["localhost/bad:1", "layer 0", "byte 0", "checksum"]);
}

#[test]
fn names_that_no_filesystem_takes() {
    let long = "n".repeat(256);
    let deep = "d/".repeat(1500);
    let far = "directory/".repeat(410);
    for (name, words) in [
        (long.as_str(), "255 bytes"),
        (far.as_str(), "4095 bytes"),
        (deep.as_str(), "1024 directories"),
    ] {
        let mut attack = Attack::new();
        let tar = RawTar::default()
            .pax(&[("path", name.as_bytes())])
            .entry("short", b'0', 0);
        attack.tar(tar).fails(1, &["localhost/bad:1", words]);
    }
    let mut attack = Attack::new();
    let target = "t".repeat(4096);
    let tar = RawTar::default()
        .pax(&[("linkpath", target.as_bytes())])
        .entry("link", b'2', 0);
    attack
        .tar(tar)
        .fails(1, &["localhost/bad:1", "/link", "4095 bytes"]);
}

#[test]
fn the_longest_names_there_may_be() {
    let component = "n".repeat(255);
    let deep = "d/".repeat(1024);
    let far = format!("{}/f", vec![component.as_str(); 15].join("/"));
    let target = "t".repeat(4095);
    let tar = RawTar::default()
        .pax(&[("path", "m".repeat(255).as_bytes())])
        .entry("short", b'0', 0)
        .pax(&[("path", deep.as_bytes())])
        .entry("short", b'5', 0)
        .pax(&[("path", far.as_bytes())])
        .entry("short", b'0', 0)
        .pax(&[("linkpath", target.as_bytes())])
        .entry("link", b'2', 0);
    Attack::new().syncs(&[LayerBlob::plain(&tar.done())]);
}

fn xattr<'a>(name: &'a str, value: &'a [u8]) -> (&'a str, &'a [u8]) {
    (name, value)
}

#[test]
fn extended_attributes_that_no_inode_holds() {
    let fails = |records: &[(String, Vec<u8>)], words: &str| {
        let records: Vec<_> = records.iter().map(|(n, v)| xattr(n, v)).collect();
        // Twice, so that they are shared in the set image.
        let tar = RawTar::default()
            .pax(&records)
            .entry("one", b'0', 0)
            .pax(&records)
            .entry("two", b'0', 0);
        let mut attack = Attack::new();
        attack
            .tar(tar)
            .fails(1, &["localhost/bad:1", "/one", words]);
    };
    let named = |name: String| format!("SCHILY.xattr.user.{name}");
    fails(&[(named("big".into()), noise(65_537))], "user.big");
    fails(&[(named("big".into()), noise(65_536))], "user.big");
    fails(&[(named("n".repeat(251)), noise(1))], "255 bytes");
    let many: Vec<_> = (0..300).map(|n| (named(n.to_string()), noise(9))).collect();
    fails(&many, "300 extended attributes");
    let large: Vec<_> = (0..5)
        .map(|n| (named(n.to_string()), noise(60_000)))
        .collect();
    fails(&large, "extended attributes");
}

#[test]
fn the_largest_extended_attributes_there_may_be() {
    let many: Vec<_> = (0..250)
        .map(|n| (format!("SCHILY.xattr.user.{n}"), noise(9)))
        .collect();
    let many: Vec<_> = many.iter().map(|(n, v)| xattr(n, v)).collect();
    let big = noise(65_535);
    let big = [
        xattr("SCHILY.xattr.user.a", &big),
        xattr("SCHILY.xattr.user.b", &big),
        xattr("SCHILY.xattr.trusted.c", &big),
    ];
    let tar = RawTar::default()
        .pax(&many)
        .entry("one", b'0', 0)
        .pax(&many)
        .entry("two", b'0', 0)
        .pax(&big)
        .entry("three", b'5', 0);
    Attack::new().syncs(&[LayerBlob::plain(&tar.done())]);
}

/// Attributes add up where an entry comes again.
#[test]
fn extended_attributes_that_grow_over_the_limit() {
    let value = noise(60_000);
    let mut tar = RawTar::default();
    for name in ["a", "b", "c", "d", "e"] {
        let name = format!("SCHILY.xattr.user.{name}");
        tar = tar.pax(&[xattr(&name, &value)]).entry("again/", b'5', 0);
    }
    let mut attack = Attack::new();
    attack
        .tar(tar)
        .fails(1, &["localhost/bad:1", "/again", "extended attributes"]);
}

#[test]
fn device_numbers_that_linux_does_not_have() {
    for (major, minor) in [(4096, 0), (1, 1 << 20), (2_000_000, 7)] {
        let mut attack = Attack::new();
        let tar = RawTar::default().device("dev", b'4', major, minor);
        attack
            .tar(tar)
            .fails(1, &["localhost/bad:1", "dev", "device number"]);
    }
    let tar = RawTar::default()
        .device("last", b'3', 4095, (1 << 20) - 1)
        .done();
    Attack::new().syncs(&[LayerBlob::plain(&tar)]);
}

#[test]
fn owners_and_times_at_their_ends() {
    let mut tar = RawTar::default();
    for (at, records) in [
        [
            ("uid", "4294967294"),
            ("gid", "65536"),
            ("mtime", "9223372036854775807"),
        ],
        [
            ("uid", "65535"),
            ("gid", "65535"),
            ("mtime", "-9223372036854775808"),
        ],
        [
            ("uid", "0"),
            ("gid", "0"),
            ("mtime", "253402300800.999999999"),
        ],
    ]
    .into_iter()
    .enumerate()
    {
        let records = records.map(|(name, value)| (name, value.as_bytes()));
        tar = tar.pax(&records).entry(&format!("f{at}"), b'0', 0);
        tar = tar.pax(&records).entry(&format!("l{at}"), b'2', 0);
    }
    Attack::new().syncs(&[LayerBlob::plain(&tar.done())]);
    for (key, value) in [("uid", "4294967296"), ("gid", "-1"), ("mtime", "9e99")] {
        let mut attack = Attack::new();
        let tar = RawTar::default()
            .pax(&[(key, value.as_bytes())])
            .entry("f", b'0', 0);
        attack.tar(tar).fails(1, &["localhost/bad:1", "layer 0"]);
    }
}

#[test]
fn seventy_thousand_names_of_one_file() {
    let mut tar = RawTar::default().file("first", &noise(100));
    for number in 0..70_000 {
        tar = tar.link(&format!("d/{number}"), b'1', "first");
    }
    Attack::new().syncs(&[LayerBlob::gzip(&tar.done())]);
}

/// Names that climb out stay inside, and so do symlinks and what goes through
/// them: nothing outside the repository is touched by any of it.
#[test]
fn names_that_climb_out_stay_inside() {
    let victim = Host::new();
    let outside = victim.path("victim").display().to_string();
    let up = "../".repeat(40);
    let tar = RawTar::default()
        .file("../../../etc/up", &noise(100))
        .file(&format!("{outside}/absolute"), &noise(200))
        .link("out", b'2', "/")
        .file(&format!("out{outside}/through"), &noise(300))
        .link("climb", b'2', &up)
        .file(&format!("climb{outside}/climbed"), &noise(400))
        .link("linked", b'1', &format!("{up}etc/up"));
    let mut attack = Attack::new();
    let layer = LayerBlob::plain(&tar.done());
    let diff_id = layer.diff_id.parse().unwrap();
    attack.syncs(&[layer]);
    assert!(!victim.path("victim").exists());
    let view = boundstore::repo::RepoView::open(&attack.host.path("repo")).unwrap();
    let stream = view.layer_stream(&diff_id).unwrap().unwrap();
    let entries = boundstore::import::layer_entries(&view, &diff_id, &stream).unwrap();
    let tree = boundstore::squash::RootfsChain::default()
        .push(entries)
        .unwrap();
    for name in ["absolute", "through", "climbed"] {
        let path = format!("{outside}/{name}");
        let parts = path.split('/').filter(|part| !part.is_empty());
        assert!(tree.lookup(parts.map(str::as_bytes)).is_some(), "{name}");
    }
    for path in [["etc", "up"].as_slice(), &["linked"]] {
        assert!(
            tree.lookup(path.iter().map(|part| part.as_bytes()))
                .is_some()
        );
    }
}

#[test]
fn a_tar_bomb_is_stopped_early() {
    const GIB: usize = 1 << 30;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let head = RawTar::default().header_only("zeros", b'0', GIB as u64);
    std::io::Write::write_all(&mut packed, &head).unwrap();
    for _ in 0..GIB >> 20 {
        std::io::Write::write_all(&mut packed, &[0; 1 << 20]).unwrap();
    }
    let layer = LayerBlob {
        blob: packed.finish().unwrap(),
        media_type: LAYER_GZIP,
        diff_id: sha256(b"never reached"),
    };
    let mut attack = Attack::new();
    let objects = attack.host.objects();
    attack.layer(layer);
    let arg = attack.arg();
    let sync = [
        "sync",
        "--deployment",
        "d",
        "--image",
        &arg,
        "--max-size",
        "67108864",
    ];
    attack.host.fails(
        &sync,
        1,
        &["localhost/bad:1", "67108864 bytes", "--max-size"],
    );
    for object in attack.host.objects().difference(&objects) {
        let size = object.metadata().unwrap().len();
        assert!(size < 4 << 20, "{} has {size} bytes", object.display());
    }
    attack.nothing_came_of_it();
}

#[test]
fn a_sparse_bomb_is_stopped_early() {
    let size = (1_u64 << 50).to_string();
    let records = [
        ("GNU.sparse.major", b"0".as_slice()),
        ("GNU.sparse.minor", b"1"),
        ("GNU.sparse.name", b"huge"),
        ("GNU.sparse.size", size.as_bytes()),
        ("GNU.sparse.numblocks", b"0"),
        ("GNU.sparse.map", b""),
    ];
    let mut attack = Attack::new();
    attack
        .tar(RawTar::default().pax(&records).entry("huge", b'0', 0))
        .fails(1, &["localhost/bad:1", "--max-size"]);

    // Many holes that each are small enough.
    let size = (50_u64 << 30).to_string();
    let records = [
        ("GNU.sparse.major", b"0".as_slice()),
        ("GNU.sparse.minor", b"1"),
        ("GNU.sparse.size", size.as_bytes()),
        ("GNU.sparse.numblocks", b"0"),
        ("GNU.sparse.map", b""),
    ];
    let mut attack = Attack::new();
    attack
        .tar(
            RawTar::default()
                .pax(&records)
                .entry("a", b'0', 0)
                .pax(&records)
                .entry("b", b'0', 0),
        )
        .fails_with(
            &["--max-size", "60000000"],
            1,
            &["localhost/bad:1", "--max-size"],
        );
}

/// An entry's header says more than its layer can hold.
#[test]
fn a_file_larger_than_its_tar() {
    for size in [1 << 20, 1_u64 << 40, (1 << 62) + 5] {
        let tar = RawTar::default().header_only("liar", b'0', size);
        let mut attack = Attack::new();
        attack
            .layer(LayerBlob::plain(&tar))
            .fails(1, &["localhost/bad:1", "layer 0", "cut off"]);
    }
}

fn one_directory(entries: u64) -> LayerBlob {
    let mut tar = RawTar::default();
    for number in 0..entries {
        tar = tar.entry(&format!("d/{number:07}"), b'0', 0);
    }
    LayerBlob::gzip(&tar.done())
}

#[test]
fn a_million_entries_in_one_directory() {
    Attack::new().syncs(&[one_directory(1_000_000)]);
}

#[test]
fn more_entries_than_a_layer_may_have() {
    let mut attack = Attack::new();
    attack
        .layer(one_directory(1_000_001))
        .fails(1, &["localhost/bad:1", "1000000 entries", "--max-entries"]);
    let mut attack = Attack::new();
    attack.layer(one_directory(11)).fails_with(
        &["--max-entries", "10"],
        1,
        &["10 entries", "--max-entries"],
    );
}

/// Each inode stays within EROFS's limits; together they would fill the memory.
#[test]
fn more_metadata_than_entries_may_have() {
    let value = vec![b'x'; 60_000];
    let mut tar = RawTar::default();
    for file in 0..20 {
        tar = tar
            .pax(&[("SCHILY.xattr.user.large", &value)])
            .file(&format!("file-{file}"), b"");
    }
    let layer = LayerBlob::gzip(&tar.done());
    let mut attack = Attack::new();
    attack.layer(layer.clone()).fails_with(
        &["--max-entries", "1000"],
        1,
        &["localhost/bad:1", "1024000 bytes", "--max-entries"],
    );
    let arg = attack.arg();
    let enough = ["--max-entries", "2000", "--image", &arg];
    let sync = [&["sync", "--deployment", "d"], &enough[..]].concat();
    attack.host.ok(&sync);
}

#[test]
fn a_layer_that_is_no_tar() {
    let noise = noise(5000);
    let layer = LayerBlob {
        media_type: LAYER,
        ..LayerBlob::plain(&noise)
    };
    let mut attack = Attack::new();
    attack
        .layer(layer)
        .fails(1, &["localhost/bad:1", "layer 0", "no tar"]);
}
