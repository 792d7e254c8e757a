//! What may go wrong, drawn from the seed; one switch ends it all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::Status;
use stdx::prng::Prng;
use store::{Disk, Fault};

/// The source of all misfortune. Clones share it.
#[derive(Clone)]
pub(crate) struct Faults(Arc<Inner>);

struct Inner {
    on: AtomicBool,
    /// A commit was reported as failed though it was written: nobody knows what the disk holds.
    unsure: AtomicBool,
    prng: Mutex<Prng>,
    /// How bad a day it is, 0 to 100: seeds differ in kind, not only in order.
    weather: Weather,
}

/// Percentages, drawn once a seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// A call takes long.
    slow_call: u64,
    /// A call fails before it does anything, or after it has done it.
    failed_call: u64,
    /// An event reaches a watcher late.
    late_event: u64,
    /// How late, in milliseconds.
    late_max_ms: u64,
    /// A watch ends after an event, politely or with 410.
    broken_watch: u64,
    /// A commit of the store is slow or fails.
    bad_commit: u64,
    /// A connection breaks or falls silent, in thousandths of its writes.
    broken_wire: u64,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Faults {
        let mut prng = Prng::new(seed ^ 0xfa17_5eed);
        let mut percent = |max: u64| if prng.chance(60) { prng.below(max + 1) } else { 0 };
        let weather = Weather {
            slow_call: percent(30),
            failed_call: percent(8),
            late_event: percent(40),
            late_max_ms: [20, 300, 4000][usize::try_from(percent(2)).unwrap_or(0)],
            broken_watch: percent(5),
            bad_commit: percent(15),
            broken_wire: percent(60),
        };
        Faults(Arc::new(Inner {
            on: AtomicBool::new(true),
            unsure: AtomicBool::new(false),
            prng: Mutex::new(prng),
            weather,
        }))
    }

    pub(crate) fn stop(&self) {
        self.0.on.store(false, Ordering::Relaxed);
    }

    pub(crate) fn weather(&self) -> Weather {
        self.0.weather
    }

    /// Whether the disk may hold what was reported as failed; asked once a start.
    pub(crate) fn take_unsure(&self) -> bool {
        self.0.unsure.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn on(&self) -> bool {
        self.0.on.load(Ordering::Relaxed)
    }

    pub(crate) fn chance(&self, percent: u64) -> bool {
        self.on() && self.prng(|prng| prng.chance(percent))
    }

    fn prng<T>(&self, draw: impl FnOnce(&mut Prng) -> T) -> T {
        draw(&mut self.0.prng.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn up_to(&self, max_ms: u64) -> Duration {
        Duration::from_millis(self.prng(|prng| prng.below(max_ms + 1)))
    }

    /// The way to the server, and the way back.
    pub(crate) async fn travel(&self) {
        if self.chance(self.0.weather.slow_call) {
            let max_ms = if self.chance(5) { 15_000 } else { 100 };
            rt::sleep(self.up_to(max_ms)).await;
        }
    }

    /// A call that fails; the caller cannot tell whether it was done.
    pub(crate) fn lost(&self) -> Option<Status> {
        let lost = self.chance(self.0.weather.failed_call);
        lost.then(|| Status::unavailable("simulated: the connection broke"))
    }

    /// How late an event comes.
    pub(crate) fn lateness(&self) -> Option<Duration> {
        let late = self.chance(self.0.weather.late_event);
        late.then(|| self.up_to(self.0.weather.late_max_ms))
    }

    pub(crate) fn broken_watch(&self) -> bool {
        self.chance(self.0.weather.broken_watch)
    }

    pub(crate) fn broken_wire(&self) -> bool {
        self.on() && self.prng(|prng| prng.below(1000) < self.0.weather.broken_wire)
    }

    /// Of a broken connection: whether nobody is told.
    pub(crate) fn silent(&self) -> bool {
        self.chance(30)
    }

    /// Of a broken watch: whether its revision is gone as well.
    pub(crate) fn compacted(&self) -> bool {
        self.chance(40)
    }

    /// Makes a disk share the weather.
    pub(crate) fn spoil(&self, disk: &Disk) {
        let faults = self.clone();
        disk.on_commit(move || {
            if !faults.chance(faults.0.weather.bad_commit) {
                return None;
            }
            Some(match faults.prng(|prng| prng.below(10)) {
                0 => {
                    faults.0.unsure.store(true, Ordering::Relaxed);
                    Fault::FailAfterWriting
                }
                1 | 2 => Fault::Fail,
                _ => Fault::Delay(faults.up_to(300)),
            })
        });
    }
}
