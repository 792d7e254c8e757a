//! Trees that images and containers wrote: walked and removed by descriptor, whatever their depth and links.
//!
//! Nothing here recurses, follows a link, or holds more than a few descriptors, so that neither a
//! hundred thousand nested directories nor a path beyond the kernel's bound is anything special.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, IFlags};

use crate::file::{self, O_DIRECTORY, O_NOFOLLOW, O_PATH, O_RDONLY};
use crate::{check, rooted};

/// Which file it is, whatever its name.
pub type Identity = (u64, u64);

/// A file, directory, link or device held by descriptor: what is done to it is done to it, whatever
/// its name leads to by then.
#[derive(Debug)]
pub struct Node(File);

impl Node {
    /// What has this name in `dir`; a link is taken itself.
    pub fn open(dir: BorrowedFd<'_>, name: &Path) -> io::Result<Node> {
        file::open_at(dir, name, O_PATH | O_NOFOLLOW, 0).map(|fd| Node(File::from(fd)))
    }

    /// What is at `path` as if `root` were `/`; a link at its end is taken itself.
    pub fn open_in_root(root: BorrowedFd<'_>, path: &Path) -> io::Result<Node> {
        rooted::open_in_root(root, path, O_PATH | O_NOFOLLOW, 0).map(|fd| Node(File::from(fd)))
    }

    pub fn metadata(&self) -> io::Result<std::fs::Metadata> {
        self.0.metadata()
    }

    pub fn identity(&self) -> io::Result<Identity> {
        self.0.metadata().map(|found| (found.dev(), found.ino()))
    }

    /// Sets owner and group; `None` leaves one as it is.
    pub fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        file::set_owner(self.0.as_fd(), Path::new(""), uid, gid, AtFlags::EMPTY_PATH)
    }

    /// Sets the mode bits. A symbolic link has none: it is refused, its target left alone.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        if self.metadata()?.file_type().is_symlink() {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        use std::os::unix::fs::PermissionsExt;
        let place = file::descriptor_path(self.0.as_fd());
        std::fs::set_permissions(place, std::fs::Permissions::from_mode(mode))
    }

    /// Sets access and modification time.
    pub fn set_time(&self, secs: i64, nanos: u32) -> io::Result<()> {
        // By the descriptor's own name: the link that it is goes to the file itself and no further.
        file::set_time_of(&file::descriptor_path(self.0.as_fd()), secs, nanos)
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Removes what is at `path`, with all below it if it is a directory. A link goes itself; something
/// mounted inside stays with the directories that lead to it, and is an error in the end.
pub fn remove(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = file::open_dir(parent.unwrap_or(Path::new(".")))?;
    remove_at(parent.as_fd(), Path::new(name))
}

/// As `remove`, for a name in an open directory.
pub fn remove_at(parent: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    match remove_simple(parent, name)? {
        Removed::Yes => Ok(()),
        Removed::HoldsMore => {
            let top = open_child(parent, name)?;
            empty(&top)?;
            file::unlink_at(parent, name, true)
        }
    }
}

enum Removed {
    Yes,
    /// It is a directory that is not empty.
    HoldsMore,
}

/// Removes a file or an empty directory. A mount point is busy for the kernel, so nothing here ever
/// steps over one.
fn remove_simple(dir: BorrowedFd<'_>, name: &Path) -> io::Result<Removed> {
    match unlink(dir, name) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            release(dir, name).map_err(|_| error)?;
            unlink(dir, name)
        }
        done => done,
    }
}

/// Takes away what keeps even root from removing or renaming `name` in `dir` (`chattr +ia`): a container
/// with CAP_LINUX_IMMUTABLE may have set it, and its pod would stay for ever.
///
/// # Errors
/// If neither has such an attribute, or it cannot be taken away.
fn release(dir: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    let of_dir = clear_attributes(dir);
    let node = Node::open(dir, name)?;
    let kind = node.metadata()?.file_type();
    // Opening others may have effects, or wait.
    if kind.is_file() || kind.is_dir() {
        return clear_attributes(node.as_fd()).or(of_dir);
    }
    of_dir
}

fn clear_attributes(node: BorrowedFd<'_>) -> io::Result<()> {
    let file = File::open(file::descriptor_path(node))?;
    let mut flags = rustix::fs::ioctl_getflags(&file)?;
    let keep = IFlags::IMMUTABLE | IFlags::APPEND;
    if !flags.intersects(keep) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    flags.remove(keep);
    Ok(rustix::fs::ioctl_setflags(&file, flags)?)
}

