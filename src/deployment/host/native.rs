//! The deployments of a host of bootc's composefs backend, as its
//! `bootc_composefs/status.rs` tells them.
//!
//! ```text
//! SYSROOT/state/deploy/<id>/<id>.origin    id: fs-verity digest of the root's EROFS image
//! BOOT/loader/entries/*.conf               the boot menu: composefs=<id>, or a unified
//! BOOT/grub2/user.cfg                      kernel image bootc_composefs-<id>.efi
//! run/composefs/staged-deployment          {"depl_id": "..", "finalization_locked": false}
//! proc/self/mountinfo                      what runs: the source of /
//! ```
//! Boot entries say what can boot; a state directory without one is listed
//! too, last and without a role: the boot partition may not be mounted.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    Backend, Deployment, Host, HostError, HostPaths, Note, Staged,
    boot_menu::{BootItem, boot_menu},
    folder::Folder,
};
use crate::{
    deployment::image_mount::{ImageMount, ImageMountError},
    name::ObjectId,
    repo::{DeploymentId, RepoView},
    sys,
};

const STAGED: &str = "run/composefs/staged-deployment";
const STATE: &str = "state/deploy";
const NEXT_ROOT: &str = "/run/nextroot";
const MOUNTS: &str = "proc/self/mountinfo";
const CMDLINE: &str = "proc/cmdline";

/// A staged file has some 200 bytes.
const MAX_STAGED: u64 = 1 << 16;
/// A host with thousands of containers has some megabytes of mounts.
const MAX_MOUNTS: u64 = 1 << 26;

/// A host of bootc's composefs backend.
#[derive(Debug)]
pub(super) struct ComposefsHost {
    root: Folder,
    sysroot: Folder,
    repo: PathBuf,
    run_dir: PathBuf,
}

/// The staged file, and all that it says.
struct StagedFile {
    id: DeploymentId,
    locked: bool,
    json: serde_json::Map<String, Value>,
}

impl ComposefsHost {
    /// The host, where the root is a composefs of bootc's.
    pub(super) fn booted(paths: &HostPaths) -> Result<Option<Self>, HostError> {
        let Some(host) = Self::open(paths)? else {
            return Ok(None);
        };
        Ok(host.mounted_at("/")?.is_some().then_some(host))
    }

    /// The host, where its sysroot has state of deployments.
    pub(super) fn installed(paths: &HostPaths) -> Result<Option<Self>, HostError> {
        let Some(host) = Self::open(paths)? else {
            return Ok(None);
        };
        Ok(host.sysroot.has(STATE)?.then_some(host))
    }

    fn open(paths: &HostPaths) -> Result<Option<Self>, HostError> {
        let folders = (Folder::open(&paths.root)?, Folder::open(&paths.sysroot)?);
        let (Some(root), Some(sysroot)) = folders else {
            return Ok(None);
        };
        Ok(Some(Self {
            root,
            sysroot,
            repo: paths.repo.clone(),
            run_dir: paths.root.join("run/boundstore"),
        }))
    }

    /// The deployment whose root is mounted at a place. The kernel's arguments
    /// do not tell: a soft reboot leaves them as they were.
    fn mounted_at(&self, target: &str) -> Result<Option<DeploymentId>, HostError> {
        let Some(text) = self.root.read(MOUNTS, MAX_MOUNTS)? else {
            return Ok(None);
        };
        let mounts = sys::parse_mount_table(&text);
        let seen = mounts
            .iter()
            .rfind(|mount| mount.target == Path::new(target));
        let source = seen.map_or("", |mount| mount.source.as_str());
        let digest = source
            .strip_prefix("composefs:")
            .or_else(|| source.strip_prefix("transient:composefs="));
        Ok(digest.and_then(deployment_id))
    }

    fn staged_file(&self) -> Result<Option<StagedFile>, HostError> {
        let Some(text) = self.root.text(STAGED, MAX_STAGED)? else {
            return Ok(None);
        };
        let broken = |found: String| self.root.malformed(STAGED, found);
        let json: serde_json::Map<String, Value> =
            serde_json::from_str(&text).map_err(|error| broken(error.to_string()))?;
        let id = json.get("depl_id").and_then(Value::as_str);
        let id = id
            .and_then(deployment_id)
            .ok_or_else(|| broken("its depl_id is no digest".into()))?;
        let locked = match json.get("finalization_locked") {
            None => false,
            Some(Value::Bool(locked)) => *locked,
            Some(_) => return Err(broken("its finalization_locked is no boolean".into())),
        };
        Ok(Some(StagedFile { id, locked, json }))
    }

    fn menu(&self) -> Result<Vec<BootItem>, HostError> {
        boot_menu(&self.root, &self.sysroot)
    }

    /// The deployments that have state, sorted.
    fn with_state(&self) -> Result<Vec<DeploymentId>, HostError> {
        let names = self.sysroot.names(STATE)?;
        Ok(names
            .iter()
            .filter_map(|name| deployment_id(name))
            .collect())
    }

