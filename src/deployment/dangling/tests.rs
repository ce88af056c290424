use std::{fs, path::Path, time::Duration};

use serde_json::{Value, json};

use super::*;
use crate::{
    name::{BlobDigest, LayerId, ManifestDigest},
    repo::SetImageRecord,
};

/// A host whose primary store has these lists.
struct Host(tempfile::TempDir);

impl Host {
    fn new(lists: &[(&str, Value)]) -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        for (kind, list) in lists {
            let path = format!("var/lib/containers/storage/overlay-{kind}/{kind}.json");
            host.write(&path, &list.to_string());
        }
        host
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self) -> Result<PrimaryStore, PrimaryError> {
        PrimaryStore::read(self.0.path(), None, Duration::ZERO)
    }
}

fn diff_id(name: &str) -> DiffId {
    BlobDigest::of(name.as_bytes()).cast()
}

/// The image called `name` of layers called so.
fn image(name: &str, layers: &[&str]) -> SetImageRecord {
    SetImageRecord {
        name: format!("localhost/{name}:1").parse().unwrap(),
        manifest_digest: ManifestDigest::of(name.as_bytes()),
        index_digest: None,
        config_digest: BlobDigest::of(name.as_bytes()).cast(),
        layers: layers.iter().map(|name| diff_id(name)).collect(),
        bytes: 1,
        verdict: "ok".into(),
    }
}

fn top(image: &SetImageRecord) -> String {
    LayerId::chain(&image.layers).last().unwrap().hex()
}

fn content(images: &[&SetImageRecord]) -> StoreContent {
    let mut content = StoreContent::default();
    for image in images {
        content.add(&image.config_digest, &image.layers);
    }
    content
}

/// A container and a name of `v1`, an image built on it, one of podman's own.
fn users_of(v1: &SetImageRecord) -> Host {
    let id = v1.config_digest.hex();
    Host::new(&[
        (
            "layers",
            json!([
                {"id": "own"},
                {"id": "rw", "parent": top(v1)},
                {"id": "built", "parent": top(v1)},
                {"id": "of-own", "parent": "own"},
            ]),
        ),
        (
            "images",
            json!([
                {"id": id, "names": ["localhost/mine:1"], "layer": top(v1)},
                {"id": "b", "names": null, "layer": "built", "big-data-names": ["manifest"]},
                {"id": "o", "names": [], "layer": "own", "big-data-names": ["manifest"]},
            ]),
        ),
        (
            "containers",
            json!([
                {"id": "c1", "names": ["c1"], "image": id, "layer": "rw"},
                {"id": "c2", "names": [], "image": "o", "layer": "of-own"},
                {"id": "c3", "names": [], "image": "", "layer": "gone"},
            ]),
        ),
    ])
}

fn ids(found: &[Dangling]) -> Vec<&str> {
    found.iter().map(|user| user.id.as_str()).collect()
}

#[test]
fn users_dangle_where_the_set_lacks_what_they_stand_on() {
    let (v1, v2) = (image("v1", &["a", "b"]), image("v2", &["a", "c"]));
    let host = users_of(&v1);
    let primary = host.read().unwrap();
    assert_eq!(dangling(&primary, &content(&[&v1, &v2])), []);

    let found = dangling(&primary, &content(&[&v2]));
    let id = v1.config_digest.hex();
    assert_eq!(ids(&found), ["c1", &id, "b"]);
    assert!(
        found
            .iter()
            .all(|user| user.layer == Some(top(&v1)) && user.breaks())
    );
    assert_eq!(found[0].image, Some(id.clone()));

    // Only the config is another: the layers are there, v1's documents not.
    let same_layers = image("v3", &["a", "b"]);
    let found = dangling(&primary, &content(&[&same_layers]));
    assert_eq!(ids(&found), ["c1", &id]);
    assert_eq!(
        found.iter().map(Dangling::breaks).collect::<Vec<_>>(),
        [false, true],
        "a container starts without its image's documents"
    );
}

#[test]
fn other_stores_count_and_ours_does_not() {
    let v1 = image("v1", &["a"]);
    let host = users_of(&v1);
    let conf = "[storage]\n[storage.options]\nadditionalimagestores = \
                [\"/srv/store\", \"/usr/lib/containers/storage\", \"/absent\"]\n";
    host.write("usr/share/containers/storage.conf", conf);
    let layers = json!([{"id": top(&v1)}]).to_string();
    let images = json!([{"id": v1.config_digest.hex()}]).to_string();
    let fill = |store: &str| {
        host.write(&format!("{store}/overlay-layers/layers.json"), &layers);
        host.write(&format!("{store}/overlay-images/images.json"), &images);
    };
    fill("usr/lib/containers/storage");
    let found = dangling(&host.read().unwrap(), &content(&[]));
    assert_eq!(found.len(), 3, "{found:?}");
    fill("srv/store");
    assert_eq!(dangling(&host.read().unwrap(), &content(&[])), []);
    // The host's own file is read instead, not besides.
    host.write("etc/containers/storage.conf", "[storage]\n");
    assert_eq!(dangling(&host.read().unwrap(), &content(&[])).len(), 3);
    host.write(
        "etc/containers/storage.conf",
        "[storage]\ngraphroot = \"/elsewhere\"\n",
    );
    assert_eq!(dangling(&host.read().unwrap(), &content(&[])), []);
}

