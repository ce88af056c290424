//! The guard: a deployment whose set is incomplete must not become the next
//! boot.
//!
//! [`Guard::stage`] is for when one has been staged: it is held back, its set
//! is brought, it is let go. [`Guard::veto`] is for the shutdown, without a
//! network: what is incomplete then is held back, and [`LastVeto`] tells the
//! system that comes up in its stead.

mod again;
mod lack;
mod last_veto;
mod lock;

use std::path::Path;

pub use self::{
    lack::{Lack, lack},
    last_veto::{LastVeto, clear_last_veto, last_veto, note_boot},
};
use self::{
    last_veto::remember,
    lock::{Lock, Owner},
};
use super::host::{Backend, Host, HostError, HostPaths, Staged};
use crate::{
    config::Policy,
    error::{Doing, PathError},
    repo::DeploymentId,
    sys::{self, MountError, Unmount, failpoint::failpoint},
};

/// Where a queued soft reboot has its root, below the host's: systemd goes to
/// what is mounted there, and where nothing is, to the root that runs
/// (systemd-soft-reboot.service(8)).
const NEXT_ROOT: &str = "run/nextroot";
/// What ostree notes of it.
const OSTREE_NEXT_ROOT: &str = "run/ostree/nextroot-booted";

/// Guards the next boot of a host.
#[derive(Debug, Clone, Copy)]
pub struct Guard<'a> {
    /// The host.
    pub host: &'a dyn Host,
    /// Its files.
    pub paths: &'a HostPaths,
    /// What happens to what is incomplete.
    pub policy: Policy,
}

/// A staged deployment whose set is complete.
#[derive(Debug)]
pub struct Ready {
    /// Which.
    pub deployment: DeploymentId,
    /// Whether its set had to be brought.
    pub synced: bool,
    /// Whether somebody else holds it back: then so it stays.
    pub held_by_others: bool,
    /// Why the last veto could not be forgotten.
    pub not_noted: Option<PathError>,
}

/// What a shutdown would go to.
#[derive(Debug, Default)]
pub struct Judgement {
    /// How each stands.
    pub verdicts: Vec<Verdict>,
    /// Why [`LastVeto`] does not say so.
    pub not_noted: Option<PathError>,
}

/// A deployment that a shutdown would go to, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Which.
    pub deployment: DeploymentId,
    /// What its set lacks.
    pub lack: Option<Lack>,
    /// Whether it is held back for that.
    pub vetoed: bool,
}

