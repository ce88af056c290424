//! What a sync refuses or puts off: the exit status tells which, and nothing
//! is left behind.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;
#[path = "common/layout.rs"]
mod layout;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use common::{Scratch, boundstore::Boundstore, describe, output, ready, registry::Registry, text};
use layout::{LayerBlob, Layout, content, tar};
use serde_json::Value;

/// `localhost/app:1`, as `--image` takes it.
fn app(scratch: &Scratch) -> String {
    let mut layout = Layout::new(&scratch.join("layout"));
    let layer = LayerBlob::gzip(&tar(&[("etc/", b""), ("etc/name", &content(7, 3000))]));
    layout.image("1", &[layer]);
    layout.arg("localhost/app:1", "1")
}

/// A sync of `image` into a repository at `repo`, with fs-verity, that must
/// exit with `code`; what it says on stderr.
#[track_caller]
fn refused(repo: &Path, image: &str, code: i32) -> String {
    let mut sync = Command::new(env!("CARGO_BIN_EXE_boundstore"));
    sync.arg("--repo").arg(repo);
    sync.args(["sync", "--deployment", "d", "--image", image]);
    let found = output(&mut sync);
    assert_eq!(
        found.status.code(),
        Some(code),
        "{}",
        describe(&sync, &found)
    );
    String::from_utf8(found.stderr).unwrap()
}

#[test]
fn no_repository_is_made_where_fs_verity_is_missing() {
    if !ready(&["mount"]) {
        return;
    }
    let scratch = Scratch::new();
    let image = app(&scratch);
    let tmpfs = scratch.dir("tmpfs");
    text(
        Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(&tmpfs),
    );
    let said = refused(&tmpfs.join("repo"), &image, 5);
    assert!(said.contains("--allow-missing-verity"), "{said}");
    assert_eq!(fs::read_dir(&tmpfs).unwrap().count(), 0);
}

/// What is wrong there is not fs-verity, and the error must not say so.
#[test]
fn a_repository_that_cannot_be_made_says_why() {
    let scratch = Scratch::new();
    let image = app(&scratch);
    fs::write(scratch.join("file"), "").unwrap();
    let said = refused(&scratch.join("file/repo"), &image, 1);
    assert!(said.contains("Not a directory"), "{said}");
    assert!(!said.contains("verity"), "{said}");
}

#[test]
fn a_registry_that_does_not_answer_is_for_later() {
    if !ready(&["skopeo"]) {
        return;
    }
    let scratch = Scratch::new();
    let host = Boundstore::new(&scratch, "repo");
    // No one listens on the discard port.
    let images = ["localhost/app:1=docker://127.0.0.1:9/app:1".to_owned()];
    let sync = host.sync_args("d", &images);
    let (said, error) = host.exits(4, &format!("{sync} --retry-for 0"));
    assert_eq!(said, "");
    assert!(error.contains("localhost/app:1"), "{error}");
    assert!(error.contains("connection refused"), "{error}");
    // The same call is taken up when the image is there.
    host.sync("d", &[app(&scratch)]);
}

/// It is down when the sync begins, and comes up while that waits.
#[test]
fn a_registry_that_comes_back_is_asked_again() {
    if !ready(&["skopeo", "docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let host = Boundstore::new(&scratch, "repo");
    let registry = Registry::start(&scratch);
    let address = registry.address.clone();
    let image = app(&scratch);
    let (_name, source) = image.split_once('=').unwrap();
    let to = format!("docker://{address}/app:1");
    text(Command::new("skopeo").args(["copy", "--quiet", "--dest-tls-verify=false", source, &to]));
    drop(registry);

    let sync = host.sync_args("d", &[format!("localhost/app:1={to}")]);
    let told = scratch.join("told");
    let mut running = host
        .command(&format!(
            "{sync} --no-tls-verify --retry-for 120 --progress json"
        ))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&told).unwrap())
        .spawn()
        .unwrap();
    let events = || -> Vec<Value> {
        let told = fs::read_to_string(&told).unwrap();
        let lines = told.lines().filter(|line| line.starts_with('{'));
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let mut waited = 0;
    while events().iter().all(|event| event["event"] != "retrying") {
        assert!(
            running.try_wait().unwrap().is_none() && waited < 600,
            "{:?}",
            fs::read_to_string(&told)
        );
        std::thread::sleep(Duration::from_millis(100));
        waited += 1;
    }
    let registry = Registry::start_at(scratch.path(), &address);
    let exit = running.wait().unwrap();
    drop(registry);
    let events = events();
    assert_eq!(exit.code(), Some(0), "{events:?}");
    let retrying = &events[0];
    assert_eq!(retrying["deployment"], "d");
    assert_eq!(retrying["pause_seconds"], 1);
    let error = retrying["error"].as_str().unwrap();
    assert!(error.contains("connection refused"), "{error}");
    let came: u64 = events
        .iter()
        .filter(|event| event["event"] == "came")
        .map(|event| event["bytes"].as_u64().unwrap())
        .sum();
    let asked: u64 = events
        .iter()
        .filter(|event| event["event"] == "fetching")
        .map(|event| event["bytes"].as_u64().unwrap())
        .sum();
    assert!(came > 0 && came == asked, "{came} of {asked}: {events:?}");
    assert!(events.iter().any(|event| event["event"] == "fetched"));
    assert!(events.iter().any(|event| event["event"] == "importing"));
}

#[test]
fn a_repository_may_be_named_by_one_word() {
    let scratch = Scratch::new();
    let image = app(&scratch);
    let mut sync = Command::new(env!("CARGO_BIN_EXE_boundstore"));
    sync.current_dir(scratch.path());
    sync.args(["--allow-missing-verity", "--repo", "r"]);
    sync.args(["sync", "--deployment", "d", "--image", &image]);
    text(&mut sync);
    assert!(scratch.join("r/meta.json").is_file());
}
