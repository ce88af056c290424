//! Repair: what `verify` has found bad of a set is brought again, and nothing
//! else.
//!
//! A bad object is never removed before the right one takes its place, by
//! rename, and nothing is believed because it has the right name: an object is
//! as its bytes hash, as in any sync.

use std::collections::BTreeSet;

use super::{
    dangling::read_kept,
    store_images::{Chains, store_image},
    sync::{Plan, SyncError, Syncer},
};
use crate::{
    error::with_causes,
    name::{DiffId, ImageName, ObjectId},
    repo::{DeploymentId, Repo, RepoError, RepoView, SetImageRecord, SetRecord},
    sink,
    source::{Spool, Wanted},
    store_tree::{StoreImage, lay_out_keeping},
};

/// What a repair did.
#[derive(Debug, Clone, Default)]
pub struct Repaired {
    /// Layers that were brought again, each with an image that it is of.
    pub layers: Vec<(ImageName, DiffId)>,
    /// Whether the set image was rendered again.
    pub set_image: bool,
    /// Bytes of the layers' blobs.
    pub bytes_fetched: u64,
    /// Images of which something stays bad, each with the reason.
    pub lost: Vec<(ImageName, String)>,
}

impl Syncer<'_> {
    /// Brings again what of the published set of `deployment` is among the
    /// `bad` objects: layers from where the images come from, by the digests of
    /// the published record; the set image by rendering it again. An image
    /// whose source fails stops no other.
    ///
    /// # Errors
    /// The set's own record cannot be read, so that nobody knows what it was,
    /// or the repository cannot be written.
    pub fn repair(
        &self,
        deployment: &DeploymentId,
        bad: &BTreeSet<ObjectId>,
    ) -> Result<Repaired, SyncError> {
        let view = RepoView::open(&self.repo)?.distrusting(bad.clone());
        let Some(set) = view.set(deployment)? else {
            return Ok(Repaired::default());
        };
        let render = bad.contains(&set.set_image);
        let mut repaired = Repaired::default();
        let mut plans = Vec::new();
        for record in set.all_images() {
            // The bytes of an index are kept in the set image alone.
            let indexed = render && record.index_digest.is_some();
            if !indexed && is_whole(&view, record)? {
                continue;
            }
            match self.plan(Some(&view), &[wanted(record)]) {
                Ok(planned) => plans.extend(planned),
                Err(error) => repaired.lose(&record.name, &error),
            }
        }
        let spool = self.fetch_each(&mut plans, &mut repaired);
        let mut repo = Repo::open(&self.repo, self.lock_limit)?;
        repo.distrust(bad.clone());
        for plan in &plans {
            match self.import(&repo, plan, spool.as_ref()) {
                Ok(_) => repaired.bring(plan),
                Err(error) => repaired.lose(&plan.image().name, &error),
            }
        }
        // Only what was not replaced is still to be distrusted.
        repo.distrust(still_bad(&repo, bad));
        if render && repaired.lost.is_empty() {
            repaired.set_image = render_again(&repo, &set, &plans)?;
        }
        repo.drop_partial(&set)?;
        self.release(&plans, spool);
        Ok(repaired)
    }

    /// Fetches for each by itself; what cannot be had is lost, and planned no
    /// more.
    fn fetch_each(&self, plans: &mut Vec<Plan>, repaired: &mut Repaired) -> Option<Spool> {
        let mut spool = None;
        plans.retain(
            |plan| match self.fetch(std::slice::from_ref(plan), spool.take()) {
                Ok(opened) => {
                    spool = opened;
                    true
                }
                Err(error) => {
                    repaired.lose(&plan.image().name, &error);
                    false
                }
            },
        );
        spool
    }
}

impl Repaired {
    fn lose(&mut self, name: &ImageName, error: &SyncError) {
        self.lost.push((name.clone(), with_causes(error)));
    }

    fn bring(&mut self, plan: &Plan) {
        for index in &plan.missing {
            let layer = &plan.image().layers[*index];
            let known = self.layers.iter().any(|(_, known)| *known == layer.diff_id);
            if !known {
                self.bytes_fetched += layer.blob_size;
                self.layers.push((plan.image().name.clone(), layer.diff_id));
            }
        }
    }
}

/// Renders the set image of what the repository has, and says whether it came
/// out as it was: formats are append-only, so it does.
fn render_again(repo: &Repo, set: &SetRecord, plans: &[Plan]) -> Result<bool, SyncError> {
    let mut chains = Chains::default();
    let mut of = |record: &SetImageRecord| -> Result<StoreImage, SyncError> {
        let (stored, layers) = read_kept(repo.view(), record)?;
        let trees = chains.trees(repo.view(), &record.name, &layers)?;
        let planned = plans.iter().map(Plan::image);
        let resolved = planned
            .filter(|image| record.index_digest.is_some() && image.name == record.name)
            .find(|image| image.manifest_digest == record.manifest_digest);
        Ok(store_image(resolved.unwrap_or(&stored), &layers, trees))
    };
    let images = set
        .images
        .iter()
        .map(&mut of)
        .collect::<Result<Vec<_>, _>>()?;
    let kept = set
        .kept
        .iter()
        .map(&mut of)
        .collect::<Result<Vec<_>, _>>()?;
    let tree = lay_out_keeping(&images, &kept)?
        .validate()
        .map_err(SyncError::Invalid)?;
    let staged = sink::stage(repo, &tree)?;
    let same = staged.set_image() == set.set_image;
    staged.discard();
    repo.sync()?;
    Ok(same)
}

/// The image that was published, whatever its name means today.
fn wanted(record: &SetImageRecord) -> Wanted {
    Wanted {
        locked: Some(record.manifest_digest),
        ..Wanted::new(record.name.clone())
    }
}

fn is_whole(view: &RepoView, record: &SetImageRecord) -> Result<bool, RepoError> {
    if view.image(&record.manifest_digest)?.is_none() {
        return Ok(false);
    }
    for layer in &record.layers {
        if view.layer(layer)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn still_bad(repo: &Repo, bad: &BTreeSet<ObjectId>) -> BTreeSet<ObjectId> {
    let is_bad = |id: &&ObjectId| !repo.view().is_intact(id);
    bad.iter().filter(is_bad).copied().collect()
}
