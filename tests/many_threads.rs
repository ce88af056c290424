//! Layers and their files are imported by several threads at once: what comes of
//! that does not depend on them.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "common/host.rs"]
mod host;
#[path = "common/layout.rs"]
mod layout;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use host::Host;
use layout::{LayerBlob, Layout, content, tar};

/// Four layers of files of all sizes, small to large, and of the same few contents
/// over and over, so that threads meet at the same objects.
fn layers() -> Vec<LayerBlob> {
    let sizes = [
        0,
        1,
        64,
        65,
        4096,
        70_000,
        300_000,
        1 << 20,
        (1 << 20) + 1,
        3 << 20,
    ];
    let layer = |layer: u8| {
        let files: Vec<(String, Vec<u8>)> = (0..60)
            .map(|file: usize| {
                let seed = u8::try_from(file % 3).unwrap();
                let name = format!("layer-{layer}/file-{file}");
                (name, content(seed, sizes[file % sizes.len()]))
            })
            .collect();
        let entries = files.iter().map(|(name, bytes)| (name.as_str(), &**bytes));
        let tar = tar(&entries.collect::<Vec<_>>());
        if layer.is_multiple_of(2) {
            LayerBlob::gzip(&tar)
        } else {
            LayerBlob::zstd(&tar)
        }
    };
    (0..4).map(layer).collect()
}

/// The streams, by name, and the objects that these are.
fn streams(host: &Host) -> BTreeMap<String, PathBuf> {
    let streams = fs::read_dir(host.path("repo/streams")).unwrap();
    let named = streams.map(|entry| entry.unwrap().path());
    let named = named.filter(|path| path.is_symlink());
    named
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_link(path).unwrap())
        })
        .collect()
}

#[test]
fn every_import_gives_the_same_streams_and_objects() {
    let layers = layers();
    let mut first = None;
    for round in 0..4 {
        let host = Host::new();
        let mut layout = Layout::new(&host.path("layout"));
        layout.image("v1", &layers);
        let image = layout.arg("localhost/app:1", "v1");
        host.ok(&["sync", "--deployment", "d", "--image", &image]);
        host.ok(&["verify", "--deep"]);
        let repo = host.path("repo");
        let objects = host.objects();
        let objects = objects.iter().map(|path| path.strip_prefix(&repo).unwrap());
        let objects: BTreeSet<PathBuf> = objects.map(Path::to_owned).collect();
        let found = (streams(&host), objects);
        assert_eq!(found.0.len(), 6, "layers, image, set: {:#?}", found.0);
        let first = first.get_or_insert_with(|| found.clone());
        assert_eq!(found, *first, "round {round}");
    }
}
