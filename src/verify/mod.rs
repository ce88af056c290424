//! Checking that what is stored is what was published.
//!
//! Shallow: every ref, stream and object of a set is there, and in a secure
//! repository the kernel's digest of each object is its name; the set image is
//! read back, is a store that podman can use, and needs nothing that its pin
//! does not keep. Deep: every object is read and hashed, by another
//! implementation of fs-verity than the one that named it. [`Repairer`] mends
//! what is found.
//!
//! Checking reads without any lock, so that it never stands in the way of a sync or a
//! garbage collection.

mod hash;
mod objects;
mod recover;
mod repair;
mod set_image;
mod survey;
mod usage;
mod whole;

use std::{collections::BTreeSet, path::PathBuf};

use serde::Serialize;

pub use repair::{Fetched, Mended, RepairEvent, Repaired, RepairedDeployment, Repairer, Unmended};
pub use usage::Usage;
pub use whole::is_whole;

use self::survey::Survey;
use crate::{
    name::ObjectId,
    repo::{DeploymentId, RepoError, RepoView},
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The bad object; without it a ref or a stream is bad.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectId>,
    /// What is wrong with it, for people.
    pub message: String,
    /// What the object is, everywhere in this deployment's set.
    pub used_as: Vec<Usage>,
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
        let survey = Survey::take(view, Some(&ids), deep, &BTreeSet::new(), progress)?;
        let verified = survey.report(view, deep);
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
