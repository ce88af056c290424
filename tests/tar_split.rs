//! Our tar-splits and those that skopeo writes are the same.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;
#[path = "common/store_images.rs"]
mod store_images;

use std::{
    fs::{self, File},
    io::Read as _,
    path::Path,
    process::Command,
};

use boundstore::{
    name::DiffId,
    store_tree::{
        StoreImage, StoreLayer, parse_images_json, parse_layers_json,
        tar_split::{Crc64, TarSplitItem, TarSplitReader, TarSplitWriter, reassemble},
    },
};
use common::{ready, text};
use serde_json::json;
use store_images::{image, layer};

/// Writes an image as an OCI layout with the one reference `1`.
fn write_layout(path: &Path, image: &StoreImage, tars: &[&[u8]]) {
    let blobs = path.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = DiffId::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
    };
    for tar in tars {
        put(tar);
    }
    put(&image.config);
    put(&image.manifest);
    fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": image.manifest_digest.to_string(),
        "size": image.manifest.len(),
        "annotations": {"org.opencontainers.image.ref.name": "1"},
    }]});
    fs::write(path.join("index.json"), index.to_string()).unwrap();
}

/// Neighbouring segments joined, empty ones left out: where a writer cuts them
/// does not matter.
fn joined(items: impl IntoIterator<Item = TarSplitItem>) -> Vec<TarSplitItem> {
    let mut joined: Vec<TarSplitItem> = Vec::new();
    for item in items {
        match (&item, joined.last_mut()) {
            (TarSplitItem::Segment(bytes), Some(TarSplitItem::Segment(last))) => {
                last.extend_from_slice(bytes);
            }
            (TarSplitItem::Segment(bytes), _) if bytes.is_empty() => {}
            _ => joined.push(item),
        }
    }
    joined
}

fn read(path: &Path) -> Vec<TarSplitItem> {
    let items = TarSplitReader::new(File::open(path).unwrap());
    joined(items.map(Result::unwrap))
}

/// A layer of names that must be quoted: long ones, in PAX headers, not
/// UTF-8, with quotes and controls; made with the tar crate's own headers.
fn odd_layer() -> (Vec<u8>, Vec<u8>) {
    let mut tar = Vec::new();
    let mut split = TarSplitWriter::new(Vec::new()).unwrap();
    let mut add = |raw: &[u8]| {
        tar.extend_from_slice(raw);
        split.segment(raw).unwrap();
    };
    let header = |name: &[u8], kind: tar::EntryType, size: u64| {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        header
    };
    let long = "long/".repeat(40) + "name";
    let record = format!(" path={long}\n");
    let record = format!("{}{record}", record.len() + 3);
    let pax = header(b"pax", tar::EntryType::XHeader, record.len() as u64);
    add(pax.as_bytes());
    add(record.as_bytes());
    add(&vec![0; record.len().next_multiple_of(512) - record.len()]);
    let names: [&[u8]; 5] = [
        b"long",
        b"q\"<&>",
        b"ctl\x01\x7f",
        b"\xe9",
        "\u{e9}\u{2028}".as_bytes(),
    ];
    for (number, name) in names.into_iter().enumerate() {
        let content = vec![b'0' + u8::try_from(number).unwrap(); 1000 * (number + 1)];
        let kind = tar::EntryType::Regular;
        let header = header(name, kind, content.len() as u64);
        tar.extend_from_slice(header.as_bytes());
        split.segment(header.as_bytes()).unwrap();
        let shown = if number == 0 { long.as_bytes() } else { name };
        split
            .file(shown, content.len() as u64, Crc64::of(&content))
            .unwrap();
        tar.extend_from_slice(&content);
        let padding = vec![0; content.len().next_multiple_of(512) - content.len()];
        tar.extend_from_slice(&padding);
        split.segment(&padding).unwrap();
    }
    // An end of odd length, and what stands behind it.
    let end = [vec![0; 1024], b"trailing".to_vec()].concat();
    tar.extend_from_slice(&end);
    split.segment(&end).unwrap();
    (tar, split.finish().unwrap())
}

fn inline(layer: &StoreLayer) -> Vec<TarSplitItem> {
    let boundstore::squash::tree::FileContent::Inline(bytes) = &layer.tar_split else {
        panic!("not inline");
    };
    joined(TarSplitReader::new(&bytes[..]).map(Result::unwrap))
}

#[test]
fn skopeo_writes_the_same_items() {
    if !ready(&["skopeo"]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    let big = vec![b'b'; 300_000];
    let (base, base_tar) = layer(
        None,
        &[
            ("d/", None),
            ("d/f", Some(b"hello\n")),
            ("empty", Some(b"")),
            ("big", Some(&big)),
        ],
    );
    let (mut odd, _) = layer(Some(&base), &[]);
    let (odd_tar, odd_split) = odd_layer();
    odd.diff_id = DiffId::of(&odd_tar);
    odd.diff_size = odd_tar.len() as u64;
    odd.blob.digest = odd.diff_id.cast();
    odd.blob.size = odd.diff_size;
    odd.tar_split = boundstore::squash::tree::FileContent::Inline(odd_split.into());
    let layers = [base, odd];
    let image = image("localhost/a:1", &layers, json!({}));
    write_layout(&path("layout"), &image, &[&base_tar, &odd_tar]);
    let store = path("store");
    text(
        Command::new("skopeo")
            .args(["copy", "--preserve-digests"])
            .arg(format!("oci:{}:1", path("layout").display()))
            .arg(format!(
                "containers-storage:[overlay@{}+{}-run]localhost/a:1",
                store.display(),
                store.display()
            )),
    );

    let images = fs::read(store.join("overlay-images/images.json")).unwrap();
    let images = parse_images_json(&images).unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].id, image.config_digest.hex());
    assert_eq!(images[0].names, ["localhost/a:1"]);
    let records = fs::read(store.join("overlay-layers/layers.json")).unwrap();
    let records = parse_layers_json(&records).unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(images[0].layer.as_ref(), Some(&records[1].id));

    for (record, layer) in records.iter().zip(&layers) {
        assert_eq!(record.diff_digest, Some(layer.diff_id.to_string()));
        let theirs = format!("overlay-layers/{}.tar-split.gz", record.id);
        let theirs = store.join(theirs);
        assert_eq!(read(&theirs), inline(layer));

        let diff = store.join("overlay").join(&record.id).join("diff");
        let mut tar = Vec::new();
        let open = |name: &[u8], _: u64| {
            use std::os::unix::ffi::OsStrExt as _;
            File::open(diff.join(std::ffi::OsStr::from_bytes(name)))
        };
        let split = TarSplitReader::new(File::open(&theirs).unwrap());
        let length = reassemble(split, open, &mut tar).unwrap();
        assert_eq!(length, layer.diff_size);
        assert_eq!(DiffId::of(&tar), layer.diff_id);

        let mut bytes = Vec::new();
        File::open(&theirs)
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        let half = TarSplitReader::new(&bytes[..bytes.len() / 2]);
        assert!(half.last().unwrap().is_err());
    }
}
