//! Mending what a check has found.
//!
//! What is bad is fetched again from where it came, and only that: the layer
//! of a bad file, the documents of a bad image stream. A set image or a pin is
//! rendered from the layers. The network is asked without any lock; under the
//! shared lock verified bytes take the place of the bad ones by rename.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::PathBuf,
    time::Duration,
};

use serde::Serialize;

use super::{Problem, Verified, survey::Survey};
use crate::{
    deployment::{Failed, Retry, render_again},
    document::parse_config,
    error::with_causes,
    import::{ImportLimits, import_alone},
    name::{DiffId, ImageName, IndexDigest, LayerId, ManifestDigest, ObjectId},
    repo::{DeploymentId, ImageStream, Repo, RepoError, RepoView, SetImageRecord, SetRecord},
    source::{Found, SourceError, Sources, Spool, Wanted},
};

/// Mends sets.
pub struct Repairer<'a> {
    /// Where images come from.
    pub sources: &'a Sources,
    /// How much of a layer is taken.
    pub limits: ImportLimits,
    /// Where blobs from the network are kept until they are imported.
    pub spool_dir: PathBuf,
    /// How long to try again what the network refuses for the moment.
    pub retry: Retry,
    /// Hears what happens.
    pub observer: &'a dyn Fn(RepairEvent<'_>),
}

impl std::fmt::Debug for Repairer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repairer").finish_non_exhaustive()
    }
}

/// Something that happened during a repair.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum RepairEvent<'e> {
    /// A part of an image is asked for.
    Fetching(&'e Fetched),
    /// The network failed; it is tried again after the pause.
    Retrying {
        /// Why it failed, with its causes.
        error: &'e str,
        /// In how long it is tried again.
        pause: Duration,
    },
    /// A set image or its pin is made again.
    Rendering(&'e DeploymentId),
}

/// What was asked of a source.
#[derive(Debug, Clone, Serialize)]
pub struct Fetched {
    /// The image it is a part of.
    pub image: ImageName,
    /// The layer; without one manifest and config alone were fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<DiffId>,
    /// The source.
    pub origin: String,
    /// The blob's size in bytes; of documents, theirs.
    pub bytes: u64,
}

/// What could not be mended, and why.
#[derive(Debug, Clone, Serialize)]
pub struct Unmended {
    /// The thing: a layer of images, documents of an image, a set image.
    pub what: String,
    /// Why, with its causes.
    pub error: String,
}

/// What a repair did to one deployment's set.
#[derive(Debug, Clone, Serialize)]
pub struct RepairedDeployment {
    /// Its id.
    pub id: DeploymentId,
    /// What was wrong and is no more.
    pub repaired: Vec<Problem>,
    /// What is still wrong.
    pub lost: Vec<Problem>,
}

/// What a repair did.
#[derive(Debug, Clone, Serialize)]
pub struct Repaired {
    /// Where the repository is.
    pub repository: PathBuf,
    /// Whether every byte had been read.
    pub deep: bool,
    /// What was fetched.
    pub fetched: Vec<Fetched>,
    /// The deployments whose set image or pin was rendered again.
    pub rendered: Vec<DeploymentId>,
    /// Each deployment that was checked.
    pub deployments: Vec<RepairedDeployment>,
    /// Why something is lost.
    pub unmended: Vec<Unmended>,
    /// What mounts and containers may still have of the bad bytes.
    #[serde(skip)]
    pub mended: Mended,
}

/// What was bad and is good again.
#[derive(Debug, Clone, Default)]
pub struct Mended {
    /// The objects.
    pub objects: BTreeSet<ObjectId>,
    /// The IDs of the layers whose trees have one of them.
    pub layers: HashSet<String>,
}

impl Repaired {
    /// Whether nothing is wrong any more.
    pub fn is_healthy(&self) -> bool {
        self.deployments.iter().all(|it| it.lost.is_empty())
    }
}

impl Repairer<'_> {
    /// Checks the sets of all deployments, or of some, and mends what is bad.
    /// Whatever is good is not touched; what cannot be had again is told and
    /// hinders nothing else.
    ///
    /// # Errors
    /// The repository cannot be read or locked. Whatever is lost is no error.
    pub fn repair(
        &self,
        view: &RepoView,
        only: Option<&[DeploymentId]>,
        deep: bool,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Repaired, RepoError> {
        let survey = Survey::take(view, only, deep, &BTreeSet::new(), progress)?;
        let before = survey.report(view, deep);
        let mut work = Work::of(self, view, &survey);
        if before.is_healthy() {
            return Ok(work.done(&before, &before, Mended::default()));
        }
        work.fetch();
        let repo = Repo::open(view.path(), Repo::LOCK_LIMIT)?;
        repo.distrust(survey.bad.keys().copied());
        work.import(&repo);
        work.render(&repo);
        repo.sync()?;
        drop(repo);
        let good = survey
            .objects
            .iter()
            .filter(|id| !survey.bad.contains_key(id));
        let after = Survey::take(view, only, true, &good.copied().collect(), &|_, _| {})?;
        let bad = survey.bad.keys();
        let objects = bad.filter(|id| !after.bad.contains_key(id)).copied();
        let objects = objects.collect();
        let layers = work.layers_with(&objects);
        let mended = Mended { objects, layers };
        Ok(work.done(&before, &after.report(view, deep), mended))
    }
}

/// A repair under way.
struct Work<'a> {
    how: &'a Repairer<'a>,
    view: &'a RepoView,
    survey: &'a Survey,
    /// The layers to import again, each with the images that have it.
    layers: BTreeMap<DiffId, Vec<&'a SetImageRecord>>,
    /// The images to register again, and those whose index is needed.
    images: BTreeMap<ManifestDigest, &'a SetImageRecord>,
    resolved: HashMap<ManifestDigest, Result<Found, String>>,
    spool: Option<Spool>,
    /// Where each layer that could be had is.
    at_hand: Vec<(DiffId, Found, usize)>,
    fetched: Vec<Fetched>,
    rendered: Vec<DeploymentId>,
    unmended: Vec<Unmended>,
}

