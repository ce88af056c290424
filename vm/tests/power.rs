//! Power cuts under everything that writes: see `vm::power`.
//!
//! ```text
//! [KERNEL=6.12] [SEED=1] cargo test -p vm --test power -- --nocapture [--include-ignored]
//! ```
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::{
    env,
    sync::atomic::{AtomicU64, Ordering},
    thread::scope,
    time::UNIX_EPOCH,
};

use vm::{KERNELS, Kernel, power::Power};

/// Each load is killed once, and `cuts` more disks are made from its writes.
fn cut(loads: u64, cuts: usize) {
    let name = env::var("KERNEL").unwrap_or_else(|_| "6.12".into());
    let source = KERNELS.iter().find(|source| source.name == name);
    let kernel = Kernel::fetch(*source.expect("KERNEL is a name of vm/src/kernels.rs")).unwrap();
    let seed = match env::var("SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => UNIX_EPOCH.elapsed().unwrap().as_secs(),
    };
    eprintln!("power: SEED={seed} on {}", kernel.version);
    let power = Power::new(kernel).unwrap();
    let next = AtomicU64::new(0);
    let work = || {
        let mut verdicts = Vec::new();
        loop {
            let load = next.fetch_add(1, Ordering::Relaxed);
            if load >= loads {
                return verdicts;
            }
            for verdict in power.cut(seed + load, cuts).unwrap() {
                eprintln!("power: {}: {}", verdict.cut, verdict.said);
                verdicts.push(verdict);
            }
        }
    };
    // A machine has one processor.
    let verdicts = scope(|scope| {
        let workers = [scope.spawn(work), scope.spawn(work)];
        workers.map(|worker| worker.join().unwrap()).concat()
    });
    let failed: Vec<_> = verdicts.iter().filter(|verdict| !verdict.ok).collect();
    eprintln!(
        "power: {} cuts, {loads} of them real kills, {} bad",
        verdicts.len(),
        failed.len()
    );
    assert!(failed.is_empty(), "SEED={seed}: {failed:#?}");
}

#[test]
fn a_few_cuts() {
    cut(1, 3);
}

#[test]
#[ignore = "long: more than fifty power cuts"]
fn many_cuts() {
    cut(4, 12);
}
