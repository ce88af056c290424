//! `boundstore sync`

use std::{os::fd::AsFd, path::PathBuf};

use serde_json::json;

use super::{
    Global,
    failure::{Exit, Failure},
    output::{Output, bytes},
    source::Layouts,
};
use crate::{
    bound::{self, BoundImage, Scan},
    deployment::{SyncEvent, Synced, Syncer},
    import::ImportLimits,
    name::{Algorithm, Platform},
    repo::{DeploymentId, NewRepo},
    source::{SourceRef, Wanted},
    sys,
};

/// Which images a deployment is bound to is told by the folders
/// usr/lib/bootc/bound-images.d and usr/lib/boundstore/bound-images.d below
/// --root, and by --image.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The root file tree of the deployment
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Whose set this is: any name of [A-Za-z0-9._-]
    #[arg(long, value_name = "ID")]
    deployment: DeploymentId,
    /// An image, and where to take it from if not from its registry
    #[arg(long = "image", value_name = "NAME[=SOURCE]")]
    images: Vec<String>,
    /// Ask this source first, for every image it holds
    #[arg(long, value_name = "SOURCE")]
    from: Vec<SourceRef>,
    /// For this platform, not the host's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Refuse layers that unpack to more bytes than this
    #[arg(long, value_name = "BYTES", default_value_t = ImportLimits::default().max_bytes)]
    max_size: u64,
    /// Refuse layers with more entries than this
    #[arg(long, value_name = "COUNT", default_value_t = ImportLimits::default().max_entries)]
    max_entries: u64,
    /// Only tell what would be fetched; write nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(global: &Global, args: Args) -> Result<Exit, Failure> {
    let output = global.output();
    let wanted = wanted(&args, &output)?;
    if wanted.is_empty() {
        output.warn("no image is bound: the set will be empty");
    }
    let supply = Layouts::default();
    let observer = |event: SyncEvent<'_>| tell(&output, &event);
    let syncer = Syncer {
        repo: global.repo(),
        create: Some(NewRepo {
            algorithm: Algorithm::Sha512,
            insecure: global.allow_missing_verity,
        }),
        limits: ImportLimits {
            max_bytes: args.max_size,
            max_entries: args.max_entries,
        },
        supply: &supply,
        observer: &observer,
    };
    let synced = if args.dry_run {
        syncer.dry_run(&args.deployment, &wanted)?
    } else {
        syncer.sync(&args.deployment, &wanted)?
    };
    report(&output, &args, &synced)?;
    Ok(Exit::Done)
}

fn wanted(args: &Args, output: &Output) -> Result<Vec<Wanted>, Failure> {
    let scan = match &args.root {
        Some(root) => bound::scan(sys::open_dir(root)?.as_fd())?,
        None => Scan::default(),
    };
    let scan = scan.with_command_line(&args.images)?;
    for warning in &scan.warnings {
        output.warn(&warning.to_string());
    }
    scan.images
        .into_iter()
        .map(|image| one_wanted(image, args))
        .collect()
}

fn one_wanted(image: BoundImage, args: &Args) -> Result<Wanted, Failure> {
    let source = image.source.as_deref().map(str::parse).transpose();
    let source = source.map_err(|error| Failure::new(Exit::Usage, error))?;
    let mut wanted = Wanted::new(image.name);
    wanted.source = source;
    wanted.auth_file = image.auth_file;
    if let Some(platform) = &args.platform {
        wanted.platform = platform.clone();
    }
    Ok(wanted)
}

fn tell(output: &Output, event: &SyncEvent<'_>) {
    match event {
        SyncEvent::Resolved(image) => {
            output.detail(&format!("{} is {}", image.name, image.manifest_digest));
        }
        SyncEvent::Importing {
            name,
            layer,
            of,
            blob_bytes,
        } => {
            output.say(&format!(
                "{name}: layer {} of {of}, {}",
                layer + 1,
                bytes(*blob_bytes)
            ));
        }
        SyncEvent::Rendering => output.detail("squashing"),
    }
}

fn report(output: &Output, args: &Args, synced: &Synced) -> Result<(), Failure> {
    let id = &args.deployment;
    let result = json!({
        "deployment": id,
        "dry_run": args.dry_run,
        "unchanged": synced.unchanged,
        "set_image": synced.set.as_ref().map(|set| set.set_image),
        "set_image_bytes": synced.set.as_ref().map(|set| set.set_image_bytes),
        "images": synced.set.as_ref().map(|set| &set.images),
        "layers_imported": synced.layers_imported,
        "layers_reused": synced.layers_reused,
        "bytes_fetched": synced.bytes_fetched,
        "dropped": synced.dropped.total(),
    });
    output.result("sync", &result, || {
        let fetched = bytes(synced.bytes_fetched);
        let (new, old) = (synced.layers_imported, synced.layers_reused);
        match &synced.set {
            Some(set) if synced.unchanged => {
                format!("the set of {id} is up to date: {}\n", set.set_image)
            }
            Some(set) => format!(
                "published the set of {id}: {} images, {new} layers new ({fetched}), {old} held\n\
                 set image {}, {}\n",
                set.images.len(),
                set.set_image,
                bytes(set.set_image_bytes),
            ),
            None => format!("would fetch {new} layers ({fetched}); {old} are held\n"),
        }
    })?;
    if synced.dropped.total() > 0 {
        output.say(&format!("left out of the trees: {}", synced.dropped));
    }
    Ok(())
}
