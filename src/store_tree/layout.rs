//! Laying a set out as containers-storage does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sha2::{Digest as _, Sha512};

use super::{
    StoreBlob, StoreImage, big_data::big_data_file_name, images::ImageRecord, layers::LayerRecord,
    node, walk,
};
use crate::{
    document::{DocumentError, parse_config},
    name::{BlobDigest, ConfigDigest, DiffId, IndexDigest, LayerId, ManifestDigest},
    squash::tree::{Directory, FileContent, Node},
};

/// The `created` of an image whose config has none.
///
/// podman shows a missing one as "292 years ago"; containers/image writes the
/// time of the pull, which would not be deterministic.
pub(super) const CREATED_UNKNOWN: &str = "1970-01-01T00:00:00Z";

/// A set as podman will see it: the whole additional image store.
///
/// Within each `overlay/<layer>/diff` equal `Arc<Inode>`s are hard links;
/// between two of them they are only shared memory, and a sink must count
/// them apart.
#[derive(Debug, Clone)]
pub struct StoreTree {
    tree: Arc<Directory>,
}

impl StoreTree {
    /// Takes any tree for a store tree: what it is worth [`validate`] says.
    ///
    /// [`validate`]: StoreTree::validate
    pub fn from_tree(tree: Arc<Directory>) -> Self {
        Self { tree }
    }

    /// The tree.
    pub fn tree(&self) -> &Arc<Directory> {
        &self.tree
    }
}

/// Why a set cannot be laid out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayOutError {
    /// One name, two images.
    #[error("the name {name} stands for two images, {first} and {second}")]
    DuplicateName {
        /// The name.
        name: String,
        /// The manifest of one.
        first: ManifestDigest,
        /// The manifest of the other.
        second: ManifestDigest,
    },
    /// Bytes that are not those of their digest.
    #[error("the {what} of {name} must be {expected}, but its bytes are {found}")]
    WrongDigest {
        /// Of which image.
        name: String,
        /// `config`, `manifest` or `index`.
        what: &'static str,
        /// What was claimed.
        expected: BlobDigest,
        /// What the bytes are.
        found: BlobDigest,
    },
    /// A config that podman cannot decode.
    #[error("read the config {config} of {name}")]
    Config {
        /// Of which image.
        name: String,
        /// Which config.
        config: ConfigDigest,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// The layers are not those of the config.
    #[error("the config of {name} lists the layers {expected:?}, but {found:?} are given")]
    Layers {
        /// Of which image.
        name: String,
        /// The config's `rootfs.diff_ids`.
        expected: Vec<DiffId>,
        /// The layers given.
        found: Vec<DiffId>,
    },
    /// Two images have different facts of one layer, where that cannot be.
    #[error("two images give a different {what} for the layer {layer}")]
    LayerConflict {
        /// Which layer.
        layer: LayerId,
        /// `length` or `tar-split`.
        what: &'static str,
    },
    /// A name that pins another digest than the image's.
    #[error("the name {name} pins neither the manifest {manifest} nor the index of its image")]
    WrongPin {
        /// The name.
        name: String,
        /// The image's manifest.
        manifest: ManifestDigest,
    },
    /// An index that the name does not pin: its bytes would make one image
    /// two different set images.
    #[error("the name {name} does not pin the index {index} that comes with it")]
    UnpinnedIndex {
        /// The name.
        name: String,
        /// The index.
        index: IndexDigest,
    },
    /// A length that Go's int64 cannot hold.
    #[error("the layer {layer} has a length of {size} bytes, more than podman can read")]
    Size {
        /// Which layer.
        layer: LayerId,
        /// Its length, or its blob's.
        size: u64,
    },
}

/// Lays a set out: a pure function of the images, in whatever order they come.
///
/// # Errors
/// What contradicts itself in the images given; all of them are faults of an
/// earlier stage or of a hostile source.
pub fn lay_out(images: &[StoreImage]) -> Result<StoreTree, LayOutError> {
    lay_out_keeping(images, &[])
}

