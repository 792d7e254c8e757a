//! Why the store refused or failed.

use std::fmt;
use std::sync::Arc;

use crate::types::{KeyValue, LeaseId};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, Clone)]
pub enum Error {
    /// An operation's expectation did not hold; nothing of the write happened.
    /// `current` is the key's version now, `None` if it does not exist.
    Conflict {
        current: Option<KeyValue>,
    },
    /// The revision's history is gone: list again (the API's 410).
    Compacted {
        asked: u64,
        compact_revision: u64,
    },
    /// The revision has not happened yet.
    Future {
        asked: u64,
        revision: u64,
    },
    /// The watch fell too far behind and was cut off: list again (the API's 410).
    Lagged,
    /// The write itself is not acceptable: too large, the same key twice, a key that is empty.
    Invalid(String),
    /// The store, or one owner's share of it, holds as much as it may; deletions still work.
    Full {
        held_bytes: usize,
        bytes_max: usize,
        /// Whose share it is; `None` if it is the whole store.
        owner: Option<Vec<u8>>,
    },
    /// What an operation keeps a part of does not exist.
    KeyNotFound,
    LeaseNotFound(LeaseId),
    LeaseExists(LeaseId),
    /// The disk failed: full, read-only, broken. Nothing of the write was shown to anyone.
    Storage(Arc<stdx::Error>),
    /// The store was closed.
    Closed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Conflict { current: Some(kv) } => write!(f, "conflict: it is now {kv:?}"),
            Error::Conflict { current: None } => write!(f, "conflict: the key does not exist"),
            Error::Compacted { asked, compact_revision } => {
                write!(f, "revision {asked} is compacted, the oldest kept is {compact_revision}")
            }
            Error::Future { asked, revision } => {
                write!(f, "revision {asked} is in the future, the current one is {revision}")
            }
            Error::Lagged => f.write_str("the watch fell too far behind"),
            Error::Invalid(why) => f.write_str(why),
            Error::Full { held_bytes, bytes_max, owner: None } => {
                write!(f, "the datastore holds {held_bytes} of at most {bytes_max} bytes")
            }
            Error::Full { held_bytes, bytes_max, owner: Some(owner) } => {
                let owner = owner.escape_ascii();
                write!(
                    f,
                    "{owner} holds {held_bytes} of at most {bytes_max} bytes of the datastore"
                )
            }
            Error::KeyNotFound => f.write_str("the key does not exist"),
            Error::LeaseNotFound(id) => write!(f, "lease {id} not found"),
            Error::LeaseExists(id) => write!(f, "lease {id} exists already"),
            Error::Storage(error) => error.fmt(f),
            Error::Closed => f.write_str("the datastore is closed"),
        }
    }
}

impl std::error::Error for Error {}
