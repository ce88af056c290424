//! The verbs of `/usr/bin/bootc` that change deployments.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use boundstore::sys;
use composefs::{
    fsverity::{FsVerityHashValue as _, Sha512HashValue},
    repository::Repository,
};
use rustix::fs::{CWD, RenameFlags, renameat_with, syncfs};
use serde_json::{Value, json};

use super::{
    ENTRIES, STATE, entry, id_of,
    root::{mount_root, mount_tree},
    write_state,
};
use crate::host::Staged;

/// The version of the host image that its registry would have.
pub const NEWEST: &str = "/var/lib/lifecycle-tests/newest";
const SYSROOT: &str = "/sysroot";
const STAGED: &str = "/run/composefs/staged-deployment";
const FINALIZE: &str = "bootc-finalize-staged.service";

/// Runs a verb in this process, whose `/sysroot` must be writable.
pub fn bootc(args: &[&str]) -> Result<()> {
    match args {
        ["upgrade"] => stage(fs::read_to_string(NEWEST)?.parse()?),
        ["composefs-finalize-staged"] => finalize(),
        ["rollback", version] => roll_back(version.parse()?),
        ["delete", version] => delete(version.parse()?),
        ["gc"] => Ok(repository()?.gc(&[]).map(drop)?),
        ["soft-reboot", version] => soft_reboot(version.parse()?),
        other => bail!("bootc knows no {other:?}"),
    }
}

fn repository() -> Result<Repository<Sha512HashValue>> {
    Repository::open_path(File::open(SYSROOT)?, "composefs")
        .map_err(|error| anyhow::anyhow!("open the repository: {error}"))
}

/// The order is bootc's: the unit that finalizes, the boot entries, the state,
/// and what says that it is staged.
fn stage(version: u32) -> Result<()> {
    let sysroot = Path::new(SYSROOT);
    let id = id_of(sysroot, version)?;
    start_finalize()?;
    write_entries(&[(&id, false), (&booted()?, true)])?;
    let tree = PathBuf::from("/run/lifecycle-tests/tree");
    fs::create_dir_all(&tree)?;
    sys::attach(&mount_tree(sysroot, &id)?, &tree)?;
    if !sysroot.join(STATE).join(&id).exists() {
        write_state(sysroot, &id, &tree)?;
    }
    fs::create_dir_all("/run/composefs")?;
    let json = json!({"depl_id": id, "finalization_locked": false});
    let new = Path::new(STAGED).with_extension("new");
    fs::write(&new, json.to_string())?;
    fs::rename(new, STAGED)?;
    Ok(())
}

fn start_finalize() -> Result<()> {
    let status = Command::new("systemctl")
        .args(["start", FINALIZE])
        .status()?;
    ensure!(status.success(), "start {FINALIZE}: {status}");
    Ok(())
}

/// Where what is prepared becomes the next boot.
fn finalize() -> Result<()> {
    match staged() {
        Some(Staged { locked: false }) => exchange_entries(),
        _ => Ok(()),
    }
}

/// As in bootc, what is staged is dropped.
fn roll_back(version: u32) -> Result<()> {
    let id = id_of(Path::new(SYSROOT), version)?;
    fs::remove_file(STAGED).ok();
    write_entries(&[(&id, false), (&booted()?, true)])?;
    exchange_entries()
}

fn delete(version: u32) -> Result<()> {
    let sysroot = Path::new(SYSROOT);
    let id = id_of(sysroot, version)?;
    write_entries(&[(&booted()?, false)])?;
    exchange_entries()?;
    fs::remove_dir_all(sysroot.join(STATE).join(&id))?;
    fs::remove_file(sysroot.join(super::REFS).join(format!("v{version}")))?;
    Ok(())
}

/// The root that systemd goes to without the kernel.
fn soft_reboot(version: u32) -> Result<()> {
    let sysroot = Path::new(SYSROOT);
    let next = Path::new("/run/nextroot");
    start_finalize()?;
    mount_root(sysroot, &id_of(sysroot, version)?, next)?;
    // What bootc merges of /etc.
    let ours = Path::new("etc/boundstore/config.toml");
    let here = Path::new("/").join(ours);
    if here.exists() {
        let there = next.join(ours);
        fs::create_dir_all(there.parent().unwrap_or(next))?;
        fs::copy(here, there)?;
    }
    Ok(())
}

/// The deployment that runs: the source of `/`.
fn booted() -> Result<String> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let root = table
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some("/"));
    let source = root.and_then(|line| line.split(' ').rev().nth(1));
    let id = source.and_then(|source| source.strip_prefix("composefs:"));
    Ok(id.context("/ is no composefs")?.to_owned())
}

fn write_entries(entries: &[(&str, bool)]) -> Result<()> {
    let folder = staged_entries();
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    for (id, second) in entries {
        let (name, text) = entry(id, *second);
        fs::write(folder.join(name), text)?;
    }
    Ok(())
}

fn exchange_entries() -> Result<()> {
    let (staged, entries) = (staged_entries(), Path::new(SYSROOT).join(ENTRIES));
    renameat_with(CWD, &staged, CWD, &entries, RenameFlags::EXCHANGE)
        .context("exchange the entries")?;
    fs::remove_dir_all(&staged)?;
    Ok(syncfs(File::open(entries)?)?)
}

fn staged_entries() -> PathBuf {
    Path::new(SYSROOT).join(format!("{ENTRIES}.staged"))
}

/// What the staged file says.
pub fn staged() -> Option<Staged> {
    let text = fs::read_to_string(STAGED).ok()?;
    let json: Value = serde_json::from_str(&text).unwrap();
    let locked = json["finalization_locked"] == true;
    Some(Staged { locked })
}

/// The objects that only one version of the host image has, sorted, as paths in
/// the repository.
pub fn owned(version: u32) -> Result<Vec<String>> {
    let (repo, sysroot) = (repository()?, Path::new(SYSROOT));
    let all = |version: u32| -> Result<_> {
        let id = id_of(sysroot, version)?;
        let mut objects = repo.objects_for_image(&id)?;
        objects.insert(Sha512HashValue::from_hex(&id)?);
        Ok(objects)
    };
    let mut own = all(version)?;
    for other in (1..=3).filter(|other| *other != version) {
        for object in all(other)? {
            own.remove(&object);
        }
    }
    let mut paths: Vec<String> = own
        .iter()
        .map(|id| format!("objects/{}", id.to_object_pathname()))
        .collect();
    paths.sort();
    Ok(paths)
}
