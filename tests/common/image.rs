//! An image of an OCI layout, read with serde_json only: what stores, archives
//! and registries are held against.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::text;

/// One image of an OCI layout.
#[derive(Debug, Clone)]
pub struct Image {
    pub layout: PathBuf,
    pub tag: String,
    pub manifest_digest: String,
    pub manifest: Value,
    pub config: Value,
}

impl Image {
    /// Reads the image called `tag` from the layout at `layout`.
    pub fn read(layout: &Path, tag: &str) -> Self {
        let index: Value = json_file(&layout.join("index.json"));
        let manifest_digest = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == tag)
            .unwrap_or_else(|| panic!("{} has no {tag}", layout.display()))["digest"]
            .as_str()
            .unwrap()
            .to_owned();
        let manifest = json_file(&blob_path(layout, &manifest_digest));
        let config = json_file(&blob_path(
            layout,
            manifest["config"]["digest"].as_str().unwrap(),
        ));
        Self {
            layout: layout.to_owned(),
            tag: tag.to_owned(),
            manifest_digest,
            manifest,
            config,
        }
    }

    /// The image ID: the config's digest without `sha256:`.
    pub fn id(&self) -> &str {
        let digest = self.manifest["config"]["digest"].as_str().unwrap();
        digest.strip_prefix("sha256:").unwrap()
    }

    pub fn diff_ids(&self) -> Vec<String> {
        strings(&self.config["rootfs"]["diff_ids"])
    }

    /// The digests of the layers' blobs.
    pub fn blobs(&self) -> Vec<String> {
        let layers = self.manifest["layers"].as_array().unwrap();
        layers
            .iter()
            .map(|layer| layer["digest"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Its skopeo name.
    pub fn source(&self) -> String {
        format!("oci:{}:{}", self.layout.display(), self.tag)
    }

    /// Copies it with skopeo, bytes preserved, to another transport name.
    pub fn copy_to(&self, to: &str) {
        let mut copy = Command::new("skopeo");
        copy.args([
            "copy",
            "--quiet",
            "--preserve-digests",
            "--dest-tls-verify=false",
        ]);
        text(copy.args([&self.source(), to]));
    }

    /// The entries of the top layer's tar: name, and whether it is a directory.
    pub fn top_layer(&self) -> Vec<(String, bool)> {
        let blob = blob_path(&self.layout, self.blobs().last().unwrap());
        let mut archive = tar::Archive::new(decompressed(fs::File::open(blob).unwrap()));
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            (
                name.trim_matches('/').to_owned(),
                entry.header().entry_type().is_dir(),
            )
        });
        entries.collect()
    }

    /// A layout at `to` with this image and one layer more on top, which holds
    /// `files`; the new image has the same tag.
    pub fn derive(&self, to: &Path, files: &[(&str, &str)]) -> Image {
        fs::create_dir_all(to.join("blobs/sha256")).unwrap();
        for blob in self.blobs() {
            let (from, to) = (blob_path(&self.layout, &blob), blob_path(to, &blob));
            // The layout may be on another filesystem.
            fs::hard_link(&from, &to)
                .or_else(|_| fs::copy(&from, &to).map(drop))
                .unwrap();
        }
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, content.as_bytes())
                .unwrap();
        }
        let tar = tar.into_inner().unwrap();
        let mut config = self.config.clone();
        push(&mut config["rootfs"]["diff_ids"], json!(sha256(&tar[..])));
        push(&mut config["history"], json!({"created_by": "derive"}));
        let mut manifest = self.manifest.clone();
        let layer = "application/vnd.oci.image.layer.v1.tar";
        push(&mut manifest["layers"], put(to, &tar, layer));
        let config = serde_json::to_vec(&config).unwrap();
        manifest["config"] = put(to, &config, "application/vnd.oci.image.config.v1+json");
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let mut entry = put(to, &manifest, "application/vnd.oci.image.manifest.v1+json");
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": self.tag});
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        fs::write(to.join("index.json"), index.to_string()).unwrap();
        fs::write(to.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Image::read(to, &self.tag)
    }
}

fn push(array: &mut Value, value: Value) {
    array.as_array_mut().unwrap().push(value);
}

fn put(layout: &Path, bytes: &[u8], media_type: &str) -> Value {
    let digest = sha256(bytes);
    fs::write(blob_path(layout, &digest), bytes).unwrap();
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

pub fn strings(array: &Value) -> Vec<String> {
    let array = array.as_array().unwrap_or_else(|| panic!("{array}"));
    array.iter().map(|s| s.as_str().unwrap().into()).collect()
}

pub fn json_file(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn blob_path(layout: &Path, digest: &str) -> PathBuf {
    let hex = digest.strip_prefix("sha256:").unwrap();
    layout.join("blobs/sha256").join(hex)
}

/// `sha256:<hex>` of all that a reader gives.
pub fn sha256(mut reader: impl Read) -> String {
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 16];
    loop {
        match reader.read(&mut block).unwrap() {
            0 => return format!("sha256:{}", hex::encode(hasher.finalize())),
            count => hasher.update(&block[..count]),
        }
    }
}

/// The tar in a blob that is gzip, zstd or plain, told apart by its first bytes.
pub fn decompressed(mut blob: fs::File) -> Box<dyn Read> {
    let mut magic = [0; 4];
    let count = blob.read(&mut magic).unwrap();
    let whole = io::Cursor::new(magic[..count].to_vec()).chain(blob);
    match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::new(whole).unwrap()),
        _ => Box::new(whole),
    }
}
