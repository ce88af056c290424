//! What bootc itself says of the host's deployments: only ever compared with
//! what the files say, never acted on.

use serde::Deserialize;

use super::Deployment;
use crate::repo::DeploymentId;

/// `bootc status --json --format-version=1`, as far as it names deployments
/// (bootc's `spec.rs`).
#[derive(Debug)]
pub struct BootcStatus(HostStatus);

/// Output that is no such document.
#[derive(Debug, thiserror::Error)]
#[error("bootc's status cannot be understood")]
pub struct NotBootcStatus(#[from] serde_json::Error);

#[derive(Debug, Deserialize)]
struct Document {
    status: HostStatus,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HostStatus {
    staged: Option<BootEntry>,
    booted: Option<BootEntry>,
    rollback: Option<BootEntry>,
    #[serde(default)]
    other_deployments: Vec<BootEntry>,
}

#[derive(Debug, Deserialize)]
struct BootEntry {
    ostree: Option<BootEntryOstree>,
    composefs: Option<BootEntryComposefs>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BootEntryOstree {
    stateroot: String,
    checksum: String,
    deploy_serial: u32,
}

#[derive(Debug, Deserialize)]
struct BootEntryComposefs {
    verity: String,
}

impl BootEntry {
    /// The id that we give it; of another backend it has none.
    fn id(&self) -> Option<DeploymentId> {
        let id = match (&self.ostree, &self.composefs) {
            (Some(ostree), _) => format!(
                "{}-{}.{}",
                ostree.stateroot, ostree.checksum, ostree.deploy_serial
            ),
            (None, Some(composefs)) => composefs.verity.clone(),
            (None, None) => return None,
        };
        id.parse().ok()
    }
}

impl BootcStatus {
    /// Reads bootc's document.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(json: &[u8]) -> Result<Self, NotBootcStatus> {
        let document: Document = serde_json::from_slice(json)?;
        Ok(Self(document.status))
    }

    /// Where bootc says something else than `deployments`, which the files
    /// told: a sentence for each.
    ///
    /// A deployment more in the files is none: bootc lists no state without a
    /// boot entry.
    pub fn differences(&self, deployments: &[Deployment]) -> Vec<String> {
        let Self(status) = self;
        let mut found = Vec::new();
        type Role = fn(&Deployment) -> bool;
        let roles: [(&str, &Option<BootEntry>, Role); 3] = [
            ("staged", &status.staged, |one| one.staged),
            ("booted", &status.booted, |one| one.booted),
            ("rollback", &status.rollback, |one| one.rollback),
        ];
        for (role, entry, holds) in roles {
            let bootc = entry.as_ref().and_then(BootEntry::id);
            let ours = deployments.iter().find(|one| holds(one));
            let ours = ours.map(|one| one.id.clone());
            if bootc != ours {
                let name =
                    |id: Option<DeploymentId>| id.map_or("none".to_owned(), |id| id.to_string());
                found.push(format!(
                    "bootc says that {} is {role}, the host's files that {} is",
                    name(bootc),
                    name(ours)
                ));
            }
        }
        for id in status.other_deployments.iter().filter_map(BootEntry::id) {
            if !deployments.iter().any(|one| one.id == id) {
                found.push(format!(
                    "bootc says that there is {id}, the host's files do not"
                ));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(id: &str, role: &str) -> Deployment {
        Deployment {
            id: id.parse().unwrap(),
            booted: role == "booted",
            staged: role == "staged",
            rollback: role == "rollback",
            pinned: false,
            soft_reboot_target: false,
            finalization_locked: false,
        }
    }

    #[test]
    fn differences_are_told() {
        let ostree = r#"{"apiVersion": "org.containers.bootc/v1", "kind": "BootcHost",
            "spec": {"image": null}, "status": {
            "staged": {"image": null, "pinned": false, "ostree":
                {"checksum": "aa", "deploySerial": 1, "stateroot": "default"}},
            "booted": {"ostree": {"checksum": "bb", "deploySerial": 0, "stateroot": "default"}},
            "rollback": null, "rollbackQueued": false, "type": "bootcHost"}}"#;
        let told = BootcStatus::parse(ostree.as_bytes()).unwrap();
        let staged = deployment("default-aa.1", "staged");
        let booted = deployment("default-bb.0", "booted");
        let older = deployment("default-cc.0", "");
        let same = [staged.clone(), booted.clone(), older.clone()];
        assert_eq!(told.differences(&same), Vec::<String>::new());
        let found = told.differences(&[staged, deployment("default-bb.1", "booted")]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("default-bb.0"), "{found:?}");
        assert!(found[0].contains("default-bb.1"), "{found:?}");
        let found = told.differences(&[booted, deployment("default-cc.0", "rollback")]);
        assert_eq!(found.len(), 2, "{found:?}");

        let digest = "ab".repeat(64);
        let composefs = format!(
            r#"{{"status": {{"booted": {{"composefs": {{"verity": "{digest}", "bootType": "Bls",
            "bootloader": "grub", "bootDigest": null}}}},
            "otherDeployments": [{{"composefs": {{"verity": "{}"}}}}]}}}}"#,
            "cd".repeat(64)
        );
        let told = BootcStatus::parse(composefs.as_bytes()).unwrap();
        let found = told.differences(&[deployment(&digest, "booted")]);
        assert_eq!(found.len(), 1, "{found:?}");
        for none in ["", "{}", "[]", r#"{"status": 1}"#] {
            assert!(BootcStatus::parse(none.as_bytes()).is_err(), "{none}");
        }
    }
}
