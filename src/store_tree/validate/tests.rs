use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{
    name::{Mtime, ObjectId},
    squash::tree::{Device, FileContent, Inode, InodeContent},
    store_tree::{
        big_data_file_name,
        fixture::{file, image, layer, metadata, small_set},
        lay_out,
    },
};

/// The tree of one image of two layers, which tests break.
struct Store {
    tree: Directory,
    base: String,
    top: String,
    image: String,
    manifest: String,
}

fn store() -> Store {
    let (base, _) = layer(None, &[("d/", None), ("d/f", Some(b"f"))]);
    let (top, _) = layer(Some(&base), &[("g", Some(b"g"))]);
    let image = image("localhost/a:1", &[base, top], json!({}));
    let tree = lay_out(std::slice::from_ref(&image)).unwrap();
    let tree = (**tree.tree()).clone();
    let layers = Store::json(&tree, "overlay-layers/layers.json");
    Store {
        tree,
        base: layers[0]["id"].as_str().unwrap().to_owned(),
        top: layers[1]["id"].as_str().unwrap().to_owned(),
        image: image.config_digest.hex(),
        manifest: image.manifest_digest.to_string(),
    }
}

fn found(tree: &Directory) -> Vec<String> {
    let Err(error) = validate_tree(tree) else {
        return Vec::new();
    };
    assert!(
        error
            .to_string()
            .starts_with("podman could not use the store tree: ")
    );
    let violations = error.violations.iter();
    violations.map(ToString::to_string).collect()
}

impl Store {
    fn json(tree: &Directory, path: &str) -> Value {
        serde_json::from_slice(&Self::bytes(tree, path)).unwrap()
    }

    fn bytes(tree: &Directory, path: &str) -> Vec<u8> {
        match tree.lookup(path.split('/').map(str::as_bytes)) {
            Some(Node::Inode(inode)) => match &inode.content {
                InodeContent::Regular(FileContent::Inline(bytes)) => bytes.to_vec(),
                InodeContent::Symlink(target) => target.to_vec(),
                _ => panic!("{path}"),
            },
            _ => panic!("{path}"),
        }
    }

    fn directory(&mut self, path: &str) -> &mut Directory {
        let mut directory = &mut self.tree;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let Some(Node::Directory(next)) = directory.entries.get_mut(part.as_bytes()) else {
                panic!("{path}");
            };
            directory = Arc::make_mut(next);
        }
        directory
    }

    fn split(path: &str) -> (&str, &str) {
        path.rsplit_once('/').unwrap_or(("", path))
    }

    fn remove(&mut self, path: &str) {
        let (parent, name) = Self::split(path);
        let removed = self.directory(parent).entries.remove(name.as_bytes());
        assert!(removed.is_some(), "{path}");
    }

    fn put(&mut self, path: &str, node: Node) {
        let (parent, name) = Self::split(path);
        let parent = self.directory(parent);
        parent.entries.insert(name.as_bytes().into(), node);
    }

    fn inode(&mut self, path: &str) -> &mut Inode {
        let (parent, name) = Self::split(path);
        match self.directory(parent).entries.get_mut(name.as_bytes()) {
            Some(Node::Inode(inode)) => Arc::make_mut(inode),
            _ => panic!("{path}"),
        }
    }

    /// Puts locks in that fit the JSON, whatever that is.
    fn lock(&mut self) {
        let layers = Self::bytes(&self.tree, "overlay-layers/layers.json");
        let images = Self::bytes(&self.tree, "overlay-images/images.json");
        let lock = lock_content(&layers, &images);
        for name in ["overlay", "vfs"] {
            self.put(&format!("{name}-layers/layers.lock"), file(&lock));
            self.put(&format!("{name}-images/images.lock"), file(&lock));
        }
    }

    fn edit(&mut self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut json = Self::json(&self.tree, path);
        change(&mut json);
        self.put(path, file(json.to_string().as_bytes()));
        self.lock();
    }

    fn edit_layers(&mut self, change: impl FnOnce(&mut Value)) {
        self.edit("overlay-layers/layers.json", change);
    }

    fn edit_images(&mut self, change: impl FnOnce(&mut Value)) {
        self.edit("overlay-images/images.json", change);
    }

    /// Replaces big data, in the file and in the record.
    fn big_data(&mut self, key: &str, new_key: &str, bytes: &[u8]) {
        let directory = format!("overlay-images/{}", self.image);
        self.remove(&format!("{directory}/{}", big_data_file_name(key)));
        self.put(
            &format!("{directory}/{}", big_data_file_name(new_key)),
            file(bytes),
        );
        let digest = crate::name::BlobDigest::of(bytes).to_string();
        self.edit_images(|images| {
            let image = &mut images[0];
            let names = image["big-data-names"].as_array_mut().unwrap();
            *names.iter_mut().find(|name| *name == key).unwrap() = json!(new_key);
            for map in ["big-data-sizes", "big-data-digests"] {
                image[map].as_object_mut().unwrap().shift_remove(key);
            }
            image["big-data-sizes"][new_key] = json!(bytes.len());
            image["big-data-digests"][new_key] = json!(digest);
        });
    }

    /// Replaces both copies of the manifest.
    fn replace_manifest(&mut self, change: impl FnOnce(&mut Value)) {
        let key = format!("manifest-{}", self.manifest);
        let path = format!("overlay-images/{}/manifest", self.image);
        let mut manifest = Self::json(&self.tree, &path);
        change(&mut manifest);
        let bytes = manifest.to_string().into_bytes();
        let digest = crate::name::BlobDigest::of(&bytes).to_string();
        self.big_data("manifest", "manifest", &bytes);
        self.big_data(&key, &format!("manifest-{digest}"), &bytes);
        self.edit_images(|images| images[0]["digest"] = json!(digest));
    }
}

