//! Waiting for descriptors without an async runtime.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

pub use libc::{POLLERR, POLLHUP, POLLIN, POLLOUT};

/// The descriptors to wait for and, afterwards, what happened; reused so that it allocates rarely.
#[derive(Default)]
pub struct PollSet {
    entries: Vec<libc::pollfd>,
}

impl std::fmt::Debug for PollSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PollSet of {}", self.entries.len())
    }
}

impl PollSet {
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Adds a descriptor and returns its place, for `ready`. It must stay open until `wait` returns.
    pub fn add(&mut self, fd: BorrowedFd<'_>, events: i16) -> usize {
        self.entries.push(libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 });
        self.entries.len() - 1
    }

    /// Waits until something is ready or the time is over.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout_ms = match timeout {
            // Rounded up, so that a deadline has passed when it is over.
            Some(timeout) => {
                i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
            }
            None => -1,
        };
        let n_entries = libc::nfds_t::try_from(self.entries.len()).unwrap_or(0);
        // SAFETY: pointer and length describe `entries`.
        let n = unsafe { libc::poll(self.entries.as_mut_ptr(), n_entries, timeout_ms) };
        if n < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
            for entry in &mut self.entries {
                entry.revents = 0;
            }
        }
        Ok(())
    }

    /// What happened at a place: `POLLIN` and so on.
    pub fn ready(&self, place: usize) -> i16 {
        self.entries.get(place).map_or(0, |entry| entry.revents)
    }
}

/// Waits for one descriptor; false when the time is over.
pub fn wait_readable(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<bool> {
    let mut set = PollSet::default();
    let place = set.add(fd, POLLIN);
    set.wait(timeout)?;
    Ok(set.ready(place) != 0)
}
