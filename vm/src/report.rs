//! What a guest says: lines on its second serial port.
//!
//! ```text
//! START <kernel release>
//! C|<capability>|<what was found>
//! R|<check>|ok or FAILED|<JSON: CheckReport>
//! END, or REBOOT where the machine starts again from its disks
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Kernel;

/// What one check came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CheckReport {
    /// `data_only::intact`
    pub id: String,
    /// The row of the matrix.
    pub row: String,
    /// What the kernel, or boundstore on it, did.
    pub observed: String,
    /// What it should have done by what this kernel can.
    pub expected: String,
    /// Whether they agree.
    pub ok: bool,
    /// What the check said on stderr, where it failed.
    #[serde(default)]
    pub said: Vec<String>,
    /// What the kernel said meanwhile, of a check that failed.
    #[serde(default)]
    pub kernel: Vec<String>,
    /// How long it took.
    pub millis: u64,
}

/// What one boot came to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// What tests call the kernel.
    pub kernel: String,
    /// The package's version.
    pub version: String,
    /// `uname -r`, once started.
    pub release: Option<String>,
    /// What the probes found.
    pub capabilities: BTreeMap<String, String>,
    /// In the order they ran.
    pub checks: Vec<CheckReport>,
    /// Whether the guest came to its end.
    pub ended: bool,
    /// Whether it starts again.
    #[serde(skip)]
    pub(crate) reboots: bool,
    /// What became of the virtual machine, and its console's end, if it did not.
    pub died: Option<String>,
    /// From starting QEMU to its exit, of the last try.
    pub seconds: f64,
    /// Boots that died before `START`.
    pub retries: u32,
}

impl Report {
    /// The one of a kernel that has not been booted yet.
    pub(crate) fn of(kernel: &Kernel) -> Self {
        Self {
            kernel: kernel.source.name.to_owned(),
            version: kernel.version.clone(),
            ..Self::default()
        }
    }

    /// Takes the lines so far.
    pub(crate) fn read(&mut self, text: &str) {
        for line in text.lines() {
            let line = line.trim_end();
            if let Some(release) = line.strip_prefix("START ") {
                self.release = Some(release.to_owned());
            } else if let Some((name, found)) = line
                .strip_prefix("C|")
                .and_then(|rest| rest.split_once('|'))
            {
                self.capabilities.insert(name.to_owned(), found.to_owned());
            } else if let Some(rest) = line.strip_prefix("R|") {
                let json = rest.splitn(3, '|').nth(2).unwrap_or_default();
                self.checks
                    .extend(serde_json::from_str::<CheckReport>(json));
            } else if line == "END" {
                self.ended = true;
            } else if line == "REBOOT" {
                self.reboots = true;
            }
        }
    }

    /// Takes what another boot of the same kernel came to.
    pub(crate) fn add(&mut self, other: Self) {
        self.release = other.release.or(self.release.take());
        // What a later boot has switched on counts.
        self.capabilities.extend(other.capabilities);
        self.checks.extend(other.checks);
        self.ended = other.ended;
        self.died = self.died.take().or(other.died);
        self.seconds += other.seconds;
        self.retries += other.retries;
    }

    /// What a check came to, if the guest got so far.
    pub fn check(&self, id: &str) -> Option<&CheckReport> {
        self.checks.iter().find(|check| check.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let mut report = Report::default();
        report.read(concat!(
            "noise\r\nSTART 6.12.1\r\nC|verity|yes\r\n",
            "R|a::b|ok|{\"id\":\"a::b\",\"row\":\"r|s\",\"observed\":\"o\",",
            "\"expected\":\"o\",\"ok\":true,\"millis\":3}\r\nR|torn|{\r\n",
        ));
        assert_eq!(report.release.as_deref(), Some("6.12.1"));
        assert_eq!(report.capabilities["verity"], "yes");
        assert_eq!(report.checks.len(), 1);
        assert_eq!(
            report.check("a::b").map(|check| check.row.as_str()),
            Some("r|s")
        );
        assert!(!report.ended);
        report.read("END\r\n");
        assert!(report.ended);
    }
}
