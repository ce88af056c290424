//! `boundstore lock`

use std::{
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{
    Global,
    failure::{Exit, Failure},
    output::{bytes, count},
    set_args::with_syncer,
    transfer::{Transfer, wanted_of},
};
use crate::{
    bound::{self, Difference, LOCK_PATH, Lock, LockError},
    deployment::Syncer,
    name::{Algorithm, Platform},
    source::{SourceRef, Wanted},
    sys,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "All images are fetched and their set image is rendered once: the lock file names \
    it. It is usr/lib/boundstore/bound-images.lock.json below the root: `sync` brings what it says \
    and nothing else, `mount` shows only the set image that it names."
)]
pub(super) struct Args {
    /// The root file tree of the host image
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Only tell whether the lock file is what `lock` would write; no layer is fetched
    #[arg(long)]
    check: bool,
    /// Ask this source first, for every image it holds
    #[arg(long, value_name = "SOURCE")]
    from: Vec<SourceRef>,
    /// For this platform, not this machine's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    #[command(flatten)]
    transfer: Transfer,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let output = global.output();
    let root = sys::open_dir(&args.root)?;
    let scan = bound::scan(root.as_fd())?;
    for warning in &scan.warnings {
        output.warn(&warning.to_string());
    }
    let of_root = |image| wanted_of(image, Some(&args.root), args.platform.as_ref(), None);
    let wanted: Vec<Wanted> = scan
        .images
        .into_iter()
        .map(of_root)
        .collect::<Result<_, _>>()?;
    let of = Some(args.root.as_path());
    let path = args.root.join(LOCK_PATH);
    if args.check {
        let found = Lock::read(root.as_fd())?;
        return with_syncer(global, &args.transfer, of, &args.from, None, |syncer| {
            check(global, &path, syncer, found, &wanted)
        });
    }
    let work = args.transfer.work_dir("lock.")?;
    let lock = with_syncer(global, &args.transfer, of, &args.from, None, |syncer| {
        Ok(syncer.make_lock(work.path(), &wanted)?)
    })?;
    let text = lock.to_json();
    let unchanged = Lock::read(root.as_fd()).ok().flatten().as_ref() == Some(&lock);
    if !unchanged {
        sys::write_in_root(root.as_fd(), Path::new(LOCK_PATH), text.as_bytes())?;
    }
    let set_image = lock.set_image.of(Algorithm::Sha512);
    let result = json!({
        "lock_file": path, "unchanged": unchanged,
        "images": lock.images, "set_image": lock.set_image,
    });
    output.result("lock", &result, || {
        let images = count(lock.images.len(), "image");
        let layers = lock.images.iter().flat_map(|image| &image.layers);
        let size = bytes(layers.map(|layer| layer.size).sum());
        let how = if unchanged {
            "is up to date"
        } else {
            "written"
        };
        format!(
            "{} {how}: {images}, {size}\nset image {set_image}\n",
            path.display()
        )
    })?;
    Ok(Exit::Done)
}

fn check(
    global: &Global,
    path: &Path,
    syncer: &Syncer<'_>,
    lock: Option<Lock>,
    wanted: &[Wanted],
) -> Result<Exit, Failure> {
    let Some(lock) = lock else {
        let message = format!("there is no {}: run `boundstore lock`", path.display());
        return Err(Failure::new(Exit::Unhealthy, message));
    };
    let mut differences = match lock.expect_names(wanted.iter().map(|wanted| &wanted.name)) {
        Err(LockError::Stale(differences)) => differences,
        other => other.map(|()| Vec::new())?,
    };
    let known = |wanted: &&Wanted| lock.image(&wanted.name).is_some();
    let known: Vec<Wanted> = wanted.iter().filter(known).cloned().collect();
    differences.extend(syncer.check_drift(&lock, &known)?);
    let result = json!({ "lock_file": path, "differences": differences });
    global.output().result("lock-check", &result, || {
        let path = path.display();
        let line = |difference: &Difference| format!("{difference}\n");
        match differences.is_empty() {
            true => format!("{path} is up to date\n"),
            false => {
                let lines: String = differences.iter().map(line).collect();
                format!("{path} is stale: run `boundstore lock` again\n{lines}")
            }
        }
    })?;
    Ok(match differences.is_empty() {
        true => Exit::Done,
        false => Exit::Unhealthy,
    })
}
