//! OCI layouts written by hand: exactly the bytes a test wants.
#![allow(dead_code)]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// `sha256:..` of some bytes.
pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// An image layout in a directory.
pub struct Layout {
    pub path: PathBuf,
    manifests: Vec<Value>,
}

/// One layer as it goes into a layout: a blob, and what its tar hashes to.
#[derive(Clone)]
pub struct LayerBlob {
    pub blob: Vec<u8>,
    pub media_type: &'static str,
    pub diff_id: String,
}

/// A layer whose blob is in a layout, too large to be held.
pub struct StoredBlob {
    pub digest: String,
    pub size: u64,
    pub media_type: &'static str,
    pub diff_id: String,
}

impl LayerBlob {
    pub fn plain(tar: &[u8]) -> Self {
        let media_type = "application/vnd.oci.image.layer.v1.tar";
        Self {
            blob: tar.to_vec(),
            media_type,
            diff_id: sha256(tar),
        }
    }

    pub fn gzip(tar: &[u8]) -> Self {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(tar).unwrap();
        let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
        Self {
            blob: encoder.finish().unwrap(),
            media_type,
            diff_id: sha256(tar),
        }
    }

    pub fn zstd(tar: &[u8]) -> Self {
        let media_type = "application/vnd.oci.image.layer.v1.tar+zstd";
        Self {
            blob: zstd::encode_all(tar, 3).unwrap(),
            media_type,
            diff_id: sha256(tar),
        }
    }
}

impl Layout {
    pub fn new(path: &Path) -> Self {
        fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self {
            path: path.to_owned(),
            manifests: Vec::new(),
        }
    }

    pub fn blob_path(&self, digest: &str) -> PathBuf {
        self.path
            .join("blobs/sha256")
            .join(digest.strip_prefix("sha256:").unwrap())
    }

    pub fn blob(&self, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        fs::write(self.blob_path(&digest), bytes).unwrap();
        digest
    }

    /// Adds an image under a ref name; gives its manifest's digest.
    pub fn image(&mut self, reference: &str, layers: &[LayerBlob]) -> String {
        let stored: Vec<StoredBlob> = layers
            .iter()
            .map(|layer| StoredBlob {
                digest: self.blob(&layer.blob),
                size: layer.blob.len() as u64,
                media_type: layer.media_type,
                diff_id: layer.diff_id.clone(),
            })
            .collect();
        self.image_of_stored(reference, &stored)
    }

    /// The same, of layers whose blobs lie here already.
    pub fn image_of_stored(&mut self, reference: &str, layers: &[StoredBlob]) -> String {
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = json!({
            "created": "2024-01-01T00:00:00Z", "architecture": "amd64", "os": "linux",
            "config": { "Cmd": ["/hello"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = serde_json::to_vec(&config).unwrap();
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| {
                let (digest, size) = (&layer.digest, layer.size);
                json!({ "mediaType": layer.media_type, "digest": digest, "size": size })
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": self.blob(&config), "size": config.len(),
            },
            "layers": layers,
        });
        self.manifest(reference, &serde_json::to_vec(&manifest).unwrap())
    }

    /// Adds an image of one layer, its manifest and config as `change` leaves
    /// them. Where that says nothing, the config is described as it is.
    pub fn lying(
        &mut self,
        reference: &str,
        layer: &LayerBlob,
        change: impl FnOnce(&mut Value, &mut Value),
    ) -> String {
        let mut config = json!({
            "created": "2024-01-01T00:00:00Z", "architecture": "amd64", "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [layer.diff_id] },
        });
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json" },
            "layers": [{
                "mediaType": layer.media_type, "digest": self.blob(&layer.blob),
                "size": layer.blob.len(),
            }],
        });
        change(&mut manifest, &mut config);
        let config = serde_json::to_vec(&config).unwrap();
        let digest = self.blob(&config);
        let described = manifest["config"].as_object_mut().unwrap();
        described.entry("digest").or_insert(digest.into());
        described.entry("size").or_insert(config.len().into());
        self.manifest(reference, &serde_json::to_vec(&manifest).unwrap())
    }

    /// Adds a manifest of any bytes under a ref name.
    pub fn manifest(&mut self, reference: &str, manifest: &[u8]) -> String {
        let digest = self.blob(manifest);
        self.manifests.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest, "size": manifest.len(),
            "annotations": { "org.opencontainers.image.ref.name": reference },
        }));
        let index = json!({ "schemaVersion": 2, "manifests": self.manifests });
        fs::write(
            self.path.join("index.json"),
            serde_json::to_vec(&index).unwrap(),
        )
        .unwrap();
        digest
    }

    /// `NAME=oci:DIR:REF`, as `--image` takes it.
    pub fn arg(&self, name: &str, reference: &str) -> String {
        format!("{name}=oci:{}:{reference}", self.path.display())
    }
}

/// A tar of files, directories (a name that ends in `/`) and symlinks (`->`).
pub fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_mtime(1_700_000_000);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mode(0o644);
        if let Some((name, target)) = name.split_once("->") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, name, target).unwrap();
        } else if name.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            builder
                .append_data(&mut header, name, std::io::empty())
                .unwrap();
        } else {
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, name, *content).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

/// Content too large to be inline, and different for each seed.
pub fn content(seed: u8, length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| seed.wrapping_add((at / 7) as u8))
        .collect()
}
