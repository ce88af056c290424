//! The boot menu of a host of bootc's composefs backend.

use std::cmp::Ordering;

use super::{
    HostError,
    boot_entry::{BootEntry, argument},
    folder::Folder,
    native::deployment_id,
};
use crate::repo::DeploymentId;

/// Where the boot partition may be: bootc's is `SYSROOT/boot` with GRUB, and
/// the EFI system partition with others.
const BOOT: [&str; 3] = ["boot", "efi", "boot/efi"];
/// What boot loader runs, as EFI tells (Boot Loader Interface).
const LOADER_INFO: &str =
    "sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
const ENTRIES: &str = "loader/entries";
const GRUB: &str = "grub2/user.cfg";
const MAX_BYTES: u64 = 1 << 20;

/// One line of the menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BootItem {
    pub(super) id: DeploymentId,
    /// Whether its kernel arguments are known: those of a unified kernel image
    /// are inside it.
    pub(super) has_arguments: bool,
    /// `composefs=?<id>`
    pub(super) allow_missing_verity: bool,
}

/// The deployments in the menu, what boots by default first; those that
/// another system put there are left out. Staged entries are in no menu yet.
pub(super) fn boot_menu(root: &Folder, sysroot: &Folder) -> Result<Vec<BootItem>, HostError> {
    let places = BOOT.iter().map(|place| (root, *place));
    for (folder, place) in places.chain([(sysroot, "boot")]) {
        let grub = format!("{place}/{GRUB}");
        if let Some(text) = folder.text(&grub, MAX_BYTES)? {
            return Ok(grub_menu(&text));
        }
        let entries = format!("{place}/{ENTRIES}");
        let mut found = Vec::new();
        for file in folder.names(&entries)? {
            let path = format!("{entries}/{file}");
            if !file.ends_with(".conf") {
                continue;
            }
            if let Some(text) = folder.text(&path, MAX_BYTES)? {
                found.push(BootEntry::parse(&file, &text));
            }
        }
        if found.is_empty() {
            continue;
        }
        if is_systemd_boot(root)? {
            found.sort_by(by_sort_key);
        } else {
            found.sort_by(|a, b| b.file.cmp(&a.file));
        }
        return Ok(found.iter().filter_map(item).collect());
    }
    Ok(Vec::new())
}

fn item(entry: &BootEntry) -> Option<BootItem> {
    match (&entry.image, argument(&entry.options, "composefs")) {
        (Some(path), _) => of_unified_image(path),
        (None, Some(value)) => Some(BootItem {
            id: deployment_id(value.strip_prefix('?').unwrap_or(value))?,
            has_arguments: true,
            allow_missing_verity: value.starts_with('?'),
        }),
        (None, None) => None,
    }
}

/// `/EFI/Linux/bootc/bootc_composefs-<id>.efi`; bootc before 1.13 had no prefix.
fn of_unified_image(path: &str) -> Option<BootItem> {
    let name = path.rsplit(['/', '\\']).next()?.strip_suffix(".efi")?;
    Some(BootItem {
        id: deployment_id(name.strip_prefix("bootc_composefs-").unwrap_or(name))?,
        has_arguments: false,
        allow_missing_verity: false,
    })
}

/// GRUB's menu entries that chain-load a unified kernel image.
fn grub_menu(text: &str) -> Vec<BootItem> {
    let chained = text.lines().filter_map(|line| {
        let (command, path) = line.trim().split_once(' ')?;
        (command == "chainloader").then(|| path.trim().trim_matches('"'))
    });
    chained.filter_map(of_unified_image).collect()
}

/// systemd-boot's order, as far as bootc's entries need it.
fn by_sort_key(a: &BootEntry, b: &BootEntry) -> Ordering {
    let both = |a: &Option<String>, b: &Option<String>| match (a, b) {
        (Some(a), Some(b)) => a.cmp(b),
        _ => Ordering::Equal,
    };
    both(&a.sort_key, &b.sort_key)
        .then_with(|| both(&a.machine_id, &b.machine_id))
        .then_with(|| a.by_version(b))
}

/// The variable has four bytes of attributes, then UTF-16.
fn is_systemd_boot(root: &Folder) -> Result<bool, HostError> {
    let info = root.read(LOADER_INFO, MAX_BYTES)?.unwrap_or_default();
    let text: Vec<u8> = info.iter().skip(4).step_by(2).copied().collect();
    let text = String::from_utf8_lossy(&text).to_lowercase();
    Ok(text.contains("systemd-boot"))
}
