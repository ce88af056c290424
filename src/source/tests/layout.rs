use std::{fs, io::Read as _, os::unix::fs::symlink, path::Path};

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::name::{BlobDigest, DiffId};

fn written(fixture: &Fixture) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fixture.write(dir.path());
    dir
}

fn open(dir: &Path) -> Layout {
    Layout::open_dir(dir, None).unwrap()
}

fn layer_path(dir: &Path, image: &ResolvedImage) -> std::path::PathBuf {
    dir.join("blobs/sha256")
        .join(image.layers[0].blob_digest.hex())
}

#[test]
fn finds_by_name_digest_and_reference() {
    let usual = usual();
    let dir = written(&usual);
    let layout = open(dir.path());
    let index = usual.entries[0]["digest"].as_str().unwrap();
    let manifest = usual.entries[1]["digest"].as_str().unwrap();

    let app = layout.resolve(&wanted("localhost/app:1")).unwrap();
    assert_eq!(app.index.as_ref().unwrap().0.to_string(), index);
    assert_eq!(app.manifest_digest.to_string(), manifest);
    let one = layout.resolve(&wanted("localhost/one:1")).unwrap();
    assert!(one.index.is_none());
    assert_eq!(one.layers, app.layers);

    // A digest is found wherever it lies, and under any name.
    let by_index = wanted(&format!("quay.io/other@{index}"));
    assert!(layout.find(&by_index).unwrap().unwrap().index.is_some());
    let by_manifest = wanted(&format!("quay.io/other@{manifest}"));
    assert!(layout.find(&by_manifest).unwrap().unwrap().index.is_none());
    let arm = Wanted {
        platform: "linux/arm64".parse().unwrap(),
        ..by_index
    };
    let arm = layout.find(&arm).unwrap().unwrap();
    assert_ne!(arm.manifest_digest.to_string(), manifest);
    let locked = Wanted {
        locked: manifest.parse().ok(),
        ..wanted("quay.io/other:7")
    };
    assert_eq!(
        layout
            .find(&locked)
            .unwrap()
            .unwrap()
            .manifest_digest
            .to_string(),
        manifest
    );

    for reference in ["localhost/one:1", &format!("@{manifest}")] {
        let layout = Layout::open_dir(dir.path(), Some(reference)).unwrap();
        let image = layout.resolve(&wanted("quay.io/new/name:2")).unwrap();
        assert_eq!(image.manifest_digest.to_string(), manifest);
        assert_eq!(image.name.to_string(), "quay.io/new/name:2");
    }
    let none = Layout::open_dir(dir.path(), Some("nothing")).unwrap();
    let text = none
        .resolve(&wanted("localhost/one:1"))
        .unwrap_err()
        .to_string();
    assert!(text.contains("localhost/app:1, localhost/one:1"), "{text}");
    let error = layout.resolve(&wanted("quay.io/none:1")).unwrap_err();
    assert_eq!(error.failing(), Failing::NotFound);
    assert!(error.to_string().contains("localhost/app:1"), "{error}");
    assert!(layout.find(&wanted("quay.io/none:1")).unwrap().is_none());
}

/// A bare tag names an image only where the user has tied name and layout.
#[test]
fn a_bare_tag_is_no_name_for_a_lookaside() {
    let mut fixture = Fixture::default();
    let one = fixture.image("amd64", &layers("amd64"));
    let two = fixture.image("amd64", &layers("other"));
    fixture.name(&one, "latest");
    fixture.name(&two, "v2");
    let dir = written(&fixture);
    let layout = open(dir.path());
    assert!(layout.find(&wanted("quay.io/a:v2")).unwrap().is_none());
    let image = layout.resolve(&wanted("quay.io/a:v2")).unwrap();
    assert_eq!(image.manifest_digest.to_string(), two["digest"]);
    let error = layout.resolve(&wanted("quay.io/a:v3")).unwrap_err();
    assert!(matches!(error, SourceError::Ambiguous { .. }), "{error}");

    fixture.entries.remove(0);
    fixture.entries[0]["annotations"] = json!({
        "io.containerd.image.name": "docker.io/library/a:v2", REF_NAME: "v2",
    });
    let dir = written(&fixture);
    let layout = open(dir.path());
    assert!(
        layout
            .find(&wanted("docker.io/library/a:v2"))
            .unwrap()
            .is_some()
    );
    assert!(layout.find(&wanted("quay.io/a:v2")).unwrap().is_none());
    // The only image there is serves whatever it was given for ..
    layout.resolve(&wanted("quay.io/a:v9")).unwrap();
    // .. except another digest.
    let pinned = format!("quay.io/a@{}", digest(b"other"));
    let error = layout.resolve(&wanted(&pinned)).unwrap_err();
    assert_eq!(error.failing(), Failing::Denied);
}

/// A signature lies beside its image, and is none.
#[test]
fn signatures_are_no_images() {
    let mut fixture = Fixture::default();
    let entry = fixture.image("amd64", &layers("amd64"));
    fixture.name(&entry, "");
    let signed: BlobDigest = entry["digest"].as_str().unwrap().parse().unwrap();
    let tag = format!("sha256-{}.sig", signed.hex());
    let payload = fixture.blob(b"{}".to_vec(), "application/json");
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": payload, "layers": [payload]});
    let signature = fixture.blob(manifest.to_string().into_bytes(), MANIFEST);
    let other = format!("sha256-{}.sig", "0".repeat(64));
    for name in [&tag, &format!("quay.io/a:{tag}"), &other] {
        fixture.name(&signature, name);
    }
    let dir = written(&fixture);
    let layout = open(dir.path());
    layout.resolve(&wanted("quay.io/x:1")).unwrap();
    assert_eq!(layout.held().len(), 1);
    // One document under two names is read once.
    let found = layout.signatures(&signed).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].payload, b"{}");
    let none = BlobDigest::of(b"none");
    assert!(layout.signatures(&none).unwrap().is_empty());
}

