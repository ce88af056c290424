//! What is fuzzed: everything that reads bytes which others made. Each target
//! takes any bytes, must not panic, and checks what must hold of the result.
//!
//! The fuzz targets call these, and so does `tests/fuzz_bounded.rs`.

use std::{
    collections::BTreeSet,
    fmt::Display,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use boundstore::{
    bound::{Lock, UnitKind, asked_image, kube_images, parse_list, parse_unit, words},
    bundle::{BundleIndex, Content},
    config::Config,
    deployment::host::{BootcStatus, parse_staged},
    document,
    import::tar::squash_tar_layers,
    name::{Algorithm, ImageName},
    repo::{ImageStream, SetRecord, read_back},
    source::{DockerArchive, Layout, SourceRef, Wanted, judge_native},
    squash::{
        EntryName,
        tree::{Device, Directory, InodeContent, Metadata, Node},
    },
    store_tree::{
        is_rootfs, parse_images_json, parse_layers_json,
        tar_split::{TarSplitItem, TarSplitReader},
        validate_tree,
    },
    sys::parse_mount_table,
};
use serde_json::Value;

/// A target.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("unit", unit),
    ("kube", kube),
    ("list", list),
    ("image_name", image_name),
    ("source_ref", source_ref),
    ("manifest", manifest),
    ("config", config),
    ("index", index),
    ("bundle_index", bundle_index),
    ("entry_name", entry_name),
    ("layers", layers),
    ("tar_split", tar_split),
    ("store_json", store_json),
    ("staged", staged),
    ("lock", lock),
    ("host_config", host_config),
    ("policy", policy),
    ("archive", archive),
    ("record", record),
    ("set_image", set_image),
    ("mount_table", mount_table),
    ("bootc_status", bootc_status),
];

/// Quadlet units.
pub fn unit(bytes: &[u8]) {
    if let Ok(unit) = parse_unit(bytes) {
        for assignment in unit.assignments() {
            assert!(!assignment.key.is_empty());
            assert!(!assignment.value.contains(['\0', '\n', '\r']));
            let letters: usize = words(&assignment.value).iter().map(String::len).sum();
            assert!(letters <= assignment.value.len());
        }
        let mut twice = unit.clone();
        twice.merge(unit.clone());
        for assignment in unit.assignments() {
            let (section, key) = (&assignment.section, &assignment.key);
            let last = twice.last(section, key).map(|found| &found.value);
            assert_eq!(last, unit.last(section, key).map(|found| &found.value));
        }
    }
    for kind in [UnitKind::Image, UnitKind::Container] {
        if let Ok(asked) = asked_image(kind, bytes) {
            assert_full(&asked.name.name);
            assert!(parse_unit(bytes).is_ok());
        }
    }
}

/// Kubernetes YAML.
pub fn kube(bytes: &[u8]) {
    let lines = 1..=1 + bytes
        .iter()
        .filter(|&&byte| byte == b'\n' || byte == b'\r')
        .count();
    match kube_images(bytes) {
        Ok(found) => {
            let images = found.images.iter().map(|image| image.line);
            let all = images.chain(found.user_namespaces.iter().copied());
            all.for_each(|line| assert!(lines.contains(&line)));
        }
        Err(error) => assert!(lines.contains(&error.line), "{} {error:?}", error.line),
    }
}

/// Lists of images.
pub fn list(bytes: &[u8]) {
    let lines = 1..=1 + bytes.iter().filter(|&&byte| byte == b'\n').count();
    match parse_list(bytes) {
        Ok(list) => list
            .images
            .iter()
            .for_each(|(_, line)| assert!(lines.contains(line))),
        Err(error) => assert!(lines.contains(&error.line)),
    }
}

/// ostree's `/run/ostree/staged-deployment`.
pub fn staged(bytes: &[u8]) {
    if let Ok(Some(staged)) = parse_staged(bytes) {
        // Both are in the bytes, each with its zero.
        for text in [staged.name, staged.stateroot] {
            let written = [text.as_bytes(), b"\0"].concat();
            assert!(bytes.windows(written.len()).any(|part| part == written));
        }
    }
}

/// Image names.
pub fn image_name(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(normalised) = ImageName::normalise(text) {
        assert_full(&normalised.name);
    }
}

/// A full name is its own full name.
fn assert_full(name: &ImageName) {
    let text = name.to_string();
    let again = ImageName::normalise(&text).expect("a full name is a name");
    assert!(!again.was_short, "{text}");
    assert_eq!(&again.name, name);
    assert!(name.tag().is_some() != name.pinned().is_some());
}

/// SOURCE texts.
pub fn source_ref(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(source) = text.parse::<SourceRef>() {
        let again = source.to_string().parse::<SourceRef>();
        assert_eq!(again.as_ref(), Ok(&source), "{source}");
    }
}

/// What Go reads for a field, whose key may be spelt in any case: if there are
/// two, readers differ.
fn field<'a>(json: &'a Value, name: &str) -> &'a Value {
    let fold = |key: &str| key.to_lowercase().replace('\u{17f}', "s");
    let members = json.as_object().into_iter().flatten();
    let mut values = members.filter(|(key, _)| fold(key) == fold(name));
    let value = values.next().map_or(&Value::Null, |(_, value)| value);
    assert!(values.next().is_none(), "{name} has two readings");
    value
}

