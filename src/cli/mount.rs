//! `boundstore mount` and `boundstore umount`

use std::{
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{
    Global,
    failure::{Exit, Failure},
    output::count,
    selector::Selector,
};
use crate::{
    bound::Lock,
    deployment::{ExposeError, Mounter, SinceBoot, lack, note_boot, store_label},
    error::with_causes,
    repo::{DeploymentId, RepoError, RepoView},
};

/// Where podman looks for the host's additional image store.
const STORE: &str = "/usr/lib/containers/storage";
/// Where bootc has a store of its own, or an image a folder for ours.
const BOOTC_STORE: &str = "/usr/lib/bootc/storage";
const NO_VERITY: &str = "mounted without fs-verity: nothing checks what containers read";

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Where the set cannot be mounted, an empty, valid store is, so that podman goes on \
    working; the exit status tells."
)]
pub(super) struct MountArgs {
    /// Whose set: an id, or the host's booted, staged, rollback
    #[arg(long, value_name = "ID|ROLE")]
    deployment: Selector,
    /// Where to
    #[arg(default_value = STORE)]
    target: PathBuf,
    /// Leave the target as it is where the set cannot be mounted
    #[arg(long)]
    no_fallback: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct UmountArgs {
    /// Where from
    #[arg(default_value = STORE)]
    target: PathBuf,
    /// Detach it now, though something uses it: that keeps its files until it ends
    #[arg(long)]
    lazy: bool,
}

pub(super) fn mount(global: &Global, args: &MountArgs) -> Result<Exit, Failure> {
    let (config, broken) = global.config();
    let since_boot = SinceBoot::of(&global.host_root);
    let mounter = Mounter {
        run_dir: since_boot.run_dir().to_owned(),
        allow_missing_verity: global.allow_missing_verity || config.allow_missing_verity,
        context: store_label(),
        lock_limit: Mounter::LOCK_LIMIT,
    };
    // What the unit does at boot: the host's own deployment, at the host's own places.
    let at_boot = args.deployment == Selector::Booted && args.target == Path::new(STORE);
    let target = &if at_boot {
        global.at_host(STORE)
    } else {
        args.target.clone()
    };
    let id = args.deployment.one(global);
    let shown = id.and_then(|id| show(global, &mounter, &id, target).map(|()| id));
    match shown {
        Ok(id) if at_boot => {
            // No reason to show bootc's quadlets nothing.
            if let Err(error) = note_boot(&global.host_paths(), &id) {
                let text = with_causes(&error);
                global
                    .output()
                    .warn(&format!("the last veto stays: {text}"));
            }
            if config.boot.bootc_storage {
                show_to_bootc(global, &mounter, &id)?;
            }
        }
        Ok(_) => {}
        Err(failure) => {
            if !args.no_fallback {
                stand_in(global, &mounter, target);
            }
            return Err(failure);
        }
    }
    broken.map_or(Ok(Exit::Done), Err)
}

/// Mounts the set of `id` at `target`, and tells.
fn show(
    global: &Global,
    mounter: &Mounter,
    id: &DeploymentId,
    target: &Path,
) -> Result<(), Failure> {
    let lock = lock_of(global, id)?;
    let mounted = RepoView::open(&global.repo())
        .map_err(ExposeError::from)
        .and_then(|view| mounter.mount(&view, id, lock.as_ref(), target));
    let output = global.output();
    let mounted = match mounted {
        Err(ExposeError::NoSet(_) | ExposeError::Repo(RepoError::Absent(_)))
            if binds_nothing(global, id)? =>
        {
            return show_nothing(global, mounter, id, target);
        }
        mounted => mounted?,
    };
    if !mounted.verity {
        output.warn(NO_VERITY);
    }
    let (set, already) = (&mounted.set, mounted.already);
    let result = json!({
        "deployment": id, "target": target,
        "set_image": set.set_image, "images": set.images.len(), "already": already,
    });
    output.result("mount", &result, || {
        let how = if already {
            "is mounted already"
        } else {
            "mounted"
        };
        let images = count(set.images.len(), "image");
        format!("the set of {id} ({images}) {how} at {}\n", target.display())
    })
}

/// What the set of `id` is locked to, where it is a deployment of this host.
fn lock_of(global: &Global, id: &DeploymentId) -> Result<Option<Lock>, Failure> {
    match global.host()?.filter(|host| host.is_own(id)) {
        Some(host) => Ok(Lock::read(host.open_root(id)?.as_fd())?),
        None => Ok(None),
    }
}

/// Shows that `id` binds no image: not those of another deployment either.
fn show_nothing(
    global: &Global,
    mounter: &Mounter,
    id: &DeploymentId,
    target: &Path,
) -> Result<(), Failure> {
    let already = mounter.mount_empty(target)?;
    let result = json!({
        "deployment": id, "target": target, "set_image": null, "images": 0, "already": already,
    });
    global.output().result("mount", &result, || {
        format!(
            "{id} binds no image: an empty store is at {}\n",
            target.display()
        )
    })
}

/// Whether `id`, which has no set, is one of the host's that needs none.
fn binds_nothing(global: &Global, id: &DeploymentId) -> Result<bool, Failure> {
    let host = global.host()?.filter(|host| host.is_own(id));
    Ok(host.is_some_and(|host| lack(host.as_ref(), &global.repo(), id).is_none()))
}

/// Shows the set where bootc's quadlets look too: only in a folder that the
/// image keeps for it.
fn show_to_bootc(global: &Global, mounter: &Mounter, id: &DeploymentId) -> Result<(), Failure> {
    let target = global.at_host(BOOTC_STORE);
    if target.is_symlink() {
        let message = format!(
            "{BOOTC_STORE} is bootc's link to its own writable store, nothing was mounted there: \
             take bootc-storage out of the configuration, and write in the units\n  \
             GlobalArgs=--storage-opt=additionalimagestore={STORE}\ninstead of\n  \
             GlobalArgs=--storage-opt=additionalimagestore={BOOTC_STORE}"
        );
        return Err(Failure::new(Exit::Refused, message));
    }
    let lock = lock_of(global, id)?;
    let view = RepoView::open(&global.repo())?;
    let mounted = mounter.mount(&view, id, lock.as_ref(), &target)?;
    if !mounted.verity {
        global.output().warn(NO_VERITY);
    }
    Ok(())
}

fn stand_in(global: &Global, mounter: &Mounter, target: &Path) {
    let output = global.output();
    match mounter.stand_in(target) {
        Ok(true) => output.warn("an empty store stands in, so that podman goes on working"),
        Ok(false) => output.warn("what was mounted there stays"),
        Err(error) => {
            let text = with_causes(&error);
            output.warn(&format!("nor could an empty store be mounted: {text}"));
        }
    }
}

pub(super) fn umount(global: &Global, args: &UmountArgs) -> Result<Exit, Failure> {
    let target = &args.target;
    let mounter = Mounter {
        run_dir: SinceBoot::of(&global.host_root).run_dir().to_owned(),
        allow_missing_verity: false,
        context: None,
        lock_limit: Mounter::LOCK_LIMIT,
    };
    mounter.umount(target, args.lazy)?;
    let result = json!({ "target": target });
    let text = || format!("unmounted {}\n", target.display());
    global.output().result("umount", &result, text)?;
    Ok(Exit::Done)
}
