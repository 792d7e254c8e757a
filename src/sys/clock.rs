//! The wall clock's settings: an event when somebody sets it, and how long the machine has run.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Readable when the wall clock was set to another time (timerfd with TFD_TIMER_CANCEL_ON_SET).
#[derive(Debug)]
pub struct ClockWatch(OwnedFd);

impl ClockWatch {
    pub fn new() -> io::Result<ClockWatch> {
        let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
        // SAFETY: no pointers.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_REALTIME, flags) };
        let watch = ClockWatch(crate::check_fd(fd.into())?);
        watch.arm()?;
        Ok(watch)
    }

    /// `Ok` if the clock was set since the last call, `WouldBlock` if not.
    pub fn drain(&self) -> io::Result<()> {
        let mut expirations = [0u8; 8];
        // SAFETY: pointer and length describe `expirations`, which lives through the call.
        let n = unsafe {
            libc::read(self.0.as_raw_fd(), expirations.as_mut_ptr().cast(), expirations.len())
        };
        if n >= 0 {
            // It expired after all, where `time_t` ends in 2038: armed again it would do so at once.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ECANCELED) => self.arm(),
            error => Err(error),
        }
    }

    /// As far ahead as `time_t` goes, within what the kernel takes (the year 2200).
    fn arm(&self) -> io::Result<()> {
        // SAFETY: a plain struct of integers, for which zero is a value.
        let mut timer: libc::itimerspec = unsafe { std::mem::zeroed() };
        timer.it_value.tv_sec =
            libc::time_t::try_from(7_258_118_400_i64).unwrap_or(libc::time_t::MAX);
        let flags = libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET;
        // SAFETY: `timer` lives through the call; no old value is asked for.
        let result = unsafe {
            libc::timerfd_settime(self.0.as_raw_fd(), flags, &raw const timer, std::ptr::null_mut())
        };
        crate::check(result).map(drop)
    }
}

impl AsFd for ClockWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Time since the machine was started, sleep included.
pub fn uptime() -> io::Result<Duration> {
    // SAFETY: a plain struct of integers, for which zero is a value.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: `time` is written during the call only.
    crate::check(unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) })?;
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Ok(Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_set_the_clock() {
        let watch = ClockWatch::new().unwrap();
        assert_eq!(watch.drain().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(uptime().unwrap() > Duration::ZERO);
    }
}
