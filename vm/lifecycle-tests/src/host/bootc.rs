//! Deployments that bootc makes: see [`crate::composefs`]. The host images `v1`,
//! `v2` and so on are in the repository already, as if they had been pulled.

use std::{fs, process::Command};

use super::{Owner, Staged};
use crate::{common::text, composefs};

#[derive(Debug)]
pub struct Bootc;

impl Owner for Bootc {
    fn release(&self, version: u32) {
        fs::write(composefs::NEWEST, version.to_string()).unwrap();
    }

    fn upgrade(&self) -> &'static str {
        "bootc upgrade"
    }

    fn roll_back(&self, version: u32) {
        bootc(&format!("rollback {version}"));
    }

    fn undeploy(&self, version: u32) {
        bootc(&format!("delete {version}"));
    }

    fn collect(&self) {
        bootc("gc");
    }

    fn objects_of(&self, version: u32) -> Vec<String> {
        composefs::owned(version).unwrap()
    }

    fn soft_reboot(&self, version: u32) {
        bootc(&format!("soft-reboot {version}"));
    }

    fn staged(&self) -> Option<Staged> {
        composefs::staged()
    }
}

fn bootc(args: &str) {
    text(Command::new("bootc").args(args.split(' ')));
}
