//! How things stand, from files alone: no lock, no subprocess.

use std::{collections::BTreeSet, path::PathBuf};

use serde::Serialize;

use super::expose::{Exposed, SOURCE, exposed_in};
use crate::{
    error::PathError,
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
    /// Each deployment that has a set.
    pub deployments: Vec<DeploymentStatus>,
}

/// How one deployment stands.
#[derive(Debug, Clone, Serialize)]
pub struct DeploymentStatus {
    /// Its id.
    pub id: DeploymentId,
    /// Its set, where it can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<SetRecord>,
    /// Where its set is mounted.
    pub mounted_at: Vec<PathBuf>,
    /// What holds of it, in the manner of Kubernetes.
    pub conditions: Vec<Condition>,
}

/// One thing that holds of a deployment, or does not.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Condition {
    /// `Present`, `Mounted`, `Verified`
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Whether it holds.
    pub status: bool,
    /// One word for machines.
    pub reason: &'static str,
    /// One sentence for people.
    pub message: String,
}

impl DeploymentStatus {
    /// Whether anything is wrong. Not being mounted is nothing wrong.
    pub fn is_healthy(&self) -> bool {
        self.conditions
            .iter()
            .all(|condition| condition.status || condition.kind != "Present")
    }
}

/// Looks at all deployments, or at one.
///
/// # Errors
/// The repository or the mount table cannot be read. A damaged set is no
/// error but a condition.
pub fn status(view: &RepoView, only: Option<&DeploymentId>) -> Result<Status, RepoError> {
    let mounts = mounted_sets()?;
    let ids = match only {
        Some(id) => vec![id.clone()],
        None => view.deployments()?,
    };
    let deployments = ids.into_iter().map(|id| one(view, id, &mounts)).collect();
    Ok(Status {
        repository: view.path().to_owned(),
        secure: view.is_secure(),
        deployments,
    })
}

fn mounted_sets() -> Result<Vec<(PathBuf, Exposed)>, PathError> {
    let table = sys::mount_table()?;
    let ours = table
        .iter()
        .filter(|mount| mount.source.starts_with(SOURCE));
    let targets: BTreeSet<&PathBuf> = ours.map(|mount| &mount.target).collect();
    let seen = |target: &PathBuf| Some((target.clone(), exposed_in(&table, target)?));
    Ok(targets.into_iter().filter_map(seen).collect())
}

fn one(view: &RepoView, id: DeploymentId, mounts: &[(PathBuf, Exposed)]) -> DeploymentStatus {
    let condition = |kind, status, reason, message: String| Condition {
        kind,
        status,
        reason,
        message,
    };
    let set = match view.set(&id) {
        Ok(Some(set)) => set,
        Ok(None) => {
            let message = format!("run `boundstore sync --deployment {id}`");
            let present = condition("Present", false, "NoSet", message);
            return DeploymentStatus {
                id,
                set: None,
                mounted_at: Vec::new(),
                conditions: vec![present],
            };
        }
        Err(error) => {
            let present = condition("Present", false, "Damaged", error.to_string());
            return DeploymentStatus {
                id,
                set: None,
                mounted_at: Vec::new(),
                conditions: vec![present],
            };
        }
    };
    let mut conditions = vec![
        match view.has_object(&set.set_image, Some(set.set_image_bytes)) {
            Ok(true) => condition(
                "Present",
                true,
                "Published",
                format!("with all its images: {}", set.images.len()),
            ),
            Ok(false) => condition(
                "Present",
                false,
                "Damaged",
                format!(
                    "the set image {} is missing or has not its size",
                    set.set_image
                ),
            ),
            Err(error) => condition("Present", false, "Damaged", error.to_string()),
        },
    ];
    let mine = |exposed: &Exposed| match exposed {
        Exposed::Set { set_image, verity } if *set_image == set.set_image => Some(*verity),
        _ => None,
    };
    let seen: Vec<(PathBuf, bool)> = mounts
        .iter()
        .filter_map(|(target, exposed)| Some((target.clone(), mine(exposed)?)))
        .collect();
    conditions.push(match seen.first() {
        Some((target, _)) => condition(
            "Mounted",
            true,
            "Mounted",
            format!("at {}", target.display()),
        ),
        None => condition(
            "Mounted",
            false,
            "NotMounted",
            "it is mounted nowhere".into(),
        ),
    });
    let checked = seen.iter().all(|(_, verity)| *verity);
    conditions.push(if !view.is_secure() {
        condition(
            "Verified",
            false,
            "NoVerity",
            "the repository has no fs-verity: nothing checks what containers read".into(),
        )
    } else if !checked {
        condition(
            "Verified",
            false,
            "MountedWithoutVerity",
            "it is mounted without verity=require".into(),
        )
    } else {
        condition(
            "Verified",
            true,
            "SelfConsistent",
            "every byte is checked against the digest that the repository's ref names".into(),
        )
    });
    DeploymentStatus {
        id,
        set: Some(set),
        mounted_at: seen.into_iter().map(|(target, _)| target).collect(),
        conditions,
    }
}
