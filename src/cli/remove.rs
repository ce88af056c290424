//! `boundstore remove`

use std::time::Duration;

use serde_json::json;

use super::{
    Global,
    failure::{Exit, Failure},
    selector::Selector,
};
use crate::{deployment::SinceBoot, repo::Repo};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The objects stay until a garbage collection: `boundstore gc`, bootc's, `cfsctl gc`. \
    Those of a set that was mounted since boot stay until the next boot."
)]
pub(super) struct Args {
    /// Whose set is to go: an id, or the host's booted, staged, rollback
    #[arg(long, value_name = "ID|ROLE")]
    deployment: Selector,
    /// How long to try for the repository's lock
    #[arg(long, value_name = "SECONDS", default_value_t = Repo::LOCK_LIMIT.as_secs())]
    wait: u64,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    global.make_writable()?;
    let id = &args.deployment.one(global)?;
    let repo = Repo::open(&global.repo(), Duration::from_secs(args.wait))?;
    let since_boot = SinceBoot::of(&global.host_root);
    let (removed, kept) = since_boot.keeping(&repo, id, || repo.remove(id))?;
    let partial = if repo.view().deployments()?.is_empty() {
        repo.remove_partial()?
    } else {
        0
    };
    // Nobody has to wait until this is read.
    drop(repo);
    let result = json!({ "deployment": id, "removed": removed, "partial_removed": partial });
    global
        .output()
        .result("remove", &result, || match removed {
            true => format!("removed the set of {id}\n"),
            false => format!("{id} has no set\n"),
        })?;
    if kept {
        let message = "it was mounted since boot: its files stay until the next one, \
                       for containers that run from it";
        global.output().say(message);
    }
    Ok(Exit::Done)
}
