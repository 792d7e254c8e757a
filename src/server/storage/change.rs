//! A change of one object, decoded once and shared by every watch that it concerns, with its events as bytes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::{Kind, Object, Resource, Status};
use store::{Event, KeyValue};

use super::selection::Selection;
use crate::storage;

/// The largest encoded event that is kept.
const SHARED_EVENT_MAX_BYTES: usize = 64 << 10;

/// Encoded events of one change: its types in the forms and encodings that clients ask for.
const SHARED_EVENTS_MAX: usize = 6;

/// A change without its objects' bytes.
const CHANGE_OVERHEAD_BYTES: usize = 400;

/// What a change is to a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Added,
    Modified,
    Deleted,
}

impl Type {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Type::Added => "ADDED",
            Type::Modified => "MODIFIED",
            Type::Deleted => "DELETED",
        }
    }
}

/// One change of one object, decoded, for everyone who hears of it.
pub(crate) struct Change {
    revision: u64,
    pub(super) now: Option<Object>,
    /// The version that was replaced or deleted, at the revision of the change.
    pub(super) before: Option<Object>,
    existed: bool,
    /// Its events as they are sent; `None` where nobody else sends them.
    encoded: Mutex<Option<Vec<Encoded>>>,
}

/// An event as bytes.
struct Encoded {
    event: Type,
    resource: Resource,
    protobuf: bool,
    bytes: Arc<[u8]>,
}

impl Change {
    /// # Errors
    /// 500 if the object cannot be read.
    pub(super) fn of(kind: &'static Kind, event: &Event) -> Result<Change, Status> {
        let read = |version: &KeyValue| storage::object_at(kind, version, event.revision);
        let now = event.now.as_ref().map(read).transpose()?;
        let before = match (event.before.as_ref().map(read), &now) {
            // What could not be read is replaced by what can.
            (Some(Err(_)), Some(_)) => None,
            (before, _) => before.transpose()?,
        };
        Ok(Change {
            revision: event.revision,
            now,
            before,
            existed: event.before.is_some(),
            encoded: Mutex::new(Some(Vec::new())),
        })
    }

    /// What it is to one who sees only what is selected; `None` if it is nothing.
    pub(super) fn seen_by(&self, selection: &Selection) -> Option<Type> {
        if selection.is_everything() {
            return match (&self.now, self.existed) {
                (Some(_), false) => Some(Type::Added),
                (Some(_), true) => Some(Type::Modified),
                (None, true) => Some(Type::Deleted),
                (None, false) => None,
            };
        }
        let selected =
            |object: &Option<Object>| object.as_ref().is_some_and(|o| selection.matches(o));
        match (selected(&self.now), selected(&self.before)) {
            (true, false) => Some(Type::Added),
            (true, true) => Some(Type::Modified),
            (false, true) => Some(Type::Deleted),
            (false, false) => None,
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The object that an event of this type shows: the new one, or the last there was.
    pub(crate) fn object(&self, event: Type) -> Option<&Object> {
        match event {
            Type::Added | Type::Modified => self.now.as_ref(),
            Type::Deleted => self.before.as_ref(),
        }
    }

    /// What there was before and is now, as far as it could be read.
    pub(crate) fn versions(&self) -> [Option<&Object>; 2] {
        [self.before.as_ref(), self.now.as_ref()]
    }

    /// The event as bytes, encoded by the first watch that sends it.
    pub(crate) fn encoded(
        &self,
        event: Type,
        resource: &Resource,
        protobuf: bool,
        encode: &dyn Fn(&Object, &mut Vec<u8>),
    ) -> Arc<[u8]> {
        let mut encoded = lock(&self.encoded);
        let known = encoded.iter().flatten().find(|known| {
            known.event == event
                && known.resource.form() == resource.form()
                && known.protobuf == protobuf
        });
        if let Some(known) = known {
            return known.bytes.clone();
        }
        let mut out = Vec::new();
        if let Some(object) = self.object(event) {
            encode(object, &mut out);
        }
        let bytes: Arc<[u8]> = out.into();
        if let Some(kept) = &mut *encoded
            && kept.len() < SHARED_EVENTS_MAX
            && bytes.len() <= SHARED_EVENT_MAX_BYTES
        {
            kept.push(Encoded {
                event,
                resource: resource.clone(),
                protobuf,
                bytes: bytes.clone(),
            });
        }
        bytes
    }

    /// Nobody else will send its events, or none that is not late.
    pub(super) fn keep_no_events(&self) {
        *lock(&self.encoded) = None;
    }

    /// What it keeps alive at most, in bytes.
    pub(super) fn weight_bytes(&self) -> usize {
        let version = |object: &Option<Object>| object.as_ref().map_or(0, |o| o.bytes().len());
        CHANGE_OVERHEAD_BYTES + version(&self.now) + version(&self.before)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Changed in single steps that a panic cannot leave half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
