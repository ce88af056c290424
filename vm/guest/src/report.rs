//! Runs steps and tells the host of each, on the second serial port, in the
//! form of `vm/src/report.rs`.

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
    kmsg::Kmsg,
    step::{Seen, Step},
    sys,
};

thread_local! {
    /// What this thread said when it panicked.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Prints the steps as `vm` asks for them. `options` is what the kernel must be
/// told for one of this name.
pub fn list<H>(steps: &[Step<H>], options: impl Fn(&str) -> String) -> ExitCode {
    for step in steps {
        let (id, row, once) = (&step.id, &step.row, if step.once { "once" } else { "" });
        println!("{id}\t{row}\t{}\t{once}", options(id));
    }
    ExitCode::SUCCESS
}

/// The service: `run`, then the end of the machine, unless it has begun to
/// reboot.
pub fn service(run: impl FnOnce()) -> ExitCode {
    set_hook(Box::new(|panic| {
        PANIC.with(|said| said.replace(panic.to_string()));
    }));
    if catch_unwind(AssertUnwindSafe(run)).is_err() {
        println!("guest: {}", PANIC.with(RefCell::take));
    }
    // Nothing on the disks is wanted any more.
    sys::debug_exit(0);
    // The unit's FailureAction turns the machine off.
    ExitCode::FAILURE
}

/// The way to the host.
#[derive(Debug)]
pub struct Port {
    port: Mutex<File>,
    wanted: BTreeSet<String>,
}

impl Port {
    /// Opens it and says which kernel runs. `checks` names the file of what is
    /// to be told.
    ///
    /// # Panics
    /// Where there is no such file, or no port.
    pub fn open(checks: &Path) -> Self {
        let wanted = fs::read_to_string(checks).unwrap();
        let port = Self {
            port: Mutex::new(File::options().write(true).open("/dev/ttyS1").unwrap()),
            wanted: wanted.lines().map(str::to_owned).collect(),
        };
        port.tell(&format!("START {}", uname().release().to_string_lossy()));
        port
    }

    /// What the kernel was found to be able to.
    pub fn capability(&self, name: &str, can: bool) {
        let can = if can { "yes" } else { "no" };
        self.tell(&format!("C|{name}|{can}"));
    }

    /// That the machine starts again, from its disks.
    pub fn reboots(&self) {
        self.tell("REBOOT");
    }

    /// That no more is to come.
    pub fn end(&self) {
        self.tell("END");
    }

    /// Runs the steps that are wanted, and those before them that are needed.
    /// Whether all did what they had to.
    pub fn run<H: Sync>(&self, host: &H, steps: &[Step<H>]) -> bool {
        let steps: Vec<&Step<H>> = steps
            .iter()
            .filter(|step| step.always || self.wants(step))
            .collect();
        let at_once = thread::available_parallelism().map_or(1, NonZero::get);
        let failed = AtomicUsize::new(0);
        for group in steps.chunk_by(|a, b| a.together && b.together) {
            let next = AtomicUsize::new(0);
            thread::scope(|scope| {
                for _ in 0..at_once.min(group.len()) {
                    scope.spawn(|| {
                        while let Some(step) = group.get(next.fetch_add(1, Ordering::Relaxed)) {
                            if !self.run_one(step, host) {
                                failed.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    });
                }
            });
        }
        failed.into_inner() == 0
    }

    /// Tells of steps that were not run: they failed, for this reason.
    pub fn not_run<H>(&self, steps: &[Step<H>], why: &str) {
        for step in steps {
            self.tell_of(
                step,
                &Seen::is("not run", "works"),
                why,
                &[],
                Instant::now(),
            );
        }
    }

    fn run_one<H>(&self, step: &Step<H>, host: &H) -> bool {
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
        self.tell_of(step, &seen, &said, &kernel, begun);
        ok
    }

    fn tell_of<H>(
        &self,
        step: &Step<H>,
        seen: &Seen,
        said: &str,
        kernel: &[String],
        begun: Instant,
    ) {
        if !self.wants(step) {
            return;
        }
        let (id, ok) = (&step.id, seen.observed == seen.expected);
        let result = json!({
            "id": id, "row": step.row, "observed": seen.observed, "expected": seen.expected,
            "ok": ok, "said": said.lines().collect::<Vec<_>>(), "kernel": kernel,
            "millis": begun.elapsed().as_millis() as u64,
        });
        let word = if ok { "ok" } else { "FAILED" };
        self.tell(&format!("R|{id}|{word}|{result}"));
    }

    fn wants<H>(&self, step: &Step<H>) -> bool {
        self.wanted.contains(&step.id)
    }

    fn tell(&self, line: &str) {
        let mut port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        port.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}
