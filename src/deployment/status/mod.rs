//! How things stand, from files alone: no lock, no subprocess.

mod conditions;

use std::{collections::BTreeSet, path::PathBuf};

use serde::Serialize;

use super::{
    dangling::{PrimaryError, PrimaryStore, dangling_condition},
    expose::{Exposed, SOURCE, exposed_in},
    guard::{LastVeto, last_veto},
    host::{Backend, Deployment, Host, HostPaths},
    last_error::last_error,
};
use crate::{
    error::{PathError, with_causes},
    repo::{DeploymentId, RepoError, RepoView, SetRecord},
    sys,
};

/// How all deployments stand.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Where the repository is.
    pub repository: PathBuf,
    /// Whether its objects have fs-verity.
    pub secure: bool,
    /// What makes the host's deployments; without it ids are given by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,
    /// What is wrong with the host as a whole.
    pub problems: Vec<String>,
    /// Each deployment of the host, in the order of its boot menu, then each
    /// other that has a set.
    pub deployments: Vec<DeploymentStatus>,
}

/// How one deployment stands.
#[derive(Debug, Clone, Serialize)]
pub struct DeploymentStatus {
    /// Its id.
    pub id: DeploymentId,
    /// What it is to the host.
    pub roles: Vec<Role>,
    /// Its set, where it can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<SetRecord>,
    /// Where its set is mounted.
    pub mounted_at: Vec<PathBuf>,
    /// Why its last sync failed, if it did, since boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What holds of it, in the manner of Kubernetes.
    pub conditions: Vec<Condition>,
}

/// What a deployment is to its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// What runs now.
    Booted,
    /// Prepared to be the next boot.
    Staged,
    /// What the boot loader would fall back to.
    Rollback,
    /// Kept by its owner's wish.
    Pinned,
    /// What a soft reboot would go to.
    SoftRebootTarget,
    /// The host has it, without any of the other roles.
    Other,
    /// Named by hand.
    Manual,
    /// Of the form of the host's own ids, but the host has it no more.
    Gone,
}

impl Role {
    /// The word for people; those of all hosts without deployments need none.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::Booted => Some("booted"),
            Self::Staged => Some("staged"),
            Self::Rollback => Some("rollback"),
            Self::Pinned => Some("pinned"),
            Self::SoftRebootTarget => Some("soft reboot target"),
            Self::Gone => Some("gone"),
            Self::Other | Self::Manual => None,
        }
    }
}

/// One thing that holds of a deployment, or does not.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Condition {
    /// What is told of.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Whether it holds.
    pub status: bool,
    /// One word for machines.
    pub reason: &'static str,
    /// One sentence for people.
    pub message: String,
}

/// What can hold of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Kind {
    /// Its set is there.
    Present,
    /// Its set is mounted somewhere.
    Mounted,
    /// The kernel checks every byte that is read of its set.
    Verified,
    /// It is held back from becoming the next boot.
    Locked,
    /// It did not become the next boot, since its set was incomplete.
    Vetoed,
    /// A rollback would boot it without its images.
    UnsafeRollback,
    /// Something in podman's own store stands on layers that its set has not.
    Dangling,
}

impl Condition {
    /// Whether somebody has to do something. Not being mounted is nothing
    /// wrong, nor is being locked.
    pub fn is_bad(&self) -> bool {
        match self.kind {
            Kind::Present => !self.status,
            Kind::UnsafeRollback | Kind::Vetoed | Kind::Dangling => self.status,
            Kind::Mounted | Kind::Verified | Kind::Locked => false,
        }
    }
}

impl Status {
    /// Whether nothing is wrong with any deployment, nor with the host.
    pub fn is_healthy(&self) -> bool {
        let mut conditions = self.deployments.iter().flat_map(|one| &one.conditions);
        self.problems.is_empty() && !conditions.any(Condition::is_bad)
    }
}

