//! Waiting for files to change, by event.

use std::path::Path;

use smol::Async;
use stdx::{Context, Result};

/// Notices changes in a set of directories and files.
#[derive(Debug)]
pub struct FileWatch(Async<sys::inotify::Inotify>);

impl FileWatch {
    pub fn new() -> Result<FileWatch> {
        let inotify = sys::inotify::Inotify::new().context(|| "start watching files")?;
        Ok(FileWatch(Async::new_nonblocking(inotify).context(|| "start watching files")?))
    }

    /// Adds a directory (its entries, not what lies deeper) or a file.
    pub fn add(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        self.0.get_ref().add(path).context(|| format!("watch {}", path.display()))
    }

    /// Watches a directory or file for each write too: for logs, which are open while they grow.
    pub fn add_writes(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        self.0.get_ref().add_writes(path).context(|| format!("watch {}", path.display()))
    }

    /// Completes when something changed since the last call. Many changes at once are one.
    pub async fn changed(&self) -> Result<()> {
        self.0.read_with(|inotify| inotify.drain()).await.context(|| "wait for file changes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_is_noticed() {
        let dir = std::env::temp_dir().join(format!("rt-watch-{}", std::process::id()));
        crate::fs::create_dir_all(&dir, 0o700).unwrap();
        crate::block_on(async {
            let watch = FileWatch::new().unwrap();
            watch.add(&dir).unwrap();
            crate::fs::write_atomic(dir.join("a"), b"x", 0o600).unwrap();
            watch.changed().await.unwrap();
            let again = crate::timeout(std::time::Duration::from_millis(20), watch.changed()).await;
            assert!(again.is_err(), "all changes were taken at once");
        });
        crate::fs::remove_dir_all(&dir).unwrap();
    }
}
