//! The battery of `tests/common`, each of its steps as one here.

use std::{path::Path, sync::OnceLock};

use super::{Seen, Step};
use crate::{
    common::battery::{Battery, STEPS, Subject},
    host::{Host, STORE, V1},
};

/// What podman asks of the kernel: reads, writes and copies through a container's
/// overlay on ours. The rest is between podman and the files of the store, but
/// for `build FROM`, which asks for what `commit` does and takes longest.
const EVERYWHERE: &[&str] = &[
    "run",
    "run that writes",
    "create and mount",
    "diff",
    "save as docker-archive",
    "commit",
];

/// All of it.
pub fn steps() -> impl Iterator<Item = Step> {
    STEPS.iter().map(|step| Step {
        id: format!("podman::battery::{}", rust_name(step.0)),
        row: format!("podman: {}", step.0),
        always: false,
        once: !EVERYWHERE.contains(&step.0),
        together: true,
        run: Box::new(move |host| {
            battery(host).step(step);
            Seen::works()
        }),
    })
}

/// It reads the whole store when made.
fn battery(host: &Host) -> &'static Battery<'static> {
    static BATTERY: OnceLock<Battery<'static>> = OnceLock::new();
    BATTERY.get_or_init(|| {
        Battery::new(Subject {
            store: Path::new(STORE),
            name: V1,
            image: Box::leak(Box::new(host.v1.clone())),
        })
    })
}

/// `rmi -f` as `rmi_f`.
fn rust_name(name: &str) -> String {
    let parts = name.split(|c: char| !c.is_ascii_alphanumeric());
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    parts.join("_").to_lowercase()
}
