//! `boundstore gc`

use std::{path::PathBuf, time::Duration};

use serde::Serialize;

use super::{
    Global,
    failure::{Exit, Failure},
    output::{bytes, count},
};
use crate::{
    deployment::{GcInputs, GcPlan, GcVerdict, Owner, SinceBoot, Taken, last_veto, plan_gc},
    name::ObjectId,
    repo::{Collector, Repo, RepoView},
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "What stays: the sets of all deployments of the host, of ids that were given by hand, \
    and what was mounted since boot; for a week also what an unfinished sync has brought. Where the \
    host boots from this repository, objects are left to the host's own garbage collection."
)]
pub(super) struct Args {
    /// Only tell what would go, what stays, and why; takes no lock
    #[arg(long)]
    dry_run: bool,
    /// How long to try for the repository's lock
    #[arg(long, value_name = "SECONDS", default_value_t = Repo::LOCK_LIMIT.as_secs())]
    wait: u64,
}

#[derive(Debug, Serialize)]
struct Document {
    repository: PathBuf,
    dry_run: bool,
    collected_by: Owner,
    goes: Vec<GcVerdict>,
    stays: Vec<GcVerdict>,
    kept: Vec<ObjectId>,
    streams: usize,
    objects: Option<u64>,
    bytes: Option<u64>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let path = global.repo();
    let host = global.host()?;
    let host = host.as_deref();
    let since_boot = SinceBoot::of(&global.host_root);
    let owner = Owner::of(host, &path, &global.sysroot);
    let look = |view: &RepoView| -> Result<GcPlan, Failure> {
        let vetoed = last_veto(&global.host_paths())?.map(|veto| veto.deployment);
        let inputs = GcInputs::gather(view, host, &since_boot, vetoed, owner)?;
        Ok(plan_gc(&inputs))
    };
    let (document, taken);
    if args.dry_run {
        let view = RepoView::open(&path)?;
        let plan = look(&view)?;
        taken = plan.preview(&view)?;
        document = Document::new(path, true, &plan);
    } else {
        global.make_writable()?;
        let collector = Collector::open(&path, Duration::from_secs(args.wait))?;
        let plan = look(collector.repo().view())?;
        document = Document::new(path, false, &plan);
        taken = plan.execute(collector, &since_boot)?;
    }
    let document = document.with(&taken);
    global
        .output()
        .result("gc", &document, || human(&document))?;
    Ok(Exit::Done)
}

impl Document {
    fn new(repository: PathBuf, dry_run: bool, plan: &GcPlan) -> Self {
        Self {
            repository,
            dry_run,
            collected_by: plan.owner,
            goes: plan.goes.clone(),
            stays: plan.stays.clone(),
            kept: plan.kept.iter().copied().collect(),
            streams: 0,
            objects: None,
            bytes: None,
        }
    }

    fn with(self, taken: &Taken) -> Self {
        Self {
            streams: taken.streams.len(),
            objects: taken.objects.map(|(objects, _)| objects),
            bytes: taken.objects.map(|(_, bytes)| bytes),
            ..self
        }
    }
}

fn human(document: &Document) -> String {
    let mut text = String::new();
    for (word, verdicts) in [("goes", &document.goes), ("stays", &document.stays)] {
        for verdict in verdicts {
            let path = verdict.path.strip_prefix("boundstore");
            let path = path.unwrap_or(&verdict.path).display();
            text += &format!("{word:<5} {path}: {}\n", verdict.message);
        }
    }
    for set_image in &document.kept {
        text += &format!("stays {set_image}: it was mounted since boot and has no other ref\n");
    }
    let would = if document.dry_run {
        "would free"
    } else {
        "freed"
    };
    text += &match (document.objects, document.bytes) {
        (Some(objects), Some(size)) => {
            let objects = count(usize::try_from(objects).unwrap_or(usize::MAX), "object");
            format!("{would} {objects}, {}\n", bytes(size))
        }
        _ => "objects are left to the host's own garbage collection\n".to_owned(),
    };
    text
}
