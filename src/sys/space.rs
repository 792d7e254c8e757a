//! How much room a file system has.

use std::io;
use std::path::Path;

/// Bytes and inodes of one file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    pub total_bytes: u64,
    /// What unprivileged users may still write.
    pub available_bytes: u64,
    /// What is free, reserved blocks included.
    pub free_bytes: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

/// statvfs(3) of the file system that holds `path`.
pub fn of(path: impl AsRef<Path>) -> io::Result<Space> {
    let found = rustix::fs::statvfs(path.as_ref())?;
    Ok(Space {
        total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
        available_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        free_bytes: found.f_bfree.saturating_mul(found.f_frsize),
        inodes: found.f_files,
        inodes_free: found.f_ffree,
    })
}

/// The kernel's clock ticks a second, for the times in `/proc/<pid>/stat`.
pub fn clock_ticks() -> u64 {
    rustix::param::clock_ticks_per_second().max(1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_root_has_room() {
        let space = super::of("/").unwrap();
        assert!(space.total_bytes >= space.free_bytes && space.free_bytes >= space.available_bytes);
        assert!(space.total_bytes > 0);
    }
}
