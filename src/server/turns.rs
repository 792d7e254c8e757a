//! Whose turn it is: writes of one namespace that quotas count go one after the other.

use std::sync::Arc;

/// Writes that are charged at the same time. Those of one namespace take turns: together they would only
/// lose the quota to each other.
const TURNS_MAX: usize = 16;

/// Whose turn it is to be charged.
pub(crate) struct Turns([Arc<rt::lock::Semaphore>; TURNS_MAX]);

impl Default for Turns {
    fn default() -> Turns {
        Turns(std::array::from_fn(|_| Arc::new(rt::lock::Semaphore::new(1))))
    }
}

impl Turns {
    pub(crate) async fn take(&self, namespace: &str) -> rt::lock::SemaphoreGuardArc {
        let hash = api::hash::fnv32a(namespace.as_bytes());
        let idx = usize::try_from(hash).unwrap_or(0) % TURNS_MAX;
        self.0[idx].acquire_arc().await
    }
}
