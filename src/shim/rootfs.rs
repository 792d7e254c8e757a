//! The container's view of the file system, built in its own mount namespace: overlay, mounts,
//! devices, masks, and the change of root.
//!
//! Runs in the forked child. The image is hostile: every path in it is resolved inside the root.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use stdx::Arrange;
use stdx::{Context, Error, Result};
use sys::file::{self, O_PATH, Special};
use sys::make::{self, Missing};
use sys::mount::{
    self, MNT_DETACH, MS_BIND, MS_MOVE, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_REC, MS_SLAVE,
};
use sys::rooted;
use sys::tree;
use wire::shim::{Container, DeviceNode, Mount, Rootfs, mount_kind, pid_mode};

use crate::sandbox::{Sandbox, open_namespace};

/// The container's end of a terminal, if it has one, made in its own devpts.
#[derive(Debug)]
pub(crate) struct Terminal {
    pub(crate) master: OwnedFd,
    pub(crate) peer: OwnedFd,
}

/// Builds everything and makes it the root of this process. `target` is the mount namespace of the container
/// whose processes this one shares.
pub(crate) fn enter(
    plan: &Container,
    sandbox: &Sandbox,
    target: Option<&OwnedFd>,
) -> Result<Option<Terminal>> {
    // Copies of the sources are taken while this namespace's mounts are still peers of the host's:
    // that is what makes propagation in both directions possible.
    let sources = plan
        .mounts
        .iter()
        .map(|mount| clone_source(mount, plan, sandbox, target))
        .collect::<Result<Vec<_>>>()?;
    mount::mount("", "/", "", MS_REC | MS_SLAVE, "").context(|| "detach mounts from the host's")?;

    let staging = Path::new(&plan.directory).join("root");
    match std::fs::create_dir(&staging) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).context(|| format!("make {}", staging.display()));
        }
        _ => {}
    }
    mount_overlay(&plan.rootfs, &staging)?;
    let root = file::open_dir(&staging).context(|| "open the root")?;
    make_volumes(root.as_fd(), plan)?;

    let mut order: Vec<usize> = (0..plan.mounts.len()).collect();
    // Parents before children, otherwise as given.
    order.arrange_by_key(|idx| depth(&plan.mounts[*idx].target));
    for idx in order {
        let mount = &plan.mounts[idx];
        apply_mount(root.as_fd(), mount, sources[idx].as_ref())
            .context(|| format!("mount {} at {}", source_name(mount), mount.target))?;
    }
    // A caller's /dev is the caller's: nothing is made in what may be the host's.
    let own_dev = |mount: &Mount| {
        mount.kind == mount_kind::BIND && mount.target.trim_end_matches('/') == "/dev"
    };
    if !plan.mounts.iter().any(own_dev) {
        make_devices(root.as_fd(), &plan.devices)?;
    }
    // While the root can still be written.
    let cwd = Path::new("/").join(&plan.process.cwd);
    make::make_in_root(root.as_fd(), &cwd, Missing::Directory)
        .context(|| format!("make working directory {}", cwd.display()))?;
    let terminal = match plan.process.tty {
        true => Some(make_console(root.as_fd(), &plan.process).context(|| "make the terminal")?),
        false => None,
    };
    for mount in plan.mounts.iter().filter(|mount| is_read_only_tmpfs(mount)) {
        remount_read_only(root.as_fd(), &mount.target)
            .context(|| format!("make {} read-only", mount.target))?;
    }
    let volumes = keep_volumes_writable(root.as_fd(), plan)?;
    for path in &plan.readonly_paths {
        make_read_only(root.as_fd(), path).context(|| format!("make {path} read-only"))?;
    }
    for path in &plan.masked_paths {
        mask(root.as_fd(), path).context(|| format!("mask {path}"))?;
    }
    if plan.readonly_root {
        mount::set_read_only(file::descriptor_path(root.as_fd()))
            .context(|| "make the root read-only")?;
    }
    for (target, tree) in volumes {
        mount::attach_tree(tree.as_fd(), target.as_fd())
            .context(|| "attach a volume of the image")?;
    }
    change_root(&staging)?;
    Ok(terminal)
}

fn depth(target: &str) -> usize {
    target.split('/').filter(|part| !part.is_empty()).count()
}

fn source_name(mount: &Mount) -> &str {
    if mount.source.is_empty() { &mount.fs_type } else { &mount.source }
}

