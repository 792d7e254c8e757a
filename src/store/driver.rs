//! What a durable log must do, and how its rows become the state again at start.
//!
//! A row is one version of one key, numbered by revision and place in it. A newer row of the same
//! key makes the older one dead; a row without a value (a tombstone) says that the key is gone.
//! Dead rows are deleted later, lowest number first, so that no older row ever outlives the
//! tombstone that hides it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rt::BoxFuture;
use stdx::{OrdMap, Result};

use crate::types::{Bytes, Class, KeyValue, LeaseId};

/// Where batches become durable. One commit runs at a time.
pub(crate) trait Driver: Send + Sync + fmt::Debug {
    /// Reads everything; called once, first.
    fn load(&self) -> BoxFuture<'_, Result<Loaded>>;

    /// Makes all of the batch durable, or (as far as it can tell) nothing of it.
    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<()>>;

    /// Gives a part of what the file does not need back to the disk; whether there is more of it.
    fn shrink(&self) -> BoxFuture<'_, Result<bool>>;

    /// What is deleted from now on leaves nothing in the file (`begin`); then nothing of what was deleted
    /// before, as far as its size allows to write it anew.
    fn scrub(&self, begin: bool) -> BoxFuture<'_, Result<()>>;

    /// Lets go of the disk.
    fn close(&self) -> BoxFuture<'_, Result<()>>;

    /// Lets go of the disk as a crash would, at once; commits fail from now on.
    fn abandon(&self);

    fn file_bytes(&self) -> u64;
}

/// One transaction.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) rows: Vec<Row>,
    /// Dead rows to delete.
    pub(crate) purged: Vec<u64>,
    pub(crate) leases: Vec<LeaseRow>,
    pub(crate) ended_leases: Vec<LeaseId>,
    /// After an unclean stop, revisions go on above this.
    pub(crate) mark: Option<u64>,
    /// Whether a stop right after this batch is a clean one.
    pub(crate) clean: Option<bool>,
}

/// One version of one key, or that it is gone.
#[derive(Debug, Clone)]
pub struct Row {
    pub(crate) id: u64,
    pub key: Bytes,
    /// `None`: a tombstone.
    pub kv: Option<KeyValue>,
    /// The revision of the version that it replaces, where a plan made it of one; else 0.
    pub replaces: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaseRow {
    pub(crate) id: LeaseId,
    pub(crate) ttl: Duration,
    pub(crate) class: Class,
}

/// Bits of a row's number below the revision. SQLite's numbers have 63 bits: 43 are left for
/// revisions, which last 278 years at a thousand a second.
const SUB_BITS: u32 = 20;

/// Changes that fit into one revision.
pub(crate) const CHANGES_MAX: u32 = 1 << SUB_BITS;

pub(crate) fn row_id(revision: u64, sub: u32) -> u64 {
    (revision << SUB_BITS) | u64::from(sub)
}

/// The revision and place that a row's number stands for.
pub(crate) fn revision_of(id: u64) -> (u64, u32) {
    let sub = id & u64::from(CHANGES_MAX - 1);
    // Twenty bits always fit.
    (id >> SUB_BITS, u32::try_from(sub).unwrap_or(0))
}

impl Row {
    /// A row of a log that several servers share: what the change at `place` of `revision` left of `key`.
    pub fn new(revision: u64, place: u32, key: Bytes, kv: Option<Version>) -> Row {
        let kv = kv.map(|kv| KeyValue {
            key: Arc::clone(&key),
            value: kv.value,
            create_revision: kv.create_revision,
            mod_revision: revision,
            version: kv.version,
            sub: place,
            checked: false,
            lease: kv.lease,
        });
        Row { id: row_id(revision, place), key, kv, replaces: 0 }
    }

    /// The revision of its change.
    pub fn revision(&self) -> u64 {
        revision_of(self.id).0
    }

    pub(crate) fn bytes(&self) -> usize {
        ROW_OVERHEAD_BYTES + self.key.len() + self.kv.as_ref().map_or(0, |kv| kv.value.len())
    }
}

/// Numbers and headers of a row on disk, about.
const ROW_OVERHEAD_BYTES: usize = 24;

/// What a version has besides its key and its revision.
#[derive(Debug, Clone)]
pub struct Version {
    pub value: Bytes,
    pub create_revision: u64,
    pub version: u32,
    pub lease: LeaseId,
}

/// The state as the rows tell it.
#[derive(Debug, Default)]
pub struct Loaded {
    pub(crate) keys: OrdMap<Bytes, KeyValue>,
    pub(crate) dead: Dead,
    pub(crate) leases: Vec<LeaseRow>,
    /// No revision above this was ever shown.
    pub(crate) mark: u64,
    pub(crate) clean: bool,
}

impl Loaded {
    /// What a log holds whose newest revision is `newest`.
    pub fn at(newest: u64) -> Loaded {
        Loaded { mark: newest, clean: true, ..Loaded::default() }
    }

    /// Counts bytes of rows that newer ones replace and that were not read.
    pub fn unread(&mut self, dead_bytes: usize) {
        self.dead.bytes += dead_bytes;
    }

    /// Takes the next row; those of one key come in order of their numbers.
    pub fn row(&mut self, row: Row) {
        let n_bytes = row.bytes();
        let old = match row.kv {
            Some(kv) => self.keys.insert(Arc::clone(&row.key), kv),
            None => {
                self.dead.add(row.id, n_bytes);
                self.keys.remove(&*row.key)
            }
        };
        if let Some(old) = old {
            let id = row_id(old.mod_revision, old.sub);
            self.dead.add(id, Row { id, key: row.key, kv: Some(old), replaces: 0 }.bytes());
        }
    }
}

/// Rows that wait to be deleted.
#[derive(Debug, Default)]
pub(crate) struct Dead {
    rows: OrdMap<u64, u32>,
    pub(crate) bytes: usize,
}

impl Dead {
    pub(crate) fn add(&mut self, id: u64, n_bytes: usize) {
        let size = u32::try_from(n_bytes).unwrap_or(u32::MAX);
        if self.rows.insert(id, size).is_none() {
            self.bytes += size as usize;
        }
    }

    pub(crate) fn remove(&mut self, id: u64) {
        if let Some(size) = self.rows.remove(&id) {
            self.bytes -= size as usize;
        }
    }

    /// The `n` lowest.
    pub(crate) fn first(&self, n: usize) -> Vec<u64> {
        self.rows.keys().take(n).copied().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
}
