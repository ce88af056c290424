//! Idmapped mounts: `kernel-matrix`, section f. podman asks for one of every
//! layer when a container gets a user namespace of its own (`--userns=auto`,
//! `--uidmap`): it clones the layer's folder, without what is mounted below, and
//! idmaps the clone. The namespace's 0 is 100000 outside.
//!
//! Left out: idmapped objects below a set, which change nothing and which
//! nobody makes; ext4, tmpfs and overlay by themselves, which are capabilities.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use anyhow::{Context as _, Result};
use rustix::{
    fs::{CWD, lgetxattr},
    mount::{OpenTreeFlags, open_tree},
};

use crate::{
    capability::{
        Capability::{DatadirPlus, ErofsFromFile, IdmapOverlay},
        YES,
    },
    check::{Check, either, is},
    errno,
    fixture::{
        composefs::Composefs,
        container::{Container, owners, use_as_root},
        mounts::{self, Opt, mount_at, new_mount},
        reading,
        store::Store,
        user_namespace::{FIRST, UserNamespace},
    },
    guest::Guest,
    sys,
};

#[rustfmt::skip]
pub const CHECKS: &[Check] = &[
    Check { name: "erofs_from_loop", row: "EROFS from a loop device", observe: erofs_from_loop, expect: |_| is(YES) },
    Check { name: "erofs_from_file", row: "EROFS from a file", observe: erofs_from_file, expect: |can| either(can.has(ErofsFromFile), YES, "ENOTBLK at create") },
    // While this is EINVAL, docs/kernel-support.md says that --userns cannot work.
    Check { name: "layer_of_a_set", row: "podman's clone of a layer in a mounted set", observe: layer_of_a_set, expect: |can| either(can.has(IdmapOverlay), YES, "EINVAL") },
    Check { name: "whole_set", row: "podman's clone of a whole set", observe: whole_set, expect: |can| either(can.has(IdmapOverlay), YES, "EINVAL") },
    Check { name: "set_below_a_folder", row: "podman's clone of a folder in which a set is mounted", observe: set_below_a_folder, expect: |_| is("yes; NOTHING IN IT") },
    Check { name: "set_below_a_folder_recursive", row: "the same, cloned with what is mounted below", observe: set_below_a_folder_recursive, expect: |can| either(can.has(IdmapOverlay), YES, "EINVAL") },
    Check { name: "set_on_idmapped_metadata", row: "a set over idmapped EROFS: owners, capability, content", observe: set_on_idmapped_metadata, expect: |_| is("100000:100000 101000:101000; v3 of 100000; read") },
    Check { name: "set_on_idmapped_metadata_inside", row: ".. seen from the user namespace", observe: set_on_idmapped_metadata_inside, expect: |_| is("0:0 1000:1000; v2; read") },
    Check { name: "container_on_idmapped_metadata", row: ".. and a container's overlay on it, used from the user namespace", observe: container_on_idmapped_metadata, expect: |_| is(USABLE) },
    Check { name: "container_without_set", row: "a container's overlay directly on idmapped EROFS and objects", observe: container_without_set, expect: |_| is(USABLE) },
    Check { name: "container_on_set", row: "a container's overlay on a set as it is, used from a user namespace", observe: container_on_set, expect: |_| is("65534:65534 65534:65534; read; append EACCES, chown EPERM") },
    Check { name: "idmapped_again", row: "an idmapped mount idmapped again", observe: idmapped_again, expect: |_| is("EPERM") },
];

const USABLE: &str = "0:0 1000:1000; read; changed";

fn outcome(result: io::Result<()>) -> String {
    match result {
        Ok(()) => YES.into(),
        Err(error) => errno::name(error),
    }
}

fn erofs_from_loop(guest: &Guest) -> Result<String> {
    let metadata = Composefs::insecure(guest)?.mount_metadata(true)?;
    Ok(outcome(sys::idmap(metadata, &UserNamespace::new()?.file)))
}

fn erofs_from_file(guest: &Guest) -> Result<String> {
    let image = Composefs::insecure(guest)?.image();
    let source = image.to_string_lossy();
    Ok(
        match new_mount("erofs", &[Opt::Flag("ro"), Opt::Text("source", &source)]) {
            Ok(mount) => outcome(sys::idmap(mount, &UserNamespace::new()?.file)),
            Err(refused) => refused.to_string(),
        },
    )
}

/// A copy of the mount at a path, with that folder as its root.
fn clone(path: &Path, recursive: OpenTreeFlags) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | recursive;
    open_tree(CWD, path, flags).with_context(|| format!("clone {}", path.display()))
}

fn podmans_clone(path: &Path) -> Result<String> {
    let clone = clone(path, OpenTreeFlags::empty())?;
    Ok(outcome(sys::idmap_all(clone, &UserNamespace::new()?.file)))
}

fn layer_of_a_set(guest: &Guest) -> Result<String> {
    let store = Store::secure(guest)?.with_options(&["--allow-missing-verity"]);
    store.mount()?;
    let file = store.file()?;
    podmans_clone(file.parent().context("the file is in no folder")?)
}

fn whole_set(guest: &Guest) -> Result<String> {
    let composefs = Composefs::secure(guest)?;
    composefs.mount()?;
    podmans_clone(&composefs.path(""))
}