/// Breaks a good tree and expects exactly these violations.
#[track_caller]
fn breaks(change: impl FnOnce(&mut Store), expected: impl FnOnce(&Store) -> Vec<String>) {
    let mut store = store();
    assert_eq!(found(&store.tree), Vec::<String>::new());
    let expected = expected(&store);
    change(&mut store);
    assert_eq!(found(&store.tree), expected);
}

fn one(text: impl Into<String>) -> Vec<String> {
    vec![text.into()]
}

#[test]
fn a_good_tree_is_valid() {
    let tree = lay_out(&small_set()).unwrap().validate().unwrap();
    assert_eq!(tree.rootfs_trees().count(), 3);
    assert!(
        tree.rootfs_trees()
            .all(|(id, rootfs)| { id.len() == 64 && rootfs.entries.contains_key(&b"etc"[..]) })
    );
}

#[test]
fn what_is_missing_is_found() {
    for path in [
        "overlay/l",
        "overlay-layers/layers.lock",
        "overlay-images/images.lock",
        "vfs-images/images.lock",
        "vfs-layers/layers.lock",
    ] {
        breaks(
            |s| s.remove(path),
            |_| {
                one(format!("{path} is missing"))
                    .into_iter()
                    .chain((path == "overlay/l").then(|| {
                        let link = String::from_utf8(Store::bytes(
                            &store().tree,
                            &format!("overlay/{}/link", store().base),
                        ))
                        .unwrap();
                        format!("overlay/l/{link} is missing")
                    }))
                    .chain((path == "overlay/l").then(|| {
                        let link = String::from_utf8(Store::bytes(
                            &store().tree,
                            &format!("overlay/{}/link", store().top),
                        ))
                        .unwrap();
                        format!("overlay/l/{link} is missing")
                    }))
                    .collect()
            },
        );
    }
    for name in ["diff", "link", "empty", "merged"] {
        breaks(
            |s| s.remove(&format!("overlay/{}/{name}", s.top)),
            |s| one(format!("overlay/{}/{name} is missing", s.top)),
        );
    }
    breaks(
        |s| s.remove(&format!("overlay-layers/{}.tar-split.gz", s.base)),
        |s| one(format!("overlay-layers/{}.tar-split.gz is missing", s.base)),
    );
    breaks(
        |s| s.remove(&format!("overlay/{}", s.base)),
        |s| one(format!("overlay/{} is missing", s.base)),
    );
    for path in ["vfs-layers", "overlay-images"] {
        let mut broken = store();
        broken.remove(path);
        assert!(found(&broken.tree).contains(&format!("{path} is missing")));
    }
    for path in ["overlay-images/images.json", "overlay-layers/layers.json"] {
        let mut broken = store();
        broken.remove(path);
        assert!(found(&broken.tree).contains(&format!("{path} is missing")));
    }
    assert!(!found(&Directory::default()).is_empty());
}

