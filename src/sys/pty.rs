//! Pseudo-terminals.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

/// Unlocks the master `ptmx` and opens its other end.
pub fn open_peer(ptmx: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    rustix::pty::unlockpt(ptmx)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    Ok(rustix::pty::ioctl_tiocgptpeer(ptmx, flags)?)
}

pub fn set_size(terminal: BorrowedFd<'_>, columns: u16, rows: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// Makes `terminal` the controlling terminal of this session.
pub fn make_controlling(terminal: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::process::ioctl_tiocsctty(terminal)?)
}

/// How a terminal was before it was made raw.
#[allow(missing_debug_implementations)] // the library's has none
pub struct Settings(libc::termios);

/// Passes every key on as it is, without echo; gives what to restore. An error says that it is no terminal.
pub fn make_raw(terminal: BorrowedFd<'_>) -> io::Result<Settings> {
    // SAFETY: all-zero is a valid termios.
    let mut old: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: `old` lives through the call.
    check(i64::from(unsafe { libc::tcgetattr(terminal.as_raw_fd(), &raw mut old) }))?;
    let mut new = old;
    // SAFETY: changes fields of `new` alone.
    unsafe { libc::cfmakeraw(&raw mut new) };
    restore(terminal, &Settings(new))?;
    Ok(Settings(old))
}

pub fn restore(terminal: BorrowedFd<'_>, settings: &Settings) -> io::Result<()> {
    // SAFETY: the settings live through the call.
    check(i64::from(unsafe {
        libc::tcsetattr(terminal.as_raw_fd(), libc::TCSANOW, &raw const settings.0)
    }))?;
    Ok(())
}

/// Columns and rows.
pub fn size(terminal: BorrowedFd<'_>) -> io::Result<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize.
    check(i64::from(unsafe {
        libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ as _, &raw mut size)
    }))?;
    Ok((size.ws_col, size.ws_row))
}
