//! One kernel, its checks, one report.

use std::{
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result};

use crate::{
    CheckName, Guest, Kernel, Report, Runner,
    cpio::Cpio,
    modules,
    qemu::{Ended, Machine},
    results, selinux,
};

/// A boot that died before the runner started says nothing of us: QEMU's TCG
/// fails now and then. What dies later is never tried again.
const RETRIES: u32 = 2;

/// Boots `kernel` and runs `checks`, with a boot for each command line that they
/// ask for. What the machines came to is in the report and, with the consoles,
/// below [`results`]; an error is one of this side.
pub fn boot(
    guest: &Guest,
    kernel: &Kernel,
    runner: &Runner,
    checks: &[CheckName],
) -> Result<Report> {
    let name = kernel.source.name;
    let results = results(guest);
    fs::create_dir_all(&results)?;
    let mut options: Vec<&str> = Vec::new();
    for check in checks {
        if !options.contains(&check.kernel_options.as_str()) {
            options.push(&check.kernel_options);
        }
    }
    let mut report = Report {
        kernel: name.to_owned(),
        version: kernel.version.clone(),
        ..Report::default()
    };
    for (at, options) in options.into_iter().enumerate() {
        let these = checks.iter();
        let these = these.filter(|check| check.kernel_options == options);
        let boot = Boot {
            guest,
            kernel,
            options,
            checks: these.cloned().collect(),
            console: results.join(match at {
                0 => format!("{name}.console"),
                _ => format!("{name}.{}.console", at + 1),
            }),
        };
        report.add(boot.run(runner, &results)?);
    }
    let json = serde_json::to_vec_pretty(&report)?;
    fs::write(results.join(format!("{name}.json")), json).context("keep the report")?;
    Ok(report)
}

/// One command line of one kernel.
struct Boot<'a> {
    guest: &'a Guest,
    kernel: &'a Kernel,
    options: &'a str,
    checks: Vec<CheckName>,
    console: PathBuf,
}

impl Boot<'_> {
    fn run(&self, runner: &Runner, results: &Path) -> Result<Report> {
        let work = tempfile::Builder::new()
            .prefix("boot.")
            .tempdir_in(results)?;
        let initramfs = work.path().join("initramfs");
        self.pack(runner, &initramfs)
            .context("make the initramfs")?;
        let mut retries = 0;
        loop {
            let disks = tempfile::Builder::new()
                .prefix("disks.")
                .tempdir_in(results)?;
            let mut report = self.run_once(&initramfs, disks.path())?;
            report.retries = retries;
            if report.release.is_some() || retries == RETRIES {
                return Ok(report);
            }
            retries += 1;
            let name = self.kernel.source.name;
            eprintln!("{name}: died before START, trying again");
        }
    }

    fn run_once(&self, initramfs: &Path, work: &Path) -> Result<Report> {
        let port = work.join("results");
        for file in [&self.console, &port] {
            File::create(file).with_context(|| format!("create {}", file.display()))?;
        }
        let machine = Machine {
            guest: self.guest,
            work,
            kernel: &self.kernel.image(),
            initramfs,
            kernel_options: self.options,
            disks: &(self.guest.disks)(work, &self.checks)?,
            console: &self.console,
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
        let by_itself =
            matches!(&ended, Ended::Exited(status) if matches!(status.code(), Some(1 | 3)));
        if !report.ended || !by_itself {
            let text = fs::read(&self.console)?;
            report.died = Some(describe(&ended, &String::from_utf8_lossy(&text)));
        }
        Ok(report)
    }

    /// ```text
    /// /init          the runner
    /// /modules/NN-*  in the order to load
    /// /checks        what to run, one a line
    /// /policy        of SELinux, where it is asked for
    /// ```
    fn pack(&self, runner: &Runner, to: &Path) -> Result<()> {
        let modules = self.kernel.source.modules.iter().copied();
        let modules: Vec<&str> = modules
            .filter(|module| !self.guest.without.contains(module))
            .collect();
        let mut cpio = Cpio::new(BufWriter::new(File::create(to)?));
        for folder in ["dev", "proc", "sys", "run", "tmp", "mnt", "modules"] {
            cpio.directory(folder)?;
        }
        // Without it the runner has no standard output before it mounts /dev.
        cpio.char_device("dev/console", (5, 1))?;
        cpio.file("init", 0o755, &runner.read()?)?;
        for (at, module) in modules::closure(self.kernel, &modules)?.iter().enumerate() {
            cpio.file(
                &format!("modules/{at:02}-{}", module.name),
                0o644,
                &module.elf,
            )?;
        }
        if self.options.contains("selinux") {
            cpio.file("policy", 0o644, &selinux::policy()?)?;
        }
        let ids: Vec<&str> = self.checks.iter().map(|check| check.id.as_str()).collect();
        cpio.file("checks", 0o644, ids.join("\n").as_bytes())?;
        cpio.finish()?;
        Ok(())
    }
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
