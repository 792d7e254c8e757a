//! Bytes of messages as etcd's own library writes them, and what must not be read.

use super::*;
use std::fmt;
use stdx::prng::Prng;

/// What is written is `bytes`, and `bytes` are read as it.
#[track_caller]
fn check<M: Message + Default + PartialEq + fmt::Debug>(message: &M, bytes: &[u8]) {
    assert_eq!(message.encode().escape_ascii().to_string(), bytes.escape_ascii().to_string());
    assert_eq!(M::decode(bytes, 100).as_ref(), Ok(message));
}

fn bytes(text: &str) -> Bytes {
    text.as_bytes().into()
}

#[test]
fn keys_and_values() {
    let request = RangeRequest {
        key: bytes("/a"),
        range_end: prefix_end(b"/a"),
        limit: 500,
        revision: -1,
        serializable: true,
        max_create_revision: 1,
        sort_target: SortTarget::MOD,
        ..RangeRequest::default()
    };
    check(
        &request,
        b"\x0a\x02/a\x12\x02/b\x18\xf4\x03\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x30\x03\x38\x01\x68\x01",
    );
    let value = "v".repeat(200);
    let kv = KeyValue {
        key: bytes("k"),
        create_revision: 2,
        mod_revision: 3,
        version: 1,
        value: bytes(&value),
        lease: 7,
    };
    let answer = RangeResponse {
        header: ResponseHeader { cluster_id: 1, revision: 300, ..ResponseHeader::default() },
        kvs: vec![kv],
        more: false,
        count: 1,
    };
    let mut expected =
        b"\x0a\x05\x08\x01\x18\xac\x02\x12\xd6\x01\x0a\x01k\x10\x02\x18\x03\x20\x01\x2a\xc8\x01"
            .to_vec();
    expected.extend_from_slice(value.as_bytes());
    expected.extend_from_slice(b"\x30\x07\x20\x01");
    check(&answer, &expected);
    check(&PutResponse::default(), b"\x0a\x00");
    let before = PutResponse { prev_kv: Some(KeyValue::default()), ..PutResponse::default() };
    check(&before, b"\x0a\x00\x12\x00");
}

#[test]
fn transactions() {
    // An operand is sent though it is zero: that a key is absent.
    let absent = Compare::mod_revision(bytes("k"), Bytes::default(), CompareResult::EQUAL, 0);
    let nested = TxnRequest { compare: vec![absent], ..TxnRequest::default() };
    let request = TxnRequest {
        success: vec![
            RequestOp::Put(PutRequest { key: bytes("k"), ..PutRequest::default() }),
            RequestOp::Txn(nested),
        ],
        failure: vec![RequestOp::Range(RangeRequest::default())],
        compare: vec![Compare {
            result: CompareResult::LESS,
            range_end: bytes("l"),
            operand: Operand::Value(Bytes::default()),
            target: CompareTarget::VALUE,
            ..Compare::default()
        }],
    };
    check(
        &request,
        b"\x0a\x0a\x08\x02\x10\x03\x3a\x00\x82\x04\x01l\x12\x05\x12\x03\x0a\x01k\x12\x0b\x22\x09\x0a\x07\x10\x02\x1a\x01k\x30\x00\x1a\x02\x0a\x00",
    );
    let answer = TxnResponse {
        succeeded: true,
        responses: vec![ResponseOp::DeleteRange(DeleteRangeResponse {
            deleted: 2,
            ..DeleteRangeResponse::default()
        })],
        ..TxnResponse::default()
    };
    check(&answer, b"\x0a\x00\x10\x01\x1a\x06\x1a\x04\x0a\x00\x10\x02");
    // The last of several counts, as does none.
    let last = RequestOp::decode(b"\x0a\x03\x0a\x01a\x1a\x03\x0a\x01b", 9).unwrap();
    let expected = DeleteRangeRequest { key: bytes("b"), ..DeleteRangeRequest::default() };
    assert_eq!(last, RequestOp::DeleteRange(expected));
    assert_eq!(RequestOp::decode(b"\x2a\x00", 9), Ok(RequestOp::None));
}

#[test]
fn watches() {
    let create = WatchCreateRequest {
        key: bytes("/"),
        start_revision: 5,
        filters: Filters { no_delete: true, no_put: false },
        fragment: true,
        ..WatchCreateRequest::default()
    };
    check(&WatchRequest::Create(create), b"\x0a\x0a\x0a\x01/\x18\x05\x2a\x01\x01\x40\x01");
    check(&WatchRequest::Progress(WatchProgressRequest {}), b"\x1a\x00");
    check(&WatchRequest::Cancel(WatchCancelRequest { watch_id: 1 }), b"\x12\x02\x08\x01");
    let event = Event {
        kind: EventType::DELETE,
        kv: KeyValue { key: bytes("k"), mod_revision: 9, ..KeyValue::default() },
        prev_kv: None,
    };
    let answer = WatchResponse {
        watch_id: 1,
        canceled: true,
        compact_revision: 4,
        cancel_reason: "x".to_owned(),
        events: vec![event],
        ..WatchResponse::default()
    };
    check(
        &answer,
        b"\x0a\x00\x10\x01\x20\x01\x28\x04\x32\x01x\x5a\x09\x08\x01\x12\x05\x0a\x01k\x18\x09",
    );
    // Not packed, and with what is not known.
    let filters = WatchCreateRequest::decode(b"\x28\x00\x28\x07\x28\x01", 9).unwrap().filters;
    assert_eq!(filters, Filters { no_put: true, no_delete: true });
}

