//! v1 again, after a rollback. v2 is removed; then v3 is staged, of whose images
//! one does not come.

use std::collections::BTreeSet;

use super::{Run, quadlet_ran, runs, shows, store_content};
use crate::{
    host::{Host, Staged, objects, units, wait_until},
    host_image::LATE,
};

pub const STEPS: &[(&str, &str, Run)] = &[
    (
        "shown_at_boot",
        "v1's set is shown again, byte for byte",
        shown_at_boot,
    ),
    ("quadlet", "its app was started at boot", |_| quadlet_ran(1)),
    ("apps_run", "its app runs from its set", |_| runs(1)),
    (
        "gc_of_undeployed",
        "v2 undeployed: gc frees exactly its own objects",
        gc,
    ),
    (
        "held_back",
        "v3 staged, a layer is not in the registry: it is locked",
        held_back,
    ),
];

fn shown_at_boot(host: &Host) {
    shows(host, 1);
    same(&store_content(), &host.kept("v1-store"));
}

/// Equal lists; else how they differ.
#[track_caller]
fn same(found: &[String], expected: &[String]) {
    let (found, expected): (BTreeSet<_>, BTreeSet<_>) =
        (found.iter().collect(), expected.iter().collect());
    let more: Vec<_> = found.difference(&expected).take(20).collect();
    let less: Vec<_> = expected.difference(&found).take(20).collect();
    assert!(
        more.is_empty() && less.is_empty(),
        "more: {more:#?}\nless: {less:#?}"
    );
}

/// What the host image itself has of its own goes with it, where the repository
/// is the host's.
fn gc(host: &Host) {
    let (mut v1, v2) = (host.kept("v1-objects"), host.kept("v2-objects"));
    let host_image = host.owner.objects_of(2);
    v1.retain(|object| !host_image.contains(object));
    let collect = || {
        host.exits(0, "gc");
        host.owner.collect();
        objects()
    };
    same(&collect(), &v2);
    host.owner.undeploy(2);
    host.exits(0, "gc --dry-run");
    same(&objects(), &v2);
    same(&collect(), &v1);
    shows(host, 1);
}

/// What is fetched of the others is not fetched again: they are on their way
/// until the sync ends.
fn held_back(host: &Host) {
    host.serve(&["app:v3", LATE.image]);
    host.lose_top_layer(LATE.image);
    let fetched = host.fetched_by(|| {
        host.stage(3);
        let locked = Some(Staged { locked: true });
        wait_until("the lock", || host.owner.staged() == locked);
        wait_until("word of the missing layer", || units().contains(LATE.image));
        wait_until("the end of the sync", || {
            units().contains("could not be brought")
        });
    });
    host.keep("v3-fetched", &fetched);
    host.stop_registry();
}
