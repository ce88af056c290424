//! `boundstore mount` and `boundstore umount`

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{
    Global,
    failure::{Exit, Failure},
    output::count,
    selector::Selector,
};
use crate::{
    deployment::{ExposeError, Mounter, exposed_at, mount_empty, store_label, umount as unmount},
    repo::RepoView,
};

/// Where podman looks for the host's additional image store.
const STORE: &str = "/usr/lib/containers/storage";

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
    let mounter = Mounter {
        run_dir: "/run/boundstore".into(),
        allow_missing_verity: global.allow_missing_verity,
        context: store_label(),
    };
    let target = &args.target;
    let id = args.deployment.one(global)?;
    let mounted = RepoView::open(&global.repo())
        .map_err(ExposeError::from)
        .and_then(|view| mounter.mount(&view, &id, target));
    let output = global.output();
    match mounted {
        Ok(mounted) => {
            if !mounted.verity {
                output.warn("mounted without fs-verity: nothing checks what containers read");
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
            })?;
            Ok(Exit::Done)
        }
        Err(error) => {
            if !args.no_fallback {
                stand_in(global, target);
            }
            Err(error.into())
        }
    }
}

/// Puts the empty store where nothing of ours is: a host without any store at
/// its configured place is a host whose podman fails.
fn stand_in(global: &Global, target: &Path) {
    let output = global.output();
    match exposed_at(target) {
        Ok(Some(_)) => output.warn("what was mounted there stays"),
        _ => match mount_empty(target) {
            Ok(()) => output.warn("an empty store stands in, so that podman goes on working"),
            Err(error) => output.warn(&format!("nor could an empty store be mounted: {error}")),
        },
    }
}

pub(super) fn umount(global: &Global, args: &UmountArgs) -> Result<Exit, Failure> {
    let target = &args.target;
    unmount(target, args.lazy)?;
    let result = json!({ "target": target });
    let text = || format!("unmounted {}\n", target.display());
    global.output().result("umount", &result, text)?;
    Ok(Exit::Done)
}
