//! The API server itself, asked in memory: requests to its service, and bytes on a connection to it.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ::api::{Kinds, Lens, LensMut, Value, json};
use http::io::Io;
use http::server::{Limits, Service};
use http::{Method, Peer, Request};
use rt::io::{AsyncRead, AsyncWrite};
use server::{Audit, AuditOptions, Config, Plugs, Server, StaticToken, User};

use super::api::objects;
use super::texts;

/// Between the requests of one input.
const SEPARATOR: u8 = 0x1e;
/// Requests of one input.
const REQUESTS_MAX: usize = 4;
/// Inputs that one server gets: what they leave must not be what the next is slow of.
const INPUTS_MAX: usize = 400;
/// What is read of an answer.
const ANSWER_MAX_BYTES: usize = 4 << 20;
/// Answers that come later are those of watches, or of somebody who does not answer.
const ANSWER_MAX: Duration = Duration::from_millis(300);

pub(super) const WORDS: &[&[u8]] = &[
    b"?dryRun=All",
    b"&fieldManager=f",
    b"&force=true",
    b"?watch=true",
    b"&limit=1",
    b"&continue=",
    b"&resourceVersion=0",
    b"&resourceVersionMatch=Exact",
    b"&labelSelector=a%3Db",
    b"&fieldSelector=metadata.name%3Dfuzz",
    b"&sendInitialEvents=true",
    b"/status",
    b"/scale",
    b"as=Table;v=v1;g=meta.k8s.io",
    b"application/merge-patch+json",
    b"application/strategic-merge-patch+json",
    b"application/json-patch+json",
    b"application/apply-patch+yaml",
    b"\"metadata\":{",
    b"\"x-kubernetes-validations\":[{\"rule\":\"",
    b"\"finalizers\":[\"a/b\"]",
    b"\"generateName\":\"g-\"",
];

struct Asked {
    /// It lives as long as its face is asked.
    _server: Server,
    face: Arc<dyn Service>,
    n_inputs: usize,
}

thread_local! {
    static ASKED: RefCell<Option<Asked>> = const { RefCell::new(None) };
}

/// The service of a server with an empty store; a new one from time to time.
fn face() -> Arc<dyn Service> {
    ASKED.with_borrow_mut(|asked| {
        if asked.as_ref().is_none_or(|asked| asked.n_inputs >= INPUTS_MAX) {
            // The one before goes first, with its log.
            *asked = None;
            let server = rt::block_on(started());
            let face = server.service(None);
            *asked = Some(Asked { _server: server, face, n_inputs: 0 });
        }
        let asked = asked.as_mut().expect("a server was just started");
        asked.n_inputs += 1;
        Arc::clone(&asked.face)
    })
}

async fn started() -> Server {
    let disk = store::Disk::default();
    let store = store::Store::open_memory(&disk, store::Limits::default()).await;
    let config = Config {
        static_tokens: vec![StaticToken { token: "admin".into(), user: User::admin() }],
        ..Config::default()
    };
    let audit = Audit::open(&audit_options()).expect("an audit log");
    let plugs = Plugs { audit, ..Plugs::default() };
    let server = Server::start_with(config, store.expect("a store in memory"), plugs).await;
    server.expect("a server over it")
}

/// Of the audit log.
const LOG_MAX_BYTES: u64 = 4 << 20;

/// Everything is told, with all objects, to a small log.
fn audit_options() -> AuditOptions {
    const POLICY: &str = "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: None, users: ['system:apiserver']}, {level: RequestResponse}]}";
    let thread = std::thread::current().id();
    let dir = std::env::temp_dir().join(format!("k3rs-fuzz-{}-{thread:?}", std::process::id()));
    rt::fs::create_dir_all(&dir, 0o700).expect("a directory for the audit log");
    let policy = dir.join("policy.yaml");
    rt::fs::write(&policy, POLICY.as_bytes(), 0o600).expect("a policy");
    AuditOptions {
        policy_file: Some(policy),
        path: Some(dir.join("audit.log")),
        max_size: 4, // LOG_MAX_BYTES
        max_backups: 1,
        ..AuditOptions::default()
    }
}

