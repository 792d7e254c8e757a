//! The child's way from fork to exec: namespaces, root, identity, limits, filters.
//!
//! The shim and its child talk over a message socket. Child: `T` with the terminal's master,
//! `C` with a `Created` (it then waits), `P` with the number of the process that takes over, `E` with an
//! error text. Shim: `G` when the child is in its cgroups, `S` to start. The socket closes at exec, which
//! tells the shim that it worked.
//!
//! A PID namespace in which others run already is entered last, by a fork of a process that has nothing
//! left of the host: no mounts, descriptors, or capabilities beyond the container's, and a program file
//! that cannot be written. Whoever watches `/proc` in the container sees only that.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use stdx::{Context, Error, Result, Sensitive};
use sys::process;
use wire::shim::{Container, Created, Field, Process, pid_mode};

use crate::identity::{self, Identity};
use crate::rootfs::{self, Terminal};
use crate::sandbox::Sandbox;

/// The child's standard streams; all absent with a terminal.
#[derive(Debug)]
pub(crate) struct ChildStreams {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

/// Longest message on the socket; an error text is cut to it.
pub(crate) const MESSAGE_MAX_BYTES: usize = 8 << 10;

/// The namespaces of a running container, for a further process in it.
#[derive(Debug)]
pub(crate) struct ContainerNamespaces {
    pub(crate) mount: OwnedFd,
    pub(crate) cgroup: OwnedFd,
    pub(crate) pid: OwnedFd,
}

/// The main process of a container. Never returns.
pub(crate) fn container(
    plan: &Container,
    sandbox: &Sandbox,
    target: Option<&ContainerNamespaces>,
    socket: &OwnedFd,
    streams: ChildStreams,
) -> ! {
    let shared = sandbox.pid.as_ref().filter(|_| plan.pid_mode == pid_mode::SANDBOX);
    let target = target.filter(|_| plan.pid_mode == pid_mode::TARGET);
    let mut keep: Vec<_> = sandbox.shm.iter().map(AsFd::as_fd).collect();
    keep.extend(shared.iter().flat_map(|pid| [pid.namespace.as_fd(), pid.proc.as_fd()]));
    keep.extend(target.iter().flat_map(|one| [one.pid.as_fd(), one.mount.as_fd()]));
    keep_only(socket, &streams, &keep);
    let result = (|| {
        wait_for(socket, b'G')?;
        guard()?;
        if plan.new_cgroup_namespace {
            process::unshare(process::CLONE_NEWCGROUP).context(|| "make a cgroup namespace")?;
        }
        let mut warnings = Vec::new();
        set_oom_score(&plan.process, &mut warnings)?;
        let terminal = rootfs::enter(plan, sandbox, target.map(|one| &one.mount))?;
        let join = shared.map(|pid| pid.namespace.as_fd());
        let join = join.or(target.map(|one| one.pid.as_fd()));
        finish(&plan.process, socket, streams, terminal, warnings, join)
    })();
    fail(socket, &result)
}

/// A further process in a running container. Never returns.
pub(crate) fn exec(
    plan: &Process,
    namespaces: &ContainerNamespaces,
    socket: &OwnedFd,
    streams: ChildStreams,
) -> ! {
    let ContainerNamespaces { mount, cgroup, pid } = namespaces;
    keep_only(socket, &streams, &[mount.as_fd(), cgroup.as_fd(), pid.as_fd()]);
    let result = (|| {
        wait_for(socket, b'G')?;
        guard()?;
        let mut warnings = Vec::new();
        set_oom_score(plan, &mut warnings)?;
        process::enter_namespace(cgroup.as_fd(), process::CLONE_NEWCGROUP)
            .context(|| "enter the container's cgroup namespace")?;
        process::enter_namespace(mount.as_fd(), process::CLONE_NEWNS)
            .context(|| "enter the container's mount namespace")?;
        let terminal = match plan.tty {
            true => {
                let root = rootfs::current_root()?;
                Some(rootfs::open_terminal(root.as_fd(), plan).context(|| "make a terminal")?)
            }
            false => None,
        };
        finish(plan, socket, streams, terminal, warnings, Some(pid.as_fd()))
    })();
    fail(socket, &result)
}

/// Until the exec, this process is k3rs on its way into somebody's container: what runs there must not get
/// at its memory or descriptors, nor at keys of whoever started k3rs.
fn guard() -> Result<()> {
    process::set_dumpable(false).context(|| "make this process unreadable")?;
    process::new_keyring().context(|| "make a session keyring")
}

/// Reports the error and ends.
fn fail(socket: &OwnedFd, result: &Result<std::convert::Infallible>) -> ! {
    if let Err(error) = result {
        let mut message = format!("E{error}").into_bytes();
        message.truncate(MESSAGE_MAX_BYTES);
        let _ = sys::unix::send(socket.as_fd(), &message, None);
    }
    process::exit_now(127)
}

/// Waiting children must not hold other containers' pipes open.
fn keep_only(socket: &OwnedFd, streams: &ChildStreams, more: &[BorrowedFd<'_>]) {
    let mut keep = vec![socket.as_fd()];
    let streams = [&streams.stdin, &streams.stdout, &streams.stderr];
    keep.extend(streams.into_iter().flatten().map(AsFd::as_fd));
    keep.extend_from_slice(more);
    process::close_all_but(&keep);
}

fn wait_for(socket: &OwnedFd, expected: u8) -> Result<()> {
    let mut buf = [0; 1];
    let (n, _) = sys::unix::receive(socket.as_fd(), &mut buf).context(|| "wait for the shim")?;
    match n {
        1 if buf[0] == expected => Ok(()),
        // The shim gave up or died: nobody is left to read an error.
        _ => process::exit_now(127),
    }
}

/// A lower score than we may set is clamped to what we have.
fn set_oom_score(plan: &Process, warnings: &mut Vec<String>) -> Result<()> {
    // Never the shim's own score, which may be far below.
    let wanted = plan.oom_score_adj.unwrap_or(0);
    let path = "/proc/self/oom_score_adj";
    match std::fs::write(path, wanted.to_string()) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let have = sys::file::kernel_text(path).unwrap_or_default();
            warnings.push(format!(
                "oom_score_adj {wanted} needs CAP_SYS_RESOURCE: left at {}",
                have.trim()
            ));
            Ok(())
        }
        result => result.context(|| format!("set oom_score_adj to {wanted}")),
    }
}

