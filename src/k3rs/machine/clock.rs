//! The clock as certificates need it, and what a process leaves of it to the next.

use std::path::PathBuf;
use std::time::SystemTime;

use cluster::Paths;
use cluster::pki::Clock;
use stdx::time::{Eras, Wall};

/// When this program was built; no clock that shows less is right.
pub(crate) fn built() -> Wall {
    Wall::from_secs(env!("K3RS_BUILT_SECS").parse().unwrap_or(0))
}

/// The time as certificates need it.
pub(crate) fn clock() -> Clock {
    Clock { now: rt::now().wall, built: built() }
}

/// Where the settings of the clock are kept for the next process, which meets the same stamps.
pub(crate) fn eras_file(paths: &Paths) -> PathBuf {
    paths.server().join("clock")
}

/// Goes on from what a former process knew of the clock; what cannot be read is not known.
pub(crate) fn resume_clock(paths: &Paths) {
    let text = rt::fs::read_text(eras_file(paths)).unwrap_or_default();
    let Some(eras) = parse_eras(&text) else { return };
    let written = paths.datastore().with_extension("db-wal").metadata().and_then(|m| m.modified());
    let since_epoch = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).ok();
    let last_known = written.ok().and_then(since_epoch).unwrap_or_default();
    rt::resume_eras(eras, Wall(0) + last_known);
}

/// One era a line, from and to in nanoseconds since 1970; the present one has no end.
pub(crate) fn format_eras(eras: &Eras) -> String {
    let ended = eras.ended().iter().map(|(from, to)| format!("{} {}\n", from.0, to.0));
    ended.chain([format!("{}\n", eras.since().0)]).collect()
}

fn parse_eras(text: &str) -> Option<Eras> {
    let mut ended = Vec::new();
    for line in text.lines() {
        let mut times = line.split(' ').map(|time| time.parse().map(Wall));
        match (times.next()?.ok()?, times.next()) {
            (from, Some(to)) => ended.push((from, to.ok()?)),
            (since, None) => return Some(Eras::restored(ended, since)),
        }
    }
    None
}

/// A test's hand on the clock: `K3RS_CLOCK_SHIFT_FILE` names a file with the number of seconds by
/// which this process takes the machine's wall clock to be wrong. It is read again when it changes.
/// The wall clock has no namespace, and a test must not set that of the whole machine.
#[derive(Debug)]
pub(crate) struct ClockShift(PathBuf);

impl ClockShift {
    pub(crate) fn from_env() -> Option<ClockShift> {
        let shift = ClockShift(std::env::var_os("K3RS_CLOCK_SHIFT_FILE")?.into());
        shift.apply();
        Some(shift)
    }

    fn apply(&self) {
        let text = rt::fs::read_text(&self.0).unwrap_or_default();
        let secs: i64 = text.trim().parse().unwrap_or(0);
        rt::shift_wall(secs.saturating_mul(1_000_000_000));
    }

    pub(crate) async fn follow(self) {
        let watch = rt::FileWatch::new();
        if let Err(error) = watch.add(&self.0) {
            return log::error!("follow the clock shift: {error}");
        }
        while watch.changed().await.is_ok() {
            self.apply();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eras_are_written_down() {
        let mut eras = Eras::starting(Wall(5));
        eras.set(Wall(100), Wall(1_800_000_000_000_000_000));
        assert_eq!(parse_eras(&format_eras(&eras)), Some(eras));
        for bad in ["", "1 2\n", "x\n", "1 y\n3\n"] {
            assert_eq!(parse_eras(bad), None, "{bad:?}");
        }
    }
}
