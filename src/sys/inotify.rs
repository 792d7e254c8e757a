//! File change notification: inotify(7).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

/// An inotify instance, non-blocking.
#[derive(Debug)]
pub struct Inotify(OwnedFd);

/// Anything that changes what a directory or file holds.
const CHANGES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

impl Inotify {
    pub fn new() -> io::Result<Inotify> {
        Ok(Inotify(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?))
    }

    /// Watches a directory or file; watching the same one again is harmless.
    pub fn add(&self, path: &Path) -> io::Result<()> {
        self.add_mask(path, CHANGES)
    }

    /// Watches a directory or file for each write too, not only for the end of writing.
    pub fn add_writes(&self, path: &Path) -> io::Result<()> {
        self.add_mask(path, CHANGES | WatchFlags::MODIFY)
    }

    fn add_mask(&self, path: &Path, mask: WatchFlags) -> io::Result<()> {
        inotify::add_watch(&self.0, path, mask)?;
        Ok(())
    }

    /// Takes every pending event off the queue; `WouldBlock` if there is none.
    pub fn drain(&self) -> io::Result<()> {
        let mut buf = [0u8; 4096];
        let mut n_read = 0;
        loop {
            let n = match rustix::io::read(&self.0, &mut buf) {
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) if n_read > 0 => return Ok(()),
                n => n?,
            };
            if n == 0 {
                return Ok(());
            }
            n_read += 1;
        }
    }
}

/// Whether the kernel has no instance, watch or memory left, as opposed to something wrong with the path.
pub fn is_lack(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOSPC | libc::ENOMEM | libc::EAGAIN)
    )
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
