//! `boundstore verify --repair`

use std::{collections::BTreeSet, sync::mpsc, thread, time::Duration};

use serde_json::{Value, json};

use super::{
    Global,
    escape::value,
    failure::{Exit, Failure},
    output::{bytes, count},
    primary::read_primary,
    verify::{Args, explain},
};
use crate::{
    deployment::{Exchanged, Mounter, SinceBoot, store_label},
    error::with_causes,
    name::ObjectId,
    repo::{DeploymentId, RepoView},
    source::Sources,
    verify::{Fetched, Mended, RepairEvent, Repaired, Repairer},
};

/// How long a podman that writes to its store is waited for.
const LOCK_LIMIT: Duration = Duration::from_secs(30);

/// A container that has to be started again.
struct Restart {
    id: String,
    names: Vec<String>,
}

pub(super) fn run(
    global: &Global,
    args: &Args,
    only: Option<&[DeploymentId]>,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Exit, Failure> {
    let output = global.output();
    // Before this thread may leave the host's mounts for a copy of them.
    let exchanger = Exchanger::start(global);
    global.make_writable()?;
    let view = RepoView::open(&global.repo())?;
    let (config, _) = global.config();
    let options = args.transfer.source_options(None, &config);
    let sources = Sources::open(&args.from, options)?;
    let observer = |event: RepairEvent<'_>| match event {
        RepairEvent::Fetching(fetched) => output.say(&fetching(fetched)),
        RepairEvent::Retrying { error, pause } => {
            output.say(&format!("trying again in {} s: {error}", pause.as_secs()));
        }
        RepairEvent::Rendering(id) => output.say(&format!("rendering the set of {id} again")),
    };
    let repairer = Repairer {
        sources: &sources,
        limits: args.transfer.limits(),
        spool_dir: args.transfer.spool_dir(),
        retry: args.transfer.retry(),
        observer: &observer,
    };
    let repaired = repairer.repair(&view, only, args.deep, progress)?;
    let exchanged = exchanger.exchange(repaired.mended.objects.clone())?;
    let restart = restart(global, &repaired.mended);
    let document = document(&repaired, &exchanged, &restart)?;
    output.result("repair", &document, || {
        human(&repaired, &exchanged, &restart)
    })?;
    let whole = exchanged.iter().all(|it| it.error.is_none());
    Ok(if repaired.is_healthy() && whole {
        Exit::Done
    } else {
        Exit::Unhealthy
    })
}

/// A thread that stays in the host's mount namespace, where the sets are shown.
struct Exchanger {
    mended: mpsc::Sender<BTreeSet<ObjectId>>,
    thread: thread::JoinHandle<Result<Vec<Exchanged>, Failure>>,
}

impl Exchanger {
    fn start(global: &Global) -> Self {
        let (config, _) = global.config();
        let mounter = Mounter {
            run_dir: SinceBoot::of(&global.host_root).run_dir().to_owned(),
            allow_missing_verity: global.allow_missing_verity || config.allow_missing_verity,
            context: store_label(),
            lock_limit: Mounter::LOCK_LIMIT,
        };
        let repo = global.repo();
        let (mended, receiver) = mpsc::channel();
        let work = move || match receiver.recv() {
            Ok(mended) => Ok(mounter.exchange(&RepoView::open(&repo)?, &mended)?),
            // The repair failed.
            Err(mpsc::RecvError) => Ok(Vec::new()),
        };
        let thread = thread::spawn(work);
        Self { mended, thread }
    }

    fn exchange(self, mended: BTreeSet<ObjectId>) -> Result<Vec<Exchanged>, Failure> {
        if mended.is_empty() {
            return Ok(Vec::new());
        }
        // It waits for this.
        let _sent = self.mended.send(mended);
        let panicked = |_| Failure::new(Exit::Failed, "mounting anew ended by itself");
        self.thread.join().map_err(panicked)?
    }
}

/// The containers that may have bad bytes open; `None` where podman's own store
/// does not tell.
fn restart(global: &Global, mended: &Mended) -> Option<Vec<Restart>> {
    if mended.layers.is_empty() {
        return Some(Vec::new());
    }
    match read_primary(global, LOCK_LIMIT) {
        Ok(primary) => {
            let containers = primary.standing_on(&mended.layers).into_iter();
            let containers = containers.map(|container| Restart {
                id: container.id.clone(),
                names: container.names.clone(),
            });
            Some(containers.collect())
        }
        Err(error) => {
            let text = with_causes(&error);
            let message = format!("which containers to start again is not known: {text}");
            global.output().warn(&message);
            None
        }
    }
}

fn document(
    repaired: &Repaired,
    exchanged: &[Exchanged],
    restart: &Option<Vec<Restart>>,
) -> Result<Value, Failure> {
    let value = serde_json::to_value(repaired);
    let mut document = value.map_err(|error| Failure::new(Exit::Failed, error))?;
    document["exchanged"] = json!(exchanged);
    let entry = |it: &Restart| json!({ "id": it.id, "names": it.names });
    let restart = restart.as_ref();
    document["restart"] = json!(restart.map(|all| all.iter().map(entry).collect::<Vec<_>>()));
    Ok(document)
}

fn fetching(fetched: &Fetched) -> String {
    let size = bytes(fetched.bytes);
    let Fetched { image, origin, .. } = fetched;
    match &fetched.layer {
        Some(layer) => format!("fetching layer {layer} of {image} from {origin}, {size}"),
        None => format!("fetched manifest and config of {image} from {origin}, {size}"),
    }
}

fn human(repaired: &Repaired, exchanged: &[Exchanged], restart: &Option<Vec<Restart>>) -> String {
    let mut text = String::new();
    for deployment in &repaired.deployments {
        let (good, bad) = (&deployment.repaired, &deployment.lost);
        let id = &deployment.id;
        if good.is_empty() && bad.is_empty() {
            text += &format!("deployment {id}: ok\n");
        }
        if !good.is_empty() {
            text += &format!(
                "deployment {id}: {} repaired\n",
                count(good.len(), "problem")
            );
            good.iter().for_each(|problem| text += &explain(problem));
        }
        if !bad.is_empty() {
            text += &format!(
                "deployment {id}: {} left, LOST\n",
                count(bad.len(), "problem")
            );
            bad.iter().for_each(|problem| text += &explain(problem));
        }
    }
    for unmended in &repaired.unmended {
        text += &format!(
            "not mended: {}: {}\n",
            unmended.what,
            value(&unmended.error)
        );
    }
    if !repaired.is_healthy() {
        text += "name a source that has what is lost: --from SOURCE; or sync the deployment\n";
    }
    for mount in exchanged {
        let target = mount.target.display();
        text += &match &mount.error {
            None => format!("mounted anew at {target}\n"),
            Some(error) => format!("the old mount stays at {target}: {}\n", value(error)),
        };
    }
    for container in restart.iter().flatten() {
        let names = value(&container.names.join(", "));
        text += &format!(
            "start again, if it runs: container {names} ({})\n",
            container.id
        );
    }
    text
}
