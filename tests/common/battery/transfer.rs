//! Steps that take the image out of the store, or get one that is in it.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use super::{
    super::{
        image::{Image, decompressed, sha256, strings},
        registry::Registry,
        text,
    },
    Case,
};

/// Digests of the members of a tar that look like layers or documents.
fn members(archive: &Path) -> BTreeMap<String, (String, Vec<u8>)> {
    let mut archive = tar::Archive::new(fs::File::open(archive).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let small = entry.size() < 1 << 20;
        let mut bytes = Vec::new();
        if small {
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            return (name, (sha256(&bytes[..]), bytes));
        }
        (name, (sha256(entry), bytes))
    });
    entries.collect()
}

pub fn save_docker_archive(case: &Case) {
    let file = case.scratch.join("saved.tar");
    let at = file.display();
    case.podman.ok(&format!(
        "save --format docker-archive --output {at} {}",
        case.name
    ));
    let members = members(&file);
    let manifest: Value = serde_json::from_slice(&members["manifest.json"].1).unwrap();
    let layers = strings(&manifest[0]["Layers"]);
    let digests: Vec<&str> = layers.iter().map(|name| &*members[name].0).collect();
    assert_eq!(digests, case.image.diff_ids());
    assert_eq!(strings(&manifest[0]["RepoTags"]), [case.name]);
}

pub fn save_oci_archive(case: &Case) {
    let file = case.scratch.join("saved.tar");
    let at = file.display();
    case.podman.ok(&format!(
        "save --format oci-archive --output {at} {}",
        case.name
    ));
    let layout = case.scratch.dir("layout");
    text(
        std::process::Command::new("tar")
            .args(["-xf"])
            .arg(&file)
            .arg("-C")
            .arg(&layout),
    );
    let index: Value = super::super::image::json_file(&layout.join("index.json"));
    let reference = &index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"];
    let saved = Image::read(&layout, reference.as_str().unwrap());
    assert_eq!(saved.id(), case.image.id());
    assert_layers(
        case,
        |blob| super::super::image::blob_path(&layout, blob),
        &saved.blobs(),
    );
}

pub fn push_directory(case: &Case) {
    let to = case.scratch.join("pushed");
    case.podman
        .ok(&format!("push --quiet {} dir:{}", case.name, to.display()));
    let manifest = super::super::image::json_file(&to.join("manifest.json"));
    let blobs: Vec<String> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["digest"].as_str().unwrap().to_owned())
        .collect();
    assert_layers(case, |blob| to.join(&blob["sha256:".len()..]), &blobs);
    let config = manifest["config"]["digest"].as_str().unwrap();
    assert_eq!(config, format!("sha256:{}", case.image.id()));
}

pub fn push_registry(case: &Case) {
    let registry = Registry::start(case.scratch);
    let name = format!("docker://{}/pushed:v1", registry.address);
    case.podman.ok(&format!(
        "push --quiet --tls-verify=false {} {name}",
        case.name
    ));
    let layout = case.scratch.join("layout");
    text(
        std::process::Command::new("skopeo")
            .args(["copy", "--quiet", "--src-tls-verify=false", &name])
            .arg(format!("oci:{}:v1", layout.display())),
    );
    let pushed = Image::read(&layout, "v1");
    assert_eq!(pushed.id(), case.image.id());
    assert_layers(
        case,
        |blob| super::super::image::blob_path(&layout, blob),
        &pushed.blobs(),
    );
}

/// The blobs, decompressed, are the layers that the source's config names.
fn assert_layers(case: &Case, path: impl Fn(&str) -> std::path::PathBuf, blobs: &[String]) {
    let found: Vec<String> = blobs
        .iter()
        .map(|blob| sha256(decompressed(fs::File::open(path(blob)).unwrap())))
        .collect();
    assert_eq!(found, case.image.diff_ids());
}

pub fn pull_same(case: &Case) {
    let registry = Registry::start(case.scratch);
    registry.put(case.image, "same:v1");
    let mark = registry.mark();
    let name = format!("{}/same:v1", registry.address);
    let id = case
        .podman
        .ok(&format!("pull --quiet --tls-verify=false {name}"));
    // Two lines: the record in the primary store, and the one it stands for.
    assert!(id.lines().all(|line| line == case.image.id()), "{id}");
    let fetched = registry.fetched_since(mark);
    let layers = case.image.blobs();
    assert!(
        fetched.iter().all(|blob| !layers.contains(blob)),
        "fetched again: {fetched:?}"
    );
    assert_eq!(case.podman.own_layers(), [""; 0]);
    let listed = case.podman.images();
    assert!(listed.contains(&(name.clone(), false)), "{listed:?}");
    assert_eq!(case.podman.run("--rm", &name, "cat /app/version"), "v1\n");
}

pub fn pull_derived(case: &Case) {
    let layout = case.scratch.join("derived");
    let derived = case.image.derive(&layout, &[("app/version", "derived\n")]);
    let registry = Registry::start(case.scratch);
    registry.put(&derived, "derived:v1");
    let mark = registry.mark();
    let name = format!("{}/derived:v1", registry.address);
    case.podman
        .ok(&format!("pull --quiet --tls-verify=false {name}"));
    let fetched = registry.fetched_since(mark);
    let layers = case.image.blobs();
    assert!(
        fetched.iter().all(|blob| !layers.contains(blob)),
        "fetched again: {fetched:?}"
    );
    assert_eq!(case.podman.own_layers().len(), 1);
    let script = "cat /app/version; sha256sum --check --quiet /app/SHA256SUMS";
    assert_eq!(case.podman.run("--rm", &name, script), "derived\n");
    let file = case.scratch.join("saved.tar");
    case.podman
        .ok(&format!("save --output {} {name}", file.display()));
    let members = members(&file);
    let manifest: Value = serde_json::from_slice(&members["manifest.json"].1).unwrap();
    let layers = strings(&manifest[0]["Layers"]);
    let digests: Vec<&str> = layers.iter().map(|name| &*members[name].0).collect();
    assert_eq!(digests, derived.diff_ids());
}
