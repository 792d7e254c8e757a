//! Which kinds are served, for everyone in the process who follows them.

use std::sync::{Arc, Mutex, PoisonError};

use api::Kinds;

/// The present snapshot of a server's kinds, and when it changes.
pub struct Registry {
    current: Mutex<Arc<Kinds>>,
    changed: rt::Event,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registry(epoch {})", self.current().epoch())
    }
}

impl Default for Registry {
    /// Serves the kinds in code.
    fn default() -> Registry {
        Registry { current: Mutex::new(Kinds::built_in()), changed: rt::Event::new() }
    }
}

impl Registry {
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
        *current = Arc::new(change(&current)?);
        drop(current);
        self.changed.notify(usize::MAX);
        Ok(())
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
