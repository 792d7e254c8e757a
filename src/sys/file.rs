//! Files relative to a directory descriptor, never following links out of it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::{check, check_fd, path_text};

pub use libc::{
    O_APPEND, O_CLOEXEC, O_CREAT, O_DIRECTORY, O_EXCL, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK, O_PATH,
    O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY,
};

/// Opens a directory of the host, for use as `root`.
pub fn open_dir(path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    let path = path_text(path.as_ref())?;
    let flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    // SAFETY: the string lives through the call.
    check_fd(libc::c_long::from(unsafe { libc::open(path.as_ptr(), flags) }))
}

/// Opens one name in a directory.
pub fn open_at(dir: BorrowedFd<'_>, name: &Path, flags: i32, mode: u32) -> io::Result<OwnedFd> {
    let name = path_text(name)?;
    // SAFETY: the string lives through the call.
    check_fd(libc::c_long::from(unsafe {
        libc::openat(dir.as_raw_fd(), name.as_ptr(), flags | O_CLOEXEC, mode)
    }))
}

pub fn make_dir_at(dir: BorrowedFd<'_>, name: &Path, mode: u32) -> io::Result<()> {
    let name = path_text(name)?;
    // SAFETY: the string lives through the call.
    check(i64::from(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), mode) }))?;
    Ok(())
}

pub fn symlink_at(target: &Path, dir: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    let (target, name) = (path_text(target)?, path_text(name)?);
    // SAFETY: both strings live through the call.
    check(i64::from(unsafe { libc::symlinkat(target.as_ptr(), dir.as_raw_fd(), name.as_ptr()) }))?;
    Ok(())
}

/// Hard-links `old` (not followed if a symbolic link) as `new`.
pub fn link_at(
    old_dir: BorrowedFd<'_>,
    old: &Path,
    new_dir: BorrowedFd<'_>,
    new: &Path,
) -> io::Result<()> {
    let (old, new) = (path_text(old)?, path_text(new)?);
    // SAFETY: both strings live through the call.
    check(i64::from(unsafe {
        libc::linkat(old_dir.as_raw_fd(), old.as_ptr(), new_dir.as_raw_fd(), new.as_ptr(), 0)
    }))?;
    Ok(())
}

/// Removes a name; an empty directory if `directory`.
pub fn unlink_at(dir: BorrowedFd<'_>, name: &Path, directory: bool) -> io::Result<()> {
    let name = path_text(name)?;
    let flags = if directory { libc::AT_REMOVEDIR } else { 0 };
    // SAFETY: the string lives through the call.
    check(i64::from(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), flags) }))?;
    Ok(())
}

/// The kind of a special file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    Character { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Fifo,
}

pub fn make_special_at(
    dir: BorrowedFd<'_>,
    name: &Path,
    special: Special,
    mode: u32,
) -> io::Result<()> {
    let name = path_text(name)?;
    let (kind, device) = match special {
        Special::Character { major, minor } => (libc::S_IFCHR, libc::makedev(major, minor)),
        Special::Block { major, minor } => (libc::S_IFBLK, libc::makedev(major, minor)),
        Special::Fifo => (libc::S_IFIFO, 0),
    };
    // SAFETY: the string lives through the call.
    check(i64::from(unsafe {
        libc::mknodat(dir.as_raw_fd(), name.as_ptr(), kind | mode, device)
    }))?;
    Ok(())
}

/// Sets the owner of a name, not following a link.
pub fn set_owner_at(dir: BorrowedFd<'_>, name: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let name = path_text(name)?;
    // SAFETY: the string lives through the call.
    check(i64::from(unsafe {
        libc::fchownat(dir.as_raw_fd(), name.as_ptr(), uid, gid, libc::AT_SYMLINK_NOFOLLOW)
    }))?;
    Ok(())
}

/// Sets access and modification time, not following a link.
pub fn set_time_at(dir: BorrowedFd<'_>, name: &Path, secs: i64, nanos: u32) -> io::Result<()> {
    set_time(dir.as_raw_fd(), name, secs, nanos, libc::AT_SYMLINK_NOFOLLOW)
}

/// Sets the times of what a descriptor's own path leads to.
pub(crate) fn set_time_of(descriptor: &Path, secs: i64, nanos: u32) -> io::Result<()> {
    set_time(libc::AT_FDCWD, descriptor, secs, nanos, 0)
}

fn set_time(dir: i32, name: &Path, secs: i64, nanos: u32, flags: i32) -> io::Result<()> {
    let name = path_text(name)?;
    // SAFETY: all-zero is a valid timespec.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    time.tv_sec = secs as _;
    time.tv_nsec = nanos as _;
    let times = [time, time];
    // SAFETY: the string and the two times live through the call.
    check(i64::from(unsafe { libc::utimensat(dir, name.as_ptr(), times.as_ptr(), flags) }))?;
    Ok(())
}

