//! Garbage collection: which refs of ours go, and why the others stay.
//!
//! Roots are the sets of all deployments that the host has, of all ids that were
//! given by hand, and what was mounted since boot. Objects are nobody's: where
//! the repository is the host's own they are left to the host's gc, which knows
//! roots that we do not; elsewhere the crate's gc takes what no ref reaches.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::Serialize;

use super::{
    SinceBoot,
    host::{Backend, Deployment, Host, HostError},
};
use crate::{
    error::PathError,
    name::ObjectId,
    repo::{
        self, BootId, Collector, DeploymentId, Purpose, Reference, RepoError, RepoView, SetRecord,
        is_ours,
    },
};

/// How long what an unfinished sync has brought is kept for the next one.
pub const UNFINISHED: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Why nothing was collected, or not all.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// The host's deployments are not known: any set may be one of theirs.
    #[error("nothing is collected, since the host's deployments cannot be told")]
    Host(#[from] HostError),
    /// A host that is one has deployments: its sysroot is not what it should be.
    #[error("nothing is collected, since the host says that it has no deployment at all")]
    NoDeployment,
    /// The repository.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// What was mounted since boot is not known.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// Who takes the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// We do.
    Boundstore,
    /// The host's gc, bootc's, when it comes by: it boots from this repository.
    Host,
}

impl Owner {
    /// Whose the repository at `repo` is.
    pub fn of(host: Option<&dyn Host>, repo: &Path, sysroot: &Path) -> Self {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let native = host.is_some_and(|host| host.backend() == Backend::Composefs);
        if native && real(repo) == real(&repo::default_path(sysroot)) {
            Self::Host
        } else {
            Self::Boundstore
        }
    }
}

/// All that decides what goes.
#[derive(Debug)]
pub struct Inputs<'h> {
    /// What makes the host's deployments; without it all ids are given by hand.
    pub host: Option<&'h dyn Host>,
    /// These.
    pub deployments: Vec<Deployment>,
    /// All refs of the repository.
    pub references: Vec<Reference>,
    /// The streams of the sets that stay.
    pub published: BTreeSet<String>,
    /// The deployment that the last shutdown held back: staged again, it is to
    /// fetch nothing twice.
    pub vetoed: Option<DeploymentId>,
    /// The sets with a pin that were mounted since boot.
    pub mounted: BTreeSet<ObjectId>,
    /// This boot.
    pub boot: BootId,
    /// The time.
    pub now: SystemTime,
    /// Who takes the objects.
    pub owner: Owner,
}

impl<'h> Inputs<'h> {
    /// Reads them, the refs first: whoever has a set by then has been a
    /// deployment before that.
    ///
    /// # Errors
    /// See [`GcError`].
    pub fn gather(
        view: &RepoView,
        host: Option<&'h dyn Host>,
        since_boot: &SinceBoot,
        vetoed: Option<DeploymentId>,
        owner: Owner,
    ) -> Result<Self, GcError> {
        let references = view.all_references()?;
        let mut mounted = BTreeSet::new();
        for set_image in since_boot.mounted(view)? {
            if view.has_pin(&set_image)? {
                mounted.insert(set_image);
            }
        }
        let deployments = host.map_or(Ok(Vec::new()), Host::deployments)?;
        if host.is_some() && deployments.is_empty() {
            return Err(GcError::NoDeployment);
        }
        let mut inputs = Self {
            deployments,
            host,
            references,
            published: BTreeSet::new(),
            vetoed,
            mounted,
            boot: since_boot.boot()?,
            now: SystemTime::now(),
            owner,
        };
        let sets = inputs.references.iter().filter(|reference| {
            matches!(reference.purpose, Purpose::Deployment(_))
                && !judge(&inputs, reference).0.goes()
        });
        let sets = sets.map(|reference| &reference.stream);
        inputs.published = view.streams()?.reach(sets)?.streams;
        Ok(inputs)
    }
}

/// What becomes of one ref, and why.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// The ref, below `streams/refs`.
    #[serde(rename = "ref", serialize_with = "lossy")]
    pub path: PathBuf,
    /// The stream it names.
    pub stream: String,
    /// One word for machines.
    pub reason: Reason,
    /// One sentence for people.
    pub message: String,
    #[serde(skip)]
    reference: Reference,
}

