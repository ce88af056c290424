//! Objects: there, and what their names say.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::hash;
use crate::{
    at_once::on_all_cores,
    error::with_causes,
    name::ObjectId,
    repo::{RepoError, RepoView},
};

/// Checks each object, on as many threads as the machine has cores; the bad
/// ones, each with what is wrong, and how many bytes were hashed.
pub(super) fn check(
    view: &RepoView,
    objects: &[ObjectId],
    deep: bool,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> (BTreeMap<ObjectId, String>, u64) {
    let done = AtomicUsize::new(0);
    let bytes = AtomicU64::new(0);
    let bad = Mutex::new(BTreeMap::new());
    on_all_cores(objects, |id| {
        match check_one(view, id, deep) {
            Ok(read) => {
                bytes.fetch_add(read, Ordering::Relaxed);
            }
            Err(error) => {
                let mut bad = bad.lock().unwrap_or_else(PoisonError::into_inner);
                bad.insert(*id, with_causes(&error));
            }
        }
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, objects.len());
        true
    });
    let bad = bad.into_inner().unwrap_or_else(PoisonError::into_inner);
    (bad, bytes.into_inner())
}

/// Opens, since a missing object is found by nothing else, and hashes if asked.
fn check_one(view: &RepoView, id: &ObjectId, deep: bool) -> Result<u64, RepoError> {
    let file = view.open_object(id)?;
    if !deep {
        return Ok(0);
    }
    let read = hash::fs_verity(id.algorithm(), file);
    let (found, bytes) = read.map_err(|error| RepoError::BadObject {
        id: *id,
        found: format!("it cannot be read: {error}"),
    })?;
    if found == *id {
        return Ok(bytes);
    }
    let found = format!("its bytes hash to {found}");
    Err(RepoError::BadObject { id: *id, found })
}