/// From the new root to the exec.
fn finish(
    plan: &Process,
    socket: &OwnedFd,
    streams: ChildStreams,
    terminal: Option<Terminal>,
    mut warnings: Vec<String>,
    join: Option<BorrowedFd<'_>>,
) -> Result<std::convert::Infallible> {
    if let Some(namespace) = join {
        // This process stays where it is: only what it forks is in there.
        process::enter_namespace(namespace, process::CLONE_NEWPID)
            .context(|| "enter the PID namespace")?;
    }
    let identity = find_identity(plan)?;
    for (resource, soft, hard) in &plan.rlimits {
        set_rlimit(*resource, *soft, *hard, &mut warnings)?;
    }
    connect_streams(streams, terminal, socket, &identity)?;
    // From here on nothing is open but the standard streams: `/proc/self/fd` leads nowhere.
    process::close_all_but(&[socket.as_fd()]);
    report(socket, &identity, warnings)?;
    wait_for(socket, b'S')?;

    // Resolved only now: a volume may have been filled between creation and start.
    let env = environment(plan, &identity)?;
    let args: Vec<CString> = c_strings(&plan.args).context(|| "read the command line")?;
    process::set_umask(plan.umask);
    let capabilities = &plan.capabilities;
    // Without no-new-privileges, installing a filter takes a capability that is about to go.
    if !plan.no_new_privileges && !plan.seccomp.is_empty() {
        sys::seccomp::install(&plan.seccomp).context(|| "install the seccomp filter")?;
    }
    drop_bounding(capabilities.bounding)?;
    process::set_keep_capabilities(true).context(|| "keep capabilities")?;
    process::set_identity(identity.uid, identity.gid, &identity.groups)
        .context(|| format!("become user {} and group {}", identity.uid, identity.gid))?;
    process::set_keep_capabilities(false).context(|| "keep capabilities")?;
    // As the user, with the user's rights to the directory.
    std::env::set_current_dir(Path::new("/").join(&plan.cwd))
        .context(|| format!("enter working directory {}", plan.cwd))?;
    // By way of `/proc` a path can lead out of the root; then the directory has no name here.
    if std::env::current_dir().is_err() {
        return Err(Error::new(format!(
            "enter working directory {}: current working directory is outside of container mount namespace root",
            plan.cwd
        )));
    }
    let program = find_program(plan)?;
    let ours = process::permitted_capabilities().context(|| "read capabilities")?;
    let (permitted, effective) = (capabilities.permitted & ours, capabilities.effective & ours);
    process::set_capabilities(effective, permitted, capabilities.inheritable & ours)
        .context(|| "set capabilities")?;
    if capabilities.ambient != 0 {
        process::clear_ambient().context(|| "clear ambient capabilities")?;
        for number in bits(capabilities.ambient & permitted) {
            process::raise_ambient(number)
                .context(|| format!("raise ambient capability {number}"))?;
        }
    }
    if plan.no_new_privileges {
        process::set_no_new_privileges().context(|| "set no_new_privs")?;
    }
    process::reset_signals();
    // A change of identity may have made this process readable again.
    process::set_dumpable(false).context(|| "make this process unreadable")?;
    if join.is_some() {
        take_over(socket)?;
    }
    process::new_session().context(|| "start a session")?;
    if plan.tty {
        sys::pty::make_controlling(std::io::stdin().as_fd())
            .context(|| "make the terminal controlling")?;
    }
    if plan.no_new_privileges && !plan.seccomp.is_empty() {
        sys::seccomp::install(&plan.seccomp).context(|| "install the seccomp filter")?;
    }
    let error = process::exec(&program, &args, &env);
    Err(exec_error(plan.args[0].reveal(), &error))
}

