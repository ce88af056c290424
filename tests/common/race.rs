//! Processes that run at once, their phase drawn from a printed seed, each with
//! a limit: what hangs fails.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::{
    process::{Command, Output},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use boundstore::sys::output_within;

/// What runs longer hangs: all that is raced here takes a fraction of a second.
pub const HANGS: Duration = Duration::from_secs(100);

/// Random numbers that a seed repeats (splitmix64).
#[derive(Debug)]
pub struct Phase(u64);

impl Phase {
    /// Of `BOUNDSTORE_SEED`, else of the clock; printed.
    pub fn new(what: &str) -> Self {
        let seed = match std::env::var("BOUNDSTORE_SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                u64::from(now.subsec_nanos())
            }
        };
        println!("{what}: BOUNDSTORE_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// How long one of several that begin together waits.
    pub fn delay(&mut self) -> Duration {
        Duration::from_micros(self.next() % 25_000)
    }
}

/// A process, and after how long it begins.
#[derive(Debug)]
pub struct Racer {
    pub command: Command,
    pub after: Duration,
}

/// Runs all at once, each to its end.
///
/// # Panics
/// If one hangs.
#[track_caller]
pub fn race(racers: Vec<Racer>) -> Vec<Output> {
    thread::scope(|scope| {
        let run = |mut racer: Racer| {
            thread::sleep(racer.after);
            let output = output_within(&mut racer.command, HANGS).unwrap();
            output.unwrap_or_else(|| panic!("hangs: {:?}", racer.command))
        };
        let running: Vec<_> = racers
            .into_iter()
            .map(|racer| scope.spawn(move || run(racer)))
            .collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    })
}
