//! Waiting for files to change, by event, and where the kernel has no event left, by looking again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smol::Async;
use stdx::{Context, Result};
use sys::inotify::{Inotify, is_lack};

/// How often whoever waits is told to look where there are no events.
const LOOK: Duration = Duration::from_secs(10);
/// The same where each write counts.
const LOOK_AT_WRITES: Duration = Duration::from_secs(1);

/// Notices changes in a set of directories and files.
///
/// The kernel counts instances and watches by user, and any pod that runs as root may take all of root's. A
/// watch without an instance says at each interval that something may have changed, until it gets one.
#[derive(Debug, Default)]
pub struct FileWatch(Mutex<Watched>);

#[derive(Debug, Default)]
struct Watched {
    inotify: Option<Arc<Async<Inotify>>>,
    /// What is watched, each with whether every write counts.
    paths: Vec<(PathBuf, bool)>,
}

impl FileWatch {
    pub fn new() -> FileWatch {
        let watch = FileWatch::default();
        watch.watched().try_events();
        watch
    }

    /// Adds a directory (its entries, not what lies deeper) or a file.
    ///
    /// # Errors
    /// If it is not there or cannot be read.
    pub fn add(&self, path: impl AsRef<Path>) -> Result<()> {
        self.watched().add(path.as_ref(), false)
    }

    /// Watches a directory or file for each write too: for logs, which are open while they grow.
    ///
    /// # Errors
    /// As [`FileWatch::add`].
    pub fn add_writes(&self, path: impl AsRef<Path>) -> Result<()> {
        self.watched().add(path.as_ref(), true)
    }

    /// Completes when something changed, or may have changed, since the last call. Many changes at once are one.
    pub async fn changed(&self) -> Result<()> {
        let (inotify, period) = {
            let watched = self.watched();
            let by_write = watched.paths.iter().any(|(_, writes)| *writes);
            (watched.inotify.clone(), if by_write { LOOK_AT_WRITES } else { LOOK })
        };
        match inotify {
            Some(inotify) => inotify
                .read_with(|inotify| inotify.drain())
                .await
                .context(|| "wait for file changes"),
            None => {
                crate::sleep(period).await;
                self.watched().try_events();
                Ok(())
            }
        }
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn add(&mut self, path: &Path, writes: bool) -> Result<()> {
        if !self.paths.iter().any(|(known, more)| known == path && *more == writes) {
            self.paths.push((path.to_owned(), writes));
        }
        let Some(inotify) = &self.inotify else { return Ok(()) };
        match watch(inotify, path, writes) {
            Err(error) if is_lack(&error) => {
                log::warn!("watch {}: {error}; looking again from time to time", path.display());
                self.inotify = None;
                Ok(())
            }
            added => added.context(|| format!("watch {}", path.display())),
        }
    }

    /// Takes an instance for everything, if there is one.
    fn try_events(&mut self) {
        let inotify = match Inotify::new().and_then(Async::new_nonblocking) {
            Ok(inotify) => inotify,
            Err(error) => return log::debug!("watch files: {error}"),
        };
        for (path, writes) in &self.paths {
            // What is not there any more is for whoever looks.
            if watch(&inotify, path, *writes).is_err_and(|error| is_lack(&error)) {
                return;
            }
        }
        self.inotify = Some(Arc::new(inotify));
    }
}

fn watch(inotify: &Async<Inotify>, path: &Path, writes: bool) -> std::io::Result<()> {
    match writes {
        true => inotify.get_ref().add_writes(path),
        false => inotify.get_ref().add(path),
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
            let watch = FileWatch::new();
            watch.add(&dir).unwrap();
            crate::fs::write_atomic(dir.join("a"), b"x", 0o600).unwrap();
            watch.changed().await.unwrap();
        });
        crate::fs::remove_dir_all(&dir).unwrap();
    }

    /// Directories, for the last close of a file may be a process's that another test has just forked.
    #[test]
    fn many_changes_are_one() {
        let dir = std::env::temp_dir().join(format!("rt-watch-many-{}", std::process::id()));
        crate::fs::create_dir_all(&dir, 0o700).unwrap();
        crate::block_on(async {
            let watch = FileWatch::new();
            watch.add(&dir).unwrap();
            for name in ["a", "b", "c"] {
                crate::fs::create_dir_all(dir.join(name), 0o700).unwrap();
            }
            watch.changed().await.unwrap();
            let again = crate::timeout(Duration::from_millis(20), watch.changed()).await;
            assert!(again.is_err(), "all changes were taken at once");
        });
        crate::fs::remove_dir_all(&dir).unwrap();
    }

    /// Without an instance, whoever waits looks from time to time, and gets events once there are any.
    #[test]
    fn without_events_it_looks_again() {
        let dir = std::env::temp_dir().join(format!("rt-watch-lack-{}", std::process::id()));
        crate::fs::create_dir_all(&dir, 0o700).unwrap();
        crate::block_on(async {
            let watch = FileWatch::default();
            watch.add_writes(&dir).unwrap();
            watch.add(dir.join("not there")).unwrap();
            let soon = crate::timeout(LOOK_AT_WRITES / 4, watch.changed()).await;
            assert!(soon.is_err(), "it looks all the time");
            watch.changed().await.unwrap();
            let again = crate::timeout(LOOK_AT_WRITES * 2, watch.changed()).await;
            assert!(again.is_err(), "it looks although there are events");
            crate::fs::write_atomic(dir.join("a"), b"x", 0o600).unwrap();
            crate::timeout(LOOK_AT_WRITES * 2, watch.changed()).await.unwrap().unwrap();
            watch.add("/no such directory").unwrap_err();
        });
        crate::fs::remove_dir_all(&dir).unwrap();
    }
}
