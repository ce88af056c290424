//! Checking that what is stored is what was published.
//!
//! Shallow: every ref, stream and object of a set is there, and in a secure
//! repository the kernel's digest of each object is its name. Deep: every
//! object is read and hashed, by another implementation of fs-verity than the
//! one that named it.
//!
//! Reads without any lock, so that it never stands in the way of a sync or a
//! garbage collection.

mod hash;
mod usage;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use serde::Serialize;

pub use usage::Usage;

use crate::{
    error::with_causes,
    name::ObjectId,
    repo::{DeploymentId, RepoError, RepoView, SetRecord},
};

/// What was checked, and what is wrong.
#[derive(Debug, Clone, Serialize)]
pub struct Verified {
    /// Where the repository is.
    pub repository: PathBuf,
    /// Whether its objects have fs-verity.
    pub secure: bool,
    /// Whether every byte was read.
    pub deep: bool,
    /// How many objects were checked.
    pub objects: usize,
    /// How many bytes were read and hashed.
    pub bytes_hashed: u64,
    /// Each deployment that was checked.
    pub deployments: Vec<VerifiedDeployment>,
}

/// How one deployment's set was found.
#[derive(Debug, Clone, Serialize)]
pub struct VerifiedDeployment {
    /// Its id.
    pub id: DeploymentId,
    /// What is wrong, in no order; nothing where all is well.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// The bad object; without it a ref or a stream is bad.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectId>,
    /// What is wrong with it, for people.
    pub message: String,
    /// What the object is, everywhere in this deployment's set.
    pub used_as: Vec<Usage>,
}

impl Problem {
    /// One of a ref or a stream.
    fn of_record(message: String) -> Self {
        Self {
            object: None,
            message,
            used_as: Vec::new(),
        }
    }
}

impl Verified {
    /// Whether nothing is wrong.
    pub fn is_healthy(&self) -> bool {
        let mut deployments = self.deployments.iter();
        deployments.all(|deployment| deployment.problems.is_empty())
    }
}

