//! What becomes of a mounted store while others remount it, unmount it, remove
//! its set, and collect garbage as bootc does: with composefs's own gc.
//!
//! Left out: two mounts of one set, which `stack_depth` has.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use boundstore::repo::Repo;
use composefs::{fsverity::Sha512HashValue, repository::Repository};
use rustix::mount::{MountFlags, mount_remount};

use crate::{
    capability::{
        Capability::{DataOnly, MountBeneath, VerityRequire},
        YES,
    },
    check::{Check, either, is},
    errno,
    fixture::{
        container::Container,
        layout::{LayerBlob, Layout, content, tar},
        reading,
        store::Store,
        tamper,
    },
    guest::Guest,
};

#[rustfmt::skip]
pub const CHECKS: &[Check] = &[
    Check { name: "remount_writable", row: "a store remounted writable; written", observe: |guest| remount(guest, MountFlags::empty(), ""), expect: |_| is("EROFS; EROFS") },
    Check { name: "remount_mount_writable", row: "only its mount remounted writable, as a bind mount; written", observe: |guest| remount(guest, MountFlags::BIND, ""), expect: |_| is("yes; EROFS") },
    Check { name: "remount_without_verity", row: "a store remounted with verity=off; then an object replaced", observe: remount_without_verity, expect: |can| either(can.has(VerityRequire), "yes; EIO at open", "yes; OTHER BYTES READ") },
    Check { name: "unmounted_in_use", row: "`umount` while a file is open; after it is closed", observe: unmounted_in_use, expect: |_| is("exit 1: in use; exit 0") },
    Check { name: "unmounted_lazily", row: "`umount --lazy` while a file is open; the file; the mount point", observe: unmounted_lazily, expect: |_| is("exit 0; read; empty") },
    Check { name: "unmounted_below_a_container", row: "`umount` while a container's overlay is on the store; the container", observe: unmounted_below_a_container, expect: |_| is("exit 0; read") },
    Check { name: "removed_below_a_container", row: ".. then `remove`, and a gc", observe: removed_below_a_container, expect: |_| is("exit 0; read") },
    Check { name: "gc_while_mounted", row: "a gc while mounted", observe: gc_while_mounted, expect: |_| is("0 objects; all as it was") },
    Check { name: "removed_while_mounted", row: "`remove` while mounted", observe: removed_while_mounted, expect: |_| is("exit 0; all as it was") },
    Check { name: "removed_elsewhere", row: "a set whose ref others removed while it is mounted, and a gc: an open file; another", observe: removed_elsewhere, expect: |can| is(if can.has(DataOnly) { "read; ENOENT at open" } else { "read; EIO at stat" }) },
    Check { name: "swapped", row: "another set mounted in place of one: mounts there; the old one's file, open; the new set's", observe: swapped, expect: |can| either(can.has(MountBeneath), "1; read; read", "2; read; read") },
    Check { name: "swapped_below_a_container", row: "another set synced and mounted in place of a container's, our gc and composefs's, caches dropped: the container", observe: swapped_below_a_container, expect: |_| is("read") },
    Check { name: "two_deployments", row: "two sets that share a layer, mounted; one unmounted and removed, and a gc: the other", observe: two_deployments, expect: |_| is("all as it was") },
];

fn mounted(guest: &Guest) -> Result<Store> {
    let store = Store::secure(guest)?.with_options(&["--allow-missing-verity"]);
    let said = store.mount()?;
    ensure!(said.status == 0, "mount: {}", said.stderr);
    Ok(store)
}

fn read(store: &Store) -> Result<String> {
    Ok(reading::read(&store.file()?, &Store::data()))
}

/// As `mount -o remount` calls the kernel.
fn remounted(target: &Path, flags: MountFlags, options: &str) -> String {
    match mount_remount(target, flags, options) {
        Ok(()) => YES.into(),
        Err(errno) => errno::name(errno),
    }
}