/// Lays a set out with the images in `kept` besides: without names, for what
/// stands on them. What their `name` says is not heeded, nor is a kept image
/// that the set has anyway.
///
/// # Errors
/// As those of [`lay_out`].
pub fn lay_out_keeping(
    images: &[StoreImage],
    kept: &[StoreImage],
) -> Result<StoreTree, LayOutError> {
    let mut named: BTreeMap<String, &StoreImage> = BTreeMap::new();
    for image in images {
        check(image)?;
        if let Some(other) = named.insert(image.name.to_string(), image)
            && other.manifest_digest != image.manifest_digest
        {
            return Err(LayOutError::DuplicateName {
                name: image.name.to_string(),
                first: other.manifest_digest.min(image.manifest_digest),
                second: other.manifest_digest.max(image.manifest_digest),
            });
        }
    }
    let mut by_config: BTreeMap<ConfigDigest, Group<'_>> = BTreeMap::new();
    for (name, &image) in &named {
        let group = by_config.entry(image.config_digest).or_default();
        group.names.push(name);
        group.images.push(image);
    }
    let mut laid_out: Vec<&StoreImage> = images.iter().collect();
    for image in kept {
        check_documents(image)?;
        check_layers(image)?;
        // Of two manifests of one image the smaller digest wins.
        let group = by_config.entry(image.config_digest).or_default();
        match (group.names.as_slice(), group.images.as_slice()) {
            ([_, ..], _) => continue,
            ([], [other]) if other.manifest_digest < image.manifest_digest => {}
            _ => group.images = vec![image],
        }
        laid_out.push(image);
    }
    let layers = collect_layers(&laid_out)?;

    let mut tree = node::directory();
    let mut overlay_images = node::directory();
    let mut image_records = Vec::new();
    for (config, group) in &by_config {
        let (record, big_data) = lay_out_image(config, group)?;
        node::put_directory(&mut overlay_images, &record.id, big_data);
        image_records.push(record);
    }
    let layer_records = layers
        .iter()
        .map(|((_, id), layer)| layer.record(*id))
        .collect::<Result<Vec<_>, _>>()?;
    let layers_json = json(&layer_records);
    let images_json = json(&image_records);
    let lock = lock_content(&layers_json, &images_json);

    node::put(&mut overlay_images, "images.json", node::file(images_json));
    node::put(&mut overlay_images, "images.lock", node::file(lock));
    node::put_directory(&mut tree, "overlay-images", overlay_images);
    let mut overlay_layers = node::directory();
    for ((_, id), layer) in &layers {
        let tar_split = node::file_of(layer.tar_split.clone());
        node::put(
            &mut overlay_layers,
            &format!("{id}.tar-split.gz"),
            tar_split,
        );
    }
    node::put(&mut overlay_layers, "layers.json", node::file(layers_json));
    node::put(&mut overlay_layers, "layers.lock", node::file(lock));
    node::put_directory(&mut tree, "overlay-layers", overlay_layers);
    node::put_directory(&mut tree, "overlay", lay_out_overlay(&layers));
    // A podman with the vfs driver that finds this store in storage.conf
    // opens these, and dies where it cannot make them.
    for (directory, name) in [("vfs-images", "images.lock"), ("vfs-layers", "layers.lock")] {
        let mut vfs = node::directory();
        node::put(&mut vfs, name, node::file(lock));
        node::put_directory(&mut tree, directory, vfs);
    }
    Ok(StoreTree::from_tree(Arc::new(tree)))
}

/// What all four lock files hold: the SHA-512 of `layers.json` followed by
/// `images.json`.
///
/// containers-storage compares these 64 bytes to see that a store changed
/// (`pkg/lockfile`, "last writer").
pub fn lock_content(layers_json: &[u8], images_json: &[u8]) -> [u8; 64] {
    let mut hasher = Sha512::new();
    hasher.update(layers_json);
    hasher.update(images_json);
    hasher.finalize().into()
}

fn check_documents(image: &StoreImage) -> Result<(), LayOutError> {
    let index = image.index.as_ref();
    let documents = [
        ("config", image.config_digest.cast(), &image.config),
        ("manifest", image.manifest_digest.cast(), &image.manifest),
    ];
    let documents = documents.into_iter();
    for (what, expected, bytes) in
        documents.chain(index.map(|(digest, bytes)| ("index", digest.cast(), bytes)))
    {
        let found = BlobDigest::of(bytes);
        if found != expected {
            return Err(LayOutError::WrongDigest {
                name: image.name.to_string(),
                what,
                expected,
                found,
            });
        }
    }
    Ok(())
}

