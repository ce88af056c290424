//! The runner: `kernel-tests` as one static program, which is `/init` in the guest.

use std::{
    collections::BTreeSet,
    env, fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::project;

const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROFILE: &str = "guest";

/// The built runner.
#[derive(Debug)]
pub struct Runner {
    path: PathBuf,
    checks: Vec<CheckName>,
}

/// A check that the runner has.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CheckName {
    /// `data_only::intact`
    pub id: String,
    /// The row of the matrix.
    pub row: String,
}

impl Runner {
    /// Builds it and asks which checks it has.
    pub fn build() -> Result<Self> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .current_dir(project())
            // With --target these flags are the runner's alone, and what else is
            // in target/ stays as it is. A process for each check: without
            // relocations it starts sooner.
            .args(["build", "--quiet", "--package", "kernel-tests"])
            .args(["--target", TARGET, "--profile", PROFILE])
            .env(
                "RUSTFLAGS",
                "-C target-feature=+crt-static -C relocation-model=static",
            )
            .env("OPENSSL_STATIC", "1")
            .stdin(Stdio::null())
            .status()
            .context("run cargo")?;
        ensure!(status.success(), "building kernel-tests: {status}");
        let path = project()
            .join("target")
            .join(TARGET)
            .join(PROFILE)
            .join("kernel-tests");
        let output = Command::new(&path).arg("--list").output();
        let output = output.with_context(|| format!("run {}", path.display()))?;
        ensure!(
            output.status.success(),
            "kernel-tests --list: {}",
            output.status
        );
        let text = String::from_utf8(output.stdout).context("kernel-tests --list")?;
        let checks = text.lines().filter_map(|line| line.split_once('\t'));
        let checks = checks.map(|(id, row)| CheckName {
            id: id.to_owned(),
            row: row.to_owned(),
        });
        let checks: Vec<CheckName> = checks.collect();
        let ids: BTreeSet<&str> = checks.iter().map(|check| check.id.as_str()).collect();
        ensure!(
            ids.len() == checks.len(),
            "kernel-tests has two checks of one name"
        );
        Ok(Self { path, checks })
    }

    /// All its checks, in order.
    pub fn checks(&self) -> &[CheckName] {
        &self.checks
    }

    pub(crate) fn read(&self) -> Result<Vec<u8>> {
        fs::read(&self.path).with_context(|| format!("read {}", self.path.display()))
    }
}
