//! Making, watching and ending processes: clone, exec, pidfds, signals, namespaces and identity.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::fs::{MemfdFlags, Mode, SealFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use crate::{check, check_fd};

pub use libc::{
    CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER,
    CLONE_NEWUTS, SIGCHLD, SIGHUP, SIGINT, SIGKILL, SIGPIPE, SIGPWR, SIGTERM, SIGUSR1, SIGUSR2,
};

/// What `clone` returns, once in each process.
#[derive(Debug)]
pub enum Cloned {
    Parent { pid: i32, pidfd: OwnedFd },
    Child,
}

/// Forks with new namespaces (`CLONE_NEW*`). The child is reported by SIGCHLD.
///
/// Call it in single-threaded processes only (the shim): in the child of a threaded process, locks
/// held by other threads (the allocator's) would stay locked for ever.
pub fn clone(namespaces: i32) -> io::Result<Cloned> {
    clone_into(namespaces, None)
}

/// As `clone`, with the child in a cgroup of v2 from its first moment (Linux 5.7). Moving it there later
/// takes tens of milliseconds, because the kernel waits for all CPUs.
pub fn clone_into(namespaces: i32, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: libc::c_int = -1;
    // SAFETY: all-zero is a valid value of this struct of integers.
    let mut args: CloneArgs = unsafe { std::mem::zeroed() };
    args.flags = u64::from(namespaces.cast_unsigned()) | libc::CLONE_PIDFD as u64;
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: without CLONE_VM and with no stack given, this is fork: the child has its own copy of
    // memory and returns here. `args` and `pidfd` outlive the call.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone3, std::ptr::from_ref(&args), size_of::<CloneArgs>())
    })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: on success the kernel stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent { pid: i32::try_from(pid).unwrap_or(-1), pidfd })
}

/// Forks a sibling: a child of our own parent, without new namespaces but in the PID namespace that
/// `enter_namespace` chose for children. Its number in our own PID namespace; none in the sibling.
/// Only for single-threaded processes, as `clone`.
pub fn fork_sibling() -> io::Result<Option<i32>> {
    let flags = libc::c_long::from(libc::CLONE_PARENT | SIGCHLD);
    // SAFETY: without CLONE_VM and with no stack given, this is fork; all pointers are null.
    let forked = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) });
    let pid = match forked {
        // A seccomp filter may know only the younger call.
        Err(_) => {
            // SAFETY: all-zero is a valid value of this struct of integers.
            let mut args: CloneArgs = unsafe { std::mem::zeroed() };
            args.flags = u64::from(libc::CLONE_PARENT.cast_unsigned());
            // SAFETY: as above; `args` outlives the call.
            check(unsafe {
                libc::syscall(libc::SYS_clone3, std::ptr::from_ref(&args), size_of::<CloneArgs>())
            })?
        }
        Ok(pid) => pid,
    };
    Ok((pid != 0).then(|| i32::try_from(pid).unwrap_or(-1)))
}

/// Leaves the session keyring that we inherited for a new, empty one that only its possessors may use.
pub fn new_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    const KEYCTL_SETPERM: libc::c_long = 5;
    const POSSESSOR_ALL: libc::c_long = 0x3f00_0000;
    let unnamed = std::ptr::null::<libc::c_char>();
    // SAFETY: a null name asks for a keyring without one.
    let joined =
        check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, unnamed) });
    let keyring = match joined {
        // A kernel without keys has none to inherit.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => return Ok(()),
        keyring => keyring?,
    };
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, keyring, POSSESSOR_ALL) })?;
    Ok(())
}

/// Closes the standard streams of a process that will use none.
pub fn close_standard_streams() {
    for number in 0..3 {
        // SAFETY: no Rust value owns them, and by contract nobody uses them in this process after this.
        unsafe { libc::close(number) };
    }
}

/// The kernel's `struct clone_args`, which the libc crate lacks for musl. Same layout on every architecture.
#[repr(C, align(8))]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Replaces the program. Returns only on failure.
pub fn exec(program: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|item| item.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(args), pointers(env));
    // SAFETY: both arrays are null-terminated and point at strings that live through the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends the process at once, without running exit handlers (for a forked child).
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Code(i32),
    Signal(i32),
}

