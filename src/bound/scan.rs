//! Reading the bound images of a deployment's root.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::fd::BorrowedFd,
    path::Path,
};

use crate::{
    name::ImageName,
    sys::{folder_in_root, read_dir_names_in_root, read_in_root, read_link_in_root},
};

use super::{
    folders::{UNIT_LIMIT_BYTES, UnitFolders},
    forms::{Asked, asked, listed, place_of},
    image::{BoundImage, Origin, Settings, argument, merge},
    problem::{EntryFault, Problem, ScanError, Warning},
    quadlet::{UnitKind, asked_image},
};

/// The directories of links, relative to a deployment's root: bootc's and ours.
pub const BOUND_IMAGE_DIRS: [&str; 2] = [
    "usr/lib/bootc/bound-images.d",
    "usr/lib/boundstore/bound-images.d",
];

/// All that a deployment asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scan {
    /// The images, sorted by name, each name once.
    pub images: Vec<BoundImage>,
    /// What works but may not be meant, in the order it was read.
    pub warnings: Vec<Warning>,
}

/// Reads what the deployment at `root` asks for.
///
/// A directory that is not there binds nothing. Every entry of bootc's must be
/// a link, named `*.image` or `*.container`, to a unit inside `root`; ours has
/// more forms. The root is not trusted: nothing outside it is read, and no entry
/// makes this wait.
///
/// # Errors
/// Everything that is wrong, in one go. There is no partial result: a missing
/// image is found out here, before the deployment boots.
pub fn scan(root: BorrowedFd<'_>) -> Result<Scan, ScanError> {
    Reader::of_root(root).finish()
}

impl Scan {
    /// Adds the values of `--image NAME[=SOURCE]` to what the units ask for.
    ///
    /// # Errors
    /// Every value that cannot be understood, and every name with two different
    /// sources.
    pub fn with_command_line(
        self,
        arguments: impl IntoIterator<Item: AsRef<str>>,
    ) -> Result<Scan, ScanError> {
        let mut reader = Reader {
            images: self.images,
            warnings: self.warnings,
            ..Reader::default()
        };
        for text in arguments {
            match argument(text.as_ref()) {
                Ok((image, short)) => reader.add(image, short),
                Err(error) => reader.problems.push(error.into()),
            }
        }
        reader.finish()
    }
}

/// What was read so far, and all that was wrong with it.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) images: Vec<BoundImage>,
    pub(super) warnings: Vec<Warning>,
    pub(super) problems: Vec<Problem>,
    entries: BTreeMap<String, (Vec<ImageName>, Origin)>,
}

impl Reader {
    pub(super) fn of_root(root: BorrowedFd<'_>) -> Self {
        let mut reader = Self::default();
        let [bootcs, ours] = BOUND_IMAGE_DIRS.map(Path::new);
        for name in reader.names(root, bootcs) {
            let read = bootc_entry(root, bootcs, &name);
            reader.take(&name, read.map_err(|problem| vec![*problem]));
        }
        let names = reader.names(root, ours);
        if names.is_empty() {
            return reader;
        }
        match UnitFolders::find(root) {
            Ok(folders) => {
                for name in names {
                    let read = own_entry(&folders, ours, &name);
                    reader.take(&name, read);
                }
            }
            Err(error) => reader.problems.push(error.into()),
        }
        reader
    }

    fn names(&mut self, root: BorrowedFd<'_>, directory: &Path) -> Vec<OsString> {
        match read_dir_names_in_root(root, directory) {
            Ok(names) => names.unwrap_or_default(),
            Err(error) => {
                self.problems.push(error.into());
                Vec::new()
            }
        }
    }

    /// Takes what the entry `name` asks for.
    fn take(&mut self, name: &OsStr, read: Result<Vec<Asked>, Vec<Problem>>) {
        let asked = match read {
            Ok(asked) => asked,
            Err(problems) => return self.problems.extend(problems),
        };
        let Some(first) = asked.first() else {
            return;
        };
        let origin = first.origin.clone();
        let names: Vec<_> = asked.iter().map(|one| one.name.name.clone()).collect();
        let key = name.to_string_lossy().into_owned();
        let entry = (names.clone(), origin.clone());
        let (first_names, first) = self.entries.entry(key).or_insert(entry).clone();
        if first_names != names {
            return self.problems.push(Problem::TwoUnits {
                first,
                first_names,
                second: origin,
                second_names: names,
            });
        }
        for one in asked {
            let short = one.name.was_short.then(|| one.written.clone());
            self.add(one.into_image(), short.as_deref());
        }
    }

