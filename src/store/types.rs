//! What callers hand to the store and get back: keys, versions, events, writes, ranges, bounds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Bytes shared by everyone who holds this version of a key: state, history, watches, answers.
pub type Bytes = Arc<[u8]>;

/// A lease's number; 0 is "no lease".
pub type LeaseId = i64;

/// One version of one key. Cloning it copies no bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    /// The revision that created the key (after its last deletion).
    pub create_revision: u64,
    /// The revision that wrote this version.
    pub mod_revision: u64,
    /// 1 for the creation, then one more for each write.
    pub version: u32,
    /// The operation's place among those of its revision.
    pub(crate) sub: u32,
    /// Whoever wrote the value vouches for it, or [`Limits::check`] accepted what the disk held.
    pub checked: bool,
    pub lease: LeaseId,
}

impl KeyValue {
    /// The version that a plan on `base` makes, where the log gave it a later revision.
    pub(crate) fn moved_up(mut self, base: u64, revisions: u64) -> KeyValue {
        for revision in [&mut self.create_revision, &mut self.mod_revision] {
            *revision += if *revision > base { revisions } else { 0 };
        }
        self
    }
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub revision: u64,
    pub key: Bytes,
    /// The new version; `None` when the key was deleted.
    pub now: Option<KeyValue>,
    /// The version it replaced or removed; `None` for a creation.
    pub before: Option<KeyValue>,
}

impl Event {
    pub fn is_delete(&self) -> bool {
        self.now.is_none()
    }

    /// What it keeps alive at most, for the bounds of queues and history.
    pub(crate) fn weight_bytes(&self) -> usize {
        let version = |kv: &Option<KeyValue>| kv.as_ref().map_or(0, |kv| kv.value.len());
        EVENT_OVERHEAD_BYTES + self.key.len() + version(&self.now) + version(&self.before)
    }
}

const EVENT_OVERHEAD_BYTES: usize = 200;

/// How soon a write must be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Class {
    /// Acknowledged and shown only after fsync.
    #[default]
    Durable,
    /// Acknowledged and shown from memory; a power cut may take it back (Lease and Event objects).
    /// Written to disk now and then, and at a clean close.
    Lazy,
}

/// How far a write may fill the store. What makes nothing larger needs no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Room {
    /// The part that is for everybody, of which each owner of keys has a share.
    Common,
    /// All of it: what the cluster itself needs to go on.
    #[default]
    Whole,
    /// As much as it takes: what leads to something being deleted. Its size is bounded by its nature.
    Unbounded,
}

/// What must be true of the key for the write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Any,
    /// The key does not exist.
    Absent,
    /// The key exists and its `mod_revision` is this one.
    Revision(u64),
}

/// One operation of a write: the common transaction, in which each key has its own expectation.
#[derive(Clone, PartialEq, Eq)]
pub enum Op {
    Put {
        key: Bytes,
        value: Bytes,
        expect: Expect,
        lease: LeaseId,
    },
    /// Deleting an absent key is no change, unless `expect` forbids it.
    Delete {
        key: Bytes,
        expect: Expect,
    },
}

impl Op {
    /// A key that must not exist yet.
    pub fn create(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Op {
        Op::Put { key: key.into(), value: value.into(), expect: Expect::Absent, lease: 0 }
    }

    /// A new version of a key that is still at `mod_revision`.
    pub fn update(key: impl Into<Bytes>, value: impl Into<Bytes>, mod_revision: u64) -> Op {
        let expect = Expect::Revision(mod_revision);
        Op::Put { key: key.into(), value: value.into(), expect, lease: 0 }
    }

    /// Whatever is there.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Op {
        Op::Put { key: key.into(), value: value.into(), expect: Expect::Any, lease: 0 }
    }

    pub fn delete(key: impl Into<Bytes>, expect: Expect) -> Op {
        Op::Delete { key: key.into(), expect }
    }

    /// The same put, bound to a lease: the key goes when the lease ends.
    #[must_use]
    pub fn with_lease(mut self, id: LeaseId) -> Op {
        if let Op::Put { lease, .. } = &mut self {
            *lease = id;
        }
        self
    }

    pub fn key(&self) -> &Bytes {
        match self {
            Op::Put { key, .. } | Op::Delete { key, .. } => key,
        }
    }

    pub(crate) fn expect(&self) -> Expect {
        match self {
            Op::Put { expect, .. } | Op::Delete { expect, .. } => *expect,
        }
    }
}

