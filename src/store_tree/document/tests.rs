use super::*;

const ID: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn reads_configs_as_go_does() {
    let config = format!(
        r#"{{"CREATED":"2024-01-02T03:04:05Z","created":null,"x":[{{}}],"history":null,
            "config":{{"Labels":{{"a":"b"}},"ExposedPorts":{{"80/tcp":{{}}}},"Cmd":null}},
            "rootfs":{{"type":"layers","Diff_IDs":["{ID}"]}}}}"#
    );
    let facts = parse_config(config.as_bytes()).unwrap();
    assert_eq!(facts.created.as_deref(), Some("2024-01-02T03:04:05Z"));
    assert_eq!(facts.diff_ids, [DiffId::of(b"")]);
    let empty = parse_config(b"{}").unwrap();
    assert_eq!((empty.created, empty.diff_ids), (None, vec![]));
}

#[test]
fn refuses_configs_that_go_refuses() {
    for (bad, message) in [
        ("", "it is not JSON"),
        ("[]", "the config is not an object"),
        (
            r#"{"created":"yesterday"}"#,
            "created is not a time (RFC 3339)",
        ),
        (
            r#"{"created":"yesterday","created":"2024-01-02T03:04:05Z"}"#,
            "created is not a time (RFC 3339)",
        ),
        (r#"{"oſ":1}"#, "os is not a string"),
        (
            r#"{"config":{"labels":[]}}"#,
            "config.Labels is not an object",
        ),
        (
            r#"{"config":{"Labels":{"a":1}}}"#,
            "config.Labels.a is not a string",
        ),
        (
            r#"{"config":{"Volumes":{"/v":1}}}"#,
            "config.Volumes./v is not an object",
        ),
        (r#"{"config":{"Cmd":"sh"}}"#, "config.Cmd is not an array"),
        (
            r#"{"history":[{"empty_layer":"no"}]}"#,
            "history.empty_layer is not true or false",
        ),
        (r#"{"size":1.0}"#, "size is not a whole number"),
        (
            r#"{"size":9223372036854775808}"#,
            "size is not a whole number",
        ),
        (
            r#"{"rootfs":{"diff_ids":["sha256:00"]}}"#,
            "rootfs.diff_ids is no digest",
        ),
        (
            r#"{"rootfs":{"diff_ids":[null]}}"#,
            "rootfs.diff_ids is no digest",
        ),
    ] {
        let error = parse_config(bad.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), message, "{bad}");
    }
}

#[test]
fn reads_manifests() {
    let manifest = |more: &str| {
        format!(
            r#"{{"schemaVersion":2,{more}"config":{{"digest":"{ID}"}},"layers":[{{"digest":"{ID}"}}]}}"#
        )
    };
    let facts = parse_manifest(manifest("").as_bytes()).unwrap();
    assert_eq!(facts.config, ConfigDigest::of(b""));
    assert_eq!(facts.layers, [BlobDigest::of(b"")]);
    for (more, message) in [
        (
            r#""manifests":[],"#,
            r#"it has the key "manifests" of another kind of manifest"#,
        ),
        (
            r#""FSLAYERS":[],"#,
            r#"it has the key "fsLayers" of another kind of manifest"#,
        ),
        (
            r#""mediaType":"application/x","#,
            r#"the media type "application/x" is not that of an OCI or docker v2s2 image manifest"#,
        ),
        (
            r#""config":{"size":"1"},"#,
            "config.size is not a whole number",
        ),
    ] {
        let error = parse_manifest(manifest(more).as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    for (bad, message) in [
        ("{}", "config.digest is missing"),
        (r#"{"config":{"digest":""}}"#, "config.digest is no digest"),
    ] {
        let error = parse_manifest(bad.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let no_digest = format!(r#"{{"config":{{"digest":"{ID}"}},"layers":[{{}}]}}"#);
    let error = parse_manifest(no_digest.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "layers.digest is missing");
}
