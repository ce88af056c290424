//! The oracle and the podman battery, held against stores that podman itself
//! made: what they ask of our stores, podman's own must pass.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;

use std::process::Command;

use serde_json::json;

use common::{
    Scratch,
    battery::{self, Subject},
    fixtures,
    image::Image,
    project, ready, stores, text,
};

#[test]
fn battery_passes_on_podmans_own_store() {
    if !ready(battery::TOOLS) {
        return;
    }
    let scratch = Scratch::new();
    let v1 = Image::read(&fixtures().join("app"), "v1");
    let reference = stores::reference(scratch.join("reference"), &[("localhost/app:v1", &v1)]);
    let store = scratch.join("store");
    stores::bind_read_only(&reference, &store);
    battery::run_all(Subject {
        store: &store,
        name: "localhost/app:v1",
        image: &v1,
    });
}

/// The layout that our stores have, without any of our code: when this passes,
/// neither the battery nor the oracle is in the way.
#[test]
#[ignore = "copies 80,000 files: `make test-long`"]
fn battery_and_oracle_pass_on_squashed_trees_made_by_cp() {
    if !ready(battery::TOOLS) {
        return;
    }
    let scratch = Scratch::new();
    let v1 = Image::read(&fixtures().join("app"), "v1");
    let reference = stores::reference(scratch.join("reference"), &[("localhost/app:v1", &v1)]);
    let chain = stores::chain(&reference, scratch.join("chain"));
    stores::assert_prefixes_equal(&reference, &chain, &json!([[]]));
    let store = scratch.join("store");
    stores::bind_read_only(&chain, &store);
    battery::run_all(Subject {
        store: &store,
        name: "localhost/app:v1",
        image: &v1,
    });
}

#[test]
fn service_sees_a_swapped_store() {
    if !ready(battery::TOOLS) {
        return;
    }
    let scratch = Scratch::new();
    let v1 = Image::read(&fixtures().join("app"), "v1");
    let v2 = Image::read(&fixtures().join("app"), "v2");
    let one = stores::reference(scratch.join("one"), &[("localhost/app:v1", &v1)]);
    let two = stores::reference(scratch.join("two"), &[("localhost/app:v2", &v2)]);
    let store = scratch.join("store");
    stores::bind_read_only(&one, &store);
    let swap = || {
        text(Command::new("umount").arg("-l").arg(&store));
        stores::bind_read_only(&two, &store);
    };
    battery::service_sees_swap(&store, &["localhost/app:v1"], swap, &["localhost/app:v2"]);
}

#[test]
fn comparison_sees_every_difference() {
    if !ready(&["python3"]) {
        return;
    }
    let scratch = Scratch::new();
    let said = text(
        Command::new("python3")
            .arg(project().join("tests/oracle/selftest.py"))
            .arg(scratch.path()),
    );
    println!("{said}");
}
