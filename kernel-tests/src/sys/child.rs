//! Work in a process of its own, for what a process cannot take back.

use std::{
    fs::File,
    io::{self, Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::pipe::{PipeFlags, pipe_with};

/// Runs `work` in a forked process and gives what it gives.
pub fn in_child(work: impl FnOnce() -> Result<String>) -> Result<String> {
    let (from, to) = pipe_with(PipeFlags::CLOEXEC)?;
    // SAFETY: a check has one thread, so the child holds no lock that another
    // would have to free.
    let child = unsafe { libc::fork() };
    if child == -1 {
        return Err(io::Error::last_os_error()).context("fork");
    }
    if child == 0 {
        drop(from);
        let done = catch_unwind(AssertUnwindSafe(work));
        let said = match done.unwrap_or_else(|_| Err(anyhow!("it panicked"))) {
            Ok(said) => format!("+{said}"),
            Err(error) => format!("-{error:#}"),
        };
        let _ = File::from(to).write_all(said.as_bytes());
        // SAFETY: it ends this process; what the parent has still to drop
        // must not be dropped twice.
        unsafe { libc::_exit(0) }
    }
    drop(to);
    let mut said = String::new();
    File::from(from).read_to_string(&mut said)?;
    // SAFETY: it waits for a child of ours and writes no status.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    match said.split_at_checked(1) {
        Some(("+", said)) => Ok(said.to_owned()),
        Some((_, error)) => bail!("in the child: {error}"),
        None => bail!("the child died"),
    }
}
