//! Mounts: the classic calls and the descriptor-based ones, and what is mounted.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, StatVfsMountFlags};
use rustix::mount::{FsOpenFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use crate::{check, path_text};

pub use libc::MNT_DETACH;

/// The flags as one type on all targets: the C type differs in width.
macro_rules! flags {
    ($($name:ident)*) => {
        $(#[allow(clippy::unnecessary_cast)] pub const $name: u64 = libc::$name as u64;)*
    };
}
flags!(MS_BIND MS_MOVE MS_NOATIME MS_NODEV MS_NODIRATIME MS_NOEXEC MS_NOSUID MS_PRIVATE MS_RDONLY
    MS_REC MS_RELATIME MS_REMOUNT MS_SHARED MS_SLAVE MS_STRICTATIME);

/// mount(2); `flags` are `MS_*`.
pub fn mount(
    source: &str,
    target: impl AsRef<Path>,
    fs_type: &str,
    flags: u64,
    data: &str,
) -> io::Result<()> {
    let source = CString::new(source)?;
    let target = path_text(target.as_ref())?;
    let fs_type = CString::new(fs_type)?;
    let data = CString::new(data)?;
    let or_null = |text: &CStr| if text.is_empty() { std::ptr::null() } else { text.as_ptr() };
    // SAFETY: all strings are null-terminated and live through the call; null is allowed for the rest.
    check(i64::from(unsafe {
        libc::mount(
            or_null(&source),
            target.as_ptr(),
            or_null(&fs_type),
            flags as libc::c_ulong,
            or_null(&data).cast(),
        )
    }))?;
    Ok(())
}

/// umount2(2); `flags` such as `MNT_DETACH`. What is unmounted is at `target` itself, not where a link there leads.
pub fn unmount(target: impl AsRef<Path>, flags: i32) -> io::Result<()> {
    let flags = UnmountFlags::from_bits_retain(flags.cast_unsigned()) | UnmountFlags::NOFOLLOW;
    Ok(rustix::mount::unmount(target.as_ref(), flags)?)
}

pub fn pivot_root(new_root: impl AsRef<Path>, put_old: impl AsRef<Path>) -> io::Result<()> {
    Ok(rustix::process::pivot_root(new_root.as_ref(), put_old.as_ref())?)
}

/// Whether the kernel has a file system, built in or as a module that it can load by itself.
pub(crate) fn has_file_system(name: &str) -> bool {
    let listed = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if listed.lines().any(|line| line.rsplit('\t').next() == Some(name)) {
        return true;
    }
    rustix::mount::fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC).is_ok()
}

/// A detached copy of the mount at `path` with, if `recursive`, all mounts below it.
/// Copies of a shared mount are its peers. Needs Linux 5.2.
pub fn clone_tree(path: impl AsRef<Path>, recursive: bool) -> io::Result<OwnedFd> {
    let below = if recursive { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | below;
    Ok(rustix::mount::open_tree(CWD, path.as_ref(), flags)?)
}

/// As [`clone_tree`] of what the descriptor is of, which must be the root of its mount, without what is
/// mounted below it.
pub fn clone_mount(mount: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(rustix::mount::open_tree(mount, "", flags)?)
}

/// Attaches a detached tree at the file or directory behind `target`.
pub fn attach_tree(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(tree, "", target, "", flags)?)
}

/// A detached, read-only copy of the mount of one file, open at the file. Needs Linux 5.12.
pub(crate) fn read_only_clone(file: &Path) -> io::Result<OwnedFd> {
    let clone = clone_tree(file, false)?;
    set_attr_read_only(clone.as_raw_fd(), c"", libc::AT_EMPTY_PATH)?;
    Ok(clone)
}

/// Whether a descriptor is on a procfs.
pub fn is_proc(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let stat = rustix::fs::fstatfs(fd)?;
    // The C types differ in width between targets.
    #[allow(clippy::unnecessary_cast)]
    Ok(stat.f_type as i64 == libc::PROC_SUPER_MAGIC as i64)
}

/// Makes the mount at `path` and everything mounted below it read-only. Needs Linux 5.12.
pub fn set_read_only_recursive(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path_text(path.as_ref())?;
    set_attr_read_only(libc::AT_FDCWD, &path, libc::AT_RECURSIVE)
}

fn set_attr_read_only(directory: i32, path: &CStr, flags: libc::c_int) -> io::Result<()> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    const MOUNT_ATTR_RDONLY: u64 = 1;
    let attr = MountAttr { set: MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the kernel reads `attr` with the size given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory,
            path.as_ptr(),
            flags,
            std::ptr::from_ref(&attr),
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}

/// Remounts a bind mount read-only, keeping the flags that the kernel will not let us drop.
pub fn set_read_only(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    let flags = MS_BIND | MS_REMOUNT | MS_RDONLY;
    match mount("", path, "", flags, "") {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            let kept = locked_flags(path)?;
            mount("", path, "", flags | kept, "")
        }
        result => result,
    }
}

