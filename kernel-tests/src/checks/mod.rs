//! All checks, by section.

mod data_only;
mod escapes;
mod filesystem;
mod hostile;
mod idmap;
mod life;
mod mount;
mod rootless;
mod selinux;
mod stack_depth;
mod verify;
mod whiteouts;

use crate::{check::Check, probes};

/// Each section's name is part of its tests' names, and a table of the matrix.
const SECTIONS: &[(&str, &[Check])] = &[
    ("data_only", data_only::CHECKS),
    ("whiteouts", whiteouts::CHECKS),
    ("escapes", escapes::CHECKS),
    ("hostile", hostile::CHECKS),
    ("stack_depth", stack_depth::CHECKS),
    ("mount", mount::CHECKS),
    ("verify", verify::CHECKS),
    ("filesystem", filesystem::CHECKS),
    ("idmap", idmap::CHECKS),
    ("rootless", rootless::CHECKS),
    ("life", life::CHECKS),
    ("selinux", selinux::CHECKS),
];

/// What the kernel must be told at boot for a check.
pub fn kernel_options(id: &str) -> &'static str {
    // The section, and what is probed for it.
    if id.starts_with("selinux::") || id.starts_with("capability::selinux") {
        "security=selinux enforcing=1"
    } else {
        ""
    }
}

/// Every check with its id, `<section>::<name>`.
pub fn all() -> impl Iterator<Item = (String, &'static Check)> {
    let checks = SECTIONS.iter();
    let checks = checks.flat_map(|(section, checks)| checks.iter().map(move |c| (*section, c)));
    let probes = probes::PROBES
        .iter()
        .map(|(_, check)| (probes::SECTION, check));
    probes
        .chain(checks)
        .map(|(section, check)| (format!("{section}::{}", check.name), check))
}

/// The check with this id.
pub fn find(id: &str) -> Option<&'static Check> {
    all().find(|(other, _)| other == id).map(|(_, check)| check)
}
