//! One task that waits for many watches.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Wakes one task for many watches and says which of them have something to say. What waits in all of
/// them together has a bound.
#[derive(Debug)]
pub struct Bell {
    /// At most two entries a watch: it rings when its queue was empty, and at its end.
    rung: Mutex<Vec<u64>>,
    changed: rt::Event,
    bytes: AtomicUsize,
    bytes_max: usize,
}

impl Bell {
    pub fn new(bytes_max: usize) -> Arc<Bell> {
        Arc::new(Bell {
            rung: Mutex::default(),
            changed: rt::Event::new(),
            bytes: AtomicUsize::new(0),
            bytes_max,
        })
    }

    /// Waits until a watch has something to say: the numbers of those that have. Cancel-safe.
    pub async fn rung(&self) -> Vec<u64> {
        loop {
            let listener = self.changed.listen();
            let rung = self.try_rung();
            if !rung.is_empty() {
                return rung;
            }
            listener.await;
        }
    }

    /// The same without waiting: perhaps none.
    pub fn try_rung(&self) -> Vec<u64> {
        std::mem::take(&mut self.rung.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn ring(&self, number: u64) {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner).push(number);
        self.changed.notify(1);
    }

    /// Counts what waits in a queue; whether the others leave room for it.
    pub(crate) fn add(&self, bytes: usize, own_bytes: usize) -> bool {
        let all = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        all.saturating_sub(own_bytes) <= self.bytes_max
    }

    pub(crate) fn sub(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
