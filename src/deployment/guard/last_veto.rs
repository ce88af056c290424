//! What was held back at the last shutdown, for the system that came up.

use std::{
    fs::{self, File},
    io::Read,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::{Guard, Lack, again::again, remove_if_there};
use crate::{
    deployment::host::HostPaths,
    document::format_rfc3339,
    error::{Doing, PathError},
    repo::DeploymentId,
    sys::{
        RootDir,
        failpoint::{failpoint, write_all},
    },
};

const FOLDER: &str = "var/lib/boundstore";
const FILE: &str = "var/lib/boundstore/last-veto.json";
const SCHEMA: &str = "boundstore.last-veto/v1";
/// Names of some thousand images have less.
const LIMIT_BYTES: u64 = 1 << 20;

/// A deployment that did not become the next boot, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastVeto {
    schema: String,
    /// Which did not.
    pub deployment: DeploymentId,
    /// Which ran, and ran again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booted: Option<DeploymentId>,
    /// When, by RFC 3339.
    pub time: String,
    /// Why.
    #[serde(flatten)]
    pub lack: Lack,
    /// The command that stages it again, for people.
    pub again: String,
}

/// Writes the veto of `id` down, durably; without what runs, where that is not
/// known.
pub(super) fn remember(guard: &Guard<'_>, id: &DeploymentId, lack: &Lack) -> Result<(), PathError> {
    let booted = guard.host.booted().ok().flatten();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let veto = LastVeto {
        schema: SCHEMA.into(),
        deployment: id.clone(),
        again: again(guard.paths, guard.host.backend(), id, booted.as_ref()),
        booted,
        time: format_rfc3339(now.map_or(0, |now| now.as_secs())),
        lack: lack.clone(),
    };
    let folder = guard.paths.root.join(FOLDER);
    fs::create_dir_all(&folder).doing("create directory", &folder)?;
    let text = serde_json::to_string_pretty(&veto).map_err(std::io::Error::from);
    let new = folder.join("last-veto.json.new");
    let mut file = File::create(&new).doing("create", &new)?;
    let text = text.doing("write", &new)? + "\n";
    write_all!("write veto", &mut file, text.as_bytes())
        .and_then(|()| file.sync_all())
        .doing("write", &new)?;
    let path = guard.paths.root.join(FILE);
    failpoint!("rename veto").doing("rename to", &path)?;
    fs::rename(&new, &path).doing("rename to", &path)?;
    let folder_handle = File::open(&folder).doing("open", &folder)?;
    folder_handle.sync_all().doing("sync", &folder)
}

/// The last veto, where one holds. One that cannot be understood is none: the
/// next replaces it.
///
/// # Errors
/// The file is there and cannot be read.
pub fn last_veto(paths: &HostPaths) -> Result<Option<LastVeto>, PathError> {
    let Some((file, _)) = RootDir::open(&paths.root)?.open_file(FILE)? else {
        return Ok(None);
    };
    let mut text = Vec::new();
    let mut bounded = file.take(LIMIT_BYTES);
    bounded
        .read_to_end(&mut text)
        .doing("read", paths.root.join(FILE))?;
    let veto: Option<LastVeto> = serde_json::from_slice(&text).ok();
    Ok(veto.filter(|veto| veto.schema == SCHEMA))
}

/// Forgets the last veto: what would boot next is complete.
///
/// # Errors
/// The file cannot be removed.
pub fn clear_last_veto(paths: &HostPaths) -> Result<(), PathError> {
    remove_if_there(&paths.root.join(FILE))
}

/// Forgets the last veto where another deployment runs than ran then: that
/// which was held back, or one after it.
///
/// # Errors
/// The file cannot be read or removed.
pub fn note_boot(paths: &HostPaths, booted: &DeploymentId) -> Result<(), PathError> {
    match last_veto(paths)? {
        Some(veto) if veto.booted.as_ref() != Some(booted) => clear_last_veto(paths),
        _ => Ok(()),
    }
}
