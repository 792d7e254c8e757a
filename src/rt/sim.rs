//! A simulated world: virtual time, seeded randomness, and a seeded choice of which task runs next.
//!
//! One thread, one seed, one history. Time moves only when every task waits, straight to the next
//! timer; so an hour of back-off costs nothing and a failing seed replays exactly.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_task::Runnable;
use stdx::time::{Eras, Mono, Now, Wall};
use stdx::{OrdMap, prng::Prng};

/// Where a simulation's wall clock starts: 2024-01-01T00:00:00Z.
const EPOCH: Wall = Wall::from_secs(1_704_067_200);

struct State {
    prng: Prng,
    mono: Mono,
    wall_offset: Duration,
    wall_skew_nanos: i64,
    eras: Eras,
    n_settings: u64,
    was_set: Arc<crate::Event>,
    /// Pending timers by deadline and a serial number that keeps them distinct.
    timers: OrdMap<(Mono, u64), Option<Waker>>,
    next_timer: u64,
    /// Tasks that can run; shared with wakers, which may outlive the simulation.
    ready: Arc<Mutex<Vec<Runnable>>>,
    n_steps: u64,
    /// Tasks that have not ended, by their number: what waits for something that only itself could do must go, too.
    live: OrdMap<u64, Waker>,
    next_task: u64,
}

impl State {
    fn wall(&self) -> Wall {
        Wall((EPOCH + self.wall_offset).0.saturating_add(self.wall_skew_nanos))
    }
}

thread_local! {
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
}

/// How a simulation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End<T> {
    /// The main future finished.
    Done(T),
    /// Every task waits and no timer is pending: a deadlock.
    Stuck,
    /// `steps_max` task steps were used up.
    OutOfSteps,
}

/// Runs `main` in a fresh simulated world on this thread. Tasks left over are dropped at the end.
///
/// # Panics
/// If a simulation already runs on this thread; and with whatever a task panics with.
pub fn run<T: 'static>(
    seed: u64,
    steps_max: u64,
    main: impl Future<Output = T> + 'static,
) -> End<T> {
    let ready = Arc::new(Mutex::new(Vec::new()));
    STATE.with_borrow_mut(|slot| {
        assert!(slot.is_none(), "a simulation already runs on this thread");
        *slot = Some(State {
            prng: Prng::new(seed),
            mono: Mono(1_000_000_000),
            wall_offset: Duration::ZERO,
            wall_skew_nanos: 0,
            eras: Eras::starting(EPOCH),
            n_settings: 0,
            was_set: Arc::default(),
            timers: OrdMap::new(),
            next_timer: 0,
            ready: Arc::clone(&ready),
            n_steps: 0,
            live: OrdMap::new(),
            next_task: 0,
        });
    });
    let _cleanup = Cleanup;
    let queue = Arc::clone(&ready);
    let (runnable, mut main) = async_task::spawn_local(main, move |r| push(&queue, r));
    runnable.schedule();
    loop {
        if let Poll::Ready(value) = poll_now(&mut main) {
            return End::Done(value);
        }
        let chosen = STATE.with_borrow_mut(|slot| {
            let state = slot.as_mut()?;
            state.n_steps += 1;
            let mut ready = lock(&ready);
            let n_ready = u64::try_from(ready.len()).unwrap_or(u64::MAX);
            if n_ready == 0 {
                return None;
            }
            let idx = usize::try_from(state.prng.below(n_ready)).unwrap_or(0);
            Some((ready.swap_remove(idx), state.n_steps))
        });
        match chosen {
            Some((_, n_steps)) if n_steps > steps_max => return End::OutOfSteps,
            Some((runnable, _)) => {
                runnable.run();
            }
            None if advance() => {}
            None => return End::Stuck,
        }
    }
}

/// Moves the wall clock by `nanos` (either way) without touching the monotonic one.
pub fn jump_wall(nanos: i64) {
    STATE.with_borrow_mut(|slot| {
        if let Some(state) = slot {
            let before = state.wall();
            state.wall_skew_nanos = state.wall_skew_nanos.saturating_add(nanos);
            if Duration::from_nanos(nanos.unsigned_abs()) >= Eras::STEP_MIN {
                state.eras.set(before, state.wall());
                state.n_settings += 1;
                state.was_set.notify(usize::MAX);
            }
        }
    });
}

/// Task steps taken so far in the running simulation.
pub fn n_steps() -> u64 {
    STATE.with_borrow(|slot| slot.as_ref().map_or(0, |state| state.n_steps))
}

pub(crate) fn active() -> bool {
    STATE.with_borrow(Option::is_some)
}

pub(crate) fn spawn<T: Send + 'static>(future: crate::BoxFuture<'static, T>) -> smol::Task<T> {
    let (number, ready) = STATE.with_borrow_mut(|slot| match slot {
        Some(state) => {
            state.next_task += 1;
            (state.next_task, Arc::clone(&state.ready))
        }
        None => Default::default(),
    });
    let listed = async move {
        let _listed = Listed(number);
        future.await
    };
    let (runnable, task) = async_task::spawn(listed, move |r| push(&ready, r));
    STATE.with_borrow_mut(|slot| {
        slot.as_mut().map(|state| state.live.insert(number, runnable.waker()))
    });
    runnable.schedule();
    task
}

/// A task among those that have not ended, while its future exists.
struct Listed(u64);

impl Drop for Listed {
    fn drop(&mut self) {
        let _ = STATE.try_with(|slot| {
            let mut slot = slot.try_borrow_mut().ok()?;
            slot.as_mut()?.live.remove(&self.0)
        });
    }
}

