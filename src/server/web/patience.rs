//! Long work takes turns: whoever sends bodies that take a thread for a second leaves the other threads to everybody else.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use rt::future::{poll_fn, poll_once};
use rt::lock::Semaphore;

/// A body of this length may take tens of milliseconds to decode, check and keep.
const LONG_BODY_BYTES: usize = 32 << 10;
/// Whose small body, or none, kept a thread for so long without a pause is expected to send more of that kind.
const LONG_MILLIS: u64 = 150;
/// For how long.
const REMEMBERED_MILLIS: u64 = 10_000;
/// Users that are told apart.
const PLACES: usize = 16;

/// One thread for the long work of all, which users get one after the other, however much each of them asks for.
pub(super) struct Patience {
    all: Semaphore,
    places: [Place; PLACES],
}

struct Place {
    turn: Semaphore,
    /// The user's work is taken to be long until then, on the monotonic clock.
    long_until_millis: AtomicU64,
}

impl Default for Patience {
    fn default() -> Patience {
        let place = |_| Place { turn: Semaphore::new(1), long_until_millis: AtomicU64::new(0) };
        Patience { all: Semaphore::new(1), places: std::array::from_fn(place) }
    }
}

impl Patience {
    /// Does what a user asked for with a body of so many bytes. A turn is one step of the work, up to where it waits for
    /// something: nobody keeps one while a webhook thinks.
    pub(super) async fn work<T>(
        &self,
        user: &str,
        body_bytes: usize,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = pin!(work);
        let hash = api::hash::fnv32a(user.as_bytes());
        let place = &self.places[usize::try_from(hash).unwrap_or(0) % PLACES];
        loop {
            let has_long_body = body_bytes >= LONG_BODY_BYTES;
            let is_long =
                has_long_body || place.long_until_millis.load(Ordering::Relaxed) > now_millis();
            let turn = match is_long {
                true => Some((place.turn.acquire().await, self.all.acquire().await)),
                false => None,
            };
            let began = now_millis();
            let done = poll_once(work.as_mut()).await;
            let ended = now_millis();
            if !has_long_body && ended - began >= LONG_MILLIS {
                place.long_until_millis.store(ended + REMEMBERED_MILLIS, Ordering::Relaxed);
            }
            drop(turn);
            if let Some(done) = done {
                return done;
            }
            woken().await;
        }
    }
}

/// Until whatever was polled last in this task wakes it.
async fn woken() {
    let mut waits = true;
    poll_fn(|_| match std::mem::take(&mut waits) {
        true => Poll::Pending,
        false => Poll::Ready(()),
    })
    .await;
}

fn now_millis() -> u64 {
    rt::now().mono.0 / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::sync::{Arc, mpsc};

    /// Work of one step that says that it is there, and lasts until it is told to end.
    fn step(
        inside: &Arc<AtomicUsize>,
        begun: &mpsc::Sender<()>,
        end: mpsc::Receiver<()>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (inside, begun) = (inside.clone(), begun.clone());
        async move {
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at once");
            begun.send(()).unwrap();
            end.recv().unwrap();
            inside.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn long_work_has_one_thread_and_short_work_another() {
        let patience = Arc::new(Patience::default());
        let inside = Arc::new(AtomicUsize::new(0));
        let (begun, begins) = mpsc::channel();
        let mut ends = Vec::new();
        let mut threads = Vec::new();
        for user in ["a", "a", "b", "b", "c"] {
            let (end, ended) = mpsc::channel();
            ends.push(end);
            let (patience, work) = (patience.clone(), step(&inside, &begun, ended));
            threads.push(std::thread::spawn(move || {
                rt::block_on(patience.work(user, LONG_BODY_BYTES, work));
            }));
        }
        begins.recv().unwrap();
        // One of them has its turn; whoever asks for little does not wait for it.
        rt::block_on(patience.work("a", 0, async {}));
        assert_eq!(inside.load(Ordering::SeqCst), 1);
        ends.iter().for_each(|end| end.send(()).unwrap());
        for thread in threads {
            thread.join().unwrap();
        }
    }

    #[test]
    fn who_took_long_once_waits_for_its_turn() {
        let patience = Patience::default();
        let long = async {
            let began = now_millis();
            while now_millis() < began + LONG_MILLIS {
                std::thread::yield_now();
            }
        };
        rt::block_on(async {
            patience.work("a", 0, long).await;
            let turn = patience.all.acquire().await;
            assert!(poll_once(pin!(patience.work("a", 0, async {}))).await.is_none());
            assert!(poll_once(pin!(patience.work("b", 0, async {}))).await.is_some());
            drop(turn);
            // What waits inside keeps no turn.
            let mut waits = pin!(patience.work("a", 0, rt::future::pending::<()>()));
            assert!(poll_once(waits.as_mut()).await.is_none());
            assert!(poll_once(pin!(patience.work("a", 0, async {}))).await.is_some());
        });
    }
}