fn check(image: &StoreImage) -> Result<(), LayOutError> {
    check_documents(image)?;
    let name = || image.name.to_string();
    let index = image.index.as_ref();
    let pin = image.name.pinned();
    match (pin, index) {
        (Some(pin), _) if pin == image.manifest_digest => {}
        (Some(pin), Some((index, _))) if pin == index.cast() => return check_layers(image),
        (Some(_), None) => {
            return Err(LayOutError::WrongPin {
                name: name(),
                manifest: image.manifest_digest,
            });
        }
        _ => {}
    }
    if let Some((index, _)) = index {
        return Err(LayOutError::UnpinnedIndex {
            name: name(),
            index: *index,
        });
    }
    check_layers(image)
}

fn check_layers(image: &StoreImage) -> Result<(), LayOutError> {
    let parsed = parse_config(&image.config).map_err(|source| LayOutError::Config {
        name: image.name.to_string(),
        config: image.config_digest,
        source,
    })?;
    let found: Vec<DiffId> = image.layers.iter().map(|layer| layer.diff_id).collect();
    if found != parsed.diff_ids {
        return Err(LayOutError::Layers {
            name: image.name.to_string(),
            expected: parsed.diff_ids,
            found,
        });
    }
    Ok(())
}

/// A layer of the set, shared by the images that have it.
struct SharedLayer<'a> {
    parent: Option<LayerId>,
    diff_id: DiffId,
    diff_size: u64,
    blob: StoreBlob,
    tar_split: &'a FileContent,
    rootfs: &'a Arc<Directory>,
}

/// By depth, then ID: parents come before children.
type SharedLayers<'a> = BTreeMap<(usize, LayerId), SharedLayer<'a>>;

fn collect_layers<'a>(images: &[&'a StoreImage]) -> Result<SharedLayers<'a>, LayOutError> {
    let mut layers = SharedLayers::new();
    for image in images {
        let ids = LayerId::chain(image.layers.iter().map(|layer| &layer.diff_id));
        let mut parent = None;
        for (depth, (layer, id)) in image.layers.iter().zip(ids).enumerate() {
            let shared = layers.entry((depth, id)).or_insert(SharedLayer {
                parent,
                diff_id: layer.diff_id,
                diff_size: layer.diff_size,
                blob: layer.blob,
                tar_split: &layer.tar_split,
                rootfs: &layer.rootfs,
            });
            // The trees need no comparing: the chain of DiffIDs makes them.
            shared.blob = shared.blob.min(layer.blob);
            let conflict = |what| LayOutError::LayerConflict { layer: id, what };
            if shared.diff_size != layer.diff_size {
                return Err(conflict("length"));
            }
            if *shared.tar_split != layer.tar_split {
                return Err(conflict("tar-split"));
            }
            parent = Some(id);
        }
    }
    Ok(layers)
}

impl SharedLayer<'_> {
    fn record(&self, id: LayerId) -> Result<LayerRecord, LayOutError> {
        let size = |size| i64::try_from(size).map_err(|_| LayOutError::Size { layer: id, size });
        let (uidset, gidset) = owners(self.rootfs);
        Ok(LayerRecord {
            id: id.hex(),
            parent: self.parent.map(|parent| parent.hex()),
            compressed_diff_digest: Some(self.blob.digest.to_string()),
            compressed_size: Some(size(self.blob.size)?),
            diff_digest: Some(self.diff_id.to_string()),
            diff_size: Some(size(self.diff_size)?),
            compression: self.blob.compression.into(),
            uidset,
            gidset,
            ..LayerRecord::default()
        })
    }
}

/// The users and groups that own anything in a tree, ascending.
fn owners(rootfs: &Directory) -> (Vec<u32>, Vec<u32>) {
    let mut users = BTreeSet::from([rootfs.metadata.uid]);
    let mut groups = BTreeSet::from([rootfs.metadata.gid]);
    walk::walk(rootfs, |_, node| {
        let metadata = match node {
            Node::Directory(directory) => &directory.metadata,
            Node::Inode(inode) => &inode.metadata,
        };
        users.insert(metadata.uid);
        groups.insert(metadata.gid);
        true
    });
    (users.into_iter().collect(), groups.into_iter().collect())
}

