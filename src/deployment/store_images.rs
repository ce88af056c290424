//! From stored layers to the images of a store tree.

use std::{collections::HashMap, sync::Arc};

use super::sync::SyncError;
use crate::{
    document::Compression,
    import::layer_entries,
    name::{ImageName, LayerId, ManifestDigest},
    repo::{RepoView, SetImageRecord, StoredLayer},
    source::ResolvedImage,
    squash::{Dropped, RootfsChain, tree::Directory},
    store_tree::{StoreBlob, StoreImage, StoreLayer},
};

/// The squashed trees of all chains of layers seen so far, each made once.
#[derive(Default)]
pub(super) struct Chains {
    pub(super) by_layer: HashMap<LayerId, (RootfsChain, Arc<Directory>)>,
    pub(super) dropped: Dropped,
}

impl Chains {
    pub(super) fn trees(
        &mut self,
        view: &RepoView,
        name: &ImageName,
        layers: &[StoredLayer],
    ) -> Result<Vec<Arc<Directory>>, SyncError> {
        let mut chain = RootfsChain::default();
        let mut trees = Vec::new();
        let ids = LayerId::chain(layers.iter().map(|layer| &layer.diff_id));
        for (id, layer) in ids.into_iter().zip(layers) {
            if let Some((known, tree)) = self.by_layer.get(&id) {
                chain = known.clone();
                trees.push(Arc::clone(tree));
                continue;
            }
            let entries = layer_entries(view, &layer.diff_id, &layer.stream)?;
            let before = chain.dropped();
            let tree = chain.push(entries).map_err(|source| SyncError::Squash {
                name: name.clone(),
                source,
            })?;
            self.dropped = self.dropped.and(chain.dropped().since(before));
            self.by_layer.insert(id, (chain.clone(), Arc::clone(&tree)));
            trees.push(tree);
        }
        Ok(trees)
    }
}

/// The index belongs to an image only where its name pins it: how a tag was
/// resolved must not change the set image.
pub(super) fn pinned_index(image: &ResolvedImage) -> Option<crate::name::IndexDigest> {
    let (digest, _) = image.index.as_ref()?;
    let pinned: Option<ManifestDigest> = image.name.pinned();
    (pinned.map(|pinned| pinned.cast()) == Some(*digest)).then_some(*digest)
}

pub(super) fn set_image_record(image: &ResolvedImage, layers: &[StoredLayer]) -> SetImageRecord {
    SetImageRecord {
        name: image.name.clone(),
        manifest_digest: image.manifest_digest,
        index_digest: pinned_index(image),
        config_digest: image.config_digest,
        layers: layers.iter().map(|layer| layer.diff_id).collect(),
        bytes: layers.iter().map(|layer| layer.diff_size).sum(),
        verdict: image.verdict.clone(),
    }
}

pub(super) fn store_image(
    image: &ResolvedImage,
    layers: &[StoredLayer],
    trees: Vec<Arc<Directory>>,
) -> StoreImage {
    let index = pinned_index(image).and(image.index.as_ref());
    StoreImage {
        name: image.name.clone(),
        manifest_digest: image.manifest_digest,
        manifest: image.manifest.as_slice().into(),
        index: index.map(|(digest, bytes)| (*digest, bytes.as_slice().into())),
        config_digest: image.config_digest,
        config: image.config.as_slice().into(),
        layers: layers
            .iter()
            .zip(&image.layers)
            .zip(trees)
            .map(|((layer, descriptor), rootfs)| StoreLayer {
                diff_id: layer.diff_id,
                diff_size: layer.diff_size,
                blob: StoreBlob {
                    digest: descriptor.blob_digest,
                    size: descriptor.blob_size,
                    compression: match descriptor.compression {
                        Compression::None => 0,
                        Compression::Gzip => 2,
                        Compression::Zstd => 4,
                    },
                },
                tar_split: layer.tar_split.clone(),
                rootfs,
            })
            .collect(),
    }
}
