//! Keys and values: ranges, puts, deletions, transactions, compaction.

use super::{Bytes, Field, Message, ResponseHeader, messages, one_of, open_enums, put_all};

open_enums! {
    SortOrder { NONE = 0, ASCEND = 1, DESCEND = 2, }
    SortTarget { KEY = 0, VERSION = 1, CREATE = 2, MOD = 3, VALUE = 4, }
    /// How what the store holds must compare to what the request has.
    CompareResult { EQUAL = 0, GREATER = 1, LESS = 2, NOT_EQUAL = 3, }
    CompareTarget { VERSION = 0, CREATE = 1, MOD = 2, VALUE = 3, LEASE = 4, }
}

messages! {
    KeyValue {
        1 key: Bytes,
        2 create_revision: i64,
        3 mod_revision: i64,
        4 version: i64,
        5 value: Bytes,
        6 lease: i64,
    }

    RangeRequest {
        1 key: Bytes,
        /// Empty: one key. `"\0"`: all from `key` on.
        2 range_end: Bytes,
        /// 0: none.
        3 limit: i64,
        /// 0: now.
        4 revision: i64,
        5 sort_order: SortOrder,
        6 sort_target: SortTarget,
        7 serializable: bool,
        8 keys_only: bool,
        9 count_only: bool,
        10 min_mod_revision: i64,
        11 max_mod_revision: i64,
        12 min_create_revision: i64,
        13 max_create_revision: i64,
    }

    RangeResponse {
        1 header: ResponseHeader,
        2 kvs: Vec<KeyValue>,
        3 more: bool,
        /// All keys of the range, whatever the limit.
        4 count: i64,
    }

    PutRequest {
        1 key: Bytes,
        2 value: Bytes,
        3 lease: i64,
        4 prev_kv: bool,
        5 ignore_value: bool,
        6 ignore_lease: bool,
    }

    PutResponse {
        1 header: ResponseHeader,
        2 prev_kv: Option<KeyValue>,
    }

    DeleteRangeRequest {
        1 key: Bytes,
        2 range_end: Bytes,
        3 prev_kv: bool,
    }

    DeleteRangeResponse {
        1 header: ResponseHeader,
        2 deleted: i64,
        3 prev_kvs: Vec<KeyValue>,
    }

    TxnRequest {
        1 compare: Vec<Compare>,
        2 success: Vec<RequestOp>,
        3 failure: Vec<RequestOp>,
    }

    TxnResponse {
        1 header: ResponseHeader,
        2 succeeded: bool,
        3 responses: Vec<ResponseOp>,
    }

    CompactionRequest {
        1 revision: i64,
        2 physical: bool,
    }

    CompactionResponse {
        1 header: ResponseHeader,
    }
}

one_of! {
    RequestOp {
        1 Range(RangeRequest),
        2 Put(PutRequest),
        3 DeleteRange(DeleteRangeRequest),
        4 Txn(TxnRequest),
    }
}

one_of! {
    ResponseOp {
        1 Range(RangeResponse),
        2 Put(PutResponse),
        3 DeleteRange(DeleteRangeResponse),
        4 Txn(TxnResponse),
    }
}

one_of! {
    /// What is compared with.
    Operand {
        4 Version(i64),
        5 CreateRevision(i64),
        6 ModRevision(i64),
        7 Value(Bytes),
        8 Lease(i64),
    }
}

/// A condition of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compare {
    pub result: CompareResult,
    /// Which of the key's numbers, or its value. An operand of another kind counts as 0 or as empty.
    pub target: CompareTarget,
    pub key: Bytes,
    pub operand: Operand,
    /// Not empty: it must hold for every key of the range.
    pub range_end: Bytes,
}

impl Compare {
    /// That each key of a range (or the one key, if `range_end` is empty) was last changed so.
    pub fn mod_revision(
        key: Bytes,
        range_end: Bytes,
        result: CompareResult,
        revision: i64,
    ) -> Compare {
        let operand = Operand::ModRevision(revision);
        Compare { result, target: CompareTarget::MOD, key, operand, range_end }
    }
}

// Its operand is a field among its own, so no table is made of it.
impl Message for Compare {
    fn put_fields(&self, out: &mut Vec<u8>) {
        put_all(&[(1, &self.result), (2, &self.target), (3, &self.key)], out);
        self.operand.put_fields(out);
        put_all(&[(64, &self.range_end)], out);
    }
    fn field(&mut self, number: u32) -> Option<&mut dyn Field> {
        match number {
            1 => Some(&mut self.result),
            2 => Some(&mut self.target),
            3 => Some(&mut self.key),
            64 => Some(&mut self.range_end),
            _ => self.operand.field(number),
        }
    }
}

crate::message::embedded!(Compare);
