//! Child processes that do not outlive their use.

use std::{
    io,
    os::fd::OwnedFd,
    os::unix::process::CommandExt,
    process::{Command, Output, Stdio},
    sync::mpsc::channel,
    thread,
    time::Duration,
};

use rustix::{
    io::{read, write},
    pipe::{PipeFlags, pipe_with},
    process::{
        Pid, PidfdFlags, Signal, getpid, kill_process_group, pidfd_open, pidfd_send_signal,
        set_parent_process_death_signal,
    },
    time::{ClockId, clock_gettime},
};

/// Holds a child that somebody else spawns, and kills it when dropped.
///
/// For libraries that spawn a given [`Command`] and keep the child to
/// themselves: the child says its process ID before it executes.
#[derive(Debug)]
pub struct Leash {
    said: OwnedFd,
    child: Option<OwnedFd>,
}

impl Leash {
    /// Prepares `command`: its child will die with the thread that spawns it,
    /// and will be known to the leash that is returned.
    ///
    /// # Errors
    /// The system's: no more file descriptors.
    pub fn tie(command: &mut Command) -> io::Result<Self> {
        let (said, says) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let announce = move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            write(&says, &getpid().as_raw_nonzero().get().to_ne_bytes())?;
            Ok(())
        };
        // SAFETY: between fork and exec only prctl, getpid and write are called,
        // on values made before the fork; nothing allocates or takes a lock.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(announce);
        }
        Ok(Self { said, child: None })
    }

    /// Takes hold of the child; to be called right after it was spawned.
    ///
    /// # Errors
    /// The system's; no child has been spawned.
    pub fn hold(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4];
        let length = read(&self.said, &mut bytes)?;
        let pid = Pid::from_raw(i32::from_ne_bytes(bytes)).filter(|_| length == bytes.len());
        let pid = pid.ok_or_else(|| io::Error::other("the child did not say its process ID"))?;
        self.child = Some(pidfd_open(pid, PidfdFlags::empty())?);
        Ok(())
    }

    /// Kills the child, if it still runs.
    pub fn kill(&self) {
        if let Some(child) = &self.child {
            // It has exited: what was wanted.
            let _ = pidfd_send_signal(child, Signal::KILL);
        }
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How long the processors have worked for this process.
pub fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Runs `command` to its end; nothing where that takes longer than `limit`:
/// then it is killed, with all that it has started.
///
/// # Errors
/// The system's: it cannot be run.
pub fn output_within(command: &mut Command, limit: Duration) -> io::Result<Option<Output>> {
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.process_group(0).spawn()?;
    let group = Pid::from_child(&child);
    let (send, ended) = channel();
    // Nobody hears any more only after the limit.
    thread::spawn(move || drop(send.send(child.wait_with_output())));
    if let Ok(output) = ended.recv_timeout(limit) {
        return output.map(Some);
    }
    // It has ended just now: what was wanted.
    let _ = kill_process_group(group, Signal::KILL);
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Its standard output stays open as long as its own child runs.
    #[test]
    fn what_takes_too_long_is_killed_with_its_children() {
        let script = "sleep 1000 & echo $!; [ $0 = quick ] && kill $! && exit 3; wait";
        let run = |how: &str, limit| {
            let mut command = Command::new("sh");
            output_within(command.args(["-c", script, how]), limit).unwrap()
        };
        let quick = run("quick", Duration::from_secs(60)).unwrap();
        assert_eq!(quick.status.code(), Some(3));
        let begun = Instant::now();
        let marker = format!("slow-{}", std::process::id());
        assert!(run(&marker, Duration::from_millis(300)).is_none());
        assert!(begun.elapsed() < Duration::from_secs(30));
        let runs = || {
            std::fs::read_dir("/proc").unwrap().any(|entry| {
                let path = entry.unwrap().path().join("cmdline");
                std::fs::read(path).is_ok_and(|line| {
                    line.windows(marker.len())
                        .any(|part| part == marker.as_bytes())
                })
            })
        };
        let gone = (0..300).any(|_| {
            thread::sleep(Duration::from_millis(100));
            !runs()
        });
        assert!(gone, "{marker} still runs");
    }
}
