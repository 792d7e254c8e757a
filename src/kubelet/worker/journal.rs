//! The pod's history on disk, and the gate of its directories.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use stdx::Result;

use podplan::{Exit, Record};

/// Which containers were started and how they ended, durable before anything is made of it.
#[derive(Debug, Default)]
pub(super) struct Journal {
    path: PathBuf,
    records: Vec<Record>,
    /// The directory is known to outlive a power cut, too.
    placed: bool,
}

/// The file in a pod's directory.
const HISTORY: &str = "history.json";

impl Journal {
    /// Reads what an earlier kubelet wrote.
    pub(super) async fn open(directory: &Path) -> Journal {
        let path = directory.join(HISTORY);
        let read = path.clone();
        let bytes = rt::unblock(move || rt::fs::read_record(&read, rt::fs::SMALL_MAX_BYTES)).await;
        let records = match bytes {
            Ok(Some(bytes)) => podplan::from_text(&bytes).unwrap_or_else(|error| {
                log::warn!("read {}: {error}", path.display());
                Vec::new()
            }),
            Ok(None) => Vec::new(),
            Err(error) => {
                log::warn!("{error}");
                Vec::new()
            }
        };
        let mut journal = Journal { path, records, placed: false };
        journal.complete().await;
        journal
    }

    /// Takes over the ends that shims wrote down and no kubelet has seen.
    async fn complete(&mut self) {
        let (directory, records) = (self.directory(), self.records.clone());
        let completed = rt::unblock(move || complete(&directory, records)).await;
        if completed == self.records {
            return;
        }
        let before = std::mem::replace(&mut self.records, completed);
        match self.write().await {
            Ok(()) => {
                let taken = before.into_iter().zip(&self.records);
                let taken = taken.filter(|(old, new)| old.exit.is_none() && new.exit.is_some());
                self.forget_kept(taken.map(|(old, _)| old.id).collect()).await;
            }
            Err(error) => log::warn!("{error}"),
        }
    }

    fn directory(&self) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("/")).to_owned()
    }

    /// What is in the journal is kept there.
    async fn forget_kept(&self, ids: Vec<String>) {
        let directory = self.directory();
        rt::unblock(move || {
            ids.iter().for_each(|id| runtime::forget_kept_exit(&directory, id));
        })
        .await;
    }

    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }

    /// A container is about to be started. Once this returns, no power cut makes it run twice.
    pub(super) async fn began(&mut self, record: Record) -> Result<()> {
        let before = self.records.clone();
        if !podplan::began(&mut self.records, record) {
            return Ok(());
        }
        let written = self.write().await;
        if written.is_err() {
            self.records = before;
        }
        written
    }

    /// A container has ended.
    pub(super) async fn ended(&mut self, name: &str, exit: &Exit) -> Result<()> {
        if !podplan::ended(&mut self.records, name, exit) {
            return Ok(());
        }
        self.write().await?;
        self.forget_kept(vec![exit.container_id.clone()]).await;
        Ok(())
    }

    async fn write(&mut self) -> Result<()> {
        let (path, text) = (self.path.clone(), podplan::to_text(&self.records));
        let place = !self.placed;
        rt::unblock(move || {
            let parent = path.parent().unwrap_or(Path::new("/"));
            rt::fs::create_dir_all(parent, 0o750)?;
            rt::fs::write_atomic(&path, text.as_bytes(), 0o600)?;
            match parent.parent().filter(|_| place) {
                Some(above) => rt::fs::sync_dir(above),
                None => Ok(()),
            }
        })
        .await?;
        self.placed = true;
        Ok(())
    }
}

/// Adds the ends that shims wrote down and no kubelet has seen. Blocking.
fn complete(directory: &Path, mut records: Vec<Record>) -> Vec<Record> {
    for record in records.iter_mut().filter(|record| record.exit.is_none()) {
        let Some(exit) = runtime::kept_exit(directory, &record.id) else { continue };
        let reason = match exit.code {
            _ if exit.oom_killed => "OOMKilled",
            0 => "Completed",
            _ => "Error",
        };
        record.exit = Some(Exit {
            code: exit.code,
            signal: exit.signal,
            reason: reason.to_owned(),
            message: exit.message,
            started_at: record.started_at,
            finished_at: exit.finished_at,
            container_id: record.id.clone(),
        });
    }
    records
}

/// Keeps writers out of a pod's directories from the moment these are taken down: work that runs
/// beside the worker may outlive whoever asked for it, and would make anew what was just removed.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate {
    closed: Arc<Mutex<bool>>,
}

impl Gate {
    /// Does `work` unless the gate is closed. Blocking.
    pub(super) fn enter<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        (!*closed).then(work)
    }

    /// Waits for whoever is inside, and lets nobody in again. Blocking.
    pub(super) fn close(&self) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stdx::time::Wall;

    #[test]
    fn a_start_is_on_disk_before_it_is_answered() {
        let dir = crate::testing::directory("journal");
        let pod = dir.path().join("pods/u");
        let started_at = Some(Wall::from_secs(5));
        let record =
            Record { name: "c".into(), attempt: 0, id: "1".into(), started_at, exit: None };
        rt::block_on(async {
            let mut journal = Journal::open(&pod).await;
            assert!(journal.records().is_empty());
            journal.began(record.clone()).await.unwrap();
            assert_eq!(Journal::open(&pod).await.records(), std::slice::from_ref(&record));
            let exit = Exit::unknown("1", started_at, Wall::from_secs(9), "m");
            journal.ended("c", &exit).await.unwrap();
            assert_eq!(Journal::open(&pod).await.records()[0].exit, Some(exit));
            // Where it cannot be written, it did not begin.
            rt::fs::remove_dir_all(&pod).unwrap();
            rt::fs::write(&pod, b"", 0o600).unwrap();
            let again = Record { id: "2".into(), ..record };
            assert!(journal.began(again).await.is_err());
            assert_eq!(journal.records()[0].id, "1");
        });
    }

    #[test]
    fn nobody_enters_a_closed_gate() {
        let gate = Gate::default();
        assert_eq!(gate.enter(|| 1), Some(1));
        gate.clone().close();
        assert_eq!(gate.enter(|| 1), None);
    }
}
