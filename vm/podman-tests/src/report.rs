//! Runs the steps and tells the host of each, on the second serial port, in
//! the form of `vm/src/report.rs`.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs::{self, File},
    io::Write,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind, set_hook},
    path::Path,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use rustix::system::uname;
use serde_json::json;

use crate::{
    host::Host,
    kmsg::Kmsg,
    stage::INPUT,
    steps::{self, Seen, Step},
    sys,
};

thread_local! {
    /// What this thread said when it panicked.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The service: all steps, then the end of the machine.
pub fn run() -> ExitCode {
    set_hook(Box::new(|panic| {
        PANIC.with(|said| said.replace(panic.to_string()));
    }));
    let done = catch_unwind(run_steps);
    if done.is_err() {
        println!("podman-tests: {}", PANIC.with(RefCell::take));
    }
    // Nothing on the disks is wanted any more.
    sys::debug_exit(0);
    // The unit's FailureAction turns the machine off.
    ExitCode::FAILURE
}

fn run_steps() {
    let port = Mutex::new(File::options().write(true).open("/dev/ttyS1").unwrap());
    let tell = |line: String| {
        let mut port = port.lock().unwrap_or_else(PoisonError::into_inner);
        port.write_all(line.as_bytes()).unwrap();
    };
    tell(format!("START {}\n", uname().release().to_string_lossy()));
    let host = Host::new();
    let can = if host.requires_verity { "yes" } else { "no" };
    tell(format!("C|podman_verity_require|{can}\n"));
    let wanted = fs::read_to_string(Path::new(INPUT).join("checks")).unwrap();
    let wanted: BTreeSet<&str> = wanted.lines().collect();
    let is_wanted = |step: &Step| wanted.contains(step.id.as_str());

    let steps: Vec<Step> = steps::all()
        .into_iter()
        .filter(|s| s.always || is_wanted(s))
        .collect();
    let at_once = thread::available_parallelism().map_or(1, NonZero::get);
    for group in steps.chunk_by(|a, b| a.together && b.together) {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..at_once.min(group.len()) {
                scope.spawn(|| {
                    while let Some(step) = group.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let line = run_one(step, &host);
                        if is_wanted(step) {
                            tell(line);
                        }
                    }
                });
            }
        });
    }
    tell("END\n".to_owned());
}

/// Runs a step; the line that tells of it.
fn run_one(step: &Step, host: &Host) -> String {
    let id = &step.id;
    println!("{id} ...");
    let begun = Instant::now();
    let mut kmsg = Kmsg::now();
    let result = catch_unwind(AssertUnwindSafe(|| (step.run)(host)));
    let (seen, said) = match result {
        Ok(seen) => (seen, String::new()),
        Err(_) => (Seen::is("failed", "works"), PANIC.with(RefCell::take)),
    };
    let ok = seen.observed == seen.expected;
    let word = if ok { "ok" } else { "FAILED" };
    let seconds = begun.elapsed().as_secs_f32();
    println!("{id} ... {word} ({seconds:.1} s)");
    let kernel = match (&mut kmsg, ok) {
        (Ok(kmsg), false) => kmsg.lines(),
        _ => Vec::new(),
    };
    let result = json!({
        "id": id, "row": step.row, "observed": seen.observed, "expected": seen.expected,
        "ok": ok, "said": said.lines().collect::<Vec<_>>(), "kernel": kernel, "millis": begun.elapsed().as_millis() as u64,
    });
    format!("R|{id}|{word}|{result}\n")
}
