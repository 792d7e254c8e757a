//! Installing a seccomp filter.

use std::io;

use crate::check;

/// Applies a compiled classic BPF program (8 bytes an instruction, native byte order) to this thread
/// and what it starts. Needs CAP_SYS_ADMIN or no-new-privileges.
pub fn install(program: &[u8]) -> io::Result<()> {
    const SET_MODE_FILTER: libc::c_uint = 1;
    let n_instructions = program.len() / size_of::<libc::sock_filter>();
    let Ok(len) = u16::try_from(n_instructions) else {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    };
    let mut filter: Vec<libc::sock_filter> = program
        .chunks_exact(size_of::<libc::sock_filter>())
        .map(|raw| libc::sock_filter {
            code: u16::from_ne_bytes([raw[0], raw[1]]),
            jt: raw[2],
            jf: raw[3],
            k: u32::from_ne_bytes([raw[4], raw[5], raw[6], raw[7]]),
        })
        .collect();
    let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel reads `len` instructions from `filter`, which lives through the call.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, 0, std::ptr::from_ref(&program))
    })?;
    Ok(())
}
