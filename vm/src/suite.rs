//! Every check of a guest on every kernel, as a test of its own.
//!
//! ```text
//! [KERNEL=6.12] cargo test -p vm --test kernels -- [FILTER]
//! ```
//! `KERNEL` is a name of the table or the beginning of a version, or several with
//! commas between. Each kernel
//! boots once, with the checks that the filter leaves of it. Without `KERNEL`
//! checks marked `once` run on one kernel each.

use std::{
    collections::BTreeMap,
    env, fs,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::{
    CheckName, Guest, KERNELS, Kernel, Report, Runner, boot::Boot, forget_results, results,
};

/// A kernel and what is to run on it.
struct Plan {
    kernel: Kernel,
    checks: Vec<CheckName>,
}

impl Plan {
    /// The command lines that its checks ask for.
    fn options(&self) -> Vec<&str> {
        let mut options: Vec<&str> = Vec::new();
        for check in &self.checks {
            if !options.contains(&check.kernel_options.as_str()) {
                options.push(&check.kernel_options);
            }
        }
        options
    }

    fn boots<'a>(&'a self, guest: &'a Guest) -> impl Iterator<Item = Boot<'a>> {
        self.options().into_iter().map(move |options| {
            let these = self.checks.iter();
            let these = these.filter(|check| check.kernel_options == options);
            Boot {
                guest,
                kernel: &self.kernel,
                options,
                checks: these.cloned().collect(),
                console: self.console(options),
            }
        })
    }

    fn console(&self, options: &str) -> String {
        let name = self.kernel.source.name;
        match self.options().iter().position(|of| *of == options) {
            Some(0) | None => format!("{name}.console"),
            Some(at) => format!("{name}.{}.console", at + 1),
        }
    }
}

/// Boots the kernels and tells of every check as of a test.
///
/// # Errors
/// Of this side: what could not be built, fetched or started.
pub fn main(guest: &Guest) -> Result<ExitCode> {
    let mut args = Arguments::from_args();
    let runner = Runner::build(guest.package)?;
    let plans = plans(&args, &runner)?;
    let mut guest = *guest;
    if let [plan] = &plans[..]
        && plan.options().len() == 1
    {
        // Nobody else wants them.
        guest.processors = guest.processors.max(2);
    }
    let reports = if args.list {
        Vec::new()
    } else {
        boot_all(&guest, &plans, &runner)?
    };
    let mut trials = Vec::new();
    for (at, plan) in plans.iter().enumerate() {
        let report = reports.get(at).cloned().map(Arc::new);
        let (name, boot) = (plan.kernel.source.name, report.clone());
        trials.push(Trial::test(format!("{name}::boot::ends"), move || {
            ends(boot.as_deref())
        }));
        for check in &plan.checks {
            let (id, report) = (check.id.clone(), report.clone());
            let console = results(&guest).join(plan.console(&check.kernel_options));
            trials.push(Trial::test(test_name(name, check), move || {
                judge(report.as_deref(), &id).map_err(|why| {
                    let why = why.message().unwrap_or_default();
                    format!("{why}\nits console: {}", console.display()).into()
                })
            }));
        }
    }
    // The filter has done its work, and must not leave out how the boots ended.
    args.filter = None;
    args.skip.clear();
    Ok(libtest_mimic::run(&args, trials).exit_code())
}

fn plans(args: &Arguments, runner: &Runner) -> Result<Vec<Plan>> {
    let wanted = env::var("KERNEL").unwrap_or_default();
    let mut plans = Vec::new();
    for (at, source) in KERNELS.iter().enumerate() {
        let kept = |check: &&CheckName| {
            is_kept(args, &test_name(source.name, check))
                && (!wanted.is_empty() || turn(runner, check).is_none_or(|turn| turn == at))
        };
        let checks: Vec<CheckName> = runner.checks().iter().filter(kept).cloned().collect();
        if checks.is_empty() {
            continue;
        }
        let kernel = Kernel::fetch(*source)?;
        let is = |wanted: &str| {
            // 6.1 is not 6.12.
            let rest = kernel.version.strip_prefix(wanted);
            let begins = rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()));
            wanted == source.name || begins
        };
        if wanted.is_empty() || wanted.split(',').any(is) {
            plans.push(Plan { kernel, checks });
        }
    }
    ensure!(
        wanted.is_empty() || !plans.is_empty(),
        "no kernel is called {wanted}, or the filter leaves no check"
    );
    Ok(plans)
}

