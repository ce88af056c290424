//! Many things at once.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use super::{RepoError, RepoView};
use crate::{error::Below, name::ObjectId, sys};

/// Does the work for each, on as many threads as the machine has cores, until one
/// says no. Whether none did.
pub(crate) fn on_all_cores<T: Sync>(each: &[T], work: impl Fn(&T) -> bool + Sync) -> bool {
    let next = AtomicUsize::new(0);
    let all = AtomicBool::new(true);
    let thread = || {
        while all.load(Ordering::Relaxed)
            && let Some(one) = each.get(next.fetch_add(1, Ordering::Relaxed))
        {
            if !work(one) {
                all.store(false, Ordering::Relaxed);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 1..threads.min(each.len()) {
            // Those that there are do it, this one at least.
            let _spawned = thread::Builder::new().spawn_scoped(scope, thread);
        }
        thread();
    });
    all.into_inner()
}

impl RepoView {
    /// Which of these objects is not there, whatever is in the others.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub fn missing_object(&self, objects: &[ObjectId]) -> Result<Option<ObjectId>, RepoError> {
        let folder = sys::open_file_at(self.fd(), "objects").below(self.path())?;
        let path = self.path().join("objects");
        let first = OnceLock::new();
        on_all_cores(objects, |id| {
            let size = sys::file_size_at(&folder, id.object_path());
            let missing = match size.below(&path) {
                Ok(Some(_)) => return true,
                Ok(None) => Ok(*id),
                Err(error) => Err(error),
            };
            let _another_was_first = first.set(missing);
            false
        });
        Ok(first.into_inner().transpose()?)
    }
}
