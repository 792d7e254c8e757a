//! A batch as one transaction of etcd, and what its answer means.
//!
//! A plan stands on the revision `base`. It may be appended later as long as nobody touched what it relied
//! on; etcd's comparisons see keys that exist, so a deletion needs more thought than a put:
//!
//! - Each changed key must have the revision that the plan saw, or be absent as it was. That is exact, whoever
//!   wrote: servers of ours, and others who write to the same etcd.
//! - What a plan only looked at, keys and ranges, must hold nothing that is newer than `base`. A deletion
//!   leaves nothing to compare, so whoever deletes also writes [`DELETED`], and a plan that looked at more
//!   than it changed wants that to be as old. (What remains is a deletion by a program that is not ours, at
//!   the very moment when another key or range than those it deletes from is written because of it.)
//! - Comparisons have a bound. If there are too many, the plan wants instead that no server of ours appended
//!   anything since `base`: each append writes a key of its server below [`LOG`].
//!
//! That key also makes an append that is sent again (its answer was lost, or an endpoint does not answer)
//! happen once. It holds the token. An append wants its server's key to be as old as `base`, too, so the
//! same sent twice fails the second time, and finds its token there. A server sends one append at a time, so
//! nothing but the next one overwrites it.
//!
//! What is refused must not happen later, though a copy of it may still be on its way, to another member
//! say, and the reason of the refusal may be gone when it arrives (a key that was in the way is deleted).
//! So a refusal itself writes the server's key, unless it holds the token: after that every copy is too old.

use std::sync::Arc;

use stdx::{Context, Error, OrdMap, Result};
use store::{Append, Appended, Row, Span};
use wire::etcd::{
    Bytes, Compare, CompareResult, CompareTarget, DeleteRangeRequest, Operand, PutRequest,
    RangeRequest, RequestOp, ResponseOp, TxnRequest, TxnResponse, prefix_end,
};

use super::{revision, signed};

/// Below it each server has a key with the token of its last append.
pub(super) const LOG: &[u8] = b"/k3rs/log/";
/// Written by every append that deletes a key.
const DELETED: &[u8] = b"/k3rs/log/deleted";
/// Below it each server says how far it has followed.
pub(super) const SERVERS: &[u8] = b"/k3rs/servers/";

/// What etcd takes in one transaction by default (`--max-txn-ops`), as comparisons and as operations of each
/// branch; what lies in a branch counts on top of it.
const TXN_OPS_MAX: usize = 128 - 1;
/// Beside the changes: the token, and that something was deleted.
pub(super) const CHANGES_MAX: usize = TXN_OPS_MAX - 2;
/// Transactions share an append up to here. Etcd takes 1.5 MiB (`--max-request-bytes`), of which keys take a
/// part twice.
pub(super) const BYTES_MAX: usize = 512 << 10;

/// Whether a key only keeps the books of the log.
pub(super) fn is_bookkeeping(key: &[u8]) -> bool {
    key.starts_with(LOG) || key.starts_with(SERVERS)
}

/// Whether it is a server's token.
pub(super) fn is_token(key: &[u8]) -> bool {
    key.starts_with(LOG) && key != DELETED
}

pub(super) fn own_key(server: &str) -> Bytes {
    [LOG, server.as_bytes()].concat().into()
}

/// The row of a lease itself is bound to the lease in the etcd, so that both go together; in the store it is not.
pub(super) fn as_the_store_has_it(mut row: Row) -> Row {
    if row.lease().is_some() {
        row.kv.iter_mut().for_each(|kv| kv.lease = 0);
    }
    row
}

