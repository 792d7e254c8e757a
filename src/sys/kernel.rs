//! What only the first process of a machine asks of the kernel: modules, the clock, power off.

use std::ffi::CString;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::system::{RebootCommand, reboot};
use rustix::time::{ClockId, Timespec};

/// Loads a module from an open file; `compressed` if the kernel is to unpack it (Linux 5.17).
///
/// # Errors
/// EEXIST if it is loaded already.
pub fn load_module(file: BorrowedFd<'_>, parameters: &str, compressed: bool) -> io::Result<()> {
    const MODULE_INIT_COMPRESSED_FILE: libc::c_int = 4;
    let parameters = CString::new(parameters)?;
    let flags = if compressed { MODULE_INIT_COMPRESSED_FILE } else { 0 };
    Ok(rustix::system::finit_module(file, &parameters, flags)?)
}

/// Sets the clock that all processes see, in seconds since 1970.
pub fn set_clock(secs: i64) -> io::Result<()> {
    Ok(rustix::time::clock_settime(ClockId::Realtime, Timespec { tv_sec: secs, tv_nsec: 0 })?)
}

/// Writes all file systems' changes to their disks.
pub fn sync() {
    rustix::fs::sync();
}

/// How a machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    PowerOff,
    Restart,
    Halt,
}

/// Ends the machine at once: nothing is stopped or synced by this call. Returns only on failure.
pub fn end(how: End) -> io::Error {
    let command = match how {
        End::PowerOff => RebootCommand::PowerOff,
        End::Restart => RebootCommand::Restart,
        End::Halt => RebootCommand::Halt,
    };
    match reboot(command) {
        Ok(()) => io::Error::other("the kernel did not end the machine"),
        Err(error) => error.into(),
    }
}

/// Ctrl-Alt-Del becomes a SIGINT to the first process, instead of a restart without notice.
pub fn ctrl_alt_del_is_a_signal() -> io::Result<()> {
    Ok(reboot(RebootCommand::CadOff)?)
}

/// `uname -r`.
pub fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_release_is_the_kernels() {
        let file = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert_eq!(super::release(), file.trim());
    }
}
