//! An upgrade under containers and images in podman's own store.

use std::{path::Path, process::Command};

use serde_json::Value;

use super::Seen;
use crate::{
    common::{Scratch, describe, output, podman::Podman, users},
    host::{Host, ONE, STORE, TWO, V1, V2},
};

/// The deployment whose set keeps what the first one's users stand on.
const KEPT: &str = "kept";

/// What no command of podman notices.
pub fn kept(host: &Host) -> Seen {
    let scratch = Scratch::new();
    host.show(ONE);
    let podman = Podman::new(scratch.join("podman"), Some(Path::new(STORE)));
    users::make(&podman, V1);
    assert_eq!(users::failing(&podman), [""; 0], "before the upgrade");
    let image = Host::bound(V2);
    let sync = format!("sync --deployment {KEPT} --image {image} --keep-layers referenced");
    let synced = boundstore(&podman, 0, &sync);
    assert_eq!(synced["kept"].as_array().map(Vec::len), Some(1), "{synced}");
    host.show(KEPT);
    let failing = users::failing(&podman);
    assert_eq!(users::starts(&podman, "fresh"), "v1\n");
    host.show(ONE);
    host.json(&format!("remove --deployment {KEPT}"));
    if failing.is_empty() {
        return Seen::works();
    }
    Seen::is(format!("{} fail", failing.join(", ")), "works")
}

/// What `status` tells where nothing was kept, and its commands mend.
pub fn mended(host: &Host) -> Seen {
    let scratch = Scratch::new();
    host.show(ONE);
    let podman = Podman::new(scratch.join("podman"), Some(Path::new(STORE)));
    users::make(&podman, V1);
    host.show(TWO);
    let failing = users::failing(&podman);
    println!("without kept layers fail: {}", failing.join(", "));
    assert!(failing.contains(&"start --attach ran"), "{failing:?}");
    let told = dangling(&podman, 3);
    let message = told["message"].as_str().unwrap();
    let fix = message.split('`').nth(1).unwrap();
    let mut shell = podman.tool("sh");
    let done = output(shell.args(["-c", fix]));
    assert!(done.status.success(), "{}", describe(&shell, &done));
    assert_eq!(dangling(&podman, 0)["reason"], "NoUsers");
    for command in ["images", "ps --all", "system df", "system check"] {
        podman.ok(command);
    }
    assert_eq!(podman.images(), [(V2.to_owned(), true)]);
    host.show(ONE);
    Seen::works()
}

/// The condition of the set of [`TWO`].
fn dangling(podman: &Podman, code: i32) -> Value {
    let status = boundstore(podman, code, &format!("status --deployment {TWO}"));
    let conditions = status["deployments"][0]["conditions"].as_array().unwrap();
    let mut conditions = conditions.iter();
    let found = conditions.find(|condition| condition["type"] == "Dangling");
    found.unwrap_or_else(|| panic!("{status:#}")).clone()
}

/// `boundstore` that looks at this podman's store; its document.
fn boundstore(podman: &Podman, code: i32, args: &str) -> Value {
    let mut command = Command::new("boundstore");
    let conf = podman.root().with_file_name("storage.conf");
    command.env("CONTAINERS_STORAGE_CONF", conf).arg("--json");
    let output = output(command.args(args.split_whitespace()));
    let said = describe(&command, &output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}
