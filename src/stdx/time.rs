//! Time as values: brains get a `Now`, only `rt` reads the clocks.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Monotonic time since an arbitrary start, in nanoseconds. For durations and deadlines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

/// Wall-clock time since the Unix epoch, in nanoseconds. For what objects and schedules show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub i64);

/// Both clocks read at one moment, and what the wall clock showed before it was set anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    pub wall: Wall,
    pub mono: Mono,
    pub eras: Eras,
}

/// The settings of the wall clock: a machine without a battery runs in 1970 until somebody tells it the time.
///
/// An era is a span of wall time between two settings. What was stamped in an earlier one is as old
/// as the time that passed since, not as the difference of two unrelated clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eras {
    /// Ended eras, from and to, the oldest first.
    ended: [(Wall, Wall); Eras::ENDED_MAX],
    n_ended: u8,
    /// The first era of all was dropped.
    beheaded: bool,
    /// When the present one began.
    since: Wall,
}

impl Eras {
    /// A smaller correction of the wall clock changes no decision and begins no era.
    pub const STEP_MIN: Duration = Duration::from_secs(10);
    /// Of more than these the shortest are forgotten: little happened in them.
    const ENDED_MAX: usize = 6;

    /// The first era, which began at `since`.
    pub const fn starting(since: Wall) -> Eras {
        Eras { ended: [(Wall(0), Wall(0)); Eras::ENDED_MAX], n_ended: 0, beheaded: false, since }
    }

    /// The clock would show `from` now, and was set to `to`.
    pub fn set(&mut self, from: Wall, to: Wall) {
        if usize::from(self.n_ended) == Eras::ENDED_MAX {
            let length = |idx: &usize| self.ended[*idx].1.since(self.ended[*idx].0);
            let shortest = (0..Eras::ENDED_MAX).min_by_key(length).unwrap_or(0);
            self.beheaded |= shortest == 0;
            self.ended[shortest..].rotate_left(1);
        } else {
            self.n_ended += 1;
        }
        self.ended[usize::from(self.n_ended) - 1] = (self.since, from);
        self.since = to;
    }

    /// As they were written down: of the clock that was last set to `since`.
    pub fn restored(ended: impl IntoIterator<Item = (Wall, Wall)>, since: Wall) -> Eras {
        let mut eras = Eras::default();
        for (from, to) in ended {
            eras.since = from;
            eras.set(to, since);
        }
        eras.since = since;
        eras
    }

    /// When the clock was last set, as it shows time now.
    pub fn since(&self) -> Wall {
        self.since
    }

    /// The ended eras, the oldest first.
    pub fn ended(&self) -> &[(Wall, Wall)] {
        &self.ended[..usize::from(self.n_ended)]
    }
}

impl Default for Eras {
    fn default() -> Eras {
        Eras::starting(Wall(i64::MIN))
    }
}

impl Now {
    /// Where on the present clock's scale the moment lies that was stamped `at` when it was now.
    /// A stamp that no earlier era explains stands as it is.
    pub fn corrected(&self, at: Wall) -> Wall {
        // Stamps are cut to whole seconds.
        let within = |from: Wall, to: Wall| from.secs() <= at.secs() && at <= to;
        if self.eras.n_ended == 0 || within(self.eras.since, self.wall) {
            return at;
        }
        let mut passed = self.wall.since(self.eras.since);
        for (from, to) in self.eras.ended().iter().rev() {
            if within(*from, *to) {
                return self.wall - (passed + to.since(at));
            }
            passed += to.since(*from);
        }
        match self.eras.ended().first() {
            // It lies ahead, but before the first era: stamped by the clock that ended there.
            Some((from, _)) if !self.eras.beheaded && at > self.wall && at < *from => {
                self.wall - (passed + from.since(at))
            }
            _ => at,
        }
    }

    /// How long ago it was stamped `at`; zero if that still lies ahead.
    pub fn age(&self, at: Wall) -> Duration {
        self.wall.since(self.corrected(at))
    }
}