/// Goes on in a new process, the first of ours that the container can see, while this one ends. The new one
/// waits until the shim, whose child it is, will have been told its number before it hears anything else.
fn take_over(socket: &OwnedFd) -> Result<()> {
    let (ours, theirs) = sys::unix::socket_pair().context(|| "make a socket pair")?;
    match process::fork_sibling().context(|| "fork into the PID namespace")? {
        None => {
            drop(ours);
            let mut go = [0; 1];
            match sys::unix::receive(theirs.as_fd(), &mut go) {
                Ok((1, _)) => Ok(()),
                _ => process::exit_now(127),
            }
        }
        Some(pid) => {
            let mut message = vec![b'P'];
            message.extend_from_slice(&pid.to_le_bytes());
            if sys::unix::send(socket.as_fd(), &message, None).is_ok() {
                // Its end is the new process's alone: the shim hears of the exec before the exit.
                process::close_inherited(socket.as_fd());
                let _ = sys::unix::send(ours.as_fd(), b"=", None);
            }
            process::exit_now(0)
        }
    }
}

/// How many groups the message has room for.
const GROUPS_TOLD_MAX: usize = 512;

fn report(socket: &OwnedFd, identity: &Identity, warnings: Vec<String>) -> Result<()> {
    let created = Created {
        pid: 0,
        uid: identity.uid,
        gid: identity.gid,
        groups: identity.groups.iter().copied().take(GROUPS_TOLD_MAX).collect(),
        home: identity.home.clone(),
        warnings,
    };
    let mut message = vec![b'C'];
    created.put(&mut message);
    sys::unix::send(socket.as_fd(), &message, None).context(|| "report to the shim")
}

fn find_identity(plan: &Process) -> Result<Identity> {
    let wanted = identity::Wanted {
        user: &plan.user,
        uid: plan.uid,
        gid: plan.gid,
        groups: &plan.groups,
        merge_groups: plan.merge_groups,
    };
    let (passwd, group) = (read_database("/etc/passwd")?, read_database("/etc/group")?);
    identity::resolve(wanted, &passwd, &group)
}