#[test]
fn leases_members_and_upkeep() {
    check(&LeaseGrantRequest { ttl: 10, id: 0 }, b"\x08\x0a");
    let none = LeaseTimeToLiveResponse { id: 3, ttl: -1, ..LeaseTimeToLiveResponse::default() };
    check(&none, b"\x0a\x00\x10\x03\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    let leases = vec![LeaseStatus { id: 1 }, LeaseStatus { id: 0 }];
    check(
        &LeaseLeasesResponse { leases, ..LeaseLeasesResponse::default() },
        b"\x0a\x00\x12\x02\x08\x01\x12\x00",
    );
    let member = Member {
        id: u64::MAX,
        name: "a".to_owned(),
        client_urls: vec!["x".to_owned(), String::new()],
        is_learner: true,
        ..Member::default()
    };
    let members = MemberListResponse { members: vec![member], ..MemberListResponse::default() };
    check(
        &members,
        b"\x0a\x00\x12\x15\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x12\x01a\x22\x01x\x22\x00\x28\x01",
    );
    let status = StatusResponse {
        version: "3.5.0".to_owned(),
        db_size_in_use: 1,
        downgrade_info: Some(DowngradeInfo { enabled: true, ..DowngradeInfo::default() }),
        ..StatusResponse::default()
    };
    check(&status, b"\x0a\x00\x12\x053.5.0\x48\x01\x6a\x02\x08\x01");
    let alarm = AlarmRequest { action: AlarmAction(9), alarm: AlarmType::NOSPACE, member_id: 0 };
    check(&alarm, b"\x08\x09\x18\x01");
    check(
        &HashKvResponse { hash: u32::MAX, ..HashKvResponse::default() },
        b"\x0a\x00\x10\xff\xff\xff\xff\x0f",
    );
    check(&StatusRequest {}, b"");
}

#[test]
fn ends_of_prefixes() {
    assert_eq!(*prefix_end(b"/a/"), *b"/a0");
    assert_eq!(*prefix_end(b"a\xff\xff"), *b"b");
    assert_eq!(*prefix_end(b"\xff"), *b"\0");
    assert_eq!(*prefix_end(b""), *b"\0");
}

#[test]
fn what_is_too_much_is_refused() {
    let mut txn = TxnRequest::default();
    for _ in 0..9 {
        txn = TxnRequest { success: vec![RequestOp::Txn(txn)], ..TxnRequest::default() };
    }
    assert_eq!(TxnRequest::decode(&txn.encode(), 9).as_ref(), Ok(&txn));
    assert_eq!(TxnRequest::decode(&txn.encode(), 8), Err(Error::TooManyItems));
    for _ in 0..1000 {
        txn = TxnRequest { success: vec![RequestOp::Txn(txn)], ..TxnRequest::default() };
    }
    assert_eq!(TxnRequest::decode(&txn.encode(), 5000), Err(Error::TooDeep));
    // Two bytes would become an operation each.
    let ops = b"\x12\x00".repeat(1000);
    assert_eq!(TxnRequest::decode(&ops, 999), Err(Error::TooManyItems));
    assert!(TxnRequest::decode(&ops, 1000).is_ok());
    for bad in [&b"\x0a\x05ab"[..], b"\x08\x01", b"\x1a\x01\xff", b"\x13"] {
        assert!(matches!(RangeRequest::decode(bad, 9), Err(Error::Malformed(_))), "{bad:?}");
    }
    assert!(WatchCreateRequest::decode(b"\x2a\x01\xff", 9).is_err());
    assert!(StatusResponse::decode(b"\x12\x01\xff", 9).is_err(), "text is UTF-8");
}

#[test]
fn whatever_comes_does_not_panic() {
    let mut prng = Prng::new(1);
    let below = |prng: &mut Prng, n| usize::try_from(prng.below(n)).unwrap_or(0);
    for _ in 0..20_000 {
        let mut bytes = vec![0; below(&mut prng, 60)];
        prng.fill(&mut bytes);
        // Mostly low field numbers.
        for _ in 0..4 {
            let at = below(&mut prng, bytes.len().max(1) as u64);
            bytes.get_mut(at).into_iter().for_each(|byte| *byte = prng.next_u64() as u8 & 0x1f);
        }
        if let Ok(txn) = TxnRequest::decode(&bytes, 50) {
            assert_eq!(TxnRequest::decode(&txn.encode(), 50), Ok(txn));
        }
        let _ = WatchResponse::decode(&bytes, 50);
        let _ = WatchRequest::decode(&bytes, 50);
        let _ = StatusResponse::decode(&bytes, 50);
    }
}
