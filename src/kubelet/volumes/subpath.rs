//! `subPath`: a part of a volume, reached without ever following a link out of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use stdx::{Context, Error, Result};
use sys::file;
use sys::make::{self, Missing};
use sys::tree::Node;

/// Binds `volume/sub_path` at `place` (below the pod's directory), so that what the container may
/// later do to the volume cannot change where the mount leads. Missing directories are made.
/// Blocking; answers the path to mount.
pub(crate) fn bind(volume: &Path, sub_path: &str, place: &Path) -> Result<PathBuf> {
    check(sub_path)?;
    let what = || format!("prepare subPath {sub_path:?} of {}", volume.display());
    let root = file::open_dir(volume).context(what)?;
    let opened = make(root.as_fd(), sub_path).context(what)?;
    // The path behind the descriptor tells whether a link led elsewhere inside the volume: upstream
    // refuses none of those, as long as they stay inside, and `open_in_root` lets none out.
    let source = file::descriptor_path(opened.as_fd());
    let is_dir = source.metadata().context(what)?.is_dir();
    release(place)?;
    if let Some(parent) = place.parent() {
        rt::fs::create_dir_all(parent, 0o750)?;
    }
    match is_dir {
        true => rt::fs::create_dir_all(place, 0o750)?,
        false => rt::fs::write(place, b"", 0o640)?,
    }
    let source = source.to_str().context(what)?;
    sys::mount::mount(source, place, "", sys::mount::MS_BIND | sys::mount::MS_REC, "")
        .context(what)?;
    Ok(place.to_owned())
}

/// Opens the part, making what is missing with the mode of the volume's root, as upstream: the last
/// directory exactly so, so that whoever may write in the volume may write there.
fn make(root: BorrowedFd<'_>, sub_path: &str) -> std::io::Result<OwnedFd> {
    let own = Node::open(root, Path::new("."))?.metadata()?.mode() & 0o7777;
    let mut last = None;
    let opened = make::make_in_root_telling(
        root,
        Path::new(sub_path),
        Missing::Directory,
        own & 0o777,
        &mut |made| {
            last = Some(made.identity()?);
            Ok(())
        },
    )?;
    let end = Node::open(opened.as_fd(), Path::new("."));
    if let (Some(last), Ok(end)) = (last, end)
        && end.identity()? == last
    {
        end.set_mode(own)?;
    }
    Ok(opened)
}

/// Undoes `bind`. An absent one is fine. Blocking.
pub(crate) fn release(place: &Path) -> Result<()> {
    const MOUNTS_MAX: usize = 16;
    if place.symlink_metadata().is_err() {
        return Ok(());
    }
    for _ in 0..MOUNTS_MAX {
        if sys::mount::unmount(place, sys::mount::MNT_DETACH).is_err() {
            break;
        }
    }
    match place.is_dir() {
        // Only an empty directory: never the volume behind it, should an unmount have failed.
        true => {
            let parent = place.parent().context(|| "subPath mount without a parent")?;
            let name = place.file_name().context(|| "subPath mount without a name")?;
            let dir = file::open_dir(parent).context(|| format!("open {}", parent.display()))?;
            file::unlink_at(dir.as_fd(), Path::new(name), true)
                .context(|| format!("remove {}", place.display()))
        }
        false => rt::fs::remove_file(place),
    }
}

/// Relative and without `..`.
fn check(sub_path: &str) -> Result<()> {
    let fine = Path::new(sub_path)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    match fine && !sub_path.is_empty() {
        true => Ok(()),
        false => Err(Error::new(format!("subPath {sub_path:?} must be relative and without .."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_directories_have_the_mode_of_the_volume() {
        let dir = crate::testing::directory("subpath-mode");
        let volume = dir.path().join("v");
        let mode = |path: &str| volume.join(path).metadata().unwrap().mode() & 0o7777;
        for (own, sub_path, parent) in [
            (0o777, "a/b", 0o755),
            (0o1777, "c/d", 0o755),
            (0o2770, "e/f", 0o2750),
            (0o700, "g/h", 0o700),
        ] {
            rt::fs::create_dir_all(&volume, 0o755).unwrap();
            rt::fs::set_mode(&volume, own).unwrap();
            let root = file::open_dir(&volume).unwrap();
            make(root.as_fd(), sub_path).unwrap();
            let first = sub_path.split('/').next().unwrap();
            assert_eq!((mode(first), mode(sub_path)), (parent, own), "{sub_path}");
        }
        // What is there keeps its mode.
        rt::fs::set_mode(volume.join("a/b"), 0o711).unwrap();
        let root = file::open_dir(&volume).unwrap();
        make(root.as_fd(), "a/b").unwrap();
        assert_eq!(mode("a/b"), 0o711);
    }

    #[test]
    fn a_link_cannot_lead_out() {
        let dir = crate::testing::directory("subpath");
        let (volume, outside) = (dir.path().join("v"), dir.path().join("outside"));
        rt::fs::create_dir_all(&volume, 0o755).unwrap();
        rt::fs::create_dir_all(&outside, 0o755).unwrap();
        rt::fs::write(outside.join("secret"), b"x", 0o600).unwrap();
        rt::fs::symlink_atomic(&outside, volume.join("link")).unwrap();
        rt::fs::symlink_atomic("../outside", volume.join("dots")).unwrap();
        assert!(bind(&volume, "../outside", &dir.path().join("p")).is_err());
        assert!(bind(&volume, "/abs", &dir.path().join("p")).is_err());
        for link in ["link", "dots"] {
            let place = dir.path().join("place").join(link);
            match bind(&volume, link, &place) {
                Ok(_) => {
                    let leaked = place.join("secret").exists();
                    release(&place).unwrap();
                    assert!(!leaked, "{link} led out of the volume");
                }
                Err(error) if error.errno() == Some(1) => {
                    eprintln!("skipped: {error}");
                    return;
                }
                Err(_) => {}
            }
        }
        let place = dir.path().join("place/deep");
        bind(&volume, "a/b", &place).unwrap();
        rt::fs::write(place.join("f"), b"1", 0o644).unwrap();
        assert_eq!(rt::fs::read(volume.join("a/b/f")).unwrap(), b"1");
        release(&place).unwrap();
        assert!(!place.exists() && volume.join("a/b/f").exists());
    }
}
