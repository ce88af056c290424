use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    super::document::{
        DOCUMENT_LIMIT_BYTES, document_kind, parse_config, parse_index, parse_manifest,
    },
    *,
};

const HEX: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn manifest() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": HEX, "size": 2},
        "layers": [{"mediaType": format!("{LAYER}+gzip"), "digest": HEX, "size": 3}],
    })
}

fn changed(mut document: Value, pointer: &str, to: Value) -> Vec<u8> {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match document.pointer_mut(parent).unwrap() {
        Value::Object(fields) if to.is_null() => {
            fields.remove(key);
        }
        Value::Object(fields) => {
            fields.insert(key.into(), to);
        }
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = to,
        _ => panic!("{pointer}"),
    }
    serde_json::to_vec(&document).unwrap()
}

#[test]
fn reads_the_layers_of_oci_and_docker() {
    for (media_type, compression) in [
        (LAYER.to_owned(), Compression::None),
        (format!("{LAYER}+gzip"), Compression::Gzip),
        (format!("{LAYER}+zstd"), Compression::Zstd),
        (
            "application/vnd.docker.image.rootfs.diff.tar.gzip".into(),
            Compression::Gzip,
        ),
        (
            "application/vnd.docker.image.rootfs.diff.tar".into(),
            Compression::None,
        ),
    ] {
        let bytes = changed(manifest(), "/layers/0/mediaType", json!(media_type));
        let parsed = parse_manifest(&bytes).unwrap();
        assert_eq!(parsed.layers[0].compression, compression, "{media_type}");
        assert_eq!((parsed.config.size, parsed.layers[0].size), (2, 3));
    }
}

#[test]
fn a_kind_is_told_by_the_fields_where_no_media_type_says() {
    let bytes = changed(manifest(), "/mediaType", Value::Null);
    assert_eq!(document_kind(&bytes).unwrap(), DocumentKind::Manifest);
    parse_manifest(&bytes).unwrap();
    let index = br#"{"schemaVersion":2,"manifests":[]}"#;
    assert_eq!(document_kind(index).unwrap(), DocumentKind::Index);
    parse_index(index).unwrap();
}

#[test]
fn refuses_what_is_no_image_that_can_be_kept() {
    let many = vec![manifest()["layers"][0].clone(); 501];
    for (pointer, value, says) in [
        ("/schemaVersion", json!(1), "schema 1"),
        ("/mediaType", json!("text/plain"), "text/plain"),
        ("/mediaType", json!(INDEX), "index"),
        ("/manifests", json!([]), "manifests beside"),
        ("/fsLayers", json!([]), "fsLayers"),
        (
            "/artifactType",
            json!("x/sbom"),
            "artifact of type \"x/sbom\"",
        ),
        (
            "/config/mediaType",
            json!("application/vnd.cncf.helm.config.v1+json"),
            "helm",
        ),
        (
            "/config/mediaType",
            json!("application/vnd.oci.empty.v1+json"),
            "artifact",
        ),
        ("/layers", json!(many), "501 layers"),
        ("/layers/0/size", json!(-1), "-1"),
        ("/layers/0/size", json!(1.5), "JSON"),
        ("/layers/0/digest", json!("sha512:00"), "sha512:00"),
        (
            "/layers/0/digest",
            json!(HEX.to_uppercase()),
            "digest of layer 0",
        ),
        ("/layers/0/mediaType", json!(format!("{LAYER}+lz4")), "lz4"),
        (
            "/layers/0/mediaType",
            json!(format!("{LAYER}+")),
            "unknown media type",
        ),
        (
            "/layers/0/mediaType",
            json!(format!("{LAYER}+gzip+encrypted")),
            "encrypted",
        ),
        (
            "/layers/0/mediaType",
            json!("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
            "not in the image",
        ),
        (
            "/layers/0/mediaType",
            json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
            "not in the image",
        ),
        ("/Layers", json!([]), "there twice"),
        ("/config", Value::Null, "JSON"),
    ] {
        let text = chain(&parse_manifest(&changed(manifest(), pointer, value)).unwrap_err());
        assert!(text.contains(says), "{pointer}: {text}");
    }
    let long = vec![b' '; DOCUMENT_LIMIT_BYTES as usize + 1];
    for error in [
        parse_manifest(&long).unwrap_err(),
        parse_config(&long).unwrap_err(),
        parse_index(&long).unwrap_err(),
    ] {
        assert!(error.to_string().contains("4194305"), "{error}");
    }
}

#[test]
fn refuses_configs_that_podman_chokes_on() {
    let config = Fixture::config("arm64", &[b"one".to_vec()]);
    let parsed = parse_config(&serde_json::to_vec(&config).unwrap()).unwrap();
    assert_eq!(parsed.platform.unwrap().to_string(), "linux/arm64");
    assert_eq!(parsed.diff_ids.len(), 1);
    for (pointer, value, says) in [
        ("/created", json!("yesterday"), "yesterday"),
        ("/history/0/created", json!("2026"), "history[0].created"),
        ("/rootfs/type", json!("base"), "base"),
        ("/rootfs/diff_ids/0", json!("x"), "diff_ids[0]"),
        ("/rootfs", Value::Null, "JSON"),
        ("/config/Cmd", json!("not a list"), "JSON"),
        ("/config/Labels", json!({"a": 1}), "JSON"),
        ("/Rootfs", json!({}), "there twice"),
    ] {
        let text = chain(&parse_config(&changed(config.clone(), pointer, value)).unwrap_err());
        assert!(text.contains(says), "{pointer}: {text}");
    }
    for (pointer, value) in [
        ("/config", json!(null)),
        ("/created", Value::Null),
        ("/history", Value::Null),
        ("/architecture", Value::Null),
        ("/rootfs/diff_ids", Value::Null),
        (
            "/config/Healthcheck",
            json!({"Test": ["NONE"], "Interval": 3}),
        ),
    ] {
        parse_config(&changed(config.clone(), pointer, value)).unwrap();
    }
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (parse_manifest(&bytes), parse_index(&bytes), parse_config(&bytes));
    }

    #[test]
    fn never_panics_on_broken_manifests(at in 0usize..400, byte in any::<u8>()) {
        let mut bytes = serde_json::to_vec(&manifest()).unwrap();
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        let _ = (parse_manifest(&bytes), parse_index(&bytes), parse_config(&bytes));
    }
}

