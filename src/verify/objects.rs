//! Objects: there, and what their names say.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use super::hash;
use crate::{
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

/// Whether each object is there, whatever is in it.
pub(super) fn are_there(view: &RepoView, objects: &[ObjectId]) -> bool {
    on_all_cores(objects, |id| view.has_object(id, None).unwrap_or(false))
}

/// Does the work for each object, on as many threads as the machine has cores,
/// until one says no. Whether none did.
fn on_all_cores(objects: &[ObjectId], work: impl Fn(&ObjectId) -> bool + Sync) -> bool {
    let next = AtomicUsize::new(0);
    let all = AtomicBool::new(true);
    let thread = || {
        while all.load(Ordering::Relaxed)
            && let Some(id) = objects.get(next.fetch_add(1, Ordering::Relaxed))
        {
            if !work(id) {
                all.store(false, Ordering::Relaxed);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(thread);
        }
    });
    all.into_inner()
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
