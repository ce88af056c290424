//! Several things at once.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Sender, channel},
    },
    thread::{self, available_parallelism},
};

/// How many threads the machine can run at the same time.
pub(crate) fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Does `work` on all items, `most` of them at a time, each on another thread;
/// what it sends meanwhile is heard on this one.
///
/// The results are in the order of the items. After a failure no item is begun
/// any more.
///
/// # Errors
/// Of those that failed, the first in the order of the items.
pub(crate) fn at_once<T, M, R, E>(
    items: &[T],
    most: usize,
    work: impl Fn(&T, &dyn Fn(M)) -> Result<R, E> + Sync,
    mut hear: impl FnMut(&T, M),
) -> Result<Vec<R>, E>
where
    T: Sync,
    M: Send,
    R: Send,
    E: Send,
{
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let results: Vec<Mutex<Option<Result<R, E>>>> =
        items.iter().map(|_| Mutex::new(None)).collect();
    let worker = |send: Sender<(usize, M)>| {
        while !failed.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { break };
            // Nobody hears any more only where this thread is being joined.
            let tell = |message| drop(send.send((at, message)));
            let result = work(item, &tell);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            if let Ok(mut place) = results[at].lock() {
                *place = Some(result);
            }
        }
    };
    thread::scope(|scope| {
        let (send, heard) = channel();
        for _ in 0..most.min(items.len()) {
            let (send, worker) = (send.clone(), &worker);
            scope.spawn(move || worker(send));
        }
        drop(send);
        for (at, message) in heard {
            hear(&items[at], message);
        }
    });
    let done = results
        .into_iter()
        .filter_map(|place| place.into_inner().ok()?);
    done.collect()
}

/// Does the work for each, on as many threads as the machine has cores, until one
/// says no. Whether none did. For many things, each of which is little.
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
    thread::scope(|scope| {
        for _ in 1..cores().min(each.len()) {
            // Those that there are do it, this one at least.
            let _spawned = thread::Builder::new().spawn_scoped(scope, thread);
        }
        thread();
    });
    all.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_their_order_and_all_is_heard_here() {
        let here = thread::current().id();
        let mut heard = Vec::new();
        let running = AtomicUsize::new(0);
        let items: Vec<usize> = (0..20).collect();
        let work = |item: &usize, tell: &dyn Fn(usize)| {
            assert_ne!(thread::current().id(), here);
            assert!(running.fetch_add(1, Ordering::SeqCst) < 3);
            tell(item * 10);
            thread::sleep(std::time::Duration::from_millis(1));
            running.fetch_sub(1, Ordering::SeqCst);
            Ok::<usize, ()>(item * 2)
        };
        let done = at_once(&items, 3, work, |item, message| {
            assert_eq!(thread::current().id(), here);
            heard.push((*item, message));
        });
        let twice: Vec<usize> = items.iter().map(|item| item * 2).collect();
        assert_eq!(done, Ok(twice));
        heard.sort_unstable();
        assert!(heard.iter().map(|(item, _)| item).eq(&items));
        assert!(heard.iter().all(|(item, message)| item * 10 == *message));
    }

    #[test]
    fn after_a_failure_nothing_is_begun() {
        let begun = AtomicUsize::new(0);
        let items: Vec<usize> = (0..100).collect();
        let work = |item: &usize, _: &dyn Fn(())| {
            begun.fetch_add(1, Ordering::SeqCst);
            if *item < 2 { Ok(()) } else { Err(*item) }
        };
        let done = at_once(&items, 1, work, |_, ()| {});
        assert_eq!((done, begun.into_inner()), (Err(2), 3));
        let none = at_once(
            &[],
            4,
            |_: &(), _: &dyn Fn(())| Ok::<(), ()>(()),
            |_, ()| {},
        );
        assert_eq!(none, Ok(Vec::new()));
    }
}