fn unlink(dir: BorrowedFd<'_>, name: &Path) -> io::Result<Removed> {
    match file::unlink_at(dir, name, false) {
        Ok(()) => return Ok(Removed::Yes),
        Err(error) if error.raw_os_error() == Some(libc::EISDIR) => {}
        Err(error) => return Err(error),
    }
    match file::unlink_at(dir, name, true) {
        Ok(()) => Ok(Removed::Yes),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST)) => {
            Ok(Removed::HoldsMore)
        }
        Err(error) => Err(error),
    }
}

fn open_child(dir: BorrowedFd<'_>, name: &Path) -> io::Result<File> {
    file::open_at(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0).map(File::from)
}

/// Removes everything in `top`. Directories that are not empty are moved up to `top` before what they
/// were in is removed: so depth costs neither stack nor descriptors.
fn empty(top: &File) -> io::Result<()> {
    pass_until_empty(top, &mut |name| {
        let mut name = name.to_owned();
        loop {
            let dir = open_child(top.as_fd(), Path::new(&name))?;
            let mut next = None;
            pass_until_empty(&dir, &mut |inner| {
                next = Some(move_up(&dir, inner, top)?);
                Ok(())
            })?;
            file::unlink_at(top.as_fd(), Path::new(&name), true)?;
            // The last one at once: a chain of directories is gone in one go.
            name = match next.map(|next| (remove_simple(top.as_fd(), Path::new(&next)), next)) {
                None | Some((Ok(Removed::Yes), _)) => return Ok(()),
                Some((Ok(Removed::HoldsMore), next)) => next,
                Some((Err(error), _)) => return Err(error),
            };
        }
    })
}