/// Reaps one ended child of this process, whichever; `None` if none has ended.
/// For the shim only: elsewhere it would steal other code's children.
pub fn reap_any() -> io::Result<Option<(i32, Ended)>> {
    wait(libc::P_ALL, 0)
}

/// Reaps the child behind `pidfd` if it has ended.
pub fn reap_pidfd(pidfd: BorrowedFd<'_>) -> io::Result<Option<Ended>> {
    let id = pidfd.as_raw_fd().cast_unsigned();
    Ok(wait(libc::P_PIDFD, id)?.map(|(_, ended)| ended))
}

fn wait(id_type: libc::idtype_t, id: u32) -> io::Result<Option<(i32, Ended)>> {
    // SAFETY: all-zero is a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: `info` is valid for writing.
        let result =
            check(unsafe { libc::waitid(id_type, id, &mut info, libc::WEXITED | libc::WNOHANG) });
        match result {
            Ok(_) => break,
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    // SAFETY: waitid succeeded, so the SIGCHLD fields of the union are the valid ones.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let ended = match info.si_code {
        libc::CLD_EXITED => Ended::Code(status),
        _ => Ended::Signal(status),
    };
    Ok(Some((pid, ended)))
}

/// A handle that names exactly this process, ours or not, even after its pid is reused.
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo means the same as kill(2).
    check(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0)
    })?;
    Ok(())
}

pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(i64::from(unsafe { libc::kill(pid, signal) }))?;
    Ok(())
}

/// This process's id.
pub fn id() -> i32 {
    Pid::as_raw(Some(rustix::process::getpid()))
}

/// Whether this process has children, ended or not.
pub fn has_children() -> bool {
    // SAFETY: all-zero is a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is valid for writing.
    unsafe { libc::waitid(libc::P_ALL, 0, &mut info, flags) == 0 }
}

/// Makes `path` the root directory of this process, and its working directory.
pub fn enter_root(path: &CStr) -> io::Result<()> {
    rustix::process::chroot(path)?;
    Ok(rustix::process::chdir(c"/")?)
}

pub fn change_directory(path: impl AsRef<std::path::Path>) -> io::Result<()> {
    std::env::set_current_dir(path)
}

/// Where a process works, if we may know.
pub fn working_directory(pid: u32) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// Leaves namespaces for new ones.
pub fn unshare(namespaces: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(i64::from(unsafe { libc::unshare(namespaces) }))?;
    Ok(())
}

/// Enters the namespace behind `fd`; `kind` is the `CLONE_NEW*` it must be.
pub fn enter_namespace(fd: BorrowedFd<'_>, kind: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(i64::from(unsafe { libc::setns(fd.as_raw_fd(), kind) }))?;
    Ok(())
}

pub fn set_hostname(name: &str) -> io::Result<()> {
    Ok(rustix::system::sethostname(name.as_bytes())?)
}

pub fn new_session() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

fn prctl(option: libc::c_int, a: usize, b: usize) -> io::Result<()> {
    // SAFETY: only options without pointer arguments are passed by the callers in this file;
    // PR_SET_NAME's pointer is to a live string.
    check(i64::from(unsafe { libc::prctl(option, a, b, 0usize, 0usize) }))?;
    Ok(())
}

/// Orphans of our descendants become our children.
pub fn become_subreaper() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0)
}

/// Our name in `ps`, at most 15 bytes.
pub fn set_name(name: &CStr) -> io::Result<()> {
    prctl(libc::PR_SET_NAME, name.as_ptr() as usize, 0)
}

/// SIGKILL to us when our parent thread ends.
pub fn die_with_parent() -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, SIGKILL as usize, 0)
}

pub fn set_no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)
}

/// Whether other processes of the same user may trace us or read our memory.
pub fn set_dumpable(dumpable: bool) -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, usize::from(dumpable), 0)
}

/// Keeps permitted capabilities over the change from root to another user.
pub fn set_keep_capabilities(keep: bool) -> io::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, usize::from(keep), 0)
}

pub fn drop_bounding(capability: u32) -> io::Result<()> {
    prctl(libc::PR_CAPBSET_DROP, capability as usize, 0)
}

pub fn clear_ambient() -> io::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as usize, 0)
}

pub fn raise_ambient(capability: u32) -> io::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as usize, capability as usize)
}