#[test]
fn layers_are_the_blobs() {
    let usual = usual();
    let dir = written(&usual);
    let layout = open(dir.path());
    let image = layout.resolve(&wanted("localhost/app:1")).unwrap();
    for (index, layer) in image.layers.iter().enumerate() {
        let mut data = layout.open_layer(&image, index).unwrap();
        assert_eq!(data.form, LayerForm::Blob);
        let mut bytes = Vec::new();
        data.reader.read_to_end(&mut bytes).unwrap();
        assert_eq!(BlobDigest::of(&bytes), layer.blob_digest);
        assert_eq!(bytes.len() as u64, layer.blob_size);
        assert_eq!(DiffId::of(&layers("amd64")[index]), layer.diff_id);
        assert_eq!(layer.compression, Compression::Gzip);
    }
    assert!(layout.open_layer(&image, 3).is_err());
}

#[test]
fn damage_is_found_and_named() {
    let usual = usual();
    let app = wanted("localhost/app:1");
    let resolved = {
        let dir = written(&usual);
        open(dir.path()).resolve(&app).unwrap()
    };
    let config = format!("blobs/sha256/{}", resolved.config_digest.hex());
    let manifest = format!("blobs/sha256/{}", resolved.manifest_digest.hex());
    let index = format!("blobs/sha256/{}", resolved.index.as_ref().unwrap().0.hex());
    for path in [&config, &manifest, &index] {
        type Harm = fn(&Path);
        let harms: [(&str, Harm); 5] = [
            ("missing", |path| fs::remove_file(path).unwrap()),
            ("found", |path| {
                let mut bytes = fs::read(path).unwrap();
                bytes[20] ^= 1;
                fs::write(path, bytes).unwrap();
            }),
            ("found", |path| {
                let bytes = fs::read(path).unwrap();
                fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
            }),
            ("5000000 bytes", |path| {
                fs::write(path, vec![b' '; 5_000_000]).unwrap();
            }),
            ("missing", |path| {
                fs::remove_file(path).unwrap();
                symlink("/etc/passwd", path).unwrap();
            }),
        ];
        for (says, harm) in harms {
            let dir = written(&usual);
            harm(&dir.path().join(path));
            let error = open(dir.path()).resolve(&app).unwrap_err();
            assert_eq!(error.failing(), Failing::Corrupt, "{error}");
            let text = chain(&error);
            assert!(text.contains(says), "{text}");
            assert!(text.contains(&path["blobs/sha256/".len()..]), "{text}");
            assert!(text.contains(&dir.path().display().to_string()), "{text}");
        }
    }
    let dir = written(&usual);
    let layout = open(dir.path());
    let path = layer_path(dir.path(), &resolved);
    fs::write(&path, "short").unwrap();
    let text = layout.open_layer(&resolved, 0).unwrap_err().to_string();
    assert!(text.contains("found 5 bytes"), "{text}");
    fs::remove_file(&path).unwrap();
    let error = layout.open_layer(&resolved, 0).unwrap_err();
    assert!(matches!(error, SourceError::MissingBlob { .. }), "{error}");
    fs::create_dir(&path).unwrap();
    layout.open_layer(&resolved, 0).unwrap_err();
}

#[test]
fn descriptors_may_not_lie_about_sizes() {
    let mut fixture = Fixture::default();
    let mut entry = fixture.image("amd64", &layers("amd64"));
    let size = entry["size"].as_u64().unwrap();
    entry["size"] = json!(size + 1);
    fixture.name(&entry, "localhost/a:1");
    let dir = written(&fixture);
    let error = open(dir.path())
        .resolve(&wanted("localhost/a:1"))
        .unwrap_err();
    assert_eq!(error.failing(), Failing::Corrupt);
    assert!(
        error.to_string().contains(&format!("of {size} bytes")),
        "{error}"
    );
}

#[test]
fn what_is_no_layout_is_said_to_be_none() {
    let usual = usual();
    for (path, bytes, says) in [
        ("oci-layout", None, "no file oci-layout"),
        ("oci-layout", Some("{}"), "imageLayoutVersion"),
        (
            "oci-layout",
            Some(r#"{"imageLayoutVersion":"2.0.0"}"#),
            "2.0.0",
        ),
        ("index.json", None, "no file index.json"),
        ("index.json", Some("[]"), "index.json"),
        ("index.json", Some("{"), "index.json"),
    ] {
        let dir = written(&usual);
        let path = dir.path().join(path);
        match bytes {
            Some(bytes) => fs::write(path, bytes).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        let text = chain(&Layout::open_dir(dir.path(), None).unwrap_err());
        assert!(text.contains(says), "{text}");
    }
    Layout::open_dir(Path::new("/nowhere"), None).unwrap_err();
    Layout::open_dir(Path::new("/etc/passwd"), None).unwrap_err();
}
