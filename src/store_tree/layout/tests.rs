use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::store_tree::{
    StoreLayer,
    fixture::{image, layer, pinned, pinned_by_index, recompressed, small_set, with_config},
};

/// One line per node: mode, and what it holds.
fn listing(tree: &Directory) -> String {
    use crate::squash::tree::InodeContent;
    let mut listing = String::new();
    walk::walk(tree, |path, node| {
        let path = String::from_utf8_lossy(path);
        let line = match node {
            Node::Directory(directory) => format!("{:04o} {path}/", directory.metadata.mode),
            Node::Inode(inode) => {
                let mode = inode.metadata.mode;
                match &inode.content {
                    InodeContent::Regular(FileContent::Inline(bytes)) => {
                        let text = std::str::from_utf8(bytes).ok();
                        let text = text.filter(|text| !text.contains(['\0', '\u{1}']));
                        match text.filter(|_| !path.ends_with(".lock")) {
                            Some(text) => format!("{mode:04o} {path} {text:?}"),
                            None => format!("{mode:04o} {path} {}", hex::encode(bytes)),
                        }
                    }
                    InodeContent::Symlink(target) => {
                        format!("{mode:04o} {path} -> {}", String::from_utf8_lossy(target))
                    }
                    other => format!("{mode:04o} {path} {other:?}"),
                }
            }
        };
        listing += &line;
        listing.push('\n');
        true
    });
    listing
}

/// Format 1: the golden file must never be changed.
#[test]
fn bytes_of_format_1() {
    let tree = lay_out(&small_set()).unwrap();
    let found = listing(tree.tree());
    let golden = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/store_tree/small_set.txt"
    );
    let expected = std::fs::read_to_string(golden).unwrap_or_default();
    if found != expected {
        let out = std::env::temp_dir().join("boundstore-small_set.txt");
        std::fs::write(&out, &found).unwrap();
        panic!(
            "the bytes of format 1 changed: compare {golden} with {}",
            out.display()
        );
    }
}

#[test]
fn an_empty_set_is_a_valid_store() {
    let tree = lay_out(&[]).unwrap();
    let lock = hex::encode(lock_content(b"[]", b"[]"));
    assert_eq!(
        listing(tree.tree()),
        format!(
            "0755 overlay/\n0755 overlay/l/\n\
             0755 overlay-images/\n0644 overlay-images/images.json \"[]\"\n\
             0644 overlay-images/images.lock {lock}\n\
             0755 overlay-layers/\n0644 overlay-layers/layers.json \"[]\"\n\
             0644 overlay-layers/layers.lock {lock}\n\
             0755 vfs-images/\n0644 vfs-images/images.lock {lock}\n\
             0755 vfs-layers/\n0644 vfs-layers/layers.lock {lock}\n"
        )
    );
    tree.validate().unwrap();
}

/// `podman image prune` and `rmi` find such a record as one without names.
#[test]
fn kept_images_have_no_names() {
    let set = small_set();
    let (kept, named) = set.split_last().unwrap();
    let base = lay_out(named).unwrap();
    let with = lay_out_keeping(named, std::slice::from_ref(kept)).unwrap();
    let twice = lay_out_keeping(named, &[kept.clone(), kept.clone()]).unwrap();
    assert_eq!(listing(with.tree()), listing(twice.tree()));
    assert_ne!(listing(with.tree()), listing(base.tree()));
    // The name that it had is no input.
    let renamed = StoreImage {
        name: "localhost/renamed:1".parse().unwrap(),
        ..kept.clone()
    };
    let renamed = lay_out_keeping(named, &[renamed]).unwrap();
    assert_eq!(listing(with.tree()), listing(renamed.tree()));
    let (images, layers) = records_of(&with);
    let record = images.iter().find(|it| it.id == kept.config_digest.hex());
    assert!(record.unwrap().names.is_empty());
    assert!(!record.unwrap().big_data_names.is_empty());
    let all = records(&set).1;
    assert_eq!(layers, all, "all its layers are there");
    // What the set has anyway is there as it was.
    let again = lay_out_keeping(named, named).unwrap();
    assert_eq!(listing(again.tree()), listing(base.tree()));
}

fn records(images: &[StoreImage]) -> (Vec<ImageRecord>, Vec<LayerRecord>) {
    records_of(&lay_out(images).unwrap())
}

