//! Whether KVM is of use here. That `/dev/kvm` exists proves nothing: where
//! the processor has no virtualisation it may still be there, emulate every
//! instruction, slowly, and give up at those it does not know.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
    sync::OnceLock,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Result;

/// Asks once, by running something.
pub(crate) fn works() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    *WORKS.get_or_init(|| processor_can() && runs().unwrap_or(false))
}

fn processor_can() -> bool {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| flags.split(' ').any(|flag| flag == "vmx" || flag == "svm"))
}

/// Boots a sector that leaves through isa-debug-exit: well below a second.
fn runs() -> Result<bool> {
    const LIMIT: Duration = Duration::from_secs(5);
    // mov al, 16; out 0xf4, al; hlt
    let mut sector = [0; 512];
    sector[..5].copy_from_slice(&[0xb0, 16, 0xe6, 0xf4, 0xf4]);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&sector)?;
    let drive = format!("file={},format=raw,if=ide", file.path().display());
    let mut child = Command::new("qemu-system-x86_64")
        .args([
            "-accel",
            "kvm",
            "-cpu",
            "host",
            "-m",
            "64",
            "-nodefaults",
            "-nic",
            "none",
        ])
        .args(["-display", "none", "-no-reboot", "-drive", &drive])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let begun = Instant::now();
    while begun.elapsed() < LIMIT {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code() == Some(2 * 16 + 1));
        }
        sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    Ok(false)
}
