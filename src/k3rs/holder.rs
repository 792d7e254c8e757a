//! Who holds a lock of ours: found by the open file, never by a name of a process.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use stdx::{Context, Error, Result};

/// How long a server has to end after SIGTERM, before it is killed.
const GRACE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

/// Ends the process that holds the lock file, if one does; its id.
///
/// # Errors
/// If it cannot be found or ended, or another one holds the file at once.
pub(crate) async fn end(lock: &Path) -> Result<Option<u32>> {
    let is_free = || !lock.exists() || rt::fs::lock(lock).is_ok();
    if is_free() {
        return Ok(None);
    }
    let Some(pid) = find(lock) else {
        // It ended meanwhile, or it is in another container.
        return match is_free() {
            true => Ok(None),
            false => Err(Error::new(format!(
                "who holds {} is no process that is seen from here",
                lock.display()
            ))),
        };
    };
    let what = || format!("end process {pid}");
    let process = sys::process::pidfd_open(pid).context(what)?;
    // The number may be another process's by now; what the descriptor leads to stays the same.
    if !holds(pid, lock) {
        return Err(Error::new(format!("who holds {} changes: try again", lock.display())));
    }
    let again = || {
        let lock = lock.display();
        Error::new(format!("{lock} was locked again: stop the service that starts k3rs first"))
    };
    for signal in [sys::process::SIGTERM, sys::process::SIGKILL] {
        sys::process::pidfd_signal(process.as_fd(), signal).context(what)?;
        let until = rt::now().mono + GRACE;
        while rt::now().mono < until {
            if is_free() {
                return Ok(Some(pid));
            }
            if sys::poll::wait_readable(process.as_fd(), Some(LOOK)).unwrap_or(false) {
                return if is_free() { Ok(Some(pid)) } else { Err(again()) };
            }
        }
    }
    Err(again())
}

fn find(lock: &Path) -> Option<u32> {
    let processes = rt::fs::dir_names("/proc").into_iter();
    let mut pids = processes.filter_map(|(name, _)| name.to_str()?.parse::<u32>().ok());
    pids.find(|pid| holds(*pid, lock))
}

/// Whether one of the open files of a process is this one, and locked by it.
fn holds(pid: u32, lock: &Path) -> bool {
    let Ok(file) = rt::fs::metadata(lock) else { return false };
    let process = Path::new("/proc").join(pid.to_string());
    rt::fs::dir_names(process.join("fd")).into_iter().any(|(name, _)| {
        let open = rt::fs::metadata(process.join("fd").join(&name));
        let is_same = open.is_ok_and(|it| (it.dev(), it.ino()) == (file.dev(), file.ino()));
        is_same
            && rt::fs::read_small_text(process.join("fdinfo").join(&name))
                .is_ok_and(|text| text.contains("\nlock:"))
    })
}
