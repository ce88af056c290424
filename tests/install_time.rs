//! Before the first boot: an installer brings the set of a sysroot that runs
//! nothing yet; an existing store of podman's is taken over. docs/install.md
//! has the recipes.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;
#[path = "common/layout.rs"]
mod layout;

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::Path, process::Command};

use common::{
    Scratch, battery, boundstore::Boundstore, fixtures, image::Image, ostree::OstreeHost, output,
    podman::Podman, ready, text,
};
use serde_json::Value;

/// A call without a network and with no program in PATH: neither skopeo nor
/// podman can be asked.
#[track_caller]
fn alone(scratch: &Scratch, sysroot: &Path, args: &str) -> Value {
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["--net", env!("CARGO_BIN_EXE_boundstore"), "--json"]);
    command.args(["--allow-missing-verity", "--host-root"]);
    command.arg(scratch.dir("installer"));
    command.arg("--sysroot").arg(sysroot);
    command
        .args(args.split_whitespace())
        .env("PATH", "/nowhere");
    serde_json::from_str(&text(&mut command)).unwrap()
}

/// As `bootc install to-filesystem` leaves a sysroot: deployed, never booted.
#[test]
fn an_installer_brings_the_set_without_network_or_programs() {
    if !ready(&[battery::TOOLS, &["ostree", "unshare", "skopeo"]].concat()) {
        return;
    }
    let scratch = Scratch::new();
    let target = OstreeHost::new(1);
    target.deploy(1);
    let deployment = target.listed()[0].id.clone();
    // The images lie on the medium, under the names they are bound by.
    let medium = scratch.join("medium");
    let app = Image::read(&fixtures().join("app-small"), "v1");
    let to = format!("oci:{}:localhost/app:1", medium.display());
    app.copy_to(&to);
    let policy = scratch.join("policy.json");
    fs::write(
        &policy,
        r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
    )
    .unwrap();
    let sync = format!(
        "sync --deployment all --from oci:{} --policy {} --spool {}",
        medium.display(),
        policy.display(),
        scratch.join("spool").display()
    );
    let call = |args: &str| alone(&scratch, &target.sysroot(), args);
    let synced = call(&sync);
    assert_eq!(synced["deployment"], *deployment, "{synced:#}");
    assert_eq!(synced["images"][0]["name"], "localhost/app:1");
    assert!(target.sysroot().join("composefs/meta.json").exists());
    assert_eq!(call(&sync)["unchanged"], true);
    call("verify --deep");
    // What its first boot then mounts.
    let store = scratch.dir("store");
    call(&format!(
        "mount --deployment {deployment} {}",
        store.display()
    ));
    let podman = Podman::new(scratch.join("podman"), Some(&store));
    let said = podman.run("--rm", "localhost/app:1", "/bin/sh /app/hello");
    assert_eq!(said, "hello from v1\n");
    call(&format!("umount {}", store.display()));
}

fn inodes(folder: &Path, found: &mut BTreeSet<(u64, u64)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            inodes(&path, found);
        } else if metadata.is_file() {
            found.insert((metadata.dev(), metadata.ino()));
        }
    }
}

/// A store that bootc or podman filled goes on being its owner's to write.
#[test]
fn a_store_of_podmans_is_taken_over() {
    if !ready(&[battery::TOOLS, &["skopeo"]].concat()) {
        return;
    }
    let scratch = Scratch::new();
    let name = "localhost/app:1";
    let app = Image::read(&fixtures().join("app-small"), "v1");
    let (graph, run) = (scratch.dir("graph"), scratch.dir("run"));
    let storage = format!("[overlay@{}+{}]", graph.display(), run.display());
    let to = format!("containers-storage:{storage}{name}");
    app.copy_to(&to);
    let host = Boundstore::new(&scratch, "repo");
    let taken = host.json(&format!(
        "{} --from containers-storage:{storage}",
        host.sync_args("d", &[name.to_owned()])
    ));
    // The very set that the image's own bytes give.
    let other = Boundstore::new(&scratch, "other");
    let from_layout = other.sync("d", &[format!("{name}={}", app.source())]);
    assert_eq!(taken["set_image"], from_layout["set_image"]);
    let (mut ours, mut theirs) = (BTreeSet::new(), BTreeSet::new());
    inodes(&host.repo().join("objects"), &mut ours);
    inodes(&graph, &mut theirs);
    assert!(ours.len() > 100 && theirs.len() > 100);
    assert!(ours.is_disjoint(&theirs), "an inode is shared with podman");
    // Whatever becomes of the store.
    let rm = output(Command::new("podman").args([
        "--root",
        &graph.display().to_string(),
        "--runroot",
        &run.display().to_string(),
        "rmi",
        "--force",
        "--all",
    ]));
    println!("{}", String::from_utf8_lossy(&rm.stderr));
    fs::remove_dir_all(graph.join("overlay")).unwrap();
    host.ok("verify --deep");
    let store = scratch.dir("store");
    host.mount("d", &store);
    let podman = Podman::new(scratch.join("podman"), Some(&store));
    let said = podman.run("--rm", name, "/bin/sh /app/hello");
    assert_eq!(said, "hello from v1\n");
    host.umount(&store);
}