#[test]
fn big_data_must_be_there() {
    let missing = |s: &mut Store, key: &str| {
        s.remove(&format!(
            "overlay-images/{}/{}",
            s.image,
            big_data_file_name(key)
        ));
    };
    breaks(
        |s| missing(s, &format!("sha256:{}", s.image.clone())),
        |s| {
            let name = big_data_file_name(&format!("sha256:{}", s.image));
            one(format!("overlay-images/{}/{name} is missing", s.image))
        },
    );
    breaks(
        |s| missing(s, "manifest"),
        |s| one(format!("overlay-images/{}/manifest is missing", s.image)),
    );
    breaks(
        |s| {
            s.edit_images(|images| {
                let names = images[0]["big-data-names"].as_array_mut().unwrap();
                names.retain(|name| name != "manifest");
            });
        },
        |s| {
            vec![
                format!(
                    "the image {:?} has a size for the big data \"manifest\", which it does not list",
                    s.image
                ),
                format!(
                    "the image {:?} has a digest for the big data \"manifest\", which it does not list",
                    s.image
                ),
                format!("overlay-images/{}/manifest does not belong there", s.image),
                format!("the image {:?} has no big data \"manifest\"", s.image),
            ]
        },
    );
    breaks(
        |s| {
            let config = format!("sha256:{}", s.image);
            missing(s, &config);
            s.edit_images(|images| {
                let names = images[0]["big-data-names"].as_array_mut().unwrap();
                names.retain(|name| *name != config);
                for map in ["big-data-sizes", "big-data-digests"] {
                    images[0][map]
                        .as_object_mut()
                        .unwrap()
                        .shift_remove(&config);
                }
            });
        },
        |s| {
            one(format!(
                "the image {:?} has no big data \"sha256:{}\"",
                s.image, s.image
            ))
        },
    );
    breaks(
        |s| {
            s.edit_images(|images| {
                images[0]["big-data-names"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!("manifest"));
            });
        },
        |s| {
            one(format!(
                "the image {:?} lists the big data \"manifest\" twice",
                s.image
            ))
        },
    );
    breaks(
        |s| {
            s.edit_images(|images| {
                images[0]["big-data-digests"]
                    .as_object_mut()
                    .unwrap()
                    .shift_remove("manifest");
            });
        },
        |s| {
            one(format!(
                "the big data \"manifest\" of the image {:?} has no digest",
                s.image
            ))
        },
    );
    breaks(
        |s| s.edit_images(|images| images[0]["big-data-digests"]["manifest"] = json!("sha256:00")),
        |s| {
            one(format!(
                "the big data \"manifest\" of the image {:?} is {}, not \"sha256:00\"",
                s.image, s.manifest
            ))
        },
    );
    breaks(
        |s| s.edit_images(|images| images[0]["big-data-sizes"]["manifest"] = json!(1)),
        |s| {
            let size = Store::bytes(&s.tree, &format!("overlay-images/{}/manifest", s.image)).len();
            one(format!(
                "the big data \"manifest\" of the image {:?} has {size} bytes, not 1",
                s.image
            ))
        },
    );
    // The bytes of the config changed, and all that is written of them, but
    // not the image ID.
    let mut broken = store();
    let config = format!("sha256:{}", broken.image);
    let bytes = Store::bytes(
        &broken.tree,
        &format!(
            "overlay-images/{}/{}",
            broken.image,
            big_data_file_name(&config)
        ),
    );
    broken.big_data(&config, &config, &[&bytes[..], b" "].concat());
    assert_eq!(found(&broken.tree).len(), 1, "{:?}", found(&broken.tree));
    assert!(found(&broken.tree)[0].contains(&format!("not \"{config}\"")));
}

#[test]
fn manifests_and_configs_must_be_readable() {
    let mut broken = store();
    broken.replace_manifest(|manifest| manifest["layers"] = json!(5));
    let error = validate_tree(&broken.tree).unwrap_err();
    assert_eq!(error.violations.len(), 2, "{error}");
    assert!(
        error.to_string().contains("layers is not an array"),
        "{error}"
    );

    let mut broken = store();
    broken.replace_manifest(|manifest| {
        manifest["layers"].as_array_mut().unwrap().pop();
    });
    let texts = found(&broken.tree);
    assert_eq!(
        texts[0],
        format!(
            "the image {:?} has 2 layers, its config 2 and its \"manifest\" 1",
            broken.image
        )
    );
    assert_eq!(texts.len(), 2);

    let mut broken = store();
    let other = crate::name::ConfigDigest::of(b"").to_string();
    broken.replace_manifest(|manifest| manifest["config"]["digest"] = json!(other));
    let texts = found(&broken.tree);
    assert_eq!(
        texts[0],
        format!(
            "the \"manifest\" of the image {:?} is that of the config {other}",
            broken.image
        )
    );
    assert_eq!(texts.len(), 2);
}

