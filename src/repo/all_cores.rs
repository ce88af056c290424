//! Many objects at once.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use super::{RepoError, RepoView};
use crate::name::ObjectId;

/// Does the work for each object, on as many threads as the machine has cores,
/// until one says no. Whether none did.
pub(crate) fn on_all_cores(objects: &[ObjectId], work: impl Fn(&ObjectId) -> bool + Sync) -> bool {
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
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 1..threads.min(objects.len()) {
            scope.spawn(thread);
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
        let first = OnceLock::new();
        on_all_cores(objects, |id| match self.has_object(id, None) {
            Ok(true) => true,
            Ok(false) => {
                let _another_was_first = first.set(Ok(*id));
                false
            }
            Err(error) => {
                let _another_was_first = first.set(Err(error));
                false
            }
        });
        first.into_inner().transpose()
    }
}
