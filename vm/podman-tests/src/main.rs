//! podman on boundstore's store, under systemd, on real kernels.
//!
//! One static program in two roles, both in a virtual machine that `vm` boots:
//! `/init` of the initramfs, which loads modules and starts the systemd of a
//! Debian root filesystem ([`stage`]), and the one service there, which runs
//! the steps of [`steps`] and reports each on the second serial port
//! ([`guest::report`]).
//!
//! ```text
//! sync into a repository with fs-verity -> mount -> the battery of tests/common
//!   -> upgrade and rollback -> damage, and what podman sees of it
//! ```
//! The steps are in that order, and each needs those before it to have worked.
//! What must come of one hangs on what the kernel was found to be able to.

#[path = "../../../tests/common/mod.rs"]
#[allow(unused_imports, unreachable_pub, reason = "the integration tests' own")]
mod common;
mod host;
mod stage;
mod steps;

use std::{env, path::Path, process::ExitCode};

use guest::report::{self, Port};

use crate::host::Host;

fn main() -> ExitCode {
    match env::args().nth(1).as_deref() {
        Some("--list") => report::list(&steps::all(), |_| String::new()),
        Some("--run") => report::service(run),
        None if std::process::id() == 1 => guest::stage::start(stage::stage),
        _ => {
            eprintln!("usage: podman-tests --list; all else happens in the guest");
            ExitCode::from(2)
        }
    }
}

fn run() {
    let port = Port::open(&Path::new(stage::INPUT).join("checks"));
    let host = Host::new();
    port.capability("podman_verity_require", host.requires_verity);
    port.run(&host, &steps::all());
    port.end();
}
