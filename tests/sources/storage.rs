use std::{fs, io::Read as _};

use boundstore::source::{Failing, Found, SourceError, Sources, Wanted};
use serde_json::Value;

use crate::{
    host::{Bench, TestRegistry, have, read_layers, run, wanted},
    testing,
};

const NAME: &str = "localhost/one:1";

fn is_root() -> bool {
    let root = run("id", &["-u"]) == b"0\n";
    if !root {
        assert!(std::env::var_os("CI").is_none(), "CI is not root");
        eprintln!("SKIPPED: not root");
    }
    root
}

/// Copies the image of one platform into a storage of its own.
fn stored(bench: &Bench) -> String {
    let (graph, run_root) = (bench.text("graph"), bench.text("run"));
    let target = format!("containers-storage:[overlay@{graph}+{run_root}]{NAME}");
    let source = bench.oci(NAME);
    run(
        "skopeo",
        &["copy", "-q", "--preserve-digests", &source, &target],
    );
    target
}

fn resolve(bench: &Bench, source: &str) -> Result<Found, SourceError> {
    bench.sources().resolve(&wanted(NAME, source))
}

#[test]
fn the_storage_gives_the_same_image() {
    if !have(&["skopeo"]) || !is_root() {
        return;
    }
    let bench = Bench::new();
    let target = stored(&bench);
    let oci = resolve(&bench, &bench.oci(NAME)).unwrap();
    let graph = bench.text("graph");
    let id = oci.image.config_digest.hex();
    let name = NAME.split(':').next().unwrap();
    for source in [
        target,
        format!("containers-storage:[{graph}]{NAME}"),
        format!("containers-storage:[{graph}]"),
        format!("containers-storage:[overlay@{graph}]@{id}"),
        format!("containers-storage:[overlay@{graph}]{}", &id[..12]),
        format!("containers-storage:[{graph}]{name}@{}", bench.digest(1)),
    ] {
        let found = resolve(&bench, &source).unwrap();
        assert_eq!(found.image.manifest, oci.image.manifest, "{source}");
        assert_eq!(found.image.config, oci.image.config);
        assert_eq!(found.image.layers, oci.image.layers);
        assert!(!found.needs_fetch());
        assert_eq!(read_layers(&found, &bench.spool()).len(), 3);
    }
    let none = format!("containers-storage:[{graph}]localhost/none:1");
    let error = resolve(&bench, &none).unwrap_err();
    assert_eq!(error.failing(), Failing::NotFound);
    assert!(error.to_string().contains(NAME), "{error}");
    let vfs = format!("containers-storage:[vfs@{graph}]{NAME}");
    let error = resolve(&bench, &vfs).unwrap_err();
    assert_eq!(error.failing(), Failing::Unsupported);
    resolve(&bench, "containers-storage:[/nowhere]x").unwrap_err();

    // As a lookaside: by name and by digest.
    let lookaside = [format!("containers-storage:[{graph}]").parse().unwrap()];
    let sources = Sources::open(&lookaside, bench.options()).unwrap();
    for name in [
        NAME.to_owned(),
        format!("quay.io/other@{}", bench.digest(1)),
    ] {
        let wanted = Wanted {
            source: None,
            ..wanted(&name, "oci:/nowhere")
        };
        let found = sources.resolve(&wanted).unwrap();
        assert!(found.origin.starts_with("containers-storage:"));
    }
}

