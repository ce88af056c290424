//! What is wrong with a host image before any host has it.
//!
//! Everything is told with its file and line, the rule it breaks, and what to do.
//! Files of the root are foreign: they are read as [`super::scan()`] reads
//! them, and nothing of the root is run.

mod host;
mod rule;
mod sarif;
mod users;

use std::{
    collections::{BTreeMap, HashSet},
    os::fd::AsFd,
    path::Path,
};

use serde::Serialize;

use crate::{name::ImageName, sys::RootDir};

use super::{
    image::{BoundImage, Origin, merge},
    lock::{LOCK_PATH, Lock},
    problem::{Problem, Warning, one_line, shown},
    quadlet::UnitFault,
    scan::{BOUND_IMAGE_DIRS, Reader},
};

pub use rule::{NoSuchRule, Rule, Severity};
pub use sarif::sarif;

/// The oldest bootc that leaves in the repository what it does not know.
pub const BOOTC_NEEDED: (u64, u64) = (1, 16);

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule it breaks.
    pub rule: Rule,
    /// How bad that is.
    pub severity: Severity,
    /// The file below the root; nothing where one is missing.
    pub file: Option<String>,
    /// The line in it, from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub advice: String,
}

impl Finding {
    fn new(rule: Rule, message: impl AsRef<str>) -> Self {
        Self {
            rule,
            severity: rule.severity(),
            file: None,
            line: None,
            message: shown(message.as_ref()),
            advice: rule.advice().to_owned(),
        }
    }

    /// A file that cannot be read or understood, and why.
    pub fn unreadable(file: &Path, line: Option<usize>, message: &str) -> Self {
        Self {
            line,
            ..Self::new(Rule::Unreadable, message).in_file(file)
        }
    }

    fn in_file(self, file: &Path) -> Self {
        let file = Some(file.display().to_string());
        Self { file, ..self }
    }

    fn at(self, origin: &Origin) -> Self {
        match origin.place() {
            Some((file, line)) => Self {
                line: Some(line),
                ..self.in_file(&file)
            },
            None => self,
        }
    }
}

/// Checks what the root asks for, and whether a host of it can have it.
/// `bootc` is the version of its bootc where that is known.
///
/// The findings are sorted. A root that binds nothing has none.
pub fn lint(root: &RootDir, bootc: Option<(u64, u64)>) -> Vec<Finding> {
    let read = Reader::of_root(root.as_fd());
    if read.images.is_empty() && read.problems.is_empty() {
        return Vec::new();
    }
    let mut findings: Vec<_> = read.problems.iter().map(of_problem).collect();
    findings.extend(read.warnings.iter().map(of_warning));
    match Lock::read(root.as_fd()) {
        Ok(locked) => names(&read.images, locked.as_ref(), &mut findings),
        Err(error) => {
            let finding = Finding::new(Rule::StaleLock, one_line(&error));
            findings.push(finding.in_file(Path::new(LOCK_PATH)));
        }
    }
    let bound: HashSet<_> = read.images.into_iter().map(|image| image.name).collect();
    users::check(root, &bound, &mut findings);
    host::check(root, bootc, &mut findings);
    sort(&mut findings);
    findings
}

/// Brings findings into the order of files and lines, each once; those without a
/// file come last.
pub fn sort(findings: &mut Vec<Finding>) {
    findings.sort_by(|one, other| {
        let key = |finding: &Finding| (finding.file.is_none(), finding.file.clone(), finding.line);
        (key(one), one.rule).cmp(&(key(other), other.rule))
    });
    findings.dedup();
}

fn of_problem(problem: &Problem) -> Finding {
    let bootcs = |path: &Path, fault: Rule| {
        let is_bootcs = path.starts_with(BOUND_IMAGE_DIRS[0]);
        if is_bootcs { Rule::BootcForm } else { fault }
    };
    match problem {
        Problem::Directory(error) => Finding::unreadable(&error.path, None, &one_line(error)),
        Problem::Entry { path, source } => {
            Finding::new(bootcs(path, Rule::Unreadable), one_line(source)).in_file(path)
        }
        Problem::Read { path, .. } => {
            Finding::new(bootcs(path, Rule::Unreadable), one_line(problem)).in_file(path)
        }
        Problem::Unit { origin, source } => {
            // The others bootc would take, as something else than was meant.
            let refuses = matches!(
                source,
                UnitFault::Syntax(_)
                    | UnitFault::MissingImage { .. }
                    | UnitFault::AuthFile
                    | UnitFault::Specifier(_)
                    | UnitFault::UnterminatedPercent
            );
            let rule = match origin {
                Origin::Unit { path, .. } if refuses => bootcs(path, Rule::Unreadable),
                _ => Rule::Unreadable,
            };
            Finding::new(rule, one_line(source)).at(origin)
        }
        Problem::TwoUnits { second, .. } => {
            Finding::new(Rule::Conflict, one_line(problem)).at(second)
        }
        Problem::Conflict { second, .. } => {
            let finding = Finding::new(Rule::Conflict, one_line(problem));
            second.1.iter().fold(finding, Finding::at)
        }
        Problem::Argument(error) => Finding::new(Rule::Unreadable, one_line(error)),
    }
}

fn of_warning(warning: &Warning) -> Finding {
    let Warning::ShortName {
        origin,
        written,
        name,
    } = warning;
    let message = format!("{written:?} has no registry; it is taken for {name}");
    Finding::new(Rule::ShortName, message).at(origin)
}

/// What the names say, and the lock file of them.
fn names(images: &[BoundImage], locked: Option<&Lock>, findings: &mut Vec<Finding>) {
    if let Err(conflicts) = merge(images.iter().cloned()) {
        findings.extend(conflicts.problems().iter().map(of_problem));
    }
    let mut first = BTreeMap::<&ImageName, &Origin>::new();
    for image in images {
        let name = &image.name;
        let is_locked = locked.is_some_and(|locked| locked.image(name).is_some());
        for origin in &image.origins {
            if name.pinned().is_none() && !is_locked {
                let message = format!("{name} is a tag, which can mean another image tomorrow");
                findings.push(Finding::new(Rule::FloatingTag, message).at(origin));
            }
            if locked.is_some() && !is_locked && name.pinned().is_some() {
                let message = format!("{name} is not in {}", LOCK_PATH);
                findings.push(Finding::new(Rule::StaleLock, message).at(origin));
            }
        }
        let Some(origin) = image.origins.first() else {
            continue;
        };
        let before = *first.entry(name).or_insert(origin);
        if before.entry() != origin.entry() {
            let message = format!("{name} is bound by {before} too");
            findings.push(Finding::new(Rule::DuplicateName, message).at(origin));
        }
    }
    let unbound = locked
        .into_iter()
        .flat_map(|lock| lock.images.iter().map(|image| &image.name));
    for name in unbound.filter(|name| !first.contains_key(name)) {
        let message = format!("it locks {name}, which nothing binds");
        let finding = Finding::new(Rule::StaleLock, message);
        findings.push(finding.in_file(Path::new(LOCK_PATH)));
    }
}

#[cfg(test)]
mod tests;