/// Mounted at `diff` of a folder as podman's layers are.
fn mounted_at_diff(guest: &Guest) -> Result<std::path::PathBuf> {
    let layer = guest.folder("layer")?;
    let set = Composefs::secure(guest)?.mount_detached()?;
    mounts::attach(&set, &layer.join("diff"))?;
    Ok(layer)
}

/// podman would run the container on this empty folder.
fn set_below_a_folder(guest: &Guest) -> Result<String> {
    let clone = clone(&mounted_at_diff(guest)?, OpenTreeFlags::empty())?;
    let idmapped = outcome(sys::idmap_all(&clone, &UserNamespace::new()?.file));
    let target = guest.path("clone");
    mounts::attach(&clone, &target)?;
    Ok(match fs::read_dir(target.join("diff"))?.count() {
        0 => format!("{idmapped}; NOTHING IN IT"),
        _ => format!("{idmapped}; the set"),
    })
}

fn set_below_a_folder_recursive(guest: &Guest) -> Result<String> {
    let clone = clone(&mounted_at_diff(guest)?, OpenTreeFlags::AT_RECURSIVE)?;
    Ok(outcome(sys::idmap_all(clone, &UserNamespace::new()?.file)))
}

/// A set as a privileged helper could mount it for one user.
fn idmapped_set(guest: &Guest, namespace: &UserNamespace) -> Result<Composefs> {
    let composefs = Composefs::secure(guest)?;
    composefs.mount_idmapped(namespace)?;
    Ok(composefs)
}

fn seen(composefs: &Composefs) -> String {
    let read = reading::read(&composefs.path("file"), &Composefs::content());
    let capability = capability(&composefs.path("owned"));
    format!("{}; {capability}; {read}", owners(&composefs.path("")))
}

/// The version of a file's capability, and whose root it is for.
fn capability(path: &Path) -> String {
    let mut value = [0; 64];
    match lgetxattr(path, "security.capability", &mut value) {
        Ok(20) if value[3] == 2 => "v2".into(),
        Ok(24) if value[3] == 3 => {
            let root = [value[20], value[21], value[22], value[23]];
            format!("v3 of {}", u32::from_le_bytes(root))
        }
        Ok(length) => format!("{length} bytes of version {}", value[3]),
        Err(errno) => errno::name(errno),
    }
}

fn set_on_idmapped_metadata(guest: &Guest) -> Result<String> {
    let namespace = UserNamespace::new()?;
    Ok(seen(&idmapped_set(guest, &namespace)?))
}

fn set_on_idmapped_metadata_inside(guest: &Guest) -> Result<String> {
    let namespace = UserNamespace::new()?;
    let composefs = idmapped_set(guest, &namespace)?;
    namespace.run(|| Ok(seen(&composefs)))
}

fn container_on_idmapped_metadata(guest: &Guest) -> Result<String> {
    let namespace = UserNamespace::new()?;
    let composefs = idmapped_set(guest, &namespace)?;
    let container = Container::new(guest, &composefs.path(""), FIRST)?;
    container.mount(&[])?;
    namespace.run(|| Ok(use_as_root(&container.root)))
}

/// What podman makes of images in its own composefs form.
fn container_without_set(guest: &Guest) -> Result<String> {
    let namespace = UserNamespace::new()?;
    let composefs = Composefs::secure(guest)?;
    let metadata = composefs.mount_metadata(false)?;
    sys::idmap(metadata.as_fd(), &namespace.file)?;
    let lower = guest.path("meta");
    mounts::attach(&metadata, &lower)?;
    let container = Container::new(guest, &lower, FIRST)?;
    let objects = composefs.objects();
    let [lower, objects] = [&lower, &objects].map(|path| path.to_string_lossy());
    let one = format!("{lower}:{objects}");
    let layers: &[Opt<'_>] = if guest.capabilities.has(DatadirPlus) {
        &[
            Opt::Text("lowerdir+", &lower),
            Opt::Text("datadir+", &objects),
        ]
    } else {
        &[Opt::Text("lowerdir", &one)]
    };
    let [upper, work] = [&container.upper, &container.work].map(|path| path.to_string_lossy());
    let more = [
        Opt::Text("metacopy", "on"),
        Opt::Text("upperdir", &upper),
        Opt::Text("workdir", &work),
    ];
    mount_at("overlay", &[layers, &more].concat(), &container.root)?;
    namespace.run(|| Ok(use_as_root(&container.root)))
}

fn container_on_set(guest: &Guest) -> Result<String> {
    let composefs = Composefs::secure(guest)?;
    composefs.mount()?;
    let container = Container::new(guest, &composefs.path(""), FIRST)?;
    container.mount(&[])?;
    UserNamespace::new()?.run(|| Ok(use_as_root(&container.root)))
}

fn idmapped_again(guest: &Guest) -> Result<String> {
    let namespace = UserNamespace::new()?;
    let metadata = Composefs::insecure(guest)?.mount_metadata(false)?;
    sys::idmap(&metadata, &namespace.file)?;
    Ok(outcome(sys::idmap(&metadata, &namespace.file)))
}
