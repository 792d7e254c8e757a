//! Opening a path below a root: by openat2(2), or step by step for kernels before 5.6.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

use rustix::fs::{Mode, ResolveFlags};
use rustix::io::Errno;

use crate::file::{O_CLOEXEC, O_CREAT, O_DIRECTORY, O_NOFOLLOW, O_PATH, open_at, open_flags};

/// As the kernel's own bound.
const LINKS_MAX: usize = 40;
const LINK_MAX_BYTES: usize = 4096;

/// Opens `path` as if `root` were `/`: links and `..` cannot lead out of it.
pub fn open_in_root(
    root: BorrowedFd<'_>,
    path: impl AsRef<Path>,
    flags: i32,
    mode: u32,
) -> io::Result<OwnedFd> {
    // EAGAIN: something on the way was renamed meanwhile; the kernel asks to try again.
    const ATTEMPTS_MAX: usize = 64;
    let how = open_flags(flags | O_CLOEXEC);
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..ATTEMPTS_MAX {
        match rustix::fs::openat2(root, path.as_ref(), how, Mode::from_raw_mode(mode), resolve) {
            Err(Errno::AGAIN) => {}
            // Before Linux 5.6.
            Err(Errno::NOSYS) => return walk(root, path.as_ref(), flags, mode),
            result => return Ok(result?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// The same without the kernel's help. Each step is taken from an open directory and follows no link,
/// and `..` goes back along the way that was come: renames by others meanwhile cannot lead out.
fn walk(root: BorrowedFd<'_>, path: &Path, flags: i32, mode: u32) -> io::Result<OwnedFd> {
    // The directories on the way; an empty list is the root.
    let mut way: Vec<OwnedFd> = Vec::new();
    // What is still to go, the next step last.
    let mut steps = steps_of(path.as_os_str());
    let mut n_links = 0;
    while let Some(step) = steps.pop() {
        if step == ".." {
            way.pop();
            continue;
        }
        let here = way.last().map_or(root, AsFd::as_fd);
        let name = Path::new(&step);
        let is_last = steps.is_empty();
        let found = match open_at(here, name, O_PATH | O_NOFOLLOW, 0) {
            Err(error)
                if is_last && flags & O_CREAT != 0 && error.kind() == io::ErrorKind::NotFound =>
            {
                return open_at(here, name, flags | O_NOFOLLOW, mode);
            }
            found => found?,
        };
        let kind = std::fs::File::from(found.try_clone()?).metadata()?.file_type();
        if kind.is_symlink() && !(is_last && flags & O_NOFOLLOW != 0) {
            n_links += 1;
            if n_links > LINKS_MAX {
                return Err(io::Error::from_raw_os_error(libc::ELOOP));
            }
            let target = read_link(found.as_fd())?;
            if target.as_bytes().starts_with(b"/") {
                way.clear();
            }
            steps.extend(steps_of(&target));
        } else if is_last {
            // With the flags of the caller; a link that took its place meanwhile is refused.
            return open_at(here, name, flags | O_NOFOLLOW, mode);
        } else if kind.is_dir() {
            way.push(found);
        } else {
            return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
        }
    }
    let here = way.last().map_or(root, AsFd::as_fd);
    open_at(here, Path::new("."), flags & !(O_CREAT | O_NOFOLLOW) | O_DIRECTORY, 0)
}

/// The steps of a path, the first one last.
fn steps_of(path: &OsStr) -> Vec<OsString> {
    let mut steps: Vec<OsString> = Path::new(path)
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect();
    steps.reverse();
    steps
}

/// The text of the link behind an `O_PATH` descriptor.
fn read_link(link: BorrowedFd<'_>) -> io::Result<OsString> {
    let text = rustix::fs::readlinkat(link, "", Vec::with_capacity(LINK_MAX_BYTES))?;
    Ok(OsString::from_vec(text.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file;

    /// Both ways must say the same of each path.
    #[test]
    fn it_opens_what_openat2_opens() {
        let dir = std::env::temp_dir().join(format!("sys-walk-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("a/b")).unwrap();
        std::fs::write(dir.join("a/file"), "1").unwrap();
        for (target, link) in [
            ("/a", "absolute"),
            ("../../../..", "up"),
            ("a/../a/b", "there"),
            ("/absolute/b/../file", "chain"),
            ("loop", "loop"),
            ("nothing", "dangling"),
        ] {
            std::os::unix::fs::symlink(target, dir.join(link)).unwrap();
        }
        let root = file::open_dir(&dir).unwrap();
        let paths = [
            "/",
            "",
            ".",
            "..",
            "a",
            "a/",
            "/absolute/file",
            "absolute/b/..",
            "/up/a/file",
            "there/../file",
            "chain",
            "chain/x",
            "loop",
            "dangling",
            "../../a/file",
            "a/nothing/..",
            "a/file/..",
            "up",
        ];
        for flags in [O_PATH, O_PATH | O_NOFOLLOW, file::O_RDONLY, O_PATH | O_DIRECTORY] {
            for path in paths {
                let said = |opened: io::Result<OwnedFd>| match opened {
                    Ok(fd) => std::fs::read_link(file::descriptor_path(fd.as_fd())).map_err(|_| 0),
                    Err(error) => Err(error.raw_os_error().unwrap_or(0)),
                };
                let ours = said(walk(root.as_fd(), Path::new(path), flags, 0));
                match said(open_in_root(root.as_fd(), path, flags, 0)) {
                    // The kernel finds nothing at an empty name; we take it for the root.
                    Err(libc::ENOENT) if path.is_empty() => {}
                    kernel => assert_eq!(ours, kernel, "{path:?} {flags:#o}"),
                }
            }
        }
        let made = walk(root.as_fd(), Path::new("up/a/new"), O_CREAT | file::O_WRONLY, 0o600);
        assert!(made.is_ok() && dir.join("a/new").is_file());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
