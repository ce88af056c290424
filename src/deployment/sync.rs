//! Sync: from bound images to a published set.
//!
//! Resolving holds no lock, nor does waiting for the network; importing,
//! squashing, rendering and publishing happen under the repository's shared lock.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    ForecastImage, SinceBoot,
    dangling::{Dangling, PrimaryStore, StoreContent, dangling, keep_referenced, read_kept},
    retry::{Failed, Retry},
    store_images::{Chains, pinned_index, set_image_record, store_image},
};
use crate::{
    at_once::at_once,
    bound::Lock,
    bundle::BundleError,
    error::PathError,
    import::{ImportError, ImportLimits},
    name::{Algorithm, ImageName, ObjectId, SetFormat},
    repo::{
        DeploymentId, NewRepo, Repo, RepoError, RepoView, SetImageRecord, SetRecord, StoredLayer,
    },
    sink::{self, SinkError},
    source::{FetchStep, Found, LayerDescriptor, ResolvedImage, SourceError, Sources, Wanted},
    squash::{Dropped, SquashError},
    store_tree::{LayOutError, ValidStoreTree, ValidationError, lay_out_keeping},
    verify::is_whole,
};

/// Brings sets into a repository.
pub struct Syncer<'a> {
    /// The repository's path.
    pub repo: PathBuf,
    /// How to create it where there is none; `None` refuses.
    pub create: Option<NewRepo>,
    /// How much of a layer is taken.
    pub limits: ImportLimits,
    /// Where images come from.
    pub sources: &'a Sources,
    /// What the set is locked to: it must have this very set image.
    pub lock: Option<&'a Lock>,
    /// Whose users' layers a set keeps where it would lack them: those in this
    /// store of podman's.
    pub keep_for: Option<&'a PrimaryStore>,
    /// Where blobs from the network are kept until they are published.
    pub spool_dir: PathBuf,
    /// How long to try again what the network refuses for the moment.
    pub retry: Retry,
    /// How long a gc is waited for that holds the repository's lock.
    pub lock_limit: Duration,
    /// What was mounted since boot: such a set is kept when another replaces it.
    pub since_boot: SinceBoot,
    /// Hears what happens.
    pub observer: &'a dyn Fn(SyncEvent<'_>),
}

impl std::fmt::Debug for Syncer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Syncer")
            .field("repo", &self.repo)
            .finish_non_exhaustive()
    }
}

