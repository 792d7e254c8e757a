//! Pseudo-terminals.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::{check, check_fd};

/// Unlocks the master `ptmx` and opens its other end.
pub fn open_peer(ptmx: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int.
    check(i64::from(unsafe {
        libc::ioctl(ptmx.as_raw_fd(), libc::TIOCSPTLCK as _, std::ptr::from_ref(&unlocked))
    }))?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes flags by value and returns a new descriptor.
    check_fd(libc::c_long::from(unsafe {
        libc::ioctl(ptmx.as_raw_fd(), libc::TIOCGPTPEER as _, flags)
    }))
}

pub fn set_size(terminal: BorrowedFd<'_>, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize.
    check(i64::from(unsafe {
        libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ as _, std::ptr::from_ref(&size))
    }))?;
    Ok(())
}

/// Makes `terminal` the controlling terminal of this session.
pub fn make_controlling(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an int by value.
    check(i64::from(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY as _, 0) }))?;
    Ok(())
}
