//! One check in a process and a mount namespace of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use rustix::thread::UnshareFlags;

use crate::{capability::Capabilities, checks, sys};

/// Where PID 1 leaves what the probes found.
pub const CAPABILITIES: &str = "/run/capabilities.json";
/// The disk whose filesystem is ext4 with fs-verity and 4 KiB blocks.
pub const STORE: &str = "/mnt/store";

/// What a check is given.
#[derive(Debug)]
pub struct Guest {
    /// What this kernel can; empty while that is being found out.
    pub capabilities: Capabilities,
    dir: PathBuf,
}

impl Guest {
    /// A path in the check's own folder, on ext4 with fs-verity.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A new folder there.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(path)
    }
}

/// Runs one check and prints what it observed; PID 1 reads it.
pub fn run_check(id: &str) -> ExitCode {
    match observe(id) {
        Ok(observed) => {
            print!("{observed}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn observe(id: &str) -> Result<String> {
    let check = checks::find(id).with_context(|| format!("there is no check {id}"))?;
    // With the process all its mounts are gone.
    sys::unshare(UnshareFlags::NEWNS).context("unshare the mount namespace")?;
    let dir = Path::new(STORE).join(id.replace("::", "."));
    fs::create_dir(&dir).with_context(|| format!("create {}", dir.display()))?;
    let capabilities = match fs::read(CAPABILITIES) {
        Ok(json) => serde_json::from_slice(&json).context("read the capabilities")?,
        Err(_) => Capabilities::default(),
    };
    (check.observe)(&Guest { capabilities, dir })
}
