//! `boundstore sync`

use std::{
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{
    Global,
    failure::{Exit, Failure},
    output::{Output, bytes, count},
};
use crate::{
    bound::{self, BoundImage, Scan},
    deployment::{SyncEvent, Synced, Syncer},
    import::ImportLimits,
    name::{Algorithm, Platform},
    repo::{DeploymentId, NewRepo},
    source::{FetchStep, SkopeoOptions, SourceOptions, SourceRef, Sources, Wanted},
    sys,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Which images a deployment is bound to is told by the folders \
    usr/lib/bootc/bound-images.d and usr/lib/boundstore/bound-images.d below --root, and \
    by --image."
)]
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
    /// Where blobs from the network are kept until they are published
    /// [default: /var/cache/boundstore, or below the user's cache]
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
    /// Credentials, tried before the host's
    #[arg(long, value_name = "FILE")]
    authfile: Vec<PathBuf>,
    /// Another policy than the host's policy.json
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Talk to registries without TLS, or without checking it
    #[arg(long)]
    no_tls_verify: bool,
    /// Only tell what would be fetched; write nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let output = global.output();
    let wanted = wanted(args, &output)?;
    if wanted.is_empty() && args.root.is_none() {
        let message = "no image is named: give --root DIR, whose unit files bind some, or --image";
        return Err(Failure::new(Exit::Usage, message));
    }
    if wanted.is_empty() {
        output.warn("no image is bound: the set will be empty");
    }
    let spool_dir = args.spool.clone().unwrap_or_else(default_spool);
    let sources = Sources::open(&args.from, source_options(args, &spool_dir))?;
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
        sources: &sources,
        spool_dir,
        observer: &observer,
    };
    let synced = if args.dry_run {
        syncer.dry_run(&args.deployment, &wanted)?
    } else {
        syncer.sync(&args.deployment, &wanted)?
    };
    report(&output, args, &synced)?;
    Ok(Exit::Done)
}

/// What the library is told of this host: it reads no environment itself.
fn source_options(args: &Args, spool_dir: &Path) -> SourceOptions {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let policy_paths = match &args.policy {
        Some(policy) => vec![policy.clone()],
        None => home
            .iter()
            .map(|home| home.join(".config/containers/policy.json"))
            .chain([PathBuf::from("/etc/containers/policy.json")])
            .collect(),
    };
    // The target's credentials, then the running host's, as bootc looks for them.
    let of_root = args.root.iter().flat_map(|root| {
        ["etc/ostree/auth.json", "usr/lib/ostree/auth.json"].map(|file| root.join(file))
    });
    let of_host = [
        "/run/ostree/auth.json",
        "/etc/ostree/auth.json",
        "/usr/lib/ostree/auth.json",
    ];
    let auth_files = args.authfile.iter().cloned();
    SourceOptions {
        spool_dir: spool_dir.to_owned(),
        policy_paths,
        skopeo: SkopeoOptions {
            policy: args.policy.clone(),
            auth_files: auth_files
                .chain(of_root)
                .chain(of_host.map(PathBuf::from))
                .collect(),
            tls_verify: !args.no_tls_verify,
            ..SkopeoOptions::default()
        },
    }
}

fn default_spool() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    match cache.or_else(home).filter(|_| !sys::is_root()) {
        Some(cache) => cache.join("boundstore"),
        None => "/var/cache/boundstore".into(),
    }
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
        SyncEvent::Resolved(found) => {
            let image = &found.image;
            let (name, digest) = (&image.name, &image.manifest_digest);
            output.detail(&format!(
                "{name} is {digest}, from {}: {}",
                found.origin, image.verdict
            ));
        }
        SyncEvent::Fetching {
            found,
            step: FetchStep::Begun { digest, size },
        } => {
            let name = &found.image.name;
            output.say(&format!("{name}: fetching {digest}, {}", bytes(*size)));
        }
        SyncEvent::Fetching {
            found,
            step: FetchStep::Reused { digest, .. },
        } => {
            output.say(&format!(
                "{}: {digest} was fetched before",
                found.image.name
            ));
        }
        SyncEvent::Fetching { .. } => {}
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
        SyncEvent::Squashing(name) => output.detail(&format!("{name}: squashing")),
        SyncEvent::Leftover(error) => output.warn(&format!("{error}: {}", error.source)),
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
            None => format!("would fetch {new} ({fetched}); {old} are held\n"),
        }
    })?;
    if synced.dropped.total() > 0 {
        output.say(&format!("left out of the trees: {}", synced.dropped));
    }
    Ok(())
}
