//! `boundstore status`

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    Global,
    escape::value,
    failure::{Exit, Failure},
    output::bytes,
    primary::read_primary,
    selector::Selector,
};
use crate::deployment::{DeploymentStatus, Status, status};

#[derive(Debug, clap::Args)]
#[command(after_help = "From files alone: takes no lock of the repository and starts no program.")]
pub(super) struct Args {
    /// Only this deployment: an id, or the host's booted, staged, rollback, all
    #[arg(long, value_name = "ID|ROLE")]
    deployment: Option<Selector>,
    /// Wait until all is well, at most this long
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
}

/// How long a podman that writes to its store is waited for.
const LOCK_LIMIT: Duration = Duration::from_millis(100);
/// Looking costs a few milliseconds.
const PAUSE: Duration = Duration::from_millis(250);

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let limit = Duration::from_secs(args.wait.unwrap_or(0));
    let begun = Instant::now();
    loop {
        let looked = look(global, args);
        let well = looked.as_ref().is_ok_and(Status::is_healthy);
        if !well && begun.elapsed() < limit {
            sleep(PAUSE.min(limit - begun.elapsed().min(limit)));
            continue;
        }
        let status = looked?;
        let output = global.output();
        output.result("status", &status, || human(&status))?;
        return Ok(if well { Exit::Done } else { Exit::Unhealthy });
    }
}

fn look(global: &Global, args: &Args) -> Result<Status, Failure> {
    let only = Selector::only(args.deployment.as_ref(), global)?;
    let host = global.host()?;
    let primary = read_primary(global, LOCK_LIMIT);
    let (host, only) = (host.as_deref(), only.as_deref());
    Ok(status(&global.host_paths(), host, only, Some(&primary))?)
}

fn human(status: &Status) -> String {
    let verity = if status.secure {
        "fs-verity"
    } else {
        "no fs-verity"
    };
    let mut text = format!("repository {} ({verity})\n", status.repository.display());
    for problem in &status.problems {
        text += &format!("Problem: {}\n", value(problem));
    }
    if status.deployments.is_empty() {
        text += "no deployment has a set: run `boundstore sync`\n";
    }
    for deployment in &status.deployments {
        text += &human_deployment(deployment);
    }
    text
}

fn human_deployment(deployment: &DeploymentStatus) -> String {
    let roles: Vec<&str> = deployment
        .roles
        .iter()
        .filter_map(|role| role.word())
        .collect();
    let roles = match roles.join(", ") {
        roles if roles.is_empty() => roles,
        roles => format!(" ({roles})"),
    };
    let mut text = format!("\ndeployment {}{roles}\n", deployment.id);
    if let Some(set) = &deployment.set {
        let size = bytes(set.set_image_bytes);
        text += &format!("  set image {} ({size})\n", set.set_image);
        for image in &set.images {
            let (name, digest) = (&image.name, &image.manifest_digest);
            text += &format!("  {name}  {digest}  {}\n", bytes(image.bytes));
        }
        for image in &set.kept {
            let (name, digest) = (&image.name, &image.manifest_digest);
            text += &format!("  kept for its users: {digest}, once {name}\n");
        }
    }
    if let Some(error) = &deployment.last_error {
        text += &format!("  the last sync failed: {}\n", value(error));
    }
    for condition in &deployment.conditions {
        let mark = if condition.status { "yes" } else { "no" };
        let kind = format!("{:?}", condition.kind);
        text += &format!("  {kind:<14} {mark:<4} {}\n", value(&condition.message));
    }
    text
}
