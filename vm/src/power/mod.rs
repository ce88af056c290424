//! Power cuts: a machine that syncs, swaps, removes and collects is killed, and
//! what its disk may hold then is given to another one, which checks it.
//!
//! ```text
//! power-tests, power=load    on a disk whose writes QEMU logs; killed at a random moment
//!    | log.rs       the disk as it was killed, and as it may have been at other moments
//! power-tests, power=check   eight disks at a time
//! ```
//! A killed QEMU loses what the guest had in memory. The disks made from the log
//! lose more: of what was written since the last flush each has a random part, by
//! blocks of 4 KiB, which is what ext4 takes a disk to write as a whole.

mod log;
mod random;

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use self::{
    log::{Cut, Log, copy},
    random::Random,
};
use crate::{
    Guest, Kernel, Runner,
    boot::Boot,
    command::output,
    disks::Attached,
    guest::POWER_TESTS,
    podman::boundstore,
    project,
    qemu::{Ended, Machine},
    results,
    rootfs::{mebibytes, mkfs, rootfs},
};

/// The serial numbers of the disks that one machine checks.
const SERIALS: [&str; 8] = [
    "cut0", "cut1", "cut2", "cut3", "cut4", "cut5", "cut6", "cut7",
];
/// Of a disk; its last one is for marks.
const MEBIBYTES: u64 = 512;
/// Marks that a load has set before it is killed: at least, and how many more
/// below. The first two turns of the load's work set 20.
const MARKS: (usize, usize) = (6, 20);

/// What became of one disk.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// How its power was cut.
    pub cut: String,
    /// Whether all was as it must be.
    pub ok: bool,
    /// What its deployments had, or what was wrong.
    pub said: String,
}

/// A kernel, and all that machines on it are made of.
#[derive(Debug)]
pub struct Power {
    kernel: Kernel,
    runner: Runner,
    work: tempfile::TempDir,
}

impl Power {
    /// On this kernel.
    ///
    /// # Errors
    /// What cannot be built or made.
    pub fn new(kernel: Kernel) -> Result<Self> {
        let runner = Runner::build(POWER_TESTS.package)?;
        let results = results(&POWER_TESTS);
        fs::create_dir_all(&results)?;
        let work = tempfile::Builder::new()
            .prefix("power.")
            .tempdir_in(results)?;
        let this = Self {
            kernel,
            runner,
            work,
        };
        this.boot("").pack(&this.runner, &this.initramfs())?;
        Ok(this)
    }

    /// One load, killed once; its disk and `cuts` others from its log.
    ///
    /// # Errors
    /// A machine that cannot be run, or does not come as far as it must.
    pub fn cut(&self, seed: u64, cuts: usize) -> Result<Vec<Verdict>> {
        let random = &mut Random::new(seed);
        let folder = tempfile::tempdir_in(self.work.path())?;
        let at = |name: &str| folder.path().join(name);
        make_disk(&at("sysroot"))?;
        copy(&at("sysroot"), &at("blank"))?;
        let marks = self.load(folder.path(), random)?;
        let log = Log::open(&at("log"))?;
        let flushes = log.flushes();
        ensure!(
            flushes > marks,
            "{flushes} flushes for {marks} marks: some are not seen"
        );
        let mut all = vec![Cut {
            allowed: mark_of(&at("sysroot"))?,
            image: at("sysroot"),
            told: format!("killed after {marks} marks and {flushes} flushes"),
        }];
        all.extend(log.cut(&at("blank"), folder.path(), cuts, random)?);
        let mut verdicts = Vec::new();
        for cuts in all.chunks(SERIALS.len()) {
            verdicts.extend(self.check(folder.path(), cuts)?);
        }
        Ok(verdicts)
    }

    /// Runs the load until it has set some marks, and a little longer.
    fn load(&self, folder: &Path, random: &mut Random) -> Result<usize> {
        let wanted = MARKS.0 + random.below(MARKS.1);
        let longer = Duration::from_millis(random.below(400) as u64);
        File::create(folder.join("log")).context("create the log")?;
        let disk = Attached {
            serial: "sysroot",
            image: folder.join("sysroot"),
            snapshot: false,
            boot_loader: false,
            log: Some(folder.join("log")),
        };
        let port = folder.join("load.results");
        let marks = || {
            let said = fs::read_to_string(&port).unwrap_or_default();
            said.lines()
                .filter(|line| line.starts_with("MARK "))
                .count()
        };
        let mut reached = None;
        let ended = self.machine(folder, "load", vec![disk], &[], || {
            if reached.is_none() && marks() >= wanted {
                reached = Some(Instant::now());
            }
            reached.is_some_and(|reached: Instant| reached.elapsed() >= longer)
        })?;
        let console = fs::read(folder.join("load.console")).unwrap_or_default();
        ensure!(
            matches!(ended, Ended::Stopped),
            "the load ended by itself: {ended:?}\n{}",
            String::from_utf8_lossy(&console)
        );
        Ok(marks())
    }