/// Looks at all deployments, or at those of `only`; and with podman's own store
/// `primary`, at who in it stands on what is shown, or will be.
///
/// # Errors
/// There is no repository and no deployment of the host either; the mount
/// table cannot be read. A damaged set is no error but a condition, a host
/// whose deployments cannot be told a problem.
pub fn status(
    paths: &HostPaths,
    host: Option<&dyn Host>,
    only: Option<&[DeploymentId]>,
    primary: Option<&Result<PrimaryStore, PrimaryError>>,
) -> Result<Status, RepoError> {
    let mut problems = Vec::new();
    let deployments = host.map_or(Ok(Vec::new()), Host::deployments);
    let deployments = deployments.unwrap_or_else(|error| {
        problems.push(with_causes(&error));
        Vec::new()
    });
    let veto = last_veto(paths).unwrap_or_else(|error| {
        problems.push(with_causes(&error));
        None
    });
    let view = match RepoView::open(&paths.repo) {
        Err(RepoError::Absent(_)) if host.is_some() => None,
        opened => Some(opened?),
    };
    let known = |id: &DeploymentId| deployments.iter().find(|known| known.id == *id);
    let ids = match (only, &view) {
        (Some(ids), _) => ids.to_vec(),
        (None, view) => {
            let with_set = view
                .as_ref()
                .map_or(Ok(Vec::new()), RepoView::deployments)?;
            let of_host = deployments.iter().map(|known| known.id.clone());
            let vetoed = veto.iter().map(|veto| veto.deployment.clone());
            let mut ids: Vec<DeploymentId> = Vec::new();
            for id in of_host.chain(with_set).chain(vetoed) {
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
            ids
        }
    };
    let look = Look {
        paths,
        view: view.as_ref(),
        host,
        primary,
        mounts: mounted_sets()?,
        veto,
    };
    let deployments = ids.into_iter().map(|id| look.steadily_at(known(&id), &id));
    let mut deployments: Vec<DeploymentStatus> = deployments.collect();
    if only.is_none() {
        // Listed for nothing but a set, which somebody has just removed.
        let vetoed = look.veto.as_ref().map(|veto| &veto.deployment);
        let is_gone = |one: &DeploymentStatus| one.conditions[0].reason == conditions::NO_SET;
        deployments
            .retain(|one| known(&one.id).is_some() || vetoed == Some(&one.id) || !is_gone(one));
    }
    Ok(Status {
        repository: paths.repo.clone(),
        secure: view.is_some_and(|view| view.is_secure()),
        backend: host.map(Host::backend),
        problems,
        deployments,
    })
}

/// Where sets of ours are seen, and which.
fn mounted_sets() -> Result<Vec<(PathBuf, Exposed)>, PathError> {
    let table = sys::mount_table()?;
    let ours = table
        .iter()
        .filter(|mount| mount.source.starts_with(SOURCE));
    let targets: BTreeSet<&PathBuf> = ours.map(|mount| &mount.target).collect();
    let seen = |target: &PathBuf| Some((target.clone(), exposed_in(&table, target)?));
    Ok(targets.into_iter().filter_map(seen).collect())
}

/// What is read once for all deployments.
struct Look<'a> {
    paths: &'a HostPaths,
    view: Option<&'a RepoView>,
    host: Option<&'a dyn Host>,
    primary: Option<&'a Result<PrimaryStore, PrimaryError>>,
    mounts: Vec<(PathBuf, Exposed)>,
    veto: Option<LastVeto>,
}

impl Look<'_> {
    /// Looks again where another set has taken the place of one that is bad:
    /// a gc may have had that already.
    fn steadily_at(&self, known: Option<&Deployment>, id: &DeploymentId) -> DeploymentStatus {
        let named = || self.view.map(|view| view.set_image_of(id).ok());
        loop {
            let before = named();
            let status = self.at(known, id.clone());
            if status.conditions[0].status || named() == before {
                return status;
            }
        }
    }

    fn at(&self, known: Option<&Deployment>, id: DeploymentId) -> DeploymentStatus {
        let set = self.view.map_or(Ok(None), |view| view.set(&id));
        let mounted = match &set {
            Ok(Some(set)) => self.mounts_of(set),
            _ => Vec::new(),
        };
        let mut conditions = vec![self.present(known, &id, &set)];
        if let (Ok(Some(set)), Some(view)) = (&set, self.view) {
            conditions.push(conditions::mounted(&mounted));
            conditions.push(self.verified(view, known, set, &mounted));
        }
        let next = known.is_some_and(|it| it.booted || it.staged || it.soft_reboot_target);
        if let (Ok(Some(set)), Some(primary)) = (&set, self.primary)
            && (next || !mounted.is_empty())
        {
            conditions.push(dangling_condition(primary, &id, set));
        }
        if let Some(known) = known {
            conditions.extend(conditions::locked(known));
            conditions.extend(conditions::unsafe_rollback(known, &conditions[0]));
        }
        let veto = self.veto.iter().filter(|veto| veto.deployment == id);
        conditions.extend(veto.map(conditions::vetoed));
        // What cannot be read is as good an answer.
        let last_error = last_error(self.paths, &id);
        let last_error = last_error.unwrap_or_else(|error| Some(with_causes(&error)));
        DeploymentStatus {
            roles: self.roles(known, &id),
            last_error: last_error.filter(|_| known.is_some()),
            id,
            set: set.ok().flatten(),
            mounted_at: mounted.into_iter().map(|(target, _)| target).collect(),
            conditions,
        }
    }

    /// Where a set is seen, and whether the kernel checks it there.
    fn mounts_of(&self, set: &SetRecord) -> Vec<(PathBuf, bool)> {
        let mine = |(target, exposed): &(PathBuf, Exposed)| match exposed {
            Exposed::Set { set_image, verity } if *set_image == set.set_image => {
                Some((target.clone(), *verity))
            }
            _ => None,
        };
        self.mounts.iter().filter_map(mine).collect()
    }

    fn roles(&self, known: Option<&Deployment>, id: &DeploymentId) -> Vec<Role> {
        let Some(known) = known else {
            let own = self.host.is_some_and(|host| host.is_own(id));
            return vec![if own { Role::Gone } else { Role::Manual }];
        };
        let roles = [
            (known.booted, Role::Booted),
            (known.staged, Role::Staged),
            (known.rollback, Role::Rollback),
            (known.pinned, Role::Pinned),
            (known.soft_reboot_target, Role::SoftRebootTarget),
        ];
        let held = roles.iter().filter(|(held, _)| *held);
        let roles: Vec<Role> = held.map(|(_, role)| *role).collect();
        if roles.is_empty() {
            return vec![Role::Other];
        }
        roles
    }
}
