//! Transactions: from the API's to the store's, and their answers back.

use std::sync::Arc;

use http::grpc::Status;
use stdx::OrdSet;
use store::{Done, Event, Relation, Request, Response, Span, Target, Txn};
use wire::etcd::{
    Bytes, Compare, CompareResult, CompareTarget, DeleteRangeResponse, Message, Operand,
    PutRequest, PutResponse, RequestOp, ResponseOp, TxnRequest, TxnResponse,
};

use crate::front::{Answer, Front, unsigned};
use crate::refusal::{
    DUPLICATE_KEY, EMPTY_KEY, KEY_NOT_FOUND, LEASE_PROVIDED, TOO_MANY_OPS, VALUE_PROVIDED,
};
use crate::shape::{query, shape, shown, span};

impl Front {
    pub(crate) async fn txn(&self, ask: &TxnRequest) -> Result<Answer, Status> {
        let txn = txn(ask, self.0.store.limits().txn_ops_max)?;
        changes(&ask.success)?;
        changes(&ask.failure)?;
        // What it reads shows only when it is done; the transactions of Kubernetes read one key.
        let may_be_large = ask.success.iter().chain(&ask.failure).any(may_be_large);
        let bytes = if may_be_large { LARGE_BYTES } else { 0 };
        let charge = self.0.answers.take(bytes).await?;
        let done = self.write(txn).await?;
        let succeeded = done.failed.is_none();
        let asks = if succeeded { &ask.success } else { &ask.failure };
        let responses = Teller::new(self, &done).tell(asks, &done.responses);
        let answer = TxnResponse { header: self.header(done.revision), succeeded, responses };
        Ok((answer.encode(), Some(charge)))
    }
}

/// What an answer is taken for that may be large.
const LARGE_BYTES: usize = 8 << 20;

fn may_be_large(ask: &RequestOp) -> bool {
    match ask {
        RequestOp::Range(ask) => !ask.range_end.is_empty() && !ask.count_only,
        RequestOp::DeleteRange(ask) => !ask.range_end.is_empty() && ask.prev_kv,
        RequestOp::Txn(_) => true,
        _ => false,
    }
}

/// The store's transaction; `ops_max` is what is left for one branch, which is less the deeper it lies.
///
/// # Errors
/// Why etcd would refuse it.
fn txn(ask: &TxnRequest, ops_max: usize) -> Result<Txn, Status> {
    let n_ops = ask.compare.len().max(ask.success.len()).max(ask.failure.len());
    let Some(left) = ops_max.checked_sub(n_ops) else { return Err(TOO_MANY_OPS.status()) };
    let branch = |asks: &[RequestOp]| {
        let one = |ask: &RequestOp| match ask {
            RequestOp::Txn(ask) => txn(ask, left).map(Request::Txn),
            ask => request(ask),
        };
        asks.iter().map(one).collect::<Result<Vec<Request>, Status>>()
    };
    let compares = ask.compare.iter().map(compare).collect::<Result<_, _>>()?;
    let (then, otherwise) = (branch(&ask.success)?, branch(&ask.failure)?);
    Ok(Txn { compares, then, otherwise, ..Txn::default() })
}

fn compare(ask: &Compare) -> Result<store::Compare, Status> {
    if ask.key.is_empty() {
        return Err(EMPTY_KEY.status());
    }
    let relation = match ask.result {
        CompareResult::NOT_EQUAL => Relation::NotEqual,
        CompareResult::GREATER => Relation::Greater,
        CompareResult::LESS => Relation::Less,
        _ => Relation::Equal,
    };
    // An operand of another kind is none: it counts as 0, or as empty.
    let target = match (ask.target, &ask.operand) {
        (CompareTarget::VALUE, Operand::Value(value)) => Target::Value(Arc::clone(value)),
        (CompareTarget::VALUE, _) => Target::Value(Bytes::default()),
        (CompareTarget::CREATE, Operand::CreateRevision(n)) => Target::CreateRevision(unsigned(*n)),
        (CompareTarget::CREATE, _) => Target::CreateRevision(0),
        (CompareTarget::MOD, Operand::ModRevision(n)) => Target::ModRevision(unsigned(*n)),
        (CompareTarget::MOD, _) => Target::ModRevision(0),
        (CompareTarget::LEASE, Operand::Lease(id)) => Target::Lease(*id),
        (CompareTarget::LEASE, _) => Target::Lease(0),
        (_, Operand::Version(n)) => Target::Version(unsigned(*n)),
        _ => Target::Version(0),
    };
    Ok(store::Compare { span: span(&ask.key, &ask.range_end), relation, target })
}

/// An operation that is no transaction.
///
/// # Errors
/// Why etcd would refuse it.
pub(crate) fn request(ask: &RequestOp) -> Result<Request, Status> {
    let key = match ask {
        RequestOp::Range(ask) => &ask.key,
        RequestOp::Put(ask) => &ask.key,
        RequestOp::DeleteRange(ask) => &ask.key,
        RequestOp::Txn(_) | RequestOp::None => return Err(KEY_NOT_FOUND.status()),
    };
    if key.is_empty() {
        return Err(EMPTY_KEY.status());
    }
    match ask {
        RequestOp::Range(ask) => Ok(Request::Range(query(ask))),
        RequestOp::Put(ask) => put(ask),
        RequestOp::DeleteRange(ask) => Ok(Request::Delete(span(&ask.key, &ask.range_end))),
        RequestOp::Txn(_) | RequestOp::None => Err(KEY_NOT_FOUND.status()),
    }
}

