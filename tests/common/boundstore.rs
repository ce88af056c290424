//! The built binary, called as users call it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

use super::{Scratch, describe, output};

/// `boundstore` on a repository of its own.
#[derive(Debug)]
pub struct Boundstore {
    sysroot: PathBuf,
    repo: PathBuf,
    spool: PathBuf,
    policy: PathBuf,
}

impl Boundstore {
    /// One whose repository, not there yet, is `scratch`/`name`. It accepts
    /// images of any source, whatever this machine's policy is.
    pub fn new(scratch: &Scratch, name: &str) -> Self {
        let home = scratch.dir(&format!("{name}-host"));
        let policy = home.join("policy.json");
        let accept = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
        fs::write(&policy, accept).unwrap();
        Self {
            sysroot: home.clone(),
            repo: scratch.join(name),
            spool: home.join("spool"),
            policy,
        }
    }

    /// The repository.
    pub fn repo(&self) -> &Path {
        &self.repo
    }

    /// A call, its arguments split at blanks.
    pub fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_boundstore"));
        command
            .arg("--sysroot")
            .arg(&self.sysroot)
            .arg("--repo")
            .arg(&self.repo)
            .arg("--allow-missing-verity")
            .args(args.split_whitespace());
        command
    }

    /// A call that must succeed; its standard output.
    #[track_caller]
    pub fn ok(&self, args: &str) -> String {
        self.exits(0, args).0
    }

    /// A call that must exit with `code`; its standard output and error.
    #[track_caller]
    pub fn exits(&self, code: i32, args: &str) -> (String, String) {
        let mut command = self.command(args);
        let output: Output = output(&mut command);
        let found = output.status.code();
        assert_eq!(found, Some(code), "{}", describe(&command, &output));
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    }

    /// The JSON document of a call that must succeed.
    #[track_caller]
    pub fn json(&self, args: &str) -> Value {
        let text = self.ok(&format!("--json {args}"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args}: {error}: {text}"))
    }

    /// The arguments of a sync of `images`, `NAME=SOURCE`, as those of
    /// `deployment`.
    pub fn sync_args(&self, deployment: &str, images: &[String]) -> String {
        let (policy, spool) = (self.policy.display(), self.spool.display());
        let images: String = images.iter().map(|i| format!(" --image {i}")).collect();
        format!("sync --deployment {deployment} --policy {policy} --spool {spool}{images}")
    }

    /// Syncs `images`, `NAME=SOURCE`, as those of `deployment`; what it tells.
    #[track_caller]
    pub fn sync(&self, deployment: &str, images: &[String]) -> Value {
        self.json(&self.sync_args(deployment, images))
    }

    /// Mounts a deployment's set at `target`.
    #[track_caller]
    pub fn mount(&self, deployment: &str, target: &Path) {
        fs::create_dir_all(target).unwrap();
        self.ok(&format!(
            "mount --deployment {deployment} {}",
            target.display()
        ));
    }

    /// Unmounts what is mounted at `target`.
    #[track_caller]
    pub fn umount(&self, target: &Path) {
        self.ok(&format!("umount {}", target.display()));
    }
}
