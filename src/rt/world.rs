//! The two worlds behind one set of functions: the operating system's, and a simulation's.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use smol::Executor;
use smol::future::FutureExt as _;
use stdx::time::Mono;

use crate::pool::Work;
use crate::{BoxFuture, now, sim};

/// A running task. Dropping it cancels it at its next await; `detach` lets it run on.
pub type Task<T> = smol::Task<T>;

static EXECUTOR: Executor<'static> = Executor::new();

/// Starts `n` threads that run spawned tasks. `block_on` runs them too, so a program that
/// blocks on its main future needs none; one or two make use of more cores.
pub fn start_workers(n: usize) {
    for idx in 0..n {
        let worker =
            std::thread::Builder::new().name(format!("rt-{idx}")).stack_size(STACK_SIZE_BYTES);
        let started = worker.spawn(|| {
            loop {
                // A task's panic is caught at its own border (`spawn`); this guards the thread itself.
                let _ = std::panic::catch_unwind(AssertUnwindSafe(|| {
                    smol::block_on(EXECUTOR.run(smol::future::pending::<()>()))
                }));
            }
        });
        if let Err(error) = started {
            log::warn!("start executor thread {idx}: {error}");
        }
    }
}

/// Deep enough for recursive descent over API objects at their nesting bound.
const STACK_SIZE_BYTES: usize = 4 << 20;

/// Runs `future` to its end on this thread, and spawned tasks meanwhile.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    smol::block_on(EXECUTOR.run(future))
}

/// Starts a task. A panic inside it is logged and ends only this task; awaiting its handle then panics.
pub fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Task<T> {
    // Boxed at once: a large future is then moved once, not at every layer of the executor, and the
    // code of both executors is made once for each output type instead of for each future.
    spawn_boxed(Box::pin(future))
}

fn spawn_boxed<T: Send + 'static>(future: BoxFuture<'static, T>) -> Task<T> {
    match sim::active() {
        true => sim::spawn(future),
        false => EXECUTOR.spawn(future),
    }
}

/// Starts a task that runs for the process's life or until its handle is dropped.
/// A panic inside it is caught and logged with `what`; the task then ends with `None`.
pub fn spawn_named<T: Send + 'static>(
    what: impl fmt::Display + Send + 'static,
    future: impl Future<Output = T> + Send + 'static,
) -> Task<Option<T>> {
    // On the heap before it is wrapped: the compiler would lay a wrapped future out twice, once as
    // it came and once as it is awaited.
    spawn_boxed(Box::pin(guarded(Box::new(what), Box::pin(future))))
}

/// Apart from its caller, whose every instance would have one of its own.
async fn guarded<T>(
    what: Box<dyn fmt::Display + Send>,
    future: BoxFuture<'static, T>,
) -> Option<T> {
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(value) => Some(value),
        Err(panic) => {
            log::error!("{what}: panicked: {}", panic_text(&*panic));
            None
        }
    }
}

/// The message of a caught panic.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// Runs blocking work (disk, SQLite, waiting for a process) on the bounded thread pool, once it is awaited.
/// In a simulation it runs at once, on the simulation's thread.
pub fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Unblock<T> {
    let work: Work = Box::new(move || Box::new(work()));
    Unblock { inner: Unblocked::New(Some(work)), result: PhantomData }
}

/// Work on the thread pool; see [`unblock`]. Its code does not depend on what the work is.
pub struct Unblock<T> {
    inner: Unblocked,
    result: PhantomData<fn() -> T>,
}

enum Unblocked {
    New(Option<Work>),
    Running(Task<Box<dyn Any + Send>>),
}

impl Unblocked {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Box<dyn Any + Send>> {
        if let Unblocked::New(work) = self
            && let Some(work) = work.take()
        {
            if sim::active() {
                return Poll::Ready(work());
            }
            *self = Unblocked::Running(crate::pool::spawn(work));
        }
        match self {
            Unblocked::Running(task) => Pin::new(task).poll(cx),
            // Done already: nobody asks again.
            Unblocked::New(_) => Poll::Pending,
        }
    }
}

