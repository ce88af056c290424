//! A host's own deployments: ostree, not we, says which there are; and sets
//! come to them by their roles.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;
#[path = "common/layout.rs"]
mod layout;

use std::{fs, io::Read, os::fd::OwnedFd, path::Path};

use boundstore::deployment::host::{Backend, Deployment, HostError, HostPaths, detect};
use common::{
    Scratch,
    boundstore::Boundstore,
    ostree::{Listed, OstreeHost},
    ready,
};
use layout::{LayerBlob, Layout, content, tar};
use serde_json::Value;

const TOOLS: [&str; 4] = ["ostree", "unshare", "mount", "chroot"];

fn of_ours(deployment: &Deployment) -> Listed {
    Listed {
        id: deployment.id.to_string(),
        booted: deployment.booted,
        staged: deployment.staged,
        rollback: deployment.rollback,
        pinned: deployment.pinned,
    }
}

/// What the built program lists in the system that runs `booted`.
fn ours_in(host: &OstreeHost, booted: &str) -> Vec<Listed> {
    let (_, output) = host.try_inside(booted, "boundstore --json status");
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["problems"], Value::Array(Vec::new()));
    let deployments = status["deployments"].as_array().unwrap().iter();
    deployments
        .map(|deployment| {
            let roles = deployment["roles"].as_array().unwrap();
            let has = |role: &str| roles.iter().any(|found| found == role);
            Listed {
                id: deployment["id"].as_str().unwrap().to_owned(),
                booted: has("booted"),
                staged: has("staged"),
                rollback: has("rollback"),
                pinned: has("pinned"),
            }
        })
        .collect()
}

#[test]
fn a_sysroot_that_is_not_booted_is_listed_as_ostree_does() {
    if !ready(&TOOLS) {
        return;
    }
    let host = OstreeHost::new(3);
    let scratch = Scratch::new();
    let paths = HostPaths {
        root: scratch.path().to_owned(),
        sysroot: host.sysroot(),
        repo: scratch.join("repo"),
    };
    let ours = || {
        let host = detect(&paths).unwrap().unwrap();
        assert_eq!(host.backend(), Backend::Ostree);
        let deployments = host.deployments().unwrap();
        deployments.iter().map(of_ours).collect::<Vec<_>>()
    };
    for version in [1, 2, 3, 1] {
        host.deploy(version);
        assert_eq!(ours(), host.listed());
    }
    host.admin("undeploy 1");
    assert_eq!(ours(), host.listed());
    assert_eq!(ours().len(), 3);
}

#[test]
fn a_booted_host_is_listed_as_ostree_does() {
    if !ready(&TOOLS) {
        return;
    }
    let host = OstreeHost::new(4);
    for version in [1, 2, 3] {
        host.deploy(version);
    }
    let ids: Vec<String> = host.listed().into_iter().map(|one| one.id).collect();
    for booted in &ids {
        assert_eq!(ours_in(&host, booted), host.listed_in(booted), "{booted}");
    }
    let booted = &ids[1];
    let listed = ours_in(&host, booted);
    assert!(listed[1].booted && listed[2].rollback, "{listed:?}");

    host.inside(
        booted,
        "ostree admin pin 2 && ostree admin deploy --stage test/os4",
    );
    let listed = ours_in(&host, booted);
    assert_eq!(listed, host.listed_in(booted));
    assert!(listed[0].staged && listed[3].pinned, "{listed:?}");
    // Staged for good by what ostree does at shutdown.
    let locked = host.run().join("ostree/staged-deployment-locked");
    fs::write(&locked, "").unwrap();
    let (_, output) = host.try_inside(booted, "boundstore --json status --deployment staged");
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(status.to_string().contains("Finalization"), "{status:#}");
}

fn layout(dir: &Path, versions: u8) {
    let mut layout = Layout::new(dir);
    let base = LayerBlob::gzip(&tar(&[("etc/", b""), ("etc/base", &content(9, 5000))]));
    for version in 1..=versions {
        let top = LayerBlob::plain(&tar(&[("version", &content(version, 3000))]));
        layout.image(&format!("localhost/app:{version}"), &[base.clone(), top]);
    }
}

