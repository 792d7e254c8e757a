//! What the containers of a pod share: network, IPC, UTS and PID namespaces, `/dev/shm`, sysctls.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use stdx::{Context, Error, Result};
use sys::mount::{self, MNT_DETACH, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_REC};
use sys::process::{self, Cloned};
use wire::shim as plan;

/// Handles on the namespaces that this process does not live in itself.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// A mount namespace with nothing but the pod's shared memory as its root; none with host IPC.
    pub(crate) shm: Option<OwnedFd>,
    /// The pod's PID namespace and its init; none unless processes are shared.
    pub(crate) pid: Option<PidNamespace>,
}

#[derive(Debug)]
pub(crate) struct PidNamespace {
    pub(crate) namespace: OwnedFd,
    /// A mount namespace with nothing but the pod's `/proc` as its root. Only a process in a PID
    /// namespace can mount its proc, and containers are made outside of it.
    pub(crate) proc: OwnedFd,
    pub(crate) init_pid: i32,
}

impl Sandbox {
    /// Moves this process into the pod's namespaces and makes the rest.
    pub(crate) fn set_up(plan: &plan::Sandbox) -> Result<Sandbox> {
        if plan.version != plan::VERSION {
            return Err(Error::new(format!(
                "the plan has version {}, this shim speaks {}",
                plan.version,
                plan::VERSION
            )));
        }
        let mut new = 0;
        if !plan.host_network {
            if plan.netns.is_empty() {
                new |= process::CLONE_NEWNET;
            } else {
                let namespace = File::open(&plan.netns)
                    .context(|| format!("open network namespace {}", plan.netns))?;
                process::enter_namespace(namespace.as_fd(), process::CLONE_NEWNET)
                    .context(|| format!("enter network namespace {}", plan.netns))?;
            }
        }
        if !plan.host_ipc {
            new |= process::CLONE_NEWIPC;
        }
        if !plan.hostname.is_empty() {
            new |= process::CLONE_NEWUTS;
        }
        process::unshare(new).context(|| "make namespaces")?;
        if !plan.host_network {
            // The pod's interface comes later, and has what is set for those to come. Where the kernel's settings are
            // for reading only, the node has said so for its own.
            let _ = ["all", "default"].map(sys::netns::distrust);
        }
        if !plan.hostname.is_empty() {
            process::set_hostname(&plan.hostname)
                .context(|| format!("set host name {}", plan.hostname))?;
        }
        for (path, value) in &plan.sysctls {
            write_sysctl(path, value)?;
        }
        let shm = match plan.host_ipc {
            true => None,
            false => Some(make_shm(plan.shm_size_bytes).context(|| "make shared memory")?),
        };
        let pid = match plan.shared_pid {
            true => Some(make_pid_namespace().context(|| "make the pod's PID namespace")?),
            false => None,
        };
        Ok(Sandbox { shm, pid })
    }
}

pub(crate) fn open_namespace(path: &str) -> Result<OwnedFd> {
    File::open(path).map(OwnedFd::from).context(|| format!("open {path}"))
}

/// Only names below `/proc/sys`, whatever the plan says.
fn write_sysctl(path: &str, value: &str) -> Result<()> {
    if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(Error::new(format!("sysctl name {path:?} is not valid")));
    }
    std::fs::write(Path::new("/proc/sys").join(path), value)
        .context(|| format!("set sysctl {} to {value:?}", path.replace('/', ".")))
}

/// A mount namespace of its own keeps the shared memory off the host's mount table, so that nothing
/// is left behind when this process and its containers are gone.
fn make_shm(size_bytes: u64) -> Result<OwnedFd> {
    // The child tells when the namespace is ready, and lives until we hold it.
    let (ours, theirs) = sys::unix::socket_pair().context(|| "make a socket pair")?;
    match process::clone(process::CLONE_NEWNS).context(|| "fork")? {
        Cloned::Child => {
            drop(ours);
            let text = match fill_shm_namespace(size_bytes) {
                Ok(()) => String::new(),
                Err(error) => error.to_string(),
            };
            let _ = sys::unix::send(theirs.as_fd(), format!("={text}").as_bytes(), None);
            let mut end = [0; 1];
            let _ = sys::unix::receive(theirs.as_fd(), &mut end);
            process::exit_now(0);
        }
        Cloned::Parent { pid, pidfd } => {
            drop(theirs);
            let mut buf = [0; 512];
            let answer = sys::unix::receive(ours.as_fd(), &mut buf);
            let (n, _) = answer.context(|| "wait for the mount")?;
            if n != 1 {
                return Err(Error::new(String::from_utf8_lossy(
                    buf[..n].get(1..).unwrap_or(b"child died"),
                )));
            }
            let namespace = open_namespace(&format!("/proc/{pid}/ns/mnt"));
            drop(ours);
            wait_for_end(pidfd.as_fd());
            namespace
        }
    }
}

fn fill_shm_namespace(size_bytes: u64) -> io::Result<()> {
    let size_bytes = if size_bytes == 0 { SHM_DEFAULT_BYTES } else { size_bytes };
    let flags = MS_NODEV | MS_NOEXEC | MS_NOSUID;
    mount::mount("", "/", "", MS_REC | MS_PRIVATE, "")?;
    // /proc exists wherever we run; what it covers here is only seen in this namespace.
    mount::mount("shm", "/proc", "tmpfs", flags, &format!("mode=1777,size={size_bytes}"))?;
    move_root_to("/proc")
}

