//! A repository of its own, the built binary on it, and composefs's own gc and
//! fsck as judges of what was left behind.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use composefs::{fsverity::Sha512HashValue, repository::Repository};
use serde_json::Value;
use tempfile::TempDir;

pub struct Host {
    pub dir: TempDir,
}

impl Host {
    pub fn new() -> Self {
        let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_boundstore"));
        command
            .args(["--json", "--allow-missing-verity", "--repo"])
            .arg(self.path("repo"))
            .args(args);
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> Value {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {stderr}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A call that must exit with `status` and say all of `words`.
    #[track_caller]
    pub fn fails(&self, args: &[&str], status: i32, words: &[&str]) {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        for word in words {
            assert!(stderr.contains(word), "{word:?} is not in: {stderr}");
        }
    }

    pub fn crate_repo(&self) -> Repository<Sha512HashValue> {
        let root = fs::File::open("/").unwrap();
        Repository::open_path(root, self.path("repo")).unwrap()
    }

    /// The crate's garbage collection, and its check afterwards.
    #[track_caller]
    pub fn gc(&self) -> u64 {
        let collected = self.crate_repo().gc(&[]).unwrap();
        self.fsck();
        collected.objects_removed
    }

    #[track_caller]
    pub fn fsck(&self) {
        let repo = self.crate_repo();
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        let result = runtime.block_on(repo.fsck()).unwrap();
        assert!(result.is_ok(), "{result}");
    }

    pub fn objects(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let Ok(folders) = fs::read_dir(self.path("repo/objects")) else {
            return found;
        };
        for folder in folders {
            for object in fs::read_dir(folder.unwrap().path()).unwrap() {
                found.insert(object.unwrap().path());
            }
        }
        found
    }

    /// What partial refs keep: layers and images that no set has yet.
    pub fn partial(&self) -> Vec<PathBuf> {
        let folder = self.path("repo/streams/refs/boundstore/partial");
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}