/// The detached copy of a bind's source; none for what is mounted afresh.
fn clone_source(
    mount: &Mount,
    plan: &Container,
    sandbox: &Sandbox,
    target: Option<&OwnedFd>,
) -> Result<Option<OwnedFd>> {
    match mount.kind {
        mount_kind::FILESYSTEM if mount.fs_type == "proc" && plan.pid_mode == pid_mode::TARGET => {
            let target = target.context(|| "there is no container to share processes with")?;
            clone_proc_of(target).map(Some).context(|| "copy the other container's proc")
        }
        // This process is not in the pod's PID namespace, so it would mount another proc.
        mount_kind::FILESYSTEM if mount.fs_type == "proc" && plan.pid_mode == pid_mode::SANDBOX => {
            let pid = sandbox.pid.as_ref().context(|| "the sandbox shares no PID namespace")?;
            clone_root_of(&pid.proc).map(Some).context(|| "copy the mount of the pod's proc")
        }
        mount_kind::BIND => mount::clone_tree(&mount.source, true)
            .map(Some)
            .context(|| format!("bind {} for {}", mount.source, mount.target)),
        mount_kind::SHM => {
            let Some(shm) = &sandbox.shm else { return Ok(None) };
            clone_root_of(shm).map(Some).context(|| "copy the mount of the pod's shared memory")
        }
        _ => Ok(None),
    }
}

/// The detached copy of the one mount that a mount namespace consists of.
fn clone_root_of(namespace: &OwnedFd) -> Result<OwnedFd> {
    inside(namespace, || mount::clone_tree("/", false).context(|| "clone it"))
}

/// The detached copy of a container's proc. Its processes may have mounted something else there since.
fn clone_proc_of(namespace: &OwnedFd) -> Result<OwnedFd> {
    use std::os::unix::fs::MetadataExt;
    const PROC_ROOT_INODE: u64 = 1;
    inside(namespace, || {
        let root = current_root()?;
        let proc =
            rooted::open_in_root(root.as_fd(), "proc", O_PATH, 0).context(|| "open /proc")?;
        let metadata = std::fs::File::from(proc.try_clone().context(|| "open /proc")?).metadata();
        let is_root = metadata.context(|| "look at /proc")?.ino() == PROC_ROOT_INODE;
        // Where this process has a number, outside of the container, it is another PID namespace's.
        let is_its_own = rooted::open_in_root(proc.as_fd(), "self", O_PATH, 0).is_err();
        if !mount::is_proc(proc.as_fd()).context(|| "look at /proc")? || !is_root || !is_its_own {
            return Err(Error::new("its /proc is not that of its own processes"));
        }
        mount::clone_mount(proc.as_fd()).context(|| "clone it")
    })
}

/// Does something in another mount namespace, and comes back.
fn inside<T>(namespace: &OwnedFd, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let own = open_namespace("/proc/self/ns/mnt")?;
    let enter = |namespace: &OwnedFd| {
        sys::process::enter_namespace(namespace.as_fd(), sys::process::CLONE_NEWNS)
            .context(|| "enter its mount namespace")
    };
    enter(namespace)?;
    let done = work();
    enter(&own)?;
    done
}

fn mount_overlay(rootfs: &Rootfs, target: &Path) -> Result<()> {
    // Lowers are relative, so that many fit into the page that mount(2) copies.
    std::env::set_current_dir(&rootfs.base).context(|| format!("enter {}", rootfs.base))?;
    let options =
        format!("lowerdir={},upperdir={},workdir={}", rootfs.lowers, rootfs.upper, rootfs.work);
    if options.len() >= MOUNT_DATA_MAX_BYTES {
        return Err(Error::new(format!(
            "mount the image: its layers take {} bytes of mount options, the kernel takes {MOUNT_DATA_MAX_BYTES}",
            options.len()
        )));
    }
    // A writable layer does not outlive its container, so its files need never be forced to disk
    // (Linux 5.10; before that, without).
    let volatile = format!("{options},volatile");
    mount::mount("overlay", target, "overlay", 0, &volatile)
        .or_else(|_| mount::mount("overlay", target, "overlay", 0, &options))
        .context(|| format!("mount the image's layers with overlayfs at {}", target.display()))?;
    std::env::set_current_dir("/").context(|| "enter /")
}

/// One page, with its terminating zero.
const MOUNT_DATA_MAX_BYTES: usize = 4096;

