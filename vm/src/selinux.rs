//! The SELinux policy that a guest loads.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::project;

/// What every kernel of the table can load.
const POLICY_VERSION: &str = "31";

/// Compiles the policy of `kernel-tests`.
pub(crate) fn policy() -> Result<Vec<u8>> {
    let source = project().join("kernel-tests/selinux/policy.cil");
    let work = tempfile::tempdir()?;
    let policy = work.path().join("policy");
    let output = Command::new("secilc")
        .args(["-c", POLICY_VERSION, "-f", "/dev/null", "-o"])
        .arg(&policy)
        .arg(&source)
        .output()
        .context("run secilc: `make kernels` sets a machine up")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "secilc: {}\n{said}", output.status);
    fs::read(&policy).context("read the compiled policy")
}
