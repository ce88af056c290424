//! `boundstore sync`

use std::{
    cell::Cell,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    Global,
    failure::{Exit, Failure},
    output::{Output, bytes, count, tell},
    primary::read_primary,
    progress::{Progress, Teller},
    selector::Selector,
    set_args::with_syncer,
    transfer::{Transfer, wanted_of},
    watchdog::Watchdog,
};
use crate::{
    bound::{self, LOCK_PATH, Lock, Scan},
    config::KeepLayers,
    deployment::{
        ForecastImage, ForecastLayer, Place, PrimaryStore, SinceBoot, SyncEvent, Synced, Syncer,
        Unpulled, note_sync,
    },
    error::with_causes,
    name::{Algorithm, Platform},
    repo::{DeploymentId, NewRepo, Repo},
    source::{SourceRef, Sources, Wanted},
    sys::{self, WorkDir},
};

/// How long a podman that writes to its store is waited for.
const LOCK_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Which images a deployment is bound to is told by the folders \
    usr/lib/bootc/bound-images.d and usr/lib/boundstore/bound-images.d below its root, and \
    by --image. The root of a deployment of this host is found by itself."
)]
pub(super) struct Args {
    /// The root file tree of a deployment that is not this host's
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// In a dry run: a host image that is not pulled yet, and where to take it from
    #[arg(
        long,
        value_name = "NAME[=SOURCE]",
        requires = "dry_run",
        conflicts_with = "root"
    )]
    host_image: Option<String>,
    /// Whose set this is: any name of [A-Za-z0-9._-], or the host's booted, staged, rollback, all
    #[arg(long, value_name = "ID|ROLE")]
    deployment: Selector,
    /// An image, and where to take it from if not from its registry
    #[arg(long = "image", value_name = "NAME[=SOURCE]")]
    images: Vec<String>,
    /// Ask this source first, for every image it holds
    #[arg(long, value_name = "SOURCE")]
    from: Vec<SourceRef>,
    /// Refuse a root without a lock file: what one says is followed in any case
    #[arg(long)]
    locked: bool,
    /// For this platform, not the host's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    #[command(flatten)]
    transfer: Transfer,
    /// How long to try for the repository's lock
    #[arg(long, value_name = "SECONDS", default_value_t = Repo::LOCK_LIMIT.as_secs())]
    wait: u64,
    /// Give up where nothing goes on for so long while the repository is locked
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    stuck_after: u64,
    /// How to tell on stderr what happens
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    progress: Progress,
    /// Which layers of other sets the set keeps [default: the configuration's
    /// for a deployment of this host, else none]
    #[arg(long, value_enum, value_name = "WHICH")]
    keep_layers: Option<Keep>,
    /// Only tell what would be fetched; write nothing
    #[arg(long)]
    dry_run: bool,
}

/// `--keep-layers`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Keep {
    // Of images that something in podman's own store stands on.
    Referenced,
    None,
}

/// A deployment, and where its root file tree is.
struct Target {
    id: DeploymentId,
    root: Option<Root>,
}

/// A root file tree, held open.
struct Root {
    path: PathBuf,
    dir: OwnedFd,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let output = global.output();
    if !args.dry_run {
        global.make_writable()?;
    }
    let unpulled = match &args.host_image {
        Some(host_image) => Some(read_unpulled(global, args, host_image)?),
        None => None,
    };
    let read = unpulled.as_ref().map(|folder| folder.path().join("root"));
    let targets = targets(global, args, read.as_deref().or(args.root.as_deref()))?;
    let [target] = &targets[..] else {
        return each(global, args, &targets);
    };
    let synced = noted(global, args, target)?;
    let id = &target.id;
    let document = document(args, id, &synced);
    output.result("sync", &document, || text(id, &synced))?;
    if synced.dropped.total() > 0 {
        output.say(&format!("left out of the trees: {}", synced.dropped));
    }
    Ok(Exit::Done)
}

/// Syncs several, or none. A failure is told, and does not stop the others.
fn each(global: &Global, args: &Args, targets: &[Target]) -> Result<Exit, Failure> {
    let output = global.output();
    let mut documents = Vec::new();
    let mut texts = String::new();
    let mut exits = Vec::new();
    for Target { id, .. } in targets {
        output.detail(&format!("deployment {id}"));
    }
    for target in targets {
        let id = &target.id;
        match noted(global, args, target) {
            Ok(synced) => {
                documents.push(document(args, id, &synced));
                texts += &text(id, &synced);
            }
            Err(failure) => {
                tell(&format!("deployment {id}:"));
                failure.print();
                let (exit, error) = (failure.exit as u8, failure.text());
                documents.push(json!({ "deployment": id, "exit_status": exit, "error": error }));
                exits.push(failure.exit);
            }
        }
    }
    if targets.is_empty() {
        texts = format!("{}: nothing to do\n", args.deployment.nothing());
    }
    output.result("sync", &json!({ "deployments": documents }), || texts)?;
    // Trying again helps only where nothing else is wrong.
    let lasting = exits.iter().find(|exit| **exit != Exit::NotNow);
    Ok(*lasting.or(exits.first()).unwrap_or(&Exit::Done))
}

