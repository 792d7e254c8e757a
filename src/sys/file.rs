//! Files relative to a directory descriptor, never following links out of it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    self, AtFlags, CWD, FileType, FlockOperation, Gid, Mode, OFlags, ResolveFlags, Timespec,
    Timestamps, Uid, XattrFlags,
};

pub use libc::{
    O_APPEND, O_CLOEXEC, O_CREAT, O_DIRECTORY, O_EXCL, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK, O_PATH,
    O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY,
};

/// Opens a directory of the host, for use as `root`.
pub fn open_dir(path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    open_at(CWD, path.as_ref(), O_RDONLY | O_DIRECTORY, 0)
}

/// Opens one name in a directory.
pub fn open_at(dir: BorrowedFd<'_>, name: &Path, flags: i32, mode: u32) -> io::Result<OwnedFd> {
    Ok(fs::openat(dir, name, open_flags(flags | O_CLOEXEC), Mode::from_raw_mode(mode))?)
}

/// The flags of open(2), all of them: what the library does not know goes to the kernel too.
pub(crate) fn open_flags(flags: i32) -> OFlags {
    OFlags::from_bits_retain(flags.cast_unsigned())
}

pub fn make_dir_at(dir: BorrowedFd<'_>, name: &Path, mode: u32) -> io::Result<()> {
    Ok(fs::mkdirat(dir, name, Mode::from_raw_mode(mode))?)
}

pub fn symlink_at(target: &Path, dir: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    Ok(fs::symlinkat(target, dir, name)?)
}

/// Hard-links `old` (not followed if a symbolic link) as `new`.
pub fn link_at(
    old_dir: BorrowedFd<'_>,
    old: &Path,
    new_dir: BorrowedFd<'_>,
    new: &Path,
) -> io::Result<()> {
    Ok(fs::linkat(old_dir, old, new_dir, new, AtFlags::empty())?)
}

/// Removes a name; an empty directory if `directory`.
pub fn unlink_at(dir: BorrowedFd<'_>, name: &Path, directory: bool) -> io::Result<()> {
    let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    Ok(fs::unlinkat(dir, name, flags)?)
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
    let (kind, device) = match special {
        Special::Character { major, minor } => {
            (FileType::CharacterDevice, fs::makedev(major, minor))
        }
        Special::Block { major, minor } => (FileType::BlockDevice, fs::makedev(major, minor)),
        Special::Fifo => (FileType::Fifo, 0),
    };
    Ok(fs::mknodat(dir, name, kind, Mode::from_raw_mode(mode), device)?)
}

/// Sets the owner of a name, not following a link.
pub fn set_owner_at(dir: BorrowedFd<'_>, name: &Path, uid: u32, gid: u32) -> io::Result<()> {
    set_owner(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// Sets owner and group; what is `None`, or the number that means so to the kernel, stays.
pub(crate) fn set_owner(
    dir: BorrowedFd<'_>,
    name: &Path,
    uid: Option<u32>,
    gid: Option<u32>,
    flags: AtFlags,
) -> io::Result<()> {
    let (uid, gid) = (uid.filter(|uid| *uid != u32::MAX), gid.filter(|gid| *gid != u32::MAX));
    Ok(fs::chownat(dir, name, uid.map(Uid::from_raw), gid.map(Gid::from_raw), flags)?)
}

/// Sets access and modification time, not following a link.
pub fn set_time_at(dir: BorrowedFd<'_>, name: &Path, secs: i64, nanos: u32) -> io::Result<()> {
    set_time(dir, name, secs, nanos, AtFlags::SYMLINK_NOFOLLOW)
}

/// Sets the times of what a descriptor's own path leads to.
pub(crate) fn set_time_of(descriptor: &Path, secs: i64, nanos: u32) -> io::Result<()> {
    set_time(CWD, descriptor, secs, nanos, AtFlags::empty())
}

fn set_time(
    dir: BorrowedFd<'_>,
    name: &Path,
    secs: i64,
    nanos: u32,
    flags: AtFlags,
) -> io::Result<()> {
    let time = Timespec { tv_sec: secs, tv_nsec: i64::from(nanos) as _ };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(fs::utimensat(dir, name, &times, flags)?)
}

/// Renames a name into another directory of the same file system.
pub(crate) fn rename_at(
    old_dir: BorrowedFd<'_>,
    old: &Path,
    new_dir: BorrowedFd<'_>,
    new: &Path,
) -> io::Result<()> {
    Ok(fs::renameat(old_dir, old, new_dir, new)?)
}

/// Sets an extended attribute of a name, not following a link.
pub fn set_xattr_at(dir: BorrowedFd<'_>, name: &Path, key: &str, value: &[u8]) -> io::Result<()> {
    Ok(fs::lsetxattr(below(dir, name), key, value, XattrFlags::empty())?)
}

/// Reads an extended attribute of a path, not following a link; `None` if it has none.
pub fn xattr(path: &Path, key: &str) -> Option<Vec<u8>> {
    const VALUE_MAX_BYTES: usize = 4096;
    let mut value = vec![0u8; VALUE_MAX_BYTES];
    let n = fs::lgetxattr(path, key, &mut value).ok()?;
    value.truncate(n);
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
    Ok(fs::syncfs(fd)?)
}

/// Takes an exclusive lock on an open file without waiting; it lasts until the file is closed.
pub fn try_lock(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fs::flock(fd, FlockOperation::NonBlockingLockExclusive)?)
}

/// Major and minor of a device number as `stat` reports it.
pub fn device_numbers(device: u64) -> (u32, u32) {
    (fs::major(device), fs::minor(device))
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

/// A file without a name that holds `bytes` and is read from its beginning.
pub fn in_memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    use io::{Seek, Write};
    let flags = fs::MemfdFlags::CLOEXEC;
    let mut file = std::fs::File::from(fs::memfd_create(c"k3rs", flags)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
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
    let top = path.ancestors().nth(n_own).unwrap_or(Path::new("/"));
    let below = path.strip_prefix(top).unwrap_or(path);
    let flags = open_flags(O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file =
        std::fs::File::from(fs::openat2(open_dir(top)?, below, flags, Mode::empty(), resolve)?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}
