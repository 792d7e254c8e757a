//! The driver without a disk: for tests and the simulator, which can make it fail and cut its power.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rt::BoxFuture;
use stdx::{Error, OrdMap, Result};

use crate::driver::{Batch, Driver, LeaseRow, Loaded, Row};
use crate::types::{Bytes, KeyValue, LeaseId};
use crate::watch::lock;

/// What survives a power cut. Clones are the same disk; open a store on it again after one.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<Platter>>);

/// What may happen to a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It takes this long.
    Delay(Duration),
    /// It fails, and nothing is written.
    Fail,
    /// It reports failure, though all of it was written.
    FailAfterWriting,
}

type Hook = Box<dyn FnMut() -> Option<Fault> + Send>;

#[derive(Default)]
struct Platter {
    rows: OrdMap<u64, Row>,
    leases: OrdMap<LeaseId, LeaseRow>,
    mark: u64,
    clean: bool,
    /// Which power-on this is; drivers of earlier ones can no longer write.
    epoch: u64,
    hook: Option<Hook>,
}

impl Disk {
    pub fn new() -> Disk {
        Disk::default()
    }

    /// Asks `hook` before every commit what shall happen to it.
    pub fn on_commit(&self, hook: impl FnMut() -> Option<Fault> + Send + 'static) {
        lock(&self.0).hook = Some(Box::new(hook));
    }

    /// No more faults.
    pub fn heal(&self) {
        lock(&self.0).hook = None;
    }

    /// From now on, stores opened before can no longer write; what they have not written is lost.
    pub fn cut_power(&self) {
        lock(&self.0).epoch += 1;
    }

    /// What a store opened now would find.
    pub fn keys(&self) -> OrdMap<Bytes, KeyValue> {
        lock(&self.0).loaded().keys
    }

    pub(crate) fn driver(&self) -> MemoryDriver {
        let mut platter = lock(&self.0);
        platter.epoch += 1;
        MemoryDriver { disk: self.clone(), epoch: platter.epoch }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let platter = lock(&self.0);
        write!(f, "Disk({} rows, mark {})", platter.rows.len(), platter.mark)
    }
}

impl Platter {
    fn loaded(&self) -> Loaded {
        let leases = self.leases.values().copied().collect();
        let mut loaded = Loaded { leases, mark: self.mark, clean: self.clean, ..Loaded::default() };
        for row in self.rows.values() {
            loaded.row(row.clone());
        }
        loaded
    }

    fn write(&mut self, batch: Batch) {
        // Deletions first: a row that is written again may be among them.
        for id in batch.purged {
            self.rows.remove(&id);
        }
        self.rows.extend(batch.rows.into_iter().map(|row| (row.id, row)));
        self.leases.extend(batch.leases.into_iter().map(|lease| (lease.id, lease)));
        for id in batch.ended_leases {
            self.leases.remove(&id);
        }
        self.mark = batch.mark.unwrap_or(self.mark);
        self.clean = batch.clean.unwrap_or(self.clean);
    }
}

#[derive(Debug)]
pub(crate) struct MemoryDriver {
    disk: Disk,
    epoch: u64,
}

impl Driver for MemoryDriver {
    fn load(&self) -> BoxFuture<'_, Result<Loaded>> {
        Box::pin(async { Ok(lock(&self.disk.0).loaded()) })
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            let fault = lock(&self.disk.0).hook.as_mut().and_then(|hook| hook());
            if let Some(Fault::Delay(duration)) = fault {
                rt::sleep(duration).await;
            }
            let mut platter = lock(&self.disk.0);
            if platter.epoch != self.epoch {
                return Err(Error::new("commit to the datastore: the power is off"));
            }
            if fault != Some(Fault::Fail) {
                platter.write(batch);
            }
            match fault {
                Some(Fault::Fail | Fault::FailAfterWriting) => {
                    Err(Error::new("commit to the datastore: injected fault"))
                }
                _ => Ok(()),
            }
        })
    }

    fn shrink(&self) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async { Ok(false) })
    }

    fn scrub(&self, _begin: bool) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn abandon(&self) {
        let mut platter = lock(&self.disk.0);
        if platter.epoch == self.epoch {
            platter.epoch += 1;
        }
    }

    fn file_bytes(&self) -> u64 {
        0
    }
}
