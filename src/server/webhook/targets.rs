//! Webhooks that convert objects: what is kept for the connections to each, by the definition that names it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use api::Value;

use super::Target;

/// Webhooks whose connections' settings are kept.
const TARGETS_MAX: usize = 64;

/// Where webhooks are, by the stamp of their definition: one that changed is another one.
#[derive(Default)]
pub(crate) struct Targets(Mutex<VecDeque<(Box<str>, Arc<Target>)>>);

impl Targets {
    /// Where the webhook of this `WebhookClientConfig`, which is JSON, is.
    pub(crate) fn of(&self, client: &str, stamp: &str) -> Arc<Target> {
        // Changed in steps that leave a cache a cache.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().position(|(own, _)| **own == *stamp);
        let entry = match found.and_then(|at| known.remove(at)) {
            Some(entry) => entry,
            None => {
                let config: Value = serde_json::from_str(client).unwrap_or_default();
                (stamp.into(), Arc::new(Target::of(&config)))
            }
        };
        let target = Arc::clone(&entry.1);
        known.push_back(entry);
        if known.len() > TARGETS_MAX {
            known.pop_front();
        }
        target
    }
}

impl std::fmt::Debug for Targets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Targets")
    }
}