/// In a booted ostree host whose `/sysroot` is mounted read-only.
#[test]
fn sets_come_to_deployments_by_role() {
    if !ready(&TOOLS) {
        return;
    }
    let host = OstreeHost::new(4);
    layout(&host.run().join("layout"), 4);
    let policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
    fs::write(host.run().join("policy.json"), policy).unwrap();
    for version in [1, 2, 3] {
        host.deploy(version);
    }
    let booted = host.listed()[1].id.clone();
    let sync = |which: &str| {
        format!(
            "boundstore --json --allow-missing-verity sync --deployment {which} \
             --from oci:/run/layout --policy /run/policy.json --spool /run/spool"
        )
    };
    let synced =
        |command: &str| -> Value { serde_json::from_str(&host.inside(&booted, command)).unwrap() };
    let nothing = synced(&sync("staged"));
    assert_eq!(nothing["deployments"], Value::Array(Vec::new()));

    let first = synced(&sync("booted"));
    assert_eq!(first["deployment"], booted.as_str());
    assert_eq!(first["images"][0]["name"], "localhost/app:2");
    assert_eq!(synced(&sync(&booted))["unchanged"], true);
    // Only the program itself could write there.
    let touch = host.try_inside(&booted, &format!("{}; touch /sysroot/x", sync("booted")));
    let said = String::from_utf8(touch.1.stderr).unwrap();
    assert!(said.contains("Read-only file system"), "{said}");

    host.inside(&booted, "ostree admin deploy --stage test/os4");
    let staged = synced(&sync("staged"));
    assert_eq!(staged["images"][0]["name"], "localhost/app:4");
    assert_eq!(
        synced(&sync("rollback"))["images"][0]["name"],
        "localhost/app:1"
    );
    let all = synced(&sync("all"));
    let all = all["deployments"].as_array().unwrap();
    assert_eq!(all.len(), 4);
    assert!(
        all.iter()
            .all(|one| one["unchanged"] == (one["deployment"] != all[1]["deployment"]))
    );

    // One that fails does not stop the others, and is told.
    fs::remove_dir_all(host.run().join("layout")).unwrap();
    layout(&host.run().join("layout"), 3);
    let (_, output) = host.try_inside(&booted, &sync("all --retry-for 0"));
    assert_ne!(output.status.code(), Some(0));
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(all["deployments"][0]["error"].is_string(), "{all:#}");
    assert_eq!(all["deployments"][1]["unchanged"], true);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("localhost/app:4"), "{said}");

    let images = host.inside(&booted, "boundstore images --deployment staged");
    assert!(images.contains("localhost/app:4"), "{images}");
    host.inside(&booted, "boundstore verify --deep --deployment all");
    host.inside(&booted, "boundstore remove --deployment rollback");
    let (_, output) = host.try_inside(&booted, "boundstore mount --deployment all /dev");
    assert_eq!(output.status.code(), Some(2));
    let (_, output) = host.try_inside(&booted, &sync("booted --root /"));
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_host_without_deployments_says_so() {
    let scratch = Scratch::new();
    let host = Boundstore::new(&scratch, "repo");
    let root = scratch.dir("root");
    let args = format!("--host-root {} sync --deployment staged", root.display());
    let (_, said) = host.exits(1, &args);
    assert!(
        said.contains("neither an ostree nor a composefs host"),
        "{said}"
    );
}

/// The root of a composefs deployment is an EROFS image of the repository;
/// here a set image is taken for one.
#[test]
fn a_composefs_root_is_mounted_from_the_repository() {
    if !ready(&["mount"]) {
        return;
    }
    let scratch = Scratch::new();
    let bs = Boundstore::new(&scratch, "repo");
    layout(&scratch.join("layout"), 1);
    let image = format!(
        "localhost/app:1=oci:{}:localhost/app:1",
        scratch.join("layout").display()
    );
    let set = bs.sync("any", &[image]);
    let id = set["set_image"].as_str().unwrap();
    let root = scratch.dir("root");
    let write = |path: &str, text: String| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    fs::create_dir_all(scratch.join(format!("repo-host/state/deploy/{id}"))).unwrap();
    let mounts = format!("30 1 0:27 / / ro - overlay composefs:{id} ro\n");
    write("proc/self/mountinfo", mounts);
    let paths = HostPaths {
        root: root.clone(),
        sysroot: scratch.join("repo-host"),
        repo: scratch.join("repo"),
    };
    let host = detect(&paths).unwrap().unwrap();
    assert_eq!(host.backend(), Backend::Composefs);
    let deployment = host.deployments().unwrap().remove(0).id;
    // Without fs-verity only where the host boots without it.
    let refused = host.open_root(&deployment);
    assert!(
        matches!(refused, Err(HostError::MissingVerity(_))),
        "{refused:?}"
    );
    write("proc/cmdline", format!("root=x composefs=?{id} rw"));
    let mounted: OwnedFd = host.open_root(&deployment).unwrap();
    let path = format!(
        "/proc/self/fd/{}/overlay-images/images.json",
        std::os::fd::AsRawFd::as_raw_fd(&mounted)
    );
    let mut text = String::new();
    fs::File::open(path)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert!(text.contains("localhost/app:1"), "{text}");
    let unknown = host.open_root(&"0".repeat(128).parse().unwrap());
    assert!(matches!(unknown, Err(HostError::Unknown(_))));
    // And through the command line, whose units there are none.
    let synced = bs.json(&format!(
        "--host-root {} sync --deployment booted",
        root.display()
    ));
    assert_eq!(synced["images"], Value::Array(Vec::new()));
    // Nothing stays mounted where the root was put together.
    let stage = root.join("run/boundstore/stage/metadata");
    assert_eq!(std::fs::read_dir(stage).unwrap().count(), 0);
}
