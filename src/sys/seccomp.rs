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

/// The kernel's name for this architecture's calls, `AUDIT_ARCH_*`.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
#[cfg(target_arch = "arm")]
const ARCHITECTURE: u32 = 0x4000_0028;

/// What a process needs that tells somebody that it is ready and then waits for its end.
const IDLE: &[libc::c_long] = &[
    #[cfg(not(target_arch = "aarch64"))]
    libc::SYS_pause,
    libc::SYS_ppoll,
    libc::SYS_sendmsg,
    libc::SYS_close,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigreturn,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// From here on this thread can only wait, send on a socket, close and end; all else is EPERM, whoever makes
/// it call. Needs CAP_SYS_ADMIN or no-new-privileges.
pub fn install_idle() -> io::Result<()> {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const OFFSET_NUMBER: u32 = 0;
    const OFFSET_ARCHITECTURE: u32 = 4;
    const ALLOW: u32 = 0x7fff_0000;
    const ERRNO: u32 = 0x5_0000;
    let mut program = Vec::new();
    let mut add = |code: u16, jt: usize, jf: usize, k: u32| {
        program.extend_from_slice(&code.to_ne_bytes());
        program.extend([jt, jf].map(|skip| u8::try_from(skip).unwrap_or(u8::MAX)));
        program.extend_from_slice(&k.to_ne_bytes());
    };
    let n_calls = IDLE.len();
    add(LOAD_WORD, 0, 0, OFFSET_ARCHITECTURE);
    add(JUMP_EQUAL, 0, n_calls + 1, ARCHITECTURE);
    add(LOAD_WORD, 0, 0, OFFSET_NUMBER);
    for (idx, number) in IDLE.iter().enumerate() {
        // Over the calls that are left and the refusal.
        add(JUMP_EQUAL, n_calls - idx, 0, u32::try_from(*number).unwrap_or(u32::MAX));
    }
    add(RETURN, 0, 0, ERRNO | libc::EPERM.cast_unsigned());
    add(RETURN, 0, 0, ALLOW);
    install(&program)
}

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
