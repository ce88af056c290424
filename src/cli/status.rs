//! `boundstore status`

use super::{
    Global,
    failure::{Exit, Failure},
    output::bytes,
};
use crate::{
    deployment::{Status, status},
    repo::{DeploymentId, RepoView},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "From files alone: takes no lock and starts no program.")]
pub(super) struct Args {
    /// Only this deployment
    #[arg(long, value_name = "ID")]
    deployment: Option<DeploymentId>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let view = RepoView::open(&global.repo())?;
    let status = status(&view, args.deployment.as_ref())?;
    global
        .output()
        .result("status", &status, || human(&status))?;
    let healthy = status
        .deployments
        .iter()
        .all(|deployment| deployment.is_healthy());
    Ok(if healthy { Exit::Done } else { Exit::Unhealthy })
}

fn human(status: &Status) -> String {
    let verity = if status.secure {
        "fs-verity"
    } else {
        "no fs-verity"
    };
    let mut text = format!("repository {} ({verity})\n", status.repository.display());
    if status.deployments.is_empty() {
        text += "no deployment has a set: run `boundstore sync`\n";
    }
    for deployment in &status.deployments {
        text += &format!("\ndeployment {}\n", deployment.id);
        if let Some(set) = &deployment.set {
            let size = bytes(set.set_image_bytes);
            text += &format!("  set image {} ({size})\n", set.set_image);
            for image in &set.images {
                let (name, digest) = (&image.name, &image.manifest_digest);
                text += &format!("  {name}  {digest}  {}\n", bytes(image.bytes));
            }
        }
        for condition in &deployment.conditions {
            let mark = if condition.status { "yes" } else { "no" };
            text += &format!("  {:<9} {mark:<4} {}\n", condition.kind, condition.message);
        }
    }
    text
}