/// What `capset` and `capget` are told of whom is asked.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// One half of the three sets; version 3 has two.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityHalf {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// This thread, in version 3 (`linux/capability.h`).
const OWN_CAPABILITIES: CapabilityHeader = CapabilityHeader { version: 0x2008_0522, pid: 0 };

/// Sets the three capability sets of this thread, as bit masks.
pub fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    let half = |shift: u32| CapabilityHalf {
        effective: (effective >> shift & 0xffff_ffff) as u32,
        permitted: (permitted >> shift & 0xffff_ffff) as u32,
        inheritable: (inheritable >> shift & 0xffff_ffff) as u32,
    };
    let (header, data) = (OWN_CAPABILITIES, [half(0), half(32)]);
    // SAFETY: version 3 reads one header and two data structs, which live through the call.
    check(unsafe { libc::syscall(libc::SYS_capset, std::ptr::from_ref(&header), data.as_ptr()) })?;
    Ok(())
}

/// The permitted capabilities of this thread, as a bit mask. Asked of the kernel, not read from `/proc`, which
/// does not know a process that is not in its PID namespace.
///
/// # Errors
/// The kernel's.
pub fn permitted_capabilities() -> io::Result<u64> {
    let mut header = OWN_CAPABILITIES;
    let mut data = [CapabilityHalf::default(); 2];
    let (header, halves) = (std::ptr::from_mut(&mut header), data.as_mut_ptr());
    // SAFETY: version 3 writes one header and two data structs, which live through the call.
    check(unsafe { libc::syscall(libc::SYS_capget, header, halves) })?;
    Ok(u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32)
}

/// Becomes user `uid`, group `gid` with `groups` (real, effective and saved).
pub fn set_identity(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // The raw system calls: libc's wrappers signal all threads, and there is only one.
    // SAFETY: pointer and length describe `groups`.
    check(unsafe { libc::syscall(SYS_SETGROUPS, groups.len(), groups.as_ptr()) })?;
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(SYS_SETRESGID, gid, gid, gid) })?;
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(SYS_SETRESUID, uid, uid, uid) })?;
    Ok(())
}

// 32-bit ARM's plain numbers take 16-bit ids.
#[cfg(target_arch = "arm")]
const SYS_SETGROUPS: libc::c_long = libc::SYS_setgroups32;
#[cfg(target_arch = "arm")]
const SYS_SETRESGID: libc::c_long = libc::SYS_setresgid32;
#[cfg(target_arch = "arm")]
const SYS_SETRESUID: libc::c_long = libc::SYS_setresuid32;
#[cfg(not(target_arch = "arm"))]
const SYS_SETGROUPS: libc::c_long = libc::SYS_setgroups;
#[cfg(not(target_arch = "arm"))]
const SYS_SETRESGID: libc::c_long = libc::SYS_setresgid;
#[cfg(not(target_arch = "arm"))]
const SYS_SETRESUID: libc::c_long = libc::SYS_setresuid;

pub fn effective_gid() -> u32 {
    rustix::process::getegid().as_raw()
}

pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Sets the file mode mask and returns the old one.
pub fn set_umask(mask: u32) -> u32 {
    rustix::process::umask(Mode::from_raw_mode(mask)).as_raw_mode()
}

/// Sets a limit by its `RLIMIT_*` number; `u64::MAX` is infinity.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    let none = std::ptr::null_mut::<libc::rlimit64>();
    // SAFETY: the kernel reads one rlimit64, and writes nothing to the null old limit.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, std::ptr::from_ref(&limit), none)
    })?;
    Ok(())
}

/// The soft and hard limit, by its `RLIMIT_*` number.
pub fn rlimit(resource: u32) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let none = std::ptr::null::<libc::rlimit64>();
    // SAFETY: the kernel writes one rlimit64.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, none, std::ptr::from_mut(&mut limit))
    })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// The `RLIMIT_*` number of a name, with or without the prefix, any case.
pub fn rlimit_number(name: &str) -> Option<u32> {
    const NAMES: [&str; 16] = [
        "CPU",
        "FSIZE",
        "DATA",
        "STACK",
        "CORE",
        "RSS",
        "NPROC",
        "NOFILE",
        "MEMLOCK",
        "AS",
        "LOCKS",
        "SIGPENDING",
        "MSGQUEUE",
        "NICE",
        "RTPRIO",
        "RTTIME",
    ];
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("RLIMIT_").unwrap_or(&name);
    NAMES.iter().position(|known| *known == name).and_then(|at| u32::try_from(at).ok())
}

