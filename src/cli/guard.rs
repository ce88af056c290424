//! `boundstore guard stage` and `boundstore guard veto`: what systemd's units
//! start, documented in docs/bootc.md.

use std::{
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    Global,
    failure::{Exit, Failure},
};
use crate::{
    config::Config,
    deployment::{Guard, Judgement, Ready, Verdict, host::HostPaths, note_sync},
    error::{Doing, PathError, with_causes},
    repo::DeploymentId,
};

#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, Clone, Copy, clap::Subcommand)]
enum Step {
    /// Hold the staged deployment back until its set is there, and bring that
    Stage,
    /// Hold the staged deployment back if its set is not there
    Veto,
}

/// How often a running sync is looked at.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) fn run(global: &Global, args: Args) -> Result<Exit, Failure> {
    let (config, broken) = global.config();
    let Some(host) = global.host()? else {
        let message = "this host has no deployments of its own: there is nothing to guard";
        return Err(Failure::new(Exit::Failed, message));
    };
    let paths = global.host_paths();
    let guard = Guard {
        host: host.as_ref(),
        paths: &paths,
        policy: config.guard.policy,
    };
    let exit = match args.step {
        Step::Stage => stage(global, &config, guard)?,
        Step::Veto => veto(global, guard)?,
    };
    broken.map_or(Ok(exit), Err)
}

fn stage(global: &Global, config: &Config, guard: Guard<'_>) -> Result<Exit, Failure> {
    let limit = config.guard.sync_timeout;
    let ready = guard.stage(|id| sync(global, &guard, id, limit))?;
    let result = json!({
        "deployment": ready.as_ref().map(|ready| &ready.deployment),
        "synced": ready.as_ref().is_some_and(|ready| ready.synced),
        "held_by_others": ready.as_ref().is_some_and(|ready| ready.held_by_others),
    });
    if let Some(error) = ready.as_ref().and_then(|ready| ready.not_noted.as_ref()) {
        warn_not_noted(global, error);
    }
    if let Some(ready) = &ready {
        // A sync may have failed after it had published all.
        let _only_status_reads_it = note_sync(&global.host_paths(), &ready.deployment, None);
    }
    let text = || match &ready {
        None => "no deployment is staged\n".to_owned(),
        Some(Ready {
            deployment,
            held_by_others,
            ..
        }) => {
            let then = if *held_by_others {
                "; it is held back, and not by us"
            } else {
                ""
            };
            format!("the staged deployment {deployment} has its set{then}\n")
        }
    };
    global.output().result("guard-stage", &result, text)?;
    Ok(Exit::Done)
}

/// Syncs in a process of its own: it has a mount namespace of its own, and can
/// be ended whatever it does where it takes too long or another deployment is
/// staged. What it fetched stays.
fn sync(
    global: &Global,
    guard: &Guard<'_>,
    id: &DeploymentId,
    limit: Duration,
) -> Result<(), Failure> {
    let program = std::env::current_exe().doing("find", "/proc/self/exe")?;
    let HostPaths {
        root,
        sysroot,
        repo,
    } = global.host_paths();
    let mut command = Command::new(&program);
    command.arg("sync").args(["--deployment", id.as_str()]);
    let spool = root.join("var/cache/boundstore");
    command
        .arg("--spool")
        .arg(spool)
        .arg("--host-root")
        .arg(root);
    command.arg("--sysroot").arg(sysroot);
    command.arg("--repo").arg(repo);
    let flags = [
        (global.allow_missing_verity, "--allow-missing-verity"),
        (global.quiet, "--quiet"),
        (global.verbose, "--verbose"),
    ];
    command.args(flags.iter().filter(|(on, _)| *on).map(|(_, flag)| flag));
    // Its result is none of ours.
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.spawn().doing("run", &program)?;
    let status = wait(&mut child, guard, id, limit);
    if !matches!(status, Ok(Some(_))) {
        end(&mut child);
    }
    let failed = |exit, message: String| Err(Failure::new(exit, message));
    match status? {
        Some(status) if status.success() => Ok(()),
        Some(status) => {
            let exit = Exit::of_child(status.code());
            failed(exit, format!("the set of {id} could not be brought"))
        }
        None => {
            let message = format!(
                "the set of {id} was not brought: another deployment was staged, or it took more \
                 than {} seconds (sync-timeout)",
                limit.as_secs()
            );
            // It could not say so itself.
            note_sync(&global.host_paths(), id, Some(&message))?;
            failed(Exit::NotNow, message)
        }
    }
}

/// How the child ended, unless it takes too long or `id` is staged no more,
/// which is held back until then.
fn wait(
    child: &mut Child,
    guard: &Guard<'_>,
    id: &DeploymentId,
    limit: Duration,
) -> Result<Option<ExitStatus>, Failure> {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        if let Some(status) = child.try_wait().doing("wait for", "boundstore sync")? {
            return Ok(Some(status));
        }
        if !guard.hold(id)? {
            return Ok(None);
        }
        sleep(PAUSE);
    }
    Ok(None)
}

/// Kills it. The kernel may keep a killed process as long as a disk does not
/// answer, which is none of this one's waiting.
fn end(child: &mut Child) {
    let _gone = child.kill();
    for _ in 0..50 {
        if !matches!(child.try_wait(), Ok(None)) {
            break;
        }
        sleep(PAUSE);
    }
}

/// The deployments are held back, or let go, all the same.
fn warn_not_noted(global: &Global, error: &PathError) {
    let message = format!("last-veto.json is not up to date: {}", with_causes(error));
    global.output().warn(&message);
}

fn veto(global: &Global, guard: Guard<'_>) -> Result<Exit, Failure> {
    let Judgement {
        verdicts,
        not_noted,
    } = guard.veto()?;
    let output = global.output();
    let mut exit = Exit::Done;
    for Verdict {
        deployment,
        lack,
        vetoed,
    } in &verdicts
    {
        let Some(lack) = lack else { continue };
        exit = Exit::Unhealthy;
        let then = if *vetoed {
            "it will not be the next boot; `boundstore status` tells how to stage it again"
        } else {
            "it will be the next boot all the same (policy \"warn\")"
        };
        output.warn(&format!(
            "deployment {deployment} is incomplete: {lack}: {then}"
        ));
    }
    if let Some(error) = &not_noted {
        warn_not_noted(global, error);
    }
    let rows: Vec<_> = verdicts
        .iter()
        .map(|verdict| {
            json!({
                "deployment": verdict.deployment, "complete": verdict.lack.is_none(),
                "lack": verdict.lack, "vetoed": verdict.vetoed,
            })
        })
        .collect();
    let text = || {
        let complete = verdicts.iter().filter(|verdict| verdict.lack.is_none());
        complete.fold(String::new(), |text, verdict| {
            text + &format!("deployment {} has its set\n", verdict.deployment)
        })
    };
    output.result("guard-veto", &json!({ "deployments": rows }), text)?;
    Ok(exit)
}
