//! Ranges as the store reads them, and what it finds as the API has it.

use std::cmp::Ordering;
use std::sync::Arc;

use stdx::Arrange;
use store::{Query, Range, Span};
use wire::etcd::{Bytes, KeyValue, RangeRequest, RangeResponse, SortOrder, SortTarget};

use crate::front::{signed, unsigned};

pub(crate) fn span(key: &Bytes, range_end: &Bytes) -> Span {
    match &**range_end {
        [] => Span::Key(Arc::clone(key)),
        [0] => Span::From(Arc::clone(key)),
        _ => Span::Between(Arc::clone(key), Arc::clone(range_end)),
    }
}

/// What to read for a range. What is sorted or filtered is read as a whole, and cut afterwards.
pub(crate) fn query(ask: &RangeRequest) -> Query {
    let limit = match (ask.count_only, is_shaped(ask)) {
        (true, _) => 1,
        (_, true) => 0,
        _ => limit(ask),
    };
    let at = Some(unsigned(ask.revision)).filter(|revision| *revision != 0);
    Query { span: span(&ask.key, &ask.range_end), at, limit, after: None }
}

fn limit(ask: &RangeRequest) -> usize {
    usize::try_from(ask.limit).unwrap_or(0)
}

fn is_shaped(ask: &RangeRequest) -> bool {
    let bounds = [
        ask.min_mod_revision,
        ask.max_mod_revision,
        ask.min_create_revision,
        ask.max_create_revision,
    ];
    ask.sort_order != SortOrder::NONE
        || ask.sort_target != SortTarget::KEY
        || bounds.iter().any(|bound| *bound != 0)
}

/// The answer of what was read.
pub(crate) fn shape(ask: &RangeRequest, found: Range) -> RangeResponse {
    let count = signed((found.items.len() + found.remaining) as u64);
    if ask.count_only {
        return RangeResponse { count, ..RangeResponse::default() };
    }
    let (mut items, mut more) = (found.items, found.remaining > 0);
    if is_shaped(ask) {
        let within = |n: u64, min: i64, max: i64| {
            let n = signed(n);
            (min == 0 || n >= min) && (max == 0 || n <= max)
        };
        items.retain(|kv| {
            within(kv.mod_revision, ask.min_mod_revision, ask.max_mod_revision)
                && within(kv.create_revision, ask.min_create_revision, ask.max_create_revision)
        });
        let order = |a: &store::KeyValue, b: &store::KeyValue| match ask.sort_target {
            SortTarget::VERSION => a.version.cmp(&b.version),
            SortTarget::CREATE => a.create_revision.cmp(&b.create_revision),
            SortTarget::MOD => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::VALUE => a.value.cmp(&b.value),
            SortTarget::KEY => a.key.cmp(&b.key),
            _ => Ordering::Equal,
        };
        match ask.sort_order {
            SortOrder::DESCEND => items.arrange_by(|a, b| order(b, a)),
            _ => items.arrange_by(order),
        }
        let limit = limit(ask);
        more = limit > 0 && items.len() > limit;
        if more {
            items.truncate(limit);
        }
    }
    let kvs = items.iter().map(|kv| shown(kv, ask.keys_only)).collect();
    RangeResponse { kvs, more, count, ..RangeResponse::default() }
}

/// A version as the API has it.
pub(crate) fn shown(kv: &store::KeyValue, keys_only: bool) -> KeyValue {
    KeyValue {
        key: Arc::clone(&kv.key),
        create_revision: signed(kv.create_revision),
        mod_revision: signed(kv.mod_revision),
        version: i64::from(kv.version),
        value: if keys_only { Bytes::default() } else { Arc::clone(&kv.value) },
        lease: kv.lease,
    }
}

/// About the bytes of an answer.
pub(crate) fn bytes_of(items: &[store::KeyValue]) -> usize {
    items.iter().map(|kv| kv.key.len() + kv.value.len() + 32).sum()
}
