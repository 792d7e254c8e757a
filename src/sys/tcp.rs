//! Options of TCP sockets that the standard library does not have.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;

/// Lets the kernel find out that a silent peer is gone: after `idle_secs` without a packet it probes
/// every `interval_secs`, and gives up after `n_probes`.
pub fn keep_alive(
    socket: impl AsFd,
    idle_secs: u16,
    interval_secs: u16,
    n_probes: u8,
) -> io::Result<()> {
    let secs = |secs: u16| Duration::from_secs(u64::from(secs));
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, secs(idle_secs))?;
    sockopt::set_tcp_keepintvl(&socket, secs(interval_secs))?;
    Ok(sockopt::set_tcp_keepcnt(&socket, u32::from(n_probes))?)
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
