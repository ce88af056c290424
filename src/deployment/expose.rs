//! Exposing a set: the mount that podman sees.

use std::{
    collections::BTreeSet,
    io::Read,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;

use super::{
    image_mount::{ImageMount, ImageMountError},
    since_boot,
};
use crate::{
    bound::Lock,
    error::{Doing, PathError, with_causes},
    name::ObjectId,
    repo::{DeploymentId, RepoError, RepoView, SetRecord},
    sys::{self, DirLock, MountEntry, MountError, Unmount},
};

/// How sets are mounted on this host.
#[derive(Debug, Clone)]
pub struct Mounter {
    /// A directory of ours below `/run`.
    pub run_dir: PathBuf,
    /// Whether a set may be mounted that the kernel does not check.
    pub allow_missing_verity: bool,
    /// The `context=` mount option, where SELinux is on.
    pub context: Option<String>,
    /// How long another that mounts or unmounts is waited for.
    pub lock_limit: Duration,
}

/// Why a set could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum ExposeError {
    /// The deployment has no set.
    #[error("deployment {0} has no published set: run `boundstore sync --deployment {0}` first")]
    NoSet(DeploymentId),
    /// The deployment's lock file names another set image.
    #[error(
        "the set of {deployment} is {found}, but its lock file says {locked}: \
         run `boundstore sync --deployment {deployment}`"
    )]
    NotLocked {
        /// The deployment.
        deployment: DeploymentId,
        /// What the lock says.
        locked: ObjectId,
        /// What is published.
        found: ObjectId,
    },
    /// The repository has no fs-verity.
    #[error(
        "the repository {} has no fs-verity, so the kernel cannot check what containers read: \
         --allow-missing-verity mounts all the same", .0.display()
    )]
    MissingVerity(PathBuf),
    /// The repository is damaged or cannot be read.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The kernel refused.
    #[error("mount the set image {set_image}")]
    Mount {
        /// The set image.
        set_image: ObjectId,
        /// Why.
        source: MountError,
    },
    /// The kernel mounted it, but it cannot be read.
    #[error("the set image {set_image} was mounted, but {file} in it cannot be read")]
    Unreadable {
        /// The set image.
        set_image: ObjectId,
        /// Which file.
        file: String,
        /// Why.
        source: PathError,
    },
    /// The mount point is no directory.
    #[error("{} cannot be a mount point: make it a directory", .0.display())]
    NoDirectory(PathBuf),
    /// Another mount is under way.
    #[error("another boundstore is mounting, and holds {} for over {waited_secs} s: try again later", path.display())]
    Busy {
        /// Whose lock.
        path: PathBuf,
        /// How long it was tried.
        waited_secs: u64,
    },
    /// Nothing of ours is mounted there.
    #[error("nothing of boundstore's is mounted at {}", .0.display())]
    NotMounted(PathBuf),
    /// A file or mount could not be handled.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Unmounting or mounting the empty store failed.
    #[error(transparent)]
    Kernel(#[from] MountError),
}

/// What is mounted at a place, as the mount table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposed {
    /// A set.
    Set {
        /// Its set image.
        set_image: ObjectId,
        /// Whether the kernel checks each object.
        verity: bool,
    },
    /// The empty store.
    Empty,
}

/// What is mounted after [`Mounter::mount`].
#[derive(Debug, Clone)]
pub struct Mounted {
    /// The deployment's set.
    pub set: SetRecord,
    /// Whether it was there already.
    pub already: bool,
    /// Whether the kernel checks each object.
    pub verity: bool,
}

/// A place where a set was shown whose objects were mended.
#[derive(Debug, Clone, Serialize)]
pub struct Exchanged {
    /// Where.
    pub target: PathBuf,
    /// The set image.
    pub set_image: ObjectId,
    /// Why the old mount is still there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

pub(super) const SOURCE: &str = "boundstore:";
const EMPTY: &str = "boundstore:empty";

impl Mounter {
    /// How long another is waited for where nobody says; a mount takes a
    /// fraction of a second.
    pub const LOCK_LIMIT: Duration = Duration::from_secs(30);

    /// Mounts a deployment's set at `target`, in place of another of ours that
    /// is there, with no moment without either. Nothing is seen before the set
    /// has been measured, mounted and read from.
    ///
    /// Where the deployment has a `lock`, no other set image is shown than the
    /// one that it names. Takes no repository lock.
    ///
    /// # Errors
    /// See [`ExposeError`]; `target` is as it was then.
    ///
    /// That the set was mounted is noted before, in a marker below
    /// [`Mounter::run_dir`]: it stays until reboot, see [`super::SinceBoot`].
    pub fn mount(
        &self,
        view: &RepoView,
        deployment: &DeploymentId,
        lock: Option<&Lock>,
        target: &Path,
    ) -> Result<Mounted, ExposeError> {
        let locked = lock.map(|lock| lock.set_image.of(view.algorithm()));
        let _alone = alone(&self.run_dir, self.lock_limit)?;
        loop {
            let set = view
                .set(deployment)?
                .ok_or_else(|| ExposeError::NoSet(deployment.clone()))?;
            if let Some(locked) = locked
                && locked != set.set_image
            {
                return Err(ExposeError::NotLocked {
                    deployment: deployment.clone(),
                    locked,
                    found: set.set_image,
                });
            }
            if !target.is_dir() {
                return Err(ExposeError::NoDirectory(target.to_owned()));
            }
            if let Some(mounted) = self.mount_set(view, deployment, set, target)? {
                return Ok(mounted);
            }
        }
    }