fn apply_mount(root: BorrowedFd<'_>, mount: &Mount, source: Option<&OwnedFd>) -> Result<()> {
    let target_path = Path::new(&mount.target);
    if mount.kind == mount_kind::FILESYSTEM {
        let target = make::make_in_root(root, target_path, Missing::Directory)
            .context(|| "make the target")?;
        check_target(root, mount, target.as_fd(), None)?;
        if let Some(tree) = source {
            return mount::attach_tree(tree.as_fd(), target.as_fd())
                .context(|| "attach the pod's own");
        }
        let place = file::descriptor_path(target.as_fd());
        let kept = if is_read_only_tmpfs(mount) { !MS_RDONLY } else { u64::MAX };
        let mounted =
            mount::mount(&mount.source, &place, &mount.fs_type, mount.flags & kept, &mount.data);
        return mounted.context(|| format!("mount {}", mount.fs_type));
    }
    if mount.kind == mount_kind::IMAGE {
        let target = make::make_in_root(root, target_path, Missing::Directory)
            .context(|| "make the target")?;
        check_target(root, mount, target.as_fd(), None)?;
        let place = file::descriptor_path(target.as_fd());
        std::env::set_current_dir(&mount.source).context(|| format!("enter {}", mount.source))?;
        let mounted = match mount.data.contains(':') {
            true => {
                let options = format!("lowerdir={}", mount.data);
                mount::mount("overlay", &place, "overlay", MS_RDONLY, &options)
            }
            // Overlayfs wants two lowers where there is no upper; one layer is its own view.
            false => mount::mount(&mount.data, &place, "", MS_BIND, ""),
        };
        std::env::set_current_dir("/").context(|| "enter /")?;
        mounted.context(|| "mount the image's layers")?;
        let top =
            rooted::open_in_root(root, target_path, O_PATH, 0).context(|| "open the mount")?;
        return mount::set_read_only(file::descriptor_path(top.as_fd()))
            .context(|| "make it read-only");
    }
    let Some(tree) = source else { return Ok(()) };
    let is_directory = is_directory(tree.as_fd()).context(|| "look at the source")?;
    let missing = if is_directory { Missing::Directory } else { Missing::File };
    let target = make::make_in_root(root, target_path, missing).context(|| "make the target")?;
    check_target(root, mount, target.as_fd(), Some(tree.as_fd()))?;
    if self::is_directory(target.as_fd()).context(|| "look at the target")? != is_directory {
        let (source_kind, target_kind) =
            if is_directory { ("a directory", "is not one") } else { ("a file", "is a directory") };
        return Err(Error::new(format!(
            "the source is {source_kind}, the target in the image {target_kind}"
        )));
    }
    mount::attach_tree(tree.as_fd(), target.as_fd()).context(|| "attach the source")?;
    let top = rooted::open_in_root(root, target_path, O_PATH, 0).context(|| "open the mount")?;
    let place = file::descriptor_path(top.as_fd());
    if mount.propagation != 0 {
        let kind = mount.propagation | MS_REC;
        mount::mount("", &place, "", kind, "").context(|| "set propagation")?;
    }
    if mount.flags & MS_RDONLY != 0 {
        if mount.recursive_read_only {
            mount::set_read_only_recursive(&place).context(|| "make it read-only recursively")?;
        } else {
            mount::set_read_only(&place).context(|| "make it read-only")?;
        }
    }
    Ok(())
}

/// Files of proc that may be covered: what they say about the machine is replaced (lxcfs does so), and
/// nothing that the kernel or a runtime trusts. The list is runc's.
const COVERABLE: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// A container's `/proc` is the kernel's, whatever the image's links and the caller's mounts say: masks are
/// laid over it, and processes on their way into the container trust it. `target` is where the mount's
/// target led to.
fn check_target(
    root: BorrowedFd<'_>,
    mount: &Mount,
    target: BorrowedFd<'_>,
    source: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let resolve = |fd| std::fs::read_link(file::descriptor_path(fd)).context(|| "resolve it");
    let (top, place) = (resolve(root)?, resolve(target)?);
    let inside = Path::new("/").join(place.strip_prefix(&top).context(|| "it left the root")?);
    let asked = &mount.target;
    if mount.kind == mount_kind::FILESYSTEM && matches!(&*mount.fs_type, "proc" | "sysfs") {
        let ordinary = inside == Path::new(asked);
        return if ordinary {
            Ok(())
        } else {
            Err(Error::new(format!(
                "filesystem {:?} must be mounted on ordinary directory",
                mount.fs_type
            )))
        };
    }
    let is_proc = |fd| mount::is_proc(fd).context(|| "look at its file system");
    if inside == Path::new("/proc") {
        return match source.map(is_proc).transpose()? {
            Some(true) => Ok(()),
            _ => Err(Error::new(format!(
                "{asked:?} cannot be mounted because it is not of type proc"
            ))),
        };
    }
    let coverable = COVERABLE.iter().any(|known| inside == Path::new(known));
    if (is_proc(target)? || inside.starts_with("/proc")) && !coverable {
        return Err(Error::new(format!("{asked:?} cannot be mounted because it is inside /proc")));
    }
    Ok(())
}

