//! Child processes that do not outlive their use.

use std::{io, os::fd::OwnedFd, os::unix::process::CommandExt, process::Command};

use rustix::{
    io::{read, write},
    pipe::{PipeFlags, pipe_with},
    process::{
        Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal,
        set_parent_process_death_signal,
    },
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
