//! Threads for blocking work: few, small, gone when idle.
//!
//! smol's own pool keeps every thread that a burst has made, up to 500, and wakes each of them twice
//! a second for ever; on a small machine both count.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use async_task::Runnable;

/// Threads at most. Image layers that unpack while they are fetched hold nine of them at most
/// (`runtime`: three pulls of three layers); disk work always finds a free one.
const THREADS_MAX: usize = 16;
/// What is not touched costs no memory; JSON of the deepest nesting allowed needs a part of it.
const STACK_SIZE_BYTES: usize = 1 << 20;
/// How long a thread beside the last one waits for more work.
const IDLE_MAX: Duration = Duration::from_secs(3);

static POOL: Pool = Pool(Mutex::new(State {
    queue: VecDeque::new(),
    idle: Vec::new(),
    n_threads: 0,
    n_started: 0,
}));

struct Pool(Mutex<State>);

struct State {
    /// As long as there are tasks that wait for their work: they are its bound.
    queue: VecDeque<Runnable>,
    /// The thread that worked last is the first to work again, so that the others can end.
    idle: Vec<Thread>,
    n_threads: usize,
    n_started: usize,
}

/// What runs on the pool, and what came of it: of one type, so that the code is made once.
pub(crate) type Work = Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>;

/// Starts `work` on the pool. Dropping the task before a thread has taken it cancels it.
pub(crate) fn spawn(work: Work) -> async_task::Task<Box<dyn Any + Send>> {
    let (runnable, task) = async_task::Builder::new()
        .propagate_panic(true)
        .spawn(move |()| async move { work() }, |runnable| POOL.push(runnable));
    runnable.schedule();
    task
}

impl Pool {
    fn push(&'static self, runnable: Runnable) {
        let mut state = self.lock();
        state.queue.push_back(runnable);
        if let Some(thread) = state.idle.pop() {
            drop(state);
            thread.unpark();
        } else if state.n_threads < THREADS_MAX {
            state.n_threads += 1;
            state.n_started += 1;
            let name = format!("disk-{}", state.n_started);
            drop(state);
            let thread = std::thread::Builder::new().name(name).stack_size(STACK_SIZE_BYTES);
            if let Err(error) = thread.spawn(|| self.work()) {
                let mut state = self.lock();
                state.n_threads -= 1;
                // The others will come to it; without any, this thread must do it itself.
                let orphan = match state.n_threads {
                    0 => state.queue.pop_front(),
                    _ => None,
                };
                drop(state);
                log::warn!("start a thread for disk work: {error}");
                if let Some(orphan) = orphan {
                    orphan.run();
                }
            }
        }
    }

    /// A thread's life.
    fn work(&self) {
        let me = std::thread::current();
        loop {
            let mut state = self.lock();
            if let Some(runnable) = state.queue.pop_front() {
                drop(state);
                // A panic is the awaiting task's (`propagate_panic`), not this thread's.
                let _ = std::panic::catch_unwind(|| runnable.run());
                continue;
            }
            let is_last = state.n_threads == 1;
            state.idle.push(me.clone());
            drop(state);
            match is_last {
                true => std::thread::park(),
                false => std::thread::park_timeout(IDLE_MAX),
            }
            let mut state = self.lock();
            // Still in the list: nobody woke us for work.
            if let Some(at) = state.idle.iter().position(|one| one.id() == me.id()) {
                state.idle.remove(at);
                if state.queue.is_empty() && state.n_threads > 1 {
                    state.n_threads -= 1;
                    drop(state);
                    return;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Single steps under the lock: a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn started<T: Send + 'static>(
        work: impl FnOnce() -> T + Send + 'static,
    ) -> async_task::Task<Box<dyn Any + Send>> {
        spawn(Box::new(move || Box::new(work())))
    }

    #[test]
    fn work_that_waits_for_other_work_gets_a_thread_each() {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..8).map(|_| mpsc::channel::<()>()).unzip();
        let waiting: Vec<_> = receivers
            .into_iter()
            .map(|receiver| started(move || receiver.recv().is_ok()))
            .collect();
        let last = started(move || senders.into_iter().all(|sender| sender.send(()).is_ok()));
        crate::block_on(async {
            assert_eq!(last.await.downcast_ref(), Some(&true));
            for task in waiting {
                assert_eq!(task.await.downcast_ref(), Some(&true));
            }
        });
        assert!(POOL.lock().n_threads <= THREADS_MAX);
    }

    #[test]
    fn a_panic_is_the_callers_and_the_pool_goes_on() {
        let failed = started(|| -> u8 { panic!("planted") });
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            crate::block_on(failed);
        }));
        assert!(caught.is_err());
        assert_eq!(crate::block_on(crate::unblock(|| 7)), 7);
    }
}
