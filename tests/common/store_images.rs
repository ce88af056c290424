//! Small images, laid open as the store tree wants them.

#![allow(dead_code)] // each test uses its part
#![allow(clippy::unwrap_used)] // fixtures are part of tests

use std::sync::Arc;

use boundstore::{
    name::{BlobDigest, ConfigDigest, DiffId, ManifestDigest},
    squash::tree::{Directory, FileContent, Inode, InodeContent, Metadata, Node},
    store_tree::{
        StoreBlob, StoreImage, StoreLayer,
        tar_split::{Crc64, TarSplitWriter},
    },
};
use serde_json::json;

/// One entry of a layer: a path and a file's bytes; a directory has none.
pub type Entry<'a> = (&'a str, Option<&'a [u8]>);

/// A layer on top of `below` with these entries, and its tar.
pub fn layer(below: Option<&StoreLayer>, entries: &[Entry<'_>]) -> (StoreLayer, Vec<u8>) {
    let mut rootfs = below.map_or_else(
        || Directory::new(metadata(0o755)),
        |layer| (*layer.rootfs).clone(),
    );
    let mut tar = Vec::new();
    let mut split = TarSplitWriter::new(Vec::new()).unwrap();
    for (path, content) in entries {
        let bytes = content.unwrap_or_default();
        let mut header = tar::Header::new_ustar();
        header.set_path(path).unwrap();
        header.set_size(bytes.len() as u64);
        header.set_mode(if content.is_some() { 0o644 } else { 0o755 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_entry_type(match content {
            Some(_) => tar::EntryType::Regular,
            None => tar::EntryType::Directory,
        });
        header.set_cksum();
        let padding = vec![0; bytes.len().next_multiple_of(512) - bytes.len()];
        let name = header.path_bytes().into_owned();
        split.segment(header.as_bytes()).unwrap();
        split
            .file(&name, bytes.len() as u64, Crc64::of(bytes))
            .unwrap();
        split.segment(&padding).unwrap();
        for part in [header.as_bytes(), bytes, &padding] {
            tar.extend_from_slice(part);
        }
        insert(&mut rootfs, path, *content);
    }
    split.segment(&[0; 1024]).unwrap();
    tar.extend_from_slice(&[0; 1024]);
    let diff_id = DiffId::of(&tar);
    let size = tar.len() as u64;
    let layer = StoreLayer {
        diff_id,
        diff_size: size,
        blob: StoreBlob {
            digest: diff_id.cast(),
            size,
            compression: 0,
        },
        tar_split: FileContent::Inline(split.finish().unwrap().into()),
        rootfs: Arc::new(rootfs),
    };
    (layer, tar)
}

/// Owned by root, at the epoch.
pub fn metadata(mode: u32) -> Metadata {
    Metadata {
        mode,
        ..Metadata::default()
    }
}

/// A regular file.
pub fn file(bytes: &[u8]) -> Node {
    Node::Inode(Arc::new(Inode {
        metadata: metadata(0o644),
        content: InodeContent::Regular(FileContent::Inline(bytes.into())),
    }))
}

fn insert(directory: &mut Directory, path: &str, content: Option<&[u8]>) {
    let path = path.trim_matches('/');
    let Some((first, rest)) = path.split_once('/') else {
        let node = match content {
            Some(bytes) => file(bytes),
            None if directory.entries.contains_key(path.as_bytes()) => return,
            None => Node::Directory(Arc::new(Directory::new(metadata(0o755)))),
        };
        directory.entries.insert(path.as_bytes().into(), node);
        return;
    };
    let parent = directory
        .entries
        .entry(first.as_bytes().into())
        .or_insert_with(|| Node::Directory(Arc::new(Directory::new(metadata(0o755)))));
    let Node::Directory(parent) = parent else {
        panic!("{first} is no directory");
    };
    insert(Arc::make_mut(parent), rest, content);
}

/// An image of these layers; `more` is merged into its config.
pub fn image(name: &str, layers: &[StoreLayer], more: serde_json::Value) -> StoreImage {
    let diff_ids: Vec<String> = layers.iter().map(|l| l.diff_id.to_string()).collect();
    let history: Vec<_> = layers
        .iter()
        .map(|_| json!({"created_by": "fixture"}))
        .collect();
    let mut config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": history,
    });
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    with_config(name, layers, config.to_string().as_bytes())
}

/// An image of these layers with exactly this config.
pub fn with_config(name: &str, layers: &[StoreLayer], config: &[u8]) -> StoreImage {
    let config_digest = ConfigDigest::of(config);
    let layer_type = |layer: &StoreLayer| match layer.blob.compression {
        0 => "application/vnd.oci.image.layer.v1.tar",
        2 => "application/vnd.oci.image.layer.v1.tar+gzip",
        _ => "application/vnd.oci.image.layer.v1.tar+zstd",
    };
    let blobs: Vec<_> = layers
        .iter()
        .map(|layer| {
            json!({
                "mediaType": layer_type(layer),
                "digest": layer.blob.digest.to_string(),
                "size": layer.blob.size,
            })
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config_digest.to_string(),
            "size": config.len(),
        },
        "layers": blobs,
    });
    let manifest = manifest.to_string().into_bytes();
    StoreImage {
        name: name.parse().unwrap(),
        manifest_digest: ManifestDigest::of(&manifest),
        manifest: manifest.into(),
        index: None,
        config_digest,
        config: config.into(),
        layers: layers.to_vec(),
    }
}

