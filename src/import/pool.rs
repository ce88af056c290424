//! The threads that hash and write objects, for all layers of an import.

use std::{
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use crate::repo::Repo;

type Job = Box<dyn FnOnce(&Repo, usize) + Send>;

/// A few threads that write to one repository, as many as the machine has
/// processors.
///
/// A job must not wait for another job: what it waits for, whoever handed it
/// in gives, without handing in anything else meanwhile.
pub struct ObjectPool<'r> {
    repo: &'r Repo,
    jobs: SyncSender<Job>,
}

impl std::fmt::Debug for ObjectPool<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectPool").finish_non_exhaustive()
    }
}

/// What is written is not worth more threads.
const MOST_THREADS: usize = 8;
/// How many bytes of large files all threads together keep in memory, to hash
/// them before they are written.
const HELD: usize = 16 << 20;

impl<'r> ObjectPool<'r> {
    /// Does `work`, which can hand jobs to the pool; all are done when it returns.
    pub fn with<R>(repo: &'r Repo, work: impl FnOnce(&Self) -> R) -> R {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.min(MOST_THREADS);
        let (jobs, queue) = sync_channel::<Job>(threads);
        let queue = Mutex::new(queue);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(job) = next(&queue) {
                        job(repo, HELD / threads);
                    }
                });
            }
            // It goes with its end of the queue, and so do the threads.
            work(&Self { repo, jobs })
        })
    }

    /// The repository they write to.
    pub fn repo(&self) -> &'r Repo {
        self.repo
    }

    /// Has a thread do `job`, with the repository and how many bytes it may hold
    /// in memory; waits while all have enough to do.
    pub(super) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Repo, usize) -> T + Send + 'static,
    ) -> Receiver<T> {
        let (send, result) = sync_channel(1);
        let job = move |repo: &Repo, held: usize| {
            // Who has failed meanwhile does not wait for it.
            let _nobody_waits = send.send(job(repo, held));
        };
        // Where the threads are gone they have panicked, and the scope tells.
        let _handed_in = self.jobs.send(Box::new(job));
        result
    }
}

fn next(queue: &Mutex<Receiver<Job>>) -> Option<Job> {
    let queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    queue.recv().ok()
}
