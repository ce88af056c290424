//! `boundstore verify --repair`: what is bad is brought again, mounts that show
//! it are exchanged, and the containers that still have the old ones are named.

use std::{collections::BTreeSet, path::PathBuf, thread, time::Duration};

use serde::Serialize;

use super::{
    Global,
    failure::{Exit, Failure},
    output::{bytes, count},
    primary::read_primary,
    progress::{Progress, Teller},
    source_args::SourceArgs,
};
use crate::{
    deployment::{
        Mounter, Repaired, Retry, SinceBoot, StoreContent, SyncEvent, Syncer, shown_at,
        standing_on, store_label,
    },
    error::with_causes,
    import::ImportLimits,
    name::{DiffId, ImageName, ObjectId},
    repo::{DeploymentId, Repo, RepoView, SetRecord},
    source::Sources,
    verify::Verified,
};

/// How long a podman that writes to its store is waited for.
const LOCK_LIMIT: Duration = Duration::from_secs(5);

/// What was done, beside what `verify` then finds.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    layers: Vec<Layer>,
    /// The deployments whose set image was rendered again.
    set_images: Vec<DeploymentId>,
    bytes_fetched: u64,
    /// What stays bad, and why.
    lost: Vec<Lost>,
    /// Where a set was mounted anew.
    mounted_anew: Vec<PathBuf>,
    /// Containers that have the bad bytes still, perhaps: to be restarted.
    restart: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Layer {
    image: ImageName,
    layer: DiffId,
}

#[derive(Debug, Serialize)]
struct Lost {
    deployment: DeploymentId,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<ImageName>,
    reason: String,
}

/// Repairs what `verified` has found.
pub(super) fn repair(
    global: &Global,
    args: &SourceArgs,
    verified: &Verified,
) -> Result<Report, Failure> {
    // Where the sysroot is read-only its writer needs mounts of its own, and
    // this thread those of the host.
    let brought = thread::scope(|scope| {
        let bringing = scope.spawn(|| {
            global.make_writable()?;
            bring(global, args, verified)
        });
        let died = || Failure::new(Exit::Failed, "the repair died");
        bringing.join().map_err(|_| died())?
    })?;
    let mut report = Report::default();
    let view = RepoView::open(&global.repo())?;
    for (id, repaired) in brought {
        match repaired {
            Ok(repaired) => report.add(global, &view, id, repaired)?,
            Err(failure) => report.lost.push(Lost {
                reason: format!(
                    "{}: `boundstore sync --deployment {id}` makes it anew",
                    failure.text()
                ),
                deployment: id,
                image: None,
            }),
        }
    }
    Ok(report)
}

type Brought = Vec<(DeploymentId, Result<Repaired, Failure>)>;

fn bring(global: &Global, args: &SourceArgs, verified: &Verified) -> Result<Brought, Failure> {
    let spool_dir = args.spool_dir();
    let (config, _) = global.config();
    let sources = Sources::open(&args.from, args.options(None, &config))?;
    let output = global.output();
    let mut brought = Vec::new();
    let mut mended = BTreeSet::new();
    for deployment in verified.deployments.iter() {
        if deployment.problems.is_empty() {
            continue;
        }
        let id = &deployment.id;
        let teller = Teller::new(&output, Progress::Plain, id);
        let observer = |event: SyncEvent<'_>| teller.tell(&event);
        let syncer = Syncer {
            repo: global.repo(),
            create: None,
            // What was published once is no larger now: its digests say so.
            limits: ImportLimits {
                max_bytes: u64::MAX,
                max_entries: u64::MAX,
            },
            sources: &sources,
            keep_for: None,
            spool_dir: spool_dir.clone(),
            retry: Retry::within(Duration::from_secs(args.retry_for)),
            lock_limit: Repo::LOCK_LIMIT,
            since_boot: SinceBoot::of(&global.host_root),
            observer: &observer,
        };
        let objects = deployment.problems.iter().filter_map(|it| it.object);
        let bad: BTreeSet<ObjectId> = objects.filter(|id| !mended.contains(id)).collect();
        let repaired = syncer.repair(id, &bad).map_err(Failure::from);
        let view = RepoView::open(&global.repo())?;
        mended.extend(bad.into_iter().filter(|id| view.is_intact(id)));
        brought.push((id.clone(), repaired));
    }
    Ok(brought)
}

