//! Codecs of the wire.

use std::io::Read;

use ::wire::dns::{Foreign, Name, Query, kind};
use ::wire::etcd::{self, Message};
use ::wire::headers::Headers;
use ::wire::http1::{self, BodyDecoder, Decoded, Framing};
use ::wire::{
    client_hello, cri, decompress, dhcp, hpack, http2 as h2, mysql, postgres, proxy_protocol,
    spdy as framing, tar,
};

use super::texts;

/// What is read of something compressed.
const READ_MAX_BYTES: u64 = 1 << 20;

pub(super) fn json(bytes: &[u8]) {
    let Ok(parsed) = ::wire::json::parse(bytes) else { return };
    assert!(::wire::json::is_valid(bytes), "what is parsed is valid");
    let text = parsed.tree.to_string();
    let again = ::wire::json::parse(text.as_bytes()).expect("what is written is parsed");
    assert_eq!(again.tree, parsed.tree);
}

pub(super) fn json_seeds() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"a":[1,-2.5e3,"x\u00e4\ud83d\ude00",null,true,{"b":{}}],"a":1}"#,
        r#"[[[[[[[[]]]]]]]]"#,
        r#" {"kind":"Pod","metadata":{"name":"p","labels":{"a":"b"}}} "#,
    ])
}

pub(super) fn yaml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(documents) = ::wire::yaml::parse(text) else { return };
    for tree in documents {
        // JSON is YAML.
        let again = ::wire::yaml::parse_one(&tree.to_string());
        assert!(again.is_ok(), "{tree} is not read again: {again:?}");
    }
}

pub(super) fn yaml_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "a: &x [1, 'b', \"c\\n\"]\nb: *x\nc:\n- d: |\n    text\n  e: >-\n    more\n---\n? k\n: v\n...\n",
        "apiVersion: v1\nkind: List\nitems:\n- {kind: Pod, metadata: {name: p}}\n",
        "<<: {a: 1}\nn: 0x1F\no: 0o17\nf: .inf\nt: 2001-12-14t21:59:43.10-05:00\n!!binary x: y\n",
    ])
}

pub(super) fn http1(bytes: &[u8]) {
    let body = |framing: Framing, rest: &[u8]| {
        let mut decoder = BodyDecoder::new(framing);
        let mut at = 0;
        while !decoder.is_done() {
            let n = match decoder.decode(&rest[at..]) {
                Err(_) | Ok(Decoded::More { consumed: 0 }) => return,
                Ok(Decoded::More { consumed: n } | Decoded::Done { consumed: n }) => n,
                Ok(Decoded::Data { start, end }) => {
                    assert!(start < end, "data is more than nothing");
                    end
                }
            };
            assert!(n <= rest.len() - at, "no more is used than there was");
            at += n;
        }
    };
    if let Ok(Some((head, n))) = http1::parse_request(bytes)
        && let Ok(framing) = http1::request_framing(&head.headers, head.minor)
    {
        body(framing, &bytes[n..]);
    }
    if let Ok(Some((head, n))) = http1::parse_response(bytes)
        && let Ok(framing) = http1::response_framing(&head.headers, head.status, false)
    {
        body(framing, &bytes[n..]);
    }
}

pub(super) fn http1_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "POST /a%20b?c=d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: t\r\n\r\n5;e=f\r\nhello\r\n0\r\nt: v\r\n\r\n",
        "PUT / HTTP/1.1\r\nhost: x\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade\r\n\r\n",
    ])
}

pub(super) fn http2(bytes: &[u8]) {
    let mut decoder = hpack::Decoder::new(4096);
    let mut at = 0;
    while let Some((frame, n)) = h2::parse(&bytes[at..]) {
        assert!(n > 0 && n <= bytes.len() - at);
        at += n;
        let Ok(frame) = frame else { continue };
        if let h2::Frame::Headers { block, .. } | h2::Frame::Continuation { block, .. } = frame {
            let _ = decoder.decode(block, 8192);
        }
    }
    let _ = hpack::Decoder::new(4096).decode(bytes, 8192);
}

pub(super) fn http2_seeds() -> Vec<Vec<u8>> {
    let mut fields = Headers::new();
    for (name, value) in [
        (":method", "GET"),
        (":path", "/api/v1/pods"),
        ("accept", "application/json"),
        ("x-own", "value"),
    ] {
        fields.append(name, value);
    }
    let (mut block, mut frames) = (Vec::new(), Vec::new());
    let mut encoder = hpack::Encoder::new();
    encoder.encode(&fields, &mut block);
    h2::emit_settings(&mut frames, &[(1, 4096), (4, 65535)]);
    h2::emit_headers(&mut frames, 1, &block, false);
    h2::emit_data(&mut frames, 1, b"data", true);
    h2::emit_window_update(&mut frames, 0, 1000);
    h2::emit_ping(&mut frames, false, [7; 8]);
    vec![frames, block]
}