/// Bytes that are no UTF-8 are replaced.
fn lossy<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Why a ref goes or stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Reason {
    /// Goes: the host has this deployment no more.
    Gone,
    /// Goes: it kept what was mounted in an earlier boot.
    EarlierBoot,
    /// Goes: no sync has gone on with it for [`UNFINISHED`].
    Abandoned,
    /// Goes: a published set has what it kept for one.
    Published,
    /// Goes: it names nothing that is there.
    Broken,
    /// Stays: the set of a deployment of the host.
    Deployment,
    /// Stays: the set of a deployment that the last shutdown held back.
    Vetoed,
    /// Stays: the set of an id that was given by hand.
    Manual,
    /// Stays: a container may still read it.
    MountedSinceBoot,
    /// Stays: a part of a set that the next sync uses.
    Unfinished,
    /// Stays: it is of a later version.
    Unknown,
}

impl Reason {
    fn goes(self) -> bool {
        matches!(
            self,
            Self::Gone | Self::EarlierBoot | Self::Abandoned | Self::Published | Self::Broken
        )
    }
}

/// What a collection does. It is spent by [`GcPlan::execute`]: another needs
/// another look.
#[must_use]
#[derive(Debug)]
pub struct GcPlan {
    /// Refs that go.
    pub goes: Vec<Verdict>,
    /// Refs of ours that stay.
    pub stays: Vec<Verdict>,
    /// Sets that get a ref, since they were mounted and will have no other.
    pub kept: BTreeSet<ObjectId>,
    /// Who takes the objects.
    pub owner: Owner,
    boot: BootId,
}

/// Decides, of nothing but `inputs`.
pub fn plan(inputs: &Inputs<'_>) -> GcPlan {
    let ours = inputs.references.iter();
    let ours = ours.filter(|reference| reference.purpose != Purpose::Foreign);
    let verdicts = ours.map(|reference| {
        let (reason, message) = judge(inputs, reference);
        Verdict {
            path: reference.path.clone(),
            stream: reference.stream.clone(),
            reason,
            message,
            reference: reference.clone(),
        }
    });
    let (goes, stays): (Vec<_>, Vec<_>) = verdicts.partition(|verdict| verdict.reason.goes());
    let held: BTreeSet<ObjectId> = stays
        .iter()
        .filter_map(|verdict: &Verdict| verdict.reference.set_image())
        .collect();
    GcPlan {
        kept: inputs.mounted.difference(&held).copied().collect(),
        goes,
        stays,
        owner: inputs.owner,
        boot: inputs.boot.clone(),
    }
}

fn judge(inputs: &Inputs<'_>, reference: &Reference) -> (Reason, String) {
    match &reference.purpose {
        Purpose::Unknown | Purpose::Foreign => {
            let message = "it is not understood: of a later version, perhaps";
            (Reason::Unknown, message.into())
        }
        // The exclusive lock is held: its writer is gone.
        Purpose::Leftover => {
            let message = "a writer was killed before it had replaced a ref by it";
            (Reason::Abandoned, message.into())
        }
        _ if !reference.is_whole => {
            let message = "it names nothing that is there, and with it every garbage collection \
                           of this repository fails";
            (Reason::Broken, message.into())
        }
        Purpose::Deployment(id) => {
            let known = inputs.deployments.iter().find(|known| known.id == *id);
            match (known, inputs.host) {
                (Some(known), _) => (Reason::Deployment, roles(known)),
                (None, _) if inputs.vetoed.as_ref() == Some(id) => {
                    let message = "it was kept from booting, and may be staged again";
                    (Reason::Vetoed, message.into())
                }
                (None, Some(host)) if host.is_own(id) => {
                    let message = "the host has no such deployment any more";
                    (Reason::Gone, message.into())
                }
                (None, _) => (Reason::Manual, "its id was given by hand".into()),
            }
        }
        Purpose::Mounted(boot, _) if *boot == inputs.boot => {
            let message = "it was mounted since boot: containers may read it until the next";
            (Reason::MountedSinceBoot, message.into())
        }
        Purpose::Mounted(..) => {
            let message = "it was mounted in an earlier boot, and nothing reads it any more";
            (Reason::EarlierBoot, message.into())
        }
        // Its sync was killed before it had removed it, say.
        Purpose::Partial if inputs.published.contains(&reference.stream) => {
            let message = "a published set has what it kept for one";
            (Reason::Published, message.into())
        }
        Purpose::Partial => {
            // A clock that was set back makes nothing old.
            let age = inputs.now.duration_since(reference.written);
            if age.is_ok_and(|age| age > UNFINISHED) {
                let message = "no sync has needed it for a week";
                (Reason::Abandoned, message.into())
            } else {
                let message = "an unfinished sync has brought it, less than a week ago";
                (Reason::Unfinished, message.into())
            }
        }
    }
}