/// Leaves nothing in this mount namespace but the mount at `place`, as the root.
fn move_root_to(place: &str) -> io::Result<()> {
    std::env::set_current_dir(place)?;
    if mount::pivot_root(".", ".").is_err() {
        // The root is an initramfs: keep it below the tmpfs.
        return mount::mount(".", "/", "", mount::MS_MOVE, "")
            .and_then(|()| std::os::unix::fs::chroot("."));
    }
    mount::unmount(".", MNT_DETACH)?;
    std::env::set_current_dir("/")
}

const SHM_DEFAULT_BYTES: u64 = 64 << 20;

/// The pod's init: nothing but a reaper, sharing all memory that it does not touch with the shim. All
/// containers of the pod see it, so it has nothing: no files, no descriptors, no capabilities.
fn make_pid_namespace() -> Result<PidNamespace> {
    let (ours, theirs) = sys::unix::socket_pair().context(|| "make a socket pair")?;
    match process::clone(process::CLONE_NEWPID | process::CLONE_NEWNS).context(|| "fork")? {
        Cloned::Child => {
            drop(ours);
            let _ = process::set_name(c"pause");
            process::close_all_but(&[theirs.as_fd()]);
            if let Err(error) = become_init(&theirs) {
                let _ = sys::unix::send(theirs.as_fd(), format!("={error}").as_bytes(), None);
                process::exit_now(1);
            }
            let _ = sys::unix::send(theirs.as_fd(), b"=", None);
            process::close_inherited(theirs.as_fd());
            loop {
                process::wait_for_signal();
            }
        }
        Cloned::Parent { pid, pidfd: _ } => {
            drop(theirs);
            let hear = || -> Result<()> {
                let mut buf = [0; 512];
                let (n, _) =
                    sys::unix::receive(ours.as_fd(), &mut buf).context(|| "wait for the init")?;
                match n {
                    1 => Ok(()),
                    _ => Err(Error::new(String::from_utf8_lossy(
                        buf[..n].get(1..).unwrap_or(b"child died"),
                    ))),
                }
            };
            hear()?;
            let namespace = open_namespace(&format!("/proc/{pid}/ns/pid"))?;
            let proc = open_namespace(&format!("/proc/{pid}/ns/mnt"))?;
            sys::unix::send(ours.as_fd(), b"G", None).context(|| "let the init go on")?;
            hear()?;
            Ok(PidNamespace { namespace, proc, init_pid: pid })
        }
    }
}

/// First the mount namespace that `proc` is taken from, then, when the shim has it, what stays.
fn become_init(socket: &OwnedFd) -> Result<()> {
    let quiet = MS_NODEV | MS_NOEXEC | MS_NOSUID;
    process::set_dumpable(false).context(|| "make the init unreadable")?;
    process::new_keyring().context(|| "make a session keyring")?;
    process::new_session().context(|| "start a session")?;
    mount::mount("", "/", "", MS_REC | MS_PRIVATE, "")
        .context(|| "detach mounts from the host's")?;
    mount::mount("proc", "/proc", "proc", quiet, "").context(|| "mount the pod's proc")?;
    move_root_to("/proc").context(|| "leave the host's files")?;
    sys::unix::send(socket.as_fd(), b"=", None).context(|| "report to the shim")?;
    let mut go = [0; 1];
    sys::unix::receive(socket.as_fd(), &mut go).context(|| "wait for the shim")?;

    process::unshare(process::CLONE_NEWNS).context(|| "make a mount namespace")?;
    // A directory that every proc has.
    mount::mount("none", "/sys", "tmpfs", quiet | MS_RDONLY, "mode=555,size=4k")
        .context(|| "mount an empty root")?;
    move_root_to("/sys").context(|| "change to an empty root")?;
    process::close_standard_streams();
    for capability in 0..64 {
        if process::drop_bounding(capability).is_err() {
            break;
        }
    }
    process::set_identity(NOBODY, NOBODY, &[]).context(|| "become nobody")?;
    process::set_capabilities(0, 0, 0).context(|| "drop capabilities")?;
    process::set_no_new_privileges().context(|| "set no_new_privs")?;
    process::set_dumpable(false).context(|| "make the init unreadable")?;
    // An init that ignores SIGCHLD has its children reaped by the kernel, so it can just sleep.
    // Its own signals stay blocked: a pod's init only ends with the pod.
    process::ignore_children();
    // After the change of identity, which forgets it.
    process::die_with_parent().context(|| "end with the shim")?;
    // Whoever takes this process over gets nothing that it could not have called itself.
    sys::seccomp::install_idle().context(|| "install the seccomp filter")
}

/// As the pause container of other distributions has it.
const NOBODY: u32 = 65_535;

/// Waits for a helper child that is about to end, and reaps it.
fn wait_for_end(pidfd: BorrowedFd<'_>) {
    let _ = sys::poll::wait_readable(pidfd, Some(std::time::Duration::from_secs(5)));
    let _ = process::reap_pidfd(pidfd);
}
