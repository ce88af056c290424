//! What `verify` asks the host's bootc, where it has one. Nothing is decided by
//! it: all else is told from the host's files.

use std::{process::Command, time::Duration};

use super::Global;
use crate::{
    bound::lint::BOOTC_NEEDED,
    deployment::host::{Backend, BootcStatus},
    sys::output_within,
};

const PROGRAM: &str = "/usr/bin/bootc";
/// It reads the boot menu and starts nothing.
const LIMIT: Duration = Duration::from_secs(30);

/// Warns where bootc says something else of the deployments than the host's
/// files, or would delete the sets.
pub(super) fn compare(global: &Global) {
    let Ok(Some(host)) = global.host() else {
        return;
    };
    let output = global.output();
    if !global.at_host(PROGRAM).exists() {
        return;
    }
    if host.backend() == Backend::Composefs
        && let Some((major, minor)) = version(global).filter(|found| *found < BOOTC_NEEDED)
    {
        output.warn(&format!(
            "bootc {major}.{minor} deletes what it does not know in the repository, sets too: \
             upgrade it to 1.16.0 or newer"
        ));
    }
    let Some(status) = ask(global, &["status", "--json", "--format-version=1"]) else {
        return output.warn("bootc does not tell its status: nothing was compared with it");
    };
    let (status, known) = match (BootcStatus::parse(&status), host.deployments()) {
        (Ok(status), Ok(known)) => (status, known),
        (Err(error), _) => return output.warn(&error.to_string()),
        (_, Err(error)) => return output.warn(&error.to_string()),
    };
    for difference in status.differences(&known) {
        output.warn(&difference);
    }
}

/// The version of the host's bootc, where it has one that tells it.
pub(super) fn version(global: &Global) -> Option<(u64, u64)> {
    let told = ask(global, &["--version"])?;
    parse_version(String::from_utf8_lossy(&told).trim())
}

/// Its output, where it ends well and in time.
fn ask(global: &Global, args: &[&str]) -> Option<Vec<u8>> {
    let mut command = Command::new(global.at_host(PROGRAM));
    let output = output_within(command.args(args), LIMIT).ok()??;
    output.status.success().then_some(output.stdout)
}

/// `bootc 1.16.9`
fn parse_version(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.strip_prefix("bootc ")?.split('.');
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(parse_version("bootc 1.9.0"), Some((1, 9)));
        assert!(parse_version("bootc 1.9.0") < parse_version("bootc 1.16.0"));
        for none in ["", "bootc", "bootc x.y", "1.2.3"] {
            assert_eq!(parse_version(none), None, "{none}");
        }
    }
}
