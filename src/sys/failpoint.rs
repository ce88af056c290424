//! Points before each durable step, where tests kill or stop this process or let
//! the step fail. There are none in a release build.
//!
//! Each registers itself, so that a test can tell which none of them reaches.
//! What is killed after a step is what is killed before the next one, since
//! nothing durable lies between; the last is [`end`].

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
    str::FromStr,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::process::{Signal, getpid, kill_process};

/// The name of a durable step.
#[derive(Debug)]
pub struct Failpoint(pub &'static str);

inventory::collect!(Failpoint);

/// Comes before a durable step: registers its name, and fails as a test wants.
macro_rules! failpoint {
    ($name:literal) => {{
        #[cfg(debug_assertions)]
        {
            inventory::submit! { $crate::sys::failpoint::Failpoint($name) }
            $crate::sys::failpoint::reach($name)
        }
        #[cfg(not(debug_assertions))]
        std::io::Result::Ok(())
    }};
}
pub(crate) use failpoint;

/// Writes all of some bytes: a durable step itself, which can end half way.
macro_rules! write_all {
    ($name:literal, $file:expr, $bytes:expr) => {{
        #[cfg(debug_assertions)]
        {
            inventory::submit! { $crate::sys::failpoint::Failpoint($name) }
            $crate::sys::failpoint::write($name, $file, $bytes)
        }
        #[cfg(not(debug_assertions))]
        std::io::Write::write_all($file, $bytes)
    }};
}
pub(crate) use write_all;

/// What a test wants of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Where all points are written, and then each as it is reached.
    trace: Option<PathBuf>,
    /// What happens at which point, counted from 1.
    at: Option<(u64, Happening)>,
    /// SIGSTOP to this process at which of the points of this name, from 1.
    stop: Option<(String, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happening {
    /// SIGKILL to this process.
    Kill,
    /// The step fails with this error number.
    Fail(i32),
    /// A write stops half way, for want of room.
    Half,
}

/// A text that is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of trace:FILE, kill:N, half:N, errno:NUMBER:N, stop:NAME:N")]
pub struct PlanError(String);

impl FromStr for Plan {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let error = || PlanError(text.to_owned());
        let number = |text: &str| text.parse().map_err(|_| error());
        let mut plan = Self {
            trace: None,
            at: None,
            stop: None,
        };
        match text.split_once(':').ok_or_else(error)? {
            ("trace", file) => plan.trace = Some(file.into()),
            ("kill", at) => plan.at = Some((number(at)?, Happening::Kill)),
            ("half", at) => plan.at = Some((number(at)?, Happening::Half)),
            ("errno", rest) => {
                let (errno, at) = rest.split_once(':').ok_or_else(error)?;
                let errno = errno.parse().map_err(|_| error())?;
                plan.at = Some((number(at)?, Happening::Fail(errno)));
            }
            ("stop", rest) => {
                let (name, at) = rest.split_once(':').ok_or_else(error)?;
                plan.stop = Some((name.to_owned(), number(at)?));
            }
            _ => return Err(error()),
        }
        Ok(plan)
    }
}

struct Armed {
    trace: Option<File>,
    at: Option<(u64, Happening)>,
    reached: AtomicU64,
    stop: Option<(String, u64)>,
    reached_of_name: AtomicU64,
}

static ARMED: OnceLock<Armed> = OnceLock::new();

/// Lets the plan hold for this process from now on.
///
/// # Errors
/// The trace cannot be written.
pub fn arm(plan: Plan) -> io::Result<()> {
    let open = |path| OpenOptions::new().append(true).create(true).open(path);
    let mut trace = plan.trace.map(open).transpose()?;
    if let Some(trace) = &mut trace {
        for Failpoint(name) in inventory::iter::<Failpoint> {
            trace.write_all(format!("has {name}\n").as_bytes())?;
        }
    }
    let _armed_before = ARMED.set(Armed {
        trace,
        at: plan.at,
        reached: AtomicU64::new(0),
        stop: plan.stop,
        reached_of_name: AtomicU64::new(0),
    });
    Ok(())
}

/// The step `name` comes next.
///
/// # Errors
/// The one that a test wants.
pub fn reach(name: &str) -> io::Result<()> {
    match happening(name) {
        Some(Happening::Kill) => kill(),
        Some(Happening::Fail(errno)) => Err(io::Error::from_raw_os_error(errno)),
        Some(Happening::Half) | None => Ok(()),
    }
}

/// All that this process does is done.
pub fn end() {
    let _nothing_follows = failpoint!("end");
}

/// Writes all of `bytes`, to the step `name`.
///
/// # Errors
/// The file's, or the one that a test wants.
pub fn write(name: &str, mut file: impl Write, bytes: &[u8]) -> io::Result<()> {
    match happening(name) {
        Some(Happening::Kill) => {
            let _half = file.write_all(&bytes[..bytes.len() / 2]);
            kill()
        }
        Some(Happening::Fail(errno)) => Err(io::Error::from_raw_os_error(errno)),
        Some(Happening::Half) => {
            file.write_all(&bytes[..bytes.len() / 2])?;
            Err(io::ErrorKind::StorageFull.into())
        }
        None => file.write_all(bytes),
    }
}

fn happening(name: &str) -> Option<Happening> {
    let armed = ARMED.get()?;
    if let Some(mut trace) = armed.trace.as_ref() {
        let _read_by_a_test = trace.write_all(format!("at {name}\n").as_bytes());
    }
    if let Some((_, at)) = armed.stop.as_ref().filter(|(stop, _)| stop == name)
        && armed.reached_of_name.fetch_add(1, Ordering::Relaxed) + 1 == *at
    {
        // What cannot be stopped goes on, and the test says that it did.
        let _goes_on = kill_process(getpid(), Signal::STOP);
    }
    let reached = armed.reached.fetch_add(1, Ordering::Relaxed) + 1;
    armed
        .at
        .filter(|(at, _)| *at == reached)
        .map(|(_, happening)| happening)
}

fn kill() -> io::Result<()> {
    kill_process(getpid(), Signal::KILL)?;
    Err(io::Error::other("SIGKILL did not kill"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_parsed() {
        let at = |text: &str| text.parse::<Plan>().map(|plan| plan.at);
        assert_eq!(at("kill:3"), Ok(Some((3, Happening::Kill))));
        assert_eq!(at("half:1"), Ok(Some((1, Happening::Half))));
        assert_eq!(at("errno:28:2"), Ok(Some((2, Happening::Fail(28)))));
        assert_eq!(at("trace:/x"), Ok(None));
        let stop = "stop:syncfs:2".parse::<Plan>().map(|plan| plan.stop);
        assert_eq!(stop, Ok(Some(("syncfs".into(), 2))));
        for none in [
            "",
            "kill",
            "kill:x",
            "errno:28",
            "errno:x:1",
            "stop:x",
            "other:1",
        ] {
            assert!(at(none).is_err(), "{none}");
        }
    }
}
