//! One kernel, its checks, one report.

use std::{
    fs::{self, File},
    io::BufWriter,
    path::Path,
    time::Instant,
};

use anyhow::{Context as _, Result};

use crate::{
    CheckName, Guest, Kernel, Report, Runner,
    cpio::Cpio,
    modules,
    qemu::{Ended, Machine},
    results,
};

/// A boot that died before the runner started says nothing of us: QEMU's TCG
/// fails now and then. What dies later is never tried again.
const RETRIES: u32 = 2;

/// Boots `kernel` and runs `checks`. What the machine came to is in the report
/// and, with the console, below [`results`]; an error is one of this side.
pub fn boot(
    guest: &Guest,
    kernel: &Kernel,
    runner: &Runner,
    checks: &[CheckName],
) -> Result<Report> {
    let name = kernel.source.name;
    let results = results(guest);
    fs::create_dir_all(&results)?;
    let work = tempfile::Builder::new()
        .prefix("boot.")
        .tempdir_in(&results)?;
    let initramfs = work.path().join("initramfs");
    pack(guest, kernel, runner, checks, &initramfs).context("make the initramfs")?;
    let mut retries = 0;
    let mut report = loop {
        let mut report = try_boot(guest, kernel, checks, &initramfs)?;
        report.retries = retries;
        if report.release.is_some() || retries == RETRIES {
            break report;
        }
        retries += 1;
        eprintln!("{name}: died before START, trying again");
    };
    name.clone_into(&mut report.kernel);
    report.version.clone_from(&kernel.version);
    let json = serde_json::to_vec_pretty(&report)?;
    fs::write(results.join(format!("{name}.json")), json).context("keep the report")?;
    Ok(report)
}

fn try_boot(
    guest: &Guest,
    kernel: &Kernel,
    checks: &[CheckName],
    initramfs: &Path,
) -> Result<Report> {
    let results = results(guest);
    let console = results.join(format!("{}.console", kernel.source.name));
    let work = tempfile::Builder::new()
        .prefix("disks.")
        .tempdir_in(&results)?;
    let port = work.path().join("results");
    for file in [&console, &port] {
        File::create(file).with_context(|| format!("create {}", file.display()))?;
    }
    let machine = Machine {
        guest,
        work: work.path(),
        kernel: &kernel.image(),
        initramfs,
        disks: &(guest.disks)(work.path(), checks)?,
        console: &console,
        results: &port,
    };
    let begun = Instant::now();
    let ended = machine.run()?;
    let mut report = Report {
        seconds: begun.elapsed().as_secs_f64(),
        ..Report::default()
    };
    report.read(&String::from_utf8_lossy(&fs::read(&port)?));
    // isa-debug-exit: 2 * 0 + 1 where all is well, 2 * 1 + 1 where a check failed.
    let by_itself = matches!(&ended, Ended::Exited(status) if matches!(status.code(), Some(1 | 3)));
    if !report.ended || !by_itself {
        let text = fs::read(&console)?;
        report.died = Some(describe(&ended, &String::from_utf8_lossy(&text)));
    }
    Ok(report)
}

fn describe(ended: &Ended, console: &str) -> String {
    const TAIL: usize = 60;
    let lines: Vec<&str> = console.lines().map(str::trim_end).collect();
    let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
    let ended = match ended {
        Ended::Exited(status) => format!("QEMU: {status}"),
        Ended::TimedOut(limit) => format!("killed after {} s", limit.as_secs()),
    };
    format!("the machine died: {ended}; the end of its console:\n{tail}")
}

/// ```text
/// /init          the runner
/// /modules/NN-*  in the order to load
/// /checks        what to run, one a line
/// ```
fn pack(
    guest: &Guest,
    kernel: &Kernel,
    runner: &Runner,
    checks: &[CheckName],
    to: &Path,
) -> Result<()> {
    let modules = kernel.source.modules.iter().copied();
    let modules: Vec<&str> = modules.filter(|m| !guest.without.contains(m)).collect();
    let mut cpio = Cpio::new(BufWriter::new(File::create(to)?));
    for folder in ["dev", "proc", "sys", "run", "tmp", "mnt", "modules"] {
        cpio.directory(folder)?;
    }
    // Without it the runner has no standard output before it mounts /dev.
    cpio.char_device("dev/console", (5, 1))?;
    cpio.file("init", 0o755, &runner.read()?)?;
    for (at, module) in modules::closure(kernel, &modules)?.iter().enumerate() {
        cpio.file(
            &format!("modules/{at:02}-{}", module.name),
            0o644,
            &module.elf,
        )?;
    }
    let ids: Vec<&str> = checks.iter().map(|check| check.id.as_str()).collect();
    cpio.file("checks", 0o644, ids.join("\n").as_bytes())?;
    cpio.finish()?;
    Ok(())
}
