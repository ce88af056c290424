//! Containers and image records in podman's own store that stand on layers
//! which an upgrade takes away: real podman, found, mended and kept.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use common::{
    Scratch,
    boundstore::Boundstore,
    describe, fixtures,
    image::Image,
    output,
    podman::Podman,
    ready,
    users::{self, BUILT, MINE},
};

const TOOLS: &[&str] = &["podman", "buildah", "mmdebstrap", "python3"];
const APP: &str = "localhost/app:v1";
const NEXT: &str = "localhost/app:v2";

/// A host with v1 mounted, and a podman of its own.
struct Host {
    boundstore: Boundstore,
    podman: Podman,
    store: PathBuf,
    _scratch: Scratch,
}

fn source(version: &str) -> String {
    Image::read(&fixtures().join("app-small"), version).source()
}

impl Host {
    fn new() -> Self {
        let host = Self::without_users();
        users::make(&host.podman, APP);
        host
    }

    fn without_users() -> Self {
        let scratch = Scratch::new();
        let boundstore = Boundstore::new(&scratch, "repo");
        let store = scratch.join("store");
        boundstore.sync("one", &[format!("{APP}={}", source("v1"))]);
        boundstore.mount("one", &store);
        let podman = Podman::new(scratch.join("podman"), Some(&store));
        Self {
            boundstore,
            podman,
            store,
            _scratch: scratch,
        }
    }

