//! Making what is missing on the way to a path below a root, whatever links others put there meanwhile.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use crate::file::{
    O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_PATH, O_WRONLY, below, make_dir_at, open_at,
};
use crate::rooted::open_in_root;
use crate::tree::{Node, place_below};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{O_RDONLY, open_dir};

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
