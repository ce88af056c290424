//! `boundstore verify`

use super::{
    Global, bootc,
    escape::value,
    failure::{Exit, Failure},
    output::{bytes, count},
    repair,
    selector::Selector,
    transfer::Transfer,
};
use crate::{
    repo::RepoView,
    source::SourceRef,
    verify::{Problem, Usage, Verified, verify},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Without --repair, takes no lock and writes nothing. \
    Exit status 3 where anything is bad, or lost.")]
pub(super) struct Args {
    /// Only this deployment's set: an id, or the host's booted, staged, rollback, all
    #[arg(long, value_name = "ID|ROLE")]
    deployment: Option<Selector>,
    /// Read and hash every object
    #[arg(long)]
    pub(super) deep: bool,
    /// Mend what is bad: fetch exactly that again, mount anew where it was shown
    #[arg(long)]
    repair: bool,
    /// Ask this source first, for every image it holds
    #[arg(long, value_name = "SOURCE", requires = "repair")]
    pub(super) from: Vec<SourceRef>,
    #[command(flatten)]
    pub(super) transfer: Transfer,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let output = global.output();
    let only = Selector::only(args.deployment.as_ref(), global)?;
    bootc::compare(global);
    let progress = |done: usize, all: usize| {
        if args.deep && done.is_multiple_of(5000) && done < all {
            output.say(&format!("checked {done} of {all} objects"));
        }
    };
    if args.repair {
        return repair::run(global, args, only.as_deref(), &progress);
    }
    let view = RepoView::open(&global.repo())?;
    let verified = verify(&view, only.as_deref(), args.deep, &progress)?;
    output.result("verify", &verified, || human(&verified))?;
    Ok(if verified.is_healthy() {
        Exit::Done
    } else {
        Exit::Unhealthy
    })
}

fn human(verified: &Verified) -> String {
    let objects = count(verified.objects, "object");
    let how = match (verified.deep, verified.secure) {
        (true, _) => format!("{} read and hashed", bytes(verified.bytes_hashed)),
        (false, true) => "each present and sealed with its own name".to_owned(),
        (false, false) => "each present; --deep reads them".to_owned(),
    };
    let mut text = format!(
        "repository {}: {objects}, {how}\n",
        verified.repository.display()
    );
    for deployment in &verified.deployments {
        if deployment.problems.is_empty() {
            text += &format!("deployment {}: ok\n", deployment.id);
            continue;
        }
        let problems = count(deployment.problems.len(), "problem");
        text += &format!("deployment {}: {problems}\n", deployment.id);
        for problem in &deployment.problems {
            text += &explain(problem);
        }
    }
    text
}

pub(super) fn explain(problem: &Problem) -> String {
    let mut text = format!("  {}\n", value(&problem.message));
    for usage in &problem.used_as {
        text += &match usage {
            Usage::SetImage => "    it is the set image\n".to_owned(),
            Usage::File { image, layer, path } => {
                let path = value(path);
                format!("    it is {path} of {image}, layer {layer}\n")
            }
            Usage::Layer { image, layer } => {
                format!("    it is a part of the layer {layer} of {image}\n")
            }
        };
    }
    text
}