fn items(json: &Value) -> impl Iterator<Item = &Value> {
    json.as_array().into_iter().flatten()
}

fn assert_digest(found: impl Display, json: &Value) {
    assert_eq!(Some(&*found.to_string()), json.as_str());
}

/// Manifests: a second reader sees the same config and layers.
pub fn manifest(bytes: &[u8]) {
    let kind = document::document_kind(bytes);
    let Ok(parsed) = document::parse_manifest(bytes) else {
        return;
    };
    assert_eq!(kind.ok(), Some(document::DocumentKind::Manifest));
    let json: Value = serde_json::from_slice(bytes).expect("it was parsed");
    assert_digest(
        parsed.config.digest,
        field(field(&json, "config"), "digest"),
    );
    let layers = field(&json, "layers");
    assert_eq!(items(layers).count(), parsed.layers.len());
    for (layer, json) in parsed.layers.iter().zip(items(layers)) {
        assert_digest(layer.digest, field(json, "digest"));
    }
}

/// Configs: a second reader sees the same layers.
pub fn config(bytes: &[u8]) {
    let Ok(parsed) = document::parse_config(bytes) else {
        return;
    };
    let json: Value = serde_json::from_slice(bytes).expect("it was parsed");
    let diff_ids = field(field(&json, "rootfs"), "diff_ids");
    assert_eq!(items(diff_ids).count(), parsed.diff_ids.len());
    for (diff_id, json) in parsed.diff_ids.iter().zip(items(diff_ids)) {
        assert_digest(diff_id, json);
    }
}

/// Indexes: a second reader sees the same documents.
pub fn index(bytes: &[u8]) {
    let kind = document::document_kind(bytes);
    let Ok(parsed) = document::parse_index(bytes) else {
        return;
    };
    assert_eq!(kind.ok(), Some(document::DocumentKind::Index));
    let json: Value = serde_json::from_slice(bytes).expect("it was parsed");
    let entries = field(&json, "manifests");
    assert_eq!(items(entries).count(), parsed.entries.len());
    for (entry, json) in parsed.entries.iter().zip(items(entries)) {
        assert_digest(entry.document.digest, field(json, "digest"));
    }
}

/// Indexes of bundles: what is read is written as the same index, which says
/// nothing twice.
pub fn bundle_index(bytes: &[u8]) {
    let Ok(parsed) = BundleIndex::parse(bytes) else {
        return;
    };
    assert!(BundleIndex::is_one(bytes).expect("it was parsed"));
    assert_eq!(
        BundleIndex::parse(&parsed.to_json()).ok().as_ref(),
        Some(&parsed)
    );
    let mut names = BTreeSet::new();
    for (_, image) in parsed.images() {
        assert_full(&image.name);
        assert!(names.insert(&image.name), "{} is there twice", image.name);
    }
    for member in &parsed.members {
        if let Content::Artifact { tag: Some(tag), .. } = &member.content {
            assert!(!tag.contains(['/', ':']), "{tag:?} is no tag");
        }
    }
}

/// Names of tar entries: clean is clean, and nothing leaves the root.
pub fn entry_name(bytes: &[u8]) {
    if let Ok(name) = EntryName::parse(bytes) {
        for component in name.components() {
            assert_component(component);
        }
        assert_eq!(EntryName::parse(name.as_bytes()).as_ref(), Ok(&name));
    }
}

/// Layers, squashed. The first byte says where the bytes are cut into two tars.
pub fn layers(bytes: &[u8]) {
    let Some((&cut, tars)) = bytes.split_first() else {
        return;
    };
    let at = (usize::from(cut) * 512).min(tars.len());
    let (lower, upper) = tars.split_at(at);
    let chain: &[&[u8]] = if cut == 0 { &[tars] } else { &[lower, upper] };
    if let Ok((trees, _)) = squash_tar_layers(chain) {
        assert_eq!(trees.len(), chain.len());
        trees.iter().for_each(assert_tree);
    }
}

fn assert_component(name: &[u8]) {
    assert!(!name.is_empty() && name.len() <= 255);
    assert!(name != b"." && name != b"..");
    assert!(!name.contains(&b'/') && !name.contains(&0));
}