/// The number of a signal name, with or without `SIG`, or of a decimal number.
pub fn signal_number(name: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(at) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(at + 1).ok();
    }
    let real_time = |rest: &str, base: i32| match rest {
        "" => Some(base),
        rest => rest.parse::<i32>().ok().map(|offset| base + offset),
    };
    let number = match name.strip_prefix("RTMIN") {
        Some(rest) => real_time(rest, 34),
        None => name.strip_prefix("RTMAX").and_then(|rest| real_time(rest, 64)),
    };
    number.filter(|number| (34..=64).contains(number))
}

/// Blocks all signals and returns a descriptor that becomes readable for the given ones.
pub fn signal_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: the sets are plain memory, initialised by sigemptyset/sigfillset before use.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        check(i64::from(libc::sigprocmask(libc::SIG_SETMASK, &all, std::ptr::null_mut())))?;
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        check_fd(libc::c_long::from(libc::signalfd(
            -1,
            &set,
            libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
        )))
    }
}

/// Takes what is pending on a signal descriptor; returns the signal numbers.
pub fn read_signals(fd: BorrowedFd<'_>) -> Vec<i32> {
    let mut signals = Vec::new();
    loop {
        // SAFETY: all-zero is a valid value, and the read is bounded by its size.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        // SAFETY: pointer and length describe `info`.
        let n = unsafe {
            libc::read(fd.as_raw_fd(), std::ptr::from_mut(&mut info).cast(), size_of_val(&info))
        };
        if n <= 0 {
            return signals;
        }
        signals.push(info.ssi_signo.cast_signed());
    }
}

/// Unblocks all signals and sets all handlers to their defaults, before an exec.
pub fn reset_signals() {
    // SAFETY: default dispositions and an empty mask are always valid.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Lets the kernel reap our children; their exit codes are lost.
pub fn ignore_children() {
    // SAFETY: SIG_IGN is a valid disposition.
    unsafe { libc::signal(SIGCHLD, libc::SIG_IGN) };
}

/// Sleeps until a signal arrives (for an init that only reaps).
pub fn wait_for_signal() {
    // SAFETY: no preconditions.
    unsafe { libc::pause() };
}

/// Marks all descriptors from `first` on as closing at exec.
pub fn close_from_at_exec(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: no pointers; no descriptor is closed before an exec.
    let result = check(unsafe {
        libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC)
    });
    let Err(error) = result else { return Ok(()) };
    if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) {
        return Err(error);
    }
    // Before Linux 5.11.
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_string_lossy().parse::<i32>().unwrap_or(0);
        if number >= first.cast_signed() {
            // SAFETY: setting a flag on a descriptor number; a closed one only gives EBADF.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Closes a descriptor that a forked child inherited but that its parent goes on using.
///
/// In this process, the value that owns it must never be used or dropped again.
pub fn close_inherited(fd: BorrowedFd<'_>) {
    // SAFETY: by contract nobody uses the descriptor in this process after this.
    unsafe { libc::close(fd.as_raw_fd()) };
}

/// Closes every descriptor from 3 on but the given ones.
///
/// For a forked child that will only exec or exit: descriptors that Rust values of the parent own are
/// closed under them, so those values must never be used or dropped in this process again.
pub fn close_all_but(keep: &[BorrowedFd<'_>]) {
    let mut keep: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    keep.sort_unstable();
    let mut first = 3;
    for fd in keep.into_iter().chain([u32::MAX]) {
        if first < fd {
            let last = if fd == u32::MAX { fd } else { fd - 1 };
            // SAFETY: by contract nobody uses the descriptors that are closed.
            let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
            if closed != 0 {
                // Before Linux 5.9.
                let (_, open_max) = rlimit(7).unwrap_or((1024, 1024));
                for number in first..=last.min(u32::try_from(open_max).unwrap_or(1 << 20)) {
                    // SAFETY: as above.
                    unsafe { libc::close(number.cast_signed()) };
                }
            }
        }
        first = fd.saturating_add(1);
    }
}

/// Makes `fd` available as descriptor `number` (0, 1, 2), not closing at exec.
pub fn duplicate_as(fd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    if fd.as_raw_fd() == number {
        // SAFETY: clears the close-on-exec flag of a live descriptor.
        check(i64::from(unsafe { libc::fcntl(number, libc::F_SETFD, 0) }))?;
        return Ok(());
    }
    // SAFETY: `number` is one of the standard descriptors, which no Rust value owns.
    check(i64::from(unsafe { libc::dup2(fd.as_raw_fd(), number) }))?;
    Ok(())
}

/// The descriptor this process inherited under `number`.
///
/// # Errors
/// If it is not open.
pub fn inherited_fd(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: only asks for flags.
    check(i64::from(unsafe { libc::fcntl(number, libc::F_GETFD) }))?;
    // SAFETY: it is open, and by contract the process was started with it for us to own.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: sets a flag on a live descriptor.
    check(i64::from(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }))?;
    Ok(fd)
}

/// A child that shall outlive us: own session, only the given descriptor (as number 3) inherited.
#[derive(Debug)]
pub struct Daemon {
    pub pid: u32,
    pub pidfd: OwnedFd,
}

/// A program that whoever runs it cannot change by way of `/proc/<pid>/exe`: a read-only clone of its
/// mount, which shares its pages; before Linux 5.12 a sealed copy in memory.
pub(crate) fn unchangeable_program(program: &OsStr) -> io::Result<OwnedFd> {
    let path = std::path::Path::new(program);
    crate::mount::read_only_clone(path).or_else(|_| sealed_copy(path))
}

fn sealed_copy(path: &std::path::Path) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(rustix::fs::memfd_create(c"k3rs", flags)?);
    io::copy(&mut File::open(path)?, &mut copy)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    Ok(copy.into())
}

