//! Ballast: a file that is thrown off when the disk is full, so that what frees it can be written:
//! deletions, and the node's condition that tells of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use stdx::Result;
use stdx::time::Mono;

/// Enough for some hundred small writes.
const BALLAST_BYTES: usize = 512 << 10;
/// It is taken aboard only where the disk has this much for others.
const ROOM_MIN_BYTES: u64 = 4 << 20;
/// The first commits of a process have other things to wait for.
const COMMITS_FIRST: u32 = 16;
/// After it was thrown off, room for it is looked for this often.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The ballast of one datastore, in a file beside it.
#[derive(Debug)]
pub(crate) struct Ballast {
    path: PathBuf,
    aboard: bool,
    n_commits: u32,
    look_at: Mono,
}

impl Ballast {
    pub(crate) fn new(datastore: &Path) -> Ballast {
        let path = datastore.with_extension("ballast");
        let aboard = path.metadata().is_ok();
        Ballast { path, aboard, n_commits: 0, look_at: Mono(0) }
    }

    /// After a commit: whether it is time to take ballast.
    pub(crate) fn is_due(&mut self, now: Mono) -> bool {
        self.n_commits = self.n_commits.saturating_add(1);
        let due = !self.aboard && self.n_commits >= COMMITS_FIRST && now >= self.look_at;
        if due {
            self.look_at = now + LOOK_EVERY;
        }
        due
    }

    /// Takes ballast if there is room for it. Blocking; a failure is no harm.
    pub(crate) fn take(&mut self) {
        self.aboard = self.try_take().unwrap_or_else(|error| {
            log::debug!("take ballast: {error}");
            let _ = rt::fs::remove_file(&self.path);
            false
        });
    }

    fn try_take(&self) -> Result<bool> {
        if self.path.metadata().is_ok_and(|found| found.len() == BALLAST_BYTES as u64) {
            return Ok(true);
        }
        let dir = self.path.parent().unwrap_or(Path::new("."));
        if rt::fs::available_bytes(dir)? < ROOM_MIN_BYTES {
            return Ok(false);
        }
        rt::fs::write_atomic(&self.path, &vec![0; BALLAST_BYTES], 0o600).map(|()| true)
    }

    /// Throws it off; true if that made room.
    pub(crate) fn drop_off(&mut self, now: Mono) -> bool {
        if !std::mem::take(&mut self.aboard) {
            return false;
        }
        self.look_at = now + LOOK_EVERY;
        log::warn!(
            "The disk of {} is full: {} KiB kept back for this are used now",
            self.path.display(),
            BALLAST_BYTES >> 10
        );
        rt::fs::remove_file(&self.path).is_ok()
    }
}
