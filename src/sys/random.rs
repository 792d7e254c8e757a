//! Random bytes from the kernel.

/// Fills `buf` with random bytes from getrandom(2), waiting for the pool at first boot.
///
/// # Panics
/// If the kernel has no getrandom (before 3.17), which nothing else here runs on either.
pub fn fill(buf: &mut [u8]) {
    let mut n_filled = 0;
    while n_filled < buf.len() {
        let rest = &mut buf[n_filled..];
        // SAFETY: the pointer and length describe `rest`, which lives through the call.
        let n = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(n) {
            Ok(n) => n_filled += n,
            Err(_) => {
                let error = std::io::Error::last_os_error();
                assert!(error.kind() == std::io::ErrorKind::Interrupted, "getrandom: {error}");
            }
        }
    }
}
