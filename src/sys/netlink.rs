//! Netlink sockets: opened in the caller's network namespace, which they keep for life.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Which part of the kernel a socket talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Route,
    Netfilter,
    /// Parts of the kernel that have no number of their own.
    Generic,
    /// Devices that come and go; their events are text, in group 1.
    Uevent,
}

/// One netlink socket.
#[derive(Debug)]
pub struct Netlink(OwnedFd);

impl Netlink {
    /// A socket for requests: receiving waits, but no longer than `timeout`.
    pub fn open(family: Family, timeout: Duration) -> io::Result<Netlink> {
        let socket = Netlink::raw(family, 0, 0)?;
        let time = libc::timeval {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_usec: 0,
        };
        socket.set(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &time)?;
        Ok(socket)
    }

    /// A non-blocking socket for events of the groups in the mask `groups`.
    pub fn subscribe(family: Family, groups: u32) -> io::Result<Netlink> {
        let socket = Netlink::raw(family, groups, libc::SOCK_NONBLOCK)?;
        // Bursts of events must not be lost; without the privilege the default stays.
        const EVENTS_MAX_BYTES: libc::c_int = 1 << 20;
        let _ = socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &EVENTS_MAX_BYTES);
        Ok(socket)
    }

    /// Joins a multicast group by its number.
    pub fn join(&self, group: u32) -> io::Result<()> {
        self.set(libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, &group)
    }

    pub fn leave(&self, group: u32) -> io::Result<()> {
        self.set(libc::SOL_NETLINK, libc::NETLINK_DROP_MEMBERSHIP, &group)
    }

    /// The address that the kernel gave this socket; events name their causer by it.
    pub fn port(&self) -> io::Result<u32> {
        // SAFETY: sockaddr_nl is plain data for which all zeroes is a value.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        let mut len = socklen::<libc::sockaddr_nl>();
        // SAFETY: `address` and `len` are live and `len` is the true size.
        let result = unsafe {
            libc::getsockname(self.0.as_raw_fd(), (&raw mut address).cast(), &raw mut len)
        };
        check(result)?;
        Ok(address.nl_pid)
    }

    /// Sends `messages` in one piece.
    pub fn send(&self, messages: &[u8]) -> io::Result<()> {
        const DEFAULT_SEND_BYTES: usize = 128 << 10;
        if messages.len() > DEFAULT_SEND_BYTES {
            let size = libc::c_int::try_from(messages.len() * 2).unwrap_or(libc::c_int::MAX);
            self.set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &size)?;
        }
        // SAFETY: the pointer and length are of a live slice; a netlink send without address goes to the kernel.
        let sent =
            unsafe { libc::send(self.0.as_raw_fd(), messages.as_ptr().cast(), messages.len(), 0) };
        if usize::try_from(sent).is_ok() { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Receives one datagram (one or more messages) into `buf`, which is made to fit it, and given
    /// back when there is none: most sockets wait for longer than they read.
    pub fn receive(&self, buf: &mut Vec<u8>) -> io::Result<()> {
        const RECEIVE_BYTES: usize = 32 << 10;
        buf.resize(RECEIVE_BYTES, 0);
        // SAFETY: the pointer and length are of a live, writable slice.
        let n = unsafe {
            libc::recv(self.0.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), libc::MSG_TRUNC)
        };
        let Ok(n) = usize::try_from(n) else {
            let error = io::Error::last_os_error();
            *buf = Vec::new();
            return Err(error);
        };
        if n > buf.len() {
            buf.clear();
            return Err(io::Error::other(format!("netlink datagram of {n} bytes was cut off")));
        }
        buf.truncate(n);
        Ok(())
    }

    /// Throws away what was received and not read, without waiting.
    pub fn drain(&self) {
        let mut byte = [0u8; 1];
        loop {
            // SAFETY: the pointer and length are of a live, writable array.
            let n = unsafe {
                libc::recv(
                    self.0.as_raw_fd(),
                    byte.as_mut_ptr().cast(),
                    byte.len(),
                    libc::MSG_DONTWAIT,
                )
            };
            if n < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return;
            }
        }
    }

    fn raw(family: Family, groups: u32, flags: libc::c_int) -> io::Result<Netlink> {
        let protocol = match family {
            Family::Route => libc::NETLINK_ROUTE,
            Family::Netfilter => libc::NETLINK_NETFILTER,
            Family::Generic => libc::NETLINK_GENERIC,
            Family::Uevent => libc::NETLINK_KOBJECT_UEVENT,
        };
        // SAFETY: no pointers.
        let fd = unsafe {
            libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC | flags, protocol)
        };
        check(fd)?;
        // SAFETY: `fd` was just made and nobody else owns it.
        let socket = Netlink(unsafe { OwnedFd::from_raw_fd(fd) });
        // SAFETY: sockaddr_nl is plain data for which all zeroes is a value.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = u16::try_from(libc::AF_NETLINK).unwrap_or_default();
        address.nl_groups = groups;
        // SAFETY: `address` is live and its true size is given.
        let result =
            unsafe { libc::bind(fd, (&raw const address).cast(), socklen::<libc::sockaddr_nl>()) };
        check(result)?;
        // Old kernels know neither: the texts of errors are then shorter.
        let _ = socket.set(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, &1i32);
        let _ = socket.set(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, &1i32);
        Ok(socket)
    }

    fn set<T>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        // SAFETY: `value` is live and its true size is given.
        let result = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                level,
                option,
                std::ptr::from_ref(value).cast(),
                socklen::<T>(),
            )
        };
        check(result)
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn socklen<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
