//! The folders that podman reads units from, and units with their drop-ins.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsString,
    io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};

use crate::{
    error::{Doing, PathError},
    sys::{FolderId, folder_in_root, read_dir_names_in_root, read_in_root, read_link_in_root},
};

use super::{
    image::Origin,
    problem::Problem,
    quadlet::UnitFault,
    unit::{Assignment, Unit, parse_unit},
};

/// Where a host image has units for podman, an earlier one before a later one.
/// `/run`, which podman reads first, is no part of an image.
pub const UNIT_FOLDERS: [&str; 2] = ["etc/containers/systemd", "usr/share/containers/systemd"];
/// Those of users, which the system's podman passes over.
const USERS: &str = "etc/containers/systemd/users";
/// More folders than anybody has; links can make endless ones.
const FOLDERS_LIMIT: usize = 256;
/// No unit file is longer, and no file that one names.
pub(super) const UNIT_LIMIT_BYTES: u64 = 1 << 20;

/// The folders of a root that hold units, in the order in which podman looks.
#[derive(Debug, Clone)]
pub(super) struct UnitFolders<'root> {
    pub(super) root: BorrowedFd<'root>,
    pub(super) folders: Vec<PathBuf>,
}

/// A unit with its drop-ins laid over it.
#[derive(Debug)]
pub(super) struct UnitFile {
    /// Where it was asked for: the entry of a folder of bound images, or it
    /// itself.
    pub(super) entry: PathBuf,
    /// What that says where it is a link.
    pub(super) target: Option<PathBuf>,
    /// The folder it is in.
    pub(super) folder: PathBuf,
    /// The drop-ins, in the order in which they were laid over it.
    pub(super) drop_ins: Vec<PathBuf>,
    pub(super) unit: Unit,
}

impl UnitFile {
    /// Where one of its assignments stands.
    pub(super) fn origin(&self, assignment: &Assignment) -> Origin {
        self.origin_in(assignment.file, assignment.line)
    }

    pub(super) fn origin_in(&self, file: usize, line: usize) -> Origin {
        let drop_in = file.checked_sub(1).and_then(|at| self.drop_ins.get(at));
        Origin::Unit {
            path: self.entry.clone(),
            target: drop_in
                .map(|path| Path::new("/").join(path))
                .or_else(|| self.target.clone()),
            line,
        }
    }

    pub(super) fn fail(&self, file: usize, line: usize, source: UnitFault) -> Box<Problem> {
        let origin = self.origin_in(file, line);
        Box::new(Problem::Unit { origin, source })
    }
}

impl<'root> UnitFolders<'root> {
    /// Finds them, each once.
    pub(super) fn find(root: BorrowedFd<'root>) -> Result<Self, PathError> {
        let mut found = Self {
            root,
            folders: Vec::new(),
        };
        let mut seen = HashSet::new();
        for folder in UNIT_FOLDERS {
            found.walk(Path::new(folder), &mut seen)?;
        }
        Ok(found)
    }

    fn walk(&mut self, folder: &Path, seen: &mut HashSet<FolderId>) -> Result<(), PathError> {
        let drop_ins = folder.extension().is_some_and(|extension| extension == "d");
        if drop_ins || folder == Path::new(USERS) {
            return Ok(());
        }
        let Some(id) = folder_in_root(self.root, folder)? else {
            return Ok(());
        };
        if !seen.insert(id) {
            return Ok(());
        }
        if self.folders.len() == FOLDERS_LIMIT {
            let error = io::Error::other(format!("more than {FOLDERS_LIMIT} folders of units"));
            return Err(error).doing("go into", folder);
        }
        self.folders.push(folder.to_owned());
        for name in self.names(folder)? {
            self.walk(&folder.join(name), seen)?;
        }
        Ok(())
    }

    /// The same, with the folder of a unit that is in none of them first.
    pub(super) fn with(&self, folder: &Path) -> Self {
        let mut folders = self.folders.clone();
        if !folders.iter().any(|known| known == folder) {
            folders.insert(0, folder.to_owned());
        }
        Self {
            root: self.root,
            folders,
        }
    }

    /// The names in a folder; none where it is not there.
    pub(super) fn names(&self, folder: &Path) -> Result<Vec<OsString>, PathError> {
        Ok(read_dir_names_in_root(self.root, folder)?.unwrap_or_default())
    }

    /// The folder that podman takes the unit `name` from.
    pub(super) fn folder_of(&self, name: &str) -> Result<Option<&Path>, PathError> {
        for folder in &self.folders {
            if self.names(folder)?.iter().any(|found| found == name) {
                return Ok(Some(folder));
            }
        }
        Ok(None)
    }

    /// Reads the unit `name` of `folder` with its drop-ins. `read` is where it
    /// is read from, which may be a link to it.
    pub(super) fn load(
        &self,
        read: &Path,
        target: Option<PathBuf>,
        folder: &Path,
        name: &str,
    ) -> Result<UnitFile, Box<Problem>> {
        let mut file = UnitFile {
            entry: read.to_owned(),
            target,
            folder: folder.to_owned(),
            drop_ins: Vec::new(),
            unit: Unit::default(),
        };
        file.unit = self.parse(&file, 0, read)?;
        for path in self.drop_ins(name).map_err(Problem::Directory)? {
            let link = read_link_in_root(self.root, &path).map_err(Problem::Directory)?;
            if link.is_some_and(|to| to == Path::new("/dev/null")) {
                // It is there to hide another one of its name.
                continue;
            }
            file.drop_ins.push(path.clone());
            let drop_in = self.parse(&file, file.drop_ins.len(), &path)?;
            file.unit.merge(drop_in);
        }
        Ok(file)
    }

