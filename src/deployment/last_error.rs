//! Why the last sync of a deployment of the host failed, for `status`: nobody
//! watches when the guard runs it.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::host::HostPaths;
use crate::{
    error::{Doing, PathError},
    repo::DeploymentId,
    sys::{RootDir, failpoint::failpoint},
};

/// Gone with the reboot: a veto outlives that, with its own words.
const FOLDER: &str = "run/boundstore/errors";
const LIMIT_BYTES: u64 = 1 << 16;

/// Notes how the sync of `id` ended: why it failed, or that it did not.
///
/// # Errors
/// The file cannot be written or removed.
pub fn note_sync(
    paths: &HostPaths,
    id: &DeploymentId,
    failed: Option<&str>,
) -> Result<(), PathError> {
    let path = paths.root.join(file(id));
    let Some(text) = failed else {
        return match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.doing("remove", &path),
        };
    };
    let folder = paths.root.join(FOLDER);
    fs::create_dir_all(&folder).doing("create directory", &folder)?;
    let new = path.with_extension("new");
    failpoint!("write error").doing("write", &new)?;
    fs::write(&new, text).doing("write", &new)?;
    fs::rename(&new, &path).doing("rename to", &path)
}

/// Why the last sync of `id` failed, if it did.
///
/// # Errors
/// The file is there and cannot be read.
pub fn last_error(paths: &HostPaths, id: &DeploymentId) -> Result<Option<String>, PathError> {
    let Some((file, _)) = RootDir::open(&paths.root)?.open_file(file(id))? else {
        return Ok(None);
    };
    let mut text = Vec::new();
    let mut bounded = file.take(LIMIT_BYTES);
    let path = paths.root.join(FOLDER);
    bounded.read_to_end(&mut text).doing("read in", &path)?;
    Ok(Some(String::from_utf8_lossy(&text).trim_end().to_owned()))
}

fn file(id: &DeploymentId) -> PathBuf {
    Path::new(FOLDER).join(format!("{id}.txt"))
}
