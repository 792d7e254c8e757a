//! What the URL of static pods said last; who asks it is in `static_url_rounds`.

use std::sync::{Mutex, PoisonError};

use api::Object;

/// What the URL said last.
#[derive(Debug, Default)]
pub(crate) struct StaticUrl {
    last: Mutex<Option<Last>>,
    /// Notified when it says something else.
    pub changed: rt::Event,
}

/// An answer, and the pods in it.
#[derive(Debug)]
pub(crate) struct Last {
    pub text: Vec<u8>,
    pub pods: Vec<Object>,
}

impl StaticUrl {
    /// The pods of the last answer; `None` before the first one.
    pub(crate) fn pods(&self) -> Option<Vec<Object>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|last| last.pods.clone())
    }

    /// Whether that was its last answer.
    pub(crate) fn says(&self, text: &[u8]) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().is_some_and(|last| last.text == text)
    }

    pub(crate) fn set(&self, last: Last) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
        self.changed.notify(usize::MAX);
    }
}
