//! Upgrade and rollback: one set in place of another.

use std::path::Path;

use super::Seen;
use crate::{
    common::{Scratch, battery::service_sees_swap, podman::Podman},
    host::{Host, ONE, STORE, TWO, V1, V2},
};

/// The second set in place of the first.
pub fn upgrade(host: &Host) -> Seen {
    let store = Path::new(STORE);
    service_sees_swap(store, &[V1], || host.show(TWO), &[V2]);
    runs(V2, "hello from v2\n");
    Seen::works()
}

/// And back.
pub fn rollback(host: &Host) -> Seen {
    let store = Path::new(STORE);
    service_sees_swap(store, &[V2], || host.show(ONE), &[V1]);
    runs(V1, "hello from v1\n");
    Seen::works()
}

fn runs(name: &str, says: &str) {
    let scratch = Scratch::new();
    let podman = Podman::new(scratch.join("podman"), Some(Path::new(STORE)));
    let said = podman.runtime(&format!("run --rm {name}"));
    assert_eq!(String::from_utf8_lossy(&said.stdout), says, "{said:?}");
}
