//! Transactions, as etcd has them: comparisons, and what to do if all of them hold or if one does not.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::types::{
    Bytes, Event, Expect, KeyValue, LeaseId, Limits, Op, Query, Range, Span, Written,
};

/// What happens at once, at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    pub compares: Vec<Compare>,
    /// Carried out in order if every comparison holds.
    pub then: Vec<Request>,
    /// Carried out in order if one does not.
    pub otherwise: Vec<Request>,
}

/// A condition on the keys of a span as they are before the transaction: it must hold for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    pub span: Span,
    pub relation: Relation,
    pub target: Target,
}

/// How what a key has must relate to what the comparison names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Equal,
    NotEqual,
    Less,
    Greater,
}

/// What is compared, and with what. A key that does not exist has zeros, and no value: a comparison
/// of its value never holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Value(Bytes),
    Version(u64),
    CreateRevision(u64),
    ModRevision(u64),
    Lease(LeaseId),
}

/// One operation of a transaction. It sees what those before it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Put {
        key: Bytes,
        value: Bytes,
        lease: LeaseId,
    },
    /// Deletes every key of the span.
    Delete(Span),
    Range(Query),
}

/// What an operation of a transaction found.
#[derive(Debug, Clone)]
pub enum Response {
    /// The version that was replaced.
    Put(Option<KeyValue>),
    /// The versions that were deleted, in key order.
    Delete(Vec<KeyValue>),
    Range(Range),
}

/// What a transaction did.
#[derive(Debug, Clone)]
pub struct Done {
    /// The comparison that did not hold; `None` if all did.
    pub failed: Option<Failed>,
    /// One for each operation of the branch that was taken.
    pub responses: Vec<Response>,
    /// The revision of the transaction; the store's current one if nothing changed.
    pub revision: u64,
    /// One event for each key that an operation changed, in order.
    pub events: Vec<Arc<Event>>,
}

/// A comparison that did not hold.
#[derive(Debug, Clone)]
pub struct Failed {
    pub compare_idx: usize,
    /// The first key that it did not hold for, as it is; `None` if it does not exist.
    pub current: Option<KeyValue>,
}

impl Compare {
    /// Whether it holds for a version of a key, or for a key that does not exist.
    pub(crate) fn holds(&self, current: Option<&KeyValue>) -> bool {
        let number = |read: fn(&KeyValue) -> u64| current.map_or(0, read);
        let order = match &self.target {
            Target::Value(value) => match current {
                Some(kv) => kv.value.cmp(value),
                None => return false,
            },
            Target::Version(version) => number(|kv| u64::from(kv.version)).cmp(version),
            Target::CreateRevision(revision) => number(|kv| kv.create_revision).cmp(revision),
            Target::ModRevision(revision) => number(|kv| kv.mod_revision).cmp(revision),
            Target::Lease(lease) => current.map_or(0, |kv| kv.lease).cmp(lease),
        };
        match self.relation {
            Relation::Equal => order == Ordering::Equal,
            Relation::NotEqual => order != Ordering::Equal,
            Relation::Less => order == Ordering::Less,
            Relation::Greater => order == Ordering::Greater,
        }
    }
}

impl From<Vec<Op>> for Txn {
    /// A write: all of it if every expectation holds, or nothing.
    fn from(ops: Vec<Op>) -> Txn {
        let mut txn = Txn::default();
        for op in ops {
            let revision = match op.expect() {
                Expect::Any => None,
                Expect::Absent => Some(0),
                Expect::Revision(revision) => Some(revision),
            };
            let span = Span::Key(Arc::clone(op.key()));
            txn.compares.extend(revision.map(|revision| Compare {
                span: span.clone(),
                relation: Relation::Equal,
                target: Target::ModRevision(revision),
            }));
            txn.then.push(match op {
                Op::Put { key, value, lease, .. } => Request::Put { key, value, lease },
                Op::Delete { .. } => Request::Delete(span),
            });
        }
        txn
    }
}

impl Txn {
    /// The keys that it looks at or changes.
    pub(crate) fn spans(&self) -> impl Iterator<Item = Span> {
        let compared = self.compares.iter().map(|compare| compare.span.clone());
        let requests = self.then.iter().chain(&self.otherwise).map(|request| match request {
            Request::Put { key, .. } => Span::Key(Arc::clone(key)),
            Request::Delete(span) => span.clone(),
            Request::Range(query) => query.span.clone(),
        });
        compared.chain(requests)
    }

    /// About how many bytes it adds to a batch.
    pub(crate) fn bytes(&self) -> usize {
        self.then.iter().chain(&self.otherwise).map(Request::bytes).sum()
    }

    /// What can be refused before it waits.
    pub(crate) fn check(&self, limits: &Limits) -> Result<()> {
        let n_ops = self.compares.len().max(self.then.len()).max(self.otherwise.len());
        let n_max = limits.txn_ops_max;
        if n_ops > n_max {
            return invalid(format!("a transaction has at most {n_max} operations, not {n_ops}"));
        }
        self.then.iter().chain(&self.otherwise).try_for_each(|request| request.check(limits))
    }
}

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Request::Put { key, value, .. } => key.len() + value.len(),
            Request::Delete(span) => span.start().len(),
            Request::Range(_) => 0,
        }
    }

    fn check(&self, limits: &Limits) -> Result<()> {
        let key = match self {
            Request::Put { key, .. } | Request::Delete(Span::Key(key)) => key,
            Request::Delete(_) | Request::Range(_) => return Ok(()),
        };
        let n_max = limits.key_bytes_max;
        if key.is_empty() || key.len() > n_max {
            return invalid(format!("a key has 1 to {n_max} bytes, not {}", key.len()));
        }
        let n_max = limits.value_bytes_max;
        match self {
            Request::Put { value, .. } if value.len() > n_max => {
                invalid(format!("a value has at most {n_max} bytes, not {}", value.len()))
            }
            _ => Ok(()),
        }
    }
}

fn invalid(why: String) -> Result<()> {
    Err(Error::Invalid(why))
}

impl Done {
    /// What was planned on `base` happened so many revisions later.
    pub(crate) fn move_up(&mut self, base: u64, revisions: u64) {
        let moved = |kv: &mut KeyValue| *kv = kv.clone().moved_up(base, revisions);
        for response in &mut self.responses {
            match response {
                Response::Put(before) => before.iter_mut().for_each(moved),
                Response::Delete(before) => before.iter_mut().for_each(moved),
                Response::Range(range) => {
                    range.items.iter_mut().for_each(moved);
                    range.revision += if range.revision > base { revisions } else { 0 };
                }
            }
        }
        if let Some(current) = self.failed.as_mut().and_then(|failed| failed.current.as_mut()) {
            moved(current);
        }
        for event in &mut self.events {
            let mut it = Event::clone(event);
            it.revision += revisions;
            it.now.iter_mut().chain(&mut it.before).for_each(moved);
            *event = Arc::new(it);
        }
        self.revision += if self.revision > base { revisions } else { 0 };
    }

    /// What it did as a write, whose comparisons all had to hold.
    ///
    /// # Errors
    /// `Conflict` if one did not.
    pub fn written(self) -> Result<Written> {
        match self.failed {
            None => Ok(Written { revision: self.revision, events: self.events }),
            Some(failed) => Err(Error::Conflict { current: failed.current }),
        }
    }
}
