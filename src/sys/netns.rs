//! Network namespaces: made, kept by a bind mount, entered for the length of a closure.

use std::fs::{self, File};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use stdx::{Context, Result};

/// Makes a new network namespace that lives as long as the bind mount at `path`, which is made.
pub fn create(path: &Path) -> Result<()> {
    let what = || format!("make network namespace {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).context(what)?;
    }
    File::create_new(path).context(what)?;
    let made = on_thread(|| {
        enter_new()?;
        Ok(rustix::mount::mount_bind("/proc/thread-self/ns/net", path)?)
    });
    if made.is_err() {
        let _ = fs::remove_file(path);
    }
    made.context(what)
}

/// Keeps the network namespace `netns` alive by a bind mount at `path`, which is made. Idempotent.
///
/// # Errors
/// If `netns` is none, or its file system refuses.
pub fn keep(netns: &Path, path: &Path) -> Result<()> {
    let what = || format!("keep network namespace {} as {}", netns.display(), path.display());
    if is_one(path) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).context(what)?;
    }
    File::options().write(true).create(true).truncate(false).open(path).context(what)?;
    rustix::mount::mount_bind(netns, path).context(what)
}

/// Whether a namespace of some kind is at `path`. A number of a process may have become another's, and what is mounted
/// does not outlive the machine.
pub fn is_one(path: &Path) -> bool {
    const NSFS_MAGIC: u64 = 0x6e73_6673;
    // The field's type differs between targets.
    rustix::fs::statfs(path).is_ok_and(|found| u64::try_from(found.f_type) == Ok(NSFS_MAGIC))
}

/// Unmounts and removes what [`create`] made. Idempotent.
pub fn delete(path: &Path) -> Result<()> {
    let what = || format!("remove network namespace {}", path.display());
    match rustix::mount::unmount(path, UnmountFlags::DETACH) {
        // Not a mount point; the file may still be there.
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
        Err(error) => return Err(io::Error::from(error)).context(what),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).context(what),
        _ => Ok(()),
    }
}

/// Runs `work` on a thread of its own inside the namespace `netns`. Sockets opened there stay there.
pub fn run_in<T: Send>(netns: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_thread(|| {
        move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
        Ok(work())
    })
}

/// Runs `work` on a thread of its own inside a new network namespace that ends with it: for tests.
pub fn run_in_new<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_thread(|| {
        enter_new()?;
        Ok(work())
    })
}

/// Moves the calling thread, and the threads it starts from then on, into a new network namespace.
pub fn enter_new() -> io::Result<()> {
    // SAFETY: descriptors stay shared with the other threads.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?)
}

/// An interface of this network namespace believes no router advertisement and no redirect from now on; `default`
/// and `all` say so for those to come. Whoever may send raw packets on a bridge, as pods may, would become the
/// way of all others on it.
///
/// # Errors
/// If the kernel has such a setting and it cannot be written.
pub fn distrust(interface: &str) -> io::Result<()> {
    for (family, name) in
        [("ipv6", "accept_ra"), ("ipv6", "accept_redirects"), ("ipv4", "accept_redirects")]
    {
        let path = format!("/proc/sys/net/{family}/conf/{interface}/{name}");
        match fs::read(&path) {
            Ok(value) if value == b"0\n" => {}
            Ok(_) => fs::write(&path, "0")?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Runs `work` on a fresh thread, so that what it does to its thread's namespaces ends with it.
fn on_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    const STACK_SIZE_BYTES: usize = 256 << 10;
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("netns".into()).stack_size(STACK_SIZE_BYTES);
        let thread = builder.spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("panic in a network namespace")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_namespace_is_made_entered_and_removed() {
        let path = std::env::temp_dir().join(format!("k3rs-netns-test-{}", std::process::id()));
        if let Err(error) = create(&path) {
            println!("skipped: {error}");
            return;
        }
        let file = File::open(&path).unwrap();
        let links = || fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
        let inside = run_in(file.as_fd(), links).unwrap();
        drop(file);
        let beside = path.with_extension("kept");
        keep(&path, &beside).unwrap();
        keep(&path, &beside).unwrap();
        assert!(is_one(&beside) && !is_one(Path::new("/proc/self/stat")));
        delete(&beside).unwrap();
        delete(&path).unwrap();
        delete(&path).unwrap();
        assert!(inside.contains("lo:") && inside.lines().count() == 3, "{inside}");
        assert!(!path.exists());
    }
}