/// Checks the sets of all deployments, or of some. `progress` is told how many
/// of how many objects are done, from several threads.
///
/// # Errors
/// The repository cannot be read at all. Whatever is wrong with a set is no
/// error but a [`Problem`].
pub fn verify(
    view: &RepoView,
    only: Option<&[DeploymentId]>,
    deep: bool,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Verified, RepoError> {
    let mut ids = match only {
        Some(ids) => ids.to_vec(),
        None => view.deployments()?,
    };
    loop {
        let before = refs(view, &ids)?;
        let verified = look(view, ids.clone(), deep, progress);
        let after = refs(view, &ids)?;
        if verified.is_healthy() || before == after {
            return Ok(verified);
        }
        // A set was taken away meanwhile, and a gc took what is missed.
        if only.is_none() {
            ids = view.deployments()?;
        }
    }
}

/// What the deployments' refs name.
fn refs(view: &RepoView, ids: &[DeploymentId]) -> Result<Vec<Option<ObjectId>>, RepoError> {
    ids.iter().map(|id| view.set_image_of(id)).collect()
}

fn look(
    view: &RepoView,
    ids: Vec<DeploymentId>,
    deep: bool,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Verified {
    let found: Vec<Found> = ids.into_iter().map(|id| Found::read(view, id)).collect();
    let objects: BTreeSet<ObjectId> = found.iter().flat_map(|set| &set.objects).copied().collect();
    let objects: Vec<ObjectId> = objects.into_iter().collect();
    let (bad, bytes_hashed) = check(view, &objects, deep, progress);
    let deployments = found.into_iter().map(|set| set.judge(view, &bad));
    Verified {
        repository: view.path().to_owned(),
        secure: view.is_secure(),
        deep,
        objects: objects.len(),
        bytes_hashed,
        deployments: deployments.collect(),
    }
}

/// What a deployment's ref leads to.
struct Found {
    id: DeploymentId,
    set: Option<SetRecord>,
    objects: BTreeSet<ObjectId>,
    problems: Vec<Problem>,
}

impl Found {
    fn read(view: &RepoView, id: DeploymentId) -> Self {
        let mut found = Self {
            id,
            set: None,
            objects: BTreeSet::new(),
            problems: Vec::new(),
        };
        if let Err(error) = found.follow(view) {
            found.problems.push(Problem::of_record(with_causes(&error)));
        }
        found
    }

    /// Ends at the first thing without which nothing can be followed.
    fn follow(&mut self, view: &RepoView) -> Result<(), RepoError> {
        let Some(set) = view.set(&self.id)? else {
            let message = format!(
                "no set is published: run `boundstore sync --deployment {}`",
                self.id
            );
            self.problems.push(Problem::of_record(message));
            return Ok(());
        };
        let pin = view.pin_parts(&set)?;
        self.objects.insert(set.set_image);
        self.objects.extend(pin.all());
        for (name, id) in &pin.named {
            if view.stream(name)? != Some(*id) {
                let error = RepoError::MissingStream(name.clone());
                self.problems.push(Problem::of_record(with_causes(&error)));
            }
        }
        for image in set.all_images() {
            if view.image(&image.manifest_digest)?.is_none() {
                let message = format!(
                    "the stored manifest and config of {} are damaged",
                    image.name
                );
                self.problems.push(Problem::of_record(message));
            }
            for layer in &image.layers {
                match view.layer_parts(layer) {
                    Ok(parts) => self.objects.extend(parts.all()),
                    Err(error) => self.problems.push(Problem::of_record(with_causes(&error))),
                }
            }
        }
        self.set = Some(set);
        Ok(())
    }

    fn judge(self, view: &RepoView, bad: &BTreeMap<ObjectId, String>) -> VerifiedDeployment {
        let mut problems = self.problems;
        let mine: BTreeMap<&ObjectId, &String> = bad
            .iter()
            .filter(|(id, _)| self.objects.contains(id))
            .collect();
        if !mine.is_empty() {
            let ids: BTreeSet<ObjectId> = mine.keys().map(|id| **id).collect();
            let mut usage = match &self.set {
                Some(set) => usage::find(view, set, &ids),
                None => BTreeMap::new(),
            };
            problems.extend(mine.into_iter().map(|(id, message)| Problem {
                object: Some(*id),
                message: message.clone(),
                used_as: usage.remove(id).unwrap_or_default(),
            }));
        }
        VerifiedDeployment {
            id: self.id,
            problems,
        }
    }
}

/// Checks each object, on as many threads as the machine has cores; the bad
/// ones, each with what is wrong, and how many bytes were hashed.
fn check(
    view: &RepoView,
    objects: &[ObjectId],
    deep: bool,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> (BTreeMap<ObjectId, String>, u64) {
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let bytes = AtomicU64::new(0);
    let bad = Mutex::new(BTreeMap::new());
    let work = || {
        while let Some(id) = objects.get(next.fetch_add(1, Ordering::Relaxed)) {
            match check_one(view, id, deep) {
                Ok(read) => {
                    bytes.fetch_add(read, Ordering::Relaxed);
                }
                Err(error) => {
                    let mut bad = bad
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner);
                    bad.insert(*id, with_causes(&error));
                }
            }
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, objects.len());
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let bad = bad.into_inner();
    let bad = bad.unwrap_or_else(std::sync::PoisonError::into_inner);
    (bad, bytes.into_inner())
}

/// Opens, since a missing object is found by nothing else, and hashes if asked.
fn check_one(view: &RepoView, id: &ObjectId, deep: bool) -> Result<u64, RepoError> {
    let file = view.open_object(id)?;
    if !deep {
        return Ok(0);
    }
    let read = hash::fs_verity(id.algorithm(), file);
    let (found, bytes) = read.map_err(|error| RepoError::BadObject {
        id: *id,
        found: format!("it cannot be read: {error}"),
    })?;
    if found == *id {
        return Ok(bytes);
    }
    let found = format!("its bytes hash to {found}");
    Err(RepoError::BadObject { id: *id, found })
}
