use serde_json::Value;

use super::*;

const HEX: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

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
