//! `boundstore remove`

use serde_json::json;

use super::{
    Global,
    failure::{Exit, Failure},
    selector::Selector,
};
use crate::{deployment::status, repo::Repo};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The objects stay until the repository's next garbage collection: bootc's, `cfsctl \
    gc`."
)]
pub(super) struct Args {
    /// Whose set is to go: an id, or the host's booted, staged, rollback
    #[arg(long, value_name = "ID|ROLE")]
    deployment: Selector,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    global.make_writable()?;
    let id = &args.deployment.one(global)?;
    let repo = Repo::open(&global.repo(), Repo::LOCK_LIMIT)?;
    for deployment in status(
        &global.host_paths(),
        None,
        Some(std::slice::from_ref(id)),
        None,
    )?
    .deployments
    {
        if let Some(target) = deployment.mounted_at.first() {
            // Another deployment with the same set keeps its objects.
            let set = deployment.set.map(|set| set.set_image);
            let mut others = repo
                .view()
                .deployments()?
                .into_iter()
                .filter(|other| other != id);
            let shared = others.any(|other| {
                repo.view()
                    .set(&other)
                    .ok()
                    .flatten()
                    .map(|other| other.set_image)
                    == set
            });
            if !shared {
                let target = target.display();
                let message = format!(
                    "the set of {id} is mounted at {target}: `boundstore umount {target}` first, \
                     or a garbage collection would take its files away from running containers"
                );
                return Err(Failure::new(Exit::Refused, message));
            }
        }
    }
    let removed = repo.remove(id)?;
    let partial = if repo.view().deployments()?.is_empty() {
        repo.remove_partial()?
    } else {
        0
    };
    let result = json!({ "deployment": id, "removed": removed, "partial_removed": partial });
    global
        .output()
        .result("remove", &result, || match removed {
            true => format!("removed the set of {id}\n"),
            false => format!("{id} has no set\n"),
        })?;
    Ok(Exit::Done)
}
