//! The boot menu of a host of bootc's composefs backend.

use std::cmp::Ordering;

use super::{
    HostError,
    boot_entry::{BootEntry, argument, compare_versions},
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

/// systemd-boot's order (`boot_entry_compare`), but for the tries that are left,
/// which bootc's entries do not count, and for signs in versions: what has no sort
/// key comes last, by its file's name alone.
fn by_sort_key(a: &BootEntry, b: &BootEntry) -> Ordering {
    let (a_key, b_key) = (a.sort_key.as_ref(), b.sort_key.as_ref());
    let keyed = match (a_key, b_key) {
        (Some(a_key), Some(b_key)) => a_key
            .cmp(b_key)
            .then_with(|| a.machine_id.cmp(&b.machine_id))
            .then_with(|| a.by_version(b)),
        _ => b_key.is_some().cmp(&a_key.is_some()),
    };
    keyed.then_with(|| compare_versions(&b.file, &a.file))
}

/// The variable has four bytes of attributes, then UTF-16.
fn is_systemd_boot(root: &Folder) -> Result<bool, HostError> {
    let info = root.read(LOADER_INFO, MAX_BYTES)?.unwrap_or_default();
    let text: Vec<u8> = info.iter().skip(4).step_by(2).copied().collect();
    let text = String::from_utf8_lossy(&text).to_lowercase();
    Ok(text.contains("systemd-boot"))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    fn entry(file: &str, text: &str) -> BootEntry {
        BootEntry::parse(file, text)
    }

    #[test]
    fn keys_come_first_and_then_the_newest() {
        let menu = [
            entry("z.conf", "sort-key a\nversion 1"),
            entry("x.conf", "sort-key b\nmachine-id 1\nversion 10"),
            entry("y.conf", "sort-key b\nmachine-id 1\nversion 9"),
            entry("a.conf", "sort-key b\nmachine-id 2\nversion 11"),
            entry("b-10.conf", "version 1\nmachine-id 9"),
            entry("b-9.conf", "version 2"),
        ];
        for (place, one) in menu.iter().enumerate() {
            for (other_place, other) in menu.iter().enumerate() {
                let order = by_sort_key(one, other);
                assert_eq!(order, place.cmp(&other_place), "{one:?} {other:?}");
            }
        }
    }

    fn any_entry() -> impl Strategy<Value = BootEntry> {
        let text = || option::of("[ab]{0,2}[019]{0,3}");
        let all = ("[ab]?[019]{0,2}", text(), text(), text());
        all.prop_map(|(file, sort_key, machine_id, version)| BootEntry {
            file,
            sort_key,
            machine_id,
            version,
            ..BootEntry::default()
        })
    }

    proptest! {
        /// Sorting may panic where it is not.
        #[test]
        fn it_is_an_order(menu in vec(any_entry(), 3)) {
            for order in [by_sort_key, BootEntry::by_version] {
                let [a, b, c] = &menu[..] else { unreachable!() };
                prop_assert_eq!(order(a, b), order(b, a).reverse());
                if order(a, b).is_le() && order(b, c).is_le() {
                    prop_assert!(order(a, c).is_le());
                }
                if order(a, b).is_eq() {
                    prop_assert_eq!(order(a, c), order(b, c));
                }
            }
        }
    }
}
