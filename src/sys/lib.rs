//! The only room with `unsafe`: system calls as safe functions, one subject a file.

pub mod cgroup;
pub mod clock;
pub mod device_filter;
pub mod dhcp_socket;
pub mod edges;
pub mod file;
pub mod host;
pub mod inotify;
pub mod kernel;
pub mod lacks;
pub mod make;
pub mod memory;
pub mod mount;
pub mod netlink;
pub mod netns;
pub mod poll;
pub mod process;
pub mod pty;
pub mod random;
pub mod rooted;
pub mod seccomp;
pub mod space;
pub mod tcp;
pub mod tree;
pub mod unix;

/// The kernel's "minus one and errno" as a `Result`.
fn check(result: impl Into<i64>) -> std::io::Result<i64> {
    match result.into() {
        -1 => Err(std::io::Error::last_os_error()),
        value => Ok(value),
    }
}

/// A new descriptor from a system call's result.
fn check_fd(result: libc::c_long) -> std::io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    let number = check(result)?;
    // SAFETY: callers pass the result of a call that returns a new descriptor owned by nobody else.
    Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(i32::try_from(number).unwrap_or(-1)) })
}

/// A path as a C string.
fn path_text(path: &std::path::Path) -> std::io::Result<std::ffi::CString> {
    use std::os::unix::ffi::OsStrExt;
    Ok(std::ffi::CString::new(path.as_os_str().as_bytes())?)
}
