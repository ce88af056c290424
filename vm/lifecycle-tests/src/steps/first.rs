//! The boot after the installation: v1, which has no set yet. Then an upgrade.

use std::{path::Path, process::Command};

use super::{Run, holds, mounted, podman_images, runs, shows, store_content};
use crate::{
    common::text,
    host::{Host, Staged, objects, units, wait_until},
    host_image::{bound_names, named},
};

pub const STEPS: &[(&str, &str, Run)] = &[
    (
        "empty_store",
        "no set yet: podman works, and the unit says so",
        empty_store,
    ),
    (
        "sync",
        "sync --deployment booted, and the unit started again",
        sync,
    ),
    ("apps_run", "the app runs from the set", |_| runs(1)),
    (
        "bootc_22_logically_bound_install",
        "bootc's test 22: podman and boundstore list what is bound",
        bootc_22,
    ),
    (
        "held_back",
        "v2 staged, no registry: it is locked, and status says so",
        held_back,
    ),
    (
        "registry_back",
        "the registry is back: its set comes, and it is unlocked",
        registry_back,
    ),
    (
        "bootc_21_logically_bound_switch",
        "bootc's test 21: what an upgrade binds is there before the reboot",
        bootc_21,
    ),
];

fn empty_store(host: &Host) {
    assert_eq!(host.version(), 1);
    assert_eq!(mounted().as_deref(), Some("tmpfs"), "{}", units());
    assert_eq!(podman_images(), [""; 0]);
    let state = text(Command::new("systemctl").args(["show", "-P", "ActiveState", UNIT]));
    assert_eq!(state, "failed\n");
}

const UNIT: &str = "boundstore-mount.service";

fn sync(host: &Host) {
    let images: Vec<&str> = [1, 2]
        .into_iter()
        .flat_map(named)
        .filter(|it| it.bound)
        .map(|it| it.image)
        .collect();
    host.serve(&images);
    host.exits(0, "sync --deployment booted");
    text(Command::new("systemctl").args(["restart", UNIT]));
    shows(host, 1);
    // Where the kernel cannot check, PID 1 has written one.
    let can = !Path::new("/etc/boundstore/config.toml").exists();
    assert_eq!(holds(&host.status("booted"), "Verified"), can);
    host.keep("v1-store", &store_content());
    host.keep("v1-objects", &objects());
}

fn bootc_22(host: &Host) {
    // Neither what is not bound nor its credentials, which are not there.
    assert_eq!(podman_images(), bound_names(1));
    assert_eq!(listed(host, "booted"), bound_names(1));
}

/// The names that `images` lists of the deployment in a role, sorted.
fn listed(host: &Host, role: &str) -> Vec<String> {
    let json = host.json(&format!("images --deployment {role}"));
    let images = json["images"].as_array().unwrap().iter();
    let mut names: Vec<String> = images
        .map(|image| image["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn held_back(host: &Host) {
    host.stop_registry();
    host.stage(2);
    let locked = Some(Staged { locked: true });
    wait_until("the lock", || host.owner.staged() == locked);
    let staged = host.status("staged");
    assert!(!holds(&staged, "Present"), "{staged:#}");
    assert!(holds(&staged, "Locked"), "{staged:#}");
}

fn registry_back(host: &Host) {
    host.serve(&[]);
    let free = Some(Staged { locked: false });
    wait_until("the unlocking", || host.owner.staged() == free);
    let staged = host.status("staged");
    assert!(holds(&staged, "Present"), "{staged:#}");
    host.keep("v2-objects", &objects());
}

/// Before the reboot; the rest of it is `upgraded::bootc_21_..`.
fn bootc_21(host: &Host) {
    assert_eq!(listed(host, "staged"), bound_names(2));
    // And what runs is not touched.
    shows(host, 1);
}