impl Drop for Asked {
    /// Whatever was asked, each line of the log is an event.
    fn drop(&mut self) {
        let path = audit_options().path.expect("it has one");
        let text = rt::fs::read_beginning(&path, LOG_MAX_BYTES).unwrap_or_default();
        for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let event = wire::json::parse(line).expect("a line of the audit log is JSON").tree;
            assert_eq!(event.str("kind"), "Event");
        }
        let _ = rt::fs::remove_dir_all(path.parent().expect("it is in a directory"));
    }
}

/// Requests, one behind the other: a line `VERB TARGET CONTENT-TYPE ACCEPT`, then the body.
pub(super) fn request(bytes: &[u8]) {
    let face = face();
    for part in bytes.split(|&byte| byte == SEPARATOR).take(REQUESTS_MAX) {
        let end = part.iter().position(|&byte| byte == b'\n').unwrap_or(part.len());
        let Ok(line) = std::str::from_utf8(&part[..end]) else { continue };
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let (verb, target) = (word(), word());
        // What HTTP itself refuses does not come this far.
        if !target.starts_with('/') || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            continue;
        }
        let request = Request::new(Method::from(verb), target)
            .header("authorization", "Bearer admin")
            .header("content-type", word())
            .header("accept", word())
            .body(part[(end + 1).min(part.len())..].to_vec());
        rt::block_on(answered(&*face, request));
    }
}

async fn answered(face: &dyn Service, request: Request) {
    let what = format!("{} {}", request.method, request.target);
    let answer = async {
        let mut response = face.call(request).await;
        let body = response.body.read_all(ANSWER_MAX_BYTES).await.unwrap_or_default();
        (response.status, body)
    };
    let Ok((status, body)) = rt::timeout(ANSWER_MAX, answer).await else { return };
    let text = String::from_utf8_lossy(&body);
    // Of 5xx, those that name what is not there are answers; a caught panic and a lost path are none.
    assert!(status != 500 || !text.contains("panic"), "{what}: {status} {text}");
    if status >= 400 && body.starts_with(b"{") {
        assert!(wire::json::is_valid(&body), "{what}: {text}");
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let (json_type, kinds) = ("application/json", Kinds::built_in());
    let mut seeds = texts(&[
        "GET /api/v1/namespaces/default/pods?limit=1&labelSelector=a%3Db  application/json;as=Table;v=v1;g=meta.k8s.io",
        "GET /apis  application/json;v=v2;g=apidiscovery.k8s.io;as=APIGroupDiscoveryList",
        "GET /openapi/v3/apis/apps/v1  application/json",
        "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews application/json application/json\n{\"spec\":{\"resourceAttributes\":{\"verb\":\"get\",\"resource\":\"pods\"}}}",
    ]);
    for tree in objects() {
        let Some(resource) = kinds.resources().iter().find(|resource| {
            let form = resource.form();
            form.api_version() == tree.str("apiVersion") && form.kind.name == tree.str("kind")
        }) else {
            continue;
        };
        let form = resource.form();
        let prefix = if form.group().is_empty() {
            "/api".to_owned()
        } else {
            format!("/apis/{}", form.group())
        };
        let scope = if form.kind.namespaced() { "/namespaces/default" } else { "" };
        let all = format!("{prefix}/{}{scope}/{}", form.version(), form.kind.plural);
        let mut object = tree.clone();
        if object.str("metadata.name").is_empty() {
            object.set("metadata.name", "fuzz");
        }
        let one = format!("{all}/{}", object.str("metadata.name"));
        let create = format!("POST {all}?fieldManager=f {json_type} {json_type}\n{object}");
        let patch = |kind: &str, body: &Value| {
            format!("PATCH {one}?fieldManager=g&force=true application/{kind} {json_type}\n{body}")
        };
        for then in [
            patch("apply-patch+yaml", &object),
            patch("merge-patch+json", &json!({"metadata": {"labels": {"a": "b"}}})),
            format!("PUT {one} {json_type} {json_type}\n{object}"),
            format!("DELETE {one} {json_type} {json_type}\n{{\"propagationPolicy\":\"Orphan\"}}"),
        ] {
            seeds.push(joined(&[&create, &then]));
        }
    }
    seeds.push(custom());
    seeds
}

fn joined(requests: &[&str]) -> Vec<u8> {
    requests.join("\u{1e}").into_bytes()
}

/// A definition with rules, and objects of it.
fn custom() -> Vec<u8> {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "x-kubernetes-validations": [{"rule": "self.a >= oldSelf.a", "message": "only up"}], "properties": {
            "a": {"type": "integer", "default": 1}, "b": {"type": "string", "pattern": "^[a-z]+$"},
            "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}}}}},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "fuzzes.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "fuzzes", "kind": "Fuzz"}, "versions": [{
            "name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}},
            "additionalPrinterColumns": [{"name": "A", "type": "integer", "jsonPath": ".spec.a"}], "selectableFields": [{"jsonPath": ".spec.b"}]}]}});
    let object = json!({"apiVersion": "example.com/v1", "kind": "Fuzz", "metadata": {"name": "f"}, "spec": {"a": 2, "b": "x", "l": [{"k": "1"}]}});
    let all = "/apis/example.com/v1/namespaces/default/fuzzes";
    joined(&[
        &format!(
            "POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions application/json application/json\n{definition}"
        ),
        &format!("POST {all} application/json application/json\n{object}"),
        &format!(
            "PATCH {all}/f application/merge-patch+json application/json\n{{\"spec\":{{\"a\":1}}}}"
        ),
        &format!(
            "GET {all}?fieldSelector=spec.b%3Dx  application/json;as=Table;v=v1;g=meta.k8s.io"
        ),
    ])
}