/// The mount's nosuid, nodev, noexec and atime flags, as `MS_*`.
fn locked_flags(path: &Path) -> io::Result<u64> {
    let flags = rustix::fs::statvfs(path)?.f_flag;
    let pairs = [
        (StatVfsMountFlags::NOSUID, MS_NOSUID),
        (StatVfsMountFlags::NODEV, MS_NODEV),
        (StatVfsMountFlags::NOEXEC, MS_NOEXEC),
        (StatVfsMountFlags::NOATIME, MS_NOATIME),
        (StatVfsMountFlags::NODIRATIME, MS_NODIRATIME),
        (StatVfsMountFlags::RELATIME, MS_RELATIME),
    ];
    Ok(pairs.iter().filter(|(have, _)| flags.contains(*have)).fold(0, |all, (_, keep)| all | keep))
}

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    pub root: Vec<u8>,
    pub target: Vec<u8>,
    pub shared: bool,
    pub fs_type: String,
    pub source: String,
    pub super_options: String,
}

/// All mounts of this process's namespace, in mount order.
pub fn list() -> io::Result<Vec<MountInfo>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse_mount_info).collect())
}

fn parse_mount_info(line: &[u8]) -> Option<MountInfo> {
    let mut fields = line.split(|byte| *byte == b' ');
    let root = unescape(fields.nth(3)?);
    let target = unescape(fields.next()?);
    let mut shared = false;
    fields.next()?; // per-mount options
    for optional in fields.by_ref() {
        if optional == b"-" {
            break;
        }
        shared |= optional.starts_with(b"shared:");
    }
    let mut text = || Some(String::from_utf8_lossy(&unescape(fields.next()?)).into_owned());
    Some(MountInfo {
        root,
        target,
        shared,
        fs_type: text()?,
        source: text()?,
        super_options: text()?,
    })
}

/// Undoes the kernel's `\ooo` escapes.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut at = 0;
    while at < field.len() {
        let octal = field.get(at..at + 4).filter(|code| {
            code[0] == b'\\' && code[1..].iter().all(|digit| (b'0'..=b'7').contains(digit))
        });
        match octal {
            Some(code) => {
                let value =
                    code[1..].iter().fold(0u32, |all, digit| all * 8 + u32::from(digit - b'0'));
                out.push((value & 0xff) as u8);
                at += 4;
            }
            None => {
                out.push(field[at]);
                at += 1;
            }
        }
    }
    out
}

/// The mount that `path` (absolute, without symbolic links) is on.
pub fn mount_of<'a>(mounts: &'a [MountInfo], path: &Path) -> Option<&'a MountInfo> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(Path::new(OsStr::from_bytes(&mount.target))))
        // The last of the longest: later mounts cover earlier ones.
        .max_by_key(|mount| mount.target.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_info_lines() {
        let line = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:3 - ext3 /dev/root rw,errors=continue";
        let info = parse_mount_info(line).unwrap();
        assert_eq!(info.target, b"/mnt 2");
        assert_eq!((info.shared, info.fs_type.as_str()), (true, "ext3"));
        assert_eq!(info.super_options, "rw,errors=continue");
        assert!(parse_mount_info(b"36 35 98:0").is_none());
        assert!(list().unwrap().iter().any(|mount| mount.target == b"/"));
    }
}
