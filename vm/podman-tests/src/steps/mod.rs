//! The steps, in their order.

mod battery;
mod dangling;
mod device;
mod embed;
mod store;
mod swap;
mod tamper;

use crate::host::Host;

pub use guest::step::Seen;

/// A step of this guest.
pub type Step = guest::step::Step<Host>;

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
            "embed::in_place",
            "the store as plain directories: podman run, also --uidmap and --userns=auto",
            false,
            embed::in_place,
        ),
        step(
            "embed::hardlinked",
            "the same with hard links across the trees",
            false,
            embed::hardlinked,
        ),
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
            "tamper::repaired",
            "a block changed on the disk: verify --deep --repair, podman run",
            false,
            tamper::repaired,
        ),
        step(
            "tamper::mended",
            "both mended, the set mounted anew: podman run",
            false,
            tamper::mended,
        ),
        step(
            "device::writes_fail",
            "a disk that fails writes (dm-flakey) under a sync",
            true,
            device::writes_fail,
        ),
        step(
            "device::all_fails",
            "a disk that fails (dm-error): verify --deep; podman run, and when it is well",
            false,
            device::all_fails,
        ),
    ]);
    steps
}
