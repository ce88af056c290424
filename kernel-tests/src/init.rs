//! PID 1 of the guest: sets it up, runs every check in a process of its own,
//! reports on the second serial port.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::Write,
    process::{Command, ExitCode, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::{
    mount::{MountFlags, mount},
    system::{RebootCommand, reboot, uname},
};
use serde_json::json;

use crate::{
    capability::Capabilities,
    check::{Check, Expected},
    checks, early,
    guest::{CAPABILITIES, STORE},
    kmsg::Kmsg,
    probes, sys,
};

/// No check takes longer, even where two machines share a slow processor.
const LIMIT: Duration = Duration::from_secs(60);

/// What a check writes.
const STDOUT: &str = "/run/stdout";
const STDERR: &str = "/run/stderr";

/// Runs the guest and turns the machine off.
pub fn run() -> ExitCode {
    let failed = match guest() {
        Ok(failed) => failed,
        Err(error) => {
            eprintln!("kernel-tests: {error:#}");
            2
        }
    };
    sys::debug_exit(failed);
    // QEMU runs with -no-reboot: the same, without a status.
    let _gone = reboot(RebootCommand::Restart);
    ExitCode::FAILURE
}

fn guest() -> Result<u8> {
    set_up()?;
    let mut port = OpenOptions::new()
        .write(true)
        .open("/dev/ttyS1")
        .context("open /dev/ttyS1")?;
    let release = uname().release().to_string_lossy().into_owned();
    writeln!(port, "START {release}")?;
    let wanted = fs::read_to_string("/checks").unwrap_or_default();
    let wanted: BTreeSet<&str> = wanted.lines().collect();

    let mut capabilities = Capabilities::default();
    let mut probed = Vec::new();
    for (capability, id, check) in probes::all() {
        let ran = run_one(&id);
        let found = ran.observed.clone();
        writeln!(port, "C|{}|{}", check.name, found.replace('\n', " "))?;
        capabilities.0.insert(capability, found);
        probed.push((id, check, ran));
    }
    fs::write(CAPABILITIES, serde_json::to_vec(&capabilities)?).context("keep the capabilities")?;

    let mut failed = 0;
    for (id, check, ran) in probed {
        if wanted.contains(id.as_str()) {
            failed |= report(&mut port, &id, check, &capabilities, ran)?;
        }
    }
    let probes: BTreeSet<String> = probes::all().map(|(_, id, _)| id).collect();
    for (id, check) in checks::all() {
        if wanted.contains(id.as_str()) && !probes.contains(&id) {
            let ran = run_one(&id);
            failed |= report(&mut port, &id, check, &capabilities, ran)?;
        }
    }
    writeln!(port, "END")?;
    Ok(failed)
}

fn set_up() -> Result<()> {
    early::mount_all(&early::KERNELS)?;
    early::mount_all(&[("tmpfs", "/run"), ("tmpfs", "/tmp")])?;
    early::load_modules()?;
    fs::create_dir_all(STORE)?;
    mount(
        crate::fixture::disk::find("store")?,
        STORE,
        "ext4",
        MountFlags::empty(),
        c"",
    )
    .context("mount the store's disk")?;
    // Images from folders are taken only where a policy says so.
    fs::create_dir_all("/etc/containers")?;
    let policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
    fs::write("/etc/containers/policy.json", policy)?;
    Ok(())
}

/// What came of a check's process.
struct Ran {
    observed: String,
    /// Whether the check itself went wrong: an error, a panic, a hang.
    broken: bool,
    /// What it wrote to stderr.
    said: Vec<String>,
    kernel: Vec<String>,
    time: Duration,
}

fn run_one(id: &str) -> Ran {
    let begun = Instant::now();
    let mut kmsg = Kmsg::now();
    let result = run_child(id);
    let kernel = kmsg.as_mut().map(Kmsg::lines).unwrap_or_default();
    let said = fs::read_to_string(STDERR).unwrap_or_default();
    let (observed, broken) = match result {
        Ok(observed) => (observed, false),
        Err(error) => (format!("ERROR: {error:#}"), true),
    };
    Ran {
        observed,
        broken,
        said: said.lines().map(str::to_owned).collect(),
        kernel,
        time: begun.elapsed(),
    }
}

/// What the check observed.
fn run_child(id: &str) -> Result<String> {
    let mut child = Command::new("/proc/self/exe")
        .args(["--check", id])
        .stdin(Stdio::null())
        .stdout(File::create(STDOUT)?)
        .stderr(File::create(STDERR)?)
        .spawn()?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > LIMIT {
            child.kill()?;
            // Not waited for: it may hang in the kernel.
            bail!("it took over {} s", LIMIT.as_secs());
        }
        sleep(Duration::from_millis(2));
    };
    ensure!(status.success(), "{status}");
    Ok(fs::read_to_string(STDOUT)?.trim().to_owned())
}

/// Writes one line; 1 if the check failed.
fn report(
    port: &mut File,
    id: &str,
    check: &Check,
    capabilities: &Capabilities,
    ran: Ran,
) -> Result<u8> {
    let expected: Expected = (check.expect)(capabilities);
    let ok = !ran.broken && expected.holds(&ran.observed);
    let (said, kernel) = if ok {
        Default::default()
    } else {
        (ran.said, ran.kernel)
    };
    let result = json!({
        "id": id, "row": check.row, "observed": ran.observed, "expected": expected.text(),
        "ok": ok, "said": said, "kernel": kernel, "millis": u64::try_from(ran.time.as_millis())?,
    });
    let word = if ok { "ok" } else { "FAILED" };
    writeln!(port, "R|{id}|{word}|{result}")?;
    Ok(u8::from(!ok))
}