fn roles(deployment: &Deployment) -> String {
    let roles = [
        (deployment.booted, "booted"),
        (deployment.staged, "staged"),
        (deployment.rollback, "rollback"),
        (deployment.pinned, "pinned"),
        (deployment.soft_reboot_target, "target of a soft reboot"),
    ];
    let held: Vec<&str> = roles
        .iter()
        .filter(|(held, _)| *held)
        .map(|(_, r)| *r)
        .collect();
    match held.as_slice() {
        [] => "the host has this deployment".into(),
        held => format!("the host has this deployment: {}", held.join(", ")),
    }
}

/// What a collection took, or would take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Streams of ours that no ref reaches.
    pub streams: Vec<String>,
    /// How many objects, and their sizes in bytes; not known where the host's
    /// gc takes them.
    pub objects: Option<(u64, u64)>,
}

impl GcPlan {
    /// What [`GcPlan::execute`] would take. Takes no lock and writes nothing.
    ///
    /// # Errors
    /// The repository cannot be read, or changes meanwhile.
    pub fn preview(&self, view: &RepoView) -> Result<Taken, RepoError> {
        let goes: BTreeSet<&Path> = self.goes.iter().map(|v| v.path.as_path()).collect();
        let references = view.all_references()?.into_iter();
        let stay = references.filter(|reference| !goes.contains(reference.path.as_path()));
        let mut roots: Vec<String> = stay.map(|reference| reference.stream).collect();
        roots.extend(self.kept.iter().map(SetRecord::stream_name));
        let reach = view.streams()?.reach(&roots)?;
        let mut taken = Taken {
            streams: unreached(view, &reach.streams)?,
            objects: None,
        };
        if self.owner == Owner::Boundstore {
            let others = view.reach_of_others()?;
            let live = |id: &ObjectId| reach.objects.contains(id) || others.objects.contains(id);
            let sizes = view.object_sizes()?;
            let dead = sizes.iter().filter(|(id, _)| !live(id));
            taken.objects = Some(dead.fold((0, 0), |(n, bytes), (_, size)| (n + 1, bytes + size)));
        }
        Ok(taken)
    }

    /// Does it: refs first, then streams, then objects, so that a crash leaves
    /// no ref or stream without what it names, and the next gc goes on.
    ///
    /// # Errors
    /// See [`GcError`]; what was done stays done.
    pub fn execute(self, collector: Collector, since_boot: &SinceBoot) -> Result<Taken, GcError> {
        let repo = collector.repo();
        let keep = |set_image| repo.keep_mounted(&self.boot, set_image);
        for set_image in &self.kept {
            keep(set_image)?;
        }
        for verdict in &self.goes {
            repo.drop_reference(&verdict.reference)?;
        }
        // A mount needs no lock, and may have come between: see
        // [`SinceBoot::keeping`].
        let stay = self.stays.iter();
        let held: BTreeSet<_> = stay.filter_map(|v| v.reference.set_image()).collect();
        for set_image in since_boot.mounted(repo.view())?.difference(&held) {
            keep(set_image)?;
        }
        let references = repo.view().all_references()?.into_iter();
        let roots: Vec<String> = references.map(|reference| reference.stream).collect();
        let reached = repo.view().streams()?.reach(&roots)?.streams;
        let streams = unreached(repo.view(), &reached)?;
        repo.forget_streams(&streams)?;
        let objects = match self.owner {
            Owner::Host => None,
            Owner::Boundstore => {
                let collected = collector.collect()?;
                Some((collected.objects, collected.bytes))
            }
        };
        Ok(Taken { streams, objects })
    }
}

fn unreached(view: &RepoView, reached: &BTreeSet<String>) -> Result<Vec<String>, RepoError> {
    let names = view.stream_names()?.into_iter();
    Ok(names
        .filter(|name| is_ours(name) && !reached.contains(name))
        .collect())
}

#[cfg(test)]
#[path = "gc_tests.rs"]
mod tests;