pub(super) fn spdy(bytes: &[u8]) {
    let mut decoder = framing::HeaderDecoder::new();
    let mut at = 0;
    while let Ok(Some((frame, n))) = framing::parse(&bytes[at..]) {
        assert!(n > 0 && n <= bytes.len() - at);
        at += n;
        if let framing::Frame::SynStream { block, .. } | framing::Frame::SynReply { block, .. } =
            frame
            && decoder.decode(block).is_err()
        {
            return;
        }
    }
}

pub(super) fn spdy_seeds() -> Vec<Vec<u8>> {
    let headers = Headers::new().with("streamtype", "stdout").with("port", "8080");
    let mut frames = Vec::new();
    let mut encoder = framing::HeaderEncoder::new();
    encoder.emit_syn_reply(&mut frames, 1, &headers);
    framing::emit_data(&mut frames, 1, b"hello", true);
    framing::emit_ping(&mut frames, 2);
    vec![frames]
}

pub(super) fn dns(bytes: &[u8]) {
    if let Ok(query) = Query::parse(bytes) {
        let id = u16::from_be_bytes([bytes[0], bytes[1]]);
        assert!(Query::parse(&query.to_bytes(id, true)).is_ok(), "a query is read again");
    }
    let Ok(name) = Name::from_text("first.example.test") else { return };
    let query = Query::new(name, kind::A);
    if let Ok(found) = Foreign::parse(bytes, &query, 4711) {
        let _ = found.addresses();
    }
}

pub(super) fn dns_seeds() -> Vec<Vec<u8>> {
    let query = |name: &str| Name::from_text(name).map(|name| Query::new(name, kind::A)).ok();
    let mut seeds: Vec<Vec<u8>> = ["first.example.test", "kubernetes.default.svc.cluster.local"]
        .iter()
        .filter_map(|name| Some(query(name)?.to_bytes(4711, true)))
        .collect();
    // The answer to the first: two records, one a name that points back.
    if let Some(query) = query("first.example.test") {
        let mut answer = query.to_bytes(4711, false);
        answer[2] |= 0x80;
        answer[7] = 2;
        answer.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 4, 1, b'a', 0xc0, 18]);
        answer.extend_from_slice(&[1, b'a', 0xc0, 18, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        seeds.push(answer);
    }
    seeds
}

pub(super) fn dhcp(bytes: &[u8]) {
    let _ = dhcp::Reply::parse(bytes);
}

/// What an ingress looks at before anything is spoken: what is whole stays what it is, whatever follows.
pub(super) fn beginnings(bytes: &[u8]) {
    let more = [bytes, b"x"].concat();
    if let seen @ client_hello::Seen::Hello(_) = client_hello::look(bytes) {
        assert_eq!(client_hello::look(&more), seen);
    }
    if let seen @ proxy_protocol::Seen::Header { n_bytes, .. } = proxy_protocol::look(bytes) {
        assert!(n_bytes <= bytes.len() && proxy_protocol::look(&more) == seen);
    }
}

pub(super) fn beginnings_seeds() -> Vec<Vec<u8>> {
    let addresses = ("192.0.2.7:4711".parse(), "[2001:db8::1]:443".parse());
    let (Ok(from), Ok(to)) = addresses else { return Vec::new() };
    let name = b"\0\0\0\x0d\0\x0b\0\0\x08x.test.z";
    let mut hello = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0, 0, 17], name].concat();
    let length = u8::try_from(hello.len()).unwrap_or(0);
    hello.splice(0..0, [22, 3, 1, 0, length + 4, 1, 0, 0, length]);
    vec![proxy_protocol::emit(1, from, to), proxy_protocol::emit(2, from, to), hello]
}

pub(super) fn dhcp_seeds() -> Vec<Vec<u8>> {
    // A BOOTP head, the magic number, an offer with a mask, a router, a server and a lease.
    let mut offer = vec![2, 1, 6, 0, 1, 2, 3, 4];
    offer.resize(236, 0);
    offer.extend_from_slice(&[
        99, 130, 83, 99, 53, 1, 2, 1, 4, 255, 255, 255, 0, 3, 4, 192, 0, 2, 1, 54, 4, 192, 0, 2, 1,
    ]);
    offer.extend_from_slice(&[
        51, 4, 0, 0, 14, 16, 6, 8, 192, 0, 2, 1, 192, 0, 2, 2, 121, 5, 0, 192, 0, 2, 1, 255,
    ]);
    vec![offer]
}

