//! Options of TCP sockets that the standard library does not have.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::check;

/// Lets the kernel find out that a silent peer is gone: after `idle_secs` without a packet it probes
/// every `interval_secs`, and gives up after `n_probes`.
pub fn keep_alive(
    socket: impl AsFd,
    idle_secs: u16,
    interval_secs: u16,
    n_probes: u8,
) -> io::Result<()> {
    set(&socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    set(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, libc::c_int::from(idle_secs))?;
    set(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, libc::c_int::from(interval_secs))?;
    set(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, libc::c_int::from(n_probes))
}

fn set(socket: &impl AsFd, level: i32, option: i32, value: libc::c_int) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: the kernel reads `length` bytes, the size of `value`, which outlives the call.
    check(i64::from(unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(&value).cast(),
            length,
        )
    }))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_takes_it_and_a_file_does_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        keep_alive(&listener, 60, 15, 4).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(keep_alive(&file, 60, 15, 4).is_err());
    }
}
