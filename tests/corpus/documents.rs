//! Manifests, configs and indexes that say what they should not.

use serde_json::{Value, json};

use crate::{Case, Stage, layout::sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The bytes of the manifest of a good image, as `change` leaves them.
fn manifest(stage: &mut Stage, change: impl FnOnce(String) -> Vec<u8>) -> String {
    stage.lying(|_, _| {});
    let good = last_document(stage);
    stage.layout.manifest("evil-manifest", &change(good));
    format!("oci:{}:evil-manifest", stage.layout.path.display())
}

/// The same of its config.
fn config(stage: &mut Stage, change: impl FnOnce(String) -> Vec<u8>) -> String {
    stage.lying(|_, _| {});
    let mut manifest: Value = serde_json::from_str(&last_document(stage)).unwrap();
    let digest = manifest["config"]["digest"].as_str().unwrap().to_owned();
    let good = std::fs::read_to_string(stage.layout.blob_path(&digest)).unwrap();
    let evil = change(good);
    manifest["config"]["digest"] = stage.layout.blob(&evil).into();
    manifest["config"]["size"] = evil.len().into();
    let text = manifest.to_string();
    stage.layout.manifest("evil-config", text.as_bytes());
    format!("oci:{}:evil-config", stage.layout.path.display())
}

fn last_document(stage: &Stage) -> String {
    let index = std::fs::read(stage.layout.path.join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let last = index["manifests"].as_array().unwrap().last().unwrap();
    let path = stage.layout.blob_path(last["digest"].as_str().unwrap());
    std::fs::read_to_string(path).unwrap()
}

/// Puts members in front of all others of an object.
fn with(object: &str, members: &str) -> Vec<u8> {
    format!("{{{members},{}", &object[1..]).into_bytes()
}

/// An index of these entries, as the image.
fn index(stage: &mut Stage, entries: Value) -> String {
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    stage.layout.manifest("evil", index.to_string().as_bytes());
    stage.source()
}

/// An entry for a good image of the layout.
fn entry(stage: &mut Stage) -> Value {
    stage.lying(|_, _| {});
    let text = last_document(stage);
    std::fs::remove_file(stage.layout.path.join("index.json")).unwrap();
    stage.layout = crate::Layout::new(&stage.layout.path);
    json!({ "mediaType": MANIFEST, "digest": sha256(text.as_bytes()), "size": text.len(),
        "platform": { "os": "linux", "architecture": "amd64" } })
}

/// Documents.
pub const CASES: &[Case] = &[
    // Any document.
    ("json-key-twice", |s| {
        manifest(s, |good| with(&good, r#""layers":[]"#))
    }),
    ("json-key-twice-in-other-case", |s| {
        manifest(s, |good| with(&good, r#""LAYERS":[]"#))
    }),
    ("json-key-with-long-s", |s| {
        manifest(s, |good| with(&good, r#""layer\u017f":[]"#))
    }),
    ("json-deep", |s| {
        manifest(s, |good| {
            with(
                &good,
                &format!(r#""x":{}{}"#, "[".repeat(50_000), "]".repeat(50_000)),
            )
        })
    }),
    ("json-nan", |s| {
        manifest(s, |good| with(&good, r#""x":NaN"#))
    }),
    ("json-huge-number", |s| {
        manifest(s, |good| with(&good, r#""x":1e999999"#))
    }),
    ("json-half-a-surrogate", |s| {
        manifest(s, |good| with(&good, r#""x":"\ud800""#))
    }),
    ("json-not-utf8", |s| {
        manifest(s, |good| {
            [&good.as_bytes()[..1], b"\"\xff\":1,", &good.as_bytes()[1..]].concat()
        })
    }),
    ("json-byte-order-mark", |s| {
        manifest(s, |good| [b"\xef\xbb\xbf", good.as_bytes()].concat())
    }),
    ("json-utf16", |s| {
        manifest(s, |good| {
            good.encode_utf16().flat_map(u16::to_le_bytes).collect()
        })
    }),
    ("json-two-documents", |s| {
        manifest(s, |good| format!("{good}{good}").into_bytes())
    }),
    ("json-comment", |s| {
        manifest(s, |good| format!("/* hi */{good}").into_bytes())
    }),
    ("json-null", |s| manifest(s, |_| b"null".to_vec())),
    ("json-list", |s| {
        manifest(s, |good| format!("[{good}]").into_bytes())
    }),
    ("json-empty", |s| manifest(s, |_| Vec::new())),
    ("json-cut-off", |s| {
        manifest(s, |good| good.as_bytes()[..good.len() / 2].to_vec())
    }),
    // Manifests.
    ("manifest-schema-1", |s| {
        s.lying(|m, _| m["schemaVersion"] = 1.into())
    }),
    ("manifest-schema-3", |s| {
        s.lying(|m, _| m["schemaVersion"] = 3.into())
    }),
    ("manifest-artifact", |s| {
        s.lying(|m, _| m["artifactType"] = "application/x-sbom".into())
    }),
    ("manifest-empty-config", |s| {
        s.lying(|m, _| {
            m["config"] = json!({ "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": sha256(b"{}"), "size": 2 });
        })
    }),
    ("manifest-and-index-at-once", |s| {
        s.lying(|m, _| m["manifests"] = json!([]))
    }),
    ("manifest-called-index", |s| {
        s.lying(|m, _| m["mediaType"] = INDEX.into())
    }),
    ("manifest-huge-annotation", |s| {
        s.lying(|m, _| m["annotations"] = json!({ "x": "y".repeat(3 << 20) }))
    }),
    ("manifest-annotation-no-text", |s| {
        s.lying(|m, _| m["annotations"] = json!({ "x": 1 }))
    }),
    ("manifest-layers-null", |s| {
        s.lying(|m, _| m["layers"] = Value::Null)
    }),
    ("manifest-without-layers", |s| {
        s.lying(|m, c| {
            m["layers"] = json!([]);
            c["rootfs"]["diff_ids"] = json!([]);
        })
    }),
    ("layer-foreign", |s| {
        s.lying(|m, _| {
            let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
            m["layers"][0]["mediaType"] = foreign.into();
            m["layers"][0]["urls"] = json!(["http://127.0.0.1:9/layer"]);
        })
    }),
    ("layer-with-urls", |s| {
        s.lying(|m, _| m["layers"][0]["urls"] = json!(["file:///etc/shadow"]))
    }),
    ("layer-encrypted", |s| {
        s.lying(|m, _| {
            m["layers"][0]["mediaType"] =
                "application/vnd.oci.image.layer.v1.tar+gzip+encrypted".into();
        })
    }),
    ("layer-of-unknown-kind", |s| {
        s.lying(|m, _| m["layers"][0]["mediaType"] = "text/html".into())
    }),
    ("layer-kind-empty", |s| {
        s.lying(|m, _| m["layers"][0]["mediaType"] = "".into())
    }),
    ("layer-size-float", |s| {
        s.lying(|m, _| m["layers"][0]["size"] = json!(12.0))
    }),
    ("layer-size-overflows", |s| {
        manifest(s, |good| {
            let at = good.rfind("\"size\":").unwrap() + 7;
            format!("{}18446744073709551616}}]}}", &good[..at]).into_bytes()
        })
    }),
    ("layer-size-negative", |s| {
        s.lying(|m, _| m["layers"][0]["size"] = (-1).into())
    }),
    ("layer-data-inline", |s| {
        s.lying(|m, _| m["layers"][0]["data"] = "ZXZpbA==".into())
    }),
    ("digest-uppercase", |s| {
        s.lying(|m, _| {
            let digest = m["layers"][0]["digest"].as_str().unwrap().to_uppercase();
            m["layers"][0]["digest"] = digest.replace("SHA256", "sha256").into();
        })
    }),
    ("digest-short", |s| {
        s.lying(|m, _| m["layers"][0]["digest"] = "sha256:abcd".into())
    }),
    ("digest-climbs-out", |s| {
        s.lying(|m, _| m["layers"][0]["digest"] = "sha256:../../../../etc/shadow".into())
    }),
    ("digest-of-nothing", |s| {
        s.lying(|m, _| m["layers"][0]["digest"] = "".into())
    }),
    ("digest-sha512", |s| {
        s.lying(|m, _| m["layers"][0]["digest"] = format!("sha512:{}", "0".repeat(128)).into())
    }),
    ("digest-of-config-sha512", |s| {
        s.lying(|m, _| m["config"]["digest"] = format!("sha512:{}", "0".repeat(128)).into())
    }),
    ("layer-twice", |s| {
        s.lying(|m, c| {
            let (layer, id) = (m["layers"][0].clone(), c["rootfs"]["diff_ids"][0].clone());
            m["layers"].as_array_mut().unwrap().push(layer);
            c["rootfs"]["diff_ids"].as_array_mut().unwrap().push(id);
        })
    }),
    ("layers-two-hundred", |s| {
        let tar = |at: usize| s.own_tar().file(&format!("f{at}"), b"x");
        let tars: Vec<_> = (0..200).map(tar).collect();
        s.tars(tars)
    }),
    // Configs.
    ("config-key-twice", |s| {
        config(s, |good| with(&good, r#""rootfs":{"diff_ids":[]}"#))
    }),
    ("config-key-twice-in-other-case", |s| {
        config(s, |good| {
            with(&good, r#""RootFS":{"type":"layers","diff_ids":[]}"#)
        })
    }),
    ("config-deep", |s| {
        config(s, |good| {
            with(
                &good,
                &format!(
                    r#""x":{}1{}"#,
                    r#"{"a":"#.repeat(20_000),
                    "}".repeat(20_000)
                ),
            )
        })
    }),
    ("config-without-rootfs", |s| {
        s.lying(|_, c| {
            c.as_object_mut().unwrap().remove("rootfs");
        })
    }),
    ("config-rootfs-of-another-type", |s| {
        s.lying(|_, c| c["rootfs"]["type"] = "base".into())
    }),
    ("config-diff-ids-fewer", |s| {
        s.lying(|_, c| c["rootfs"]["diff_ids"] = json!([]))
    }),
    ("config-diff-ids-more", |s| {
        s.lying(|_, c| {
            let ids = c["rootfs"]["diff_ids"].as_array_mut().unwrap();
            ids.push(sha256(b"another").into());
        })
    }),
    ("config-diff-ids-swapped", |s| {
        let one = crate::LayerBlob::gzip(&s.own_tar().file("one", b"1").done());
        let two = crate::LayerBlob::gzip(&s.own_tar().file("two", b"2").done());
        let (mut first, mut second) = (one.clone(), two.clone());
        (first.diff_id, second.diff_id) = (two.diff_id, one.diff_id);
        s.layers(&[first, second])
    }),
    ("config-diff-id-sha512", |s| {
        s.lying(|_, c| c["rootfs"]["diff_ids"][0] = format!("sha512:{}", "0".repeat(128)).into())
    }),
    ("config-diff-id-uppercase", |s| {
        s.lying(|_, c| {
            let id = c["rootfs"]["diff_ids"][0].as_str().unwrap().to_uppercase();
            c["rootfs"]["diff_ids"][0] = id.replace("SHA256", "sha256").into();
        })
    }),
    ("config-created-nonsense", |s| {
        s.lying(|_, c| c["created"] = "yesterday".into())
    }),
    ("config-created-year-ten-thousand", |s| {
        s.lying(|_, c| c["created"] = "10000-01-01T00:00:00Z".into())
    }),
    ("config-user-a-number", |s| {
        s.lying(|_, c| c["config"] = json!({ "User": 0 }))
    }),
    ("config-env-a-text", |s| {
        s.lying(|_, c| c["config"] = json!({ "Env": "A=b" }))
    }),
    ("config-of-another-platform", |s| {
        s.lying(|_, c| c["architecture"] = "riscv64".into())
    }),
    ("config-of-windows", |s| {
        s.lying(|_, c| c["os"] = "windows".into())
    }),
    ("config-history-longer-than-layers", |s| {
        s.lying(|_, c| c["history"] = json!([{}, {}, {}]))
    }),
    ("config-is-a-manifest", |s| {
        config(s, |_| br#"{"schemaVersion":2,"layers":[]}"#.to_vec())
    }),
    // Indexes.
    ("index-empty", |s| index(s, json!([]))),
    ("index-in-index", |s| {
        let good = entry(s);
        let inner =
            json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [good] }).to_string();
        let digest = s.layout.blob(inner.as_bytes());
        index(
            s,
            json!([{ "mediaType": INDEX, "digest": digest, "size": inner.len() }]),
        )
    }),
    ("index-thirty-deep", |s| {
        let mut inner = entry(s);
        for _ in 0..30 {
            let text =
                json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [inner] }).to_string();
            let digest = s.layout.blob(text.as_bytes());
            inner = json!({ "mediaType": INDEX, "digest": digest, "size": text.len() });
        }
        index(s, json!([inner]))
    }),
    ("index-of-other-platforms", |s| {
        let mut other = entry(s);
        other["platform"]["architecture"] = "s390x".into();
        index(s, json!([other]))
    }),
    ("index-lies-about-the-platform", |s| {
        s.lying(|_, c| c["architecture"] = "s390x".into());
        let text = last_document(s);
        let entry = json!({ "mediaType": MANIFEST, "digest": sha256(text.as_bytes()),
            "size": text.len(), "platform": { "os": "linux", "architecture": "amd64" } });
        let path = s.layout.path.clone();
        s.layout = crate::Layout::new(&path);
        index(s, json!([entry]))
    }),
    ("index-same-platform-twice", |s| {
        let first = entry(s);
        let mut second = first.clone();
        second["digest"] = sha256(b"another").into();
        index(s, json!([first, second]))
    }),
    ("index-names-itself-nowhere", |s| {
        let mut lost = entry(s);
        lost["digest"] = sha256(b"not there").into();
        index(s, json!([lost]))
    }),
    ("index-of-a-hundred-thousand", |s| {
        let good = entry(s);
        let other = json!({ "mediaType": "x/y", "digest": good["digest"], "size": 1 });
        let mut all = vec![other; 30_000];
        all.push(good);
        index(s, json!(all))
    }),
];