/// Why a deployment could not be guarded.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The host's deployments are not known, or cannot be held back.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The set was brought, and lacks something yet.
    #[error("the set of {deployment} was brought, but {lack}")]
    Incomplete {
        /// Whose.
        deployment: DeploymentId,
        /// What it lacks.
        lack: Lack,
    },
    /// A queued soft reboot could not be taken back.
    #[error("take back the soft reboot to {deployment}")]
    SoftReboot {
        /// To which.
        deployment: DeploymentId,
        /// Why.
        source: MountError,
    },
    /// A file of ours could not be handled.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl Guard<'_> {
    /// Holds the staged deployment back while `sync` brings its set; nothing
    /// where none is staged. Where somebody stages another one meanwhile, that
    /// one is guarded too.
    ///
    /// # Errors
    /// `sync`'s, and [`GuardError`]: the deployment is then still held back.
    pub fn stage<E: From<GuardError>>(
        &self,
        mut sync: impl FnMut(&DeploymentId) -> Result<(), E>,
    ) -> Result<Option<Ready>, E> {
        loop {
            let Some(staged) = self.host.staged().map_err(GuardError::from)? else {
                return Ok(None);
            };
            let done = self.stage_one(&staged.id, &mut sync);
            // Nobody is told of changes while this runs: so it looks itself.
            let now = self.host.staged().map_err(GuardError::from)?;
            if now.is_none_or(|now| now.id == staged.id) {
                return done.map(Some);
            }
        }
    }

    fn stage_one<E: From<GuardError>>(
        &self,
        id: &DeploymentId,
        sync: &mut impl FnMut(&DeploymentId) -> Result<(), E>,
    ) -> Result<Ready, E> {
        let lacks = || lack(self.host, &self.paths.repo, id);
        let incomplete = lacks().is_some();
        if incomplete {
            self.hold(id)?;
            sync(id)?;
            if let Some(lack) = lacks() {
                let deployment = id.clone();
                return Err(GuardError::Incomplete { deployment, lack }.into());
            }
        }
        let lock = self.lock(id);
        let owner = match self.still_staged(id)? {
            Some(staged) => lock.owner(&staged)?,
            None => Owner::Nobody,
        };
        if owner == Owner::Us {
            lock.release()?;
        }
        Ok(Ready {
            deployment: id.clone(),
            synced: incomplete,
            held_by_others: owner == Owner::Others,
            not_noted: clear_last_veto(self.paths).err(),
        })
    }

    /// Holds `id` back, unless somebody does or the policy lets it; says whether
    /// it is staged yet.
    ///
    /// For each moment of a sync: ostree unlinks the lock of the deployment
    /// before only after it has staged the new one, which looks locked until
    /// then.
    ///
    /// # Errors
    /// [`GuardError`]
    pub fn hold(&self, id: &DeploymentId) -> Result<bool, GuardError> {
        let Some(staged) = self.still_staged(id)? else {
            return Ok(false);
        };
        let lock = self.lock(id);
        if self.policy == Policy::Veto && lock.owner(&staged)? == Owner::Nobody {
            match lock.take() {
                Err(GuardError::Host(HostError::NotStaged(_))) => return Ok(false),
                taken => taken?,
            };
        }
        Ok(true)
    }

    fn still_staged(&self, id: &DeploymentId) -> Result<Option<Staged>, GuardError> {
        let staged = self.host.staged()?;
        Ok(staged.filter(|staged| staged.id == *id))
    }

    /// Judges what this shutdown goes to: the staged deployment, and what a
    /// soft reboot is queued for. By [`Policy::Veto`] an incomplete one is held
    /// back: it is locked, a soft reboot to it is taken back, and both are
    /// written to [`LastVeto`].
    ///
    /// A staged deployment is locked before it is checked, so that a check
    /// that is killed has held it back. What cannot be written down is held
    /// back, or let go, all the same.
    ///
    /// # Errors
    /// [`GuardError`]. What was locked stays so.
    pub fn veto(&self) -> Result<Judgement, GuardError> {
        let mut judgement = Judgement::default();
        let Judgement {
            verdicts,
            not_noted,
        } = &mut judgement;
        if let Some(staged) = self.host.staged()? {
            verdicts.extend(self.veto_staged(&staged, not_noted)?);
        }
        if let Some(target) = self.host.soft_reboot_target()? {
            let known = verdicts
                .iter()
                .find(|verdict: &&Verdict| verdict.deployment == target);
            let lack = match known {
                Some(verdict) => verdict.lack.clone(),
                None => lack(self.host, &self.paths.repo, &target),
            };
            let vetoed = lack.is_some() && self.policy == Policy::Veto;
            if let Some(lack) = lack.as_ref().filter(|_| vetoed) {
                self.take_back_soft_reboot(&target)?;
                *not_noted = remember(self, &target, lack).err();
            }
            verdicts.retain(|verdict| verdict.deployment != target);
            verdicts.push(Verdict {
                deployment: target,
                lack,
                vetoed,
            });
        }
        Ok(judgement)
    }

    /// `None` where others hold it back: it comes with no reboot.
    fn veto_staged(
        &self,
        staged: &Staged,
        not_noted: &mut Option<PathError>,
    ) -> Result<Option<Verdict>, GuardError> {
        let id = &staged.id;
        let lock = self.lock(id);
        let mut owner = lock.owner(staged)?;
        if owner == Owner::Others {
            return Ok(None);
        }
        if self.policy == Policy::Veto {
            if owner == Owner::Nobody {
                owner = lock.take()?;
            }
            *not_noted = remember(self, id, &Lack::unchecked()).err();
        }
        let lack = lack(self.host, &self.paths.repo, id);
        match &lack {
            Some(lack) if self.policy == Policy::Veto => {
                *not_noted = remember(self, id, lack).err();
            }
            // What the guard still held when it was stopped, too.
            _ if owner == Owner::Us => {
                lock.release()?;
                *not_noted = clear_last_veto(self.paths).err();
            }
            _ => {}
        }
        Ok(Some(Verdict {
            deployment: id.clone(),
            vetoed: lack.is_some() && self.policy == Policy::Veto,
            lack,
        }))
    }

    /// Unmounts what a soft reboot would go to, as `ostree admin
    /// prepare-soft-reboot --reset` and `bootc upgrade` do: systemd then starts
    /// the root again that runs.
    fn take_back_soft_reboot(&self, id: &DeploymentId) -> Result<(), GuardError> {
        let next_root = self.paths.root.join(NEXT_ROOT);
        let next_root = next_root.canonicalize().unwrap_or(next_root);
        let failed = |source| GuardError::SoftReboot {
            deployment: id.clone(),
            source,
        };
        while is_mounted(&next_root)? {
            sys::unmount(&next_root, Unmount::Lazy).map_err(failed)?;
        }
        if self.host.backend() == Backend::Ostree {
            let note = self.paths.root.join(OSTREE_NEXT_ROOT);
            remove_if_there(&note)?;
        }
        Ok(())
    }

    fn lock<'a>(&'a self, id: &'a DeploymentId) -> Lock<'a> {
        Lock {
            host: self.host,
            root: &self.paths.root,
            id,
        }
    }
}

fn is_mounted(target: &Path) -> Result<bool, PathError> {
    Ok(sys::mount_table()?
        .iter()
        .any(|mount| mount.target == target))
}

fn remove_if_there(path: &Path) -> Result<(), PathError> {
    failpoint!("forget").doing("remove", path)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.doing("remove", path),
    }
}
