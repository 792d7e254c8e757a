//! What only the first process of a machine asks of the kernel: modules, the clock, power off.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::check;

/// Loads a module from an open file; `compressed` if the kernel is to unpack it (Linux 5.17).
///
/// # Errors
/// EEXIST if it is loaded already.
pub fn load_module(file: BorrowedFd<'_>, parameters: &str, compressed: bool) -> io::Result<()> {
    const MODULE_INIT_COMPRESSED_FILE: libc::c_int = 4;
    let parameters = CString::new(parameters)?;
    let flags = if compressed { MODULE_INIT_COMPRESSED_FILE } else { 0 };
    // SAFETY: the string lives through the call.
    check(unsafe {
        libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), parameters.as_ptr(), flags)
    })?;
    Ok(())
}

/// Sets the clock that all processes see, in seconds since 1970.
pub fn set_clock(secs: i64) -> io::Result<()> {
    // SAFETY: all-zero is a valid timespec.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    time.tv_sec = secs as _;
    // SAFETY: the struct lives through the call.
    check(i64::from(unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) }))?;
    Ok(())
}

/// Writes all file systems' changes to their disks.
pub fn sync() {
    // SAFETY: no preconditions.
    unsafe { libc::sync() };
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
        End::PowerOff => libc::RB_POWER_OFF,
        End::Restart => libc::RB_AUTOBOOT,
        End::Halt => libc::RB_HALT_SYSTEM,
    };
    // SAFETY: no pointers.
    unsafe { libc::reboot(command) };
    io::Error::last_os_error()
}

/// Ctrl-Alt-Del becomes a SIGINT to the first process, instead of a restart without notice.
pub fn ctrl_alt_del_is_a_signal() -> io::Result<()> {
    // SAFETY: no pointers.
    check(i64::from(unsafe { libc::reboot(libc::RB_DISABLE_CAD) }))?;
    Ok(())
}

/// `uname -r`.
pub fn release() -> io::Result<String> {
    // SAFETY: all-zero is a valid utsname, written by the call.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: the struct lives through the call.
    check(i64::from(unsafe { libc::uname(&raw mut name) }))?;
    // The C type of characters differs between targets.
    #[allow(clippy::unnecessary_cast)]
    let bytes: Vec<u8> =
        name.release.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0).collect();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_release_is_the_kernels() {
        let file = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert_eq!(super::release().unwrap(), file.trim());
    }
}