/// Starts `program` detached from our terminal and session, in `directory`, with `fd` as its
/// descriptor 3, `log` as its stdout and stderr, and `path` as all of its environment. What it runs
/// is an `unchangeable_program`, because it will be forked into containers.
///
/// Safe in threaded processes: nothing allocates between fork and exec.
pub fn spawn_daemon(
    program: &OsStr,
    args: &[impl AsRef<OsStr>],
    directory: &std::path::Path,
    fd: &impl AsFd,
    path: &OsStr,
    log: File,
) -> io::Result<Daemon> {
    let fd = fd.as_fd().as_raw_fd();
    let image = unchangeable_program(program)?;
    // Above the number that `fd` gets.
    let image = rustix::io::fcntl_dupfd_cloexec(&image, 10)?;
    let mut command = Command::new(crate::file::descriptor_path(image.as_fd()));
    command
        .arg0(program)
        .args(args)
        .current_dir(directory)
        .env_clear()
        .env("PATH", path)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    // SAFETY: the closure makes only async-signal-safe system calls.
    unsafe {
        command.pre_exec(move || {
            check(i64::from(libc::setsid()))?;
            if fd == 3 {
                check(i64::from(libc::fcntl(3, libc::F_SETFD, 0)))?;
            } else {
                check(i64::from(libc::dup2(fd, 3)))?;
            }
            Ok(())
        });
    }
    // The handle is dropped without waiting: the pidfd is how its end is learned and reaped.
    let child = command.spawn()?;
    let pidfd = pidfd_open(child.id())?;
    Ok(Daemon { pid: child.id(), pidfd })
}

/// Where the standard streams of a program lead.
#[derive(Debug)]
pub struct Streams {
    /// `None`: there is nothing to read.
    pub input: Option<OwnedFd>,
    pub output: OwnedFd,
    /// `None`: with the output.
    pub errors: Option<OwnedFd>,
}

