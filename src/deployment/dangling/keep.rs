//! `keep-layers=referenced`: which images of other sets a set has to keep.

use std::collections::BTreeMap;

use super::{Dangling, UserKind};
use crate::{
    name::{ConfigDigest, LayerId},
    repo::{RepoError, RepoView, SetImageRecord, StoredLayer},
    source::ResolvedImage,
};

/// The images among `held` that give each of `dangling` what it stands on, as
/// far as one does and is `whole`, each once and by image ID.
///
/// Whole images and not layers alone: measured on podman 4.3.1, an image
/// record that is but a name needs the store to have its manifest and config,
/// and a container that is to be committed needs its image.
pub fn keep_referenced(
    dangling: &[Dangling],
    held: &[SetImageRecord],
    whole: impl Fn(&SetImageRecord) -> bool,
) -> Vec<SetImageRecord> {
    let mut kept: BTreeMap<ConfigDigest, SetImageRecord> = BTreeMap::new();
    for user in dangling {
        let serving = held.iter().filter(|image| serves(image, user));
        // The user's own image if possible, else any that has the layer.
        let mut serving: Vec<_> = serving.collect();
        serving.sort_by_key(|image| (!is_own(image, user), image.manifest_digest, &image.name));
        if let Some(image) = serving.into_iter().find(|image| whole(image)) {
            let kept = kept.entry(image.config_digest);
            kept.or_insert_with(|| SetImageRecord {
                index_digest: None,
                ..image.clone()
            });
        }
    }
    kept.into_values().collect()
}

fn is_own(image: &SetImageRecord, user: &Dangling) -> bool {
    user.image.as_deref() == Some(&image.config_digest.hex())
}

fn serves(image: &SetImageRecord, user: &Dangling) -> bool {
    let layer = |wanted: &String| {
        let chain = LayerId::chain(&image.layers);
        chain.iter().any(|id| id.hex() == *wanted)
    };
    let whole = user.kind == UserKind::Image && user.image.is_some();
    let own = is_own(image, user);
    match &user.layer {
        Some(wanted) => layer(wanted) && (own || !whole),
        None => own,
    }
}

/// An image that was published before, with its layers, as the repository has it.
///
/// # Errors
/// [`RepoError::MissingStream`], [`RepoError::BadStream`] where a part of it is
/// gone or damaged.
pub(in crate::deployment) fn read_kept(
    view: &RepoView,
    record: &SetImageRecord,
) -> Result<(ResolvedImage, Vec<StoredLayer>), RepoError> {
    let missing = |what: String| RepoError::MissingStream(what);
    let stored = view.image(&record.manifest_digest)?;
    let stored = stored.ok_or_else(|| missing(record.manifest_digest.to_string()))?;
    let (name, verdict) = (record.name.clone(), record.verdict.clone());
    let image = ResolvedImage::stored(name, stored.manifest, stored.config, verdict);
    let image = image.map_err(|error| RepoError::BadStream {
        name: record.manifest_digest.to_string(),
        source: error.into(),
    })?;
    let layers = image.layers.iter().map(|layer| {
        let stored = view.layer(&layer.diff_id)?;
        stored.ok_or_else(|| missing(layer.diff_id.to_string()))
    });
    let layers = layers.collect::<Result<_, _>>()?;
    Ok((image, layers))
}
