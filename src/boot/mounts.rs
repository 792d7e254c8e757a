//! The file systems that every program expects, mounted where they are missing.

use std::path::Path;

use stdx::{Context, Result};
use sys::mount::{self, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_REC, MS_SHARED, MS_STRICTATIME};

struct FileSystem {
    target: &'static str,
    source: &'static str,
    fs_type: &'static str,
    flags: u64,
    options: &'static str,
}

/// In this order: each may lie in one before it.
const KERNEL: &[FileSystem] = &[
    FileSystem {
        target: "/proc",
        source: "proc",
        fs_type: "proc",
        flags: MS_NOSUID | MS_NODEV | MS_NOEXEC,
        options: "",
    },
    FileSystem {
        target: "/sys",
        source: "sysfs",
        fs_type: "sysfs",
        flags: MS_NOSUID | MS_NODEV | MS_NOEXEC,
        options: "",
    },
    FileSystem {
        target: "/dev",
        source: "devtmpfs",
        fs_type: "devtmpfs",
        flags: MS_NOSUID | MS_STRICTATIME,
        options: "mode=0755",
    },
    FileSystem {
        target: "/dev/pts",
        source: "devpts",
        fs_type: "devpts",
        flags: MS_NOSUID | MS_NOEXEC,
        options: "gid=5,mode=0620,ptmxmode=0666",
    },
    FileSystem {
        target: "/dev/shm",
        source: "shm",
        fs_type: "tmpfs",
        flags: MS_NOSUID | MS_NODEV,
        options: "mode=1777",
    },
    FileSystem {
        target: "/run",
        source: "run",
        fs_type: "tmpfs",
        flags: MS_NOSUID | MS_NODEV,
        options: "mode=0755",
    },
    FileSystem {
        target: "/sys/fs/cgroup",
        source: "cgroup2",
        fs_type: "cgroup2",
        flags: MS_NOSUID | MS_NODEV | MS_NOEXEC,
        options: "nsdelegate,memory_recursiveprot",
    },
];

/// Those that move along when the root changes.
pub(crate) const MOVED: [&str; 4] = ["/dev", "/proc", "/sys", "/run"];

/// Mounts what is missing. What fails is told and left out: some of it the machine can do without.
pub(crate) fn kernel_file_systems() {
    for fs in KERNEL {
        if is_mounted(fs.target) {
            continue;
        }
        if let Err(error) = mount_one(fs) {
            log::warn!("{error}");
        }
    }
}

fn mount_one(fs: &FileSystem) -> Result<()> {
    let what = || format!("mount {} at {}", fs.fs_type, fs.target);
    rt::fs::create_dir_all(fs.target, 0o755).context(what)?;
    let mounted = mount::mount(fs.source, fs.target, fs.fs_type, fs.flags, fs.options);
    // Older kernels do not know all options.
    mounted
        .or_else(|_| mount::mount(fs.source, fs.target, fs.fs_type, fs.flags, ""))
        .context(what)?;
    Ok(())
}

/// Whether something is mounted exactly there. Without `/proc`, nothing is.
pub(crate) fn is_mounted(target: &str) -> bool {
    mount::list().is_ok_and(|mounts| mounts.iter().any(|mount| mount.target == target.as_bytes()))
}

/// The type of the file system that a directory is on.
pub(crate) fn fs_type_of(path: &Path) -> String {
    let mounts = mount::list().unwrap_or_default();
    // The last of the longest is the one on top.
    mount::mount_of(&mounts, path).map(|mount| mount.fs_type.clone()).unwrap_or_default()
}

/// Mounts a tmpfs.
pub(crate) fn tmpfs(target: &str, mode: &str) -> Result<()> {
    let what = || format!("mount tmpfs at {target}");
    rt::fs::create_dir_all(target, 0o755).context(what)?;
    mount::mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, &format!("mode={mode}"))
        .context(what)
}

/// Mounts below `/` become visible in copies of this namespace and back, as pods with mount propagation expect.
pub(crate) fn share_root() {
    if let Err(error) = mount::mount("", "/", "", MS_SHARED | MS_REC, "") {
        log::warn!("share the mounts below /: {error}");
    }
}

/// What a kubelet wants of the kernel of a machine that is its own: memory may be promised twice, and after
/// a bug in the kernel the machine comes back by itself, unless the command line had its own idea.
pub(crate) fn kernel_settings() {
    let is =
        |path: &str, value: &str| rt::fs::read_text(path).is_ok_and(|text| text.trim() == value);
    for (name, kept_unless, value) in [
        ("vm/overcommit_memory", "0", "1"),
        ("kernel/panic_on_oops", "0", "1"),
        ("kernel/panic", "0", "10"),
    ] {
        let path = format!("/proc/sys/{name}");
        if is(&path, kept_unless)
            && let Err(error) = rt::fs::write_in_place(&path, value.as_bytes())
        {
            log::debug!("{error}");
        }
    }
}

/// Says which resources of pods will not be limited here.
pub(crate) fn check_cgroups() {
    let Ok(text) = rt::fs::read_text("/sys/fs/cgroup/cgroup.controllers") else { return };
    for (controller, what) in
        [("cpu", "CPU limits"), ("memory", "memory limits"), ("pids", "limits on processes")]
    {
        if !text.split_whitespace().any(|word| word == controller) {
            log::warn!(
                "The kernel has no cgroup controller {controller}: {what} of pods will not work \
                 (is it disabled on the kernel command line?)"
            );
        }
    }
}
