//! From the initramfs to the root that containers can live in, and the data partition.
//!
//! Containers change their root with pivot_root, which the kernel refuses while the caller's root is
//! the initramfs itself, the one mount without a parent. With `root=` we move to that disk, as
//! switch_root does. Without it, a bind mount of the initramfs over itself is root enough: nothing is
//! copied, so a small machine never holds the program twice.

use std::path::{Path, PathBuf};

use stdx::{Context, Error, Result};
use sys::mount::{self, MS_BIND, MS_MOVE, MS_NOATIME, MS_RDONLY};
use sys::process;

use crate::words::{Disk, Words};
use crate::{disk, load, mounts};

/// Where the cluster's data lies.
pub(crate) const DATA_DIR: &str = "/var/lib/rancher/k3s";

/// Disks on slow buses take this long to appear; then the error is told, and all is tried again.
const DISK_WAIT_MAX_SECS: u64 = 20;

/// True while the root directory is the initramfs itself, the mount that is its own parent.
pub(crate) fn is_initramfs() -> bool {
    let mounts = rt::fs::read_text("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| {
        let mut fields = line.split(' ');
        let (id, parent) = (fields.next(), fields.next());
        id == parent && fields.nth(2) == Some("/")
    })
}

/// What the machine's directories are made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// The root is a disk, not memory.
    pub(crate) on_disk: bool,
    pub(crate) has_data: bool,
}

/// Mounts the data partition, and leaves the initramfs if that is where we are. Before it is left, what
/// only serves to load drivers is deleted from it by `last`.
///
/// # Errors
/// If a disk that was named does not appear or cannot be mounted: the machine then has no root to run
/// on, or would start a new, empty cluster. It may be called again.
pub(crate) fn settle(words: &Words, last: impl FnOnce()) -> Result<Layout> {
    if !is_initramfs() {
        let has_data = mount_data(words, DATA_DIR)?;
        return Ok(Layout { on_disk: true, has_data });
    }
    const DATA: &str = "/.data";
    let has_data = mount_data(words, DATA)?;
    let root_disk = words.root_disk();
    let new = match root_disk {
        Some(disk) => mount_root(disk, words.root_read_only)?,
        None => bind_over()?,
    };
    last();
    if has_data {
        move_mount(DATA, &format!("{new}{DATA_DIR}"))?;
    }
    switch_to(new)?;
    if root_disk.is_none() {
        // The directories that were mounted on are in the new root too, now empty.
        for name in [new, DATA] {
            let _ = rt::fs::remove_empty_dir(name);
        }
    }
    Ok(Layout { on_disk: root_disk.is_some(), has_data })
}

const NEW_ROOT: &str = "/.root";

fn bind_over() -> Result<&'static str> {
    let what = || "make a root directory of the initramfs";
    // The kernel makes it for everyone to write to.
    rt::fs::set_mode("/", 0o755).context(what)?;
    rt::fs::create_dir_all(NEW_ROOT, 0o755).context(what)?;
    mount::mount("/", NEW_ROOT, "", MS_BIND, "").context(what)?;
    Ok(NEW_ROOT)
}

/// Mounts the disk of `root=` and says where.
fn mount_root(disk: &Disk, read_only: Option<bool>) -> Result<&'static str> {
    const CHANGES: &str = "/.changes";
    const BOTH: &str = "/.both";
    let what = || format!("mount root={}", disk.device);
    let device = wait_for(&disk.device).context(what)?;
    rt::fs::create_dir_all(NEW_ROOT, 0o755)?;
    let is_read_only = mount_disk(&device, disk, NEW_ROOT, read_only).context(what)?;
    log::info!("The root file system is on {}", device.display());
    if !is_read_only {
        return Ok(NEW_ROOT);
    }
    // Everything may be written to, and is forgotten at the end.
    match overlay(NEW_ROOT, CHANGES, BOTH) {
        Ok(()) => {
            log::info!("The root file system is read-only: changes to it are kept in memory");
            Ok(BOTH)
        }
        Err(error) => {
            log::warn!("The root file system is read-only, and stays so: {error}");
            Ok(NEW_ROOT)
        }
    }
}

fn overlay(lower: &str, changes: &str, target: &str) -> Result<()> {
    mounts::tmpfs(changes, "0755")?;
    for name in ["upper", "work"] {
        rt::fs::create_dir_all(Path::new(changes).join(name), 0o755)?;
    }
    rt::fs::create_dir_all(target, 0o755)?;
    let options = format!("lowerdir={lower},upperdir={changes}/upper,workdir={changes}/work");
    mount::mount("overlay", target, "overlay", 0, &options)
        .context(|| "lay writable memory over it")
}

/// Makes the mount at `new` the root of everything, with the kernel's file systems in it.
fn switch_to(new: &str) -> Result<()> {
    // All looked up first: what is mounted is told by one of them.
    let mounted = mounts::MOVED.map(mounts::is_mounted);
    for (target, _) in mounts::MOVED.iter().zip(mounted).filter(|(_, mounted)| *mounted) {
        move_mount(target, &format!("{new}{target}"))?;
    }
    let what = || format!("make {new} the root directory");
    process::change_directory(new).context(what)?;
    mount::mount(".", "/", "", MS_MOVE, "").context(what)?;
    process::enter_root(c".").context(what)
}

