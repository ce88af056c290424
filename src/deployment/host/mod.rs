//! The deployments of a host: which there are, and how each stands to the next
//! boot. Read from files alone, no subprocess.
//!
//! Whoever acts on a deployment takes it from a [`Host`]; a host without
//! deployments of its own (CI caches, HPC) has none, and ids are given by hand.

mod boot_entry;
mod boot_menu;
mod bootc;
mod folder;
mod gvariant;
mod native;
mod ostree;
#[cfg(test)]
mod tests;

use std::{fmt::Debug, fs::Metadata, os::fd::OwnedFd, path::PathBuf};

use serde::Serialize;

pub use self::{
    bootc::{BootcStatus, NotBootcStatus},
    gvariant::NotVariant,
    ostree::{StagedFile, parse_staged},
};
use self::{native::ComposefsHost, ostree::OstreeHost};
use crate::{
    error::PathError,
    repo::{DeploymentId, RepoError},
    sys::MountError,
};

/// What makes a host's deployments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// ostree: ids are `<stateroot>-<checksum>.<serial>`.
    Ostree,
    /// bootc's composefs backend: ids are the fs-verity digest of the root's
    /// EROFS image.
    Composefs,
}

/// One deployment, and its roles. Several can hold at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deployment {
    /// Its id.
    pub id: DeploymentId,
    /// What runs now.
    pub booted: bool,
    /// Prepared to be the next boot, but not yet in the boot loader.
    pub staged: bool,
    /// What the boot loader would fall back to.
    pub rollback: bool,
    /// Kept by its owner's wish.
    pub pinned: bool,
    /// What a soft reboot would go to.
    pub soft_reboot_target: bool,
    /// Staged, and held back from becoming the next boot.
    pub finalization_locked: bool,
}

/// The staged deployment, as far as what stages it tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Its id.
    pub id: DeploymentId,
    /// Whether it is held back from becoming the next boot.
    pub finalization_locked: bool,
}

/// Hears of a file before it is put in its place.
pub type Note<'n> = &'n mut dyn FnMut(&Metadata) -> Result<(), PathError>;

/// The deployments of a host.
///
/// Garbage collection needs all of them, or none. A boot and the guard need
/// one, and take it from the method that reads of no other: whatever lies
/// broken elsewhere stops neither.
pub trait Host: Debug {
    /// What makes them.
    fn backend(&self) -> Backend;

    /// All of them, in the order of the boot menu, a staged one first.
    ///
    /// # Errors
    /// A file that says so is there and cannot be understood. A deployment
    /// that cannot be told is an error, never left out: garbage collection
    /// takes what is not listed.
    fn deployments(&self) -> Result<Vec<Deployment>, HostError>;

    /// What runs now.
    ///
    /// # Errors
    /// What tells it is there and cannot be understood.
    fn booted(&self) -> Result<Option<DeploymentId>, HostError>;

    /// What is prepared to be the next boot.
    ///
    /// # Errors
    /// What tells it is there and cannot be understood.
    fn staged(&self) -> Result<Option<Staged>, HostError>;

    /// What a soft reboot would go to.
    ///
    /// # Errors
    /// What tells it is there and cannot be understood.
    fn soft_reboot_target(&self) -> Result<Option<DeploymentId>, HostError>;

    /// Opens a deployment's root file tree, of a staged one too.
    ///
    /// # Errors
    /// [`HostError::Unknown`], or it cannot be opened or mounted.
    fn open_root(&self, id: &DeploymentId) -> Result<OwnedFd, HostError>;

    /// Holds the staged deployment back from becoming the next boot, or lets it.
    /// Says whether that changed anything; nothing does where `id` is not the
    /// staged one any more, or where `still` says at the last moment that the
    /// files are not those that the caller has judged. `note` hears of the file
    /// that is to be the lock before it is one. Not for two at once.
    ///
    /// # Errors
    /// [`HostError::NotStaged`], or the file could not be changed.
    fn set_finalization_locked(
        &self,
        id: &DeploymentId,
        locked: bool,
        note: Note<'_>,
        still: &dyn Fn() -> bool,
    ) -> Result<bool, HostError>;

    /// Whether an id has the form of this host's own: all others are given by hand.
    fn is_own(&self, id: &DeploymentId) -> bool;
}

/// Where a host's files are, so that any file tree can stand for one.
#[derive(Debug, Clone)]
pub struct HostPaths {
    /// The root of the running system: `/`.
    pub root: PathBuf,
    /// The physical root: `/sysroot`.
    pub sysroot: PathBuf,
    /// The composefs repository.
    pub repo: PathBuf,
}

/// Why a host's deployments are not known.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// There is no such deployment.
    #[error("this host has no deployment {0}: `boundstore status` lists those it has")]
    Unknown(DeploymentId),
    /// It is not the staged one (any more).
    #[error("deployment {0} is not staged")]
    NotStaged(DeploymentId),
    /// Whoever staged it holds it back, by other means than ours.
    #[error(
        "deployment {0} was staged to be held back: `ostree admin lock-finalization --unlock` lets it"
    )]
    HeldByOwner(DeploymentId),
    /// A file that tells of deployments is not understood.
    #[error("{} cannot be understood: {found}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// Its root is in a repository without fs-verity, and it is not told to
    /// boot so.
    #[error(
        "the repository has no fs-verity, and deployment {0} does not boot with composefs=?..: \
         its root is not read"
    )]
    MissingVerity(DeploymentId),
    /// Its root could not be mounted.
    #[error("mount the root of deployment {id}")]
    Mount {
        /// The deployment.
        id: DeploymentId,
        /// Why.
        source: MountError,
    },
    /// A file could not be handled.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The composefs repository could not be read.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

/// The host whose files these are; `None` where it has no deployments of its
/// own, and ids are given by hand.
///
/// What runs tells before what lies in the sysroot: a host can have been moved
/// from one backend to the other.
///
/// # Errors
/// What tells the backend cannot be read.
pub fn detect(paths: &HostPaths) -> Result<Option<Box<dyn Host>>, HostError> {
    if let Some(host) = OstreeHost::booted(paths)? {
        return Ok(Some(Box::new(host)));
    }
    if let Some(host) = ComposefsHost::booted(paths)? {
        return Ok(Some(Box::new(host)));
    }
    if let Some(host) = OstreeHost::installed(paths)? {
        return Ok(Some(Box::new(host)));
    }
    match ComposefsHost::installed(paths)? {
        Some(host) => Ok(Some(Box::new(host))),
        None => Ok(None),
    }
}