    /// Mounts the empty store at `target`, in place of what of ours is seen
    /// there; says whether it was there already.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn mount_empty(&self, target: &Path) -> Result<bool, ExposeError> {
        let _alone = alone(&self.run_dir, self.lock_limit)?;
        let seen = exposed_at(target)?;
        if seen == Some(Exposed::Empty) {
            return Ok(true);
        }
        place_empty(target, seen.is_some())?;
        Ok(false)
    }

    /// Mounts the empty store at `target` where nothing of ours is seen there,
    /// and says whether it did: a host without any store at its configured
    /// place is a host whose podman fails.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn stand_in(&self, target: &Path) -> Result<bool, ExposeError> {
        // Also where /run cannot be written, or another mount hangs.
        let _alone = alone(&self.run_dir, self.lock_limit).ok();
        if exposed_at(target)?.is_some() {
            return Ok(false);
        }
        place_empty(target, false)?;
        Ok(true)
    }

    /// Unmounts all of ours that is at `target`, while nobody mounts.
    ///
    /// # Errors
    /// [`ExposeError::NotMounted`] where nothing of ours is seen there, and
    /// [`MountError::Busy`] where something uses it and `lazy` is not asked for.
    pub fn umount(&self, target: &Path, lazy: bool) -> Result<(), ExposeError> {
        let _alone = alone(&self.run_dir, self.lock_limit)?;
        let how = if lazy { Unmount::Lazy } else { Unmount::IfIdle };
        let mut found = false;
        while exposed_at(target)?.is_some() {
            sys::unmount(target, how)?;
            found = true;
        }
        if found {
            Ok(())
        } else {
            Err(ExposeError::NotMounted(target.to_owned()))
        }
    }

    /// Mounts each set anew that is shown somewhere and whose mount uses one of
    /// `mended` objects: a live mount goes on giving what it has opened before.
    /// There is no moment without a set; containers that run keep the old mount
    /// until they are started again.
    ///
    /// # Errors
    /// The mount table or the lock; what hinders one exchange is told in it.
    pub fn exchange(
        &self,
        view: &RepoView,
        mended: &BTreeSet<ObjectId>,
    ) -> Result<Vec<Exchanged>, ExposeError> {
        let _alone = alone(&self.run_dir, self.lock_limit)?;
        let table = sys::mount_table()?;
        let targets: BTreeSet<&PathBuf> = table.iter().map(|mount| &mount.target).collect();
        let mut exchanged = Vec::new();
        for target in targets {
            let Some(Exposed::Set { set_image, .. }) = exposed_in(&table, target) else {
                continue;
            };
            // One of another repository.
            let Ok(set) = view.set_of(&set_image) else {
                continue;
            };
            let pin = view.pin_parts(&set)?;
            if pin.objects.iter().any(|id| mended.contains(id)) {
                let again = self.assemble(view, &set);
                let placed = again.and_then(|(mount, _)| place_set(&mount, &set, target, true));
                let error = placed.err();
                exchanged.push(Exchanged {
                    target: target.clone(),
                    set_image,
                    error: error.map(|error| with_causes(&error)),
                });
            }
        }
        Ok(exchanged)
    }

    /// Mounts this set of the deployment; nothing where it has another by now.
    fn mount_set(
        &self,
        view: &RepoView,
        deployment: &DeploymentId,
        set: SetRecord,
        target: &Path,
    ) -> Result<Option<Mounted>, ExposeError> {
        let seen = exposed_at(target)?;
        if let Some(Exposed::Set { set_image, verity }) = seen
            && set_image == set.set_image
        {
            since_boot::record(&self.run_dir, view, &set_image)?;
            return Ok(Some(Mounted {
                set,
                already: true,
                verity,
            }));
        }
        if !view.is_secure() && !self.allow_missing_verity {
            return Err(ExposeError::MissingVerity(view.path().to_owned()));
        }
        let (mount, verity) = self.assemble(view, &set)?;
        // From here on whoever takes the ref away keeps the set, unless that
        // has happened before.
        since_boot::record(&self.run_dir, view, &set.set_image)?;
        if view.set_image_of(deployment)? != Some(set.set_image) {
            return Ok(None);
        }
        place_set(&mount, &set, target, seen.is_some())?;
        Ok(Some(Mounted {
            set,
            already: false,
            verity,
        }))
    }

    /// The detached mount, from which podman can read, and whether the kernel
    /// checks what is read.
    fn assemble(&self, view: &RepoView, set: &SetRecord) -> Result<(OwnedFd, bool), ExposeError> {
        let set_image = &set.set_image;
        if !view.is_secure() {
            view.check_object(set_image)?;
        }
        let how = ImageMount {
            source: format!("{SOURCE}{set_image}"),
            allow_missing_verity: self.allow_missing_verity,
            context: self.context.clone(),
            run_dir: &self.run_dir,
        };
        let mounted = how.mount(view, set_image).map_err(|error| match error {
            ImageMountError::Repo(error) => error.into(),
            ImageMountError::Mount(source) => ExposeError::Mount {
                set_image: *set_image,
                source,
            },
        })?;
        read_once(&mounted.0, set)?;
        Ok(mounted)
    }
}

