//! A user without any privilege, who cannot look below root's directories: all
//! that they need is brought into a folder of theirs.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
};

use super::text;

const UID: u32 = 54_321;

/// The user's folder, with the built binary in it.
#[derive(Debug)]
pub struct OrdinaryUser(tempfile::TempDir);

impl OrdinaryUser {
    pub fn new() -> Self {
        let user = Self(tempfile::Builder::new().tempdir_in("/var/tmp").unwrap());
        chown(user.path(), Some(UID), Some(UID)).unwrap();
        user.bring(Path::new(env!("CARGO_BIN_EXE_boundstore")), "boundstore");
        user
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Copies a file or folder to `name`, for everybody to read.
    pub fn bring(&self, from: &Path, name: &str) {
        let to = self.join(name);
        text(Command::new("cp").arg("-r").args([from, &to]));
        text(Command::new("chmod").args(["-R", "a+rX"]).arg(&to));
    }

    /// A policy that accepts everything, at `name`.
    pub fn accept(&self, name: &str) {
        let accept = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
        fs::write(self.join(name), accept).unwrap();
    }

    /// A call of theirs, in their folder, its arguments split at blanks.
    pub fn command(&self, args: &str) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args([format!("--reuid={UID}"), format!("--regid={UID}")])
            .arg("--clear-groups")
            .arg(self.join("boundstore"))
            .args(args.split_whitespace())
            .current_dir(self.path());
        for key in ["HOME", "TMPDIR", "XDG_RUNTIME_DIR"] {
            command.env(key, self.path());
        }
        command
    }
}
