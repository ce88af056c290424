//! A set image that was lost, from what the repository has.

use std::collections::HashMap;

use super::{
    dangling::read_kept,
    store_images::{Chains, store_image},
    sync::SyncError,
};
use crate::{
    name::{IndexDigest, ObjectId, SetFormat, UnknownSetFormat},
    repo::{Repo, SetImageRecord, SetRecord},
    sink::{self, StagedSet},
    store_tree::lay_out_keeping,
};

/// Why a set image could not be rendered again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenderAgainError {
    /// Its parts are not all there, or make no store.
    #[error(transparent)]
    Parts(#[from] SyncError),
    /// It is of a format that is unknown here.
    #[error("sync the deployment: its set's {0}")]
    Format(#[from] UnknownSetFormat),
    /// The index that a name pins is not there.
    #[error("the index {0} is not at hand, which the set image holds: name a source of it")]
    NoIndex(IndexDigest),
    /// The same inputs gave other bytes.
    #[error("it came out as {found}, not as {expected}: sync the deployment to publish that")]
    Other {
        /// The published set image.
        expected: ObjectId,
        /// What was rendered.
        found: ObjectId,
    },
}

/// Renders the set image of a published set from its layers and documents, and
/// makes sure that it is there. `indexes` has the bytes of those that names pin:
/// the repository has none.
///
/// # Errors
/// [`RenderAgainError`]; the repository has what it had, and perhaps garbage.
pub fn render_again<'r>(
    repo: &'r Repo,
    set: &SetRecord,
    indexes: &HashMap<IndexDigest, Vec<u8>>,
) -> Result<StagedSet<'r>, RenderAgainError> {
    let format = SetFormat::try_from(set.format)?;
    let mut chains = Chains::default();
    let mut read = |record: &SetImageRecord| {
        let stored = read_kept(repo.view(), record).map_err(SyncError::from);
        let (mut image, layers) = stored?;
        if let Some(digest) = record.index_digest {
            let bytes = indexes.get(&digest);
            let bytes = bytes.ok_or(RenderAgainError::NoIndex(digest))?;
            image.index = Some((digest, bytes.clone()));
        }
        let trees = chains.trees(repo.view(), &record.name, &layers)?;
        Ok(store_image(&image, &layers, trees))
    };
    let mut all = |records: &[SetImageRecord]| {
        let images = records.iter().map(&mut read);
        images.collect::<Result<Vec<_>, RenderAgainError>>()
    };
    let (images, kept) = (all(&set.images)?, all(&set.kept)?);
    let tree = lay_out_keeping(&images, &kept).map_err(SyncError::from)?;
    let tree = tree.validate().map_err(SyncError::Invalid)?;
    let staged = sink::stage(repo, &tree, format).map_err(SyncError::from)?;
    let found = staged.set_image();
    if found != set.set_image {
        let expected = set.set_image;
        return Err(RenderAgainError::Other { expected, found });
    }
    Ok(staged)
}
