//! `boundstore images`

use serde::Serialize;

use super::{
    Global,
    failure::{Exit, Failure},
    output::bytes,
    selector::Selector,
};
use crate::repo::{DeploymentId, RepoView, SetImageRecord};

#[derive(Debug, clap::Args)]
#[command(after_help = "From files alone: takes no lock and starts no program.")]
pub(super) struct Args {
    /// Only this deployment's: an id, or the host's booted, staged, rollback, all
    #[arg(long, value_name = "ID|ROLE")]
    deployment: Option<Selector>,
}

#[derive(Debug, Serialize)]
struct Row {
    deployment: DeploymentId,
    #[serde(flatten)]
    image: SetImageRecord,
}

#[derive(Debug, Serialize)]
struct Images {
    images: Vec<Row>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let view = RepoView::open(&global.repo())?;
    let ids = match Selector::only(args.deployment.as_ref(), global)? {
        Some(ids) => ids,
        None => view.deployments()?,
    };
    let mut images = Vec::new();
    for id in ids {
        let set = view.set(&id)?;
        if set.is_none() && matches!(args.deployment, Some(Selector::Id(_))) {
            let message =
                format!("deployment {id} has no set: `boundstore sync --deployment {id}`");
            return Err(Failure::new(Exit::Failed, message));
        }
        for image in set.into_iter().flat_map(|set| set.images) {
            images.push(Row {
                deployment: id.clone(),
                image,
            });
        }
    }
    let images = Images { images };
    global
        .output()
        .result("images", &images, || human(&images))?;
    Ok(Exit::Done)
}

fn human(images: &Images) -> String {
    let mut text = String::new();
    for Row { deployment, image } in &images.images {
        let id = &image.config_digest.hex()[..12];
        text += &format!(
            "{deployment}  {}  {id}  {}\n",
            image.name,
            bytes(image.bytes)
        );
    }
    text
}
