//! What the integration tests share: scratch directories that unmount
//! themselves, commands with readable failures, the fixtures, podman.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub mod battery;
pub mod boundstore;
pub mod image;
pub mod ordinary_user;
pub mod ostree;
pub mod podman;
pub mod registry;
pub mod stores;
pub mod users;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

/// Root of the project.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether this test can run here: as root, with `tools` in `PATH`.
///
/// Says loudly what is lacking where not. With `CI` set, what is lacking is a
/// failure: there nothing may be skipped.
pub fn ready(tools: &[&str]) -> bool {
    let mut lacking: Vec<String> = tools
        .iter()
        .filter(|tool| !in_path(tool))
        .map(|tool| format!("the program {tool}"))
        .collect();
    if text(Command::new("id").arg("-u")).trim() != "0" {
        lacking.push("root".into());
    }
    if lacking.is_empty() {
        return true;
    }
    let lacking = lacking.join(", ");
    assert!(
        std::env::var_os("CI").is_none(),
        "this test needs {lacking}; `make test` sets a Debian machine up"
    );
    eprintln!("SKIPPED, NOT TESTED: this test needs {lacking}; `make test` sets a machine up");
    false
}

fn in_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(tool).is_file())
}

/// The directory of fixture images, made on first use by `scripts/fixtures`.
pub fn fixtures() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        text(&mut Command::new(project().join("scripts/fixtures")))
            .trim_end()
            .into()
    })
}

/// Runs a command to its end; its standard output, which must be UTF-8.
///
/// # Panics
/// With everything it printed, if it fails.
#[track_caller]
pub fn text(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{}", describe(command, &output));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command to its end, whatever it exits with.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// A command and what came of it, for a failure's message.
pub fn describe(command: &Command, output: &Output) -> String {
    format!(
        "{command:?}: {}\n--- stdout\n{}--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A scratch directory on a real filesystem. When dropped, all that is mounted
/// below it is unmounted and it is removed, also after a panic.
#[derive(Debug)]
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    pub fn new() -> Self {
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(parent).unwrap();
        let directory = tempfile::Builder::new()
            .prefix("t.")
            .tempdir_in(parent)
            .unwrap();
        Self(directory)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// A new directory in it.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for mount in mounts_below(self.path()).iter().rev() {
            let _ = Command::new("umount").arg("-l").arg(mount).status();
        }
    }
}

/// The mount points at and below `path`, in the order they were mounted.
pub fn mounts_below(path: &Path) -> Vec<PathBuf> {
    fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(point.replace("\\040", " ")))
        .filter(|point| point.starts_with(path))
        .collect()
}
