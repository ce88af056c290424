//! The record of a set whose pin cannot be read, from its set image.

use std::{collections::HashMap, io::Read};

use super::hash;
use crate::{
    document::parse_config,
    name::{ImageName, LayerId, ManifestDigest, ObjectId},
    repo::{RepoView, SetImageRecord, SetRecord, format_of, read_back},
    squash::tree::{Directory, FileContent, InodeContent, Node},
    store_tree::{
        ImageRecord, big_data_file_name, is_rootfs, parse_images_json, parse_layers_json,
    },
};

/// The set image says what the pin said, but for two things: why an image was
/// accepted, and under which name one was bound that is kept without it. With
/// such a one nothing is recovered, nor where the set image is damaged too.
///
/// What comes of it is believed only if rendering it gives this set image.
pub(super) fn recover(view: &RepoView, set_image: &ObjectId) -> Option<SetRecord> {
    let mut bytes = Vec::new();
    let mut file = view.open_object(set_image).ok()?;
    file.read_to_end(&mut bytes).ok()?;
    let (found, set_image_bytes) = hash::fs_verity(view.algorithm(), &bytes[..]).ok()?;
    if found != *set_image {
        return None;
    }
    let format = format_of(&bytes, is_rootfs).ok()?;
    let tree = read_back(view.algorithm(), bytes, is_rootfs).ok()?;
    let layers = parse_layers_json(inline(&tree, "overlay-layers/layers.json")?).ok()?;
    let sizes = layers.into_iter().map(|layer| (layer.id, layer.diff_size));
    let sizes: HashMap<String, Option<i64>> = sizes.collect();
    let mut images = Vec::new();
    for image in parse_images_json(inline(&tree, "overlay-images/images.json")?).ok()? {
        images.extend(records(&tree, &image, &sizes)?);
    }
    images.sort_by(|a, b| a.name.cmp(&b.name));
    Some(SetRecord {
        format: format.number(),
        set_image: *set_image,
        set_image_bytes,
        images,
        kept: Vec::new(),
    })
}

/// One for each name of an image.
fn records(
    tree: &Directory,
    image: &ImageRecord,
    sizes: &HashMap<String, Option<i64>>,
) -> Option<Vec<SetImageRecord>> {
    if image.names.is_empty() {
        return None;
    }
    let config_key = format!("sha256:{}", image.id);
    let file = big_data_file_name(&config_key);
    let config = inline(tree, &format!("overlay-images/{}/{file}", image.id))?;
    let layers = parse_config(config).ok()?.diff_ids;
    let size = |id: LayerId| u64::try_from((*sizes.get(&id.hex())?)?).ok();
    let bytes: Option<u64> = LayerId::chain(&layers).into_iter().map(size).sum();
    let manifest: ManifestDigest = image.big_data_digests.get("manifest")?.parse().ok()?;
    let record = |name: &String| {
        let name: ImageName = name.parse().ok()?;
        let pinned = name.pinned().filter(|pinned| *pinned != manifest);
        Some(SetImageRecord {
            manifest_digest: manifest,
            index_digest: pinned.map(|pinned| pinned.cast()),
            config_digest: config_key.parse().ok()?,
            layers: layers.clone(),
            bytes: bytes?,
            verdict: "accepted when it was published; why is lost".to_owned(),
            name,
        })
    };
    image.names.iter().map(record).collect()
}

fn inline<'t>(tree: &'t Directory, path: &str) -> Option<&'t [u8]> {
    match tree.lookup(path.split('/').map(str::as_bytes))? {
        Node::Inode(inode) => match &inode.content {
            InodeContent::Regular(FileContent::Inline(bytes)) => Some(bytes),
            _ => None,
        },
        Node::Directory(_) => None,
    }
}