fn move_mount(from: &str, to: &str) -> Result<()> {
    let what = || format!("move {from} to {to}");
    rt::fs::create_dir_all(to, 0o755).context(what)?;
    mount::mount(from, to, "", MS_MOVE, "").context(what)
}

/// Waits until a disk is there.
fn wait_for(name: &str) -> Result<PathBuf> {
    let start = rt::now().mono;
    let mut told = false;
    loop {
        if let Some(device) = disk::find(name) {
            return Ok(device);
        }
        let waited = rt::now().mono.since(start).as_secs();
        if waited >= DISK_WAIT_MAX_SECS {
            return Err(Error::new(format!(
                "no disk {name} has appeared in {DISK_WAIT_MAX_SECS} s (there are: {})",
                disk::names()
            )));
        }
        if waited >= 2 && !told {
            log::info!("Waiting for disk {name}");
            told = true;
        }
        crate::wait_ms(100);
    }
}

/// Mounts a disk, finding its type if none is given; true if it ended up read-only.
fn mount_disk(device: &Path, disk: &Disk, target: &str, read_only: Option<bool>) -> Result<bool> {
    let fs_type = match disk.fs_type.as_str() {
        "" => disk::read(device)?.fs_type.to_owned(),
        given => given.to_owned(),
    };
    load::file_system(&fs_type);
    let device = device.to_string_lossy();
    let (flags, options) = flags_and_options(&disk.options);
    let what = || format!("mount {device} ({fs_type}) at {target}");
    let read_only_wanted = read_only == Some(true) || flags & MS_RDONLY != 0;
    if !read_only_wanted {
        match mount::mount(&device, target, &fs_type, flags, &options) {
            Ok(()) => return Ok(false),
            // Read-only media and file systems say so, when nobody insists.
            Err(error) if read_only.is_none() && is_read_only_error(&error) => {}
            Err(error) => return Err(error).context(what),
        }
    }
    mount::mount(&device, target, &fs_type, flags | MS_RDONLY, &options).context(what)?;
    Ok(true)
}

fn is_read_only_error(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied
    )
}

/// Splits mount options into the kernel's flags and what its file system reads.
fn flags_and_options(options: &str) -> (u64, String) {
    // What a relative access time costs in writes, nobody here reads.
    let mut flags = MS_NOATIME;
    let mut rest = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => flags |= MS_RDONLY,
            "rw" | "defaults" | "noatime" => {}
            "relatime" | "atime" => flags &= !MS_NOATIME,
            "nosuid" => flags |= mount::MS_NOSUID,
            "nodev" => flags |= mount::MS_NODEV,
            "noexec" => flags |= mount::MS_NOEXEC,
            other => rest.push(other),
        }
    }
    (flags, rest.join(","))
}

/// Mounts the data partition, if one was named.
fn mount_data(words: &Words, target: &str) -> Result<bool> {
    let Some(disk) = &words.data else { return Ok(false) };
    if mounts::is_mounted(target) {
        return Ok(true);
    }
    let what = || format!("mount k3rs.data={}", disk.device);
    let device = wait_for(&disk.device).context(what)?;
    rt::fs::create_dir_all(target, 0o755).context(what)?;
    if mount_disk(&device, disk, target, None).context(what)? {
        let _ = mount::unmount(target, 0);
        return Err(Error::new("it can only be mounted read-only")).context(what);
    }
    log::info!("The cluster's data is on {}", device.display());
    Ok(true)
}

/// Makes places writable that must be, once root and data are in place.
pub(crate) fn make_writable(has_data: bool) {
    if !has_data {
        // Containers' file systems are overlays too, and the kernel wants none on top of another.
        if matches!(mounts::fs_type_of(Path::new(DATA_DIR)).as_str(), "overlay" | "ramfs")
            || !writable(DATA_DIR)
        {
            log::warn!("There is no k3rs.data= partition: the cluster's data is lost at power off");
            note(mounts::tmpfs(DATA_DIR, "0755"));
        }
    } else if mounts::fs_type_of(Path::new("/var/log")) != mounts::fs_type_of(Path::new(DATA_DIR)) {
        // Logs fill memory otherwise, where it is scarcest.
        note(bind_logs());
    }
    for (directory, mode) in
        [("/etc", "0755"), ("/tmp", "1777"), ("/var/log", "0755"), ("/var/run", "0755")]
    {
        if !writable(directory) {
            log::info!("{directory} is read-only: what is written there is kept in memory");
            note(mounts::tmpfs(directory, mode));
        }
    }
}

fn bind_logs() -> Result<()> {
    let logs = Path::new(DATA_DIR).join("log");
    rt::fs::create_dir_all(&logs, 0o755)?;
    rt::fs::create_dir_all("/var/log", 0o755)?;
    mount::mount(&logs.to_string_lossy(), "/var/log", "", MS_BIND, "")
        .context(|| format!("mount {} at /var/log", logs.display()))
}

fn writable(directory: &str) -> bool {
    rt::fs::create_dir_all(directory, 0o755).is_ok() && rt::fs::check_writable(directory).is_ok()
}

fn note(result: Result<()>) {
    if let Err(error) = result {
        log::warn!("{error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_options() {
        assert_eq!(flags_and_options(""), (MS_NOATIME, String::new()));
        assert_eq!(
            flags_and_options("ro,commit=30,relatime,data=ordered"),
            (MS_RDONLY, "commit=30,data=ordered".into())
        );
    }
}
