//! A disk as the `/sysroot` of a host, and `boundstore` on it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context as _, Result, ensure};
use guest::{disk, stage::mount_disk};
use rustix::mount::MountFlags;
use serde_json::Value;

use crate::{
    INPUT,
    common::{describe, output},
};

/// The image that all is about, whatever its version.
pub const NAME: &str = "localhost/app:1";

/// A mounted disk.
#[derive(Debug)]
pub struct OnDisk {
    /// Where it is mounted.
    pub sysroot: PathBuf,
    /// Its device.
    pub device: PathBuf,
}

impl OnDisk {
    /// Mounts the disk with this serial number: ext4 replays its journal.
    pub fn mount(serial: &str) -> Result<Self> {
        let sysroot = PathBuf::from(format!("/{serial}"));
        mount_disk(serial, &sysroot.display().to_string(), MountFlags::empty())?;
        let device = disk::find(serial)?;
        Ok(Self { sysroot, device })
    }

    /// A call of `boundstore` that must succeed, its arguments split at blanks.
    pub fn ok(&self, args: &str) -> Result<Output> {
        let mut command = Command::new(Path::new(INPUT).join("boundstore"));
        command.arg("--json").arg("--sysroot").arg(&self.sysroot);
        command.args(args.split_whitespace());
        let output = output(&mut command);
        ensure!(output.status.success(), "{}", describe(&command, &output));
        Ok(output)
    }

    /// The document of a call that must succeed.
    pub fn json(&self, args: &str) -> Result<Value> {
        let output = self.ok(args)?;
        serde_json::from_slice(&output.stdout).with_context(|| args.to_owned())
    }

    /// Syncs a version of the image as a deployment's.
    pub fn sync(&self, deployment: &str, version: &str) -> Result<Value> {
        let source = format!("oci:{INPUT}/app:{version}");
        self.json(&format!(
            "sync --deployment {deployment} --image {NAME}={source}"
        ))
    }

    /// The set image that a deployment's ref names, read without `boundstore`.
    pub fn set_of(&self, deployment: &str) -> Option<String> {
        let refs = self.sysroot.join("composefs/streams/refs/boundstore");
        let target = fs::read_link(refs.join("deployments").join(deployment)).ok()?;
        let name = target.file_name()?.to_str()?;
        name.strip_prefix("boundstore-set-v1-").map(str::to_owned)
    }
}
