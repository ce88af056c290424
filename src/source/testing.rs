//! Hand-written image layouts for tests: here, and in `tests/sources`.

use std::{collections::BTreeMap, fs, io::Write as _, path::Path};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A layout that is being put together: blobs by path, entries of index.json.
#[derive(Debug, Clone, Default)]
pub struct Fixture {
    pub blobs: BTreeMap<String, Vec<u8>>,
    pub entries: Vec<Value>,
}

pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A tar with one file for each pair.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The three layers that the usual image has for an architecture.
pub fn layers(arch: &str) -> Vec<Vec<u8>> {
    let big: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    vec![
        tar(&[("etc/name", b"base"), ("big", &big)]),
        tar(&[("etc/arch", arch.as_bytes())]),
        tar(&[("etc/.wh.name", b""), ("empty", b"")]),
    ]
}

impl Fixture {
    pub fn blob(&mut self, bytes: Vec<u8>, media_type: &str) -> Value {
        let digest = digest(&bytes);
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        self.blobs.insert(Self::path(&descriptor), bytes);
        descriptor
    }

    pub fn path(descriptor: &Value) -> String {
        let digest = descriptor["digest"].as_str().unwrap();
        format!("blobs/sha256/{}", &digest["sha256:".len()..])
    }

    pub fn config(arch: &str, tars: &[Vec<u8>]) -> Value {
        let diff_ids: Vec<_> = tars.iter().map(|tar| digest(tar)).collect();
        json!({
            "created": "2026-01-01T00:00:00Z",
            "architecture": arch,
            "os": "linux",
            "config": {"Cmd": ["/bin/sh"], "Labels": {"a": "1", "A": "2"}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": vec![json!({"created": "2026-01-01T00:00:00Z", "created_by": "test"}); tars.len()],
        })
    }

    /// Adds an image with gzipped layers; returns the entry for its manifest.
    pub fn image(&mut self, arch: &str, tars: &[Vec<u8>]) -> Value {
        let config = serde_json::to_vec(&Self::config(arch, tars)).unwrap();
        let layers = tars
            .iter()
            .map(|tar| self.blob(gzip(tar), &format!("{LAYER}+gzip")))
            .collect();
        let mut entry = self.manifest(config, layers);
        entry["platform"] = json!({"os": "linux", "architecture": arch});
        entry
    }

    pub fn manifest(&mut self, config: Vec<u8>, layers: Vec<Value>) -> Value {
        let config = self.blob(config, CONFIG);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
        });
        self.blob(serde_json::to_vec_pretty(&manifest).unwrap(), MANIFEST)
    }

    pub fn index(&mut self, entries: Vec<Value>) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        self.blob(serde_json::to_vec_pretty(&index).unwrap(), INDEX)
    }

    /// Names an entry in index.json.
    pub fn name(&mut self, entry: &Value, name: &str) {
        let mut entry = entry.clone();
        if !name.is_empty() {
            entry["annotations"] = json!({REF_NAME: name});
        }
        self.entries.push(entry);
    }

    /// All files of the layout.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let index = json!({"schemaVersion": 2, "manifests": self.entries});
        let mut files = self.blobs.clone();
        files.insert("index.json".into(), serde_json::to_vec(&index).unwrap());
        files.insert(
            "oci-layout".into(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        );
        files
    }

    pub fn write(&self, dir: &Path) {
        for (path, bytes) in self.files() {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    pub fn tar(&self) -> Vec<u8> {
        let files = self.files();
        let files: Vec<_> = files
            .iter()
            .map(|(path, bytes)| (path.as_str(), bytes.as_slice()))
            .collect();
        tar(&files)
    }
}

/// The usual layout: an index `localhost/app:1` of two platforms and an
/// attestation, and the image of one platform as `localhost/one:1`.
pub fn usual() -> Fixture {
    let mut fixture = Fixture::default();
    let amd64 = fixture.image("amd64", &layers("amd64"));
    let arm64 = fixture.image("arm64", &layers("arm64"));
    let index = fixture.index(vec![amd64.clone(), arm64]);
    fixture.name(&index, "localhost/app:1");
    fixture.name(&amd64, "localhost/one:1");
    fixture
}
