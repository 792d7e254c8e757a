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
    /// Its values come from somebody who does not know what may stand there: [`Limits::check`] says
    /// whether they read well, as of those that come from the disk.
    pub foreign: bool,
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
    /// A put to a key that must exist, which keeps what is not given.
    Update {
        key: Bytes,
        value: Option<Bytes>,
        lease: Option<LeaseId>,
    },
    /// Deletes every key of the span.
    Delete(Span),
    Range(Query),
    /// Another transaction, at most [`TXN_DEPTH_MAX`] deep. Its comparisons are judged before anything
    /// of the outermost one happens; what that one says of `foreign` goes for it.
    Txn(Txn),
}

/// How deep transactions may lie in each other.
pub const TXN_DEPTH_MAX: usize = 8;
/// How many times the operations of one branch a transaction may have with all that lie in it.
const NESTED_PARTS_MAX: usize = 8;

/// What an operation of a transaction found.
#[derive(Debug, Clone)]
pub enum Response {
    /// The version that was replaced.
    Put(Option<KeyValue>),
    /// The versions that were deleted, in key order.
    Delete(Vec<KeyValue>),
    Range(Range),
    /// Whether the comparisons of one inside held, and what its branch found.
    Txn(bool, Vec<Response>),
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
        let mut all = Vec::new();
        self.gather_spans(&mut all);
        all.into_iter()
    }

    fn gather_spans(&self, all: &mut Vec<Span>) {
        all.extend(self.compares.iter().map(|compare| compare.span.clone()));
        for request in self.then.iter().chain(&self.otherwise) {
            match request {
                Request::Put { key, .. } | Request::Update { key, .. } => {
                    all.push(Span::Key(Arc::clone(key)));
                }
                Request::Delete(span) => all.push(span.clone()),
                Request::Range(query) => all.push(query.span.clone()),
                Request::Txn(txn) => txn.gather_spans(all),
            }
        }
    }

    /// About how many bytes it adds to a batch.
    pub(crate) fn bytes(&self) -> usize {
        self.then.iter().chain(&self.otherwise).map(Request::bytes).sum()
    }

    /// What can be refused before it waits.
    pub(crate) fn check(&self, limits: &Limits) -> Result<()> {
        let mut left = limits.txn_ops_max.saturating_mul(NESTED_PARTS_MAX);
        self.check_within(limits, TXN_DEPTH_MAX, &mut left)
    }

    fn check_within(&self, limits: &Limits, depth: usize, left: &mut usize) -> Result<()> {
        let n_ops = self.compares.len().max(self.then.len()).max(self.otherwise.len());
        let n_max = limits.txn_ops_max;
        if n_ops > n_max {
            return invalid(format!("a transaction has at most {n_max} operations, not {n_ops}"));
        }
        let Some(depth) = depth.checked_sub(1) else {
            return invalid(format!("transactions lie at most {TXN_DEPTH_MAX} deep in each other"));
        };
        let n_all = self.compares.len() + self.then.len() + self.otherwise.len();
        match left.checked_sub(n_all) {
            Some(n_left) => *left = n_left,
            None => return invalid("a transaction has too many operations inside".into()),
        }
        for request in self.then.iter().chain(&self.otherwise) {
            match request {
                Request::Txn(txn) => txn.check_within(limits, depth, left)?,
                request => request.check(limits)?,
            }
        }
        Ok(())
    }
}

impl Request {
    /// The keys that it may change, if it is no transaction.
    pub(crate) fn changed(&self) -> Option<Span> {
        match self {
            Request::Put { key, .. } | Request::Update { key, .. } => {
                Some(Span::Key(Arc::clone(key)))
            }
            Request::Delete(span) => Some(span.clone()),
            Request::Range(_) | Request::Txn(_) => None,
        }
    }

    /// The requests and those of all transactions among them, whichever branch.
    pub(crate) fn flat<'a>(requests: &'a [Request], all: &mut Vec<&'a Request>) {
        for request in requests {
            match request {
                Request::Txn(txn) => {
                    Request::flat(&txn.then, all);
                    Request::flat(&txn.otherwise, all);
                }
                request => all.push(request),
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Request::Put { key, value, .. } => key.len() + value.len(),
            Request::Update { key, value, .. } => {
                key.len() + value.as_ref().map_or(0, |value| value.len())
            }
            Request::Delete(span) => span.start().len(),
            Request::Range(_) => 0,
            Request::Txn(txn) => txn.bytes(),
        }
    }

    fn check(&self, limits: &Limits) -> Result<()> {
        let (key, value) = match self {
            Request::Put { key, value, .. } => (key, Some(value)),
            Request::Update { key, value, .. } => (key, value.as_ref()),
            Request::Delete(Span::Key(key)) => (key, None),
            Request::Delete(_) | Request::Range(_) | Request::Txn(_) => return Ok(()),
        };
        let n_max = limits.key_bytes_max;
        if key.is_empty() || key.len() > n_max {
            return invalid(format!("a key has 1 to {n_max} bytes, not {}", key.len()));
        }
        let n_max = limits.value_bytes_max;
        match value.map_or(0, |value| value.len()) {
            n if n > n_max => invalid(format!("a value has at most {n_max} bytes, not {n}")),
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
        let mut responses: Vec<&mut Response> = self.responses.iter_mut().collect();
        while let Some(response) = responses.pop() {
            match response {
                Response::Put(before) => before.iter_mut().for_each(moved),
                Response::Delete(before) => before.iter_mut().for_each(moved),
                Response::Range(range) => {
                    range.items.iter_mut().for_each(moved);
                    range.revision += if range.revision > base { revisions } else { 0 };
                }
                Response::Txn(_, inner) => responses.extend(inner),
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