/// Reads what a host image binds, into the folder `root` of what is returned.
fn read_unpulled(global: &Global, args: &Args, image: &str) -> Result<WorkDir, Failure> {
    let output = global.output();
    let work = args.transfer.work_dir("host-image.")?;
    let (unpacked, root) = (work.path().join("unpacked"), work.path().join("root"));
    for folder in [&unpacked, &root] {
        sys::create_private_dir(folder)?;
    }
    let scan = Scan::default().with_command_line(&[image.to_owned()])?;
    for image in scan.images {
        let name = image.name.clone();
        let wanted = wanted_of(image, None, args.platform.as_ref(), None)?;
        let read = |syncer: &Syncer<'_>| Ok(syncer.read_unpulled(&wanted, &unpacked, &root)?);
        let Unpulled {
            layers,
            layers_read,
        } = with_syncer(global, &args.transfer, None, &args.from, None, read)?;
        output.say(&format!(
            "{name}: read {layers_read} of {}",
            count(layers, "layer")
        ));
    }
    Ok(work)
}

fn targets(global: &Global, args: &Args, root: Option<&Path>) -> Result<Vec<Target>, Failure> {
    if let Some(path) = root {
        let Selector::Id(id) = &args.deployment else {
            let message = format!(
                "--deployment {} is a deployment of this host, whose root is found without --root",
                args.deployment
            );
            return Err(Failure::new(Exit::Usage, message));
        };
        let dir = sys::open_dir(path)?;
        let path = path.to_owned();
        let root = Some(Root { path, dir });
        return Ok(vec![Target {
            id: id.clone(),
            root,
        }]);
    }
    let host = global.host()?;
    let host = host.as_deref();
    let ids = args.deployment.ids_of(host)?;
    let of_host = |id: DeploymentId| {
        let root = match host.filter(|host| host.is_own(&id)) {
            Some(host) => Some(Root::of(host.open_root(&id)?)),
            None => None,
        };
        Ok(Target { id, root })
    };
    ids.into_iter().map(of_host).collect()
}

impl Root {
    fn of(dir: OwnedFd) -> Self {
        // It may be mounted nowhere.
        let path = format!("/proc/{}/fd/{}", std::process::id(), dir.as_raw_fd());
        let path = path.into();
        Self { path, dir }
    }
}

/// Syncs, and lets `status` tell why it failed where the host has the deployment.
fn noted(global: &Global, args: &Args, target: &Target) -> Result<Synced, Failure> {
    let synced = sync(global, args, target);
    let of_host = args.root.is_none() && target.root.is_some();
    if of_host && !args.dry_run {
        let failed = synced.as_ref().err().map(Failure::text);
        if let Err(error) = note_sync(&global.host_paths(), &target.id, failed.as_deref()) {
            let text = with_causes(&error);
            global
                .output()
                .warn(&format!("status will not tell: {text}"));
        }
    }
    synced
}

fn sync(global: &Global, args: &Args, target: &Target) -> Result<Synced, Failure> {
    let output = global.output();
    let (id, root) = (&target.id, target.root.as_ref());
    let lock = lock(args, root)?;
    let wanted = wanted(args, root, lock.as_ref(), &output)?;
    if wanted.is_empty() && root.is_none() {
        let message = "no image is named: give --root DIR, whose unit files bind some, or --image";
        return Err(Failure::new(Exit::Usage, message));
    }
    if wanted.is_empty() {
        output.warn(&format!("{id} binds no image: its set will be empty"));
    }
    let transfer = &args.transfer;
    let (config, broken) = global.config();
    if let Some(broken) = broken {
        output.warn(&format!("{}: the defaults hold", broken.text()));
    }
    let root_path = root.map(|root| root.path.as_path());
    let options = transfer.source_options(root_path, &config);
    let sources = Sources::open(&args.from, options)?;
    let teller = Teller::new(&output, args.progress, id);
    let watchdog = Cell::new(None);
    let observer = |event: SyncEvent<'_>| {
        match event {
            // From here on the repository is locked.
            SyncEvent::Importing { .. } | SyncEvent::Squashing(_) => {
                let limit = Duration::from_secs(args.stuck_after);
                watchdog.set(Some(Watchdog::set(limit)));
            }
            // It was let go, and all is begun again.
            SyncEvent::Resolved(_) => watchdog.set(None),
            _ => {}
        }
        teller.tell(&event);
    };
    let primary = match &lock {
        // No layer beside those that are locked.
        Some(_) if args.keep_layers == Some(Keep::Referenced) => {
            let message = "the deployment has a lock file: its set can keep no other layers";
            return Err(Failure::new(Exit::Usage, message));
        }
        Some(_) => None,
        None => kept_for(global, args, target, config.sync.keep_layers)?,
    };
    let syncer = Syncer {
        repo: global.repo(),
        create: Some(NewRepo {
            algorithm: Algorithm::Sha512,
            insecure: global.allow_missing_verity || config.allow_missing_verity,
        }),
        limits: transfer.limits(),
        sources: &sources,
        lock: lock.as_ref(),
        keep_for: primary.as_ref(),
        spool_dir: transfer.spool_dir(),
        retry: transfer.retry(),
        lock_limit: Duration::from_secs(args.wait),
        since_boot: SinceBoot::of(&global.host_root),
        observer: &observer,
    };
    Ok(if args.dry_run {
        syncer.dry_run(id, &wanted)?
    } else {
        syncer.sync(id, &wanted)?
    })
}