    fn check(&self, folder: &Path, cuts: &[Cut]) -> Result<Vec<Verdict>> {
        let disk = |(serial, cut): (&'static str, &Cut)| Attached {
            serial,
            image: cut.image.clone(),
            snapshot: false,
            boot_loader: false,
            log: None,
        };
        let disks = SERIALS.into_iter().zip(cuts).map(disk).collect();
        let ended = self.machine(folder, "check", disks, cuts, || false)?;
        let said = fs::read_to_string(folder.join("check.results"))?;
        let console = fs::read(folder.join("check.console")).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let verdict = |(serial, cut): (&str, &Cut)| {
            let begin = format!("CUT {serial} ");
            let line = said.lines().find_map(|line| line.strip_prefix(&begin));
            let line = line.map(str::to_owned);
            let line = line.unwrap_or_else(|| format!("not checked: {ended:?}\n{console}"));
            Verdict {
                cut: format!("{} ({})", cut.told, cut.allowed),
                ok: line.starts_with("ok "),
                said: line,
            }
        };
        Ok(SERIALS.into_iter().zip(cuts).map(verdict).collect())
    }

    /// Runs a machine in a role until it ends or `stop` says so.
    fn machine(
        &self,
        folder: &Path,
        role: &str,
        mut disks: Vec<Attached>,
        cuts: &[Cut],
        stop: impl FnMut() -> bool,
    ) -> Result<Ended> {
        let [console, port] =
            ["console", "results"].map(|kind| folder.join(format!("{role}.{kind}")));
        for file in [&console, &port] {
            File::create(file).with_context(|| format!("create {}", file.display()))?;
        }
        disks.push(Attached::snapshot("root", rootfs()?.image));
        disks.push(Attached::snapshot("input", input(folder, cuts)?));
        let machine = Machine {
            guest: &POWER_TESTS,
            work: folder,
            kernel: &self.kernel.image(),
            initramfs: &self.initramfs(),
            kernel_options: &format!("power={role}"),
            disks: &disks,
            console: &console,
            results: &port,
        };
        machine.run_until(stop)
    }

    fn boot<'a>(&'a self, options: &'a str) -> Boot<'a> {
        const GUEST: &Guest = &POWER_TESTS;
        Boot {
            guest: GUEST,
            kernel: &self.kernel,
            options,
            checks: Vec::new(),
            console: String::new(),
        }
    }

    fn initramfs(&self) -> PathBuf {
        self.work.path().join("initramfs")
    }
}

/// A new disk: a filesystem, and room for marks behind it.
fn make_disk(image: &Path) -> Result<()> {
    let file = File::create(image).with_context(|| format!("create {}", image.display()))?;
    file.set_len(MEBIBYTES << 20)?;
    let mut command = Command::new("mkfs.ext4");
    command
        .args(["-q", "-F", "-b", "4096", "-O", "verity"])
        .arg(image);
    output(command.arg(format!("{}M", MEBIBYTES - 1))).map(drop)
}

/// The last mark on a disk.
fn mark_of(image: &Path) -> Result<String> {
    let mut bytes = [0; 512];
    File::open(image)?.read_exact_at(&mut bytes, (MEBIBYTES - 1) << 20)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.trim_end_matches('\0').to_owned())
}

/// ```text
/// /boundstore    as cargo builds it       /app    OCI layout
/// /cuts          serial number and mark of each disk to be checked
/// ```
fn input(folder: &Path, cuts: &[Cut]) -> Result<PathBuf> {
    let tree = tempfile::tempdir_in(folder)?;
    let at = |name: &str| tree.path().join(name);
    let fixtures = output(&mut Command::new(project().join("scripts/fixtures")))?;
    let app = Path::new(fixtures.trim_end()).join("app-small");
    output(Command::new("cp").arg("-a").arg(app).arg(at("app")))?;
    fs::copy(boundstore()?, at("boundstore"))?;
    let lines = SERIALS.into_iter().zip(cuts);
    let lines = lines.map(|(serial, cut)| format!("{serial} {}\n", cut.allowed));
    fs::write(at("cuts"), lines.collect::<String>())?;
    let image = folder.join("input.ext4");
    mkfs(&image, mebibytes(tree.path())? * 2 + 64, tree.path())?;
    Ok(image)
}
