//! The border between what memory holds and what the disk holds: values that leave sealed and come back opened.

use std::fmt;
use std::sync::Arc;

use rt::BoxFuture;
use stdx::Result;

use crate::driver::{Batch, Driver, Loaded};

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
            for kv in loaded.keys.values_mut() {
                if let Some(value) = self.envelope.open(&kv.key, &kv.value)? {
                    kv.value = value.into();
                }
            }
            Ok(loaded)
        })
    }

    fn commit(&self, mut batch: Batch) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            for kv in batch.rows.iter_mut().filter_map(|row| row.kv.as_mut()) {
                if let Some(bytes) = self.envelope.seal(&kv.key, &kv.value)? {
                    kv.value = bytes.into();
                }
            }
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