/// An image's layer: whatever compression, a tar archive in it.
pub(super) fn layer(bytes: &[u8]) {
    let Ok(stream) = decompress::Decompressor::new(bytes) else { return };
    let mut archive = tar::Archive::new(stream.take(READ_MAX_BYTES));
    while let Ok(Some(_)) = archive.next_entry() {}
}

pub(super) fn layer_seeds() -> Vec<Vec<u8>> {
    let mut builder = tar::Builder::default();
    builder.add(&tar::Entry::file(b"etc/passwd", 0o644), b"root:x:0:0:::\n");
    builder.add(&tar::Entry::file(&[b'a'; 180], 0o4755), b"long");
    let plain = builder.finish();
    // The same as gzip, in one stored block, and as a zstd frame of one raw block.
    let n = u16::try_from(plain.len()).unwrap_or(0);
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    gzip.extend_from_slice(&n.to_le_bytes());
    gzip.extend_from_slice(&(!n).to_le_bytes());
    gzip.extend_from_slice(&plain);
    let mut zstd = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    zstd.extend_from_slice(&((u32::from(n) << 3) | 1).to_le_bytes()[..3]);
    zstd.extend_from_slice(&plain);
    vec![plain, gzip, zstd]
}

/// Items of a message that a stranger may send.
const ITEMS_MAX: usize = 1000;

fn message<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok(message) = M::decode(bytes, ITEMS_MAX) else { return };
    assert_eq!(M::decode(&message.encode(), ITEMS_MAX), Ok(message), "it is read again");
}

/// Messages of etcd's API, both ways.
pub(super) fn etcd(bytes: &[u8]) {
    message::<etcd::TxnRequest>(bytes);
    message::<etcd::TxnResponse>(bytes);
    message::<etcd::RangeRequest>(bytes);
    message::<etcd::WatchRequest>(bytes);
    message::<etcd::WatchResponse>(bytes);
    message::<etcd::LeaseTimeToLiveResponse>(bytes);
    message::<etcd::MemberAddResponse>(bytes);
    message::<etcd::StatusResponse>(bytes);
}

pub(super) fn etcd_seeds() -> Vec<Vec<u8>> {
    let key = etcd::Bytes::from(*b"/registry/pods/default/p");
    let range = etcd::RangeRequest {
        range_end: etcd::prefix_end(&key),
        limit: 500,
        sort_order: etcd::SortOrder::DESCEND,
        key: key.clone(),
        ..etcd::RangeRequest::default()
    };
    let end = etcd::Bytes::default();
    let compare = etcd::Compare::mod_revision(key.clone(), end, etcd::CompareResult::LESS, 9);
    let kv = etcd::KeyValue { key: key.clone(), version: 1, ..etcd::KeyValue::default() };
    let event = etcd::Event { kv, ..etcd::Event::default() };
    let put = etcd::PutRequest { key: key.clone(), lease: 7, ..etcd::PutRequest::default() };
    let inner = etcd::TxnRequest {
        compare: vec![compare],
        success: vec![etcd::RequestOp::Put(put), etcd::RequestOp::Range(range.clone())],
        failure: Vec::new(),
    };
    let txn = etcd::TxnRequest { failure: vec![etcd::RequestOp::Txn(inner)], ..Default::default() };
    let filters = etcd::Filters { no_put: true, no_delete: false };
    let create = etcd::WatchCreateRequest { key, filters, ..Default::default() };
    let watch = etcd::WatchRequest::Create(create);
    let told = etcd::WatchResponse { events: vec![event], fragment: true, ..Default::default() };
    vec![range.encode(), txn.encode(), watch.encode(), told.encode()]
}

/// Requests of a container runtime's clients and what it answers, as structs and, by the text that says their fields, as
/// JSON.
pub(super) fn runtime(bytes: &[u8]) {
    message::<cri::RunPodSandboxRequest>(bytes);
    message::<cri::CreateContainerRequest>(bytes);
    message::<cri::ListContainersRequest>(bytes);
    message::<cri::UpdateContainerResourcesRequest>(bytes);
    message::<cri::ExecSyncRequest>(bytes);
    message::<cri::PullImageRequest>(bytes);
    message::<cri::PodSandboxStatusResponse>(bytes);
    message::<cri::ListContainerStatsResponse>(bytes);
    message::<cri::ContainerEventResponse>(bytes);
    for name in ["RunPodSandboxRequest", "CreateContainerRequest", "PodSandboxStatusResponse"] {
        let Ok(tree) = cri::schema::to_json(name, bytes) else { continue };
        let written = cri::schema::from_json(name, &tree).expect("what was read is written");
        assert_eq!(cri::schema::to_json(name, &written).as_ref(), Ok(&tree), "of {name}");
    }
    if let Ok(tree) = ::wire::json::parse(bytes) {
        let _ = cri::schema::from_json("CreateContainerRequest", &tree.tree);
    }
}