impl<T: 'static> Future for Unblock<T> {
    type Output = T;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match self.inner.poll(cx).map(<Box<dyn Any + Send>>::downcast) {
            Poll::Ready(Ok(result)) => Poll::Ready(*result),
            // What `unblock` has boxed is a `T`.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

impl<T> fmt::Debug for Unblock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unblock")
    }
}

/// Fills `buf` with random bytes: the kernel's, or the simulation's.
pub fn random(buf: &mut [u8]) {
    if !sim::random(buf) {
        sys::random::fill(buf);
    }
}

pub fn random_u64() -> u64 {
    let mut buf = [0; 8];
    random(&mut buf);
    u64::from_le_bytes(buf)
}

/// Completes after `duration` of monotonic time.
pub fn sleep(duration: Duration) -> Sleep {
    Sleep(match sim::timer(duration) {
        Some(timer) => Inner::Sim(timer),
        None => Inner::Os(smol::Timer::at(coalesced(Instant::now(), duration))),
    })
}

/// When a timer goes off. Long ones end together, on a common grid: an idle node with a dozen of them
/// wakes its processor once instead of a dozen times. None is early, and none later by more than an eighth.
fn coalesced(now: Instant, duration: Duration) -> Instant {
    const GRID_NANOS: u128 = 250_000_000;
    const SHORT: Duration = Duration::from_secs(2);
    // What the clock cannot hold is as good as never; a year is far beyond any process's patience.
    let due = now.checked_add(duration).unwrap_or(now + Duration::from_secs(365 * 86400));
    if duration < SHORT {
        return due;
    }
    let past_grid = due.saturating_duration_since(start()).as_nanos() % GRID_NANOS;
    due + Duration::from_nanos(u64::try_from(GRID_NANOS - past_grid).unwrap_or(0))
}

/// The process's first look at the clock.
fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// Completes when the monotonic clock reaches `deadline`.
pub fn sleep_until(deadline: Mono) -> Sleep {
    sleep(deadline.since(now().mono))
}

/// A timer; see [`sleep`].
#[derive(Debug)]
pub struct Sleep(Inner);

#[derive(Debug)]
enum Inner {
    Os(smol::Timer),
    Sim(sim::SimTimer),
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Inner::Os(timer) => Pin::new(timer).poll(cx).map(|_| ()),
            Inner::Sim(timer) => Pin::new(timer).poll(cx),
        }
    }
}

/// A [`timeout`] ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("timed out")
    }
}

impl std::error::Error for Elapsed {}

/// Runs `future`, but no longer than `duration`; it is dropped when time runs out.
pub async fn timeout<T>(duration: Duration, future: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut future = std::pin::pin!(future);
    let mut limit = None;
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Ok(value)),
        Poll::Pending => {
            let limit = limit.get_or_insert_with(|| sleep(duration));
            Pin::new(limit).poll(cx).map(|()| Err(Elapsed))
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_its_task_only() {
        let failed = spawn_named("planted", async { panic!("planted") });
        assert_eq!(block_on(failed), None::<()>);
        assert_eq!(block_on(spawn_named("next", async { 7 })), Some(7));
    }

    #[test]
    fn long_timers_end_together_and_never_early() {
        let now = start() + Duration::from_millis(10_103);
        let later = now + Duration::from_millis(90);
        let tenth = Duration::from_secs(10);
        assert_eq!(coalesced(now, tenth), coalesced(later, tenth));
        assert_eq!(coalesced(now, tenth), start() + Duration::from_millis(20_250));
        let short = Duration::from_millis(1999);
        assert_eq!(coalesced(now, short), now + short);
        assert!(coalesced(now, Duration::MAX) > now + tenth);
    }
}