/// Something that happened during a sync.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SyncEvent<'e> {
    /// An image has been resolved.
    Resolved(&'e Found),
    /// A blob is on its way from the network.
    Fetching {
        /// The image.
        found: &'e Found,
        /// How far it is.
        step: FetchStep,
    },
    /// The network failed; it is tried again.
    Retrying {
        /// The image.
        name: &'e ImageName,
        /// Why it failed, with its causes.
        error: &'e str,
        /// In how long it is tried again.
        pause: Duration,
    },
    /// A layer is being fetched and imported: its size as a blob, in bytes.
    Importing {
        /// The image.
        name: &'e ImageName,
        /// The layer's place, base first, from 0.
        layer: usize,
        /// How many layers the image has.
        of: usize,
        /// The blob's size in bytes.
        blob_bytes: u64,
    },
    /// The layers of an image are being squashed.
    Squashing(&'e ImageName),
    /// An image of another set is kept, for what stands on it.
    Keeping(&'e SetImageRecord),
    /// A published blob could not be removed from the spool.
    Leftover(&'e PathError),
}

/// What a sync did.
#[derive(Debug, Clone)]
pub struct Synced {
    /// The deployment's set now; what it would be is not known in a dry run.
    pub set: Option<SetRecord>,
    /// Whether the deployment had this very set before.
    pub unchanged: bool,
    /// In a dry run: what would be brought of each image, by name.
    pub forecast: Vec<ForecastImage>,
    /// Layers that were imported, or would be.
    pub layers_imported: usize,
    /// Layers that the repository had.
    pub layers_reused: usize,
    /// Bytes of the imported layers' blobs.
    pub bytes_fetched: u64,
    /// What squashing left out of the trees on purpose.
    pub dropped: Dropped,
}

/// Why a sync failed. The deployment has the set it had before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// An image could not be had.
    #[error("bound image {name}")]
    Source {
        /// Which.
        name: ImageName,
        /// Why.
        source: Box<SourceError>,
    },
    /// A layer could not be imported.
    #[error("bound image {name}, layer {layer}")]
    Import {
        /// Which image.
        name: ImageName,
        /// Which layer, base first, from 0.
        layer: usize,
        /// Why.
        source: ImportError,
    },
    /// The layers do not make a file tree.
    #[error("squash the layers of {name}")]
    Squash {
        /// Which image.
        name: ImageName,
        /// Why.
        source: SquashError,
    },
    /// The set cannot be laid out.
    #[error("lay out the store tree")]
    LayOut(#[from] LayOutError),
    /// The lock's images do not make the lock's set image.
    #[error(
        "the set image is {found}, but the lock file of boundstore {written_by} says {locked}; \
         this is boundstore {this}: lock again with the version that the host has; \
         nothing was published", this = env!("CARGO_PKG_VERSION")
    )]
    NotLocked {
        /// In the lock.
        locked: ObjectId,
        /// What was rendered.
        found: ObjectId,
        /// Which version wrote the lock.
        written_by: String,
    },
    /// The store tree would break podman: a bug of ours or a hostile image.
    #[error("the store tree is not one that podman can use; nothing was published")]
    Invalid(#[source] ValidationError),
    /// The repository.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The store tree cannot be written as files.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The images cannot be made a bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// There is not enough room.
    #[error(
        "{} has {free} bytes free, but the layers to be imported have at least {needed}: \
         free some, or take images out of the set", path.display()
    )]
    NoSpace {
        /// The repository.
        path: PathBuf,
        /// Bytes free.
        free: u64,
        /// Bytes needed at least.
        needed: u64,
    },
    /// A filesystem became full meanwhile.
    #[error(
        "the filesystem of {} is full ({free_bytes} bytes and {free_files} files are free): \
         free some, or take images out of the set, and sync again; \
         what has been brought is kept, the deployment has the set it had", path.display()
    )]
    Full {
        /// The repository or the spool.
        path: PathBuf,
        /// Bytes free.
        free_bytes: u64,
        /// How many files it can hold besides.
        free_files: u64,
        /// What could not be written.
        source: Box<SyncError>,
    },
    /// A quota was used up meanwhile.
    #[error(
        "a quota on {} is used up: raise it, or take images out of the set, and sync again; \
         what has been brought is kept, the deployment has the set it had", path.display()
    )]
    Quota {
        /// The repository or the spool.
        path: PathBuf,
        /// What could not be written.
        source: Box<SyncError>,
    },
    /// A filesystem cannot be written, most likely because it is damaged.
    #[error(
        "the filesystem of {} is read-only: the kernel's messages say why; \
         make it writable and sync again; the deployment has the set it had", path.display()
    )]
    ReadOnly {
        /// The repository or the spool.
        path: PathBuf,
        /// What could not be written.
        source: Box<SyncError>,
    },
    /// A device or its filesystem is damaged, or fs-verity finds a byte changed.
    #[error(
        "a disk fails or is damaged: the kernel's messages say where; \
         once it is well sync again: the deployment has the set it had; \
         `boundstore verify --deep --repair` finds and mends what was lost"
    )]
    Device {
        /// What could not be read or written.
        source: Box<SyncError>,
    },
}

/// One image and the places of its layers that the repository lacks.
pub(super) struct Plan {
    pub(super) found: Found,
    pub(super) missing: Vec<usize>,
}

/// A set whose layers are in the repository, as a store tree.
pub(super) struct LaidOut {
    pub(super) tree: ValidStoreTree,
    pub(super) records: Vec<SetImageRecord>,
    kept: Vec<SetImageRecord>,
    pub(super) dropped: Dropped,
}

impl Plan {
    pub(super) fn image(&self) -> &ResolvedImage {
        &self.found.image
    }
}