/// A text file of the container; empty if there is none. It is the image's, so it is read with care.
fn read_database(path: &str) -> Result<String> {
    use std::io::Read;
    const DATABASE_MAX_BYTES: u64 = 4 << 20;
    let root = rootfs::current_root()?;
    let flags = sys::file::O_RDONLY | sys::file::O_NONBLOCK | sys::file::O_NOCTTY;
    let Ok(place) = sys::rooted::open_in_root(root.as_fd(), path, sys::file::O_PATH, 0) else {
        return Ok(String::new());
    };
    // A device is not even opened.
    if !File::from(place).metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Ok(String::new());
    }
    let Ok(opened) = sys::rooted::open_in_root(root.as_fd(), path, flags, 0) else {
        return Ok(String::new());
    };
    let file = File::from(opened);
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    file.take(DATABASE_MAX_BYTES).read_to_end(&mut bytes).context(|| format!("read {path}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn connect_streams(
    streams: ChildStreams,
    terminal: Option<Terminal>,
    socket: &OwnedFd,
    identity: &Identity,
) -> Result<()> {
    let what = || "connect the standard streams";
    if let Some(Terminal { master, peer }) = terminal {
        sys::unix::send(socket.as_fd(), b"T", Some(master.as_fd()))
            .context(|| "hand over the terminal")?;
        // Programs open their terminal again by name (`/dev/tty`, `/proc/self/fd/0`).
        let _ = std::os::unix::fs::fchown(&peer, Some(identity.uid), None);
        for number in 0..3 {
            process::duplicate_as(peer.as_fd(), number).context(what)?;
        }
        return Ok(());
    }
    let null = rootfs::open_null();
    for (number, stream) in [(0, streams.stdin), (1, streams.stdout), (2, streams.stderr)] {
        let stream = match stream {
            Some(stream) => {
                let _ = std::os::unix::fs::fchown(&stream, Some(identity.uid), Some(identity.gid));
                stream
            }
            None => match &null {
                Some(null) => null.try_clone().context(what)?,
                // An image without devices: the shim's own stdin is /dev/null.
                None => continue,
            },
        };
        process::duplicate_as(stream.as_fd(), number).context(what)?;
        // Numbers below 3 are now the process's own; the rest close at exec.
        if std::os::fd::AsRawFd::as_raw_fd(&stream) < 3 {
            std::mem::forget(stream);
        }
    }
    Ok(())
}

fn set_rlimit(resource: u32, soft: u64, hard: u64, warnings: &mut Vec<String>) -> Result<()> {
    match process::set_rlimit(resource, soft, hard) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let (_, have) = process::rlimit(resource).context(|| "read a resource limit")?;
            warnings.push(format!(
                "rlimit {resource} {soft}:{hard} needs CAP_SYS_RESOURCE: clamped to {have}"
            ));
            process::set_rlimit(resource, soft.min(have), hard.min(have))
                .context(|| format!("set rlimit {resource}"))
        }
        result => result.context(|| format!("set rlimit {resource} to {soft}:{hard}")),
    }
}

fn drop_bounding(keep: u64) -> Result<()> {
    for number in 0..64 {
        if keep >> number & 1 == 0 {
            match process::drop_bounding(number) {
                // Past the last capability that this kernel knows.
                Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => break,
                result => result.context(|| format!("drop capability {number}"))?,
            }
        }
    }
    Ok(())
}

fn bits(mask: u64) -> impl Iterator<Item = u32> {
    (0..64).filter(move |number| mask >> number & 1 == 1)
}

fn c_strings(list: &[Sensitive]) -> Result<Vec<CString>> {
    list.iter()
        // The error of the conversion would quote the text, which may be a secret.
        .map(|text| {
            CString::new(text.reveal().as_str())
                .map_err(|_| Error::new("a text contains a NUL byte"))
        })
        .collect()
}

fn environment(plan: &Process, identity: &Identity) -> Result<Vec<CString>> {
    let mut env = c_strings(&plan.env).context(|| "read the environment")?;
    if !plan.env.iter().any(|entry| entry.reveal().starts_with("HOME=")) {
        env.push(CString::new(format!("HOME={}", identity.home)).context(|| "set HOME")?);
    }
    if plan.tty && !plan.env.iter().any(|entry| entry.reveal().starts_with("TERM=")) {
        env.push(c"TERM=xterm".to_owned());
    }
    Ok(env)
}

/// Looks the program up as a shell would, in the process's own PATH.
fn find_program(plan: &Process) -> Result<CString> {
    let Some(name) = plan.args.first().map(Sensitive::reveal).filter(|name| !name.is_empty())
    else {
        return Err(Error::new("no command specified"));
    };
    let as_text = |path: &str| CString::new(path).context(|| format!("program {name:?}"));
    if name.contains('/') {
        return as_text(name);
    }
    let path = plan.env.iter().rev().find_map(|entry| entry.reveal().strip_prefix("PATH="));
    let mut denied = false;
    for directory in path.unwrap_or("").split(':') {
        let candidate = Path::new(if directory.is_empty() { "." } else { directory }).join(name);
        let Ok(metadata) = std::fs::metadata(&candidate) else { continue };
        if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
            return as_text(&candidate.to_string_lossy());
        }
        denied |= metadata.is_file();
    }
    let why = if denied { "permission denied" } else { "executable file not found in $PATH" };
    Err(Error::new(format!("exec: {name:?}: {why}")))
}

/// The words that users of other runtimes know.
fn exec_error(program: &str, error: &std::io::Error) -> Error {
    let why = match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => match error.raw_os_error() {
            Some(8) => "exec format error".to_owned(),
            Some(7) => "argument list too long".to_owned(),
            _ => error.to_string(),
        },
    };
    Error::new(format!("exec: {program:?}: {why}"))
}