#[test]
fn damage_in_a_storage_is_found() {
    if !have(&["skopeo"]) || !is_root() {
        return;
    }
    let bench = Bench::new();
    let target = stored(&bench);
    let found = resolve(&bench, &target).unwrap();
    let graph = bench.path("graph");
    let read = |index: usize| {
        let mut data = found
            .open_layer(index, None)
            .map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        let read = data.reader.read_to_end(&mut bytes);
        read.map_err(|error| error.to_string())?;
        Ok::<_, String>(testing::digest(&bytes))
    };
    let base = found.image.layers[0].diff_id.hex();
    let big = graph.join("overlay").join(&base).join("diff/big");
    let whole = fs::read(&big).unwrap();
    let mut changed = whole.clone();
    changed[1000] ^= 1;
    for (bytes, says) in [
        (Some(&changed[..]), "was changed"),
        (Some(&whole[1..]), "799999 bytes long, not 800000"),
        (None, "in no folder"),
    ] {
        match bytes {
            Some(bytes) => fs::write(&big, bytes).unwrap(),
            None => fs::remove_file(&big).unwrap(),
        }
        let text = read(0).unwrap_err();
        assert!(text.contains(says) && text.contains("big"), "{text}");
    }
    // Never out of the layer's folder.
    let outside = bench.path("outside");
    fs::write(&outside, &whole).unwrap();
    std::os::unix::fs::symlink(&outside, &big).unwrap();
    let text = read(0).unwrap_err();
    assert!(text.contains("in no folder"), "{text}");
    fs::remove_file(&big).unwrap();
    fs::write(&big, &whole).unwrap();
    assert_eq!(read(0).unwrap(), found.image.layers[0].diff_id.to_string());
    // What a layer below has may stand in, as for containers-storage.
    let arch = |at: usize| {
        let ids = fs::read_to_string(graph.join("overlay-layers/layers.json")).unwrap();
        let layers: Value = serde_json::from_str(&ids).unwrap();
        let id = layers[at]["id"].as_str().unwrap().to_owned();
        graph.join("overlay").join(id).join("diff/etc/arch")
    };
    fs::rename(arch(1), arch(0)).unwrap();
    assert_eq!(read(1).unwrap(), found.image.layers[1].diff_id.to_string());

    let split = graph
        .join("overlay-layers")
        .join(format!("{base}.tar-split.gz"));
    let bytes = fs::read(&split).unwrap();
    fs::write(&split, &bytes[..bytes.len() - 9]).unwrap();
    read(0).unwrap_err();
    fs::remove_file(&split).unwrap();
    let text = read(0).unwrap_err();
    assert!(text.contains("no tar-split"), "{text}");

    let id = found.image.config_digest.hex();
    let manifest = graph.join("overlay-images").join(&id).join("manifest");
    let mut bytes = fs::read(&manifest).unwrap();
    bytes.push(b'\n');
    fs::write(&manifest, bytes).unwrap();
    let error = resolve(&bench, &target).unwrap_err();
    assert_eq!(error.failing(), Failing::Corrupt, "{error}");
    fs::remove_file(&manifest).unwrap();
    let error = resolve(&bench, &target).unwrap_err();
    assert_eq!(error.failing(), Failing::Corrupt, "{error}");

    for (file, says) in [
        ("overlay-images/images.json", "images.json"),
        ("overlay-layers/layers.json", "layers.json"),
    ] {
        let path = graph.join(file);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, "{").unwrap();
        let error = resolve(&bench, &target).unwrap_err();
        assert_eq!(error.failing(), Failing::Corrupt);
        assert!(error.to_string().contains(says), "{error}");
        fs::write(&path, whole).unwrap();
    }
    // A chain of layers that never ends, and one that leads out.
    let path = graph.join("overlay-layers/layers.json");
    let mut layers: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for parent in [layers[0]["id"].clone(), "../../x".into()] {
        layers[0]["parent"] = parent;
        fs::write(&path, layers.to_string()).unwrap();
        let found = resolve(&bench, &target);
        let error = match found {
            Ok(found) => found.open_layer(2, None).unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.failing(), Failing::Corrupt, "{error}");
    }
}

/// podman keeps the index that an image was pulled by.
#[test]
fn an_index_that_podman_kept_is_found() {
    if !have(&["skopeo", "podman", "docker-registry"]) || !is_root() {
        return;
    }
    let bench = Bench::new();
    let registry = TestRegistry::start(bench.dir.path(), None);
    let target = format!("docker://{}", registry.name("app:1"));
    let source = bench.oci("localhost/app:1");
    let args = [
        "copy",
        "-q",
        "--all",
        "--preserve-digests",
        "--dest-tls-verify=false",
    ];
    run("skopeo", &[&args[..], &[&source, &target]].concat());
    let name = format!("{}@{}", registry.name("app"), bench.digest(0));
    let (graph, run_root) = (bench.text("graph"), bench.text("run"));
    let store = [
        "--root",
        &graph,
        "--runroot",
        &run_root,
        "--storage-driver",
        "overlay",
    ];
    let pull = ["pull", "-q", "--tls-verify=false", "--arch=arm64", &name];
    run("podman", &[&store[..], &pull[..]].concat());

    let source = format!("containers-storage:[{graph}]");
    let arm = Wanted {
        platform: "linux/arm64".parse().unwrap(),
        ..wanted(&name, &source)
    };
    let found = bench.sources().resolve(&arm).unwrap();
    let (index, _) = found.image.index.clone().unwrap();
    assert_eq!(index, bench.digest(0).cast());
    assert_eq!(read_layers(&found, &bench.spool()).len(), 3);
    let error = bench
        .sources()
        .resolve(&wanted(&name, &source))
        .unwrap_err();
    assert!(format!("{error:?}").contains("arm64"), "{error:?}");
}
