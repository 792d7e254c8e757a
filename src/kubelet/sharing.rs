//! The kubelet's directory as a mount that is shared: what a storage driver mounts there in its pod is seen by the node.
//!
//! Under systemd all of a machine's mounts are. Elsewhere the directory is bound over itself and shared as soon as a
//! container asks for mounts there in both directions, so a node without drivers has no further mount.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use stdx::{Context, Result};
use sys::mount::{self, MS_BIND, MS_REC, MS_SHARED, MountInfo};

/// Makes `root` a shared mount unless it lies on one. Blocking.
///
/// # Errors
/// If the kernel refuses.
pub(crate) fn share(root: &Path) -> Result<()> {
    // Of two containers one binds it.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let what = || format!("share the mounts in {}", root.display());
    let real = root.canonicalize().context(what)?;
    let mounts = mount::list().context(what)?;
    if mount::mount_of(&mounts, &real).is_some_and(|on| on.shared) {
        return Ok(());
    }
    if !mounts.iter().any(|mount| is_at(mount, &real)) {
        let source = real.to_str().context(what)?;
        mount::mount(source, &real, "", MS_BIND | MS_REC, "").context(what)?;
    }
    mount::mount("", &real, "", MS_SHARED | MS_REC, "").context(what)?;
    log::info!("{} is a shared mount now", root.display());
    Ok(())
}

/// Takes away what `share` bound. A file system that somebody mounted there stays. Blocking.
///
/// # Errors
/// If it cannot be unmounted.
pub fn end_sharing(root: &Path) -> Result<()> {
    let what = || format!("unmount {}", root.display());
    let Ok(real) = root.canonicalize() else { return Ok(()) };
    let mounts = mount::list().context(what)?;
    if mounts.iter().any(|mount| is_at(mount, &real) && is_itself(mount)) {
        mount::unmount(&real, mount::MNT_DETACH).context(what)?;
    }
    Ok(())
}

fn is_at(mount: &MountInfo, path: &Path) -> bool {
    mount.target == path.as_os_str().as_bytes()
}

/// Whether a directory is bound over itself: its path in the file system is the end of its path here.
fn is_itself(mount: &MountInfo) -> bool {
    mount.root != b"/" && mount.target.ends_with(&mount.root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_bound_over_itself_is_taken_away() {
        let check = |root: &str, target: &str| {
            let text = String::new;
            is_itself(&MountInfo {
                root: root.into(),
                target: target.into(),
                shared: true,
                fs_type: text(),
                source: text(),
                super_options: text(),
            })
        };
        assert!(check("/var/lib/kubelet", "/var/lib/kubelet"));
        assert!(check("/lib/kubelet", "/var/lib/kubelet"), "of a file system at /var");
        assert!(!check("/", "/var/lib/kubelet"), "a disk of its own");
        assert!(!check("/data/kubelet", "/var/lib/kubelet"), "bound by somebody from elsewhere");
    }
}