impl Report {
    fn add(
        &mut self,
        global: &Global,
        view: &RepoView,
        id: DeploymentId,
        repaired: Repaired,
    ) -> Result<(), Failure> {
        let lost = repaired.lost.into_iter().map(|(image, reason)| Lost {
            deployment: id.clone(),
            image: Some(image),
            reason,
        });
        self.lost.extend(lost);
        self.bytes_fetched += repaired.bytes_fetched;
        if let Some(set) = view.set(&id)? {
            self.show(global, view, &id, &set, &repaired.layers);
        }
        let layers = repaired.layers.into_iter();
        self.layers
            .extend(layers.map(|(image, layer)| Layer { image, layer }));
        if repaired.set_image {
            self.set_images.push(id);
        }
        Ok(())
    }

    /// Exchanges the mounts of a set, and names who has the old ones. That this
    /// fails undoes nothing of the repair.
    fn show(
        &mut self,
        global: &Global,
        view: &RepoView,
        id: &DeploymentId,
        set: &SetRecord,
        layers: &[(ImageName, DiffId)],
    ) {
        let output = global.output();
        let (config, _) = global.config();
        let mounter = Mounter {
            run_dir: SinceBoot::of(&global.host_root).run_dir().to_owned(),
            allow_missing_verity: global.allow_missing_verity || config.allow_missing_verity,
            context: store_label(),
            lock_limit: Mounter::LOCK_LIMIT,
        };
        let targets = shown_at(&set.set_image).unwrap_or_default();
        for target in targets {
            match mounter.renew(view, id, &target) {
                Ok(_) => self.mounted_anew.push(target),
                Err(error) => output.warn(&format!(
                    "{} still shows what was bad: {}",
                    target.display(),
                    with_causes(&error)
                )),
            }
        }
        let mut content = StoreContent::default();
        for image in set.all_images() {
            let touched = |layer: &DiffId| layers.iter().any(|(_, mended)| mended == layer);
            if image.layers.iter().any(touched) {
                content.add(&image.config_digest, &image.layers);
            }
        }
        match read_primary(global, LOCK_LIMIT) {
            Ok(primary) => {
                for container in standing_on(&primary, &content) {
                    let name = container.names.first().unwrap_or(&container.id);
                    if !self.restart.contains(name) {
                        self.restart.push(name.clone());
                    }
                }
            }
            Err(error) => output.warn(&format!(
                "containers of these images must be restarted; which there are is not known: {}",
                with_causes(&error)
            )),
        }
    }

    pub(super) fn human(&self) -> String {
        let layers = count(self.layers.len(), "layer");
        let mut text = format!(
            "repaired: {layers} brought again ({})",
            bytes(self.bytes_fetched)
        );
        if !self.set_images.is_empty() {
            text += &format!(
                ", {} rendered again",
                count(self.set_images.len(), "set image")
            );
        }
        text += "\n";
        for target in &self.mounted_anew {
            text += &format!("mounted anew: {}\n", target.display());
        }
        if !self.restart.is_empty() {
            text += "these containers may have read what was bad; restart them: podman restart ";
            text += &format!("{}\n", self.restart.join(" "));
        }
        for Lost {
            deployment,
            image,
            reason,
        } in &self.lost
        {
            let of = image
                .as_ref()
                .map_or(String::new(), |image| format!(", {image}"));
            text += &format!("lost: deployment {deployment}{of}: {reason}\n");
        }
        text
    }
}
