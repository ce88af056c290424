//! Whether something can be put where it is meant to be.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::SinkError;
use crate::{error::Doing, sys};

/// The only files of a store without images: what `make install` makes, for
/// podman before there is any set.
const EMPTY_STORE: [&str; 10] = [
    "overlay",
    "overlay/l",
    "overlay-images",
    "overlay-images/images.lock",
    "overlay-layers",
    "overlay-layers/layers.lock",
    "vfs-images",
    "vfs-images/images.lock",
    "vfs-layers",
    "vfs-layers/layers.lock",
];

/// Whether a file can be put at `place`: a regular one is there, or nothing.
///
/// # Errors
/// [`SinkError::InTheWay`].
pub fn expect_file(place: &Path) -> Result<(), SinkError> {
    match kind(place)? {
        Some(kind) if !kind.is_file() => in_the_way(place, "no file"),
        _ => Ok(()),
    }
}

/// Whether a folder can be put at `place`: nothing is there, or an empty one.
///
/// # Errors
/// [`SinkError::InTheWay`].
pub fn expect_vacant(place: &Path) -> Result<(), SinkError> {
    match kind(place)? {
        None => Ok(()),
        Some(kind) if !kind.is_dir() => in_the_way(place, "no folder"),
        Some(_) => match fs::read_dir(place).doing("read", place)?.next() {
            None => Ok(()),
            Some(_) => in_the_way(place, "not empty"),
        },
    }
}

fn kind(place: &Path) -> Result<Option<fs::FileType>, SinkError> {
    match fs::symlink_metadata(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => Ok(Some(found.doing("stat", place)?.file_type())),
    }
}

fn in_the_way(place: &Path, found: &'static str) -> Result<(), SinkError> {
    Err(SinkError::InTheWay {
        path: place.to_owned(),
        found,
    })
}

/// What a name of an empty store is: a lock file, or a directory.
fn is_as_in_an_empty_store(name: &str, found: &fs::Metadata) -> bool {
    match name.ends_with(".lock") {
        true => found.is_file() && found.len() <= 64,
        false => found.is_dir(),
    }
}

/// Whether a store can be put at `place`: nothing is there, or a store without
/// images, and no other filesystem is mounted there.
///
/// # Errors
/// [`SinkError::Occupied`], with the first thing that is in the way.
pub fn expect_empty_store(place: &Path) -> Result<(), SinkError> {
    let occupied = |found: String| SinkError::Occupied {
        path: place.to_owned(),
        found,
    };
    match kind(place)? {
        None => return Ok(()),
        Some(kind) if kind.is_dir() => {}
        Some(_) => return Err(occupied("something that is no directory".to_owned())),
    }
    if sys::mount_id(place)? != sys::mount_id(&place.join(".."))? {
        return Err(occupied("a filesystem mounted on it".to_owned()));
    }
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let path = place.join(&folder);
        for entry in fs::read_dir(&path).doing("read", &path)? {
            let entry = entry.doing("read", &path)?;
            let below = folder.join(entry.file_name());
            let known = EMPTY_STORE.iter().find(|known| below == Path::new(known));
            let found = entry.metadata().doing("stat", entry.path())?;
            if !known.is_some_and(|name| is_as_in_an_empty_store(name, &found)) {
                return Err(occupied(below.display().to_string()));
            }
            if found.is_dir() {
                folders.push(below);
            }
        }
    }
    Ok(())
}

/// Its files and directories, and nothing else that may have come there.
pub(super) fn remove_empty_store(place: &Path) -> Result<(), SinkError> {
    for name in EMPTY_STORE.iter().rev().chain([&""]) {
        let path = place.join(name);
        let removed = match name.ends_with(".lock") {
            true => fs::remove_file(&path),
            false => fs::remove_dir(&path),
        };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.doing("remove", path)?,
        }
    }
    Ok(())
}
