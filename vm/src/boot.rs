//! One kernel, checks that ask for the same of it, one report.

use std::{
    fs::{self, File},
    io::BufWriter,
    path::Path,
    time::Instant,
};

use anyhow::{Context as _, Result};

use crate::{
    CheckName, Guest, Kernel, Report, Runner, boot_loader,
    cpio::Cpio,
    disks::Attached,
    modules,
    qemu::{Ended, Machine},
    results, selinux,
};

/// A boot that died before the runner started says nothing of us: QEMU's TCG
/// fails now and then. What dies later is never tried again.
const RETRIES: u32 = 2;

/// What one boot, or one row of boots, is about.
#[derive(Debug)]
pub(crate) struct Boot<'a> {
    pub(crate) guest: &'a Guest,
    pub(crate) kernel: &'a Kernel,
    /// For the kernel's command line; all checks ask for the same.
    pub(crate) options: &'a str,
    pub(crate) checks: Vec<CheckName>,
    /// The name of its console, below [`results`].
    pub(crate) console: String,
}

impl Boot<'_> {
    /// Boots until the guest says no more that it starts again. What the machine
    /// came to is in the report and its console; an error is one of this side.
    pub(crate) fn run(&self, runner: &Runner) -> Result<Report> {
        let results = results(self.guest);
        fs::create_dir_all(&results)?;
        let work = tempfile::Builder::new()
            .prefix("boot.")
            .tempdir_in(&results)?;
        let initramfs = work.path().join("initramfs");
        self.pack(runner, &initramfs)
            .context("make the initramfs")?;
        let disks = (self.guest.disks)(work.path(), &self.checks)?;
        let console = results.join(&self.console);
        File::create(&console).context("create the console")?;
        let mut report = Report::default();
        loop {
            let machine = self.run_until_started(&initramfs, &console, work.path(), &disks)?;
            let again = machine.reboots && machine.died.is_none();
            report.add(machine);
            if !again {
                return Ok(report);
            }
        }
    }

    fn run_until_started(
        &self,
        initramfs: &Path,
        console: &Path,
        work: &Path,
        disks: &[Attached],
    ) -> Result<Report> {
        let mut retries = 0;
        loop {
            let mut report = self.run_once(initramfs, console, work, disks)?;
            report.retries = retries;
            if report.release.is_some() || retries == RETRIES {
                return Ok(report);
            }
            retries += 1;
            let name = self.kernel.source.name;
            eprintln!("{name}: died before START, trying again");
        }
    }

    fn run_once(
        &self,
        initramfs: &Path,
        console: &Path,
        work: &Path,
        disks: &[Attached],
    ) -> Result<Report> {
        let port = work.join("results");
        File::create(&port).with_context(|| format!("create {}", port.display()))?;
        let entry = match disks.iter().find(|disk| disk.boot_loader) {
            Some(disk) => {
                let options = boot_loader::options(&disk.image).context("as the boot loader")?;
                match self.kernel.source.requires_verity || options.contains("composefs=?") {
                    true => options,
                    false => options.replace("composefs=", "composefs=?"),
                }
            }
            None => String::new(),
        };
        let machine = Machine {
            guest: self.guest,
            work,
            kernel: &self.kernel.image(),
            initramfs,
            kernel_options: &format!("{} {entry}", self.options),
            disks,
            console,
            results: &port,
        };
        let begun = Instant::now();
        let ended = machine.run()?;
        let mut report = Report {
            seconds: begun.elapsed().as_secs_f64(),
            ..Report::default()
        };
        report.read(&String::from_utf8_lossy(&fs::read(&port)?));
        // isa-debug-exit: 2 * 0 + 1 where all is well, 2 * 1 + 1 where a check
        // failed. What starts again leaves QEMU as -no-reboot says.
        let by_itself = match &ended {
            Ended::Exited(status) if report.reboots => status.success(),
            Ended::Exited(status) => matches!(status.code(), Some(1 | 3)),
            Ended::TimedOut(_) | Ended::Stopped => false,
        };
        if !(report.ended || report.reboots) || !by_itself {
            let text = fs::read(console)?;
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
    pub(crate) fn pack(&self, runner: &Runner, to: &Path) -> Result<()> {
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
        Ended::Stopped => "killed, as was asked for".to_owned(),
    };
    format!("the machine died: {ended}; the end of its console:\n{tail}")
}