fn remount(guest: &Guest, flags: MountFlags, options: &str) -> Result<String> {
    let store = mounted(guest)?;
    let remounted = remounted(store.target(), flags, options);
    let written = match OpenOptions::new().write(true).open(store.file()?) {
        Ok(_) => "OPENED".into(),
        Err(error) => errno::name(error),
    };
    Ok(format!("{remounted}; {written}"))
}

fn remount_without_verity(guest: &Guest) -> Result<String> {
    let store = mounted(guest)?;
    let remounted = remounted(store.target(), MountFlags::RDONLY, "verity=off");
    tamper::replace_sealed(&store.object(), &vec![66; Store::CONTENT])?;
    Ok(format!("{remounted}; {}", read(&store)?))
}

fn umount(store: &Store, lazy: bool) -> Result<String> {
    let target = store.target().to_string_lossy();
    let said = if lazy {
        store.run(&["umount", "--lazy", &target])?
    } else {
        store.run(&["umount", &target])?
    };
    Ok(said.outcome(&["in use"]))
}

fn unmounted_in_use(guest: &Guest) -> Result<String> {
    let store = mounted(guest)?;
    let open = File::open(store.file()?)?;
    let busy = umount(&store, false)?;
    drop(open);
    Ok(format!("{busy}; {}", umount(&store, false)?))
}

fn read_open(file: &mut File) -> Result<&'static str> {
    let mut found = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut found)?;
    Ok(if found == Store::data() {
        "read"
    } else {
        "OTHER BYTES READ"
    })
}

fn unmounted_lazily(guest: &Guest) -> Result<String> {
    let store = mounted(guest)?;
    let mut open = File::open(store.file()?)?;
    let unmounted = umount(&store, true)?;
    let below = match fs::read_dir(store.target())?.count() {
        0 => "empty",
        _ => "STILL THERE",
    };
    Ok(format!("{unmounted}; {}; {below}", read_open(&mut open)?))
}

/// A container that runs from the store's image.
fn container(guest: &Guest, store: &Store) -> Result<Container> {
    let file = store.file()?;
    let rootfs = file.parent().context("the file is in no folder")?;
    let container = Container::new(guest, rootfs, 0)?;
    container.mount(&[])?;
    Ok(container)
}

fn unmounted_below_a_container(guest: &Guest) -> Result<String> {
    let store = mounted(guest)?;
    let container = container(guest, &store)?;
    let unmounted = umount(&store, false)?;
    let read = reading::read(&container.root.join("data"), &Store::data());
    Ok(format!("{unmounted}; {read}"))
}

fn removed_below_a_container(guest: &Guest) -> Result<String> {
    let store = mounted(guest)?;
    let container = container(guest, &store)?;
    umount(&store, false)?;
    let removed = store.run(&["remove", "--deployment", "d"])?.outcome(&[]);
    gc(guest)?;
    let read = reading::read(&container.root.join("data"), &Store::data());
    Ok(format!("{removed}; {read}"))
}

/// The gc that bootc and cfsctl run; gives the number of objects it took.
fn gc(guest: &Guest) -> Result<u64> {
    let root = File::open("/")?;
    let repo = Repository::<Sha512HashValue>::open_path(root, guest.path("repo"))?;
    let removed = repo.gc(&[])?.objects_removed;
    tamper::drop_caches()?;
    Ok(removed)
}

type Tree = Vec<(std::path::PathBuf, Vec<u8>)>;

fn compared(root: &Path, before: &Tree) -> String {
    match reading::walk(root) {
        Ok(now) if now == *before => "all as it was".into(),
        Ok(_) => "CHANGED".into(),
        Err(error) => errno::name(error),
    }
}

fn gc_while_mounted(guest: &Guest) -> Result<String> {
    let store = mounted(guest)?;
    let before = reading::walk(store.target())?;
    let removed = gc(guest)?;
    Ok(format!(
        "{removed} objects; {}",
        compared(store.target(), &before)
    ))
}

fn removed_while_mounted(guest: &Guest) -> Result<String> {
    let store = mounted(guest)?;
    let before = reading::walk(store.target())?;
    let said = store.run(&["remove", "--deployment", "d"])?;
    gc(guest)?;
    let compared = compared(store.target(), &before);
    Ok(format!("{}; {compared}", said.outcome(&[])))
}

