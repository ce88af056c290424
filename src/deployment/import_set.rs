//! Importing the layers that a set lacks, several at once.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use super::sync::{Plan, SyncError, SyncEvent, Syncer, source_error};
use crate::{
    at_once::{at_once, cores},
    import::{ObjectPool, import_layer},
    name::DiffId,
    repo::{ImageStream, Repo, StagedStream, StoredLayer},
    source::Spool,
};

/// How many layers are imported at once, at most: each has two threads of its
/// own, and some mebibytes.
const MOST_LAYERS: usize = 4;

/// A layer that the repository lacks: of which image, and its place there.
type Missing<'p> = (&'p Plan, usize);

/// The layers of each image, and the streams that have no names yet.
pub(super) type Imported = (Vec<Vec<StoredLayer>>, Vec<StagedStream>);

/// Layers that came whole, without names yet.
pub(super) type Came = Vec<(StoredLayer, StagedStream)>;

impl Syncer<'_> {
    /// Brings the layers of all images into the repository, but for those that
    /// `came` just now, and the records of the images; gives the layers of each,
    /// and what is to be registered.
    ///
    /// # Errors
    /// What the first layer to fail says. Those that came whole by then are
    /// registered, and not imported again.
    pub(super) fn import(
        &self,
        repo: &Repo,
        plans: &[Plan],
        spool: Option<&Spool>,
        mut came: Came,
    ) -> Result<Imported, SyncError> {
        // Looked up again under the lock: a gc may have been here since.
        let mut stored = HashMap::new();
        let mut missing: Vec<Missing<'_>> = Vec::new();
        let mut seen: HashSet<DiffId> = came.iter().map(|(layer, _)| layer.diff_id).collect();
        for plan in plans {
            for (index, descriptor) in plan.image().layers.iter().enumerate() {
                let diff_id = &descriptor.diff_id;
                if !seen.insert(*diff_id) {
                    continue;
                }
                match repo.view().layer(diff_id)? {
                    Some(layer) => drop(stored.insert(*diff_id, layer)),
                    None => missing.push((plan, index)),
                }
            }
        }
        let (more, imported) = self.import_missing(repo, &missing, spool)?;
        came.extend(more);
        let mut staged = Vec::new();
        for (layer, stream) in came {
            stored.insert(layer.diff_id, layer);
            staged.push(stream);
        }
        let imported_set = stage_images(repo, plans, staged, &stored);
        // What befell one layer counts more than what befalls the others.
        if let Err(error) = imported {
            if let Ok((_, staged)) = imported_set {
                let _it_failed_before = repo.register(&staged);
            }
            return Err(error);
        }
        imported_set
    }

    /// Brings one layer into the repository, where it lacks it.
    ///
    /// # Errors
    /// See [`SyncError`]; nothing came then.
    pub(super) fn import_layer(
        &self,
        repo: &Repo,
        plan: &Plan,
        layer: usize,
        spool: &Spool,
    ) -> Result<Came, SyncError> {
        if repo
            .view()
            .layer(&plan.image().layers[layer].diff_id)?
            .is_some()
        {
            return Ok(Vec::new());
        }
        let (came, imported) = self.import_missing(repo, &[(plan, layer)], Some(spool))?;
        imported.map(|()| came)
    }

    /// The layers that came whole, and how it ended.
    fn import_missing(
        &self,
        repo: &Repo,
        missing: &[Missing<'_>],
        spool: Option<&Spool>,
    ) -> Result<(Came, Result<(), SyncError>), SyncError> {
        if missing.is_empty() {
            return Ok((Vec::new(), Ok(())));
        }
        let _until_registered = repo.reserve(missing.len())?;
        let (came, limits) = (Mutex::new(Vec::new()), self.limits);
        let import = |pool: &ObjectPool<'_>, plan: &Plan, index: usize| {
            let image = plan.image();
            let data = plan.found.open_layer(index, spool);
            let data = data.map_err(|source| source_error(&image.name, source))?;
            let layer = import_layer(pool, &image.layers[index], data, limits);
            let layer = layer.map_err(|source| SyncError::Import {
                name: image.name.clone(),
                layer: index,
                source,
            })?;
            let mut came = came.lock().unwrap_or_else(PoisonError::into_inner);
            came.push(layer);
            Ok(())
        };
        let most = cores().min(MOST_LAYERS);
        let imported = ObjectPool::with(repo, |pool| {
            let work = |(plan, index): &Missing<'_>, begun: &dyn Fn(())| {
                begun(());
                import(pool, plan, *index)
            };
            at_once(missing, most, work, |(plan, index), ()| {
                let image = plan.image();
                (self.observer)(SyncEvent::Importing {
                    name: &image.name,
                    layer: *index,
                    of: image.layers.len(),
                    blob_bytes: image.layers[*index].blob_size,
                });
            })
        });
        let came = came.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok((came, imported.map(drop)))
    }
}

/// Writes the records of the images that have all of their layers.
fn stage_images(
    repo: &Repo,
    plans: &[Plan],
    mut staged: Vec<StagedStream>,
    stored: &HashMap<DiffId, StoredLayer>,
) -> Result<Imported, SyncError> {
    let mut all = Vec::new();
    for image in plans.iter().map(Plan::image) {
        let layers = image
            .layers
            .iter()
            .filter_map(|layer| stored.get(&layer.diff_id));
        let layers: Vec<StoredLayer> = layers.cloned().collect();
        if layers.len() < image.layers.len() {
            continue;
        }
        let stream = ImageStream {
            manifest_digest: image.manifest_digest,
            manifest: image.manifest.clone(),
            config_digest: image.config_digest,
            config: image.config.clone(),
            layers: image.layers.iter().map(|layer| layer.diff_id).collect(),
        };
        if repo.view().image(&image.manifest_digest)? != Some(stream.clone()) {
            staged.push(repo.stage_image(&stream, &layers)?);
        }
        all.push(layers);
    }
    Ok((all, staged))
}
