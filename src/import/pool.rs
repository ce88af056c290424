//! The threads that hash and write objects, for all layers of an import.

use std::{
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use crate::{at_once::cores, repo::Repo};

type Job = Box<dyn FnOnce(&Repo) + Send>;

/// A few threads that write to one repository, as many as the machine has
/// processors.
///
/// A job must not wait for another job: what it waits for, whoever handed it
/// in gives, without handing in anything else meanwhile.
pub struct ObjectPool<'r> {
    repo: &'r Repo,
    jobs: SyncSender<Job>,
    held: usize,
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
        let threads = cores().min(MOST_THREADS);
        let (jobs, queue) = sync_channel::<Job>(threads);
        let queue = Mutex::new(queue);
        thread::scope(|scope| {
            // The disk need not wait for the end to begin.
            let (much, told) = sync_channel(1);
            scope.spawn(|| told.into_iter().for_each(|()| repo.write_back()));
            for _ in 0..threads {
                let (much, queue) = (much.clone(), &queue);
                scope.spawn(move || {
                    while let Some(job) = next(queue) {
                        job(repo);
                        if repo.is_time_to_write_back() {
                            let _told_already = much.try_send(());
                        }
                    }
                });
            }
            drop(much);
            // It goes with its end of the queue, and so do the threads.
            let held = HELD / threads;
            work(&Self { repo, jobs, held })
        })
    }

    /// The repository they write to.
    pub fn repo(&self) -> &'r Repo {
        self.repo
    }

    /// How many bytes a job may hold in memory.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Has a thread do `job`; waits while all have enough to do.
    pub(super) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Repo) -> T + Send + 'static,
    ) -> Receiver<T> {
        let (send, result) = sync_channel(1);
        let job = move |repo: &Repo| {
            // Who has failed meanwhile does not wait for it.
            let _nobody_waits = send.send(job(repo));
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
