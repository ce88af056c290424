//! What a sync would bring, told before it does.

use std::collections::HashSet;

use serde::Serialize;

use super::{
    SyncError, Synced, Syncer,
    sync::{Plan, tally},
};
use crate::{
    name::{BlobDigest, DiffId, ImageName, ManifestDigest},
    repo::{DeploymentId, RepoError, RepoView},
    source::{Spool, Wanted},
};

/// What a sync would bring of one image.
#[derive(Debug, Clone, Serialize)]
pub struct ForecastImage {
    /// The name it is bound under.
    pub name: ImageName,
    /// What the name stands for.
    pub manifest_digest: ManifestDigest,
    /// Where it was found, as text.
    pub origin: String,
    /// Bytes that would come over the network: blobs, and the documents once.
    pub network_bytes: u64,
    /// Its layers, base first.
    pub layers: Vec<ForecastLayer>,
}

/// One layer of a [`ForecastImage`].
#[derive(Debug, Clone, Serialize)]
pub struct ForecastLayer {
    /// The uncompressed tar's digest.
    pub diff_id: DiffId,
    /// The blob's digest.
    pub digest: BlobDigest,
    /// The blob's size in bytes.
    pub size: u64,
    /// Where it is now.
    pub place: Place,
}

/// Where a layer is before a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// In the repository: nothing is to be done.
    Repository,
    /// In the spool, from a sync that did not come to its end.
    Spool,
    /// In a source at hand.
    Source,
    /// In a registry.
    Network,
    /// Brought with an image before this one.
    Before,
}

impl Syncer<'_> {
    /// Tells what a sync would bring; writes nothing, takes no lock.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub fn dry_run(
        &self,
        deployment: &DeploymentId,
        wanted: &[Wanted],
    ) -> Result<Synced, SyncError> {
        let view = match RepoView::open(&self.repo) {
            Ok(view) => Some(view),
            Err(RepoError::Absent(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let plans = self.plan(view.as_ref(), wanted)?;
        let mut synced = tally(&plans);
        if let Some(view) = &view {
            let kept = self.kept(view, &plans)?;
            synced.set = self.unchanged(view, deployment, &plans, &kept)?;
            synced.unchanged = synced.set.is_some();
        }
        let mut brought = HashSet::new();
        let forecast = plans.iter().map(|plan| self.forecast(plan, &mut brought));
        synced.forecast = forecast.collect();
        Ok(synced)
    }

    fn forecast(&self, plan: &Plan, brought: &mut HashSet<BlobDigest>) -> ForecastImage {
        let image = plan.image();
        let from_network = plan.found.needs_fetch();
        let mut layers = Vec::new();
        for (index, layer) in image.layers.iter().enumerate() {
            let (digest, size) = (layer.blob_digest, layer.blob_size);
            let place = if !plan.missing.contains(&index) {
                Place::Repository
            } else if !brought.insert(digest) {
                Place::Before
            } else if !from_network {
                Place::Source
            } else if Spool::holds_at(&self.spool_dir, &digest, size) {
                Place::Spool
            } else {
                Place::Network
            };
            layers.push(ForecastLayer {
                diff_id: layer.diff_id,
                digest,
                size,
                place,
            });
        }
        let index = image.index.as_ref().map_or(0, |(_, bytes)| bytes.len());
        let documents = (index + image.manifest.len() + image.config.len()) as u64;
        let on_network = layers.iter().filter(|layer| layer.place == Place::Network);
        let blobs: u64 = on_network.map(|layer| layer.size).sum();
        ForecastImage {
            name: image.name.clone(),
            manifest_digest: image.manifest_digest,
            origin: plan.found.origin.clone(),
            network_bytes: if from_network { documents + blobs } else { 0 },
            layers,
        }
    }
}