#[test]
fn configs_must_be_readable() {
    use crate::store_tree::fixture::with_config;
    // lay_out refuses such a config, so the good one is replaced.
    let good = with_config("localhost/a:1", &[], b"{}");
    let bad = with_config("localhost/a:1", &[], br#"{"created":"now"}"#);
    let tree = lay_out(std::slice::from_ref(&good)).unwrap();
    let mut store = Store {
        tree: (**tree.tree()).clone(),
        base: String::new(),
        top: String::new(),
        image: good.config_digest.hex(),
        manifest: good.manifest_digest.to_string(),
    };
    let config = good.config_digest.to_string();
    store.big_data(&config, &bad.config_digest.to_string(), &bad.config);
    let manifest: Value = serde_json::from_slice(&bad.manifest).unwrap();
    store.replace_manifest(|old| *old = manifest);
    let (old, new) = (good.config_digest.hex(), bad.config_digest.hex());
    let images = store.directory("overlay-images");
    let directory = images.entries.remove(old.as_bytes()).unwrap();
    images.entries.insert(new.as_bytes().into(), directory);
    store.edit_images(|images| images[0]["id"] = json!(new));
    let error = validate_tree(&store.tree).unwrap_err();
    assert_eq!(error.violations.len(), 1, "{error}");
    assert!(matches!(error.violations[0], Violation::Document { .. }));
    assert!(
        error
            .to_string()
            .ends_with(": its created is \"now\", not a time like 2026-01-31T12:00:00Z")
    );
}

#[test]
fn locks_must_fit() {
    for path in [
        "overlay-images/images.lock",
        "overlay-layers/layers.lock",
        "vfs-images/images.lock",
        "vfs-layers/layers.lock",
    ] {
        breaks(
            |s| s.put(path, file(&[0; 64])),
            |_| {
                one(format!(
                    "{path} does not hold the SHA-512 of layers.json and images.json"
                ))
            },
        );
    }
}

#[test]
fn nothing_else_may_be_there() {
    for path in [
        "x",
        "overlay/x",
        "overlay/l/x",
        "overlay-images/x",
        "overlay-layers/x",
        "vfs-images/images.json",
        "vfs-layers/x",
    ] {
        breaks(
            |s| s.put(path, file(b"")),
            |_| one(format!("{path} does not belong there")),
        );
    }
    for name in ["lower", "work", "empty/x", "merged/x", "composefs-data"] {
        breaks(
            |s| s.put(&format!("overlay/{}/{name}", s.top), file(b"")),
            |s| one(format!("overlay/{}/{name} does not belong there", s.top)),
        );
    }
    breaks(
        |s| s.put(&format!("overlay-images/{}/x", s.image), file(b"")),
        |s| {
            one(format!(
                "overlay-images/{}/x does not belong there",
                s.image
            ))
        },
    );
}

#[test]
fn types_are_checked() {
    let link = || {
        Node::Inode(Arc::new(Inode {
            metadata: metadata(0o777),
            content: InodeContent::Symlink(b"/etc"[..].into()),
        }))
    };
    breaks(
        |s| s.put(&format!("overlay/{}/diff", s.top), link()),
        |s| {
            one(format!(
                "overlay/{}/diff is a symlink, not a directory",
                s.top
            ))
        },
    );
    breaks(
        |s| s.put("vfs-images", file(b"")),
        |_| {
            vec![
                "vfs-images is a file, not a directory".into(),
                "vfs-images/images.lock is missing".into(),
            ]
        },
    );
    breaks(
        |s| {
            s.remove("vfs-images/images.lock");
            s.put(
                "vfs-images/images.lock",
                Node::Directory(Arc::new(Directory::new(metadata(0o755)))),
            );
        },
        |_| one("vfs-images/images.lock is a directory, not a file"),
    );
    breaks(
        |s| s.inode("vfs-images/images.lock").content = InodeContent::Fifo,
        |_| one("vfs-images/images.lock is a named pipe, not a file"),
    );
    breaks(
        |s| {
            let path = format!(
                "overlay/l/{}",
                String::from_utf8(Store::bytes(&s.tree, &format!("overlay/{}/link", s.top)))
                    .unwrap()
            );
            *s.inode(&path) = Inode {
                metadata: metadata(0o777),
                content: InodeContent::Fifo,
            };
        },
        |s| {
            one(format!(
                "overlay/l/{} is a named pipe, not a symlink",
                String::from_utf8(Store::bytes(&s.tree, &format!("overlay/{}/link", s.top)))
                    .unwrap()
            ))
        },
    );
}

#[test]
fn modes_owners_and_times_are_checked() {
    breaks(
        |s| s.tree.metadata.mode = 0o700,
        |_| one("the top has the mode 0700, not 0755"),
    );
    breaks(
        |s| s.directory("overlay").metadata.uid = 5,
        |_| one("overlay has the owner 5:0, not 0:0"),
    );
    breaks(
        |s| s.directory("overlay/l").metadata.mtime = Mtime { sec: 1, nsec: 2 },
        |_| one("overlay/l has the time 1.000000002, not 0.000000000"),
    );
    let lock = "overlay-images/images.lock";
    breaks(
        |s| s.inode(lock).metadata.mode = 0o600,
        |_| one(format!("{lock} has the mode 0600, not 0644")),
    );
    breaks(
        |s| {
            let xattrs = &mut s.inode(lock).metadata.xattrs;
            xattrs.insert(b"user.x"[..].into(), b""[..].into());
        },
        |_| one(format!("{lock} has extended attributes: 1, not 0")),
    );
    // The rootfs has what owner, mode and time it has.
    breaks(
        |s| {
            let path = format!("overlay/{}/diff", s.top);
            s.directory(&path).metadata.mode = 0o1700;
            s.directory(&path).metadata.uid = 77;
        },
        |_| Vec::new(),
    );
}

#[test]
fn json_must_be_inline_and_parse() {
    let object = |s: &mut Store, path: &str| {
        s.inode(path).content = InodeContent::Regular(FileContent::Object {
            id: ObjectId::Sha256([0; 32]),
            size: 9,
        });
    };
    let mut broken = store();
    object(&mut broken, "overlay-images/images.json");
    assert!(
        found(&broken.tree).contains(
            &"overlay-images/images.json is an object of the repository, not inline".into()
        )
    );
    // A tar-split may be one.
    breaks(
        |s| object(s, &format!("overlay-layers/{}.tar-split.gz", s.top)),
        |_| Vec::new(),
    );
    for path in ["overlay-images/images.json", "overlay-layers/layers.json"] {
        let mut broken = store();
        broken.put(path, file(b"[{]"));
        broken.lock();
        assert!(found(&broken.tree).contains(&format!("parse {path}")));
    }
}

#[test]
fn layers_json_is_checked() {
    breaks(
        |s| {
            s.edit_layers(|layers| {
                let again = layers[1].clone();
                layers.as_array_mut().unwrap().push(again);
            });
        },
        |s| one(format!("layers.json lists the layer {:?} twice", s.top)),
    );
    breaks(
        |s| s.edit_layers(|layers| layers.as_array_mut().unwrap().swap(0, 1)),
        |s| {
            let link = String::from_utf8(Store::bytes(&s.tree, &format!("overlay/{}/link", s.top)));
            vec![
                format!(
                    "the layer {:?} stands before its parent {:?}",
                    s.top, s.base
                ),
                format!("overlay/l/{} does not belong there", link.unwrap()),
            ]
        },
    );
    let mut broken = store();
    let (base, top, link) = (broken.base.clone(), broken.top.clone(), top_link(&broken));
    broken.edit_layers(|layers| layers[1]["parent"] = json!("gone"));
    let mut unused = [&base, &top].map(|id| format!("the layer {id:?} is in no image"));
    unused.sort();
    let [first, second] = unused;
    let no_parent = format!("the layer {top:?} has no parent \"gone\"");
    assert_eq!(found(&broken.tree), [no_parent, link, first, second]);
}

/// What is said of a link whose layer could not be understood.
fn top_link(store: &Store) -> String {
    let path = format!("overlay/{}/link", store.top);
    let link = String::from_utf8(Store::bytes(&store.tree, &path)).unwrap();
    format!("overlay/l/{link} does not belong there")
}

#[test]
fn layer_values_are_checked() {
    breaks(
        |s| {
            s.edit_layers(|layers| {
                layers[1].as_object_mut().unwrap().shift_remove("diff-size");
            });
        },
        |s| one(format!("the layer {:?} has no diff-size", s.top)),
    );
    for (key, value, text) in [
        ("compressed-size", json!(-1), "-1"),
        ("compressed-diff-digest", json!("x"), "x"),
        ("compression", json!(9), "9"),
        ("flags", json!({"incomplete": true}), "incomplete"),
    ] {
        breaks(
            |s| s.edit_layers(|layers| layers[1][key] = value),
            |s| one(format!("the layer {:?} has the {key} {text:?}", s.top)),
        );
    }
    let texts = |change: &dyn Fn(&mut Value)| {
        let mut broken = store();
        let (id, link) = (broken.top.clone(), top_link(&broken));
        broken.edit_layers(|layers| change(&mut layers[1]));
        let texts = found(&broken.tree);
        assert!(texts.contains(&link), "{texts:?}");
        (id, texts)
    };
    let (id, found) = texts(&|layer| {
        layer.as_object_mut().unwrap().shift_remove("diff-digest");
    });
    assert_eq!(found[0], format!("the layer {id:?} has no diff-digest"));
    let (id, found) = texts(&|layer| layer["diff-digest"] = json!("sha256:0"));
    assert_eq!(
        found[0],
        format!("the layer {id:?} has the diff-digest \"sha256:0\"")
    );
    let other = crate::name::DiffId::of(b"").to_string();
    let (id, found) = texts(&|layer| layer["diff-digest"] = json!(other));
    assert!(found[0].starts_with(&format!("the layer {id:?} must have the ID ")));
    assert!(
        found
            .iter()
            .any(|text| text.starts_with(&format!("the layer {id:?} of the image")))
    );
    let (id, found) = texts(&|layer| {
        layer.as_object_mut().unwrap().shift_remove("parent");
    });
    assert!(found[0].starts_with(&format!("the layer {id:?} must have the ID ")));
    assert!(
        found
            .iter()
            .any(|text| text.contains("has 1 layers, its config 2")),
        "{found:?}"
    );
    // Layers that are each other's parent end, too.
    let mut broken = store();
    let (base, top) = (broken.base.clone(), broken.top.clone());
    broken.edit_layers(|layers| layers[0]["parent"] = json!(top));
    assert!(found_contains(
        &broken,
        &format!("the layer {base:?} stands before its parent")
    ));
}

fn found_contains(store: &Store, text: &str) -> bool {
    found(&store.tree).iter().any(|found| found.contains(text))
}

#[test]
fn links_must_agree() {
    breaks(
        |s| {
            s.put(
                &format!("overlay/{}/link", s.top),
                file(b"AAAAAAAAAAAAAAAAAAAAAAAAAA"),
            );
        },
        |s| {
            let path = format!("overlay/{}/link", s.top);
            let link = String::from_utf8(Store::bytes(&s.tree, &path)).unwrap();
            one(format!(
                "{path} holds \"AAAAAAAAAAAAAAAAAAAAAAAAAA\", not {link:?}"
            ))
        },
    );
    breaks(
        |s| {
            let path = format!("overlay/{}/link", s.top);
            let link = String::from_utf8(Store::bytes(&s.tree, &path)).unwrap();
            let target = format!("../{}/diff", s.base).into_bytes();
            s.inode(&format!("overlay/l/{link}")).content = InodeContent::Symlink(target.into());
        },
        |s| {
            let path = format!("overlay/{}/link", s.top);
            let link = String::from_utf8(Store::bytes(&s.tree, &path)).unwrap();
            one(format!(
                "overlay/l/{link} holds \"../{}/diff\", not \"../{}/diff\"",
                s.base, s.top
            ))
        },
    );
}

#[test]
fn tar_splits_are_read() {
    let path = |s: &Store| format!("overlay-layers/{}.tar-split.gz", s.top);
    breaks(
        |s| s.put(&path(s), file(b"x")),
        |s| one(format!("read {}", path(s))),
    );
    let split = |entries: &[(&str, u64)]| {
        let mut writer = crate::store_tree::tar_split::TarSplitWriter::new(Vec::new()).unwrap();
        for (name, size) in entries {
            writer.file(name.as_bytes(), *size, 0).unwrap();
        }
        file(&writer.finish().unwrap())
    };
    breaks(
        |s| s.put(&path(s), split(&[("a", 5)])),
        |s| {
            one(format!(
                "{} describes a tar of 5 bytes, its layer has 2048",
                path(s)
            ))
        },
    );
    breaks(
        |s| s.put(&path(s), split(&[("a", 48), ("./a/", 2000)])),
        |s| one(format!("{} has two entries for \"a\"", path(s))),
    );
}

#[test]
fn images_json_is_checked() {
    breaks(
        |s| {
            s.edit_images(|images| {
                let again = images[0].clone();
                images.as_array_mut().unwrap().push(again);
            });
        },
        |s| one(format!("images.json lists the image {:?} twice", s.image)),
    );
    breaks(
        |s| {
            s.edit_images(|images| {
                images[0]["names"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!("localhost/a:1"));
            });
        },
        |s| {
            one(format!(
                "the name \"localhost/a:1\" stands for the images {:?} and {:?}",
                s.image, s.image
            ))
        },
    );
    for name in ["a", "docker.io/a:1", "localhost/A:1", "localhost/a", ""] {
        breaks(
            |s| s.edit_images(|images| images[0]["names"] = json!([name])),
            |s| {
                one(format!(
                    "the name {name:?} of the image {:?} is not normalised",
                    s.image
                ))
            },
        );
    }
    breaks(
        |s| s.edit_images(|images| images[0]["created"] = json!("now")),
        |s| {
            one(format!(
                "the image {:?} was created \"now\", which is no RFC 3339 time",
                s.image
            ))
        },
    );
    breaks(
        |s| s.edit_images(|images| images[0]["digest"] = json!("sha256:1")),
        |s| {
            one(format!(
                "the image {:?} has the digest \"sha256:1\", which none of its manifests has",
                s.image
            ))
        },
    );
    breaks(
        |s| s.edit_images(|images| images[0]["metadata"] = json!("{")),
        |s| {
            one(format!(
                "the image {:?} has the metadata \"{{\", not JSON",
                s.image
            ))
        },
    );
    breaks(
        |s| s.edit_images(|images| images[0]["layer"] = json!("gone")),
        |s| {
            let mut unused = [&s.base, &s.top];
            unused.sort();
            let mut texts = one(format!(
                "the image {:?} has the top layer \"gone\", which does not exist",
                s.image
            ));
            texts.extend(unused.map(|layer| format!("the layer {layer:?} is in no image")));
            texts
        },
    );
    let mut broken = store();
    broken.edit_images(|images| images[0]["id"] = json!("../x"));
    assert!(found_contains(
        &broken,
        "the image \"../x\" has the ID of no config"
    ));
    let mut broken = store();
    let base = broken.base.clone();
    broken.edit_images(|images| images[0]["layer"] = json!(base));
    assert!(found_contains(
        &broken,
        "has 1 layers, its config 2 and its \"manifest\" 2"
    ));
    let mut broken = store();
    broken.edit_images(|images| {
        let mut other = images[0].clone();
        other["id"] = json!("00".repeat(32));
        images.as_array_mut().unwrap().push(other);
    });
    assert!(found_contains(
        &broken,
        "the name \"localhost/a:1\" stands for the images"
    ));
}

#[test]
fn nothing_may_come_alive_in_an_overlay() {
    let whiteout = |minor| {
        Node::Inode(Arc::new(Inode {
            metadata: metadata(0),
            content: InodeContent::CharDevice(Device { major: 0, minor }),
        }))
    };
    breaks(
        |s| s.put(&format!("overlay/{}/diff/d/w", s.top), whiteout(0)),
        |s| one(format!("overlay/{}/diff/d/w is a whiteout", s.top)),
    );
    breaks(
        |s| s.put(&format!("overlay/{}/diff/d/w", s.top), whiteout(1)),
        |_| Vec::new(),
    );
    for name in [
        "trusted.overlay.opaque",
        "user.overlay.redirect",
        "security.selinux",
    ] {
        for path in ["", "/d"] {
            breaks(
                |s| {
                    let xattrs = &mut s
                        .directory(&format!("overlay/{}/diff{path}", s.base))
                        .metadata
                        .xattrs;
                    xattrs.insert(name.as_bytes().into(), b"y"[..].into());
                },
                |s| {
                    one(format!(
                        "overlay/{}/diff{path} has the extended attribute {name:?}",
                        s.base
                    ))
                },
            );
        }
        breaks(
            |s| {
                let xattrs = &mut s
                    .inode(&format!("overlay/{}/diff/d/f", s.base))
                    .metadata
                    .xattrs;
                xattrs.insert(name.as_bytes().into(), b"y"[..].into());
            },
            |s| {
                one(format!(
                    "overlay/{}/diff/d/f has the extended attribute {name:?}",
                    s.base
                ))
            },
        );
    }
}

#[test]
fn no_impossible_files() {
    for name in ["..", ".", "a\0b", &"x".repeat(256)] {
        breaks(
            |s| s.put(&format!("overlay/{}/diff/d/{name}", s.top), file(b"")),
            |s| {
                one(format!(
                    "overlay/{}/diff/d/{name} is no name that a file can have",
                    s.top
                ))
            },
        );
    }
    breaks(
        |s| {
            let path = format!("overlay/{}/diff", s.top);
            s.directory(&path)
                .entries
                .insert(b"../../x"[..].into(), file(b""));
        },
        |s| {
            one(format!(
                "overlay/{}/diff/../../x is no name that a file can have",
                s.top
            ))
        },
    );
    for (change, what) in [
        (
            (|inode| inode.metadata.mode = 0o10000) as fn(&mut Inode),
            "mode",
        ),
        (|inode| inode.metadata.mtime.nsec = 1_000_000_000, "time"),
        (|inode| inode.metadata.gid = u32::MAX, "owner"),
        (
            |inode| inode.content = InodeContent::Symlink(b""[..].into()),
            "symlink target",
        ),
        (
            |inode| inode.content = InodeContent::Symlink(b"a\0"[..].into()),
            "symlink target",
        ),
        (
            |inode| {
                inode.metadata.xattrs.insert(b""[..].into(), b""[..].into());
            },
            "name of an extended attribute",
        ),
    ] {
        breaks(
            |s| change(s.inode(&format!("overlay/{}/diff/d/f", s.base))),
            |s| {
                one(format!(
                    "overlay/{}/diff/d/f has a {what} that no file can have",
                    s.base
                ))
            },
        );
    }
}

#[test]
fn deep_trees_are_walked() {
    let mut deep = Directory::new(metadata(0o755));
    deep.metadata
        .xattrs
        .insert(b"user.overlay.x"[..].into(), b""[..].into());
    for _ in 0..1000 {
        let mut outer = Directory::new(metadata(0o755));
        outer
            .entries
            .insert(b"d"[..].into(), Node::Directory(Arc::new(deep)));
        deep = outer;
    }
    let mut store = store();
    let path = format!("overlay/{}/diff/deep", store.top);
    store.put(&path, Node::Directory(Arc::new(deep)));
    let texts = found(&store.tree);
    assert_eq!(texts.len(), 1);
    assert!(texts[0].ends_with("has the extended attribute \"user.overlay.x\""));
}

#[test]
fn many_violations_are_cut_short() {
    let mut store = store();
    for number in 0..50 {
        store.put(&format!("x{number:02}"), file(b""));
    }
    let error = validate_tree(&store.tree).unwrap_err();
    assert_eq!(error.violations.len(), 50);
    assert!(
        error
            .to_string()
            .ends_with("x09 does not belong there; and 40 more")
    );
}

proptest::proptest! {
    /// Whatever stands in the JSON, the validator ends and says so.
    #[test]
    fn no_json_makes_it_panic(
        images in proptest::bool::ANY,
        at in proptest::prelude::any::<proptest::sample::Index>(),
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..4),
    ) {
        let mut store = store();
        let path = match images {
            true => "overlay-images/images.json",
            false => "overlay-layers/layers.json",
        };
        let mut json = Store::bytes(&store.tree, path);
        let at = at.index(json.len());
        let end = (at + bytes.len()).min(json.len());
        let same = json[at..end] == bytes;
        json.splice(at..end, bytes);
        store.put(path, file(&json));
        store.lock();
        let valid = found(&store.tree).is_empty();
        proptest::prop_assert!(valid || !same);
    }
}