/// The transaction that appends, if everything is as the plan saw it.
pub(super) fn request(server: &str, append: &Append) -> TxnRequest {
    let own = own_key(server);
    let token = Bytes::from(append.token.to_string().into_bytes());
    let mut success: Vec<RequestOp> = append.rows.iter().map(change).collect();
    success.push(put(own.clone(), token.clone(), 0));
    if append.rows.iter().any(|row| row.kv.is_none()) {
        success.push(put(DELETED.into(), Bytes::default(), 0));
    }
    let failure = RequestOp::Txn(TxnRequest {
        compare: vec![Compare {
            result: CompareResult::EQUAL,
            target: CompareTarget::VALUE,
            key: own.clone(),
            operand: Operand::Value(token),
            range_end: Bytes::default(),
        }],
        success: vec![RequestOp::Range(RangeRequest {
            key: own.clone(),
            ..RangeRequest::default()
        })],
        failure: vec![put(own.clone(), Bytes::default(), 0)],
    });
    TxnRequest { compare: compares(own, append), success, failure: vec![failure] }
}

/// What the answer to it means.
pub(super) fn outcome(answer: &TxnResponse, token: u64) -> Result<Appended> {
    if answer.succeeded {
        return Ok(Appended::At(revision(answer.header.revision)));
    }
    let Some(ResponseOp::Txn(before)) = answer.responses.first() else {
        return Err(Error::new("the etcd answers something else"));
    };
    match before.responses.first() {
        Some(ResponseOp::Range(range)) if before.succeeded => {
            let own = range.kvs.first();
            let own = own.filter(|kv| *kv.value == *token.to_string().as_bytes());
            own.map(|kv| Appended::At(revision(kv.mod_revision)))
                .context(|| "the etcd answers something else")
        }
        _ => Ok(Appended::Lost),
    }
}

fn put(key: Bytes, value: Bytes, lease: i64) -> RequestOp {
    RequestOp::Put(PutRequest { key, value, lease, ..PutRequest::default() })
}

fn change(row: &Row) -> RequestOp {
    let key = Arc::clone(&row.key);
    match &row.kv {
        Some(kv) => {
            let lease = row.lease().map_or(kv.lease, |(id, _)| id);
            put(key, Arc::clone(&kv.value), lease)
        }
        None => RequestOp::DeleteRange(DeleteRangeRequest { key, ..DeleteRangeRequest::default() }),
    }
}

fn compares(own: Bytes, append: &Append) -> Vec<Compare> {
    let changed = append.rows.iter().map(|row| {
        let (key, seen) = (Arc::clone(&row.key), signed(row.replaces));
        Compare::mod_revision(key, Bytes::default(), CompareResult::EQUAL, seen)
    });
    let mut compares: Vec<Compare> = changed.collect();
    let not_newer = |key: Bytes, range_end: Bytes| {
        let next = signed(append.base).saturating_add(1);
        Compare::mod_revision(key, range_end, CompareResult::LESS, next)
    };
    // Those that are looked at besides, each once.
    let mut looked_at: OrdMap<(Bytes, Bytes), ()> = OrdMap::new();
    for span in &append.relied {
        if let Some(range) = range_of(span) {
            looked_at.insert(range, ());
        }
    }
    for row in &append.rows {
        looked_at.remove(&(Arc::clone(&row.key), Bytes::default()));
    }
    // Beside them: that nothing was deleted, and that this server's own key is as old.
    if compares.len() + looked_at.len() + 2 > TXN_OPS_MAX {
        compares.push(not_newer(LOG.into(), prefix_end(LOG)));
        return compares;
    }
    if !looked_at.is_empty() {
        compares.push(not_newer(DELETED.into(), Bytes::default()));
    }
    compares.extend(looked_at.into_keys().map(|(key, range_end)| not_newer(key, range_end)));
    compares.push(not_newer(own, Bytes::default()));
    compares
}