impl<'a> Work<'a> {
    fn of(how: &'a Repairer<'a>, view: &'a RepoView, survey: &'a Survey) -> Self {
        let mut work = Self {
            how,
            view,
            survey,
            layers: BTreeMap::new(),
            images: BTreeMap::new(),
            resolved: HashMap::new(),
            spool: None,
            at_hand: Vec::new(),
            fetched: Vec::new(),
            rendered: Vec::new(),
            unmended: Vec::new(),
        };
        let is_bad = |id: &ObjectId| survey.bad.contains_key(id);
        let bad_layers: HashSet<DiffId> = (survey.layers.iter())
            .filter(|(_, layer)| layer.parts.is_err() || layer.objects().any(is_bad))
            .map(|(diff_id, _)| *diff_id)
            .collect();
        for found in &survey.sets {
            let Some(set) = &found.set else {
                continue;
            };
            let renders = found.pin_is_bad || is_bad(&set.set_image) || work.has_bad_pin(set);
            for image in set.all_images() {
                for layer in image.layers.iter().filter(|id| bad_layers.contains(id)) {
                    let images = work.layers.entry(*layer).or_default();
                    if !images
                        .iter()
                        .any(|it| it.manifest_digest == image.manifest_digest)
                    {
                        images.push(image);
                    }
                }
                let is_bad = found.bad_images.contains(&image.manifest_digest)
                    || work.has_bad_stream(&image.manifest_digest);
                if is_bad || (renders && image.index_digest.is_some()) {
                    work.images.insert(image.manifest_digest, image);
                }
            }
        }
        work
    }

    fn is_bad_stream(&self, name: &str) -> bool {
        let id = self.view.stream(name).ok().flatten();
        id.is_none_or(|id| self.survey.bad.contains_key(&id))
    }

    fn has_bad_pin(&self, set: &SetRecord) -> bool {
        self.is_bad_stream(&SetRecord::stream_name(&set.set_image))
    }

    fn has_bad_stream(&self, image: &ManifestDigest) -> bool {
        self.is_bad_stream(&ImageStream::stream_name(image))
    }