/// Removes what can simply be removed and gives the rest to `other`, until nothing is left, or until
/// nothing of what is left can be removed.
fn pass_until_empty(dir: &File, other: &mut dyn FnMut(&OsStr) -> io::Result<()>) -> io::Result<()> {
    loop {
        let mut dir = dir;
        dir.seek(SeekFrom::Start(0))?;
        let mut reader = Reader::default();
        let (mut n_removed, mut failure) = (0u64, None);
        while let Some(found) = reader.next(dir)? {
            let done = match remove_simple(dir.as_fd(), Path::new(&found.name)) {
                Ok(Removed::HoldsMore) => other(&found.name),
                Ok(Removed::Yes) => Ok(()),
                Err(error) => Err(error),
            };
            match done {
                Ok(()) => n_removed += 1,
                // Someone else was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        match (n_removed, failure) {
            (0, None) => return Ok(()),
            (0, Some(error)) => return Err(error),
            _ => {}
        }
    }
}

/// Gives a directory a new name in `top`.
fn move_up(dir: &File, name: &OsStr, top: &File) -> io::Result<OsString> {
    const ATTEMPTS_MAX: usize = 8;
    let mut last = io::Error::from_raw_os_error(libc::EEXIST);
    for _ in 0..ATTEMPTS_MAX {
        let mut random = [0; 8];
        crate::random::fill(&mut random);
        let new = OsString::from(format!(".{:016x}", u64::from_ne_bytes(random)));
        match file::rename_at(dir.as_fd(), Path::new(name), top.as_fd(), Path::new(&new)) {
            Ok(()) => return Ok(new),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                let released = release(dir.as_fd(), Path::new(name));
                released.or(clear_attributes(top.as_fd())).map_err(|_| error)?;
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What a walk came by.
#[derive(Debug)]
pub struct Visit<'a> {
    /// The directory it is in.
    pub dir: BorrowedFd<'a>,
    pub name: &'a Path,
    /// Its own, not that of what it links to.
    pub metadata: &'a std::fs::Metadata,
}

/// Whether a walk goes into a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Into,
    Over,
}

/// Directories in directories that a walk follows, and of those the ones held open.
const DEPTH_MAX: usize = 1 << 18;
const OPEN_MAX: usize = 32;

struct Frame {
    identity: Identity,
    /// Where reading goes on.
    next: i64,
    open: Option<(File, Reader)>,
}

/// Visits everything below `root`, each directory before what is in it. What vanishes meanwhile is
/// passed over.
///
/// # Errors
/// Those of `visit`; a tree deeper than 262,144 directories; a directory that was moved elsewhere
/// while the walk was in it.
pub fn walk(
    root: BorrowedFd<'_>,
    visit: &mut dyn FnMut(&Visit<'_>) -> io::Result<Step>,
) -> io::Result<()> {
    let opened = open_child(root, Path::new("."))?;
    let mut frames = vec![frame_of(opened)?];
    while let Some(frame) = frames.last_mut() {
        let Some((dir, reader)) = &mut frame.open else {
            return Err(io::Error::from_raw_os_error(libc::ESTALE));
        };
        let Some(found) = reader.next(dir)? else {
            let below = frames.pop().and_then(|frame| frame.open);
            if let (Some(above), Some((dir, _))) = (frames.last_mut(), below)
                && above.open.is_none()
            {
                reopen(above, &dir)?;
            }
            continue;
        };
        frame.next = found.next;
        let name = Path::new(&found.name);
        let metadata = match std::fs::symlink_metadata(file::below(dir.as_fd(), name)) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let step = visit(&Visit { dir: dir.as_fd(), name, metadata: &metadata })?;
        if step == Step::Over || !metadata.is_dir() {
            continue;
        }
        // Replaced meanwhile: what took its place was not visited, so it is not entered.
        let Ok(child) = open_child(dir.as_fd(), name) else { continue };
        let child = frame_of(child)?;
        if child.identity != (metadata.dev(), metadata.ino()) {
            continue;
        }
        if frames.len() >= DEPTH_MAX {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        frames.push(child);
        if let Some(far) = frames.len().checked_sub(1 + OPEN_MAX) {
            frames[far].open = None;
        }
    }
    Ok(())
}

fn frame_of(dir: File) -> io::Result<Frame> {
    let found = dir.metadata()?;
    Ok(Frame {
        identity: (found.dev(), found.ino()),
        next: 0,
        open: Some((dir, Reader::default())),
    })
}

/// Opens the directory above again and goes on where reading it stopped.
fn reopen(above: &mut Frame, dir: &File) -> io::Result<()> {
    let mut up = open_child(dir.as_fd(), Path::new(".."))?;
    let found = up.metadata()?;
    if (found.dev(), found.ino()) != above.identity {
        return Err(io::Error::from_raw_os_error(libc::ESTALE));
    }
    up.seek(SeekFrom::Start(above.next.cast_unsigned()))?;
    above.open = Some((up, Reader::default()));
    Ok(())
}

/// Reads a directory's names a buffer at a time.
#[derive(Default)]
struct Reader {
    buf: Vec<u8>,
    at: usize,
}

struct Found {
    name: OsString,
    /// Where the next one is read from.
    next: i64,
}

const READ_BYTES: usize = 8 << 10;

impl Reader {
    fn next(&mut self, dir: &File) -> io::Result<Option<Found>> {
        loop {
            if self.at >= self.buf.len() && !self.fill(dir)? {
                return Ok(None);
            }
            // struct linux_dirent64: inode 8, next 8, length 2, type 1, name with a zero at its end.
            let rest = &self.buf[self.at..];
            let malformed = || io::Error::from(io::ErrorKind::InvalidData);
            let field = |at: usize, n: usize| rest.get(at..at + n).ok_or_else(malformed);
            let next = i64::from_ne_bytes(field(8, 8)?.try_into().map_err(|_| malformed())?);
            let length = u16::from_ne_bytes(field(16, 2)?.try_into().map_err(|_| malformed())?);
            let length = usize::from(length);
            let name = rest.get(19..length).ok_or_else(malformed)?;
            let name = &name[..name.iter().position(|byte| *byte == 0).unwrap_or(name.len())];
            let name = (!matches!(name, b"." | b"..")).then(|| OsStr::from_bytes(name).to_owned());
            self.at += length;
            if let Some(name) = name {
                return Ok(Some(Found { name, next }));
            }
        }
    }

    fn fill(&mut self, dir: &File) -> io::Result<bool> {
        self.buf.resize(READ_BYTES, 0);
        // SAFETY: pointer and length describe `buf`.
        let result = check(unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                dir.as_raw_fd(),
                self.buf.as_mut_ptr(),
                self.buf.len(),
            )
        });
        let n = match result {
            Ok(n) => usize::try_from(n).unwrap_or(0),
            // The directory itself was removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => {
                self.buf.clear();
                return Err(error);
            }
        };
        self.buf.truncate(n);
        self.at = 0;
        Ok(n > 0)
    }
}

/// Sets the mode bits of a name; one that is a symbolic link is refused, and not followed.
pub fn set_mode_at(dir: BorrowedFd<'_>, name: &Path, mode: u32) -> io::Result<()> {
    Node::open(dir, name)?.set_mode(mode)
}

/// Where an open file or directory is below `root`, as an absolute path in it.
pub fn place_below(root: BorrowedFd<'_>, opened: BorrowedFd<'_>) -> io::Result<std::path::PathBuf> {
    let root = std::fs::read_link(file::descriptor_path(root))?;
    let place = std::fs::read_link(file::descriptor_path(opened))?;
    let below = place.strip_prefix(&root).map_err(|_| io::ErrorKind::NotFound)?;
    Ok(Path::new("/").join(below))
}

/// As `OwnedFd`, for callers that keep the directory.
impl From<Node> for OwnedFd {
    fn from(node: Node) -> OwnedFd {
        node.0.into()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("sys-tree-{name}-{}", std::process::id()));
        let _ = remove(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// Makes `depth` directories in each other, each with a file, below an open directory.
    fn nest(dir: &Path, depth: usize) {
        let mut here = file::open_dir(dir).unwrap();
        for _ in 0..depth {
            let name = Path::new("deep");
            file::make_dir_at(here.as_fd(), name, 0o755).unwrap();
            let flags = file::O_CREAT | file::O_WRONLY;
            file::open_at(here.as_fd(), Path::new("file"), flags, 0o644).unwrap();
            here = file::open_at(here.as_fd(), name, O_RDONLY | O_DIRECTORY, 0).unwrap();
        }
    }

    /// On a stack that no recursion over this would fit into.
    fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
        std::thread::Builder::new().stack_size(96 << 10).spawn(work).unwrap().join().unwrap();
    }

    #[test]
    fn twenty_thousand_directories_in_each_other_are_walked_and_removed() {
        on_a_small_stack(|| {
            let dir = scratch("deep");
            nest(&dir, 20_000);
            std::fs::create_dir_all(dir.join("deep/beside/more")).unwrap();
            let root = file::open_dir(&dir).unwrap();
            let (mut n_dirs, mut n_files) = (0, 0);
            walk(root.as_fd(), &mut |visit| {
                if visit.metadata.is_dir() {
                    n_dirs += 1
                } else {
                    n_files += 1
                }
                Ok(Step::Into)
            })
            .unwrap();
            assert_eq!((n_dirs, n_files), (20_002, 20_000));
            remove(&dir).unwrap();
            assert!(!dir.exists());
        });
    }

    #[test]
    fn attributes_that_forbid_removal_are_taken_away() {
        let top = scratch("attributes");
        for path in ["d/deep/er", "plain", "e/f/g"] {
            std::fs::create_dir_all(top.join(path)).unwrap();
        }
        for path in ["d/deep/file", "d/file"] {
            std::fs::write(top.join(path), b"x").unwrap();
        }
        // Directories after what is in them.
        for path in
            ["d/deep/file", "d/file", "d/deep/er", "d/deep", "d", "e/f/g", "e/f", "plain", ""]
        {
            let flags: libc::c_int = 0x10 | 0x20;
            let file = File::open(top.join(path)).unwrap();
            // SAFETY: the descriptor is open, and the kernel reads one int.
            let set = unsafe {
                libc::ioctl(file.as_raw_fd(), libc::FS_IOC_SETFLAGS as _, &raw const flags)
            };
            assert_eq!(set, 0, "{path}: {}", io::Error::last_os_error());
        }
        assert!(std::fs::remove_dir_all(&top).is_err());
        remove(&top).unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let (dir, outside) = (scratch("links"), scratch("outside"));
        std::fs::write(outside.join("kept"), "1").unwrap();
        std::os::unix::fs::symlink(&outside, dir.join("link")).unwrap();
        std::fs::create_dir_all(dir.join("a/b/c")).unwrap();
        std::os::unix::fs::symlink(outside.join("kept"), dir.join("a/b/c/link")).unwrap();
        std::os::unix::fs::symlink("..", dir.join("a/b/up")).unwrap();
        for n in 0..3000 {
            std::fs::create_dir_all(dir.join(format!("wide/{n}/x"))).unwrap();
        }
        remove(&dir).unwrap();
        assert!(!dir.exists() && outside.join("kept").exists());
        std::os::unix::fs::symlink(&outside, &dir).unwrap();
        remove(&dir).unwrap();
        assert!(outside.join("kept").exists(), "the link itself goes");
        remove(&outside).unwrap();
        assert_eq!(remove(&outside).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_node_is_what_it_was_opened_as() {
        let dir = scratch("node");
        let mode = |name: &str| dir.join(name).metadata().unwrap().permissions().mode() & 0o7777;
        for name in ["file", "other"] {
            std::fs::write(dir.join(name), "1").unwrap();
            std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o600))
                .unwrap();
        }
        std::os::unix::fs::symlink("other", dir.join("link")).unwrap();
        let root = file::open_dir(&dir).unwrap();
        let link = Node::open(root.as_fd(), Path::new("link")).unwrap();
        assert_eq!(link.set_mode(0o777).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        link.set_time(7, 0).unwrap();
        assert_eq!(std::fs::symlink_metadata(dir.join("link")).unwrap().mtime(), 7);
        assert_ne!(dir.join("other").metadata().unwrap().mtime(), 7);
        let node = Node::open(root.as_fd(), Path::new("file")).unwrap();
        std::fs::rename(dir.join("file"), dir.join("moved")).unwrap();
        std::os::unix::fs::symlink("other", dir.join("file")).unwrap();
        node.set_mode(0o640).unwrap();
        assert_eq!((mode("moved"), mode("other")), (0o640, 0o600));
        assert!(set_mode_at(root.as_fd(), Path::new("file"), 0o777).is_err());
        assert_eq!(mode("other"), 0o600);
        remove(&dir).unwrap();
    }
}
