//! A runner: a guest's tests as one static program, which is its `/init`.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fs,
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
    /// What the kernel must be told at boot for it; mostly nothing.
    pub kernel_options: String,
    /// Whether one kernel is enough: what it is about does not hang on them.
    pub once: bool,
}

impl CheckName {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t').map(str::to_owned);
        Some(Self {
            id: fields.next()?,
            row: fields.next()?,
            kernel_options: fields.next().unwrap_or_default(),
            once: fields.next().as_deref() == Some("once"),
        })
    }
}

impl Runner {
    /// Builds a package's one program and asks it which checks it has.
    pub fn build(package: &str) -> Result<Self> {
        let status = Command::new(cargo())
            .current_dir(project())
            // With --target these flags are the runner's alone, and what else is
            // in target/ stays as it is. A process for each check: without
            // relocations it starts sooner.
            .args(["build", "--quiet", "--package", package])
            .args(["--target", TARGET, "--profile", PROFILE])
            .env(
                "RUSTFLAGS",
                "-C target-feature=+crt-static -C relocation-model=static",
            )
            .env("OPENSSL_STATIC", "1")
            .stdin(Stdio::null())
            .status()
            .context("run cargo")?;
        ensure!(status.success(), "building {package}: {status}");
        let path = Self::path(package);
        let output = Command::new(&path).arg("--list").output();
        let output = output.with_context(|| format!("run {}", path.display()))?;
        ensure!(
            output.status.success(),
            "{package} --list: {}",
            output.status
        );
        let text = String::from_utf8(output.stdout).with_context(|| format!("{package} --list"))?;
        let checks: Vec<CheckName> = text.lines().filter_map(CheckName::parse).collect();
        let ids: BTreeSet<&str> = checks.iter().map(|check| check.id.as_str()).collect();
        ensure!(
            ids.len() == checks.len(),
            "{package} has two checks of one name"
        );
        Ok(Self { path, checks })
    }

    /// Where a package's program is once built.
    pub(crate) fn path(package: &str) -> PathBuf {
        let built = project().join("target").join(TARGET).join(PROFILE);
        built.join(package)
    }

    /// All its checks, in order.
    pub fn checks(&self) -> &[CheckName] {
        &self.checks
    }

    pub(crate) fn read(&self) -> Result<Vec<u8>> {
        fs::read(&self.path).with_context(|| format!("read {}", self.path.display()))
    }
}

/// The cargo that runs this.
pub(crate) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
