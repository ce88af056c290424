//! How deep overlays may lie on each other: `kernel-matrix`, section e. The
//! set is one, a container is the second and the last.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::{
    capability::Capability::OverlayTmpfile,
    check::{Check, either, is},
    fixture::{
        composefs::Composefs,
        mounts::{self, Opt, new_mount, outcome},
        overlay, reading,
        store::Store,
    },
    guest::Guest,
};

#[rustfmt::skip]
pub const CHECKS: &[Check] = &[
    Check { name: "container_on_set", row: "a container's overlay on a set", observe: container_on_set, expect: |_| is("yes; read; written") },
    Check { name: "overlay_on_container", row: "an overlay on that", observe: overlay_on_container, expect: |_| is("EINVAL at create") },
    Check { name: "container_through_loop", row: "a container's overlay on a set from a loop device", observe: container_through_loop, expect: |_| is("yes") },
    Check { name: "image_on_overlay", row: "EROFS from a file on an overlay", observe: image_on_overlay, expect: |_| is("ENOTBLK at create") },
    Check { name: "repository_on_overlay", row: "a repository on an overlay: sync; mount; a container on it", observe: repository_on_overlay, expect: |can| either(can.has(OverlayTmpfile), "exit 5; allowed: read; EINVAL at create", "exit 1: O_TMPFILE; allowed: exit 1: O_TMPFILE") },
    Check { name: "two_at_once", row: "two mounts of one set at once, one unmounted", observe: two_at_once, expect: |_| is("read; read; read") },
];

/// Mounts a container's overlay over a folder: `yes`, or how it was refused.
fn container(guest: &Guest, name: &str, lower: &Path) -> Result<String> {
    Ok(outcome(overlay::container(guest, name, &[lower], &[])?))
}

fn container_on_set(guest: &Guest) -> Result<String> {
    let composefs = Composefs::secure(guest)?;
    composefs.mount()?;
    let mounted = container(guest, "container", &composefs.path(""))?;
    let file = guest.path("container/file");
    let read = reading::read(&file, &Composefs::content());
    let mut content = Composefs::content();
    content.extend(b"more");
    fs::write(&file, &content)?;
    let written = if fs::read(&file)? == content {
        "written"
    } else {
        "NOT WRITTEN"
    };
    Ok(format!("{mounted}; {read}; {written}"))
}

fn overlay_on_container(guest: &Guest) -> Result<String> {
    let composefs = Composefs::secure(guest)?;
    composefs.mount()?;
    container(guest, "container", &composefs.path(""))?;
    container(guest, "third", &guest.path("container"))
}

fn container_through_loop(guest: &Guest) -> Result<String> {
    let composefs = Composefs::secure(guest)?;
    composefs.mount_through_loop()?;
    container(guest, "container", &composefs.path(""))
}

/// A writable overlay on an empty folder.
fn on_overlay(guest: &Guest) -> Result<PathBuf> {
    let lower = guest.folder("lower")?;
    Ok(overlay::container(guest, "overlay", &[&lower], &[])??)
}

fn image_on_overlay(guest: &Guest) -> Result<String> {
    let composefs = Composefs::secure(guest)?;
    let image = on_overlay(guest)?.join("image");
    fs::copy(composefs.image(), &image)?;
    let options = [
        Opt::Flag("ro"),
        Opt::Text("source", &image.to_string_lossy()),
    ];
    Ok(outcome(new_mount("erofs", &options)))
}

fn repository_on_overlay(guest: &Guest) -> Result<String> {
    let repo = on_overlay(guest)?.join("repo");
    let store = Store::unsynced(guest, &repo, &[])?;
    let refused = store.run(&store.sync_args(guest))?.outcome(&["O_TMPFILE"]);
    let store = store.with_options(&["--allow-missing-verity"]);
    let mut said = store.run(&store.sync_args(guest))?;
    if said.status == 0 {
        said = store.mount()?;
    }
    if said.status != 0 {
        return Ok(format!(
            "{refused}; allowed: {}",
            said.outcome(&["O_TMPFILE"])
        ));
    }
    let read = reading::read(&store.file()?, &Store::data());
    let on_it = container(guest, "container", store.target())?;
    Ok(format!("{refused}; allowed: {read}; {on_it}"))
}

fn two_at_once(guest: &Guest) -> Result<String> {
    let composefs = Composefs::secure(guest)?;
    let (one, two) = (guest.path("one"), guest.path("two"));
    mounts::attach(&composefs.mount_detached()?, &one)?;
    mounts::attach(&composefs.mount_detached()?, &two)?;
    let read = |root: &Path| reading::read(&root.join("file"), &Composefs::content());
    let (first, second) = (read(&one), read(&two));
    boundstore::sys::unmount(&one, boundstore::sys::Unmount::IfIdle)?;
    Ok(format!("{first}; {second}; {}", read(&two)))
}