/// Whether this is where a layer's rootfs lies, `overlay/<layer>/diff`: only
/// within one of these are names of one file hard links.
pub fn is_rootfs(path: &[u8]) -> bool {
    let mut names = path.split(|byte| *byte == b'/');
    names.next() == Some(b"overlay") && names.nth(1) == Some(b"diff") && names.next().is_none()
}

fn lay_out_overlay(layers: &SharedLayers<'_>) -> Directory {
    let mut overlay = node::directory();
    let mut links = node::directory();
    for ((_, id), layer) in layers {
        let link = id.link();
        let mut directory = node::directory();
        let rootfs = Node::Directory(Arc::clone(layer.rootfs));
        node::put(&mut directory, "diff", rootfs);
        node::put(&mut directory, "link", node::file(link.as_str().as_bytes()));
        // `image diff` mounts diff:empty, and podman 4 mounts it on `merged`.
        node::put_directory(&mut directory, "empty", node::directory());
        node::put_directory(&mut directory, "merged", node::directory());
        node::put_directory(&mut overlay, &id.hex(), directory);
        let target = node::symlink(format!("../{id}/diff"));
        node::put(&mut links, link.as_str(), target);
    }
    node::put_directory(&mut overlay, "l", links);
    overlay
}

/// One image ID: its names, ascending, with the image that each stands for;
/// or a kept image alone.
#[derive(Default)]
struct Group<'a> {
    names: Vec<&'a str>,
    images: Vec<&'a StoreImage>,
}

/// The record and the big data of one image ID.
fn lay_out_image(
    config: &ConfigDigest,
    group: &Group<'_>,
) -> Result<(ImageRecord, Directory), LayOutError> {
    let first = group.images[0];
    let parsed = parse_config(&first.config).map_err(|source| LayOutError::Config {
        name: first.name.to_string(),
        config: *config,
        source,
    })?;
    let mut manifests: BTreeMap<String, (BlobDigest, &[u8])> = BTreeMap::new();
    for image in &group.images {
        let index = image.index.as_ref();
        let index = index.map(|(digest, bytes)| (digest.cast(), bytes));
        let manifest = (image.manifest_digest.cast(), &image.manifest);
        for (digest, bytes) in std::iter::once(manifest).chain(index) {
            manifests.insert(format!("manifest-{digest}"), (digest, bytes));
        }
    }
    let mut items: Vec<(String, (BlobDigest, &[u8]))> =
        vec![(config.to_string(), (config.cast(), &first.config))];
    items.extend(manifests);
    let manifest = (first.manifest_digest.cast(), &first.manifest[..]);
    items.push(("manifest".to_owned(), manifest));

    let layers = first.layers.iter().map(|layer| &layer.diff_id);
    let index = first.index.as_ref();
    let mut record = ImageRecord {
        id: config.hex(),
        digest: Some(index.map_or(first.manifest_digest.to_string(), |(i, _)| i.to_string())),
        names: group.names.iter().map(|&name| name.to_owned()).collect(),
        layer: LayerId::chain(layers).last().map(LayerId::hex),
        metadata: "{}".to_owned(),
        created: Some(parsed.created.unwrap_or(CREATED_UNKNOWN.to_owned())),
        ..ImageRecord::default()
    };
    let mut directory = node::directory();
    for (key, (digest, bytes)) in items {
        node::put(&mut directory, &big_data_file_name(&key), node::file(bytes));
        // A slice is never longer than isize::MAX.
        let size = bytes.len() as i64;
        record.big_data_sizes.insert(key.clone(), size);
        record
            .big_data_digests
            .insert(key.clone(), digest.to_string());
        record.big_data_names.push(key);
    }
    Ok((record, directory))
}

fn json(records: &impl serde::Serialize) -> Vec<u8> {
    // Only a map whose keys are no strings can make this fail, and the
    // records have none; the validator would refuse what came of it.
    serde_json::to_vec(records).unwrap_or_default()
}

#[cfg(test)]
mod tests;
