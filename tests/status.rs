//! `status` and `images` answer from files alone, whatever others do.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "common/host.rs"]
mod host;
#[path = "common/layout.rs"]
mod layout;

use std::{
    fs::File,
    process::Command,
    time::{Duration, Instant},
};

use host::Host;
use layout::{LayerBlob, Layout, tar};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

/// Five deployments of up to forty images each, of three layers, the base shared.
fn five_deployments() -> Host {
    let host = Host::new();
    let mut layout = Layout::new(&host.path("layout"));
    let base = layer("base");
    let mut images = Vec::new();
    for at in 0..40 {
        let reference = format!("app{at}");
        let layers = [base.clone(), layer(&reference), layer(&format!("top{at}"))];
        layout.image(&reference, &layers);
        images.push("--image".to_owned());
        images.push(layout.arg(&format!("localhost/{reference}:1"), &reference));
    }
    for at in 0..5 {
        let id = format!("deployment-{at}");
        let mut sync = vec!["sync", "--deployment", &id];
        // Each has a set image of its own.
        sync.extend(images[2 * at..].iter().map(String::as_str));
        host.ok(&sync);
    }
    host
}

/// Fifty files, each too large to be inline.
fn layer(name: &str) -> LayerBlob {
    let files: Vec<String> = (0..50).map(|at| format!("{name}-{at}")).collect();
    let contents: Vec<String> = files.iter().map(|file| file.repeat(20)).collect();
    let entries = files.iter().zip(&contents);
    let entries: Vec<(&str, &[u8])> = entries
        .map(|(file, content)| (file.as_str(), content.as_bytes()))
        .collect();
    LayerBlob::plain(&tar(&entries))
}

#[test]
fn a_garbage_collection_delays_nobody() {
    let host = five_deployments();
    let repo = File::open(host.path("repo")).unwrap();
    flock(&repo, FlockOperation::NonBlockingLockExclusive).unwrap();
    let sizes = |document: &Value, of: fn(&Value) -> usize| -> Vec<usize> {
        let deployments = document["deployments"].as_array().unwrap();
        deployments.iter().map(of).collect()
    };
    let begun = Instant::now();
    let status = within_limit(&host, &["status"]);
    eprintln!("status: {:?}", begun.elapsed());
    let images = |one: &Value| one["set"]["images"].as_array().unwrap().len();
    assert_eq!(sizes(&status, images), [40, 39, 38, 37, 36]);
    let listed = within_limit(&host, &["images"]);
    assert_eq!(
        listed["images"].as_array().unwrap().len(),
        40 + 39 + 38 + 37 + 36
    );
    let verified = within_limit(&host, &["verify"]);
    let problems = |one: &Value| one["problems"].as_array().unwrap().len();
    assert_eq!(sizes(&verified, problems), [0; 5]);
}

/// The document of a call that must succeed, and must not wait.
#[track_caller]
fn within_limit(host: &Host, args: &[&str]) -> Value {
    let mut command = Command::new("timeout");
    let call = host.command(args);
    command
        .arg("20")
        .arg(call.get_program())
        .args(call.get_args());
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{args:?}: {} {stderr}",
        output.status
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn waiting_ends_when_all_is_well_or_the_time_is_over() {
    let host = Host::new();
    let mut layout = Layout::new(&host.path("layout"));
    layout.image("app", &[layer("app")]);
    let image = layout.arg("localhost/app:1", "app");
    host.ok(&["sync", "--deployment", "other", "--image", &image]);
    let waiting = ["status", "--deployment", "late", "--wait"];
    let begun = Instant::now();
    host.fails(&[&waiting[..], &["1"]].concat(), 3, &[]);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let mut child = host.command(&[&waiting[..], &["60"]].concat());
    let child = child.stdout(std::process::Stdio::piped()).spawn().unwrap();
    host.ok(&["sync", "--deployment", "late", "--image", &image]);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["deployments"][0]["id"], "late");
}