impl Mono {
    /// The time from `earlier` to `self`, zero if `earlier` is later.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;
    fn add(self, rhs: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Mono {
    type Output = Mono;
    fn sub(self, rhs: Duration) -> Mono {
        Mono(self.0.saturating_sub(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Wall {
    pub const fn from_secs(secs: i64) -> Wall {
        Wall(secs.saturating_mul(1_000_000_000))
    }

    pub fn secs(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// The part below a second, in nanoseconds, 0..1_000_000_000.
    pub fn subsec_nanos(self) -> u32 {
        u32::try_from(self.0.rem_euclid(1_000_000_000)).unwrap_or(0)
    }

    /// The time from `earlier` to `self`, zero if `earlier` is later (a clock may jump back).
    pub fn since(self, earlier: Wall) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for Wall {
    type Output = Wall;
    fn add(self, rhs: Duration) -> Wall {
        Wall(self.0.saturating_add(i64::try_from(rhs.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Wall {
    type Output = Wall;
    fn sub(self, rhs: Duration) -> Wall {
        Wall(self.0.saturating_sub(i64::try_from(rhs.as_nanos()).unwrap_or(i64::MAX)))
    }
}

/// Year, month and day of the day `days` after 1970-01-01 (Howard Hinnant, "chrono-compatible low-level
/// date algorithms", civil_from_days).
pub fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

/// The days from 1970-01-01 to a date (ibid., days_from_civil).
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// The days of a month, 1 to 12.
pub fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Wall {
        Wall::from_secs(secs)
    }

    #[test]
    fn stamps_of_earlier_eras_keep_their_age() {
        let mut eras = Eras::starting(at(10));
        let now = |eras: Eras, secs: i64| Now { wall: at(secs), mono: Mono(0), eras };
        assert_eq!(now(eras, 100).age(at(40)).as_secs(), 60);
        // From 1970 to 2001 at second 500, then 100 seconds more.
        eras.set(at(500), at(1_000_000_000));
        for (stamp, age) in [
            (1_000_000_050, 50),
            (400, 200),
            (10, 590),
            // Somebody else's clock was right all the time.
            (999_999_000, 1100),
        ] {
            assert_eq!(now(eras, 1_000_000_100).age(at(stamp)).as_secs(), age, "{stamp}");
        }
        // And an hour back at second 200.
        eras.set(at(1_000_000_200), at(999_996_600));
        for (stamp, age) in [(999_996_650, 50), (1_000_000_150, 150), (450, 350)] {
            assert_eq!(now(eras, 999_996_700).age(at(stamp)).as_secs(), age, "{stamp}");
        }
        // What cannot have happened yet is not old.
        assert_eq!(now(eras, 999_996_700).age(at(2_000_000_000)).as_secs(), 0);
        assert_eq!(Eras::restored(eras.ended().iter().copied(), eras.since()), eras);
        // Set back before anything was known: older stamps lie ahead, and are older all the same.
        let mut eras = Eras::starting(at(5000));
        eras.set(at(6000), at(100));
        assert_eq!(now(eras, 110).age(at(4000)).as_secs(), 2010);
    }

    #[test]
    fn of_many_settings_the_longest_eras_are_kept() {
        let mut eras = Eras::starting(at(0));
        for n in 1..10 {
            eras.set(at(n * 1000 + 10), at((n + 1) * 1000));
        }
        assert_eq!(eras.ended().len(), Eras::ENDED_MAX);
        assert_eq!(eras.since(), at(10_000));
        let now = Now { wall: at(10_005), mono: Mono(0), eras };
        assert_eq!(now.age(at(9_005)).as_secs(), 10);
        // A day at the right time, then a clock that will not settle, then a year back.
        let mut eras = Eras::starting(at(1_000_000));
        eras.set(at(1_086_400), at(5_000));
        for n in 0..20 {
            eras.set(at(5_010 + n), at(5_000 + n));
        }
        eras.set(at(6_000), at(100));
        let now = Now { wall: at(110), mono: Mono(0), eras };
        let age = now.age(at(1_086_000)).as_secs();
        assert!((1_400..1_800).contains(&age), "{age}");
    }
}
