//! podman on boundstore's store, under systemd, on real kernels.
//!
//! One static program in two roles, both in a virtual machine that `vm` boots:
//! `/init` of the initramfs, which loads modules and starts the systemd of a
//! Debian root filesystem ([`stage`]), and the one service there, which runs
//! the steps of [`steps`] and reports each on the second serial port
//! ([`report`]).
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
#[path = "../../../kernel-tests/src/fixture/disk.rs"]
mod disk;
#[path = "../../../kernel-tests/src/early.rs"]
mod early;
mod host;
#[path = "../../../kernel-tests/src/kmsg.rs"]
mod kmsg;
mod report;
mod stage;
mod steps;
#[path = "../../../kernel-tests/src/sys/mod.rs"]
#[allow(dead_code, unused_imports, reason = "kernel-tests uses the rest")]
mod sys;
#[path = "../../../kernel-tests/src/fixture/tamper.rs"]
#[allow(dead_code, reason = "kernel-tests uses the rest")]
mod tamper;

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    match env::args().nth(1).as_deref() {
        Some("--list") => {
            for step in steps::all() {
                // The third field is for what the kernel must be told.
                let once = if step.once { "once" } else { "" };
                println!("{}\t{}\t\t{once}", step.id, step.row);
            }
            ExitCode::SUCCESS
        }
        Some("--run") => report::run(),
        None if std::process::id() == 1 => stage::start(),
        _ => {
            eprintln!("usage: podman-tests --list; all else happens in the guest");
            ExitCode::from(2)
        }
    }
}
