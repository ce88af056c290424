//! What can hold of a deployment, one function each.

use std::{os::fd::AsFd, path::PathBuf};

use super::{Condition, Kind, Look};
use crate::{
    bound::{self, Lock, LockError},
    deployment::{guard::LastVeto, host::Deployment},
    error::with_causes,
    repo::{DeploymentId, RepoError, RepoView, SetRecord},
};

/// Why a deployment that should have a set has none.
pub(super) const NO_SET: &str = "NoSet";

fn condition(kind: Kind, status: bool, reason: &'static str, message: String) -> Condition {
    Condition {
        kind,
        status,
        reason,
        message,
    }
}

impl Look<'_> {
    pub(super) fn present(
        &self,
        known: Option<&Deployment>,
        id: &DeploymentId,
        set: &Result<Option<SetRecord>, RepoError>,
    ) -> Condition {
        let damaged = |message| condition(Kind::Present, false, "Damaged", message);
        let set = match set {
            Ok(Some(set)) => set,
            Ok(None) if known.is_some() && self.binds_nothing(id) => {
                let message = "it binds no image".into();
                return condition(Kind::Present, true, "NothingBound", message);
            }
            Ok(None) => {
                let message = format!("run `boundstore sync --deployment {id}`");
                return condition(Kind::Present, false, NO_SET, message);
            }
            Err(error) => return damaged(with_causes(error)),
        };
        let size = Some(set.set_image_bytes);
        let found = self.view.map(|view| view.has_object(&set.set_image, size));
        match found {
            Some(Ok(true)) => {
                let message = format!("with all its images: {}", set.images.len());
                condition(Kind::Present, true, "Published", message)
            }
            Some(Err(error)) => damaged(with_causes(&error)),
            _ => damaged(format!(
                "the set image {} is missing or has not its size: run `boundstore sync --deployment {id}`",
                set.set_image
            )),
        }
    }

    /// What the deployment's set is held to, as far as its root can be opened.
    fn lock_of(&self, known: Option<&Deployment>) -> Result<Option<Lock>, LockError> {
        let id = known.map(|known| &known.id);
        let rootfs = self
            .host
            .zip(id)
            .and_then(|(host, id)| host.open_root(id).ok());
        rootfs.map_or(Ok(None), |rootfs| Lock::read(rootfs.as_fd()))
    }

    pub(super) fn verified(
        &self,
        view: &RepoView,
        known: Option<&Deployment>,
        set: &SetRecord,
        mounted: &[(PathBuf, bool)],
    ) -> Condition {
        let failed = |reason, message| condition(Kind::Verified, false, reason, message);
        if !view.is_secure() {
            let message = "the repository has no fs-verity: nothing checks what containers read";
            return failed("NoVerity", message.into());
        }
        if !mounted.iter().all(|(_, verity)| *verity) {
            let message = "it is mounted without verity=require";
            return failed("MountedWithoutVerity", message.into());
        }
        match self.lock_of(known) {
            Ok(Some(lock)) if lock.set_image.of(view.algorithm()) == set.set_image => {
                let message = "every byte is checked against the digest in its lock file";
                condition(Kind::Verified, true, "LockedDigest", message.into())
            }
            Ok(Some(_)) => {
                let message = "its lock file names another set image: it will not be mounted";
                failed("NotLocked", message.into())
            }
            Ok(None) => {
                let message =
                    "every byte is checked against the digest that the repository's ref names";
                condition(Kind::Verified, true, "SelfConsistent", message.into())
            }
            Err(error) => failed("BadLock", with_causes(&error)),
        }
    }

    /// Whether a deployment without a set needs none. One whose root cannot be
    /// read, or whose units cannot be understood, may need one.
    fn binds_nothing(&self, id: &DeploymentId) -> bool {
        let open = |host: &dyn super::Host| host.open_root(id).ok();
        let Some(rootfs) = self.host.and_then(open) else {
            return false;
        };
        bound::scan(rootfs.as_fd()).is_ok_and(|scan| scan.images.is_empty())
    }
}

pub(super) fn mounted(mounted: &[(PathBuf, bool)]) -> Condition {
    let Some((target, _)) = mounted.first() else {
        let message = "it is mounted nowhere".into();
        return condition(Kind::Mounted, false, "NotMounted", message);
    };
    let message = format!("at {}", target.display());
    condition(Kind::Mounted, true, "Mounted", message)
}

/// Told only where it holds: of most deployments it cannot.
pub(super) fn locked(known: &Deployment) -> Option<Condition> {
    let message = "it will not become the next boot until its finalization is unlocked";
    let locked = condition(Kind::Locked, true, "Finalization", message.into());
    (known.staged && known.finalization_locked).then_some(locked)
}

/// Told only where it holds.
pub(super) fn vetoed(veto: &LastVeto) -> Condition {
    let (time, lack, again) = (&veto.time, &veto.lack, &veto.again);
    let message = format!(
        "at {time} it was kept from being the next boot: {lack}; to stage it again: {again}"
    );
    condition(Kind::Vetoed, true, "Incomplete", message)
}

/// Told of what a rollback would boot.
pub(super) fn unsafe_rollback(known: &Deployment, present: &Condition) -> Option<Condition> {
    let condition = if present.status {
        let message = "its images are there".into();
        condition(Kind::UnsafeRollback, false, "Present", message)
    } else {
        let message = "a rollback would boot it without its images".into();
        condition(Kind::UnsafeRollback, true, present.reason, message)
    };
    (known.rollback && !known.booted).then_some(condition)
}
