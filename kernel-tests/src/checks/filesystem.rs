//! Where a repository may lie: what `sync` decides on filesystems that have no
//! fs-verity, or not with blocks of 4 KiB, and what can be mounted from there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::{
    capability::Capability::DatadirPlus,
    check::{Check, Expected, is},
    errno,
    fixture::{
        disk,
        mounts::{Opt, mount_at},
        reading,
        store::Store,
    },
    guest::Guest,
};

#[rustfmt::skip]
pub const CHECKS: &[Check] = &[
    Check { name: "ext4_without_verity", row: "sync to ext4 without the feature `verity`", observe: |guest| sync(guest, &disk_at(guest, "ext4-plain")?), expect: |_| is(REFUSED) },
    Check { name: "ext4_without_verity_allowed", row: ".. with --allow-missing-verity: sync, mount, read", observe: |guest| allowed(guest, &disk_at(guest, "ext4-plain")?), expect: |_| is("read") },
    Check { name: "ext4_1k", row: "sync to ext4 with `verity` and 1 KiB blocks", observe: ext4_1k, expect: |can| ext4_1k_expected(can.has(DatadirPlus)) },
    Check { name: "tmpfs", row: "sync to tmpfs", observe: |guest| sync(guest, &tmpfs(guest)?), expect: |_| is(REFUSED) },
];

const REFUSED: &str = "exit 5: --allow-missing-verity";

fn disk_at(guest: &Guest, serial: &str) -> Result<PathBuf> {
    let target = guest.folder("disk")?;
    mount_disk(serial, &target)?.with_context(|| format!("mount the disk {serial}"))?;
    Ok(target)
}

fn mount_disk(serial: &str, target: &Path) -> Result<rustix::io::Result<()>> {
    let device = disk::find(serial)?;
    let flags = rustix::mount::MountFlags::empty();
    Ok(rustix::mount::mount(device, target, "ext4", flags, c""))
}

fn tmpfs(guest: &Guest) -> Result<PathBuf> {
    let target = guest.folder("tmpfs")?;
    mount_at("tmpfs", &[Opt::Text("size", "32m")], &target)?;
    Ok(target)
}

/// What comes of a sync that may not do without fs-verity.
fn sync(guest: &Guest, filesystem: &Path) -> Result<String> {
    let store = Store::unsynced(guest, &filesystem.join("repo"), &[])?;
    let said = store.run(&store.sync_args(guest))?;
    Ok(said.outcome(&["--allow-missing-verity"]))
}

fn allowed(guest: &Guest, filesystem: &Path) -> Result<String> {
    let store = Store::sync(guest, &filesystem.join("repo"), &["--allow-missing-verity"])?;
    let said = store.mount()?;
    if said.status != 0 {
        return Ok(said.outcome(&[]));
    }
    Ok(reading::read(&store.file()?, &Store::data()))
}

/// Linux before 6.3 does not even mount it.
fn ext4_1k(guest: &Guest) -> Result<String> {
    let target = guest.folder("disk")?;
    match mount_disk("ext4-1k", &target)? {
        Ok(()) => sync(guest, &target),
        Err(error) => Ok(format!("{} at mount", errno::name(error))),
    }
}

fn ext4_1k_expected(newer: bool) -> Expected {
    if newer {
        is(REFUSED)
    } else {
        Expected::OneOf(&["EINVAL at mount", REFUSED])
    }
}