/// What a write did.
#[derive(Debug, Clone)]
pub struct Written {
    /// The revision of the write; the store's current one if nothing changed.
    pub revision: u64,
    /// One event for each operation that changed something, in order.
    pub events: Vec<Arc<Event>>,
}

/// A set of keys.
#[derive(Clone, PartialEq, Eq)]
pub enum Span {
    Key(Bytes),
    Prefix(Bytes),
    /// From the first, inclusive, to the second, exclusive.
    Between(Bytes, Bytes),
    /// From this key on, without end.
    From(Bytes),
}

impl Span {
    pub fn key(key: impl AsRef<[u8]>) -> Span {
        Span::Key(key.as_ref().into())
    }

    pub fn prefix(prefix: impl AsRef<[u8]>) -> Span {
        Span::Prefix(prefix.as_ref().into())
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Span::Key(it) => **it == *key,
            Span::Prefix(prefix) => key.starts_with(prefix),
            Span::Between(start, end) => **start <= *key && *key < **end,
            Span::From(start) => **start <= *key,
        }
    }

    /// The first key that may be in it.
    pub(crate) fn start(&self) -> &[u8] {
        match self {
            Span::Key(it) | Span::Prefix(it) | Span::Between(it, _) | Span::From(it) => it,
        }
    }

    /// Every key in it starts with this.
    pub(crate) fn anchor(&self) -> &[u8] {
        match self {
            Span::Key(it) | Span::Prefix(it) => it,
            Span::Between(start, end) => {
                let n_common = start.iter().zip(end.iter()).take_while(|(a, b)| a == b).count();
                &start[..n_common]
            }
            Span::From(_) => &[],
        }
    }
}

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub span: Span,
    /// The past revision to read at; `None` is now.
    pub at: Option<u64>,
    /// At most this many items; 0 is "no limit".
    pub limit: usize,
    /// Only keys after this one: how a limited read goes on.
    pub after: Option<Bytes>,
}

impl Query {
    pub fn prefix(prefix: impl AsRef<[u8]>) -> Query {
        Query::of(Span::prefix(prefix))
    }

    /// All keys of the span, now.
    pub fn of(span: Span) -> Query {
        Query { span, at: None, limit: 0, after: None }
    }

    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        self.span.contains(key) && self.after.as_ref().is_none_or(|after| *key > **after)
    }
}

/// What a read found, in key order.
#[derive(Debug, Clone)]
pub struct Range {
    pub items: Vec<KeyValue>,
    /// The revision it was read at: the one asked for, or the current one.
    pub revision: u64,
    /// How many more keys follow the last item; 0 when this is the end.
    pub remaining: usize,
}

impl Range {
    /// The first `limit` of what was found, and how many more there are.
    pub(crate) fn page<'a>(
        revision: u64,
        limit: usize,
        mut found: impl Iterator<Item = &'a KeyValue>,
    ) -> Range {
        let limit = if limit == 0 { usize::MAX } else { limit };
        let items = found.by_ref().take(limit).cloned().collect();
        Range { items, revision, remaining: found.count() }
    }

    pub fn more(&self) -> bool {
        self.remaining > 0
    }
}

/// Every bound of the store.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub key_bytes_max: usize,
    pub value_bytes_max: usize,
    /// Comparisons, and operations of each branch, of one transaction (etcd's `--max-txn-ops`).
    pub txn_ops_max: usize,
    /// Writes that wait for the committer; more wait at the door.
    pub queue_writes_max: usize,
    /// Writes and bytes in one transaction.
    pub batch_writes_max: usize,
    pub batch_bytes_max: usize,
    /// All keys and values together. Writes that would grow it further are refused.
    pub state_bytes_max: usize,
    /// Whose a key is, for the share of one owner; `None` is nobody's.
    pub owner: fn(&[u8]) -> Option<&[u8]>,
    /// Whether the value of a key reads well. Asked once for each version that comes from the disk;
    /// what this process writes is checked by its writers.
    pub check: fn(key: &[u8], value: &[u8]) -> bool,
    /// Past changes kept for watches and reads at an older revision.
    pub history_events_max: usize,
    pub history_bytes_max: usize,
    /// Changes waiting in one watch before it is cut off.
    pub watch_events_max: usize,
    pub watch_bytes_max: usize,
    /// How long, and how much of it, lazy data stays in memory only.
    pub lazy_age_max: Duration,
    pub lazy_bytes_max: usize,
    /// Replaced rows left on disk, besides a quarter of the living ones.
    pub dead_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            key_bytes_max: 4 << 10,
            value_bytes_max: 3 << 20,
            txn_ops_max: 128,
            queue_writes_max: 256,
            batch_writes_max: 1024,
            batch_bytes_max: 4 << 20,
            state_bytes_max: 128 << 20,
            owner: |_| None,
            check: |_, _| false,
            history_events_max: 4096,
            history_bytes_max: 3 << 20,
            watch_events_max: 2048,
            watch_bytes_max: 4 << 20,
            lazy_age_max: Duration::from_secs(300),
            lazy_bytes_max: 1 << 20,
            dead_bytes_max: 512 << 10,
        }
    }
}