/// Renames a name into another directory of the same file system.
pub(crate) fn rename_at(
    old_dir: BorrowedFd<'_>,
    old: &Path,
    new_dir: BorrowedFd<'_>,
    new: &Path,
) -> io::Result<()> {
    let (old, new) = (path_text(old)?, path_text(new)?);
    // SAFETY: both strings live through the call.
    check(i64::from(unsafe {
        libc::renameat(old_dir.as_raw_fd(), old.as_ptr(), new_dir.as_raw_fd(), new.as_ptr())
    }))?;
    Ok(())
}

/// Sets an extended attribute of a name, not following a link.
pub fn set_xattr_at(dir: BorrowedFd<'_>, name: &Path, key: &str, value: &[u8]) -> io::Result<()> {
    let path = path_text(&below(dir, name))?;
    let key = CString::new(key)?;
    // SAFETY: strings and value live through the call.
    check(i64::from(unsafe {
        libc::lsetxattr(path.as_ptr(), key.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    }))?;
    Ok(())
}

/// Reads an extended attribute of a path, not following a link; `None` if it has none.
pub fn xattr(path: &Path, key: &str) -> Option<Vec<u8>> {
    const VALUE_MAX_BYTES: usize = 4096;
    let path = path_text(path).ok()?;
    let key = CString::new(key).ok()?;
    let mut value = vec![0u8; VALUE_MAX_BYTES];
    // SAFETY: strings and buffer live through the call, which writes at most its length.
    let n = unsafe {
        libc::lgetxattr(path.as_ptr(), key.as_ptr(), value.as_mut_ptr().cast(), value.len())
    };
    value.truncate(usize::try_from(n).ok()?);
    Some(value)
}

/// The path of a name in an open directory, for calls that only take paths.
pub fn below(dir: BorrowedFd<'_>, name: &Path) -> PathBuf {
    descriptor_path(dir).join(name)
}

/// The path of an open file or directory.
pub fn descriptor_path(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Waits until all of the file system that holds `fd` is on the disk.
pub fn sync_file_system(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers.
    check(i64::from(unsafe { libc::syncfs(fd.as_raw_fd()) }))?;
    Ok(())
}

/// Takes an exclusive lock on an open file without waiting; it lasts until the file is closed.
pub fn try_lock(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers.
    check(i64::from(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }))?;
    Ok(())
}

/// Major and minor of a device number as `stat` reports it.
pub fn device_numbers(device: u64) -> (u32, u32) {
    let device = device as libc::dev_t;
    (libc::major(device) as u32, libc::minor(device) as u32)
}

/// A kernel's file, an operator's or a record of ours: none is larger.
pub const SMALL_MAX_BYTES: u64 = 4 << 20;

/// Whether a file may be found by way of a symbolic link of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    Follow,
    Refuse,
}

/// A regular file, opened for reading. Anything else of that name (a pipe, a device, a link where they are
/// refused) is an error and is never waited for.
pub fn open_regular(path: impl AsRef<Path>, links: Links) -> io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    let no_link = if links == Links::Refuse { O_NOFOLLOW } else { 0 };
    let file = std::fs::File::options()
        .read(true)
        .custom_flags(O_NONBLOCK | O_NOCTTY | no_link)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}

/// A whole file, if it has at most `max_bytes`.
pub fn read_within(path: impl AsRef<Path>, max_bytes: u64, links: Links) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    open_regular(path, links)?.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > max_bytes {
        false => Ok(bytes),
        true => Err(io::Error::other(format!("it has more than {max_bytes} bytes"))),
    }
}

/// The text of a kernel's file; of one that is longer than any should be, the whole lines at its beginning.
pub fn kernel_text(path: impl AsRef<Path>) -> io::Result<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    open_regular(path, Links::Follow)?.take(SMALL_MAX_BYTES).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == SMALL_MAX_BYTES {
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        bytes.truncate(end);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Opens a regular file for reading of whose path the last `n_own` names may be no links: who may write into
/// those directories cannot lead us out of the one above them.
pub fn open_beneath(path: &Path, n_own: usize) -> io::Result<std::fs::File> {
    const RESOLVE_BENEATH: u64 = 0x08;
    const RESOLVE_NO_SYMLINKS: u64 = 0x04;
    let top = path.ancestors().nth(n_own).unwrap_or(Path::new("/"));
    let below = path_text(path.strip_prefix(top).unwrap_or(path))?;
    let top = open_dir(top)?;
    // SAFETY: all-zero is a valid open_how.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    let flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | libc::O_LARGEFILE;
    how.flags = u64::from(flags.cast_unsigned());
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
    // SAFETY: the string and `how` live through the call, with the size given.
    let file = std::fs::File::from(check_fd(unsafe {
        libc::syscall(
            libc::SYS_openat2,
            top.as_raw_fd(),
            below.as_ptr(),
            std::ptr::from_ref(&how),
            size_of::<libc::open_how>(),
        )
    })?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}
