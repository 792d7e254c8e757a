//! The clocks of the machine, and how the wall clock was set while we ran.
//!
//! A setting shows as a change of the difference between the two clocks, so whoever reads them next
//! finds it; the kernel's event only makes sure that somebody reads soon.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use smol::Async;
use stdx::time::{Eras, Mono, Now, Wall};

use crate::{Event, sim};

/// Slewing moves the clocks against each other this much before it is noted.
const DRIFT_NANOS: u64 = 100_000_000;
/// Reads of the two clocks farther apart than this belong to different moments.
const READ_MAX: Duration = Duration::from_millis(20);
const READ_TRIES_MAX: usize = 5;
/// Many settings at once are one.
const REST: Duration = Duration::from_millis(200);

/// Wall minus monotonic time, as last noted.
static OFFSET: AtomicI64 = AtomicI64::new(i64::MIN);
/// Added to the machine's wall clock ([`shift_wall`]).
static SHIFT: AtomicI64 = AtomicI64::new(0);
static ERAS: RwLock<Option<Eras>> = RwLock::new(None);
static N_SETTINGS: AtomicU64 = AtomicU64::new(0);
static WAS_SET: Event = Event::new();

/// Both clocks.
pub fn now() -> Now {
    sim::now().unwrap_or_else(machine)
}

fn machine() -> Now {
    let (wall, mono) = read();
    let offset = wall.0.saturating_sub(nanos(mono));
    let known = OFFSET.load(Ordering::Acquire);
    if known != i64::MIN && offset.abs_diff(known) < DRIFT_NANOS {
        let eras = *ERAS.read().unwrap_or_else(PoisonError::into_inner);
        return Now { wall, mono, eras: eras.unwrap_or_default() };
    }
    // Read again inside the lock: two threads that saw the same change must not count it twice.
    let mut slot = ERAS.write().unwrap_or_else(PoisonError::into_inner);
    let (wall, mono) = read();
    let offset = wall.0.saturating_sub(nanos(mono));
    let known = OFFSET.swap(offset, Ordering::AcqRel);
    let eras = slot.get_or_insert_with(|| Eras::starting(boot(wall)));
    if known != i64::MIN && offset.abs_diff(known) >= nanos_of(Eras::STEP_MIN) {
        let expected = Wall(nanos(mono).saturating_add(known));
        eras.set(expected, wall);
        N_SETTINGS.fetch_add(1, Ordering::AcqRel);
        WAS_SET.notify(usize::MAX);
    }
    Now { wall, mono, eras: *eras }
}

/// When the machine was started, as its wall clock shows it now.
fn boot(wall: Wall) -> Wall {
    wall - sys::clock::uptime()
}

/// One moment of both clocks.
fn read() -> (Wall, Mono) {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    let mut tries = 1;
    loop {
        let before = start.elapsed();
        let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
        };
        if start.elapsed().saturating_sub(before) < READ_MAX || tries == READ_TRIES_MAX {
            let wall = Wall(wall.saturating_add(SHIFT.load(Ordering::Relaxed)));
            // One second is added so that no deadline near the start can be mistaken for zero.
            return (wall, Mono(0) + before + Duration::from_secs(1));
        }
        tries += 1;
    }
}

fn nanos(mono: Mono) -> i64 {
    i64::try_from(mono.0).unwrap_or(i64::MAX)
}

fn nanos_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// For tests of the whole program: this process takes the machine's wall clock to be wrong by so much.
pub fn shift_wall(nanos: i64) {
    SHIFT.store(nanos, Ordering::Relaxed);
    machine();
}

/// Goes on from the eras of a former process, which ran until `last_known` or a little longer.
/// A clock that shows less than when it was last set was reset with the machine.
pub fn resume_eras(mut eras: Eras, last_known: Wall) {
    machine();
    let mut slot = ERAS.write().unwrap_or_else(PoisonError::into_inner);
    let (wall, _) = read();
    if wall < eras.since() {
        eras.set(last_known.max(eras.since()), boot(wall));
    }
    *slot = Some(eras);
}

/// Tells of settings of the wall clock, none missed.
#[derive(Debug)]
pub struct ClockSettings {
    n_known: u64,
}

impl ClockSettings {
    /// Those from now on.
    pub fn new() -> ClockSettings {
        ClockSettings { n_known: n_settings() }
    }

    /// Completes when the wall clock was set to another time since `new`, or the last answer.
    pub async fn next(&mut self) {
        loop {
            let listener = sim::clock_listener().unwrap_or_else(|| WAS_SET.listen());
            let n_settings = n_settings();
            if n_settings != self.n_known {
                self.n_known = n_settings;
                return;
            }
            listener.await;
        }
    }
}

impl Default for ClockSettings {
    fn default() -> ClockSettings {
        ClockSettings::new()
    }
}

fn n_settings() -> u64 {
    sim::n_clock_settings().unwrap_or_else(|| N_SETTINGS.load(Ordering::Acquire))
}

/// Looks at the clocks whenever the kernel says that the wall clock was set. Runs for ever.
pub async fn follow_clock() {
    now();
    let watch = sys::clock::ClockWatch::new().and_then(Async::new_nonblocking);
    let watch = match watch {
        Ok(watch) => watch,
        Err(error) => return log::warn!("watch the wall clock: {error}; settings are seen late"),
    };
    loop {
        if let Err(error) = watch.read_with(sys::clock::ClockWatch::drain).await {
            return log::warn!("watch the wall clock: {error}; settings are seen late");
        }
        now();
        crate::sleep(REST).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_begins_an_era_and_wakes() {
        let before = now();
        let mut settings = ClockSettings::new();
        let mut waiting = Box::pin(settings.next());
        let quiet = crate::future::poll_once(&mut waiting);
        assert_eq!(crate::block_on(quiet), None);
        // Less than a step is none.
        shift_wall(3_000_000_000);
        assert_eq!(now().eras.ended().len(), before.eras.ended().len());
        shift_wall(86_400_000_000_000);
        let after = now();
        assert_eq!(after.eras.ended().len(), before.eras.ended().len() + 1);
        assert!(after.age(before.wall) < Duration::from_secs(60), "{:?}", after.age(before.wall));
        assert!(after.wall.since(before.wall) > Duration::from_secs(86_000));
        crate::block_on(waiting);
        shift_wall(0);
        assert!(now().age(after.wall) < Duration::from_secs(60));
        assert!(now().age(before.wall) < Duration::from_secs(60));
    }
}