    fn add(&mut self, image: BoundImage, short: Option<&str>) {
        if let Some(written) = short {
            self.warnings
                .extend(image.origins.iter().map(|origin| Warning::ShortName {
                    origin: origin.clone(),
                    written: written.to_owned(),
                    name: image.name.clone(),
                }));
        }
        self.images.push(image);
    }

    fn finish(mut self) -> Result<Scan, ScanError> {
        let images = merge(self.images).unwrap_or_else(|conflicts| {
            self.problems.extend(conflicts.into_problems());
            Vec::new()
        });
        ScanError::unless_empty(self.problems)?;
        Ok(Scan {
            images,
            warnings: self.warnings,
        })
    }
}

/// What an entry of bootc's folder asks for, by bootc's rules.
fn bootc_entry(
    root: BorrowedFd<'_>,
    directory: &Path,
    name: &OsStr,
) -> Result<Vec<Asked>, Box<Problem>> {
    let path = directory.join(name);
    let file_name = utf8(name, &path)?;
    let kind = UnitKind::of_file_name(file_name)
        .filter(|kind| kind.is_bootcs())
        .ok_or_else(|| entry_problem(&path, EntryFault::Extension))?;
    let target = read_link_in_root(root, &path)
        .map_err(Problem::Directory)?
        .ok_or_else(|| entry_problem(&path, EntryFault::NotSymlink))?;
    let text = match read_in_root(root, &path, UNIT_LIMIT_BYTES) {
        Ok(text) => text,
        Err(source) => {
            let target = Some(target);
            return Err(Box::new(Problem::Read {
                path,
                target,
                source,
            }));
        }
    };
    let origin = |line| Origin::Unit {
        path: path.clone(),
        target: Some(target.clone()),
        line,
    };
    match asked_image(kind, &text) {
        Ok(asked) => Ok(vec![Asked {
            written: asked.written,
            name: asked.name,
            origin: origin(asked.line),
            settings: Settings::default(),
        }]),
        Err(error) => Err(Box::new(Problem::Unit {
            origin: origin(error.line),
            source: error.fault,
        })),
    }
}

/// What an entry of our own folder asks for: a unit of any kind with all that
/// belongs to it, or a list; a link to one or the file itself. Folders of
/// drop-ins ask for nothing themselves.
fn own_entry(
    folders: &UnitFolders<'_>,
    directory: &Path,
    name: &OsStr,
) -> Result<Vec<Asked>, Vec<Problem>> {
    let path = directory.join(name);
    let one = |problem: Box<Problem>| vec![*problem];
    let file_name = utf8(name, &path).map_err(one)?;
    let target = read_link_in_root(folders.root, &path);
    let target = target.map_err(|error| vec![error.into()])?;
    if target.is_none() && folder_in_root(folders.root, &path).is_ok_and(|id| id.is_some()) {
        let of_units = |name: &str| {
            let known = |kind: UnitKind| name.ends_with(kind.extension());
            UnitKind::ALL.into_iter().any(known)
        };
        return match file_name.strip_suffix(".d").is_some_and(of_units) {
            true => Ok(Vec::new()),
            false => Err(one(entry_problem(&path, EntryFault::Folder))),
        };
    }
    if Path::new(file_name)
        .extension()
        .is_some_and(|end| end == "toml")
    {
        let text = read_in_root(folders.root, &path, UNIT_LIMIT_BYTES);
        let text = text.map_err(|source| {
            let (path, target) = (path.clone(), target.clone());
            vec![Problem::Read {
                path,
                target,
                source,
            }]
        })?;
        return listed(&text, &path, target.as_deref());
    }
    let kind = UnitKind::of_file_name(file_name)
        .ok_or_else(|| one(entry_problem(&path, EntryFault::Form)))?;
    let place = target.as_deref().and_then(|to| place_of(directory, to));
    let (folder, unit_name) = place.unwrap_or_else(|| (directory.into(), file_name.into()));
    let folders = folders.with(&folder);
    let file = folders.load(&path, target, &folder, &unit_name);
    asked(kind, &file.map_err(one)?, &folders).map_err(one)
}

fn utf8<'name>(name: &'name OsStr, path: &Path) -> Result<&'name str, Box<Problem>> {
    name.to_str()
        .ok_or_else(|| entry_problem(path, EntryFault::NotUtf8))
}

fn entry_problem(path: &Path, source: EntryFault) -> Box<Problem> {
    let path = path.to_owned();
    Box::new(Problem::Entry { path, source })
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