fn records_of(tree: &StoreTree) -> (Vec<ImageRecord>, Vec<LayerRecord>) {
    use crate::squash::tree::InodeContent;
    tree.clone().validate().unwrap();
    let read = |path: &[&str]| {
        let node = tree.tree().lookup(path.iter().map(|part| part.as_bytes()));
        let Some(Node::Inode(inode)) = node else {
            panic!("{path:?}");
        };
        let InodeContent::Regular(FileContent::Inline(bytes)) = &inode.content else {
            panic!("{path:?}");
        };
        bytes.clone()
    };
    let images = read(&["overlay-images", "images.json"]);
    let layers = read(&["overlay-layers", "layers.json"]);
    (
        crate::store_tree::parse_images_json(&images).unwrap(),
        crate::store_tree::parse_layers_json(&layers).unwrap(),
    )
}

#[test]
fn ties_go_to_the_smallest() {
    let (base, _) = layer(None, &[("f", Some(b"f"))]);
    let plain = image("localhost/b:1", &[base], json!({}));
    let gzip = recompressed(&plain, "localhost/c:1", 2);
    let zstd = recompressed(&plain, "localhost/a:1", 4);
    let (images, layers) = records(&[plain.clone(), gzip.clone(), zstd.clone()]);
    assert_eq!(images.len(), 1);
    assert_eq!(
        images[0].names,
        ["localhost/a:1", "localhost/b:1", "localhost/c:1"]
    );
    let digests = &images[0].big_data_digests;
    assert_eq!(digests["manifest"], zstd.manifest_digest.to_string());
    assert_eq!(images[0].digest, Some(zstd.manifest_digest.to_string()));
    for image in [&plain, &gzip, &zstd] {
        assert!(digests.contains_key(&format!("manifest-{}", image.manifest_digest)));
    }
    let least = [&plain, &gzip, &zstd]
        .map(|image| image.layers[0].blob)
        .into_iter()
        .min()
        .unwrap();
    assert_eq!(layers.len(), 1);
    assert_eq!(
        layers[0].compressed_diff_digest,
        Some(least.digest.to_string())
    );
    assert_eq!(layers[0].compression, i64::from(least.compression));
}

#[test]
fn an_index_counts_where_the_name_pins_it() {
    let app = image("localhost/app:1", &[], json!({}));
    let by_index = pinned_by_index(&app);
    let index = by_index.index.as_ref().unwrap().0;
    let (images, _) = records(std::slice::from_ref(&by_index));
    assert_eq!(images[0].digest, Some(index.to_string()));
    assert!(
        images[0]
            .big_data_names
            .contains(&format!("manifest-{index}"))
    );
    // `:` sorts before `@`, so the tagged name decides.
    let (images, _) = records(&[by_index.clone(), app.clone(), pinned(&app)]);
    assert_eq!(images[0].digest, Some(app.manifest_digest.to_string()));
    assert!(
        images[0]
            .big_data_names
            .contains(&format!("manifest-{index}"))
    );

    let unpinned = StoreImage {
        index: by_index.index,
        ..app.clone()
    };
    let error = lay_out(&[unpinned]).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("the name localhost/app:1 does not pin the index {index} that comes with it")
    );
}

#[test]
fn created_is_that_of_the_config() {
    let created = "2024-01-02T03:04:05.123+02:00";
    let (images, _) = records(&[image("localhost/a:1", &[], json!({"created": created}))]);
    assert_eq!(images[0].created.as_deref(), Some(created));
    for absent in [json!({}), json!({"created": null})] {
        let (images, _) = records(&[image("localhost/a:1", &[], absent)]);
        assert_eq!(images[0].created.as_deref(), Some(CREATED_UNKNOWN));
    }
}

#[test]
fn an_image_of_no_layers_names_none() {
    let (images, layers) = records(&[image("localhost/a:1", &[], json!({}))]);
    assert_eq!(images[0].layer, None);
    assert_eq!(layers, []);
}

#[test]
fn owners_are_those_of_the_tree() {
    let (mut base, _) = layer(None, &[("d/", None), ("d/f", Some(b"f"))]);
    let rootfs = Arc::make_mut(&mut base.rootfs);
    rootfs.metadata.gid = 7;
    let Some(Node::Directory(d)) = rootfs.entries.get_mut(&b"d"[..]) else {
        panic!();
    };
    Arc::make_mut(d).metadata.uid = 1000;
    let (_, layers) = records(&[image("localhost/a:1", &[base], json!({}))]);
    assert_eq!(layers[0].uidset, [0, 1000]);
    assert_eq!(layers[0].gidset, [0, 7]);
}