/// The same image as `image` by another name, from a manifest of other bytes
/// and with the layers compressed otherwise.
pub fn recompressed(image: &StoreImage, name: &str, compression: u8) -> StoreImage {
    let mut layers = image.layers.clone();
    for layer in &mut layers {
        layer.blob = StoreBlob {
            digest: BlobDigest::of(format!("{compression}{}", layer.diff_id).as_bytes()),
            size: layer.diff_size / 2,
            compression,
        };
    }
    with_config(name, &layers, &image.config)
}

/// `image` by the name that pins its manifest.
pub fn pinned(image: &StoreImage) -> StoreImage {
    let name = format!("{}@{}", image.name.repository(), image.manifest_digest);
    StoreImage {
        name: name.parse().unwrap(),
        ..image.clone()
    }
}

/// `image` by the name that pins an index of it.
pub fn pinned_by_index(image: &StoreImage) -> StoreImage {
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": image.manifest_digest.to_string(),
            "size": image.manifest.len(),
            "platform": {"architecture": "amd64", "os": "linux"},
        }],
    });
    let index = index.to_string().into_bytes();
    let digest = boundstore::name::IndexDigest::of(&index);
    StoreImage {
        name: format!("{}@{digest}", image.name.repository())
            .parse()
            .unwrap(),
        index: Some((digest, index.into())),
        ..image.clone()
    }
}

/// Two images that share their base layer, a third name for one of them, one
/// pinned by its index, and one without layers.
pub fn small_set() -> Vec<StoreImage> {
    let (base, _) = layer(
        None,
        &[
            ("etc/", None),
            ("etc/os-release", Some(b"ID=fixture\n")),
            ("empty", Some(b"")),
        ],
    );
    let (one, _) = layer(
        Some(&base),
        &[("app/", None), ("app/one", Some(&[b'1'; 700]))],
    );
    let (two, _) = layer(Some(&base), &[("two", Some(b"2\n"))]);
    let created = json!({"created": "2024-01-02T03:04:05.000000006Z"});
    let app = image("quay.io/ns/app:1", &[base.clone(), one], created);
    vec![
        recompressed(&app, "quay.io/ns/app:latest", 2),
        pinned_by_index(&app),
        app,
        image("localhost/two:2", &[base, two], json!({})),
        image("localhost/none:1", &[], json!({})),
    ]
}