#[test]
fn volatile_lists_count_and_volatile_containers_do_not() {
    let v1 = image("v1", &["a"]);
    let host = Host::new(&[("layers", json!([]))]);
    let store = "var/lib/containers/storage";
    let layer = json!([{"id": "rw", "parent": top(&v1)}]).to_string();
    host.write(
        &format!("{store}/overlay-layers/volatile-layers.json"),
        &layer,
    );
    let container = json!([
        {"id": "c", "names": null, "layer": "rw", "flags": {"MountLabel": ""}},
        {"id": "with-rm", "layer": "rw", "flags": {"Volatile": true}},
    ])
    .to_string();
    host.write(
        &format!("{store}/overlay-containers/volatile-containers.json"),
        &container,
    );
    let found = dangling(&host.read().unwrap(), &content(&[]));
    assert_eq!(ids(&found), ["c"]);
}

#[test]
fn what_cannot_be_read_is_an_error_and_what_is_absent_none() {
    let empty = Host::new(&[]);
    assert_eq!(dangling(&empty.read().unwrap(), &content(&[])), []);
    let missing = PrimaryStore::read(Path::new("/nonexistent"), None, Duration::ZERO);
    assert!(matches!(missing, Err(PrimaryError::Path(_))));

    for (kind, list) in [
        ("layers", json!({})),
        ("images", json!([{"id": 1}])),
        ("containers", json!([{"names": []}])),
    ] {
        let host = Host::new(&[("layers", json!([])), (kind, list)]);
        let error = crate::error::with_causes(&host.read().unwrap_err());
        assert!(error.contains(&format!("{kind}.json")), "{error}");
    }
    let host = Host::new(&[("layers", json!([]))]);
    host.write("etc/containers/storage.conf", "[storage\n");
    assert!(matches!(host.read(), Err(PrimaryError::Conf(_))));

    // Parents in a circle have an end all the same.
    let host = Host::new(&[
        (
            "layers",
            json!([{"id": "x", "parent": "y"}, {"id": "y", "parent": "x"}]),
        ),
        ("containers", json!([{"id": "c", "layer": "x"}])),
    ]);
    assert_eq!(dangling(&host.read().unwrap(), &content(&[])), []);
}

#[test]
fn keeps_each_image_once_and_the_own_one_first() {
    let v1 = image("v1", &["a", "b"]);
    let bigger = image("bigger", &["a", "b", "c"]);
    let primary = users_of(&v1).read().unwrap();
    let users = dangling(&primary, &content(&[]));
    let kept = |held: &[SetImageRecord]| {
        let kept = keep_referenced(&users, held, |_| true);
        kept.iter()
            .map(|it| it.name.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(kept(&[bigger.clone(), v1.clone()]), ["localhost/v1:1"]);
    assert_eq!(kept(&[v1.clone(), bigger.clone()]), ["localhost/v1:1"]);
    // The container and the built image can stand on any that has the layer.
    assert_eq!(kept(std::slice::from_ref(&bigger)), ["localhost/bigger:1"]);
    assert_eq!(kept(&[image("other", &["a"])]), [""; 0]);
    let damaged = keep_referenced(&users, std::slice::from_ref(&v1), |_| false);
    assert_eq!(damaged, []);
    let all = content(&[&kept_of(&users, &v1)]);
    assert_eq!(dangling(&primary, &all), [], "nobody dangles then");
}

fn kept_of(users: &[Dangling], held: &SetImageRecord) -> SetImageRecord {
    keep_referenced(users, std::slice::from_ref(held), |_| true).remove(0)
}

#[test]
fn the_condition_says_how_to_mend() {
    let v1 = image("v1", &["a"]);
    let primary = users_of(&v1).read();
    let set = SetRecord {
        format: 1,
        set_image: "0".repeat(64).parse().unwrap(),
        set_image_bytes: 0,
        images: Vec::new(),
        kept: vec![v1.clone()],
    };
    let id = "d".parse().unwrap();
    let condition = dangling_condition(&primary, &id, &set);
    assert!(!condition.status, "{condition:?}");
    let set = SetRecord {
        kept: Vec::new(),
        ..set
    };
    let condition = dangling_condition(&primary, &id, &set);
    assert!(condition.status && condition.is_bad(), "{condition:?}");
    let short = &v1.config_digest.hex()[..12];
    let expected = format!(
        "in /var/lib/containers/storage, container c1, image localhost/mine:1, image b stand on \
         layers that the set has not: run `podman rm c1 && podman image rm {short} b`, or \
         sync d with `--keep-layers referenced`"
    );
    assert_eq!(condition.message, expected);
}
