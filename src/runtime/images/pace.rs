//! How slow a registry may be: by the minute, and for a layer as a whole.

use std::time::Duration;

use stdx::Error;
use stdx::time::Mono;

/// In so much time a connection must bring at least so much.
const WINDOW: Duration = Duration::from_secs(60);
pub(super) const WINDOW_MIN_BYTES: u64 = 64 << 10;
/// A layer takes no longer than at this speed, with all attempts, and some time for a small one.
const LAYER_MIN_BYTES_PER_SEC: u64 = 8 << 10;
const LAYER_GRACE: Duration = Duration::from_secs(600);

/// When a layer of this size must be there.
pub(super) fn deadline(size: u64, now: Mono) -> Mono {
    now + LAYER_GRACE + Duration::from_secs(size / LAYER_MIN_BYTES_PER_SEC)
}

/// The speed of one connection.
#[derive(Debug)]
pub(super) struct Pace {
    deadline: Mono,
    window_from: Mono,
    in_window: u64,
}

/// Why it is given up.
#[derive(Debug)]
pub(super) enum TooSlow {
    /// Another connection may be faster.
    Stalled(Error),
    /// The layer has had its time.
    Late(Error),
}

impl Pace {
    pub(super) fn new(deadline: Mono, now: Mono) -> Pace {
        Pace { deadline, window_from: now, in_window: 0 }
    }

    /// So many bytes came.
    pub(super) fn took(&mut self, n_bytes: usize, now: Mono) -> Result<(), TooSlow> {
        self.in_window = self.in_window.saturating_add(n_bytes as u64);
        if now >= self.deadline {
            let text = format!("slower than {LAYER_MIN_BYTES_PER_SEC} bytes a second in all");
            return Err(TooSlow::Late(Error::new(text)));
        }
        let took = now.since(self.window_from);
        if took >= WINDOW {
            let brought = std::mem::take(&mut self.in_window);
            self.window_from = now;
            if brought < WINDOW_MIN_BYTES {
                let text = format!("only {brought} bytes in {} s", took.as_secs());
                return Err(TooSlow::Stalled(Error::new(text)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chunks of so many bytes every so many seconds until it is given up, or for an hour.
    fn run(size: u64, chunk: usize, every_secs: u64) -> String {
        let start = Mono::default();
        let deadline = deadline(size, start);
        let mut pace = Pace::new(deadline, start);
        for secs in (every_secs..7200).step_by(every_secs as usize) {
            match pace.took(chunk, start + Duration::from_secs(secs)) {
                Ok(()) => {}
                Err(TooSlow::Stalled(error)) => return format!("stalled after {secs} s: {error}"),
                Err(TooSlow::Late(error)) => return format!("late after {secs} s: {error}"),
            }
        }
        "goes on".into()
    }

    #[test]
    fn a_trickle_ends() {
        assert_eq!(run(1 << 30, 100, 1), "stalled after 60 s: only 6000 bytes in 60 s");
        assert_eq!(run(1 << 30, 1, 59), "stalled after 118 s: only 2 bytes in 118 s");
        assert_eq!(run(1 << 30, 8 << 10, 1), "goes on");
        let late = "late after 728 s: slower than 8192 bytes a second in all";
        assert_eq!(run(1 << 20, 2 << 10, 1), late);
    }
}
