//! File change notification: inotify(7).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// An inotify instance, non-blocking.
#[derive(Debug)]
pub struct Inotify(OwnedFd);

/// Anything that changes what a directory or file holds.
const CHANGES: u32 = libc::IN_CLOSE_WRITE
    | libc::IN_CREATE
    | libc::IN_DELETE
    | libc::IN_MOVED_FROM
    | libc::IN_MOVED_TO
    | libc::IN_ATTRIB
    | libc::IN_DELETE_SELF
    | libc::IN_MOVE_SELF;

impl Inotify {
    pub fn new() -> io::Result<Inotify> {
        // SAFETY: no pointers; the result is checked below.
        let fd = unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor and nobody else has it.
        Ok(Inotify(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Watches a directory or file; watching the same one again is harmless.
    pub fn add(&self, path: &Path) -> io::Result<()> {
        self.add_mask(path, CHANGES)
    }

    /// Watches a directory or file for each write too, not only for the end of writing.
    pub fn add_writes(&self, path: &Path) -> io::Result<()> {
        self.add_mask(path, CHANGES | libc::IN_MODIFY)
    }

    fn add_mask(&self, path: &Path, mask: u32) -> io::Result<()> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: `path` is a C string that lives through the call.
        let watch = unsafe { libc::inotify_add_watch(self.0.as_raw_fd(), path.as_ptr(), mask) };
        if watch < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Takes every pending event off the queue; `WouldBlock` if there is none.
    pub fn drain(&self) -> io::Result<()> {
        let mut buf = [0u8; 4096];
        let mut n_read = 0;
        loop {
            // SAFETY: the pointer and length describe `buf`, which lives through the call.
            let n = unsafe { libc::read(self.0.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) };
            if n < 0 {
                let error = io::Error::last_os_error();
                match error.kind() {
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::WouldBlock if n_read > 0 => return Ok(()),
                    _ => return Err(error),
                }
            }
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
