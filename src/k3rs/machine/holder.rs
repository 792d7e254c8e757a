//! Who holds a lock of ours: found by the open file, never by a name of a process.

use std::os::fd::{AsFd, OwnedFd};
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
    let until = rt::now().mono + GRACE;
    loop {
        if is_free(lock) {
            return Ok(None);
        }
        // Who is found may have ended by now, or be about to: the next look tells.
        if let Some(pid) = find(lock)
            && let Ok(process) = sys::process::pidfd_open(pid)
            && holds(pid, lock)
        {
            // The number may become another process's; what the descriptor leads to stays the same.
            return end_process(pid, &process, lock).map(Some);
        }
        if rt::now().mono >= until {
            return Err(Error::new(format!(
                "who holds {} is no process that is seen from here",
                lock.display()
            )));
        }
        rt::sleep(LOOK).await;
    }
}

fn is_free(lock: &Path) -> bool {
    !lock.exists() || rt::fs::lock(lock).is_ok()
}

fn end_process(pid: u32, process: &OwnedFd, lock: &Path) -> Result<u32> {
    for signal in [sys::process::SIGTERM, sys::process::SIGKILL] {
        // One that is over already needs none.
        let _ = sys::process::pidfd_signal(process.as_fd(), signal);
        let ended = sys::poll::wait_readable(process.as_fd(), Some(GRACE));
        if ended.context(|| format!("wait for the end of process {pid}"))? {
            return match is_free(lock) {
                true => Ok(pid),
                false => Err(Error::new(format!(
                    "{} was locked again: stop the service that starts k3rs first",
                    lock.display()
                ))),
            };
        }
    }
    Err(Error::new(format!("process {pid} does not end")))
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