fn put(ask: &PutRequest) -> Result<Request, Status> {
    let (key, value, lease) = (Arc::clone(&ask.key), Arc::clone(&ask.value), ask.lease);
    if ask.ignore_value && !value.is_empty() {
        return Err(VALUE_PROVIDED.status());
    }
    if ask.ignore_lease && lease != 0 {
        return Err(LEASE_PROVIDED.status());
    }
    if ask.ignore_value || ask.ignore_lease {
        let value = (!ask.ignore_value).then_some(value);
        let lease = (!ask.ignore_lease).then_some(lease);
        return Ok(Request::Update { key, value, lease });
    }
    Ok(Request::Put { key, value, lease })
}

/// The keys that a branch puts, and the spans that it deletes, with those of all transactions in it.
type Changes<'a> = (OrdSet<&'a Bytes>, Vec<Span>);

/// # Errors
/// If a key is put twice, or put and deleted.
fn changes(asks: &[RequestOp]) -> Result<Changes<'_>, Status> {
    // As in etcd, a deletion of all that follows a key is not looked at: what is put after it stays.
    let deleted = |ask: &RequestOp| match ask {
        RequestOp::DeleteRange(ask) if *ask.range_end != [0] => {
            Some(span(&ask.key, &ask.range_end))
        }
        _ => None,
    };
    let mut deletes: Vec<Span> = asks.iter().filter_map(deleted).collect();
    let mut puts: OrdSet<&Bytes> = OrdSet::new();
    let clash = |key: &Bytes, deletes: &[Span]| deletes.iter().any(|span| span.contains(key));
    for ask in asks {
        let RequestOp::Txn(ask) = ask else { continue };
        let (then, then_deletes) = changes(&ask.success)?;
        let (otherwise, other_deletes) = changes(&ask.failure)?;
        // Only one of the two branches happens, so both may put a key.
        let own: OrdSet<&Bytes> = then.into_iter().chain(otherwise).collect();
        if own.iter().any(|key| puts.contains(key) || clash(key, &deletes)) {
            return Err(DUPLICATE_KEY.status());
        }
        puts.extend(own);
        deletes.extend(then_deletes);
        deletes.extend(other_deletes);
    }
    for ask in asks {
        let RequestOp::Put(ask) = ask else { continue };
        if clash(&ask.key, &deletes) || !puts.insert(&ask.key) {
            return Err(DUPLICATE_KEY.status());
        }
    }
    Ok((puts, deletes))
}

/// Tells what operations found, each at the revision of its changes.
pub(crate) struct Teller<'a> {
    front: &'a Front,
    revision: u64,
    events: std::slice::Iter<'a, Arc<Event>>,
}

impl<'a> Teller<'a> {
    pub(crate) fn new(front: &'a Front, done: &'a Done) -> Teller<'a> {
        Teller { front, revision: done.revision, events: done.events.iter() }
    }

    pub(crate) fn tell(&mut self, asks: &[RequestOp], found: &[Response]) -> Vec<ResponseOp> {
        asks.iter().zip(found).map(|(ask, found)| self.tell_one(ask, found)).collect()
    }

    /// The revision of the last of the next `n` changes.
    fn after(&mut self, n: usize) -> u64 {
        let last = n.checked_sub(1).and_then(|n| self.events.nth(n));
        last.map_or(self.revision, |event| event.revision)
    }

    fn tell_one(&mut self, ask: &RequestOp, found: &Response) -> ResponseOp {
        match (ask, found) {
            (RequestOp::Range(ask), Response::Range(found)) => {
                let revision = if ask.revision > 0 { self.revision } else { found.revision };
                let mut answer = shape(ask, found.clone());
                answer.header = self.front.header(revision);
                ResponseOp::Range(answer)
            }
            (RequestOp::Put(ask), Response::Put(before)) => {
                let header = self.front.header(self.after(1));
                let before = before.as_ref().filter(|_| ask.prev_kv);
                ResponseOp::Put(PutResponse { header, prev_kv: before.map(|kv| shown(kv, false)) })
            }
            (RequestOp::DeleteRange(ask), Response::Delete(before)) => {
                let header = self.front.header(self.after(before.len()));
                let deleted = i64::try_from(before.len()).unwrap_or(i64::MAX);
                let before = before.iter().filter(|_| ask.prev_kv);
                let prev_kvs = before.map(|kv| shown(kv, false)).collect();
                ResponseOp::DeleteRange(DeleteRangeResponse { header, deleted, prev_kvs })
            }
            (RequestOp::Txn(ask), Response::Txn(succeeded, found)) => {
                let asks = if *succeeded { &ask.success } else { &ask.failure };
                let responses = self.tell(asks, found);
                let header = self.front.header(self.revision);
                ResponseOp::Txn(TxnResponse { header, succeeded: *succeeded, responses })
            }
            // The store answers each as it was asked.
            _ => ResponseOp::None,
        }
    }
}