/// Two at once would each find the other's half-done swap.
fn alone(run_dir: &Path, limit: Duration) -> Result<DirLock, ExposeError> {
    std::fs::create_dir_all(run_dir).doing("create", run_dir)?;
    let lock = DirLock::exclusive(run_dir, limit)?;
    lock.ok_or_else(|| ExposeError::Busy {
        path: run_dir.to_owned(),
        waited_secs: limit.as_secs(),
    })
}

/// Shows a mount at `target`. One of ours that is seen there is uncovered from
/// above, never taken away first: the new one goes in beneath it where the
/// kernel can (Linux 6.5), else on top, and then the old one stays below.
/// Containers keep what they have of the old one.
fn place(mount: &OwnedFd, target: &Path, replaces_ours: bool) -> Result<(), MountError> {
    if replaces_ours && sys::attach_beneath(mount, target).is_ok() {
        return sys::unmount(target, Unmount::Lazy);
    }
    sys::attach(mount, target)
}

fn place_set(
    mount: &OwnedFd,
    set: &SetRecord,
    target: &Path,
    replaces_ours: bool,
) -> Result<(), ExposeError> {
    place(mount, target, replaces_ours).map_err(|source| ExposeError::Mount {
        set_image: set.set_image,
        source,
    })
}

fn place_empty(target: &Path, replaces_ours: bool) -> Result<(), ExposeError> {
    if !target.is_dir() {
        return Err(ExposeError::NoDirectory(target.to_owned()));
    }
    let mount = sys::mount_tmpfs(EMPTY, fill_empty)?;
    Ok(place(&mount, target, replaces_ours)?)
}

/// Reads what podman reads first, and the head of one object: a kernel that
/// has no fs-verity accepts `verity=require` and then fails every open.
fn read_once(mount: impl AsFd, set: &SetRecord) -> Result<(), ExposeError> {
    let mut files = vec![
        "overlay-images/images.json".to_owned(),
        "overlay-layers/layers.json".to_owned(),
        "overlay-images/images.lock".to_owned(),
        "overlay-layers/layers.lock".to_owned(),
    ];
    let layers = set.images.iter().find(|image| !image.layers.is_empty());
    if let Some(base) = layers.and_then(|image| image.layers.first()) {
        files.push(format!("overlay-layers/{}.tar-split.gz", base.hex()));
    }
    for file in files {
        let read = sys::open_file_at(&mount, &file).and_then(|mut opened| {
            let mut head = [0; 512];
            opened.read(&mut head).doing("read", &file)
        });
        if let Err(source) = read {
            return Err(ExposeError::Unreadable {
                set_image: set.set_image,
                file,
                source,
            });
        }
    }
    Ok(())
}

/// What of ours is seen at `target`.
///
/// # Errors
/// The mount table cannot be read.
pub fn exposed_at(target: &Path) -> Result<Option<Exposed>, PathError> {
    let target = target.canonicalize().unwrap_or_else(|_| target.to_owned());
    Ok(exposed_in(&sys::mount_table()?, &target))
}

/// What of ours is seen at `target`, a path without symlinks, by a mount table.
/// What another mount hides, at a folder above, is not seen.
pub(super) fn exposed_in(table: &[MountEntry], target: &Path) -> Option<Exposed> {
    let seen = match sys::mount_id(target).ok()? {
        Some(id) => table
            .iter()
            .find(|mount| mount.id == id && mount.target == target),
        None => sys::top_mount(table, target),
    };
    exposed_as(seen?)
}

/// What of ours a mount shows.
pub(super) fn exposed_as(mount: &MountEntry) -> Option<Exposed> {
    if mount.source == EMPTY {
        return Some(Exposed::Empty);
    }
    let set_image = mount.source.strip_prefix(SOURCE)?.parse().ok()?;
    Some(Exposed::Set {
        set_image,
        verity: mount.options.contains("verity=require"),
    })
}

/// The files of the empty store: what podman needs to find no image in it.
pub const EMPTY_STORE: [&str; 4] = [
    "overlay-images/images.lock",
    "overlay-layers/layers.lock",
    "vfs-images/images.lock",
    "vfs-layers/layers.lock",
];

/// Fills the empty, valid store: it needs no repository, no EROFS and no
/// fs-verity, and keeps podman working where a set cannot be mounted.
fn fill_empty(mount: &OwnedFd) -> Result<(), PathError> {
    sys::create_dir_all_at(mount, "overlay/l")?;
    for file in EMPTY_STORE {
        let path = Path::new(file);
        if let Some(folder) = path.parent() {
            sys::create_dir_all_at(mount, folder)?;
        }
        sys::create_file_at(mount, path)?;
    }
    Ok(())
}