/// Starts `program` in a session of its own, with `env` as its whole environment. It is killed when the thread that
/// calls this ends, so that nothing is left where this process is killed.
///
/// # Errors
/// If it cannot be started.
pub fn spawn_dependent(
    program: &OsStr,
    args: &[impl AsRef<OsStr>],
    env: &[(String, String)],
    streams: Streams,
) -> io::Result<Daemon> {
    let Streams { input, output, errors } = streams;
    let errors = errors.map_or_else(|| output.try_clone(), Ok)?;
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .envs(env.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(input.map_or_else(Stdio::null, Stdio::from))
        .stdout(output)
        .stderr(errors);
    let us = id();
    // SAFETY: the closure makes only async-signal-safe system calls.
    unsafe {
        command.pre_exec(move || {
            check(i64::from(libc::setsid()))?;
            die_with_parent()?;
            // We may have ended before that call.
            match libc::getppid() == us {
                true => Ok(()),
                false => Err(io::Error::from_raw_os_error(libc::ESRCH)),
            }
        });
    }
    // The handle is dropped without waiting: the pidfd is how its end is learned and reaped.
    let child = command.spawn()?;
    let pidfd = pidfd_open(child.id())?;
    Ok(Daemon { pid: child.id(), pidfd })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_signals_and_limits() {
        let signals = [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("RTMIN+3", Some(37)),
            ("SIGRTMAX-1", Some(63)),
            ("SIGNONE", None),
            ("0", None),
            ("65", None),
        ];
        for (name, number) in signals {
            assert_eq!(signal_number(name), number, "{name}");
        }
        assert_eq!(rlimit_number("RLIMIT_NOFILE"), Some(7));
        assert_eq!(rlimit_number("core"), Some(4));
        assert_eq!(rlimit_number("x"), None);
    }

    #[test]
    fn a_child_is_born_in_its_cgroup() {
        let hierarchies = crate::cgroup::Hierarchies::detect().unwrap();
        let path = format!("/k3rs-test-clone-{}", std::process::id());
        let Some(directory) = hierarchies.unified_directory(&path).filter(|_| effective_uid() == 0)
        else {
            eprintln!("skipped: not root, or no cgroup v2");
            return;
        };
        std::fs::create_dir(&directory).unwrap();
        let cgroup = crate::file::open_dir(&directory).unwrap();
        let (read, write) = crate::unix::pipe().unwrap();
        // The child only makes system calls: this test has threads.
        match clone_into(0, Some(cgroup.as_fd())).unwrap() {
            Cloned::Child => {
                wait_for_end(read.as_fd(), write.as_fd());
                exit_now(0);
            }
            Cloned::Parent { pid, pidfd } => {
                let inside = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap();
                assert_eq!(inside.trim(), pid.to_string());
                drop((read, write));
                crate::poll::wait_readable(pidfd.as_fd(), None).unwrap();
                assert_eq!(reap_pidfd(pidfd.as_fd()).unwrap(), Some(Ended::Code(0)));
                std::fs::remove_dir(&directory).unwrap();
            }
        }
    }

    /// Waits until the other side's write end is closed.
    fn wait_for_end(read: BorrowedFd<'_>, write: BorrowedFd<'_>) {
        close_inherited(write);
        let mut byte = [0u8; 1];
        // SAFETY: pointer and length describe `byte`.
        unsafe { libc::read(read.as_raw_fd(), byte.as_mut_ptr().cast(), 1) };
    }

    #[test]
    fn a_daemon_is_reaped_by_its_pidfd() {
        let log = File::options().write(true).open("/dev/null").unwrap();
        let null = File::open("/dev/null").unwrap();
        let daemon = spawn_daemon(
            OsStr::new("/bin/sh"),
            &["-c", "exit 7"],
            std::path::Path::new("/"),
            &null,
            OsStr::new("/bin"),
            log,
        )
        .unwrap();
        crate::poll::wait_readable(daemon.pidfd.as_fd(), Some(std::time::Duration::from_secs(5)))
            .unwrap();
        assert_eq!(reap_pidfd(daemon.pidfd.as_fd()).unwrap(), Some(Ended::Code(7)));
    }

    #[test]
    fn what_depends_on_us_has_our_environment_only_and_is_reaped() {
        let (read, write) = crate::unix::pipe().unwrap();
        let env = [("A".to_owned(), "b".to_owned())];
        let args = ["-c", "echo $A$HOME; exit 3"];
        let started = spawn_dependent(
            OsStr::new("/bin/sh"),
            &args,
            &env,
            Streams { input: None, output: write, errors: None },
        )
        .unwrap();
        let mut text = String::new();
        io::Read::read_to_string(&mut File::from(read), &mut text).unwrap();
        assert_eq!(text, "b\n");
        crate::poll::wait_readable(started.pidfd.as_fd(), Some(std::time::Duration::from_secs(60)))
            .unwrap();
        assert_eq!(reap_pidfd(started.pidfd.as_fd()).unwrap(), Some(Ended::Code(3)));
    }
}