impl Syncer<'_> {
    /// Brings `deployment`'s set: resolves, fetches, imports, renders, publishes.
    ///
    /// # Errors
    /// See [`SyncError`]. Layers that were imported stay, kept by partial
    /// refs, and are not fetched again.
    pub fn sync(&self, deployment: &DeploymentId, wanted: &[Wanted]) -> Result<Synced, SyncError> {
        let synced = self.sync_again(deployment, wanted);
        synced.map_err(|error| error.explained(&self.repo, &self.spool_dir))
    }

    fn sync_again(
        &self,
        deployment: &DeploymentId,
        wanted: &[Wanted],
    ) -> Result<Synced, SyncError> {
        let view = self.open_view()?;
        let mut tries = 0;
        loop {
            match self.try_sync(&view, deployment, wanted) {
                // A gc took a layer between planning and the lock.
                Err(SyncError::Source { source, .. })
                    if tries < 3 && matches!(*source, SourceError::NotFetched { .. }) =>
                {
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    fn try_sync(
        &self,
        view: &RepoView,
        deployment: &DeploymentId,
        wanted: &[Wanted],
    ) -> Result<Synced, SyncError> {
        let mut plans = self.resolve(wanted)?;
        let kept = self.kept(view, &plans)?;
        if let Some(set) = self.unchanged(view, deployment, &plans, &kept)? {
            let mut synced = tally(&plans);
            synced.set = Some(set);
            synced.unchanged = true;
            self.release(&plans, None);
            return Ok(synced);
        }
        find_missing(Some(view), &mut plans)?;
        let mut synced = tally(&plans);
        self.check_space(view, synced.bytes_fetched)?;
        let (spool, begun) = self.fetch_importing(&plans)?;
        let before = view.set(deployment).ok().flatten();
        let (repo, came) = match begun {
            Some(begun) => begun,
            None => (Repo::open(&self.repo, self.lock_limit)?, Vec::new()),
        };
        let (layers, staged) = self.import(&repo, &plans, spool.as_ref(), came)?;
        let render = || {
            let LaidOut {
                tree,
                records,
                kept,
                dropped,
            } = self.lay_out(&repo, &plans, layers)?;
            let staged = sink::stage(&repo, &tree, self.format())?;
            Ok::<_, SyncError>((staged, records, kept, dropped))
        };
        let (staged, records, kept, dropped) = if self.dangling(&plans).is_empty() {
            // What the disk has yet to write is waited for meanwhile.
            repo.registering(&staged, render)??
        } else {
            // What is kept is found by the names of its layers.
            repo.register(&staged)?;
            render()?
        };
        self.check_lock(view, staged.set_image())?;
        synced.dropped = dropped;
        let publish = || staged.publish(deployment, records, kept);
        let (published, _) = self.since_boot.keeping(&repo, deployment, publish)?;
        synced.unchanged =
            before.is_some_and(|before| before.set_image == published.record.set_image);
        synced.set = Some(published.record);
        self.release(&plans, spool);
        Ok(synced)
    }

    /// Lays the set out that has these layers, which need not have names yet.
    pub(super) fn lay_out(
        &self,
        repo: &Repo,
        plans: &[Plan],
        layers: Vec<Vec<StoredLayer>>,
    ) -> Result<LaidOut, SyncError> {
        let mut store_images = Vec::new();
        let mut records = Vec::new();
        let mut chains = Chains::default();
        for (plan, layers) in plans.iter().zip(layers) {
            (self.observer)(SyncEvent::Squashing(&plan.image().name));
            let trees = chains.trees(repo.view(), &plan.image().name, &layers)?;
            records.push(set_image_record(plan.image(), &layers));
            store_images.push(store_image(plan.image(), &layers, trees));
        }
        // Looked up again under the lock: a gc may have been here since.
        let kept = self.kept(repo.view(), plans)?;
        let mut kept_images = Vec::new();
        for record in &kept {
            let (image, layers) = read_kept(repo.view(), record)?;
            (self.observer)(SyncEvent::Keeping(record));
            let trees = chains.trees(repo.view(), &record.name, &layers)?;
            kept_images.push(store_image(&image, &layers, trees));
        }
        drop(chains.by_layer);
        let tree = lay_out_keeping(&store_images, &kept_images)?
            .validate()
            .map_err(SyncError::Invalid)?;
        Ok(LaidOut {
            tree,
            records,
            kept,
            dropped: chains.dropped,
        })
    }

    /// A lock says what its set image is in the format of its time.
    pub(super) fn format(&self) -> SetFormat {
        self.lock.map_or(SetFormat::NEWEST, |lock| lock.format)
    }

    /// Whether this is the set image that the lock says.
    pub(super) fn check_lock(&self, view: &RepoView, found: ObjectId) -> Result<(), SyncError> {
        let Some(lock) = self.lock else {
            return Ok(());
        };
        let locked = lock.set_image.of(view.algorithm());
        if locked == found {
            return Ok(());
        }
        Err(SyncError::NotLocked {
            locked,
            found,
            written_by: lock.boundstore.clone(),
        })
    }

    /// A new repository for work without a host.
    pub(super) fn new_repo(&self, path: &Path, algorithm: Algorithm) -> Result<Repo, RepoError> {
        let new = NewRepo {
            algorithm,
            insecure: true,
        };
        Repo::create(path, new, self.lock_limit)?;
        Repo::open(path, self.lock_limit)
    }

    fn open_view(&self) -> Result<RepoView, RepoError> {
        match (RepoView::open(&self.repo), self.create) {
            (Err(RepoError::Absent(_)), Some(new)) => {
                Repo::create(&self.repo, new, self.lock_limit)?;
                RepoView::open(&self.repo)
            }
            (opened, _) => opened,
        }
    }

    /// Resolves what is wanted; without a repository all layers are missing.
    pub(super) fn plan(
        &self,
        view: Option<&RepoView>,
        wanted: &[Wanted],
    ) -> Result<Vec<Plan>, SyncError> {
        let mut plans = self.resolve(wanted)?;
        find_missing(view, &mut plans)?;
        Ok(plans)
    }

    /// Which layers are missing is not known yet.
    fn resolve(&self, wanted: &[Wanted]) -> Result<Vec<Plan>, SyncError> {
        let (sources, retry) = (self.sources, self.retry);
        let resolve = |wanted: &Wanted, tell: &dyn Fn(Heard)| {
            let again = |failed: Failed<'_>, pause| tell(Heard::again(failed, pause));
            let found = retry.run(|| sources.resolve(wanted), again);
            found.map_err(|source| source_error(&wanted.name, source))
        };
        let found = at_once(wanted, AT_ONCE, resolve, |wanted, heard| {
            self.hear(&wanted.name, None, &heard);
        })?;
        let mut plans = Vec::new();
        for found in found {
            (self.observer)(SyncEvent::Resolved(&found));
            let missing = Vec::new();
            plans.push(Plan { found, missing });
        }
        plans.sort_by(|a, b| a.image().name.cmp(&b.image().name));
        Ok(plans)
    }

    /// What the users in podman's own store stand on and a set of these plans
    /// would lack.
    fn dangling(&self, plans: &[Plan]) -> Vec<Dangling> {
        let Some(primary) = self.keep_for else {
            return Vec::new();
        };
        let mut content = StoreContent::default();
        for image in plans.iter().map(Plan::image) {
            let layers = image.layers.iter().map(|layer| &layer.diff_id);
            content.add(&image.config_digest, layers);
        }
        dangling(primary, &content)
    }

    /// What of the published sets the users in podman's own store stand on and
    /// a set of these plans would lack.
    pub(super) fn kept(
        &self,
        view: &RepoView,
        plans: &[Plan],
    ) -> Result<Vec<SetImageRecord>, SyncError> {
        let dangling = self.dangling(plans);
        if dangling.is_empty() {
            return Ok(Vec::new());
        }
        let mut held = Vec::new();
        for id in view.deployments()? {
            // A damaged set is no reason to do without this one.
            if let Ok(Some(set)) = view.set(&id) {
                held.extend(set.all_images().cloned());
            }
        }
        let whole = |image: &SetImageRecord| read_kept(view, image).is_ok();
        Ok(keep_referenced(&dangling, &held, whole))
    }

    /// The deployment's set, where it is of these very inputs and whole.
    pub(super) fn unchanged(
        &self,
        view: &RepoView,
        deployment: &DeploymentId,
        plans: &[Plan],
        kept: &[SetImageRecord],
    ) -> Result<Option<SetRecord>, SyncError> {
        let Ok(Some(set)) = view.set(deployment) else {
            return Ok(None);
        };
        let same = |(plan, old): (&Plan, &SetImageRecord)| {
            plan.image().name == old.name
                && plan.image().manifest_digest == old.manifest_digest
                && pinned_index(plan.image()) == old.index_digest
        };
        let manifest = |image: &SetImageRecord| image.manifest_digest;
        let whole = set.format == self.format().number()
            && set.images.len() == plans.len()
            && plans.iter().zip(&set.images).all(same)
            && self.check_lock(view, set.set_image).is_ok()
            && set.kept.iter().map(manifest).eq(kept.iter().map(manifest))
            && is_whole(view, &set)?;
        Ok(whole.then_some(set))
    }

    /// Does it again where the network refuses for the moment.
    pub(super) fn trying<T>(
        &self,
        name: &ImageName,
        attempt: impl FnMut() -> Result<T, SourceError>,
    ) -> Result<T, SyncError> {
        let again = |failed: Failed<'_>, pause| {
            self.hear(name, None, &Heard::again(failed, pause));
        };
        let done = self.retry.run(attempt, again);
        done.map_err(|source| source_error(name, source))
    }

    /// Passes on what another thread tells.
    pub(super) fn hear(&self, name: &ImageName, found: Option<&Found>, heard: &Heard) {
        (self.observer)(match (heard, found) {
            (Heard::Again { error, pause }, _) => SyncEvent::Retrying {
                name,
                error,
                pause: *pause,
            },
            (Heard::Step(step), Some(found)) => SyncEvent::Fetching { found, step: *step },
            (Heard::Step(_), None) => return,
        });
    }

    fn check_space(&self, view: &RepoView, needed: u64) -> Result<(), SyncError> {
        let free = view.free_bytes()?;
        if needed <= free {
            return Ok(());
        }
        Err(SyncError::NoSpace {
            path: self.repo.clone(),
            free,
            needed,
        })
    }
}

/// Which layers the repository lacks.
fn find_missing(view: Option<&RepoView>, plans: &mut [Plan]) -> Result<(), RepoError> {
    // Images share layers; looking for one reads its whole list of objects.
    let mut held = HashMap::new();
    for plan in plans {
        let layers = &plan.found.image.layers;
        for (index, LayerDescriptor { diff_id, .. }) in layers.iter().enumerate() {
            let is_held = match (held.get(diff_id), view) {
                (Some(known), _) => *known,
                (None, Some(view)) => view.layer(diff_id)?.is_some(),
                (None, None) => false,
            };
            held.insert(*diff_id, is_held);
            if !is_held {
                plan.missing.push(index);
            }
        }
    }
    Ok(())
}

/// How many images are resolved or fetched at once.
pub(super) const AT_ONCE: usize = 4;

/// What a thread tells of its image.
pub(super) enum Heard {
    Again { error: String, pause: Duration },
    Step(FetchStep),
}

impl Heard {
    pub(super) fn again(failed: Failed<'_>, pause: Duration) -> Self {
        let error = failed.text().to_owned();
        Self::Again { error, pause }
    }
}

pub(super) fn source_error(name: &ImageName, source: SourceError) -> SyncError {
    SyncError::Source {
        name: name.clone(),
        source: Box::new(source),
    }
}

pub(super) fn tally(plans: &[Plan]) -> Synced {
    let mut fetched = BTreeMap::new();
    let mut held = 0;
    for plan in plans {
        for (index, layer) in plan.image().layers.iter().enumerate() {
            if plan.missing.contains(&index) {
                fetched.insert(layer.diff_id, layer.blob_size);
            } else {
                held += 1;
            }
        }
    }
    Synced {
        set: None,
        unchanged: false,
        forecast: Vec::new(),
        layers_imported: fetched.len(),
        layers_reused: held,
        bytes_fetched: fetched.values().sum(),
        dropped: Dropped::default(),
    }
}
