//! All checks, by section.

mod data_only;
mod filesystem;
mod mount;
mod stack_depth;
mod verify;

use crate::{check::Check, probes};

/// Each section's name is part of its tests' names, and a table of the matrix.
const SECTIONS: &[(&str, &[Check])] = &[
    ("data_only", data_only::CHECKS),
    ("stack_depth", stack_depth::CHECKS),
    ("mount", mount::CHECKS),
    ("verify", verify::CHECKS),
    ("filesystem", filesystem::CHECKS),
];

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