fn assert_tree(tree: &Arc<Directory>) {
    let mut todo = vec![tree];
    while let Some(directory) = todo.pop() {
        assert_metadata(&directory.metadata);
        for (name, node) in &directory.entries {
            assert_component(name);
            match node {
                Node::Directory(directory) => todo.push(directory),
                Node::Inode(inode) => {
                    assert_metadata(&inode.metadata);
                    match &inode.content {
                        InodeContent::CharDevice(Device { major, minor }) => {
                            assert!((*major, *minor) != (0, 0), "a whiteout came through");
                        }
                        InodeContent::Symlink(target) => {
                            assert!(!target.is_empty() && !target.contains(&0));
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

fn assert_metadata(metadata: &Metadata) {
    assert!(metadata.mode <= 0o7777);
    assert!(metadata.mtime.nsec < 1_000_000_000);
    for name in metadata.xattrs.keys() {
        for internal in ["trusted.overlay.", "user.overlay.", "security.selinux"] {
            assert!(!name.starts_with(internal.as_bytes()));
        }
    }
}

/// tar-split: the bytes as gzip, and packed into one.
pub fn tar_split(bytes: &[u8]) {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).expect("memory");
    let packed = packed.finish().expect("memory");
    for gzip in [bytes, &packed] {
        let mut ended = false;
        for item in TarSplitReader::with_limit(gzip, 1 << 20) {
            assert!(!ended, "something after an error");
            match item {
                Ok(TarSplitItem::File { size: 0, crc64, .. }) => assert_eq!(crc64, 0),
                Ok(_) => {}
                Err(_) => ended = true,
            }
        }
    }
}

/// `images.json` and `layers.json`.
pub fn store_json(bytes: &[u8]) {
    let _ = parse_images_json(bytes);
    let _ = parse_layers_json(bytes);
}

/// Lock files: what is read is written as the same lock.
pub fn lock(bytes: &[u8]) {
    if let Ok(lock) = Lock::parse(bytes) {
        assert_eq!(
            Lock::parse(lock.to_json().as_bytes()).ok().as_ref(),
            Some(&lock)
        );
        for image in &lock.images {
            assert_eq!(lock.image(&image.name), Some(image));
        }
    }
}

/// `config.toml`, alone and over another one.
pub fn host_config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let own = || (PathBuf::from("own"), text.to_owned());
    let below = (
        PathBuf::from("below"),
        "[sync]\nkeep-layers = \"none\"\n".to_owned(),
    );
    let alone = Config::parse(&[own()]);
    assert_eq!(alone.is_ok(), Config::parse(&[below, own()]).is_ok());
}

/// A file of these bytes, for what reads no others.
fn as_file<R>(bytes: &[u8], read: impl FnOnce(&Path) -> R) -> R {
    thread_local! {
        static FOLDER: tempfile::TempDir = tempfile::tempdir().expect("a folder");
    }
    FOLDER.with(|folder| {
        let path = folder.path().join("file");
        std::fs::write(&path, bytes).expect("a file");
        read(&path)
    })
}

/// policy.json, asked of an image that nothing pins.
pub fn policy(bytes: &[u8]) {
    let name: ImageName = "quay.io/a/b:1".parse().expect("a name");
    as_file(bytes, |path| {
        if judge_native(&name, None, &[path.to_owned()]).is_ok() {
            assert!(
                bytes
                    .windows(22)
                    .any(|part| part == b"insecureAcceptAnything")
            );
        }
    });
}

/// Archives of both kinds, plain or packed.
pub fn archive(bytes: &[u8]) {
    let name: ImageName = "quay.io/a/b:1".parse().expect("a name");
    let wanted = Wanted::new(name);
    let spool = std::env::temp_dir();
    as_file(bytes, |path| {
        if let Ok(archive) = DockerArchive::open(path, None, &spool)
            && let Ok(image) = archive.resolve(&wanted)
        {
            for layer in 0..image.layers.len() {
                let _ = archive.open_layer(&image, layer);
            }
        }
        if let Ok(layout) = Layout::open_archive(path, None, &spool)
            && let Ok(image) = layout.resolve(&wanted)
        {
            for layer in 0..image.layers.len() {
                let _ = layout.open_layer(&image, layer);
            }
        }
    });
}

/// What pins and image streams say of a set: what is read is written the same.
pub fn record(bytes: &[u8]) {
    if let Ok(set) = serde_json::from_slice::<SetRecord>(bytes) {
        let again = serde_json::to_vec(&set).expect("it was JSON");
        assert_eq!(serde_json::from_slice::<SetRecord>(&again).ok(), Some(set));
    }
    if let Ok(image) = serde_json::from_slice::<ImageStream>(bytes) {
        let again = serde_json::to_vec(&image).expect("it was JSON");
        assert_eq!(
            serde_json::from_slice::<ImageStream>(&again).ok(),
            Some(image)
        );
    }
}

/// Set images, as `verify` reads them back. The first byte says which algorithm.
pub fn set_image(bytes: &[u8]) {
    let Some((first, image)) = bytes.split_first() else {
        return;
    };
    let algorithm = match first % 2 {
        0 => Algorithm::Sha512,
        _ => Algorithm::Sha256,
    };
    if let Ok(tree) = read_back(algorithm, image.to_vec(), is_rootfs) {
        let _ = validate_tree(&tree);
    }
}

/// `/proc/self/mountinfo`: whoever mounts names the source.
pub fn mount_table(bytes: &[u8]) {
    let _ = parse_mount_table(bytes);
}

/// `bootc status --json`.
pub fn bootc_status(bytes: &[u8]) {
    if let Ok(status) = BootcStatus::parse(bytes) {
        let _ = status.differences(&[]);
    }
}
