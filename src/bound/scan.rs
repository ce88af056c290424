//! Reading the bound images of a deployment's root.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};

use crate::{
    name::ImageName,
    sys::{read_dir_names_in_root, read_in_root, read_link_in_root},
};

use super::{
    image::{BoundImage, Origin, argument, merge},
    problem::{EntryFault, Problem, ScanError, Warning},
    quadlet::{UnitKind, asked_image},
};

/// The directories of links, relative to a deployment's root: bootc's and ours.
pub const BOUND_IMAGE_DIRS: [&str; 2] = [
    "usr/lib/bootc/bound-images.d",
    "usr/lib/boundstore/bound-images.d",
];

/// No unit file is longer.
const UNIT_LIMIT_BYTES: u64 = 1 << 20;

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
/// A directory that is not there binds nothing. Every entry must be a link,
/// named `*.image` or `*.container`, to a unit inside `root`. The root is not
/// trusted: nothing outside it is read, and no entry makes this wait.
///
/// # Errors
/// Everything that is wrong, in one go. There is no partial result: a missing
/// image is found out here, before the deployment boots.
pub fn scan(root: BorrowedFd<'_>) -> Result<Scan, ScanError> {
    let mut reader = Reader::default();
    for directory in BOUND_IMAGE_DIRS {
        match read_dir_names_in_root(root, Path::new(directory)) {
            Ok(names) => names.into_iter().flatten().for_each(|name| {
                if let Err(problem) = reader.read_entry(root, directory, &name) {
                    reader.problems.push(*problem);
                }
            }),
            Err(error) => reader.problems.push(error.into()),
        }
    }
    reader.finish()
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

#[derive(Default)]
struct Reader {
    images: Vec<BoundImage>,
    warnings: Vec<Warning>,
    problems: Vec<Problem>,
    entries: BTreeMap<String, (ImageName, Origin)>,
}

impl Reader {
    fn read_entry(
        &mut self,
        root: BorrowedFd<'_>,
        directory: &str,
        name: &OsStr,
    ) -> Result<(), Box<Problem>> {
        let path = Path::new(directory).join(name);
        let fail = |source| {
            let path = path.clone();
            Box::new(Problem::Entry { path, source })
        };
        let file_name = name.to_str().ok_or_else(|| fail(EntryFault::NotUtf8))?;
        let kind = UnitKind::of_file_name(file_name).ok_or_else(|| fail(EntryFault::Extension))?;
        let target = read_link_in_root(root, &path)
            .map_err(Problem::Directory)?
            .ok_or_else(|| fail(EntryFault::NotSymlink))?;
        let (image, short) = read_unit(root, &path, target, kind)?;

        let origin = image.origins[0].clone();
        let entry = (image.name.clone(), origin.clone());
        let (first_name, first) = self
            .entries
            .entry(file_name.to_owned())
            .or_insert(entry)
            .clone();
        if first_name != image.name {
            return Err(Box::new(Problem::TwoUnits {
                first,
                first_name,
                second: origin,
                second_name: image.name,
            }));
        }
        self.add(image, short.as_deref());
        Ok(())
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

/// The image of one unit, and its name as written where that is a short one.
fn read_unit(
    root: BorrowedFd<'_>,
    path: &Path,
    target: PathBuf,
    kind: UnitKind,
) -> Result<(BoundImage, Option<String>), Box<Problem>> {
    let text = match read_in_root(root, path, UNIT_LIMIT_BYTES) {
        Ok(text) => text,
        Err(source) => {
            return Err(Box::new(Problem::Read {
                path: path.to_owned(),
                target,
                source,
            }));
        }
    };
    let origin = |line| Origin::Unit {
        path: path.to_owned(),
        target,
        line,
    };
    match asked_image(kind, &text) {
        Ok(asked) => {
            let image = BoundImage {
                name: asked.name.name,
                origins: vec![origin(asked.line)],
                source: None,
                auth_file: None,
            };
            Ok((image, asked.name.was_short.then_some(asked.written)))
        }
        Err(error) => Err(Box::new(Problem::Unit {
            origin: origin(error.line),
            source: error.fault,
        })),
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
