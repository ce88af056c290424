use std::{fs, io::Read as _, path::Path};

use serde_json::{Value, json};
use tar::{EntryType, Header};

use super::*;
use crate::name::DiffId;

fn file(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar");
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn oci(bytes: &[u8]) -> Result<Layout, SourceError> {
    let (dir, path) = file(bytes);
    Layout::open_archive(&path, None, dir.path())
}

fn docker(bytes: &[u8], reference: Option<&str>) -> Result<DockerArchive, SourceError> {
    let (dir, path) = file(bytes);
    DockerArchive::open(&path, reference, dir.path())
}

/// A member with any name and type, past what the tar crate lets through.
fn member(name: &str, kind: EntryType, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

#[test]
fn an_archive_is_a_layout() {
    let usual = usual();
    let plain = usual.tar();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for bytes in [&plain, &gzip(&plain), &zstd] {
        let layout = oci(bytes).unwrap();
        let image = layout.resolve(&wanted("localhost/app:1")).unwrap();
        for (index, layer) in image.layers.iter().enumerate() {
            let mut data = layout.open_layer(&image, index).unwrap();
            let mut bytes = Vec::new();
            data.reader.read_to_end(&mut bytes).unwrap();
            assert_eq!(digest(&bytes), layer.blob_digest.to_string());
        }
        assert!(layout.find(&wanted("localhost/none:1")).unwrap().is_none());
    }
}

#[test]
fn hostile_and_broken_tars_are_refused() {
    let good = usual().tar();
    let with = |member: Vec<u8>| [member, good.clone()].concat();
    let regular = EntryType::Regular;
    let mut wrong_sum = good.clone();
    wrong_sum[150] ^= 1;
    let mut huge = member("x", regular, "", b"");
    let mut header = Header::from_byte_slice(&huge).clone();
    header.set_size(1 << 62);
    header.set_cksum();
    huge.copy_from_slice(header.as_bytes());
    for (bytes, says) in [
        (
            with(member("../x", regular, "", b"")),
            "\"../x\" has a name that leaves",
        ),
        (with(member("a/../x", regular, "", b"")), "leaves it"),
        (with(member("/etc/x", regular, "", b"")), "leaves it"),
        (
            with(member("l", EntryType::Symlink, "/etc/passwd", b"")),
            "leads out of it",
        ),
        (
            with(member("l", EntryType::Symlink, "../x", b"")),
            "leads out of it",
        ),
        (
            with(member("a/l", EntryType::Symlink, "../../x", b"")),
            "leads out of it",
        ),
        (
            with(member("l", EntryType::Link, "a/../../x", b"")),
            "leads out of it",
        ),
        (
            with(member("index.json", regular, "", b"{}")),
            "there twice",
        ),
        (
            with(member("./index.json", regular, "", b"{}")),
            "there twice",
        ),
        (with(member("s", EntryType::GNUSparse, "", b"")), "sparse"),
        (with(huge), "cut short"),
        (good[..good.len() / 2].to_vec(), "cut short"),
        (wrong_sum, "checksum"),
        (b"BZh91AY&SY".to_vec(), "bzip2"),
        (gzip(&good)[..2000].to_vec(), "compression is damaged"),
        (
            with(member(
                "long",
                EntryType::GNULongName,
                "",
                &vec![b'a'; 2 << 20],
            )),
            "extended header",
        ),
        (Vec::new(), "no file oci-layout"),
        (vec![b'x'; 100], "cut short"),
        (vec![0; 1024], "no file oci-layout"),
    ] {
        let text = chain(&oci(&bytes).unwrap_err());
        assert!(text.contains(says), "{says}: {text}");
        assert!(text.contains("oci-archive:"), "{text}");
    }
    let looped = [
        member("a", EntryType::Symlink, "b", b""),
        member("b", EntryType::Symlink, "a", b""),
        member("oci-layout", EntryType::Symlink, "a", b""),
    ];
    let text = chain(&oci(&looped.concat()).unwrap_err());
    assert!(text.contains("links away"), "{text}");
    // Devices and directories are nothing to us.
    oci(&with(member("dev", EntryType::Char, "", b""))).unwrap();
    oci(&with(member("blobs/", EntryType::Directory, "", b""))).unwrap();
    Layout::open_archive(Path::new("/etc"), None, Path::new("/tmp")).unwrap_err();
}

struct Saved {
    files: Vec<u8>,
    tars: Vec<Vec<u8>>,
}

/// What docker save makes of an image whose last layer is its first again.
fn saved(pack: fn(&[u8]) -> Vec<u8>) -> Saved {
    let mut tars = layers("amd64");
    tars.push(tars[0].clone());
    let config = serde_json::to_vec(&Fixture::config("amd64", &tars)).unwrap();
    let manifest = json!([{
        "Config": "config.json",
        "RepoTags": ["alpine:1", "localhost/b:2"],
        "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar", "d/layer.tar"],
    }]);
    let mut files = Vec::new();
    for (name, tar) in ["a", "b", "c"].iter().zip(&tars) {
        let name = format!("{name}/layer.tar");
        files.extend(member(&name, EntryType::Regular, "", &pack(tar)));
    }
    files.extend(member(
        "d/layer.tar",
        EntryType::Symlink,
        "../a/layer.tar",
        b"",
    ));
    files.extend(member("config.json", EntryType::Regular, "", &config));
    files.extend(member(
        "manifest.json",
        EntryType::Regular,
        "",
        &serde_json::to_vec(&manifest).unwrap(),
    ));
    Saved { files, tars }
}

#[test]
fn docker_archives_have_a_made_up_manifest() {
    let plain: fn(&[u8]) -> Vec<u8> = <[u8]>::to_vec;
    for pack in [plain, gzip] {
        let Saved { files, tars } = saved(pack);
        for files in [&files, &gzip(&files)] {
            let archive = docker(files, None).unwrap();
            let image = archive
                .resolve(&wanted("docker.io/library/alpine:1"))
                .unwrap();
            let manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
            assert_eq!(manifest["layers"][3]["digest"], digest(&tars[0]));
            assert_eq!(manifest["layers"][1]["size"], tars[1].len());
            for (index, tar) in tars.iter().enumerate() {
                let mut data = archive.open_layer(&image, index).unwrap();
                assert_eq!(data.form, LayerForm::Tar);
                assert_eq!(image.layers[index].compression, Compression::None);
                assert_eq!(image.layers[index].diff_id, DiffId::of(tar));
                let mut bytes = Vec::new();
                data.reader.read_to_end(&mut bytes).unwrap();
                assert!(bytes == *tar);
            }
            let locked = Wanted {
                locked: Some(image.manifest_digest),
                ..wanted("localhost/x:1")
            };
            assert!(archive.find(&locked).unwrap().is_some());
            assert!(archive.find(&wanted("localhost/x:1")).unwrap().is_none());
            assert!(archive.find(&wanted("localhost/b:2")).unwrap().is_some());
        }
    }
    let Saved { files, .. } = saved(plain);
    for (reference, found) in [
        ("alpine:1", true),
        ("localhost/b:2", true),
        ("@0", true),
        ("@1", false),
        ("alpine:2", false),
        ("A!", false),
    ] {
        let archive = docker(&files, Some(reference)).unwrap();
        let resolved = archive.resolve(&wanted("localhost/x:1"));
        assert_eq!(resolved.is_ok(), found, "{reference}");
    }
}

#[test]
fn broken_docker_archives_are_refused() {
    let regular = |name: &str, content: Value| {
        let content = serde_json::to_vec(&content).unwrap();
        member(name, EntryType::Regular, "", &content)
    };
    let config = Fixture::config("amd64", &[tar(&[])]);
    let manifest = json!([{"Config": "c", "RepoTags": null, "Layers": ["l"]}]);
    let layer = member("l", EntryType::Regular, "", &tar(&[]));
    for (members, says) in [
        (vec![layer.clone()], "no manifest.json"),
        (vec![regular("manifest.json", json!({}))], "manifest.json"),
        (vec![regular("manifest.json", json!([]))], "it holds none"),
        (vec![regular("manifest.json", manifest.clone())], "names c,"),
        (
            vec![
                regular("manifest.json", manifest.clone()),
                regular("c", config.clone()),
            ],
            "names l,",
        ),
        (
            vec![
                regular("manifest.json", json!([{"Config": "c", "Layers": []}])),
                regular("c", config.clone()),
            ],
            "found 1 DiffIDs",
        ),
        (
            vec![
                regular(
                    "manifest.json",
                    json!([{"Config": "c", "Layers": ["../l"]}]),
                ),
                regular("c", config.clone()),
            ],
            "names ../l,",
        ),
    ] {
        let archive = docker(&members.concat(), None);
        let error = archive.and_then(|archive| archive.resolve(&wanted("localhost/x:1")));
        let text = chain(&error.unwrap_err());
        assert!(text.contains(says), "{says}: {text}");
    }
    let all = [
        regular("manifest.json", manifest),
        regular("c", config),
        layer,
    ];
    docker(&all.concat(), None)
        .unwrap()
        .resolve(&wanted("localhost/x:1"))
        .unwrap();
}
