//! One run of QEMU.

use std::{
    fs,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{Guest, disks::Attached, kvm};

/// A machine to be run.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initramfs: &'a Path,
    /// For the kernel's command line, besides what the guest always has.
    pub(crate) kernel_options: &'a str,
    pub(crate) disks: &'a [Attached],
    pub(crate) guest: &'a Guest,
    /// For what the guest writes to snapshots.
    pub(crate) work: &'a Path,
    /// The kernel's own messages.
    pub(crate) console: &'a Path,
    /// What the runner reports.
    pub(crate) results: &'a Path,
}

/// How a machine ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// It said nothing in time, or did not end in time.
    TimedOut(Duration),
    /// It was killed when that was asked for.
    Stopped,
}

impl Machine<'_> {
    /// Runs it to its end.
    pub(crate) fn run(&self) -> Result<Ended> {
        self.run_until(|| false)
    }

    /// Runs it to its end, or until `stop` says so: then it is killed.
    pub(crate) fn run_until(&self, mut stop: impl FnMut() -> bool) -> Result<Ended> {
        let mut child = Killed(self.command().spawn().context("start qemu-system-x86_64")?);
        let begun = Instant::now();
        loop {
            if let Some(status) = child.0.try_wait()? {
                return Ok(Ended::Exited(status));
            }
            if stop() {
                return Ok(Ended::Stopped);
            }
            let limit = if fs::metadata(self.results).is_ok_and(|results| results.len() > 0) {
                self.guest.limit
            } else {
                self.guest.start_limit
            };
            if begun.elapsed() > limit {
                return Ok(Ended::TimedOut(limit));
            }
            sleep(Duration::from_millis(50));
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        if kvm::works() {
            command.args(["-accel", "kvm", "-cpu", "host"]);
        } else {
            // cmpxchg16b of QEMU before 8.0 destroys flags now and then, and
            // with them a third of the boots of 6.12. Programs that find AVX
            // use it, which is slow where it is emulated.
            command.args(["-accel", "tcg,thread=multi"]);
            command.args(["-cpu", "max,-cx16,-avx,-avx2"]);
        }
        command
            .env("TMPDIR", self.work)
            .args(["-m", &self.guest.mebibytes.to_string()])
            .args(["-smp", &self.guest.processors.to_string()])
            .args(["-nic", "none", "-no-reboot"])
            .args(["-nodefaults", "-display", "none"])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initramfs)
            // Without a kernel message for every boot step, which the serial
            // port makes slow; all of them are in /dev/kmsg.
            .arg("-append")
            .arg(format!(
                "console=ttyS0 loglevel=4 panic=-1 random.trust_cpu=on {} {}",
                self.guest.append, self.kernel_options
            ))
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1"]);
        for (name, port) in [("console", self.console), ("results", self.results)] {
            let path = port.display();
            command
                .args(["-chardev", &format!("file,id={name},path={path},append=on")])
                .args(["-serial", &format!("chardev:{name}")]);
        }
        // Without threads of their own disks wait for QEMU's main loop.
        for disk in self.disks {
            let (serial, drive) = (disk.serial, drive(disk));
            command
                .args(["-object", &format!("iothread,id=thread-{serial}")])
                .args(["-drive", &format!("if=none,id={serial},{drive}")])
                .arg("-device")
                .arg(format!(
                    "virtio-blk-pci,drive={serial},serial={serial},iothread=thread-{serial}"
                ));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

fn drive(disk: &Attached) -> String {
    let image = disk.image.display();
    let Some(log) = &disk.log else {
        let snapshot = if disk.snapshot { "on" } else { "off" };
        return format!("file={image},format=raw,cache=unsafe,snapshot={snapshot}");
    };
    // Flushes come as far as the log, and not to the disk of this machine.
    let file = |name: &str, path: std::path::Display<'_>| {
        format!("{name}.driver=file,{name}.filename={path},{name}.cache.no-flush=on")
    };
    format!(
        "driver=blklogwrites,cache=writeback,log-sector-size=512,log-super-update-interval=1,{},{}",
        file("file", image),
        file("log", log.display())
    )
}

/// Kills the process it holds when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It has exited: what was wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
