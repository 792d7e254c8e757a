//! The border between what memory holds and what the disk holds: values that leave sealed and come back opened.

use std::fmt;
use std::sync::Arc;

use rt::BoxFuture;
use stdx::Result;

use crate::driver::{Batch, Driver, Loaded, Row};
use crate::shared::{Append, Appended, Numbering, Role, SharedLog, Tail};
use crate::types::KeyValue;

/// What the disk holds in the place of a value. Memory (state, history, watches) holds the value itself.
pub trait Envelope: Send + Sync + fmt::Debug {
    /// The bytes for the disk; `None`: the value as it is.
    fn seal(&self, key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>>;

    /// The value of what the disk holds; `None`: it is the value.
    ///
    /// # Errors
    /// If it cannot be opened: the store does not start then, and nothing on the disk changes.
    fn open(&self, key: &[u8], bytes: &[u8]) -> Result<Option<Vec<u8>>>;
}

fn open<'a>(
    envelope: &dyn Envelope,
    versions: impl Iterator<Item = &'a mut KeyValue>,
) -> Result<()> {
    for kv in versions {
        if let Some(value) = envelope.open(&kv.key, &kv.value)? {
            kv.value = value.into();
        }
    }
    Ok(())
}

fn seal(envelope: &dyn Envelope, rows: &mut [Row]) -> Result<()> {
    for kv in rows.iter_mut().filter_map(|row| row.kv.as_mut()) {
        if let Some(bytes) = envelope.seal(&kv.key, &kv.value)? {
            kv.value = bytes.into();
        }
    }
    Ok(())
}

/// A driver behind an envelope.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) envelope: Arc<dyn Envelope>,
}

impl Driver for Sealed {
    fn load(&self) -> BoxFuture<'_, Result<Loaded>> {
        Box::pin(async {
            let mut loaded = self.driver.load().await?;
            open(&*self.envelope, loaded.keys.values_mut())?;
            Ok(loaded)
        })
    }

    fn commit(&self, mut batch: Batch) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            seal(&*self.envelope, &mut batch.rows)?;
            self.driver.commit(batch).await
        })
    }

    fn shrink(&self) -> BoxFuture<'_, Result<bool>> {
        self.driver.shrink()
    }

    fn scrub(&self, begin: bool) -> BoxFuture<'_, Result<()>> {
        self.driver.scrub(begin)
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.driver.close()
    }

    fn abandon(&self) {
        self.driver.abandon();
    }

    fn file_bytes(&self) -> u64 {
        self.driver.file_bytes()
    }
}

/// A shared log behind an envelope: what other servers sealed with a key of this cluster is opened here.
#[derive(Debug)]
pub(crate) struct SealedLog {
    pub(crate) log: Arc<dyn SharedLog>,
    pub(crate) envelope: Arc<dyn Envelope>,
}

impl SharedLog for SealedLog {
    fn numbering(&self) -> Numbering {
        self.log.numbering()
    }

    fn load(&self) -> BoxFuture<'_, Result<Loaded>> {
        Box::pin(async {
            let mut loaded = self.log.load().await?;
            open(&*self.envelope, loaded.keys.values_mut())?;
            Ok(loaded)
        })
    }

    fn append(&self, mut append: Append) -> BoxFuture<'_, Result<Appended>> {
        Box::pin(async {
            seal(&*self.envelope, &mut append.rows)?;
            self.log.append(append).await
        })
    }

    fn newest(&self) -> BoxFuture<'_, Result<u64>> {
        self.log.newest()
    }

    fn tail(&self, after: u64) -> BoxFuture<'_, Result<Tail>> {
        Box::pin(async move {
            let mut tail = self.log.tail(after).await?;
            if let Tail::Rows { rows, .. } = &mut tail {
                open(&*self.envelope, rows.iter_mut().filter_map(|row| row.kv.as_mut()))?;
            }
            Ok(tail)
        })
    }

    fn grown(&self, after: u64) -> BoxFuture<'_, ()> {
        self.log.grown(after)
    }

    fn report(&self, revision: u64) -> BoxFuture<'_, Result<Role>> {
        self.log.report(revision)
    }

    fn purge(&self) -> BoxFuture<'_, Result<()>> {
        self.log.purge()
    }

    fn abandon(&self) {
        self.log.abandon();
    }
}