/// Which of the kernels runs a check for which one is enough: they take turns.
fn turn(runner: &Runner, check: &CheckName) -> Option<usize> {
    let mut once = runner.checks().iter().filter(|check| check.once);
    let place = once.position(|other| other.id == check.id)?;
    Some(place % KERNELS.len())
}

fn test_name(kernel: &str, check: &CheckName) -> String {
    format!("{kernel}::{}", check.id)
}

/// As libtest does it; libtest-mimic would filter only after the boot.
fn is_kept(args: &Arguments, name: &str) -> bool {
    let is = |filter: &String| {
        if args.exact {
            name == filter
        } else {
            name.contains(filter)
        }
    };
    args.filter.as_ref().is_none_or(is) && !args.skip.iter().any(is)
}

/// The report of each plan. Of each its checks are run by a boot for each command
/// line that they ask for.
fn boot_all(guest: &Guest, plans: &[Plan], runner: &Runner) -> Result<Vec<Report>> {
    forget_results(guest)?;
    let boots: Vec<(usize, Boot)> = plans
        .iter()
        .enumerate()
        .flat_map(|(at, plan)| plan.boots(guest).map(move |boot| (at, boot)))
        .collect();
    let next = Mutex::new(boots.iter().enumerate());
    let done = Mutex::new(BTreeMap::new());
    let work = || -> Result<()> {
        loop {
            let taken = next.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((number, (at, boot))) = taken else {
                return Ok(());
            };
            let report = boot.run(runner)?;
            let (name, checks) = (boot.kernel.source.name, boot.checks.len());
            let (version, retries) = (&boot.kernel.version, report.retries);
            eprintln!(
                "{name}: {version} {} ran {checks} checks in {:.1} s, {retries} boots died before START",
                boot.options, report.seconds
            );
            eprintln!("{name}: {}", capabilities(&report));
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.insert((*at, number), report);
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..guest.at_once).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker
                .join()
                .map_err(|_| anyhow::anyhow!("a worker panicked"))??;
        }
        anyhow::Ok(())
    })?;
    let mut reports: Vec<Report> = plans.iter().map(|plan| Report::of(&plan.kernel)).collect();
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    for ((at, _), report) in done {
        reports[at].add(report);
    }
    for report in &reports {
        let path = results(guest).join(format!("{}.json", report.kernel));
        fs::write(path, serde_json::to_vec_pretty(report)?).context("keep the report")?;
    }
    Ok(reports)
}

/// What it can, and how it refused the rest.
fn capabilities(report: &Report) -> String {
    let shown = |(name, found): (&String, &String)| match found.as_str() {
        "yes" => name.clone(),
        _ => format!("{name} ({found})"),
    };
    let all: Vec<String> = report.capabilities.iter().map(shown).collect();
    all.join(", ")
}

/// What has started must come to its end.
fn ends(report: Option<&Report>) -> Result<(), Failed> {
    let report = report.ok_or("nothing was booted")?;
    match &report.died {
        Some(died) => Err(died.into()),
        None => Ok(()),
    }
}

fn judge(report: Option<&Report>, id: &str) -> Result<(), Failed> {
    let report = report.ok_or("nothing was booted")?;
    let check = report.check(id);
    let check = check.ok_or("the machine died before or in this check: see boot::ends")?;
    if check.ok {
        return Ok(());
    }
    let lines = |lines: &[String]| lines.iter().map(|line| format!("\n  {line}")).collect();
    let (said, kernel): (String, String) = (lines(&check.said), lines(&check.kernel));
    Err(format!(
        "{}\nobserved: {}\nexpected: {}\nit said:{said}\nthe kernel said:{kernel}\ncapabilities: {}",
        check.row,
        check.observed,
        check.expected,
        capabilities(report)
    )
    .into())
}
