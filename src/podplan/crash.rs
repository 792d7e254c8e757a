//! How long a crashed container waits: 10 s, doubled at each crash up to 5 min, forgotten after 10 min of peace.

use std::time::Duration;

use stdx::time::{Now, Wall};

const FIRST: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_secs(300);

/// The back-off of one container, upstream's `flowcontrol.Backoff` entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrashBackoff {
    delay: Duration,
    updated: Option<Wall>,
}

impl CrashBackoff {
    /// What is left to wait after an exit at `finished`, `None` if it may start now.
    pub fn wait(&self, finished: Wall, now: Now) -> Option<Duration> {
        let updated = self.updated?;
        if now.corrected(finished).since(now.corrected(updated)) > MAX * 2 {
            return None;
        }
        let passed = now.age(finished);
        (passed < self.delay).then(|| self.delay - passed)
    }

    /// The container starts again after an exit at `finished`: the next wait is longer.
    pub fn restarted(&mut self, finished: Wall, now: Now) {
        let since = |updated| now.corrected(finished).since(now.corrected(updated));
        let expired = self.updated.is_none_or(|updated| since(updated) > MAX * 2);
        self.delay = if expired { FIRST } else { (self.delay * 2).min(MAX) };
        self.updated = Some(now.wall);
    }

    pub fn delay(&self) -> Duration {
        self.delay
    }
}

/// A duration as Go prints whole seconds: `10s`, `1m20s`, `5m0s`.
pub(crate) fn go_seconds(duration: Duration) -> String {
    let secs = duration.as_secs();
    match (secs / 60, secs % 60) {
        (0, secs) => format!("{secs}s"),
        (minutes, secs) => format!("{minutes}m{secs}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crashes_wait_longer_and_peace_resets() {
        let mut backoff = CrashBackoff::default();
        let mut now = Now { wall: Wall::from_secs(1000), ..Now::default() };
        let mut waits = Vec::new();
        for _ in 0..8 {
            let finished = now.wall;
            let wait = backoff.wait(finished, now).unwrap_or_default();
            waits.push(wait.as_secs());
            now.wall = now.wall + wait;
            backoff.restarted(finished, now);
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        // A clock that is set changes no wait.
        let finished = now.wall;
        now.eras.set(now.wall, Wall::from_secs(1_800_000_000));
        now.wall = Wall::from_secs(1_800_000_001);
        assert_eq!(backoff.wait(finished, now), Some(Duration::from_secs(299)));
        now.wall = now.wall + Duration::from_secs(600);
        assert_eq!(backoff.wait(now.wall, now), None);
        backoff.restarted(now.wall, now);
        assert_eq!(backoff.delay(), FIRST);
    }

    #[test]
    fn go_prints_minutes() {
        let texts = [10, 80, 300].map(|secs| go_seconds(Duration::from_secs(secs)));
        assert_eq!(texts, ["10s", "1m20s", "5m0s"]);
    }
}