    /// `boundstore` that looks at this podman's store; its document.
    fn boundstore(&self, code: i32, args: &str) -> Value {
        let mut command = self.boundstore.command(&format!("--json {args}"));
        let conf = self.podman.root().with_file_name("storage.conf");
        command.env("CONTAINERS_STORAGE_CONF", conf);
        let output = output(&mut command);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{}",
            describe(&command, &output)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The upgrade: v2 alone, in v1's place.
    fn upgrade(&self, options: &str) -> Value {
        let images = [format!("{NEXT}={}", source("v2"))];
        let args = self.boundstore.sync_args("two", &images);
        let synced = self.boundstore(0, &format!("{args} {options}"));
        self.boundstore
            .ok(&format!("umount --lazy {}", self.store.display()));
        self.boundstore.mount("two", &self.store);
        synced
    }

    /// The condition of what is mounted.
    fn dangling(&self, code: i32) -> Value {
        let status = self.boundstore(code, "status --deployment two");
        let conditions = status["deployments"][0]["conditions"].as_array().unwrap();
        let mut conditions = conditions.iter();
        let found = conditions.find(|condition| condition["type"] == "Dangling");
        found.unwrap_or_else(|| panic!("{status:#}")).clone()
    }
}

/// Done-when 4: with `keep-layers=referenced` no podman command fails that did
/// not fail before.
#[test]
fn kept_layers_let_every_command_work_after_an_upgrade() {
    if !ready(TOOLS) {
        return;
    }
    let host = Host::new();
    assert_eq!(users::failing(&host.podman), [""; 0], "before the upgrade");
    let synced = host.upgrade("--keep-layers referenced");
    assert_eq!(synced["kept"].as_array().unwrap().len(), 1, "{synced:#}");
    assert_eq!(users::failing(&host.podman), [""; 0], "after the upgrade");
    assert_eq!(host.dangling(0)["status"], false);
    assert_eq!(users::starts(&host.podman, "fresh"), "v1\n");
    assert_eq!(host.podman.run("--rm", NEXT, "cat /app/version"), "v2\n");
    // The name is the new set's to give.
    host.podman.fails(1, &format!("image exists {APP}"));
    host.boundstore.ok("verify --deployment two --deep");

    // The same again is the same; the old deployment's end changes nothing.
    let images = [format!("{NEXT}={}", source("v2"))];
    let sync = host.boundstore.sync_args("two", &images);
    let again = host.boundstore(0, &format!("{sync} --keep-layers referenced"));
    assert_eq!(again["unchanged"], true, "{again:#}");
    assert_eq!(again["set_image"], synced["set_image"]);
    host.boundstore.ok("remove --deployment one");
    let again = host.boundstore(0, &format!("{sync} --keep-layers referenced"));
    assert_eq!(again["unchanged"], true, "{again:#}");

    // Without users nothing is kept, and the set image is the plain one.
    host.podman.ok("rm ran fresh");
    host.podman.ok(&format!("image rm {BUILT}"));
    host.podman.ok(&format!("image rm {MINE}"));
    let plain = host.boundstore(0, &format!("{sync} --keep-layers referenced"));
    assert_eq!(plain["kept"], serde_json::json!([]));
    assert_ne!(plain["set_image"], synced["set_image"]);
    let none = host.boundstore(0, &sync);
    assert_eq!(none["unchanged"], true, "{none:#}");
    host.boundstore.umount(&host.store);
}

/// Without it, `status` names who dangles, and its commands mend.
#[test]
fn status_names_what_dangles_and_its_commands_mend() {
    if !ready(TOOLS) {
        return;
    }
    let host = Host::new();
    let synced = host.upgrade("");
    assert_eq!(synced["kept"], serde_json::json!([]));
    let condition = host.dangling(3);
    assert_eq!(condition["status"], true);
    assert_eq!(condition["reason"], "LayersMissing");
    let message = condition["message"].as_str().unwrap();
    let images = [MINE, BUILT].map(|name| format!("image {name}"));
    let containers = ["container ran", "container fresh"];
    for named in containers
        .into_iter()
        .chain(images.iter().map(String::as_str))
    {
        assert!(message.contains(named), "{message}");
    }
    let failing = users::failing(&host.podman);
    for broken in ["start --attach ran", "start --attach fresh"] {
        assert!(failing.contains(&broken), "{failing:?}");
    }
    let version = host.podman.ok("version --format {{.Client.Version}}");
    if version.starts_with("4.") {
        assert!(failing.contains(&"images"), "{failing:?}");
    }

    let fix = message.split('`').nth(1).unwrap();
    assert!(
        fix.contains("podman rm ") && fix.contains("podman image rm "),
        "{fix}"
    );
    let mut shell = host.podman.tool("sh");
    let done = output(shell.args(["-c", fix]));
    assert!(done.status.success(), "{}", describe(&shell, &done));
    assert_eq!(host.dangling(0)["reason"], "NoUsers");
    for command in ["images", "ps --all", "system df"] {
        host.podman.ok(command);
    }
    assert_eq!(host.podman.images(), [(NEXT.to_owned(), true)]);
    host.boundstore.umount(&host.store);
}

/// What was synced without is mended by a sync with: the layers come back.
#[test]
fn a_later_sync_brings_the_layers_back() {
    if !ready(TOOLS) {
        return;
    }
    let host = Host::new();
    host.upgrade("");
    assert_eq!(host.dangling(3)["status"], true);
    host.upgrade("--keep-layers referenced");
    assert_eq!(host.dangling(0)["status"], false);
    assert_eq!(users::failing(&host.podman), [""; 0]);
    host.boundstore.umount(&host.store);
}

/// Quadlets' containers go with their end: they keep nothing.
#[test]
fn containers_that_go_with_their_end_are_no_users() {
    if !ready(TOOLS) {
        return;
    }
    let host = Host::without_users();
    host.podman
        .ok(&format!("create --rm --name unit {APP} true"));
    let synced = host.upgrade("--keep-layers referenced");
    assert_eq!(synced["kept"], serde_json::json!([]));
    assert_eq!(host.dangling(0)["reason"], "NoUsers");
    host.boundstore.umount(&host.store);
}

/// A podman that keeps its store's lock does not hang `status`.
#[test]
fn a_locked_store_does_not_hang_status() {
    if !ready(TOOLS) {
        return;
    }
    let host = Host::new();
    host.upgrade("");
    let lock = host.podman.root().join("overlay-images/images.lock");
    let mut holder = hold(&lock);
    let begun = Instant::now();
    let condition = host.dangling(0);
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(condition["reason"], "StoreBusy", "{condition}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(host.dangling(3)["reason"], "LayersMissing");
    host.boundstore.umount(&host.store);
}

/// A process that holds a lock as containers-storage's writers do.
fn hold(lock: &Path) -> std::process::Child {
    let script = "import fcntl, sys, time\n\
                  file = open(sys.argv[1], 'r+')\n\
                  fcntl.lockf(file, fcntl.LOCK_EX)\n\
                  print('held', flush=True)\n\
                  time.sleep(600)\n";
    let mut holder = Command::new("python3")
        .args(["-c", script])
        .arg(lock)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = holder.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    holder
}