/// What a client sends, and then the end of its side; what it is sent is dropped.
struct Given {
    bytes: Vec<u8>,
    at: usize,
    n_sent: Arc<AtomicUsize>,
}

impl AsyncRead for Given {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<std::io::Result<usize>> {
        let n = buffer.len().min(self.bytes.len() - self.at);
        buffer[..n].copy_from_slice(&self.bytes[self.at..self.at + n]);
        self.at += n;
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for Given {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.n_sent.fetch_add(bytes.len(), Ordering::Relaxed);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Bytes of a connection: HTTP/1.1, HTTP/2, upgrades, with the API server behind.
pub(super) fn connection(bytes: &[u8]) {
    let server = http::server::Server::new(face(), Limits::default());
    let given = Given { bytes: bytes.to_vec(), at: 0, n_sent: Arc::default() };
    let served = async { server.serve_stream(Box::new(given) as Io, Peer::default()).await };
    // A stream that nobody ends, as a watch, ends when the connection does.
    let _ = rt::block_on(rt::timeout(ANSWER_MAX, served));
}

pub(super) fn connection_seeds() -> Vec<Vec<u8>> {
    let mut seeds = texts(&[
        "GET /version HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1f\r\n{\"metadata\":{\"name\":\"a\"},\"x\":1}\r\n0\r\n\r\n",
        "GET /api/v1/namespaces/default/pods?watch=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        "POST /api/v1/namespaces/default/pods/p/exec?command=ls&stdout=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n",
    ]);
    let mut fields = http::Headers::new();
    for (name, value) in [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/api/v1/pods"),
        (":authority", "x"),
        ("authorization", "Bearer admin"),
    ] {
        fields.append(name, value);
    }
    let (mut block, mut bytes) = (Vec::new(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec());
    wire::hpack::Encoder::new().encode(&fields, &mut block);
    wire::http2::emit_settings(&mut bytes, &[(4, 65535)]);
    wire::http2::emit_headers(&mut bytes, 1, &block, true);
    wire::http2::emit_window_update(&mut bytes, 1, 10);
    wire::http2::emit_reset(&mut bytes, 3, wire::http2::Code::CANCEL);
    seeds.push(bytes);
    seeds
}
