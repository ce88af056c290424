//! Exit statuses, and the one table from errors to them.

use std::{error::Error, io, process::ExitCode};

use super::output::tell;
use crate::{
    bound::{ArgumentError, LockError, ScanError},
    bundle::BundleError,
    config::ConfigError,
    deployment::{ExposeError, GcError, GuardError, PrimaryError, SyncError, host::HostError},
    error::{PathError, with_causes},
    repo::{DeploymentIdError, RepoError},
    sink::SinkError,
    source::{Failing, SourceError},
    sys::MountError,
};

/// What the caller is told by number; see `boundstore --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Unhealthy = 3,
    NotNow = 4,
    Refused = 5,
}

impl Exit {
    /// What a program of ours meant by its number; killed, it failed.
    pub(super) fn of_child(code: Option<i32>) -> Self {
        let known = [Self::Usage, Self::Unhealthy, Self::NotNow, Self::Refused];
        let same = |exit: &&Self| code == Some(i32::from(**exit as u8));
        known.iter().find(same).copied().unwrap_or(Self::Failed)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// An error with the exit status it means.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    error: Box<dyn Error + Send + Sync>,
}

impl Failure {
    pub(super) fn new(exit: Exit, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            exit,
            error: error.into(),
        }
    }

    /// The error and its causes in one line.
    pub(super) fn text(&self) -> String {
        with_causes(&*self.error)
    }

    /// Prints the error and its causes, each once.
    pub(super) fn print(&self) {
        if self.exit == Exit::Done {
            return;
        }
        tell(&format!("Error: {}", self.error));
        let mut last = self.error.to_string();
        let mut cause = self.error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if text != last {
                tell(&format!("Caused by: {text}"));
            }
            last = text;
            cause = error.source();
        }
    }
}

fn of_repo(error: &RepoError) -> Exit {
    match error {
        RepoError::Busy { .. } | RepoError::InUse { .. } => Exit::NotNow,
        RepoError::NoVerity { .. } => Exit::Refused,
        _ => Exit::Failed,
    }
}

fn of_mount(error: &MountError) -> Exit {
    match error {
        MountError::NoVerityRequire(_) => Exit::Refused,
        _ => Exit::Failed,
    }
}

fn of_lock(error: &LockError) -> Exit {
    match error {
        LockError::Stale(_) => Exit::Refused,
        _ => Exit::Failed,
    }
}

pub(super) fn of_source(error: &SourceError) -> Exit {
    match error.failing() {
        Failing::Denied => Exit::Refused,
        Failing::Transient => Exit::NotNow,
        _ => Exit::Failed,
    }
}

fn of_bundle(error: &BundleError) -> Exit {
    match error {
        BundleError::Source(source) => of_source(source),
        _ => Exit::Failed,
    }
}

macro_rules! table {
    ($($error:ty => $exit:expr;)*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                let exit: fn(&$error) -> Exit = $exit;
                Self::new(exit(&error), error)
            }
        })*
    };
}

table! {
    PathError => |_| Exit::Failed;
    RepoError => of_repo;
    SourceError => of_source;
    HostError => |_| Exit::Failed;
    GcError => |error| match error {
        GcError::Repo(source) => of_repo(source),
        _ => Exit::Failed,
    };
    GuardError => |error| match error {
        GuardError::Incomplete { .. } => Exit::Unhealthy,
        _ => Exit::Failed,
    };
    PrimaryError => |error| match error {
        PrimaryError::Store(source) => of_source(source),
        _ => Exit::Failed,
    };
    ScanError => |_| Exit::Failed;
    LockError => of_lock;
    ConfigError => |_| Exit::Failed;
    ArgumentError => |_| Exit::Usage;
    DeploymentIdError => |_| Exit::Usage;
    BundleError => of_bundle;
    SinkError => |_| Exit::Failed;
    SyncError => |error| match error {
        SyncError::Source { source, .. } => of_source(source),
        SyncError::Repo(source) | SyncError::Sink(SinkError::Repo(source)) => of_repo(source),
        SyncError::NotLocked { .. } => Exit::Refused,
        SyncError::Bundle(source) => of_bundle(source),
        _ => Exit::Failed,
    };
    ExposeError => |error| match error {
        ExposeError::MissingVerity(_) | ExposeError::NotLocked { .. } => Exit::Refused,
        ExposeError::Busy { .. } => Exit::NotNow,
        ExposeError::Repo(source) => of_repo(source),
        ExposeError::Mount { source, .. } | ExposeError::Kernel(source) => of_mount(source),
        _ => Exit::Failed,
    };
    // Nobody reads any more: that is no failure.
    io::Error => |error| match error.kind() {
        io::ErrorKind::BrokenPipe => Exit::Done,
        _ => Exit::Failed,
    };
}