/// Every hash, size and count of [`ResolvedImage::new`], each wrong once.
#[test]
fn documents_must_agree() {
    let usual = usual();
    let bytes = |entry: &Value| usual.blobs[&Fixture::path(entry)].clone();
    let index = bytes(&usual.entries[0]);
    let manifest = bytes(&usual.entries[1]);
    let config = bytes(&serde_json::from_slice::<Value>(&manifest).unwrap()["config"]);
    let good = || Documents {
        name: "localhost/app:1".parse().unwrap(),
        indexes: vec![index.clone()],
        manifest: manifest.clone(),
        config: config.clone(),
        verdict: String::new(),
    };
    let image = ResolvedImage::new(good(), &amd64(), None).unwrap();
    assert_eq!(image.layers.len(), 3);
    assert_eq!(image.index.as_ref().unwrap().1, index);
    assert_eq!(image.manifest_digest.to_string(), digest(&manifest));

    let pinned = |pin: &str| Documents {
        name: format!("localhost/app@{pin}").parse().unwrap(),
        ..good()
    };
    for pin in [digest(&index), digest(&manifest)] {
        ResolvedImage::new(pinned(&pin), &amd64(), pin.parse().ok()).unwrap();
    }
    let spaced = [&config[..], b" "].concat();
    let other_index = br#"{"schemaVersion":2,"manifests":[]}"#.to_vec();
    let fewer = {
        let mut value: Value = serde_json::from_slice(&manifest).unwrap();
        value["layers"].as_array_mut().unwrap().pop();
        serde_json::to_vec(&value).unwrap()
    };
    for (documents, says) in [
        (pinned(HEX), "asks for sha256:e3b0"),
        (
            Documents {
                config: spaced,
                ..good()
            },
            "names config",
        ),
        (
            Documents {
                indexes: vec![other_index],
                ..good()
            },
            "does not list",
        ),
        (
            Documents {
                indexes: vec![index.clone(), index.clone()],
                ..good()
            },
            "does not list",
        ),
        (
            Documents {
                indexes: vec![manifest.clone()],
                ..good()
            },
            "found a manifest",
        ),
        (
            Documents {
                manifest: index.clone(),
                indexes: vec![],
                ..good()
            },
            "found an index",
        ),
        (
            Documents {
                manifest: fewer,
                indexes: vec![],
                ..good()
            },
            "has 2 layers, but config",
        ),
    ] {
        let text = chain(&ResolvedImage::new(documents, &amd64(), None).unwrap_err());
        assert!(text.contains(says), "{says}: {text}");
    }
    let arm = "linux/arm64".parse().unwrap();
    for indexes in [vec![], vec![index.clone()]] {
        let documents = Documents { indexes, ..good() };
        let text = ResolvedImage::new(documents, &arm, None)
            .unwrap_err()
            .to_string();
        assert_eq!(
            text,
            "the image is for linux/amd64, but linux/arm64 is wanted"
        );
    }
    let locked = HEX.parse().ok();
    let text = ResolvedImage::new(good(), &amd64(), locked)
        .unwrap_err()
        .to_string();
    assert!(text.contains("the lock asks for"), "{text}");
}
