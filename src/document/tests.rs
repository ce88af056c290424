use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::name::{BlobDigest, DiffId};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// The digest of nothing.
const HEX: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn manifest() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": OCI_CONFIG, "digest": HEX, "size": 2,
        },
        "layers": [{
            "mediaType": format!("{LAYER}+gzip"), "digest": HEX, "size": 3,
            "platform": {"os": "linux", "architecture": "amd64"},
        }],
        "annotations": {"a": "1", "A": "2"},
    })
}

fn index() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [{
            "mediaType": MANIFEST, "digest": HEX, "size": 7,
            "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"},
            "annotations": {"a": "b"},
        }],
    })
}

fn config() -> Value {
    json!({
        "created": "2026-01-01T00:00:00Z",
        "architecture": "arm64",
        "os": "linux",
        "config": {
            "Cmd": ["/bin/sh"], "Labels": {"a": "1", "A": "2"},
            "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}},
        },
        "rootfs": {"type": "layers", "diff_ids": [HEX]},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "test"}],
    })
}

/// `document` with the value at `pointer` replaced, or removed where it is
/// replaced by nothing.
fn changed(mut document: Value, pointer: &str, to: impl Into<Option<Value>>) -> Vec<u8> {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match (document.pointer_mut(parent).unwrap(), to.into()) {
        (Value::Object(fields), None) => drop(fields.remove(key)),
        (Value::Object(fields), Some(to)) => drop(fields.insert(key.into(), to)),
        (Value::Array(items), Some(to)) => items[key.parse::<usize>().unwrap()] = to,
        _ => panic!("{pointer}"),
    }
    document.to_string().into_bytes()
}

/// The document with another spelling of every key whose place is in `fields`.
fn folded(document: &Value, fields: &[&str], spell: fn(&str) -> String) -> Vec<u8> {
    fn walk(value: &Value, fields: &[&str], spell: fn(&str) -> String) -> Value {
        match value {
            Value::Array(items) => items.iter().map(|v| walk(v, fields, spell)).collect(),
            Value::Object(members) => {
                let spelt = |key: &String| match fields.contains(&key.as_str()) {
                    true => spell(key),
                    false => key.clone(),
                };
                let pairs = members.iter();
                pairs
                    .map(|(key, value)| (spelt(key), walk(value, fields, spell)))
                    .collect()
            }
            other => other.clone(),
        }
    }
    walk(document, fields, spell).to_string().into_bytes()
}

/// The error and its source, as a user sees them.
fn said<T: std::fmt::Debug>(result: Result<T, DocumentError>) -> String {
    let error = result.unwrap_err();
    let source = std::error::Error::source(&error);
    source.map_or(error.to_string(), |source| format!("{error}: {source}"))
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
        assert_eq!(parsed.layers[0].digest, BlobDigest::of(b""));
    }
}

#[test]
fn a_kind_is_told_by_the_fields_where_no_media_type_says() {
    let bytes = changed(manifest(), "/mediaType", None);
    assert_eq!(document_kind(&bytes).unwrap(), DocumentKind::Manifest);
    parse_manifest(&bytes).unwrap();
    let index = br#"{"schemaVersion":2,"manifests":[]}"#;
    assert_eq!(document_kind(index).unwrap(), DocumentKind::Index);
    parse_index(index).unwrap();
}

