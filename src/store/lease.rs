//! Leases: keys that go when nobody renews. Deadlines are monotonic; a restart renews them all,
//! as etcd's leader change does, so a wall clock that jumps from 1970 to today expires nothing.

use std::time::Duration;

use stdx::{OrdMap, OrdSet, time::Mono};

use crate::driver::LeaseRow;
use crate::types::{Bytes, Class, Event, LeaseId};

/// What a lease is at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseInfo {
    pub id: LeaseId,
    pub ttl: Duration,
    pub remaining: Duration,
    pub keys: Vec<Bytes>,
}

#[derive(Debug, Default)]
pub(crate) struct Leases {
    by_id: OrdMap<LeaseId, Lease>,
    /// Ended, but perhaps still on disk.
    pub(crate) ended: Vec<LeaseId>,
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    class: Class,
    deadline: Mono,
    keys: OrdSet<Bytes>,
    on_disk: bool,
}

impl Leases {
    pub(crate) fn add(&mut self, row: LeaseRow, now: Mono, on_disk: bool) {
        let LeaseRow { id, ttl, class } = row;
        let lease = Lease { ttl, class, deadline: now + ttl, keys: OrdSet::new(), on_disk };
        self.by_id.insert(id, lease);
    }

    pub(crate) fn contains(&self, id: LeaseId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn class(&self, id: LeaseId) -> Option<Class> {
        self.by_id.get(&id).map(|lease| lease.class)
    }

    pub(crate) fn keys(&self, id: LeaseId) -> Vec<Bytes> {
        self.by_id.get(&id).map_or_else(Vec::new, |lease| lease.keys.iter().cloned().collect())
    }

    pub(crate) fn info(&self, id: LeaseId, now: Mono) -> Option<LeaseInfo> {
        let lease = self.by_id.get(&id)?;
        let remaining = lease.deadline.since(now);
        Some(LeaseInfo { id, ttl: lease.ttl, remaining, keys: self.keys(id) })
    }

    pub(crate) fn ids(&self) -> Vec<LeaseId> {
        self.by_id.keys().copied().collect()
    }

    /// Starts its time again; the full time it has now.
    pub(crate) fn keep_alive(&mut self, id: LeaseId, now: Mono) -> Option<Duration> {
        let lease = self.by_id.get_mut(&id)?;
        lease.deadline = now + lease.ttl;
        Some(lease.ttl)
    }

    pub(crate) fn remove(&mut self, id: LeaseId) {
        if self.by_id.remove(&id).is_some_and(|lease| lease.on_disk) {
            self.ended.push(id);
        }
    }

    /// Follows a change: the key leaves its old version's lease and joins the new one's.
    pub(crate) fn follow(&mut self, event: &Event) {
        let old = event.before.as_ref().map_or(0, |kv| kv.lease);
        let new = event.now.as_ref().map_or(0, |kv| kv.lease);
        if old == new {
            return;
        }
        if let Some(lease) = self.by_id.get_mut(&old) {
            lease.keys.remove(&event.key);
        }
        self.attach(new, &event.key);
    }

    pub(crate) fn attach(&mut self, id: LeaseId, key: &Bytes) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.keys.insert(key.clone());
        }
    }

    /// The row to write along with a key of this lease, if it is not on disk yet.
    pub(crate) fn missing_row(&self, id: LeaseId) -> Option<LeaseRow> {
        let lease = self.by_id.get(&id).filter(|lease| !lease.on_disk)?;
        Some(LeaseRow { id, ttl: lease.ttl, class: lease.class })
    }

    pub(crate) fn written(&mut self, id: LeaseId) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.on_disk = true;
        }
    }

    /// When the next one ends. There are few leases (one a minute of events), so a walk is enough.
    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        self.by_id.values().map(|lease| lease.deadline).min()
    }

    pub(crate) fn expired(&self, now: Mono) -> Option<LeaseId> {
        self.by_id.iter().find(|(_, lease)| lease.deadline <= now).map(|(id, _)| *id)
    }

    /// A lease of this length and class young enough to share, as kube-apiserver shares them.
    pub(crate) fn shareable(&self, ttl: Duration, class: Class, now: Mono) -> Option<LeaseId> {
        let slack = (ttl / SHARED_SLACK_PARTS).min(SHARED_SLACK_MAX);
        let young = |lease: &Lease| {
            // The deadline may exceed the wish by the slack, never fall below it.
            let remaining = lease.deadline.since(now);
            lease.class == class && remaining >= ttl && remaining <= ttl + slack
        };
        let shared = |lease: &Lease| lease.keys.len() < SHARED_KEYS_MAX && young(lease);
        self.by_id.iter().find(|(_, lease)| shared(lease)).map(|(id, _)| *id)
    }
}

const SHARED_SLACK_PARTS: u32 = 20;
pub(crate) const SHARED_SLACK_MAX: Duration = Duration::from_secs(60);
const SHARED_KEYS_MAX: usize = 1000;

/// How much longer a shared lease is made, so that later keys can join it.
pub(crate) fn shared_ttl(ttl: Duration) -> Duration {
    ttl + (ttl / SHARED_SLACK_PARTS).min(SHARED_SLACK_MAX)
}
