//! What a host needs so that its images can be shown.

use std::{
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use crate::{
    error::with_causes,
    storage_conf::{STORAGE_CONF, STORE_PATH, StorageConf},
    sys::{RootDir, folder_in_root, read_dir_names_in_root, read_in_root},
};

use super::{BOOTC_NEEDED, Finding, Rule, Severity};
use crate::bound::folders::UNIT_LIMIT_BYTES;

/// Where containers-storage of 2026 has drop-ins; older ones read none.
const DROP_INS: [&str; 4] = [
    "etc/containers/storage.conf.d",
    "etc/containers/storage.rootful.conf.d",
    "usr/share/containers/storage.conf.d",
    "usr/share/containers/storage.rootful.conf.d",
];
/// What brings and shows sets, below a prefix.
const PARTS: [&str; 2] = [
    "bin/boundstore",
    "lib/systemd/system-generators/boundstore-generator",
];
const PREFIXES: [&str; 2] = ["usr", "usr/local"];

pub(super) fn check(root: &RootDir, bootc: Option<(u64, u64)>, findings: &mut Vec<Finding>) {
    if !matches!(
        folder_in_root(root.as_fd(), Path::new(STORE_PATH)),
        Ok(Some(_))
    ) {
        let message = format!("there is no folder {STORE_PATH}");
        findings.push(Finding::new(Rule::MountPoint, message));
    }
    storage_conf(root, findings);
    for part in PARTS {
        let there =
            |prefix: &&str| matches!(root.open_file(Path::new(prefix).join(part)), Ok(Some(_)));
        if !PREFIXES.iter().any(there) {
            let message = format!("there is no /usr/{part}");
            findings.push(Finding::new(Rule::BoundstoreMissing, message));
        }
    }
    if let Some(found) = bootc.filter(|found| *found < BOOTC_NEEDED) {
        let (major, minor) = found;
        let message = format!(
            "bootc {major}.{minor} deletes what it does not know in the repository, sets too"
        );
        findings.push(Finding::new(Rule::BootcTooOld, message));
    }
}

/// Whether podman is told of the store, by a file that every podman reads.
fn storage_conf(root: &RootDir, findings: &mut Vec<Finding>) {
    let main = STORAGE_CONF.into_iter().map(PathBuf::from);
    let mut main = main.filter_map(|path| named(root, &path, findings).map(|named| (path, named)));
    let read = main.next();
    if matches!(read, Some((_, true))) {
        return;
    }
    let mut drop_in = None;
    for folder in DROP_INS {
        let names = read_dir_names_in_root(root.as_fd(), Path::new(folder));
        for name in names.ok().flatten().unwrap_or_default() {
            let path = Path::new(folder).join(name);
            let is_conf = path.extension().is_some_and(|end| end == "conf");
            if is_conf && named(root, &path, findings) == Some(true) {
                drop_in = Some(path);
            }
        }
    }
    let finding = match drop_in {
        Some(path) => Finding {
            severity: Severity::Note,
            ..Finding::new(
                Rule::StorageConf,
                "only a drop-in names the store, which a podman older than 5.8 does not read",
            )
            .in_file(&path)
        },
        None => {
            let message = format!("no additionalimagestores names {STORE_PATH}");
            let path = read.as_ref().map(|(path, _)| path.as_path());
            let finding = Finding {
                advice: containerfile_line(root, path),
                ..Finding::new(Rule::StorageConf, message)
            };
            match path.and_then(|path| path.strip_prefix("/").ok()) {
                Some(path) => finding.in_file(path),
                None => finding,
            }
        }
    };
    findings.push(finding);
}

/// What a Containerfile needs so that the storage.conf at `path`, or a new one,
/// names the store.
fn containerfile_line(root: &RootDir, path: Option<&Path>) -> String {
    const KEY: &str = "additionalimagestores";
    let Some(path) = path else {
        // podman 4 wants all of these.
        let text = format!(
            "[storage]\\ndriver = \"overlay\"\\nrunroot = \"/run/containers/storage\"\\n\
             graphroot = \"/var/lib/containers/storage\"\\n\
             [storage.options]\\n{KEY} = [\"{STORE_PATH}\"]\\n"
        );
        let file = STORAGE_CONF[1];
        return format!("RUN mkdir -p /usr/share/containers && printf '{text}' > {file}");
    };
    let text = read_in_root(root.as_fd(), path, UNIT_LIMIT_BYTES).unwrap_or_default();
    let has = |begin: &str| {
        text.split(|&byte| byte == b'\n')
            .any(|line| line.starts_with(begin.as_bytes()))
    };
    let expression = if has(&format!("{KEY} = [")) {
        format!("s|^{KEY} = \\[|&\"{STORE_PATH}\",|")
    } else if has("[storage.options]") {
        format!("s|^\\[storage.options]|&\\n{KEY} = [\"{STORE_PATH}\"]|")
    } else {
        format!("$a [storage.options]\\n{KEY} = [\"{STORE_PATH}\"]")
    };
    let file = path.display();
    format!("RUN sed -i '{expression}' {file} && grep -q '{STORE_PATH}' {file}")
}

/// Whether a storage.conf names the store; nothing where it is not there.
fn named(root: &RootDir, path: &Path, findings: &mut Vec<Finding>) -> Option<bool> {
    match StorageConf::read(root, path) {
        Ok(conf) => {
            let stores = conf?.storage.options.additionalimagestores;
            Some(stores.iter().any(|store| store == Path::new(STORE_PATH)))
        }
        Err(error) => {
            let path = path.strip_prefix("/").unwrap_or(path);
            findings.push(Finding {
                rule: Rule::StorageConf,
                ..Finding::unreadable(path, None, &with_causes(&error))
            });
            Some(false)
        }
    }
}