/// Made read-only last, because other mounts may need a place in it.
fn is_read_only_tmpfs(mount: &Mount) -> bool {
    mount.kind == mount_kind::FILESYSTEM && mount.fs_type == "tmpfs" && mount.flags & MS_RDONLY != 0
}

fn remount_read_only(root: BorrowedFd<'_>, path: &str) -> Result<()> {
    let top = rooted::open_in_root(root, path, O_PATH, 0).context(|| "open it")?;
    mount::set_read_only(file::descriptor_path(top.as_fd())).context(|| "remount it")
}

fn is_directory(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(std::fs::metadata(file::descriptor_path(fd))?.is_dir())
}

/// Device nodes, and the links that every program expects.
fn make_devices(root: BorrowedFd<'_>, devices: &[DeviceNode]) -> Result<()> {
    for device in devices {
        make_device(root, device).context(|| format!("make device {}", device.path))?;
    }
    let dev =
        make::make_in_root(root, Path::new("/dev"), Missing::Directory).context(|| "open /dev")?;
    let links = [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ];
    for (name, target) in links {
        match file::symlink_at(Path::new(target), dev.as_fd(), Path::new(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).context(|| format!("link /dev/{name} to {target}"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn make_device(root: BorrowedFd<'_>, device: &DeviceNode) -> Result<()> {
    let path = Path::new(&device.path);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new("the path names no file"));
    };
    let parent =
        make::make_in_root(root, parent, Missing::Directory).context(|| "make its directory")?;
    let name = Path::new(name);
    let (major, minor) = (device.major, device.minor);
    let special = match device.kind {
        b'c' => Special::Character { major, minor },
        b'b' => Special::Block { major, minor },
        _ => Special::Fifo,
    };
    match file::make_special_at(parent.as_fd(), name, special, device.mode) {
        Ok(()) => {}
        // Given twice: the first counts.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error).context(|| "mknod"),
    }
    tree::set_mode_at(parent.as_fd(), name, device.mode).context(|| "set its mode")?;
    file::set_owner_at(parent.as_fd(), name, device.uid, device.gid).context(|| "set its owner")
}

/// A terminal out of the container's devpts, so that it has a name there, bound to `/dev/console`.
fn make_console(root: BorrowedFd<'_>, process: &wire::shim::Process) -> Result<Terminal> {
    let terminal = open_terminal(root, process)?;
    let console = make::make_in_root(root, Path::new("/dev/console"), Missing::File)
        .context(|| "make /dev/console")?;
    let peer = file::descriptor_path(terminal.peer.as_fd());
    let peer = peer.to_str().context(|| "name the terminal")?;
    mount::mount(peer, file::descriptor_path(console.as_fd()), "", MS_BIND, "")
        .context(|| "bind it to /dev/console")?;
    Ok(terminal)
}

/// A new terminal from the devpts below `root`.
pub(crate) fn open_terminal(
    root: BorrowedFd<'_>,
    process: &wire::shim::Process,
) -> Result<Terminal> {
    let flags = file::O_RDWR | file::O_NOCTTY;
    let master =
        rooted::open_in_root(root, "/dev/pts/ptmx", flags, 0).context(|| "open /dev/pts/ptmx")?;
    let peer = sys::pty::open_peer(master.as_fd()).context(|| "open the other end")?;
    if process.columns != 0 && process.rows != 0 {
        let _ = sys::pty::set_size(master.as_fd(), process.columns, process.rows);
    }
    Ok(Terminal { master, peer })
}

/// The directories of the image's volumes, where no layer has them: before anything is mounted, so that
/// they are made in the container's own layer. One that a layer has is itself the volume: its content,
/// owner and mode are what a copy would have.
fn make_volumes(root: BorrowedFd<'_>, plan: &Container) -> Result<()> {
    for path in &plan.volumes {
        make::make_in_root(root, Path::new(path), Missing::Directory)
            .context(|| format!("make volume {path} of the image"))?;
    }
    Ok(())
}

/// Image volumes stay writable on a read-only root: copies of their mounts, taken before it becomes so.
fn keep_volumes_writable(
    root: BorrowedFd<'_>,
    plan: &Container,
) -> Result<Vec<(OwnedFd, OwnedFd)>> {
    let mut volumes = Vec::new();
    for path in plan.volumes.iter().filter(|_| plan.readonly_root) {
        let what = || format!("keep volume {path} of the image writable");
        let target = make::make_in_root(root, Path::new(path), Missing::Directory).context(what)?;
        // What is a mount of its own does not become read-only, and a second copy of it (of /proc, say)
        // would lie over the masks.
        if device(target.as_fd()).context(what)? != device(root).context(what)? {
            continue;
        }
        let tree = mount::clone_tree(file::descriptor_path(target.as_fd()), false).context(what)?;
        volumes.push((target, tree));
    }
    Ok(volumes)
}

fn device(fd: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(file::descriptor_path(fd))?))
}

/// Hides a path behind nothing. An absent path is fine.
fn mask(root: BorrowedFd<'_>, path: &str) -> Result<()> {
    let Some(target) = open_existing(root, path)? else { return Ok(()) };
    let place = file::descriptor_path(target.as_fd());
    if is_directory(target.as_fd()).context(|| "look at it")? {
        let kind = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
        mount::mount("tmpfs", &place, "tmpfs", kind, "size=0k").context(|| "mount an empty tmpfs")
    } else {
        mount::mount("/dev/null", &place, "", MS_BIND, "").context(|| "bind /dev/null")
    }
}

fn make_read_only(root: BorrowedFd<'_>, path: &str) -> Result<()> {
    let Some(target) = open_existing(root, path)? else { return Ok(()) };
    let place = file::descriptor_path(target.as_fd());
    let source = place.to_str().context(|| "name it")?;
    mount::mount(source, &place, "", MS_BIND | MS_REC, "").context(|| "bind it to itself")?;
    let Some(top) = open_existing(root, path)? else { return Ok(()) };
    mount::set_read_only(file::descriptor_path(top.as_fd())).context(|| "remount it")
}

fn open_existing(root: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>> {
    match rooted::open_in_root(root, path, O_PATH, 0) {
        Ok(fd) => Ok(Some(fd)),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(error).context(|| "open it"),
    }
}

fn change_root(staging: &Path) -> Result<()> {
    // Opened anew: this one stands on the mount, whatever was mounted over its place meanwhile.
    std::env::set_current_dir(staging).context(|| "enter the new root")?;
    match mount::pivot_root(".", ".") {
        // The old root now lies over the new one, at the current directory.
        Ok(()) => mount::unmount(".", MNT_DETACH).context(|| "unmount the old root")?,
        Err(_) => {
            // An initramfs cannot be pivoted away from; hide what is mounted below it, then cover it.
            mount::mount(".", "/", "", MS_MOVE, "").context(|| "move the root into place")?;
            std::os::unix::fs::chroot(".").context(|| "change root")?;
        }
    }
    std::env::set_current_dir("/").context(|| "enter /")
}

/// The container's `/dev/null`, if that is what it is; its processes may have put anything there.
pub(crate) fn open_null() -> Option<OwnedFd> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let root = current_root().ok()?;
    let flags = file::O_RDWR | file::O_NONBLOCK | file::O_NOCTTY;
    let place = rooted::open_in_root(root.as_fd(), "/dev/null", O_PATH, 0).ok()?;
    let is_null = |fd: &OwnedFd| {
        let metadata = std::fs::File::from(fd.try_clone().ok()?).metadata().ok()?;
        let is_device = metadata.file_type().is_char_device();
        (is_device && file::device_numbers(metadata.rdev()) == (1, 3)).then_some(())
    };
    is_null(&place)?;
    let opened = rooted::open_in_root(root.as_fd(), "/dev/null", flags, 0).ok()?;
    is_null(&opened)?;
    sys::unix::set_nonblocking(opened.as_fd(), false).ok()?;
    Some(opened)
}

/// The root directory of this process.
pub(crate) fn current_root() -> Result<OwnedFd> {
    file::open_dir("/").context(|| "open /")
}
