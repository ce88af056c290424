//! Two callers read documents: what resolving takes, the validator takes.

use proptest::{prelude::*, sample::Index};
use serde_json::{Value, json};

use super::{
    StoreBlob, StoreImage,
    fixture::{image, layer, pinned_by_index},
    lay_out,
};
use crate::{
    document::Compression,
    name::{IndexDigest, ManifestDigest},
    source::{Documents, ResolvedImage},
};

/// One change to one member of one object of a document.
#[derive(Debug, Clone)]
enum Change {
    Spell,
    Remove,
    Replace(Value),
    Add(&'static str, Value),
    SpellTwice(Value),
}

fn change() -> impl Strategy<Value = (Index, Index, Change)> {
    let value = proptest::sample::select(vec![
        json!(null),
        json!(1),
        json!("x"),
        json!([]),
        json!({}),
        json!([null]),
        json!({"a": "b"}),
        json!("2024-01-02T03:04:05Z"),
        json!("linux"),
        json!("application/vnd.oci.image.config.v1+json"),
    ]);
    let name = proptest::sample::select(vec![
        "created",
        "Created",
        "os",
        "variant",
        "os.features",
        "config",
        "rootfs",
        "history",
        "layers",
        "manifests",
        "mediaType",
        "schemaVersion",
        "artifactType",
        "subject",
        "data",
        "platform",
        "annotations",
        "urls",
        "fsLayers",
        "Labels",
        "Cmd",
        "size",
        "unknown",
    ]);
    let change = prop_oneof![
        4 => Just(Change::Spell),
        1 => Just(Change::Remove),
        2 => value.clone().prop_map(Change::Replace),
        3 => (name, value.clone()).prop_map(|(name, value)| Change::Add(name, value)),
        1 => value.prop_map(Change::SpellTwice),
    ];
    (any::<Index>(), any::<Index>(), change)
}

/// The places of all objects.
fn objects(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            found.push(at.clone());
            for (key, value) in members {
                objects(value, format!("{at}/{}", key.replace('/', "~1")), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                objects(value, format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn changed(mut document: Value, changes: &[(Index, Index, Change)]) -> Vec<u8> {
    for (object, member, change) in changes {
        let mut places = Vec::new();
        objects(&document, String::new(), &mut places);
        let place: &String = object.get(&places);
        let Some(Value::Object(members)) = document.pointer_mut(place) else {
            panic!("an object");
        };
        let keys: Vec<String> = members.keys().cloned().collect();
        if keys.is_empty() {
            continue;
        }
        let key = member.get(&keys);
        match change {
            Change::Add(name, value) => drop(members.insert((*name).into(), value.clone())),
            Change::Replace(value) => drop(members.insert(key.clone(), value.clone())),
            Change::Remove => drop(members.remove(key)),
            Change::SpellTwice(value) => drop(members.insert(key.to_uppercase(), value.clone())),
            Change::Spell => {
                let value = members.remove(key).unwrap();
                members.insert(key.to_uppercase(), value);
            }
        }
    }
    document.to_string().into_bytes()
}

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_resolves_is_valid(
        of_config in proptest::collection::vec(change(), 0..3),
        of_manifest in proptest::collection::vec(change(), 0..3),
        of_index in proptest::collection::vec(change(), 0..3),
    ) {
        let (base, _) = layer(None, &[("f", Some(b"f"))]);
        let (top, _) = layer(Some(&base), &[("g", Some(b"g"))]);
        let layers = [base, top];
        let good = pinned_by_index(&image("localhost/a:1", &layers, json!({
            "created": "2024-01-02T03:04:05Z", "config": {"Labels": {"a": "b"}, "Cmd": ["x"]},
        })));
        let config = changed(parsed(&good.config), &of_config);
        let mut manifest = parsed(&good.manifest);
        manifest["config"]["digest"] = json!(ManifestDigest::of(&config).to_string());
        manifest["config"]["size"] = json!(config.len());
        let manifest = changed(manifest, &of_manifest);
        let mut index = parsed(&good.index.as_ref().unwrap().1);
        index["manifests"][0]["digest"] = json!(ManifestDigest::of(&manifest).to_string());
        index["manifests"][0]["size"] = json!(manifest.len());
        let index = changed(index, &of_index);
        let documents = Documents {
            name: format!("localhost/a@{}", IndexDigest::of(&index)).parse().unwrap(),
            indexes: vec![index],
            manifest,
            config,
            verdict: String::new(),
        };
        let Ok(image) = ResolvedImage::new(documents, &"linux/amd64".parse().unwrap(), None) else {
            return Ok(());
        };
        // No change makes up a layer.
        let layers = image.layers.iter().zip(layers).map(|(described, mut layer)| {
            assert_eq!(described.diff_id, layer.diff_id);
            layer.blob = StoreBlob {
                digest: described.blob_digest,
                size: described.blob_size,
                compression: match described.compression {
                    Compression::None => 0,
                    Compression::Gzip => 2,
                    Compression::Zstd => 4,
                },
            };
            layer
        });
        let stored = StoreImage {
            name: image.name,
            manifest_digest: image.manifest_digest,
            manifest: image.manifest.into(),
            index: image.index.map(|(digest, bytes)| (digest, bytes.into())),
            config_digest: image.config_digest,
            config: image.config.into(),
            layers: layers.collect(),
        };
        if let Err(error) = lay_out(&[stored]).unwrap().validate() {
            prop_assert!(false, "{}", error);
        }
    }
}
