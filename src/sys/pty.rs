//! Pseudo-terminals.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios, Winsize};

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
#[derive(Debug)]
pub struct Settings(Termios);

/// Passes every key on as it is, without echo; gives what to restore. An error says that it is no terminal.
pub fn make_raw(terminal: BorrowedFd<'_>) -> io::Result<Settings> {
    let old = rustix::termios::tcgetattr(terminal)?;
    let mut new = old.clone();
    new.make_raw();
    restore(terminal, &Settings(new))?;
    Ok(Settings(old))
}

pub fn restore(terminal: BorrowedFd<'_>, settings: &Settings) -> io::Result<()> {
    Ok(rustix::termios::tcsetattr(terminal, OptionalActions::Now, &settings.0)?)
}

/// Columns and rows.
pub fn size(terminal: BorrowedFd<'_>) -> io::Result<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(terminal)?;
    Ok((size.ws_col, size.ws_row))
}