/// The store whose users' layers are kept. Only a deployment of this host has
/// the configuration's word for it.
fn kept_for(
    global: &Global,
    args: &Args,
    target: &Target,
    configured: KeepLayers,
) -> Result<Option<PrimaryStore>, Failure> {
    let of_host = args.root.is_none() && target.root.is_some();
    let keep = match args.keep_layers {
        Some(keep) => keep == Keep::Referenced,
        None => of_host && configured == KeepLayers::Referenced,
    };
    if !keep {
        return Ok(None);
    }
    match read_primary(global, LOCK_LIMIT) {
        Ok(primary) => Ok(Some(primary)),
        // No upgrade is to fail because podman's own store is broken.
        Err(error) if args.keep_layers.is_none() && !error.is_busy() => {
            let output = global.output();
            output.warn(&format!("no layers are kept: {}", with_causes(&error)));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The lock file of the deployment.
fn lock(args: &Args, root: Option<&Root>) -> Result<Option<Lock>, Failure> {
    let lock = match root {
        Some(root) => Lock::read(root.dir.as_fd())?,
        None => None,
    };
    if args.locked && lock.is_none() {
        let message = format!(
            "there is no {LOCK_PATH}: run `boundstore lock --root DIR` where the image is built"
        );
        return Err(Failure::new(Exit::Refused, message));
    }
    Ok(lock)
}

fn wanted(
    args: &Args,
    root: Option<&Root>,
    lock: Option<&Lock>,
    output: &Output,
) -> Result<Vec<Wanted>, Failure> {
    let scan = match (root, lock) {
        // Of a host image that is not pulled that is all that was read.
        (_, Some(lock)) if args.host_image.is_some() => {
            let names = lock.images.iter().map(|image| image.name.to_string());
            Scan::default().with_command_line(names.collect::<Vec<_>>())?
        }
        (Some(root), _) => bound::scan(root.dir.as_fd())?,
        (None, _) => Scan::default(),
    };
    let scan = scan.with_command_line(&args.images)?;
    for warning in &scan.warnings {
        output.warn(&warning.to_string());
    }
    if let Some(lock) = lock {
        lock.expect_names(scan.images.iter().map(|image| &image.name))?;
    }
    scan.images
        .into_iter()
        .map(|image| {
            let locked = lock.and_then(|lock| lock.image(&image.name));
            let root = root.map(|root| root.path.as_path());
            wanted_of(image, root, args.platform.as_ref(), locked)
        })
        .collect()
}

fn document(args: &Args, id: &DeploymentId, synced: &Synced) -> Value {
    let set = synced.set.as_ref();
    json!({
        "deployment": id,
        "dry_run": args.dry_run,
        "unchanged": synced.unchanged,
        "set_image": set.map(|set| set.set_image),
        "set_image_bytes": set.map(|set| set.set_image_bytes),
        "images": set.map(|set| &set.images),
        "kept": set.map(|set| &set.kept),
        "layers_imported": synced.layers_imported,
        "layers_reused": synced.layers_reused,
        "bytes_fetched": synced.bytes_fetched,
        "dropped": synced.dropped.total(),
        "forecast": args.dry_run.then_some(&synced.forecast),
    })
}

/// What a dry run says of one image.
fn forecast_line(image: &ForecastImage) -> String {
    let missing = |layer: &&ForecastLayer| layer.place != Place::Repository;
    let missing = image.layers.iter().filter(missing).count();
    let of = count(image.layers.len(), "layer");
    let network = bytes(image.network_bytes);
    format!(
        "{}: {missing} of {of}, {network} over the network\n",
        image.name
    )
}

fn text(id: &DeploymentId, synced: &Synced) -> String {
    let fetched = bytes(synced.bytes_fetched);
    let new = count(synced.layers_imported, "layer");
    let old = synced.layers_reused;
    match &synced.set {
        Some(set) if synced.unchanged => {
            format!("the set of {id} is up to date: {}\n", set.set_image)
        }
        Some(set) => format!(
            "published the set of {id}: {}, {new} new ({fetched}), {old} held\n\
             set image {}, {}\n",
            count(set.images.len(), "image"),
            set.set_image,
            bytes(set.set_image_bytes),
        ),
        None => {
            let images: String = synced.forecast.iter().map(forecast_line).collect();
            let network = synced.forecast.iter().map(|image| image.network_bytes);
            format!(
                "{images}would bring {new} ({fetched}), {} of it over the network; {old} are held; \
                 that takes at least as much on disk\n",
                bytes(network.sum())
            )
        }
    }
}