pub(super) fn runtime_seeds() -> Vec<Vec<u8>> {
    let written = |name: &str, text: &str| {
        let tree = ::wire::json::parse(text.as_bytes()).expect("a seed is JSON").tree;
        cri::schema::from_json(name, &tree).expect("a seed is a message")
    };
    let sandbox = r#"{"config":{"metadata":{"name":"p","uid":"u","namespace":"n","attempt":1},"hostname":"h","dnsConfig":{"servers":["10.0.0.1"]},"portMappings":[{"protocol":"UDP","containerPort":53,"hostPort":-1}],"labels":{"a":"b"},"linux":{"securityContext":{"namespaceOptions":{"network":"NODE","usernsOptions":{"uids":[{"hostId":1,"length":2}]}},"supplementalGroups":[1,2]},"sysctls":{"a":"1"}}},"runtimeHandler":"runc"}"#;
    let container = r#"{"podSandboxId":"s","config":{"metadata":{"name":"c"},"image":{"image":"i:1"},"command":["sh"],"envs":[{"key":"A","value":"b"}],"mounts":[{"containerPath":"/a","hostPath":"/b","propagation":"PROPAGATION_BIDIRECTIONAL"}],"devices":[{"hostPath":"/dev/null","permissions":"rw"}],"linux":{"resources":{"cpuQuota":"-1","hugepageLimits":[{"pageSize":"2MB","limit":"4"}],"unified":{"memory.high":"1"}},"securityContext":{"capabilities":{"addCapabilities":["ALL"]},"runAsUser":{"value":"7"},"seccomp":{"profileType":"Localhost","localhostRef":"/p"}}}}}"#;
    let status = r#"{"status":{"id":"s","state":"SANDBOX_NOTREADY","createdAt":"-5","network":{"ip":"10.0.0.2","additionalIps":[{"ip":"fd00::2"}]}},"info":{"info":"{}"}}"#;
    vec![
        written("RunPodSandboxRequest", sandbox),
        written("CreateContainerRequest", container),
        written("PodSandboxStatusResponse", status),
        container.as_bytes().to_vec(),
    ]
}

/// What databases say: PostgreSQL's messages, and MySQL's packets in each place where they may come.
pub(super) fn databases(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some((_, n))) = postgres::next(rest) {
        assert!(n > 0 && n <= rest.len(), "no more is used than there was");
        rest = &rest[n..];
    }
    let mut rest = bytes;
    while let Ok(Some((_, payload, n))) = mysql::next(rest) {
        assert!(payload.len() < n && n <= rest.len(), "no more is used than there was");
        if let Ok(Ok(greeting)) = mysql::greeting(payload) {
            assert!(greeting.salt.len() <= payload.len(), "the salt was there");
        }
        let _ = mysql::login(payload);
        let _ = mysql::reply(payload);
        let n_columns = payload.len() % 8;
        if let Ok(mysql::Next::Row(row)) = mysql::next_row(payload, n_columns) {
            assert_eq!(row.len(), n_columns, "every column has its place");
        }
        rest = &rest[n..];
    }
    let mut quoted = Vec::new();
    mysql::put_quoted(&mut quoted, bytes);
    let inner = &quoted[1..quoted.len() - 1];
    let mut escaped = false;
    for byte in inner {
        assert!(escaped || !b"'\"\0".contains(byte), "the text ends in the middle");
        escaped = !escaped && *byte == b'\\';
    }
    assert!(!escaped, "the end is escaped");
}

pub(super) fn databases_seeds() -> Vec<Vec<u8>> {
    [
        &b"R\0\0\0\x0c\0\0\0\x05saltR\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0Z\0\0\0\x05I"[..],
        b"D\0\0\0\x14\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0C\0\0\0\x0fINSERT 0 1\0",
        b"A\0\0\0\x10\0\0\0\x01k3rs\x0017\0E\0\0\0\x23SERROR\0C23505\0Mdup\0nkine_pkey\0\0",
        b"\x4a\0\0\0\x0a8.0.36\0\x05\0\0\0saltsalt\0\xff\xf7\x2d\x02\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0moresaltsalt\0caching_sha2_password\0",
        b"\x08\0\0\x01\0\x03\0\x0a\0\0\0\0\x01\0\0\x02\x02\x03\0\0\x03\x01a\xfb\x05\0\0\x04\xfe\0\0\x02\0\x0c\0\0\x05\xff\x26\x04#23000dup",
        b"it's \\ \"\0\"",
    ]
    .map(<[u8]>::to_vec)
    .to_vec()
}
