//! Files relative to a directory descriptor, never following links out of it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use crate::tree::{Node, place_below};
use crate::{check, check_fd, path_text};

pub use libc::{
    O_APPEND, O_CLOEXEC, O_CREAT, O_DIRECTORY, O_EXCL, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK, O_PATH,
    O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY,
};

/// Opens `path` as if `root` were `/`: links and `..` cannot lead out of it.
pub fn open_in_root(
    root: BorrowedFd<'_>,
    path: impl AsRef<Path>,
    flags: i32,
    mode: u32,
) -> io::Result<OwnedFd> {
    const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
    const RESOLVE_IN_ROOT: u64 = 0x10;
    let text = path_text(path.as_ref())?;
    // SAFETY: all-zero is a valid open_how.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    // libc's own calls add this on 32 bits, without which files end at 2 GiB; O_PATH does not take it.
    let large = if flags & O_PATH == 0 { libc::O_LARGEFILE } else { 0 };
    how.flags = u64::from((flags | O_CLOEXEC | large).cast_unsigned());
    how.mode = u64::from(mode);
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    // EAGAIN: something on the way was renamed meanwhile; the kernel asks to try again.
    const ATTEMPTS_MAX: usize = 64;
    for _ in 0..ATTEMPTS_MAX {
        // SAFETY: the string and `how` live through the call, with the size given.
        let result = check_fd(unsafe {
            libc::syscall(
                libc::SYS_openat2,
                root.as_raw_fd(),
                text.as_ptr(),
                std::ptr::from_ref(&how),
                size_of::<libc::open_how>(),
            )
        });
        match result {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            // Before Linux 5.6.
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                return crate::walk::open_in_root(root, path.as_ref(), flags, mode);
            }
            result => return result,
        }
    }
    Err(io::Error::from_raw_os_error(libc::EAGAIN))
}

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

/// What `make_in_root` makes where nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    Directory,
    File,
}

/// Opens (`O_PATH`) what is at `path` below `root`, making it and missing parents (mode 0755).
/// A symbolic link that leads to nothing leads to what is made.
pub fn make_in_root(root: BorrowedFd<'_>, path: &Path, missing: Missing) -> io::Result<OwnedFd> {
    make_in_root_telling(root, path, missing, 0o755, &mut |_| Ok(()))
}

/// As `make_in_root`, with the mode of new directories (less the umask); tells of each one made.
pub fn make_in_root_telling(
    root: BorrowedFd<'_>,
    path: &Path,
    missing: Missing,
    mode: u32,
    made: &mut dyn FnMut(&Node) -> io::Result<()>,
) -> io::Result<OwnedFd> {
    const LINKS_MAX: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match make_once(root, &path, missing, mode, made)? {
            Made::Opened(opened) => return Ok(opened),
            Made::Elsewhere(target) => path = target,
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

enum Made {
    Opened(OwnedFd),
    /// A link on the way leads there.
    Elsewhere(PathBuf),
}

fn make_once(
    root: BorrowedFd<'_>,
    path: &Path,
    missing: Missing,
    mode: u32,
    made: &mut dyn FnMut(&Node) -> io::Result<()>,
) -> io::Result<Made> {
    match open_in_root(root, path, O_PATH, 0) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result.map(Made::Opened),
    }
    let mut sofar = PathBuf::from("/");
    // What is at `sofar`, so that a long path costs one step a part, not its length.
    let mut at = open_at(root, Path::new("."), O_PATH | O_DIRECTORY, 0)?;
    let mut parts = path.components().peekable();
    while let Some(part) = parts.next() {
        let name = match part {
            Component::Normal(name) => Path::new(name),
            Component::ParentDir => {
                // Above where the links on the way led, not above their names.
                sofar = place_below(root, at.as_fd())?;
                sofar.pop();
                at = open_in_root(root, &sofar, O_PATH | O_DIRECTORY, 0)?;
                continue;
            }
            _ => continue,
        };
        let here = sofar.join(name);
        let found = match Node::open(at.as_fd(), name) {
            Ok(node) if node.metadata()?.is_symlink() => open_in_root(root, &here, O_PATH, 0),
            found => found.map(OwnedFd::from),
        };
        at = match found {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let result = if parts.peek().is_none() && missing == Missing::File {
                    let flags = O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW;
                    open_at(at.as_fd(), name, flags, 0o644).map(drop)
                } else {
                    make_dir_at(at.as_fd(), name, mode)
                        .and_then(|()| made(&Node::open(at.as_fd(), name)?))
                };
                match result {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        // It exists and does not: a dangling link.
                        let target = std::fs::read_link(below(at.as_fd(), name))?;
                        let rest: PathBuf = parts.collect();
                        let above = place_below(root, at.as_fd())?;
                        return Ok(Made::Elsewhere(above.join(target).join(rest)));
                    }
                    result => result?,
                }
                let made = Node::open(at.as_fd(), name)?;
                if made.metadata()?.is_symlink() {
                    // Whoever may write here put a link in its place: where it leads is looked up anew, below the root.
                    return Ok(Made::Elsewhere(path.to_owned()));
                }
                made.into()
            }
            found => found?,
        };
        sofar = here;
    }
    Ok(Made::Opened(at))
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

/// Sets the mode bits of a name; one that is a symbolic link is refused, and not followed.
pub fn set_mode_at(dir: BorrowedFd<'_>, name: &Path, mode: u32) -> io::Result<()> {
    Node::open(dir, name)?.set_mode(mode)
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
pub fn rename_at(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_never_a_link_however_fast_somebody_puts_one_there() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let dir = std::env::temp_dir().join(format!("k3rs-test-swap-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = std::fs::remove_dir(dir.join("d"));
                    let _ = std::os::unix::fs::symlink("/", dir.join("d"));
                    let _ = std::fs::remove_file(dir.join("d"));
                }
            });
            let root = open_dir(&dir).unwrap();
            for _ in 0..50_000 {
                let made = make_in_root(root.as_fd(), Path::new("d"), Missing::Directory);
                let Ok(made) = made else { continue };
                let metadata = std::fs::File::from(made).metadata().unwrap();
                if !metadata.is_dir() {
                    done.store(true, Ordering::Relaxed);
                    panic!("led to {metadata:?}");
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn links_stay_in_the_root() {
        let dir = std::env::temp_dir().join(format!("sys-file-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        std::fs::write(dir.join("etc/inside"), "1").unwrap();
        std::os::unix::fs::symlink("/etc", dir.join("absolute")).unwrap();
        std::os::unix::fs::symlink("../../../..", dir.join("up")).unwrap();
        let root = open_dir(&dir).unwrap();
        for path in ["/absolute/inside", "/up/etc/inside", "../../etc/inside"] {
            open_in_root(root.as_fd(), path, O_RDONLY, 0).unwrap();
        }
        assert!(open_in_root(root.as_fd(), "/up/proc/self/stat", O_RDONLY, 0).is_err());
        make_in_root(root.as_fd(), Path::new("/absolute/new/file"), Missing::File).unwrap();
        assert!(dir.join("etc/new/file").is_file());
        make_in_root(root.as_fd(), Path::new("/x/../y/z"), Missing::Directory).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
