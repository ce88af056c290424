//! Deployments that ostree makes: the commits `v1`, `v2` and so on are in the
//! repository already, as if they had been pulled.

use std::{path::Path, process::Command};

use serde_json::Value;

use super::{Owner, Staged};
use crate::common::text;

/// `ostree refs`, other than `ostree admin`, leaves a read-only sysroot so.
const WRITABLE: &str = "unshare --mount sh -ec 'mount -o remount,bind,rw /sysroot;";

/// Holds a staged deployment back, beside what `lock-finalization` writes.
const LOCKED: &str = "/run/ostree/staged-deployment-locked";

#[derive(Debug)]
pub struct Ostree;

impl Owner for Ostree {
    /// As a pull does.
    fn release(&self, version: u32) {
        let refs = format!("refs --force --create=host v{version}");
        text(Command::new("sh").args(["-c", &format!("{WRITABLE} ostree {refs}'")]));
    }

    fn upgrade(&self) -> &'static str {
        "ostree admin upgrade --stage"
    }

    fn roll_back(&self, version: u32) {
        admin(&format!("set-default {}", index(version)));
    }

    fn undeploy(&self, version: u32) {
        admin(&format!("undeploy {}", index(version)));
    }

    fn collect(&self) {}

    fn objects_of(&self, _: u32) -> Vec<String> {
        Vec::new()
    }

    fn soft_reboot(&self, _: u32) {
        panic!("ostree's hosts really reboot here");
    }

    fn staged(&self) -> Option<Staged> {
        let deployments = deployments();
        let staged = deployments.iter().find(|it| it["staged"] == true)?;
        // ostree's own status tells of the first way only.
        let locked = staged["finalization-locked"] == true || Path::new(LOCKED).exists();
        Some(Staged { locked })
    }
}

fn index(version: u32) -> String {
    let commit = text(Command::new("ostree").args(["rev-parse", &format!("v{version}")]));
    let deployments = deployments();
    let found = deployments
        .iter()
        .find(|it| it["checksum"] == commit.trim());
    let found = found.unwrap_or_else(|| panic!("v{version} is not among {deployments:#?}"));
    found["index"].to_string()
}

fn deployments() -> Vec<Value> {
    let json: Value = serde_json::from_str(&admin("status --json")).unwrap();
    json["deployments"].as_array().unwrap().clone()
}

fn admin(args: &str) -> String {
    text(Command::new("ostree").arg("admin").args(args.split(' ')))
}
