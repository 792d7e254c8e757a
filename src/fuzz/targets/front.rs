//! The etcd API over a store in memory: messages of every method, one after the other.

use std::cell::RefCell;
use std::time::Duration;

use ::wire::etcd::{self, Message, method};
use http::server::Service;
use http::{Body, Method, Request};
use kine::{Front, Settings};
use store::{Disk, Limits, Store};

/// Between the calls of one input.
const SEPARATOR: u8 = 0x1e;
const CALLS_MAX: usize = 8;
/// Inputs that one front gets.
const INPUTS_MAX: usize = 400;
const ANSWER_MAX_BYTES: usize = 4 << 20;
/// What a stream says is read for so long: it goes on as long as its client.
const STREAM_MAX: Duration = Duration::from_millis(3);

const METHODS: &[&str] = &[
    method::RANGE,
    method::PUT,
    method::DELETE_RANGE,
    method::TXN,
    method::COMPACT,
    method::LEASE_GRANT,
    method::LEASE_REVOKE,
    method::LEASE_TIME_TO_LIVE,
    method::HASH_KV,
    method::STATUS,
    method::ALARM,
    method::MEMBER_LIST,
    method::WATCH,
    method::LEASE_KEEP_ALIVE,
    "/etcdserverpb.Auth/UserAdd",
];

thread_local! {
    static ASKED: RefCell<Option<(Front, usize)>> = const { RefCell::new(None) };
}

/// A front of a small store; a new one from time to time.
fn front() -> Front {
    ASKED.with_borrow_mut(|asked| {
        if asked.as_ref().is_none_or(|(_, n_inputs)| *n_inputs >= INPUTS_MAX) {
            let limits = Limits { state_bytes_max: 1 << 20, ..Limits::default() };
            let store = rt::block_on(Store::open_memory(&Disk::default(), limits));
            *asked = Some((Front::new(store.expect("a store"), Settings::default()), 0));
        }
        let (front, n_inputs) = asked.as_mut().expect("it was just made");
        *n_inputs += 1;
        front.clone()
    })
}

/// Calls, one behind the other: a byte that chooses the method, then the message.
pub(super) fn calls(bytes: &[u8]) {
    let front = front();
    for call in bytes.split(|&byte| byte == SEPARATOR).take(CALLS_MAX) {
        let Some((first, message)) = call.split_first() else { continue };
        let path = METHODS[usize::from(*first) % METHODS.len()];
        rt::block_on(answered(&front, path, message));
    }
}

async fn answered(front: &Front, path: &str, message: &[u8]) {
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
    framed.extend_from_slice(message);
    let request = Request::new(Method::Post, path).header("content-type", "application/grpc");
    let mut response = Service::call(front, request.body(framed)).await;
    assert_eq!(response.status, 200, "{path}");
    if matches!(path, method::WATCH | method::LEASE_KEEP_ALIVE) {
        let read = rt::timeout(STREAM_MAX, response.body.read_all(ANSWER_MAX_BYTES)).await;
        let _ = read.map(|read| read.expect("a stream ends well"));
        return;
    }
    let status = match response.headers.get("grpc-status") {
        Some(status) => status.to_owned(),
        None => {
            let answer = response.body.read_all(ANSWER_MAX_BYTES).await.expect("an answer");
            let message = answer.get(5..).expect("an answer has a message");
            if path == method::RANGE {
                let found = etcd::RangeResponse::decode(message, usize::MAX).expect("a range");
                assert!(found.count >= i64::try_from(found.kvs.len()).unwrap_or(0));
            }
            trailer(&mut response.body)
        }
    };
    // Codes of the service's own faults: unknown, internal but for what is no message, data loss.
    let words = response.headers.get("grpc-message").unwrap_or("");
    let is_fault = status == "2" || status == "15";
    assert!(!is_fault && (status != "13" || words.contains("unmarshalling")), "{path}: {words}");
}

fn trailer(body: &mut Body) -> String {
    let trailers = body.trailers().expect("an answer has trailers");
    trailers.get("grpc-status").expect("a status is in them").to_owned()
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let call = |path: &str, message: Vec<u8>| {
        let method = METHODS.iter().position(|known| *known == path).unwrap_or(0);
        let mut call = vec![u8::try_from(method).unwrap_or(0)];
        call.extend(message);
        call
    };
    let (key, other) = (etcd::Bytes::from(*b"/a"), etcd::Bytes::from(*b"/b"));
    let put = |key: &etcd::Bytes| etcd::PutRequest {
        key: key.clone(),
        value: etcd::Bytes::from(*b"v"),
        prev_kv: true,
        ..etcd::PutRequest::default()
    };
    let range = etcd::RangeRequest {
        key: key.clone(),
        range_end: etcd::Bytes::from([0]),
        sort_order: etcd::SortOrder::DESCEND,
        sort_target: etcd::SortTarget::MOD,
        limit: 2,
        ..etcd::RangeRequest::default()
    };
    let nothing = etcd::Bytes::default();
    let compare =
        etcd::Compare::mod_revision(key.clone(), nothing, etcd::CompareResult::GREATER, 1);
    let delete = etcd::DeleteRangeRequest { key: key.clone(), ..Default::default() };
    let inner = etcd::TxnRequest {
        success: vec![etcd::RequestOp::Put(put(&other)), etcd::RequestOp::Range(range.clone())],
        ..etcd::TxnRequest::default()
    };
    let txn = etcd::TxnRequest {
        compare: vec![compare],
        success: vec![etcd::RequestOp::Txn(inner), etcd::RequestOp::DeleteRange(delete)],
        failure: vec![etcd::RequestOp::Put(put(&key))],
    };
    let create = etcd::WatchCreateRequest {
        key: key.clone(),
        range_end: etcd::Bytes::from(*b"/z"),
        start_revision: 1,
        prev_kv: true,
        fragment: true,
        ..etcd::WatchCreateRequest::default()
    };
    let grant = etcd::LeaseGrantRequest { ttl: 100, id: 7 };
    let leased = etcd::PutRequest { lease: 7, ..put(&other) };
    let all = [
        vec![call(method::PUT, put(&key).encode()), call(method::RANGE, range.encode())],
        vec![call(method::TXN, txn.encode()), call(method::TXN, txn.encode())],
        vec![
            call(method::PUT, put(&key).encode()),
            call(method::WATCH, etcd::WatchRequest::Create(create).encode()),
            call(
                method::COMPACT,
                etcd::CompactionRequest { revision: 2, physical: false }.encode(),
            ),
        ],
        vec![
            call(method::LEASE_GRANT, grant.encode()),
            call(method::PUT, leased.encode()),
            call(
                method::LEASE_TIME_TO_LIVE,
                etcd::LeaseTimeToLiveRequest { id: 7, keys: true }.encode(),
            ),
            call(method::LEASE_KEEP_ALIVE, etcd::LeaseKeepAliveRequest { id: 7 }.encode()),
            call(method::LEASE_REVOKE, etcd::LeaseRevokeRequest { id: 7 }.encode()),
        ],
        vec![call(method::HASH_KV, Vec::new()), call(method::ALARM, Vec::new())],
    ];
    all.iter().map(|calls| calls.join(&SEPARATOR)).collect()
}