#[test]
fn contradictions_are_errors() {
    let (base, _) = layer(None, &[("f", Some(b"f"))]);
    let good = image("localhost/a:1", std::slice::from_ref(&base), json!({}));
    let other = image("localhost/a:1", &[], json!({}));
    let (first, second) = (
        good.manifest_digest.min(other.manifest_digest),
        good.manifest_digest.max(other.manifest_digest),
    );
    let with = |change: &dyn Fn(&mut StoreLayer)| {
        let mut other = recompressed(&good, "localhost/b:1", 2);
        change(&mut other.layers[0]);
        vec![good.clone(), other]
    };
    let config = with_config("localhost/a:1", &[], br#"{"created":"now"}"#);
    let id = base.diff_id.hex();
    let wrong_pin = format!("localhost/a@{}", ManifestDigest::of(b"x"));
    for (images, message) in [
        (
            vec![good.clone(), other],
            format!("the name localhost/a:1 stands for two images, {first} and {second}"),
        ),
        (
            vec![StoreImage {
                config: Arc::from(&b"{}"[..]),
                ..good.clone()
            }],
            format!(
                "the config of localhost/a:1 must be {}, but its bytes are {}",
                good.config_digest,
                ConfigDigest::of(b"{}")
            ),
        ),
        (
            vec![StoreImage {
                manifest: Arc::from(&b"{}"[..]),
                ..good.clone()
            }],
            format!(
                "the manifest of localhost/a:1 must be {}, but its bytes are {}",
                good.manifest_digest,
                ConfigDigest::of(b"{}")
            ),
        ),
        (
            vec![config.clone()],
            format!("read the config {} of localhost/a:1", config.config_digest),
        ),
        (
            vec![StoreImage {
                layers: vec![],
                ..good.clone()
            }],
            format!("the config of localhost/a:1 lists the layers [sha256:{id}], but [] are given"),
        ),
        (
            with(&|layer| layer.diff_size += 1),
            format!("two images give a different length for the layer {id}"),
        ),
        (
            with(&|layer| layer.tar_split = FileContent::Inline([].into())),
            format!("two images give a different tar-split for the layer {id}"),
        ),
        (
            vec![StoreImage {
                name: wrong_pin.parse().unwrap(),
                ..good.clone()
            }],
            format!(
                "the name {wrong_pin} pins neither the manifest {} nor the index of its image",
                good.manifest_digest
            ),
        ),
        (
            {
                let mut image = good.clone();
                image.layers[0].blob.size = u64::MAX;
                image.layers[0].blob.digest = BlobDigest::of(b"");
                vec![image]
            },
            format!(
                "the layer {id} has a length of {} bytes, more than podman can read",
                u64::MAX
            ),
        ),
    ] {
        assert_eq!(lay_out(&images).unwrap_err().to_string(), message);
        let reversed: Vec<_> = images.into_iter().rev().collect();
        assert_eq!(lay_out(&reversed).unwrap_err().to_string(), message);
    }
    // The same image twice is no contradiction.
    lay_out(&[good.clone(), good]).unwrap();
}

/// Images over a small pool of layers, names and configs, so that they share.
fn sets() -> impl Strategy<Value = Vec<StoreImage>> {
    let one = (
        proptest::collection::vec(0_u8..3, 0..4),
        0_u8..3,
        0_usize..5,
        0_usize..6,
    );
    proptest::collection::vec(one, 0..8).prop_map(|images| {
        let mut names = std::collections::BTreeSet::new();
        let images = images.into_iter().map(|(contents, config, kind, tag)| {
            let mut layers: Vec<StoreLayer> = Vec::new();
            for content in contents {
                let name = format!("d{content}/f");
                let entries = [(&name[..], Some(&[content][..]))];
                layers.push(layer(layers.last(), &entries).0);
            }
            let name = format!("localhost/r{}:t{tag}", kind % 2);
            let image = image(&name, &layers, json!({"author": config.to_string()}));
            match kind {
                0 => image,
                1 => recompressed(&image, &name, 2),
                2 => recompressed(&image, &name, 4),
                3 => pinned(&image),
                _ => pinned_by_index(&image),
            }
        });
        images
            .filter(|image| names.insert(image.name.clone()))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_set_is_valid_and_order_does_not_matter(
        (set, shuffled) in sets().prop_flat_map(|set| {
            (Just(set.clone()), Just(set).prop_shuffle())
        }),
    ) {
        let tree = lay_out(&set).unwrap();
        let other = lay_out(&shuffled).unwrap();
        prop_assert_eq!(listing(tree.tree()), listing(other.tree()));
        if let Err(error) = tree.validate() {
            prop_assert!(false, "{}", error);
        }
    }
}