    /// Whether a deployment may be mounted where the kernel cannot check what
    /// is read: as its kernel arguments say, or those of the running system.
    fn allows_missing_verity(&self, id: &DeploymentId) -> Result<bool, HostError> {
        // What lies broken in the menu may be of another deployment.
        let mut menu = self.menu().unwrap_or_default().into_iter();
        if let Some(item) = menu.find(|item| item.id == *id && item.has_arguments) {
            return Ok(item.allow_missing_verity);
        }
        let arguments = self.root.text(CMDLINE, MAX_STAGED)?.unwrap_or_default();
        let argument = super::boot_entry::argument(&arguments, "composefs");
        Ok(argument.is_some_and(|value| value.starts_with('?')))
    }
}

impl Host for ComposefsHost {
    fn backend(&self) -> Backend {
        Backend::Composefs
    }

    fn deployments(&self) -> Result<Vec<Deployment>, HostError> {
        let booted = self.booted()?;
        let next = self.soft_reboot_target()?;
        let staged = self.staged_file()?;
        let with_state = self.with_state()?;
        let menu: Vec<DeploymentId> = self.menu()?.into_iter().map(|item| item.id).collect();
        let is_staged = |id: &DeploymentId| staged.as_ref().is_some_and(|staged| staged.id == *id);
        // The first of the menu that is neither what runs nor what comes, as
        // bootc has it.
        let rollback = menu.iter().find(|id| {
            let taken = booted.as_ref() == Some(*id) || is_staged(id);
            !taken && with_state.contains(id)
        });
        let rollback = rollback.filter(|_| booted.is_some());
        let mut ids: Vec<&DeploymentId> = Vec::new();
        let staged_first = staged.iter().map(|staged| &staged.id);
        let known = staged_first.chain(&menu).chain(&booted).chain(&with_state);
        for id in known {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        let of = |id: &DeploymentId| Deployment {
            id: id.clone(),
            booted: booted.as_ref() == Some(id),
            staged: is_staged(id),
            rollback: rollback == Some(id),
            pinned: false,
            soft_reboot_target: next.as_ref() == Some(id),
            finalization_locked: staged
                .as_ref()
                .is_some_and(|staged| staged.id == *id && staged.locked),
        };
        Ok(ids.into_iter().map(of).collect())
    }

    fn booted(&self) -> Result<Option<DeploymentId>, HostError> {
        self.mounted_at("/")
    }

    fn staged(&self) -> Result<Option<Staged>, HostError> {
        Ok(self.staged_file()?.map(|staged| Staged {
            id: staged.id,
            finalization_locked: staged.locked,
        }))
    }

    fn soft_reboot_target(&self) -> Result<Option<DeploymentId>, HostError> {
        self.mounted_at(NEXT_ROOT)
    }

    fn open_root(&self, id: &DeploymentId) -> Result<OwnedFd, HostError> {
        let unknown = || HostError::Unknown(id.clone());
        let image: ObjectId = id.as_str().parse().map_err(|_| unknown())?;
        let has_state = self.sysroot.has(Path::new(STATE).join(id.as_str()))?;
        if !has_state && !self.deployments()?.iter().any(|known| known.id == *id) {
            return Err(unknown());
        }
        let view = RepoView::open(&self.repo)?;
        let allow_missing_verity = self.allows_missing_verity(id)?;
        if !view.is_secure() {
            if !allow_missing_verity {
                return Err(HostError::MissingVerity(id.clone()));
            }
            view.check_object(&image)?;
        }
        let how = ImageMount {
            source: format!("composefs:{id}"),
            allow_missing_verity,
            context: None,
            run_dir: &self.run_dir,
        };
        let (mount, _verity) = how.mount(&view, &image).map_err(|error| match error {
            ImageMountError::Repo(error) => error.into(),
            ImageMountError::Mount(source) => HostError::Mount {
                id: id.clone(),
                source,
            },
        })?;
        Ok(mount)
    }

    fn set_finalization_locked(
        &self,
        id: &DeploymentId,
        locked: bool,
        note: Note<'_>,
        still: &dyn Fn() -> bool,
    ) -> Result<bool, HostError> {
        let staged = self.staged_file()?.filter(|staged| staged.id == *id);
        let mut staged = staged.ok_or_else(|| HostError::NotStaged(id.clone()))?;
        if staged.locked == locked {
            return Ok(false);
        }
        staged
            .json
            .insert("finalization_locked".into(), Value::Bool(locked));
        let text = Value::Object(staged.json).to_string();
        // Whoever staged another meanwhile has replaced the file: what is
        // renamed now must still be about this one.
        let is_staged = || -> Result<bool, HostError> {
            Ok(self.staged_file()?.is_some_and(|staged| staged.id == *id))
        };
        let unchanged = || Ok(is_staged()? && still());
        let text = text.as_bytes();
        if self.root.replace(STAGED, text, note, unchanged)? {
            Ok(true)
        } else if is_staged()? {
            Ok(false)
        } else {
            Err(HostError::NotStaged(id.clone()))
        }
    }

    fn is_own(&self, id: &DeploymentId) -> bool {
        deployment_id(id.as_str()).is_some()
    }
}

/// The id that a digest is: of fs-verity with SHA-512, or SHA-256.
pub(super) fn deployment_id(digest: &str) -> Option<DeploymentId> {
    let _image: ObjectId = digest.parse().ok()?;
    digest.parse().ok()
}