impl Limits {
    /// For a machine of so much memory, of which the store must leave the most to others.
    ///
    /// The past serves watches that come back: a quarter of a megabyte holds the last hours of an
    /// idle node, and a watch that is too late lists again.
    pub fn for_memory(total_bytes: u64) -> Limits {
        let part = |parts: u64, min: usize, max: usize| {
            usize::try_from(total_bytes / parts).unwrap_or(max).clamp(min, max)
        };
        let default = Limits::default();
        Limits {
            // The queue's places are set aside from the start; who finds none waits at its door.
            queue_writes_max: 64,
            state_bytes_max: part(4, 8 << 20, default.state_bytes_max),
            history_bytes_max: part(256, 256 << 10, 1 << 20),
            watch_bytes_max: part(64, 1 << 20, default.watch_bytes_max),
            ..default
        }
    }

    /// The same for a disk that has so much room for the store, with what it holds already: the file
    /// holds replaced versions and its own log beside the state.
    #[must_use]
    pub fn for_disk(mut self, bytes: u64) -> Limits {
        let third = usize::try_from(bytes / 3).unwrap_or(usize::MAX);
        self.state_bytes_max = self.state_bytes_max.min(third.max(STATE_LEAST_BYTES));
        self
    }

    /// The same with `parts` times the room for a watch.
    pub(crate) fn times(mut self, parts: usize) -> Limits {
        self.watch_events_max *= parts;
        self.watch_bytes_max *= parts;
        self
    }

    /// What everybody may fill together; the rest is kept for the cluster itself.
    pub fn common_bytes_max(&self) -> usize {
        self.state_bytes_max / 8 * 7
    }

    /// What one owner may fill of it.
    pub fn owner_bytes_max(&self) -> usize {
        self.common_bytes_max() / 4 * 3
    }
}

/// The bound of the state on the smallest disk.
const STATE_LEAST_BYTES: usize = 4 << 20;

/// What the store holds and has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    pub revision: u64,
    pub compact_revision: u64,
    pub n_keys: usize,
    pub state_bytes: usize,
    pub n_history: usize,
    pub history_bytes: usize,
    pub n_watches: usize,
    pub n_leases: usize,
    /// Keys whose newest version is not on disk yet.
    pub n_lazy: usize,
    /// Rows on disk that newer ones replace and that wait to be deleted.
    pub n_dead_rows: usize,
    pub n_commits: u64,
    pub n_failed_commits: u64,
    /// Bytes of the database file and its log, 0 in memory.
    pub file_bytes: u64,
}

/// A key for logs and panics of tests: text if it is text.
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}@{} (created {}, version {}, {} bytes)",
            Shown(&self.key),
            self.mod_revision,
            self.create_revision,
            self.version,
            self.value.len()
        )
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if matches!(self, Op::Put { .. }) { "put" } else { "delete" };
        write!(f, "{verb} {:?} if {:?}", Shown(self.key()), self.expect())
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Span::Key(key) => write!(f, "{:?}", Shown(key)),
            Span::Prefix(prefix) => write!(f, "{:?}*", Shown(prefix)),
            Span::Between(start, end) => write!(f, "{:?}..{:?}", Shown(start), Shown(end)),
            Span::From(start) => write!(f, "{:?}..", Shown(start)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_follows_memory_and_disk() {
        let bound = |memory: u64, disk: u64| {
            Limits::for_memory(memory << 20).for_disk(disk << 20).state_bytes_max >> 20
        };
        assert_eq!(bound(256, 10_000), 64, "a quarter of the memory");
        assert_eq!(bound(16_384, 10_000), 128, "and no more than");
        assert_eq!(bound(16_384, 90), 30, "a third of the disk, if that is less");
        assert_eq!(bound(16_384, 3), 4, "something on any disk");
    }
}
