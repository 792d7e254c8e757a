//! Which kinds are served, for everyone in the process who follows them.

use std::sync::{Arc, Mutex, PoisonError};

use api::{Kind, Kinds, Resource};
use stdx::OrdMap;

/// The present snapshot of a server's kinds, and when it changes.
pub struct Registry {
    current: Mutex<Arc<Kinds>>,
    changed: rt::Event,
    /// Who waits for the definition of one kind to change: others' changes are no news to them.
    waiting: Mutex<OrdMap<&'static Kind, Arc<rt::Event>>>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registry(epoch {})", self.current().epoch())
    }
}

impl Default for Registry {
    /// Serves the kinds in code.
    fn default() -> Registry {
        Registry::serving(Kinds::built_in())
    }
}

impl Registry {
    /// Serves these kinds at first.
    pub fn serving(kinds: Arc<Kinds>) -> Registry {
        Registry {
            current: Mutex::new(kinds),
            changed: rt::Event::new(),
            waiting: Mutex::default(),
        }
    }

    /// The kinds as they are now.
    pub fn current(&self) -> Arc<Kinds> {
        // Replaced in one step.
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the kinds by what `change` makes of them, and tells everyone.
    ///
    /// # Errors
    /// As `change`; nothing is changed then.
    pub fn change(
        &self,
        change: impl FnOnce(&Kinds) -> Result<Kinds, String>,
    ) -> Result<(), String> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let new = Arc::new(change(&current)?);
        let old = std::mem::replace(&mut *current, Arc::clone(&new));
        drop(current);
        self.changed.notify(usize::MAX);
        let (changed, gone) = new.changes_since(&old);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for kind in changed.into_iter().chain(gone) {
            if let Some(event) = waiting.remove(kind) {
                event.notify(usize::MAX);
            }
        }
        Ok(())
    }

    /// Waits until a kind is defined otherwise than it was, or not at all.
    pub async fn redefined(&self, resource: &Resource) {
        loop {
            let event = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(waiting.entry(resource.kind).or_default())
            };
            let changed = event.listen();
            if !self.current().is_current(resource) {
                return;
            }
            changed.await;
        }
    }

    /// Waits until the kinds are others than those of `epoch`, and gives them.
    pub async fn after(&self, epoch: u64) -> Arc<Kinds> {
        loop {
            let listener = self.changed.listen();
            let current = self.current();
            if current.epoch() != epoch {
                return current;
            }
            listener.await;
        }
    }
}
