//! The wall clock's settings: an event when somebody sets it, and how long the machine has run.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

/// Readable when the wall clock was set to another time (timerfd with TFD_TIMER_CANCEL_ON_SET).
#[derive(Debug)]
pub struct ClockWatch(OwnedFd);

impl ClockWatch {
    pub fn new() -> io::Result<ClockWatch> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let watch = ClockWatch(timerfd_create(TimerfdClockId::Realtime, flags)?);
        watch.arm()?;
        Ok(watch)
    }

    /// `Ok` if the clock was set since the last call, `WouldBlock` if not.
    pub fn drain(&self) -> io::Result<()> {
        let mut expirations = [0u8; 8];
        match rustix::io::read(&self.0, &mut expirations) {
            // It expired after all: armed again it would do so at once.
            Ok(_) => Err(io::ErrorKind::WouldBlock.into()),
            Err(Errno::CANCELED) => self.arm(),
            Err(error) => Err(error.into()),
        }
    }

    /// As far ahead as the kernel takes (the year 2200).
    fn arm(&self) -> io::Result<()> {
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let timer =
            Itimerspec { it_interval: never, it_value: Timespec { tv_sec: LAST_SECS, tv_nsec: 0 } };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        timerfd_settime(&self.0, flags, &timer)?;
        Ok(())
    }
}

/// The first second of the year 2200, within what the kernel takes.
const LAST_SECS: i64 = 7_258_118_400;

impl AsFd for ClockWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Time since the machine was started, sleep included.
pub fn uptime() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_set_the_clock() {
        let watch = ClockWatch::new().unwrap();
        assert_eq!(watch.drain().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(uptime() > Duration::ZERO);
    }
}
