//! What systemd is told at boot: which of our units run on this host.

use crate::config::OnFailure;

/// Which units belong to a boot, as folders and links of systemd's generator
/// directory: `local-fs.target.wants/boundstore-mount.service`.
///
/// A generator runs before anything is mounted, in a read-only sandbox: so
/// this is told from the kernel's command line and the source of the mount at
/// `/` alone (systemd.generator(7)). A host without deployments of its own has
/// none of the units.
pub fn boot_units(
    command_line: &str,
    root_source: Option<&str>,
    on_failure: OnFailure,
) -> Vec<String> {
    let ostree = command_line
        .split_ascii_whitespace()
        .any(|word| word.starts_with("ostree="));
    // Not the word `composefs=`: a soft reboot leaves the command line behind.
    let native = root_source.is_some_and(|source| {
        source.starts_with("composefs:") || source.starts_with("transient:composefs=")
    });
    if !ostree && !native {
        return Vec::new();
    }
    let mount = match on_failure {
        OnFailure::EmptyStore => "wants",
        OnFailure::FailBoot => "requires",
    };
    vec![
        format!("local-fs.target.{mount}/boundstore-mount.service"),
        "basic.target.wants/boundstore-veto.service".to_owned(),
        "paths.target.wants/boundstore-guard.path".to_owned(),
        "multi-user.target.wants/boundstore-guard.service".to_owned(),
        "timers.target.wants/boundstore-gc.timer".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount_unit(command_line: &str, root_source: Option<&str>) -> Option<String> {
        let units = boot_units(command_line, root_source, OnFailure::EmptyStore);
        units.into_iter().next()
    }

    #[test]
    fn only_hosts_with_deployments_have_the_units() {
        let wanted = Some("local-fs.target.wants/boundstore-mount.service".to_owned());
        let ostree = "root=UUID=1 rw ostree=/ostree/boot.1/os/aa/0\n";
        for (command_line, source, found) in [
            (ostree, Some("/dev/vda3"), &wanted),
            (ostree, Some("composefs"), &wanted),
            (ostree, None, &wanted),
            ("composefs=aa rw", Some("composefs:aa"), &wanted),
            // After a soft reboot.
            ("quiet", Some("transient:composefs=?aa"), &wanted),
            ("quiet", Some("/dev/vda3"), &None),
            ("rd.ostree=/x noostree=1", Some("overlay"), &None),
            ("", None, &None),
        ] {
            assert_eq!(
                &mount_unit(command_line, source),
                found,
                "{command_line} {source:?}"
            );
        }
    }

    #[test]
    fn a_failure_can_stop_the_boot() {
        let units = boot_units("ostree=/x", None, OnFailure::FailBoot);
        assert_eq!(
            units[0],
            "local-fs.target.requires/boundstore-mount.service"
        );
    }
}
