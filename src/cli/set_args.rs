//! Which images a set is made of where no host is asked: the options that
//! `embed` and `bundle create` share.

use std::{
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use super::{
    Global,
    failure::Failure,
    output::Output,
    progress::plain,
    transfer::{Transfer, wanted_of},
};
use crate::{
    bound::{self, BoundImage, Lock, Scan},
    deployment::{SinceBoot, SyncEvent, Syncer},
    name::Platform,
    repo::Repo,
    source::{SourceRef, Sources, Wanted},
    sys,
};

#[derive(Debug, clap::Args)]
pub(super) struct SetArgs {
    /// The root file tree of the host image [default: / unless images are named]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// An image, and where to take it from if not from its registry
    #[arg(long = "image", value_name = "NAME[=SOURCE]")]
    images: Vec<String>,
    /// Ask this source first, for every image it holds
    #[arg(long, value_name = "SOURCE")]
    from: Vec<SourceRef>,
    /// For this platform, not this machine's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(super) platform: Option<Platform>,
    #[command(flatten)]
    pub(super) transfer: Transfer,
}

impl SetArgs {
    fn root(&self) -> Option<&Path> {
        let alone = self.root.is_none() && !self.images.is_empty();
        match &self.root {
            Some(root) => Some(root),
            None => (!alone).then_some(Path::new("/")),
        }
    }

    /// The images, and the lock file of the root, which they agree with.
    pub(super) fn wanted(&self, output: &Output) -> Result<(Vec<Wanted>, Option<Lock>), Failure> {
        let root = self.root();
        let (scan, lock) = match root {
            Some(root) => {
                let dir = sys::open_dir(root)?;
                (bound::scan(dir.as_fd())?, Lock::read(dir.as_fd())?)
            }
            None => (Scan::default(), None),
        };
        let scan = scan.with_command_line(&self.images)?;
        for warning in &scan.warnings {
            output.warn(&warning.to_string());
        }
        if scan.images.is_empty() {
            output.warn("no image is bound: the set is empty");
        }
        if let Some(lock) = &lock {
            lock.expect_names(scan.images.iter().map(|image| &image.name))?;
        }
        let of_root = |image: BoundImage| {
            let locked = lock.as_ref().and_then(|lock| lock.image(&image.name));
            wanted_of(image, root, self.platform.as_ref(), locked)
        };
        let wanted = scan.images.into_iter().map(of_root);
        Ok((wanted.collect::<Result<_, _>>()?, lock))
    }

    /// Lets `work` bring them.
    pub(super) fn with_syncer<T>(
        &self,
        global: &Global,
        lock: Option<&Lock>,
        work: impl FnOnce(&Syncer<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (root, from) = (self.root(), &self.from);
        with_syncer(global, &self.transfer, root, from, lock, work)
    }
}

/// Lets `work` bring images without a host: nothing is published.
pub(super) fn with_syncer<T>(
    global: &Global,
    transfer: &Transfer,
    root: Option<&Path>,
    from: &[SourceRef],
    lock: Option<&Lock>,
    work: impl FnOnce(&Syncer<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let output = global.output();
    let (config, _) = global.config();
    let sources = Sources::open(from, transfer.source_options(root, &config))?;
    let observer = |event: SyncEvent<'_>| plain(&output, &event);
    work(&Syncer {
        repo: global.repo(),
        create: None,
        limits: transfer.limits(),
        sources: &sources,
        lock,
        keep_for: None,
        spool_dir: transfer.spool_dir(),
        retry: transfer.retry(),
        lock_limit: Repo::LOCK_LIMIT,
        since_boot: SinceBoot::of(&global.host_root),
        observer: &observer,
    })
}
