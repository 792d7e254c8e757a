//! Unix sockets that carry descriptors, and pipes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::check;

/// Two connected sockets that keep message borders; closed at exec.
pub fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: the kernel writes two descriptors.
    check(i64::from(unsafe {
        libc::socketpair(
            libc::AF_UNIX,
            libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC,
            0,
            fds.as_mut_ptr(),
        )
    }))?;
    // SAFETY: both are new and owned by nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// A listening stream socket with this name in `directory`, replacing what a dead process left there.
/// The directory must be private: the socket's own mode is only a second fence.
pub fn listen_in(directory: &std::path::Path, name: &str) -> io::Result<OwnedFd> {
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;
    // By way of an open directory: a socket's path may only have 107 bytes.
    let opened = crate::file::open_dir(directory)?;
    let path = crate::file::below(opened.as_fd(), std::path::Path::new(name));
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener.into())
}

/// A pipe: (read end, write end), closed at exec.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: the kernel writes two descriptors.
    check(i64::from(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) }))?;
    // SAFETY: both are new and owned by nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

pub fn set_nonblocking(fd: BorrowedFd<'_>, nonblocking: bool) -> io::Result<()> {
    // SAFETY: reads the flags of a live descriptor.
    let flags = check(i64::from(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) }))?;
    let flags = i32::try_from(flags).unwrap_or(0);
    let flags = if nonblocking { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    // SAFETY: writes the flags of a live descriptor.
    check(i64::from(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags) }))?;
    Ok(())
}

/// Sends one message, with a descriptor or without.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control::default();
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    if let Some(fd) = fd {
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: CMSG_SPACE, CMSG_FIRSTHDR and CMSG_DATA compute places inside `control`, which is
        // aligned and large enough for one descriptor.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(4) as _;
            let header = libc::CMSG_FIRSTHDR(&message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(4) as _;
            libc::CMSG_DATA(header).cast::<libc::c_int>().write_unaligned(fd.as_raw_fd());
        }
    }
    // SAFETY: the message points at buffers that live through the call.
    check(unsafe { libc::sendmsg(socket.as_raw_fd(), &message, libc::MSG_NOSIGNAL) } as i64)?;
    Ok(())
}

/// Receives one message into `buf`; its length (0: the other end is gone) and descriptor.
pub fn receive(socket: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut part = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    let mut control = Control::default();
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control.0) as _;
    // SAFETY: the message points at buffers that live through the call.
    let n =
        check(unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC) }
            as i64)?;
    let mut fd = None;
    // SAFETY: the kernel filled `control` up to msg_controllen; one SCM_RIGHTS descriptor is ours.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        if !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_RIGHTS
        {
            let raw = libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned();
            fd = Some(OwnedFd::from_raw_fd(raw));
        }
    }
    Ok((usize::try_from(n).unwrap_or(0), fd))
}

/// Room for one control message with one descriptor, aligned as a `cmsghdr` must be.
#[derive(Default)]
struct Control([u64; 4]);

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_descriptor_travels_with_its_message() {
        let (a, b) = socket_pair().unwrap();
        let (read, write) = pipe().unwrap();
        send(a.as_fd(), b"here", Some(write.as_fd())).unwrap();
        drop(write);
        let mut buf = [0; 16];
        let (n, fd) = receive(b.as_fd(), &mut buf).unwrap();
        assert_eq!(&buf[..n], b"here");
        std::fs::File::from(fd.unwrap()).write_all(b"x").unwrap();
        let mut text = String::new();
        std::fs::File::from(read).read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
        drop(a);
        assert_eq!(receive(b.as_fd(), &mut buf).unwrap().0, 0);
    }
}
