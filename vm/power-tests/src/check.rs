//! Whether a cut disk is as it must be: an old or a new set, and all works.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::mount::{UnmountFlags, unmount};

use crate::{
    INPUT,
    common::podman::Podman,
    on_disk::{NAME, OnDisk},
};

/// Says `CUT <serial> ok ..` or `CUT <serial> FAILED ..` of each disk.
pub fn run() -> Result<()> {
    let mut port = File::options().write(true).open("/dev/ttyS1")?;
    writeln!(port, "START")?;
    let cuts = fs::read_to_string(Path::new(INPUT).join("cuts")).context("read the cuts")?;
    for line in cuts.lines() {
        let (serial, allowed) = line.split_once(' ').context("a cut without marks")?;
        match check(serial, allowed) {
            Ok(found) => writeln!(port, "CUT {serial} ok {found}")?,
            Err(error) => {
                let error = format!("{error:#}").replace('\n', " / ");
                writeln!(port, "CUT {serial} FAILED {allowed}: {error}")?;
            }
        }
    }
    writeln!(port, "END")?;
    Ok(())
}

/// What the deployments were found to have: `keep=v1 app=v2`.
fn check(serial: &str, allowed: &str) -> Result<String> {
    let disk = OnDisk::mount(serial).context("the filesystem")?;
    let had = ["keep", "app"].map(|deployment| disk.set_of(deployment));
    if disk.sysroot.join("composefs/meta.json").exists() {
        healthy(&disk).context("as it was found")?;
    }
    // Sets are the same wherever they are made: what is synced says which it was.
    let mut found = Vec::new();
    for (deployment, had) in ["keep", "app"].into_iter().zip(&had) {
        found.push(format!("{deployment}={}", version(&disk, deployment, had)?));
    }
    for (found, allowed) in found.iter().zip(allowed.split(' ')) {
        let (_, has) = found.split_once('=').context("no deployment")?;
        let (_, may) = allowed.split_once('=').context("no deployment")?;
        ensure!(
            may.split(',').any(|may| may == has),
            "has {found}, must be {allowed}"
        );
    }
    healthy(&disk).context("after syncs")?;
    disk.ok("gc")?;
    healthy(&disk).context("after gc")?;
    podman(&disk)?;
    unmount(&disk.sysroot, UnmountFlags::DETACH)?;
    Ok(found.join(" "))
}

fn healthy(disk: &OnDisk) -> Result<()> {
    let verified = disk.json("verify --deep")?;
    let deployments = verified["deployments"]
        .as_array()
        .context("no deployments")?;
    for deployment in deployments {
        let problems = deployment["problems"].as_array();
        ensure!(problems.is_some_and(Vec::is_empty), "{verified}");
    }
    Ok(())
}

/// Which version of the image a deployment had; it has version 2 afterwards. A
/// sync brings nothing that the published set has.
fn version(disk: &OnDisk, deployment: &str, had: &Option<String>) -> Result<&'static str> {
    let mut version = "none";
    for next in ["v1", "v2"] {
        let synced = disk.sync(deployment, next)?;
        let set_image = synced["set_image"].as_str();
        let same = had.is_some() && set_image == had.as_deref();
        if same {
            version = next;
        }
        let imported = synced["layers_imported"]
            .as_u64()
            .context("layers_imported")?;
        // The versions differ in their last layer.
        let most = match (had, next) {
            (Some(_), _) if same => 0,
            (Some(_), _) | (None, "v2") => 1,
            (None, _) => 4,
        };
        ensure!(imported <= most, "{imported} layers imported: {synced}");
    }
    if let (Some(set), "none") = (had, version) {
        bail!("{deployment} had a third state: {set}");
    }
    Ok(version)
}

fn podman(disk: &OnDisk) -> Result<()> {
    let store = disk.sysroot.with_extension("store");
    fs::create_dir_all(&store)?;
    disk.ok(&format!("mount --deployment app {}", store.display()))?;
    let home = disk.sysroot.with_extension("podman");
    let podman = Podman::new(home, Some(&store));
    ensure!(
        podman.images() == [(NAME.to_owned(), true)],
        "podman images"
    );
    let said = podman.runtime(&format!("run --rm {NAME}"));
    ensure!(said.stdout == b"hello from v2\n", "podman run: {said:?}");
    disk.ok(&format!("umount {}", store.display())).map(drop)
}