fn removed_elsewhere(guest: &Guest) -> Result<String> {
    let store = mounted(guest)?;
    let file = store.file()?;
    let mut open = File::open(&file)?;
    remove_by_hand(guest)?;
    ensure!(gc(guest)? > 0, "the gc took nothing");
    let opened = read_open(&mut open)?;
    // Of the layer below, which nobody has opened yet.
    let other = file.with_file_name("etc").join("name");
    Ok(format!(
        "{opened}; {}",
        reading::read(&other, &content(7, 3000))
    ))
}

/// Syncs another set for the deployment, and mounts it where the first one is.
fn swap(guest: &Guest, store: &Store) -> Result<()> {
    let mut layout = Layout::new(&guest.path("other"));
    let top = LayerBlob::plain(&tar(&[("data", &Store::data()), ("other", b"1")]));
    layout.image("v2", &[top]);
    let image = layout.arg("localhost/app:2", "v2");
    let synced = store.run(&["sync", "--deployment", "d", "--image", &image])?;
    ensure!(synced.status == 0, "sync: {}", synced.stderr);
    let said = store.mount()?;
    ensure!(said.status == 0, "mount: {}", said.stderr);
    Ok(())
}

fn swapped(guest: &Guest) -> Result<String> {
    let store = mounted(guest)?;
    let mut open = File::open(store.file()?)?;
    swap(guest, &store)?;
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let target = store.target().to_string_lossy();
    let here = |line: &&str| line.split(' ').nth(4) == Some(&*target);
    let mounts = table.lines().filter(here).count();
    Ok(format!(
        "{mounts}; {}; {}",
        read_open(&mut open)?,
        read(&store)?
    ))
}

fn swapped_below_a_container(guest: &Guest) -> Result<String> {
    let store = mounted(guest)?;
    let container = container(guest, &store)?;
    swap(guest, &store)?;
    let ours = store.run(&["gc"])?;
    ensure!(ours.status == 0, "gc: {}", ours.stderr);
    gc(guest)?;
    Ok(reading::read(&container.root.join("data"), &Store::data()))
}

/// Removes the deployment's ref without asking what was mounted, as nobody should.
fn remove_by_hand(guest: &Guest) -> Result<()> {
    let repo = Repo::open(&guest.path("repo"), Repo::LOCK_LIMIT)?;
    repo.remove(&"d".parse()?)?;
    repo.remove_partial()?;
    Ok(())
}

fn two_deployments(guest: &Guest) -> Result<String> {
    let repo = guest.path("repo");
    let store = Store::unsynced(guest, &repo, &["--allow-missing-verity"])?;
    let mut layout = Layout::new(&guest.path("layout"));
    let base = LayerBlob::plain(&tar(&[("shared", &content(3, 9000))]));
    let mut targets = Vec::new();
    for (seed, deployment) in ["d", "e"].into_iter().enumerate() {
        let own = content(u8::try_from(seed)?, 5000);
        let top = LayerBlob::plain(&tar(&[("own", &own)]));
        layout.image(deployment, &[base.clone(), top]);
        let image = layout.arg("localhost/app:1", deployment);
        let target = guest.folder(deployment)?;
        let path = target.to_string_lossy().into_owned();
        let deployment = ["--deployment", deployment];
        let sync = [&["sync"], &deployment[..], &["--image", &image]].concat();
        let mount = [&["mount"], &deployment[..], &["--no-fallback", &path]].concat();
        for args in [sync, mount] {
            let said = store.run(&args)?;
            ensure!(said.status == 0, "{args:?}: {}", said.stderr);
        }
        targets.push(target);
    }
    let before = reading::walk(&targets[1])?;
    let first = targets[0].to_string_lossy();
    let said = store.run(&["umount", &first])?;
    ensure!(said.status == 0, "umount: {}", said.stderr);
    remove_by_hand(guest)?;
    ensure!(gc(guest)? > 0, "the gc took nothing");
    Ok(compared(&targets[1], &before))
}
