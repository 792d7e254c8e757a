//! Random bytes from the kernel.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// Fills `buf` with random bytes from getrandom(2), waiting for the pool at first boot.
///
/// # Panics
/// If the kernel has no getrandom (before 3.17), which nothing else here runs on either.
pub fn fill(buf: &mut [u8]) {
    let mut n_filled = 0;
    while n_filled < buf.len() {
        let rest = &mut buf[n_filled..];
        match getrandom(rest, GetRandomFlags::empty()) {
            Ok(n) => n_filled += n,
            Err(error) => assert!(error == Errno::INTR, "getrandom: {error}"),
        }
    }
}
