//! Ends a sync that hangs while it holds the repository's lock.
//!
//! A garbage collection, the host's too, waits for that lock without limit. So
//! whoever holds it must come to an end: also where a disk of somebody else's
//! does not answer, or nobody reads what is told on stderr.

use std::{
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};

use super::{failure::Exit, output::tell};
use crate::sys;

/// Less work than this in the time allowed is none: a process that waits for
/// something uses no processor at all.
const WORK: Duration = Duration::from_millis(10);
/// How long saying why may take: it may be stderr that hangs.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Watches this process until dropped.
#[derive(Debug)]
pub(super) struct Watchdog(#[expect(dead_code, reason = "dropped means called off")] Sender<()>);

impl Watchdog {
    /// Ends this process as soon as it has done nothing for `limit`.
    pub(super) fn set(limit: Duration) -> Self {
        let (alive, called_off) = channel();
        thread::spawn(move || {
            let mut worked = sys::processor_time();
            while called_off.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                let now = sys::processor_time();
                if now.saturating_sub(worked) < WORK {
                    end(limit);
                }
                worked = now;
            }
        });
        Self(alive)
    }
}

/// All that an end by force can leave behind is what a crash does.
#[expect(clippy::exit, reason = "no other thread can be relied on to return")]
fn end(limit: Duration) {
    thread::spawn(move || {
        tell(&format!(
            "Error: nothing went on for {} s while the repository was locked (--stuck-after): \
             a source that does not answer, or a reader of this that does not read; try again later",
            limit.as_secs()
        ));
    });
    thread::sleep(LAST_WORDS);
    std::process::exit(i32::from(Exit::NotNow as u8));
}