/// The first key and the end of a span, as etcd wants them; `None` if there can be nothing in it.
fn range_of(span: &Span) -> Option<(Bytes, Bytes)> {
    // No key is empty.
    let first = |key: &Bytes| if key.is_empty() { Bytes::from([0]) } else { Arc::clone(key) };
    Some(match span {
        Span::Key(key) if key.is_empty() => return None,
        Span::Key(key) => (Arc::clone(key), Bytes::default()),
        Span::Prefix(prefix) => (first(prefix), prefix_end(prefix)),
        Span::From(key) => (first(key), Bytes::from([0])),
        Span::Between(key, end) if key >= end => return None,
        Span::Between(key, end) => (first(key), Arc::clone(end)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::Version;

    fn row(key: &str, value: Option<&str>, replaces: u64) -> Row {
        let version = |value: &str| Version {
            value: value.as_bytes().into(),
            create_revision: 8,
            version: 1,
            lease: 0,
        };
        let mut row = Row::new(8, 0, key.as_bytes().into(), value.map(version));
        row.replaces = replaces;
        row
    }

    /// Comparisons and operations, in short.
    fn shown(rows: Vec<Row>, relied: Vec<Span>) -> String {
        let request = request("s", &Append { base: 7, last: 8, token: 5, rows, relied });
        let compare = |compare: &Compare| {
            let sign = if compare.result == CompareResult::EQUAL { "=" } else { "<" };
            let Operand::ModRevision(revision) = compare.operand else { return "?".to_owned() };
            let end = match &*compare.range_end {
                [] => String::new(),
                end => format!("..{}", end.escape_ascii()),
            };
            format!("{}{end}{sign}{revision}", compare.key.escape_ascii())
        };
        let op = |op: &RequestOp| match op {
            RequestOp::Put(put) => {
                format!("{}:={}", put.key.escape_ascii(), put.value.escape_ascii())
            }
            RequestOp::DeleteRange(delete) => format!("-{}", delete.key.escape_ascii()),
            _ => "?".to_owned(),
        };
        let compares: Vec<String> = request.compare.iter().map(compare).collect();
        let ops: Vec<String> = request.success.iter().map(op).collect();
        format!("{} => {}", compares.join(" "), ops.join(" "))
    }

    #[test]
    fn what_a_plan_relied_on_is_compared() {
        let key = |key: &str| Span::key(key);
        assert_eq!(
            shown(vec![row("/a", Some("x"), 0), row("/b", Some("y"), 3)], vec![key("/a")]),
            "/a=0 /b=3 /k3rs/log/s<8 => /a:=x /b:=y /k3rs/log/s:=5"
        );
        assert_eq!(
            shown(vec![row("/a", None, 3)], vec![key("/a"), Span::prefix("/n/"), key("/c")]),
            "/a=3 /k3rs/log/deleted<8 /c<8 /n/../n0<8 /k3rs/log/s<8 => -/a /k3rs/log/s:=5 /k3rs/log/deleted:="
        );
        // All keys, twice, and nothing at all.
        let (none, all) = (Bytes::default(), Span::prefix(""));
        let spans = vec![all, Span::From(none.clone()), Span::Between([2].into(), [1].into())];
        assert_eq!(
            shown(vec![row("/a", Some("x"), 0)], spans),
            "/a=0 /k3rs/log/deleted<8 \\x00..\\x00<8 /k3rs/log/s<8 => /a:=x /k3rs/log/s:=5"
        );
    }

    #[test]
    fn what_etcd_does_not_take_is_never_made() {
        let rows = |n: usize| (0..n).map(|n| row(&format!("/{n}"), None, 3)).collect::<Vec<_>>();
        let looked = |n: usize| (0..n).map(|n| Span::key(format!("/x{n}"))).collect::<Vec<_>>();
        for (n_rows, n_looked) in [(1, 0), (CHANGES_MAX, 0), (CHANGES_MAX, 500), (60, 65), (60, 66)]
        {
            let (rows, relied) = (rows(n_rows), looked(n_looked));
            let request = request("s", &Append { base: 7, last: 8, token: 5, rows, relied });
            let n_ops = request.compare.len().max(request.success.len());
            assert!(n_ops < 128, "{n_rows} and {n_looked}: {n_ops}");
            // Whatever happens to a server of ours is seen.
            let own = request.compare.iter().any(|compare| compare.key.starts_with(LOG));
            assert!(own && request.failure.len() == 1);
        }
    }
}
