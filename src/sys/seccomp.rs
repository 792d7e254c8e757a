//! Installing a seccomp filter.

use std::io;

use crate::check;

macro_rules! calls {
    ($($name:ident $number:ident)*) => { &[$((stringify!($name), libc::$number)),*] };
}

/// Some calls by name with their numbers on this target, to hold tables against that were written by
/// hand. On each architecture they come from another part of its table.
pub const CALLS: &[(&str, libc::c_long)] = calls![
    accept4 SYS_accept4 bpf SYS_bpf brk SYS_brk capset SYS_capset clone SYS_clone clone3 SYS_clone3
    close_range SYS_close_range copy_file_range SYS_copy_file_range epoll_pwait SYS_epoll_pwait
    execve SYS_execve execveat SYS_execveat faccessat SYS_faccessat finit_module SYS_finit_module
    fsopen SYS_fsopen futex SYS_futex getdents64 SYS_getdents64 getrandom SYS_getrandom
    ioctl SYS_ioctl keyctl SYS_keyctl memfd_create SYS_memfd_create mount SYS_mount
    mount_setattr SYS_mount_setattr move_mount SYS_move_mount munmap SYS_munmap
    open_tree SYS_open_tree openat SYS_openat openat2 SYS_openat2 personality SYS_personality
    pidfd_open SYS_pidfd_open pidfd_send_signal SYS_pidfd_send_signal pivot_root SYS_pivot_root
    ppoll SYS_ppoll prctl SYS_prctl prlimit64 SYS_prlimit64 ptrace SYS_ptrace read SYS_read
    reboot SYS_reboot recvmsg SYS_recvmsg rt_sigreturn SYS_rt_sigreturn sched_yield SYS_sched_yield
    seccomp SYS_seccomp sendmsg SYS_sendmsg setns SYS_setns socket SYS_socket statx SYS_statx
    unshare SYS_unshare userfaultfd SYS_userfaultfd utimensat SYS_utimensat wait4 SYS_wait4
    write SYS_write
];

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
