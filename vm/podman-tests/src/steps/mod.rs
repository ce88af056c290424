//! The steps, in their order.

mod battery;
mod dangling;
mod store;
mod swap;
mod tamper;

use crate::host::Host;

/// One step, which is one named test on each kernel.
pub struct Step {
    /// `podman::battery::commit`
    pub id: String,
    /// What it is about, as people read it.
    pub row: String,
    /// Whether the steps after it need it.
    pub always: bool,
    /// Whether one kernel is enough.
    pub once: bool,
    /// Whether it can run beside its neighbours.
    pub together: bool,
    /// Does it. A panic is a failure.
    pub run: Box<dyn Fn(&Host) -> Seen + Send + Sync>,
}

/// What came of a step, in the same few words every time.
#[derive(Debug)]
pub struct Seen {
    /// What was found.
    pub observed: String,
    /// What had to be, on a kernel like this.
    pub expected: String,
}

impl Seen {
    /// What every kernel must do.
    pub fn works() -> Self {
        Self::is("works", "works")
    }

    /// The first was found, the second had to be.
    pub fn is(observed: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            observed: observed.into(),
            expected: expected.into(),
        }
    }
}

type Run = fn(&Host) -> Seen;

/// Every step.
pub fn all() -> Vec<Step> {
    let step = |id: &str, row: &str, always, run: Run| Step {
        id: format!("podman::{id}"),
        row: row.to_owned(),
        always,
        once: false,
        together: false,
        run: Box::new(run),
    };
    let mut steps = vec![
        step(
            "store::sync",
            "sync into a new repository, fs-verity on",
            true,
            store::sync,
        ),
        step(
            "store::sealed",
            "every object has fs-verity, and its digest is its name",
            false,
            store::sealed,
        ),
        step(
            "store::mount",
            "mount, with verity=require where the overlay can",
            true,
            store::mount,
        ),
        step(
            "store::drop_in",
            "the host's own podman, by the drop-in for storage.conf",
            false,
            store::drop_in,
        ),
    ];
    steps.extend(battery::steps());
    steps.extend([
        step(
            "swap::upgrade",
            "another set in place of the first, under a podman service",
            true,
            swap::upgrade,
        ),
        step(
            "swap::rollback",
            "and the first one again",
            true,
            swap::rollback,
        ),
        step(
            "dangling::kept",
            "an upgrade under containers and tags, their layers kept",
            false,
            dangling::kept,
        ),
        step(
            "dangling::mended",
            "the same without: status names them, its commands mend",
            false,
            dangling::mended,
        ),
        step(
            "tamper::block_flipped",
            "a block of an object changed on the disk: podman run",
            false,
            tamper::block_flipped,
        ),
        step(
            "tamper::object_replaced",
            "an object replaced by another file: podman run",
            false,
            tamper::object_replaced,
        ),
        step(
            "tamper::mended",
            "both mended, the set mounted anew: podman run",
            false,
            tamper::mended,
        ),
    ]);
    steps
}
