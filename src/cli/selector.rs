//! Which deployments a verb is about: an id, or the word of a role.

use std::{fmt, str::FromStr};

use super::{
    Global,
    failure::{Exit, Failure},
};
use crate::{
    deployment::host::{Deployment, Host},
    repo::{DeploymentId, DeploymentIdError},
};

/// `--deployment`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selector {
    /// The one that runs.
    Booted,
    /// The one that is prepared to be the next boot.
    Staged,
    /// The one that the boot loader would fall back to.
    Rollback,
    /// All of the host's.
    All,
    /// This one, the host's or named by hand.
    Id(DeploymentId),
}

impl Selector {
    /// The deployments that are meant: none where the host has none in this
    /// role. An id is taken as it is.
    pub(super) fn ids(&self, global: &Global) -> Result<Vec<DeploymentId>, Failure> {
        match self {
            Self::Id(id) => Ok(vec![id.clone()]),
            _ => self.ids_of(global.host()?.as_deref()),
        }
    }

    /// As [`Selector::ids`], of a host that is known.
    pub(super) fn ids_of(&self, host: Option<&dyn Host>) -> Result<Vec<DeploymentId>, Failure> {
        if let Self::Id(id) = self {
            return Ok(vec![id.clone()]);
        }
        let host = host.ok_or_else(|| {
            let message = format!(
                "--deployment {self} asks for a deployment of this host, which is neither an \
                 ostree nor a composefs host: name one by an id"
            );
            Failure::new(Exit::Failed, message)
        })?;
        let has_role: fn(&Deployment) -> bool = match self {
            Self::Booted => return Ok(host.booted()?.into_iter().collect()),
            Self::Staged => {
                return Ok(host.staged()?.map(|staged| staged.id).into_iter().collect());
            }
            Self::Rollback => |deployment| deployment.rollback,
            Self::Id(_) | Self::All => |_| true,
        };
        let known = host.deployments()?.into_iter().filter(has_role);
        Ok(known.map(|deployment| deployment.id).collect())
    }

    /// The one deployment that is meant.
    pub(super) fn one(&self, global: &Global) -> Result<DeploymentId, Failure> {
        if *self == Self::All {
            let message = "--deployment all is more than one: name one";
            return Err(Failure::new(Exit::Usage, message));
        }
        let found = self.ids(global)?.into_iter().next();
        found.ok_or_else(|| Failure::new(Exit::Failed, self.nothing()))
    }

    /// The deployments that are meant, where any are asked for.
    pub(super) fn only(
        selector: Option<&Self>,
        global: &Global,
    ) -> Result<Option<Vec<DeploymentId>>, Failure> {
        let Some(selector) = selector else {
            return Ok(None);
        };
        let ids = selector.ids(global)?;
        if ids.is_empty() {
            return Err(Failure::new(Exit::Failed, selector.nothing()));
        }
        Ok(Some(ids))
    }

    /// That the host has no such deployment.
    pub(super) fn nothing(&self) -> String {
        match self {
            Self::Staged => "no deployment of this host is staged".to_owned(),
            Self::Booted => "no deployment of this host is what runs".to_owned(),
            Self::Rollback => "this host has no deployment to roll back to".to_owned(),
            Self::All | Self::Id(_) => "this host has no deployments".to_owned(),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Booted => f.write_str("booted"),
            Self::Staged => f.write_str("staged"),
            Self::Rollback => f.write_str("rollback"),
            Self::All => f.write_str("all"),
            Self::Id(id) => id.fmt(f),
        }
    }
}

impl FromStr for Selector {
    type Err = DeploymentIdError;

    fn from_str(text: &str) -> Result<Self, DeploymentIdError> {
        Ok(match text {
            "booted" => Self::Booted,
            "staged" => Self::Staged,
            "rollback" => Self::Rollback,
            "all" => Self::All,
            id => Self::Id(id.parse()?),
        })
    }
}
