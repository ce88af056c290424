//! Bringing what is only on the network to this machine, and into the
//! repository as it comes.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    import_set::Came,
    retry::Failed,
    sync::{AT_ONCE, Heard, Plan, SyncError, SyncEvent, Syncer, source_error},
};
use crate::{
    at_once::at_once,
    name::BlobDigest,
    repo::Repo,
    source::{FetchStep, Spool},
};

/// Layers without names yet, and the handle that protects them.
type Begun = (Repo, Came);

/// The blobs that are still to come.
struct Coming(Mutex<HashSet<BlobDigest>>);

impl Coming {
    fn is_over(&self) -> bool {
        self.blobs().is_empty()
    }

    fn blobs(&self) -> MutexGuard<'_, HashSet<BlobDigest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Syncer<'_> {
    /// Brings the missing blobs into the spool; no lock is held.
    ///
    /// # Errors
    /// See [`SyncError`]; blobs that came whole stay in the spool.
    pub(super) fn fetch(&self, plans: &[Plan]) -> Result<Option<Spool>, SyncError> {
        self.fetch_telling(plans, &mut |_, _, _, _| {})
    }

    /// The same, and imports layers while others come, one after the other. The
    /// repository's lock is held for one layer, never while the network is
    /// waited for. What came last, when nothing was to come any more, has no
    /// name yet: it is given with the handle that protects it.
    ///
    /// # Errors
    /// See [`SyncError`]; layers that came whole are kept for the next sync.
    pub(super) fn fetch_importing(
        &self,
        plans: &[Plan],
    ) -> Result<(Option<Spool>, Option<Begun>), SyncError> {
        let mut last = None;
        let mut failed = Ok(());
        let spool = self.fetch_telling(plans, &mut |spool, plan, layer, coming| {
            // Without anything to wait for, all that is left is imported at once.
            if failed.is_err() || coming.is_over() {
                return;
            }
            failed = (|| {
                let repo = Repo::open(&self.repo, self.lock_limit)?;
                let came = self.import_layer(&repo, plan, layer, spool)?;
                if coming.is_over() {
                    last = Some((repo, came));
                } else {
                    let staged: Vec<_> = came.into_iter().map(|(_, stream)| stream).collect();
                    repo.register(&staged)?;
                }
                Ok(())
            })();
        });
        failed.and(spool).map(|spool| (spool, last))
    }

    /// Tells of each layer whose blob is whole, on this thread.
    fn fetch_telling(
        &self,
        plans: &[Plan],
        whole: &mut dyn FnMut(&Spool, &Plan, usize, &Coming),
    ) -> Result<Option<Spool>, SyncError> {
        let mut blobs = HashSet::new();
        let mut fetches = Vec::new();
        for plan in plans.iter().filter(|plan| plan.found.needs_fetch()) {
            // A blob of several images comes with the first.
            let mut layers = plan.missing.clone();
            layers.retain(|layer| blobs.insert(plan.image().layers[*layer].blob_digest));
            if !layers.is_empty() {
                fetches.push((plan, layers));
            }
        }
        let Some((first, _)) = fetches.first() else {
            return Ok(None);
        };
        let coming = Coming(Mutex::new(blobs));
        let retry = self.retry;
        let spool = self.trying(&first.image().name, || Spool::open(&self.spool_dir))?;
        let fetch = |(plan, layers): &(&Plan, Vec<usize>), tell: &dyn Fn(Heard)| {
            let again = |failed: Failed<'_>, pause| tell(Heard::again(failed, pause));
            let mut progress = |step| {
                if let Some(digest) = came(&step) {
                    coming.blobs().remove(&digest);
                }
                tell(Heard::Step(step));
            };
            let attempt = || plan.found.fetch(layers, &spool, &mut progress);
            let fetched = retry.run(attempt, again);
            fetched.map_err(|source| source_error(&plan.image().name, source))
        };
        at_once(&fetches, AT_ONCE, fetch, |(plan, layers), heard| {
            self.hear(&plan.image().name, Some(&plan.found), &heard);
            let Heard::Step(step) = heard else { return };
            let Some(digest) = came(&step) else { return };
            let of_it = |layer: &&usize| plan.image().layers[**layer].blob_digest == digest;
            if let Some(layer) = layers.iter().find(of_it) {
                whole(&spool, plan, *layer, &coming);
            }
        })?;
        Ok(Some(spool))
    }

    /// What is published need not stay in the spool, whether this sync has
    /// fetched it or one that was killed. Blobs that cannot be removed only
    /// take room: the next sync may use them.
    pub(super) fn release(&self, plans: &[Plan], spool: Option<Spool>) {
        let fetched: Vec<_> = plans
            .iter()
            .filter(|plan| plan.found.needs_fetch())
            .collect();
        if fetched.is_empty() {
            return;
        }
        let Some(spool) = spool.or_else(|| Spool::left_at(&self.spool_dir)) else {
            return;
        };
        for layer in fetched.iter().flat_map(|plan| &plan.image().layers) {
            if let Err(error) = spool.remove(&layer.blob_digest) {
                (self.observer)(SyncEvent::Leftover(&error));
            }
        }
    }
}

/// The blob that is whole after this step.
fn came(step: &FetchStep) -> Option<BlobDigest> {
    match step {
        FetchStep::Reused { digest, .. } | FetchStep::Done { digest } => Some(*digest),
        _ => None,
    }
}