pub(crate) fn now() -> Option<Now> {
    STATE.with_borrow(|slot| {
        slot.as_ref().map(|state| Now { wall: state.wall(), mono: state.mono, eras: state.eras })
    })
}

/// Notified when the wall clock jumps; `None` outside of simulations.
pub(crate) fn clock_listener() -> Option<crate::EventListener> {
    STATE.with_borrow(|slot| slot.as_ref().map(|state| state.was_set.listen()))
}

/// How often it jumped.
pub(crate) fn n_clock_settings() -> Option<u64> {
    STATE.with_borrow(|slot| slot.as_ref().map(|state| state.n_settings))
}

pub(crate) fn random(buf: &mut [u8]) -> bool {
    STATE.with_borrow_mut(|slot| slot.as_mut().map(|state| state.prng.fill(buf)).is_some())
}

pub(crate) fn timer(duration: Duration) -> Option<SimTimer> {
    STATE.with_borrow_mut(|slot| {
        slot.as_mut().map(|state| {
            state.next_timer += 1;
            SimTimer { deadline: state.mono + duration, serial: state.next_timer }
        })
    })
}

/// A timer of the simulated world.
#[derive(Debug)]
pub(crate) struct SimTimer {
    deadline: Mono,
    serial: u64,
}

impl Future for SimTimer {
    type Output = ();
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        STATE.with_borrow_mut(|slot| match slot {
            Some(state) if state.mono < self.deadline => {
                state.timers.insert((self.deadline, self.serial), Some(cx.waker().clone()));
                Poll::Pending
            }
            _ => Poll::Ready(()),
        })
    }
}

impl Drop for SimTimer {
    fn drop(&mut self) {
        // The thread's state may be gone when leftovers are dropped at thread exit.
        let _ = STATE.try_with(|slot| {
            if let Ok(mut slot) = slot.try_borrow_mut()
                && let Some(state) = slot.as_mut()
            {
                state.timers.remove(&(self.deadline, self.serial));
            }
        });
    }
}

/// Moves time to the next timer and wakes it; false if there is none.
fn advance() -> bool {
    let waker = STATE.with_borrow_mut(|slot| {
        let state = slot.as_mut()?;
        let ((deadline, _), waker) = state.timers.pop_first()?;
        let step = deadline.since(state.mono);
        state.mono = state.mono.max(deadline);
        state.wall_offset += step;
        Some(waker)
    });
    match waker {
        Some(waker) => {
            if let Some(waker) = waker {
                waker.wake();
            }
            true
        }
        None => false,
    }
}

fn push(ready: &Mutex<Vec<Runnable>>, runnable: Runnable) {
    lock(ready).push(runnable);
}

fn lock(ready: &Mutex<Vec<Runnable>>) -> std::sync::MutexGuard<'_, Vec<Runnable>> {
    ready.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn poll_now<T>(task: &mut smol::Task<T>) -> Poll<T> {
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(task).poll(&mut cx)
}

/// Ends the simulation on every way out, dropping leftover tasks outside the borrow.
struct Cleanup;

impl Drop for Cleanup {
    fn drop(&mut self) {
        // Dropping a task may wake or start others; go on until none is left.
        loop {
            let left = STATE.with_borrow_mut(|slot| {
                let state = slot.as_mut()?;
                Some((std::mem::take(&mut state.live), Arc::clone(&state.ready)))
            });
            let Some((live, ready)) = left else { return };
            // One that wakes is ready, and what is ready is dropped instead of run.
            live.into_iter().for_each(|(_, waker)| waker.wake());
            let batch = std::mem::take(&mut *lock(&ready));
            if batch.is_empty() {
                break;
            }
            drop(batch);
        }
        let state = STATE.with_borrow_mut(Option::take);
        drop(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{channel, now as clock, sleep, spawn};

    #[test]
    fn an_hour_costs_nothing_and_the_seed_decides_the_order() {
        let history = |seed| {
            run(seed, 10_000, async {
                let (sender, receiver) = channel::bounded(64);
                let start = clock().mono;
                for id in 0..8u64 {
                    let sender = sender.clone();
                    spawn(async move {
                        sleep(Duration::from_secs(3600)).await;
                        let _ = sender.send(id).await;
                    })
                    .detach();
                }
                drop(sender);
                let mut seen = Vec::new();
                while let Ok(id) = receiver.recv().await {
                    seen.push(id);
                }
                assert_eq!(clock().mono.since(start), Duration::from_secs(3600));
                seen
            })
        };
        assert_eq!(history(1), history(1));
        let distinct: stdx::OrdSet<_> = (0..20)
            .map(|seed| match history(seed) {
                End::Done(seen) => seen,
                end => panic!("{end:?}"),
            })
            .collect();
        assert!(distinct.len() > 1, "seeds change the order");
    }

    #[test]
    fn what_waits_for_itself_goes_with_the_simulation() {
        let kept = Arc::new(());
        let held = Arc::clone(&kept);
        let end = run(1, 1000, async {
            spawn(async move {
                let (sender, receiver) = channel::bounded::<Arc<()>>(1);
                let _ = receiver.recv().await;
                drop((sender, held));
            })
            .detach();
            sleep(Duration::from_secs(1)).await;
        });
        assert_eq!((end, Arc::strong_count(&kept)), (End::Done(()), 1));
    }

    #[test]
    fn a_deadlock_is_told() {
        let end = run(1, 1000, async { std::future::pending::<()>().await });
        assert_eq!(end, End::Stuck);
    }
}
