//! The UDP socket of a DHCP client: bound to one interface, usable before it has an address.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::{check, check_fd};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// Non-blocking; sees only what its interface receives.
#[derive(Debug)]
pub struct DhcpSocket(UdpSocket);

impl DhcpSocket {
    pub fn open(interface: &str) -> io::Result<DhcpSocket> {
        let flags = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers.
        let fd: OwnedFd =
            check_fd(libc::c_long::from(unsafe { libc::socket(libc::AF_INET, flags, 0) }))?;
        let on: libc::c_int = 1;
        for option in [libc::SO_REUSEADDR, libc::SO_BROADCAST] {
            // SAFETY: the kernel reads one int.
            check(i64::from(unsafe {
                libc::setsockopt(
                    fd.as_raw_fd(),
                    libc::SOL_SOCKET,
                    option,
                    (&raw const on).cast(),
                    size_of::<libc::c_int>() as libc::socklen_t,
                )
            }))?;
        }
        // SAFETY: pointer and length describe the name.
        check(i64::from(unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_BINDTODEVICE,
                interface.as_ptr().cast(),
                interface.len() as libc::socklen_t,
            )
        }))?;
        // SAFETY: all-zero is a valid sockaddr_in: any address.
        let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        address.sin_port = CLIENT_PORT.to_be();
        // SAFETY: the address lives through the call, with its size given.
        check(i64::from(unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_in>() as libc::socklen_t,
            )
        }))?;
        Ok(DhcpSocket(UdpSocket::from(fd)))
    }

    pub fn send(&self, message: &[u8], to: Ipv4Addr) -> io::Result<()> {
        self.0.send_to(message, SocketAddrV4::new(to, SERVER_PORT)).map(drop)
    }

    /// One message; `None` if none waits. What does not fit `buf` is cut off.
    pub fn receive(&self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        match self.0.recv_from(buf) {
            Ok((n, _)) => Ok(Some(n)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for DhcpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
