//! What a deployment's set lacks, told without a network.

use std::{fmt, os::fd::AsFd};

use serde::{Deserialize, Serialize};

use crate::{
    bound::{self, Lock},
    deployment::host::Host,
    error::with_causes,
    name::ImageName,
    repo::{DeploymentId, RepoError, RepoView},
    verify::verify,
};

/// What keeps a set from being complete; never nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// The images that the deployment is bound to and its set does not have.
    pub missing: Vec<ImageName>,
    /// What else is wrong: the first thing found, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Lack {
    /// What is said while nobody has looked to the end.
    pub(super) fn unchecked() -> Self {
        Self::of_problem("the check of its set did not come to its end".into())
    }

    fn of_problem(problem: String) -> Self {
        Self {
            missing: Vec::new(),
            problem: Some(problem),
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing: Vec<String> = self.missing.iter().map(ToString::to_string).collect();
        match (&missing[..], &self.problem) {
            ([], Some(problem)) => f.write_str(problem),
            (_, None) => write!(f, "these images are missing: {}", missing.join(", ")),
            (_, Some(problem)) => write!(
                f,
                "these images are missing: {}; and {problem}",
                missing.join(", ")
            ),
        }
    }
}

/// What the set of `id` lacks of what its root binds today, and is locked to: each
/// image in the published set, and whatever that consists of in the repository, as
/// [`verify`] tells without reading it all. A set may have more images.
///
/// Whatever cannot be read is a lack too: only what is known to be complete is.
pub fn lack(host: &dyn Host, repo: &std::path::Path, id: &DeploymentId) -> Option<Lack> {
    let (bound, lock) = match asked(host, id) {
        Ok(asked) => asked,
        Err(problem) => return Some(Lack::of_problem(problem)),
    };
    let set = RepoView::open(repo).and_then(|view| Ok(view.set(id)?.map(|set| (view, set))));
    let (view, set) = match set {
        Ok(Some(found)) => found,
        Ok(None) | Err(RepoError::Absent(_)) => {
            let nothing_bound = bound.is_empty();
            return (!nothing_bound).then_some(Lack {
                missing: bound,
                problem: None,
            });
        }
        Err(error) => return Some(Lack::of_problem(with_causes(&error))),
    };
    let has = |name: &ImageName| set.images.iter().any(|image| image.name == *name);
    let missing: Vec<ImageName> = bound.into_iter().filter(|name| !has(name)).collect();
    let locked = lock.map(|lock| lock.set_image.of(view.algorithm()));
    let other = locked.filter(|locked| *locked != set.set_image);
    if let (Some(locked), true) = (other, missing.is_empty()) {
        let found = set.set_image;
        let problem = format!("its set is {found}, but its lock file says {locked}");
        return Some(Lack::of_problem(problem));
    }
    let problem = match verify(&view, Some(std::slice::from_ref(id)), false, &|_, _| {}) {
        Ok(verified) => {
            let mut problems = verified.deployments.iter().flat_map(|one| &one.problems);
            problems.next().map(|problem| problem.message.clone())
        }
        Err(error) => Some(with_causes(&error)),
    };
    (!missing.is_empty() || problem.is_some()).then_some(Lack { missing, problem })
}

/// The names that the root binds, and what they are locked to.
fn asked(host: &dyn Host, id: &DeploymentId) -> Result<(Vec<ImageName>, Option<Lock>), String> {
    let rootfs = host.open_root(id).map_err(|error| with_causes(&error))?;
    let scan = bound::scan(rootfs.as_fd()).map_err(|error| with_causes(&error))?;
    let lock = Lock::read(rootfs.as_fd()).map_err(|error| with_causes(&error))?;
    let names: Vec<ImageName> = scan.images.into_iter().map(|image| image.name).collect();
    if let Some(lock) = &lock {
        let stale = lock.expect_names(&names);
        stale.map_err(|error| with_causes(&error))?;
    }
    Ok((names, lock))
}
