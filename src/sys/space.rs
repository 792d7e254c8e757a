//! How much room a file system has.

use std::io;
use std::path::Path;

use crate::{check, path_text};

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
    let path = path_text(path.as_ref())?;
    // SAFETY: all-zero is a valid statvfs64.
    let mut answer: libc::statvfs64 = unsafe { std::mem::zeroed() };
    // SAFETY: the string and `answer` live through the call.
    check(i64::from(unsafe { libc::statvfs64(path.as_ptr(), &raw mut answer) }))?;
    // The field types differ between targets.
    #[allow(clippy::unnecessary_cast, clippy::cast_lossless)]
    let (block, blocks, available, free, inodes, inodes_free) = (
        answer.f_frsize as u64,
        answer.f_blocks as u64,
        answer.f_bavail as u64,
        answer.f_bfree as u64,
        answer.f_files as u64,
        answer.f_ffree as u64,
    );
    Ok(Space {
        total_bytes: blocks.saturating_mul(block),
        available_bytes: available.saturating_mul(block),
        free_bytes: free.saturating_mul(block),
        inodes,
        inodes_free,
    })
}

/// The kernel's clock ticks a second, for the times in `/proc/<pid>/stat`.
pub fn clock_ticks() -> u64 {
    // SAFETY: no pointers.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1)
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