    fn parse(&self, file: &UnitFile, number: usize, path: &Path) -> Result<Unit, Box<Problem>> {
        let text = self.read(file, path)?;
        parse_unit(&text).map_err(|error| file.fail(number, error.line, error.fault.into()))
    }

    /// Reads a file that a unit is, or names.
    pub(super) fn read(&self, file: &UnitFile, path: &Path) -> Result<Vec<u8>, Box<Problem>> {
        read_in_root(self.root, path, UNIT_LIMIT_BYTES).map_err(|source| {
            let followed = (path != file.entry).then(|| Path::new("/").join(path));
            Box::new(Problem::Read {
                path: file.entry.clone(),
                target: followed.or_else(|| file.target.clone()),
                source,
            })
        })
    }

    /// The drop-ins of a unit, in the order of their names. Of one name the
    /// most particular counts, then that of the first folder.
    fn drop_ins(&self, name: &str) -> Result<Vec<PathBuf>, PathError> {
        let mut found = BTreeMap::new();
        for drop_ins in drop_in_folders(name) {
            for folder in &self.folders {
                let folder = folder.join(&drop_ins);
                if folder_in_root(self.root, &folder)?.is_none() {
                    continue;
                }
                for name in self.names(&folder)? {
                    if name.as_encoded_bytes().ends_with(b".conf") {
                        let path = folder.join(&name);
                        found.entry(name).or_insert(path);
                    }
                }
            }
        }
        Ok(found.into_values().collect())
    }
}

/// The names of the folders of a unit's drop-ins, the most particular first, as
/// podman has them: of the unit, of its template, of the beginnings of its name
/// up to each `-`, of all units of its kind.
fn drop_in_folders(file_name: &str) -> Vec<String> {
    let (stem, extension) = file_name.rsplit_once('.').unwrap_or((file_name, ""));
    let (unit, instance) = match stem.split_once('@') {
        Some((unit, instance)) => (unit, Some(instance)),
        None => (stem, None),
    };
    let mut folders = vec![format!("{file_name}.d")];
    if instance.is_some_and(|instance| !instance.is_empty()) {
        folders.push(format!("{unit}@.{extension}.d"));
    }
    for (end, _) in unit.rmatch_indices('-') {
        if instance.is_some() {
            folders.push(format!("{}@.{extension}.d", &unit[..=end]));
        }
        folders.push(format!("{}.{extension}.d", &unit[..=end]));
    }
    folders.push(format!("{extension}.d"));
    folders
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        os::{fd::AsFd, unix::fs::symlink},
    };

    use super::*;

    /// podman's own cases (`TestUnitDropinPaths` of its unit file parser).
    #[test]
    fn drop_in_folders_are_podmans() {
        for (name, folders) in [
            ("test.service", &["test.service.d", "service.d"][..]),
            (
                "test-a.service",
                &["test-a.service.d", "test-.service.d", "service.d"],
            ),
            (
                "test-a-b.container",
                &[
                    "test-a-b.container.d",
                    "test-a-.container.d",
                    "test-.container.d",
                    "container.d",
                ],
            ),
            ("t@.container", &["t@.container.d", "container.d"]),
            (
                "t@a.container",
                &["t@a.container.d", "t@.container.d", "container.d"],
            ),
            (
                "t-b@a-c.container",
                &[
                    "t-b@a-c.container.d",
                    "t-b@.container.d",
                    "t-@.container.d",
                    "t-.container.d",
                    "container.d",
                ],
            ),
        ] {
            assert_eq!(drop_in_folders(name), folders, "{name}");
        }
    }

    #[test]
    fn folders_are_found_once_whatever_links_do() {
        let tree = tempfile::tempdir().unwrap();
        let at = |path: &str| tree.path().join(path);
        for folder in ["a/b", "a/x.container.d", "users/1"] {
            fs::create_dir_all(at("etc/containers/systemd").join(folder)).unwrap();
        }
        fs::create_dir_all(at("usr/share/containers/systemd")).unwrap();
        fs::create_dir(at("else")).unwrap();
        symlink("..", at("etc/containers/systemd/a/up")).unwrap();
        symlink("/else", at("usr/share/containers/systemd/away")).unwrap();
        symlink("loop", at("usr/share/containers/systemd/loop")).unwrap();
        let root = File::open(tree.path()).unwrap();
        let found = UnitFolders::find(root.as_fd()).unwrap();
        let paths: Vec<_> = found.folders.iter().map(|p| p.to_str().unwrap()).collect();
        assert_eq!(
            paths,
            [
                "etc/containers/systemd",
                "etc/containers/systemd/a",
                "etc/containers/systemd/a/b",
                "usr/share/containers/systemd",
                "usr/share/containers/systemd/away",
            ]
        );
        for n in 0..FOLDERS_LIMIT {
            fs::create_dir(at("else").join(n.to_string())).unwrap();
        }
        let error = UnitFolders::find(root.as_fd()).unwrap_err();
        assert!(error.to_string().contains("go into usr/share"), "{error}");
    }
}