/// Measured: podman 4.3.1 and skopeo 1.9.3 take `Layers` and `Diff_ids`.
#[test]
fn keys_in_another_case_are_the_same_keys() {
    let spellings: [fn(&str) -> String; 3] = [
        str::to_uppercase,
        |key| key[..1].to_uppercase() + &key[1..].to_lowercase(),
        // The Kelvin sign and the long s.
        |key| key.replace('k', "\u{212a}").replace('s', "\u{17f}"),
    ];
    let of_manifest = [
        "schemaVersion",
        "mediaType",
        "config",
        "layers",
        "digest",
        "size",
        "platform",
    ];
    let of_index = ["manifests", "os", "architecture", "variant", "annotations"];
    let of_index = [&of_manifest[..], &of_index].concat();
    let of_config = [
        "created",
        "architecture",
        "os",
        "config",
        "rootfs",
        "type",
        "diff_ids",
        "history",
        "Cmd",
    ];
    for spell in spellings {
        assert_eq!(
            parse_manifest(&folded(&manifest(), &of_manifest, spell)).unwrap(),
            parse_manifest(manifest().to_string().as_bytes()).unwrap()
        );
        assert_eq!(
            parse_index(&folded(&index(), &of_index, spell)).unwrap(),
            parse_index(index().to_string().as_bytes()).unwrap()
        );
        assert_eq!(
            parse_config(&folded(&config(), &of_config, spell)).unwrap(),
            parse_config(config().to_string().as_bytes()).unwrap()
        );
    }
    let parsed = parse_config(&folded(&config(), &of_config, str::to_uppercase)).unwrap();
    assert_eq!(parsed.platform.unwrap().to_string(), "linux/arm64");
    assert_eq!(parsed.created.as_deref(), Some("2026-01-01T00:00:00Z"));
    assert_eq!(parsed.diff_ids, [DiffId::of(b"")]);
    // Other letters do not fold, and a folded key is checked as any other.
    let parsed = parse_manifest(&changed(manifest(), "/l\u{e1}yers", json!(1))).unwrap();
    assert_eq!(parsed.layers.len(), 1);
    assert_eq!(
        said(parse_config(br#"{"o\u017f":1}"#)),
        "os is not a string"
    );
}

/// Go takes the last of two keys for one field, most others the first, or the
/// one that is spelt right.
#[test]
fn keys_that_are_there_twice_are_refused() {
    for (pointer, value, says) in [
        (
            "/Layers",
            json!([]),
            r#"layers is there twice, as "layers" and as "Layers""#,
        ),
        ("/layer\u{17f}", json!([]), "layers is there twice"),
        ("/CONFIG", json!(null), "config is there twice"),
        ("/MediaType", json!(INDEX), "mediaType is there twice"),
        (
            "/layers/0/DIGEST",
            json!(HEX),
            "layers[0].digest is there twice",
        ),
        (
            "/layers/0/platform/OS",
            json!("x"),
            "layers[0].platform.os is there twice",
        ),
    ] {
        let bytes = changed(manifest(), pointer, value);
        assert!(said(parse_manifest(&bytes)).contains(says), "{pointer}");
        assert!(said(document_kind(&bytes)).contains(says), "{pointer}");
    }
    for pointer in ["/Manifests", "/manifests/0/Digest", "/manifests/0/Platform"] {
        let bytes = changed(index(), pointer, json!(null));
        assert!(said(parse_index(&bytes)).contains("there twice"));
    }
    for (pointer, says) in [
        ("/Rootfs", "rootfs is there twice"),
        ("/rootfs/DIFF_IDS", "rootfs.diff_ids is there twice"),
        ("/CREATED", "created is there twice"),
        ("/config/labels", "config.Labels is there twice"),
        ("/history/0/Created", "history[0].created is there twice"),
    ] {
        let text = said(parse_config(&changed(config(), pointer, json!(null))));
        assert!(text.contains(says), "{pointer}: {text}");
    }
    // One key twice is refused wherever it is.
    for bad in [
        r#"{"created":null,"created":"2024-01-02T03:04:05Z"}"#,
        r#"{"config":{"Labels":{"x":"1","x":"2"}}}"#,
        r#"{"x":[{"size":1,"size":2}]}"#,
        r#"{"os":"a","o\u0073":"b"}"#,
    ] {
        assert!(said(parse_config(bad.as_bytes())).contains("there twice"));
    }
    // Two spellings are, where nothing reads them, two keys.
    for good in [
        r#"{"config":{"Labels":{"x":"1","X":"2"}}}"#,
        r#"{"x":[{"size":1,"SIZE":2}],"moby.a":1,"Moby.A":2}"#,
        r#"{"history":[{"created_by":"a"},{"created_by":"a"}]}"#,
    ] {
        parse_config(good.as_bytes()).unwrap();
    }
}

#[test]
fn refuses_what_is_no_image_that_can_be_kept() {
    let many = vec![manifest()["layers"][0].clone(); 501];
    for (pointer, value, says) in [
        ("/schemaVersion", json!(1), "schema 1"),
        ("/mediaType", json!("text/plain"), "text/plain"),
        ("/mediaType", json!(INDEX), "index"),
        ("/manifests", json!([]), "manifests beside"),
        ("/FSLAYERS", json!([]), "fsLayers"),
        ("/history", json!([]), "history"),
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
        ("/layers/0/size", json!(-1), "the size of layer 0 is -1"),
        (
            "/layers/0/size",
            json!(1.5),
            "layers[0].size is not a whole number",
        ),
        (
            "/layers/0/size",
            json!(1u64 << 63),
            "layers[0].size is not a whole number",
        ),
        (
            "/layers/0/size",
            json!(null),
            "the size of layer 0 is missing",
        ),
        ("/layers/0/digest", json!("sha512:00"), "sha512:00"),
        (
            "/layers/0/digest",
            json!(HEX.to_uppercase()),
            "digest of layer 0",
        ),
        ("/layers/0/digest", json!(null), "digest of layer 0"),
        ("/config/digest", json!(""), "digest of the config"),
        (
            "/layers/0/platform/variant",
            json!(1),
            "layers[0].platform.variant is not a string",
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
        ("/config", json!(null), "config is missing"),
        ("/layers/0/data", json!("%"), "layers[0].data is not base64"),
        (
            "/subject",
            json!({"data": "AA"}),
            "subject.data is not base64",
        ),
        (
            "/config/size",
            json!("1"),
            "config.size is not a whole number",
        ),
        ("/annotations", json!([]), "annotations is not an object"),
    ] {
        let text = said(parse_manifest(&changed(manifest(), pointer, value)));
        assert!(text.contains(says), "{pointer}: {text}");
    }
    for (pointer, says) in [("/config", "config is missing"), ("/layers/0/size", "size")] {
        let text = said(parse_manifest(&changed(manifest(), pointer, None)));
        assert!(text.contains(says), "{pointer}: {text}");
    }
    assert!(said(parse_manifest(b"{}")).contains("neither"));
    let long = vec![b' '; DOCUMENT_LIMIT_BYTES as usize + 1];
    for text in [
        said(parse_manifest(&long)),
        said(parse_config(&long)),
        said(parse_index(&long)),
    ] {
        assert!(text.contains("4194305"), "{text}");
    }
}

#[test]
fn refuses_configs_that_podman_chokes_on() {
    for (pointer, value, says) in [
        (
            "/created",
            json!("yesterday"),
            "its created is \"yesterday\", not a time like",
        ),
        ("/history/0/created", json!("2026"), "history[0].created"),
        (
            "/history/0/empty_layer",
            json!("no"),
            "history[0].empty_layer is not true or false",
        ),
        ("/rootfs/type", json!("base"), "base"),
        ("/rootfs/diff_ids/0", json!("x"), "diff_ids[0]"),
        (
            "/rootfs/diff_ids/0",
            json!(null),
            "rootfs.diff_ids[0] is no usable digest",
        ),
        ("/rootfs", json!([]), "rootfs is not an object"),
        (
            "/config/Cmd",
            json!("not a list"),
            "config.Cmd is not an array",
        ),
        (
            "/config/Labels",
            json!({"a": 1}),
            "config.Labels.a is not a string",
        ),
        (
            "/config/Labels",
            json!([]),
            "config.Labels is not an object",
        ),
        (
            "/config/Volumes",
            json!({"/v\n": 1}),
            r"config.Volumes./v\n is not an object",
        ),
        ("/size", json!(1.0), "size is not a whole number"),
        ("/os.features", json!("x"), "os.features is not an array"),
    ] {
        let text = said(parse_config(&changed(config(), pointer, value)));
        assert!(text.contains(says), "{pointer}: {text}");
    }
    for (bad, says) in [
        ("", "JSON"),
        ("{} {}", "JSON"),
        ("[]", "it is not an object"),
        ("null", "it is not an object"),
        (&"[".repeat(100_000), "JSON"),
    ] {
        let text = said(parse_config(bad.as_bytes()));
        assert!(text.contains(says), "{text}");
    }
}

/// Measured with podman 4.3.1: each of these in a store, and `podman images`
/// fails for all images.
#[test]
fn refuses_manifests_that_podman_chokes_on() {
    let docker = |kind: &str| format!("application/vnd.docker.{kind}");
    let manifest_type = docker("distribution.manifest.v2+json");
    let config_type = docker("container.image.v1+json");
    let layer_type = docker("image.rootfs.diff.tar");
    let of = |manifest_type: Option<&str>, config_type: &str, layer_type: &str| {
        let mut document = manifest();
        document["config"]["mediaType"] = config_type.into();
        document["layers"][0]["mediaType"] = layer_type.into();
        parse_manifest(&changed(
            document,
            "/mediaType",
            manifest_type.map(Value::from),
        ))
    };
    for (manifest_type, config_type, layer_type) in [
        (
            Some(&*manifest_type),
            &*config_type,
            format!("{layer_type}.gzip"),
        ),
        (Some(&manifest_type), OCI_CONFIG, layer_type.clone()),
        (Some(MANIFEST), OCI_CONFIG, layer_type.clone()),
        (Some(MANIFEST), OCI_CONFIG, format!("{layer_type}.zstd")),
        (None, OCI_CONFIG, format!("{layer_type}.gzip")),
    ] {
        of(manifest_type, config_type, &layer_type).unwrap();
    }
    for (manifest_type, config_type, layer_type, says) in [
        (
            Some(MANIFEST),
            &*config_type,
            LAYER,
            "the config is \"application/vnd.docker",
        ),
        (None, &config_type, &*layer_type, "take in an OCI manifest"),
        (
            Some(&*manifest_type),
            &config_type,
            LAYER,
            "take in a docker manifest",
        ),
        (
            Some(&manifest_type),
            &config_type,
            &format!("{layer_type}.zstd"),
            "layer 0 is \"application/vnd.docker.image.rootfs.diff.tar.zstd\"",
        ),
    ] {
        let text = said(of(manifest_type, config_type, layer_type));
        assert!(text.contains(says), "{text}");
    }
    let mut document = manifest();
    document.as_object_mut().unwrap().remove("schemaVersion");
    parse_manifest(document.to_string().as_bytes()).unwrap();
    let text = said(parse_manifest(&changed(document, "/mediaType", None)));
    assert_eq!(text, "its mediaType or schemaVersion 2 is missing");
}

/// Go reads a time from the text as it is written.
#[test]
fn refuses_times_with_escapes() {
    let bytes = config().to_string().replace("00:00Z", "00:00\\u005a");
    let text = said(parse_config(bytes.as_bytes()));
    assert!(
        text.contains("created is not a time that is written without"),
        "{text}"
    );
}

#[test]
fn null_fits_everywhere() {
    for pointer in [
        "/created",
        "/architecture",
        "/config",
        "/config/Labels",
        "/config/Labels/a",
        "/config/Volumes/~1v",
        "/rootfs",
        "/rootfs/type",
        "/rootfs/diff_ids",
        "/history",
        "/history/0",
    ] {
        parse_config(&changed(config(), pointer, json!(null))).unwrap();
        if !pointer.ends_with('0') {
            parse_config(&changed(config(), pointer, None)).unwrap();
        }
    }
    let health = json!({"Test": ["NONE"], "Interval": 3, "Timeout": null});
    parse_config(&changed(config(), "/config/Healthcheck", health)).unwrap();
    let empty = parse_config(b"{}").unwrap();
    assert_eq!((empty.created, empty.diff_ids), (None, vec![]));
    for pointer in [
        "/mediaType",
        "/layers",
        "/annotations/a",
        "/manifests",
        "/fsLayers",
    ] {
        parse_manifest(&changed(manifest(), pointer, json!(null))).unwrap();
    }
}

/// As cosign writes them; what it adds beside them does not matter.
#[test]
fn signatures_are_layers_of_any_kind() {
    let layer = json!({
        "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
        "digest": HEX, "size": 7, "annotations": {"dev.cosignproject.cosign/signature": "MEU="},
    });
    let with = |layers: Value| {
        let manifest =
            json!({"schemaVersion": 2, "config": {"mediaType": "x/y"}, "layers": layers});
        parse_signatures(&serde_json::to_vec(&manifest).unwrap())
    };
    let found = with(json!([layer, {"digest": HEX, "size": 0}])).unwrap();
    assert_eq!(found[0].payload.size, 7);
    assert_eq!(
        found[0].annotations["dev.cosignproject.cosign/signature"],
        "MEU="
    );
    assert_eq!(
        (found[1].media_type.as_str(), found[1].annotations.len()),
        ("", 0)
    );
    assert!(with(json!(null)).unwrap().is_empty());
    for (layers, says) in [
        (
            json!([{"digest": "sha256:../x", "size": 1}]),
            "digest of layer 0",
        ),
        (json!([{"digest": HEX, "size": -1}]), "size of layer 0"),
        (json!([{"digest": HEX}]), "size of layer 0"),
        (json!(vec![layer; LAYER_LIMIT + 1]), "501"),
    ] {
        let text = with(layers).unwrap_err().to_string();
        assert!(text.contains(says), "{text}");
    }
}

/// Any JSON with the names that documents have.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z:/.]{0,6}".prop_map(Value::from),
        Just(json!(HEX)),
        Just(manifest()),
        Just(config()),
    ];
    let key = prop_oneof!["[a-zA-Z]{1,3}", "(?i-u:layers|config|rootfs|digest|size)"];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key.clone(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (parse_manifest(&bytes), parse_index(&bytes), parse_config(&bytes));
        let _ = parse_signatures(&bytes);
    }

    #[test]
    fn never_panics_on_json(json in any_json()) {
        let bytes = json.to_string().into_bytes();
        let _ = (parse_manifest(&bytes), parse_index(&bytes), parse_config(&bytes));
        let _ = parse_signatures(&bytes);
    }

    #[test]
    fn never_panics_on_broken_manifests(at in 0usize..400, byte in any::<u8>()) {
        let mut bytes = serde_json::to_vec(&manifest()).unwrap();
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        let _ = (parse_manifest(&bytes), parse_index(&bytes), parse_config(&bytes));
        let _ = parse_signatures(&bytes);
    }
}
