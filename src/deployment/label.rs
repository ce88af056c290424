//! The SELinux label of a shown store.

use std::{path::Path, process::Command, time::Duration};

use crate::sys;

/// Where podman's own store keeps what containers run from: what is shown
/// here must be labelled like it.
const OVERLAY: &str = "/var/lib/containers/storage/overlay";
/// What container-selinux gives it.
const FALLBACK: &str = "system_u:object_r:container_ro_file_t:s0";
/// How long the tool may take; it reads some files.
const LIMIT: Duration = Duration::from_secs(10);

/// The label for the `context=` mount option: that of podman's own store by
/// the host's policy, or where no tool can tell, container-selinux's. `None`
/// where SELinux is off.
///
/// The label is no input of a set image, so that one image serves any policy.
pub fn store_label() -> Option<String> {
    if !Path::new("/sys/fs/selinux/enforce").exists() {
        return None;
    }
    let tools = ["/usr/sbin/matchpathcon", "/usr/bin/matchpathcon"];
    let label = tools.iter().find_map(|tool| by_policy(tool, LIMIT));
    Some(label.unwrap_or_else(|| FALLBACK.to_owned()))
}

/// What the tool says; nothing where it fails or takes longer than `limit`.
fn by_policy(tool: &str, limit: Duration) -> Option<String> {
    let mut command = Command::new(tool);
    let output = sys::output_within(command.args(["-n", OVERLAY]), limit);
    parse(&output.ok()??.stdout)
}

/// A label has a user, a role, a type, and with MLS levels; `<<none>>` is none.
fn parse(output: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(output).ok()?.trim();
    let parts: Vec<&str> = text.split(':').collect();
    let plain = |part: &&str| !part.is_empty() && !part.contains([' ', '\n', '<']);
    (parts.len() >= 3 && parts.iter().all(plain)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_labels_are_taken() {
        for (output, label) in [
            (
                "system_u:object_r:container_ro_file_t:s0\n",
                Some("system_u:object_r:container_ro_file_t:s0"),
            ),
            ("u:object_r:t", Some("u:object_r:t")),
            ("u:r:t:s0:c1,c2\n", Some("u:r:t:s0:c1,c2")),
            ("<<none>>\n", None),
            ("a:b", None),
            ("u:r::s0", None),
            ("matchpathcon: no file contexts: at all", None),
            ("", None),
        ] {
            assert_eq!(parse(output.as_bytes()).as_deref(), label, "{output:?}");
        }
    }
}