    /// Brings what is needed to this machine; no lock is held.
    fn fetch(&mut self) {
        for image in self.images.clone().into_values() {
            match self.resolve(image) {
                Err(error) => self.fail(format!("manifest and config of {}", image.name), error),
                Ok(found) => self.note(Fetched {
                    image: image.name.clone(),
                    layer: None,
                    origin: found.origin.clone(),
                    bytes: (found.image.manifest.len() + found.image.config.len()) as u64,
                }),
            }
        }
        for (layer, images) in self.layers.clone() {
            let mut errors = Vec::new();
            for image in images {
                match self.fetch_layer(&layer, image) {
                    Err(error) => errors.push(format!("{}: {error}", image.name)),
                    Ok((found, index)) => {
                        self.at_hand.push((layer, found, index));
                        errors.clear();
                        break;
                    }
                }
            }
            if !errors.is_empty() {
                self.fail(format!("layer {layer}"), errors.join("; "));
            }
        }
    }

    fn note(&mut self, fetched: Fetched) {
        (self.how.observer)(RepairEvent::Fetching(&fetched));
        self.fetched.push(fetched);
    }

    fn fail(&mut self, what: String, error: String) {
        self.unmended.push(Unmended { what, error });
    }

    fn retry<T>(&self, attempt: impl FnMut() -> Result<T, SourceError>) -> Result<T, String> {
        let again = |failed: Failed<'_>, pause| {
            let error = failed.text();
            (self.how.observer)(RepairEvent::Retrying { error, pause });
        };
        let done = self.how.retry.run(attempt, again);
        done.map_err(|error| with_causes(&error))
    }

    /// The image's own manifest, whatever its tag names by now.
    fn resolve(&mut self, image: &SetImageRecord) -> Result<Found, String> {
        if let Some(known) = self.resolved.get(&image.manifest_digest) {
            return known.clone();
        }
        let mut wanted = Wanted::new(image.name.clone());
        wanted.locked = Some(image.manifest_digest);
        let stored = self.view.image(&image.manifest_digest).ok().flatten();
        let config = stored.and_then(|stored| parse_config(&stored.config).ok());
        if let Some(platform) = config.and_then(|config| config.platform) {
            wanted.platform = platform;
        }
        let found = self.retry(|| self.how.sources.resolve(&wanted));
        let found = found.and_then(|found| {
            if found.image.manifest_digest == image.manifest_digest {
                return Ok(found);
            }
            let (origin, other) = (&found.origin, found.image.manifest_digest);
            Err(format!(
                "{origin} has {other}, not {}",
                image.manifest_digest
            ))
        });
        self.resolved.insert(image.manifest_digest, found.clone());
        found
    }

    fn fetch_layer(
        &mut self,
        layer: &DiffId,
        image: &SetImageRecord,
    ) -> Result<(Found, usize), String> {
        let found = self.resolve(image)?;
        let mut layers = found.image.layers.iter();
        let index = layers.position(|it| it.diff_id == *layer);
        let index = index.ok_or_else(|| format!("{} does not have it", found.origin))?;
        self.note(Fetched {
            image: image.name.clone(),
            layer: Some(*layer),
            origin: found.origin.clone(),
            bytes: found.image.layers[index].blob_size,
        });
        if found.needs_fetch() {
            if self.spool.is_none() {
                self.spool = Some(self.retry(|| Spool::open(&self.how.spool_dir))?);
            }
            if let Some(spool) = &self.spool {
                self.retry(|| found.fetch(&[index], spool, &mut |_| {}))?;
            }
        }
        Ok((found, index))
    }

    fn import(&mut self, repo: &Repo) {
        for (layer, found, index) in std::mem::take(&mut self.at_hand) {
            let data = found.open_layer(index, self.spool.as_ref());
            let data = data.map_err(|error| with_causes(&error));
            let descriptor = &found.image.layers[index];
            let imported = data.and_then(|data| {
                let imported = import_alone(repo, descriptor, data, self.how.limits);
                imported.map_err(|error| with_causes(&error))
            });
            match imported {
                Err(error) => self.fail(format!("layer {layer}"), error),
                Ok(_) => {
                    if let Some(spool) = self.spool.as_ref().filter(|_| found.needs_fetch()) {
                        // What stays only takes room.
                        let _stays = spool.remove(&descriptor.blob_digest);
                    }
                }
            }
        }
        for (digest, record) in self.images.clone() {
            let Some(Ok(found)) = self.resolved.get(&digest) else {
                continue;
            };
            let image = &found.image;
            let stream = ImageStream {
                manifest_digest: digest,
                manifest: image.manifest.clone(),
                config_digest: image.config_digest,
                config: image.config.clone(),
                layers: image.layers.iter().map(|layer| layer.diff_id).collect(),
            };
            let differs = || self.view.image(&digest).ok().flatten().as_ref() != Some(&stream);
            if (self.has_bad_stream(&digest) || differs())
                && let Err(error) = repo.register_image(&stream)
            {
                let what = format!("manifest and config of {}", record.name);
                self.fail(what, with_causes(&error));
            }
        }
    }

    /// Makes set images and pins again where they are bad, or are so because
    /// of a stream that came out as another.
    fn render(&mut self, repo: &Repo) {
        let resolved = self.resolved.values().flatten();
        let indexes = resolved.filter_map(|found| found.image.index.clone());
        let indexes: HashMap<IndexDigest, Vec<u8>> = indexes.collect();
        let mut done = BTreeSet::new();
        for found in &self.survey.sets {
            let Some(set) = &found.set else {
                let id = &found.id;
                if found.pin_is_bad {
                    let error = format!("run `boundstore sync --deployment {id}`");
                    self.fail(format!("the record of the set of {id}"), error);
                }
                continue;
            };
            let pin_is_bad = found.pin_is_bad || self.has_bad_pin(set) || self.has_moved(set);
            let is_bad = pin_is_bad || self.survey.bad.contains_key(&set.set_image);
            if is_bad && done.insert(set.set_image) {
                (self.how.observer)(RepairEvent::Rendering(&found.id));
                let staged = render_again(repo, set, &indexes);
                let staged = staged.map_err(|error| with_causes(&error));
                let done = staged.and_then(|staged| {
                    if pin_is_bad {
                        return staged.pin_again(set).map_err(|error| with_causes(&error));
                    }
                    staged.discard();
                    Ok(())
                });
                match done {
                    Ok(()) => self.rendered.push(found.id.clone()),
                    Err(error) => self.fail(format!("set image {}", set.set_image), error),
                }
            }
            if !self.has_moved(set)
                && let Err(error) = repo.drop_partial(set)
            {
                self.fail(
                    format!("the partial refs of {}", found.id),
                    with_causes(&error),
                );
            }
        }
    }

    /// Whether the pin names another stream than is there by now.
    fn has_moved(&self, set: &SetRecord) -> bool {
        let Ok(pin) = self.view.pin_parts(set) else {
            return true;
        };
        let mut named = pin.named.iter();
        named.any(|(name, id)| self.view.stream(name).ok().flatten() != Some(*id))
    }

    /// The IDs of the layers whose trees have one of `objects`.
    fn layers_with(&self, objects: &BTreeSet<ObjectId>) -> HashSet<String> {
        let mut layers = HashSet::new();
        for set in self
            .survey
            .sets
            .iter()
            .filter_map(|found| found.set.as_ref())
        {
            let all = objects.contains(&set.set_image);
            for image in set.all_images() {
                let has = |layer: &DiffId| {
                    let found = self.survey.layers.get(layer);
                    let parts = found.and_then(|found| found.parts.as_ref().ok());
                    parts.is_some_and(|parts| parts.objects.iter().any(|id| objects.contains(id)))
                };
                let first = image.layers.iter().position(|layer| all || has(layer));
                let chain = LayerId::chain(&image.layers).into_iter();
                if let Some(first) = first {
                    layers.extend(chain.skip(first).map(|id| id.hex()));
                }
            }
        }
        layers
    }

    fn done(self, before: &Verified, after: &Verified, mended: Mended) -> Repaired {
        let deployments = before.deployments.iter().map(|then| {
            let mut lost = after.deployments.iter();
            let lost = lost.find(|it| it.id == then.id);
            let lost = lost.map_or_else(Vec::new, |it| it.problems.clone());
            let mut repaired = then.problems.clone();
            repaired.retain(|problem| {
                let is_it = |it: &Problem| match problem.object {
                    Some(_) => it.object == problem.object,
                    None => it == problem,
                };
                !lost.iter().any(is_it)
            });
            RepairedDeployment {
                id: then.id.clone(),
                repaired,
                lost,
            }
        });
        Repaired {
            repository: before.repository.clone(),
            deep: before.deep,
            deployments: deployments.collect(),
            fetched: self.fetched,
            rendered: self.rendered,
            unmended: self.unmended,
            mended,
        }
    }
}
