//! gRPC over HTTP/2: length-prefixed messages, status trailers, unary and streaming calls, both ends.
//!
//! Messages are bytes here; whoever calls knows their protobuf. Compressed messages are refused, and
//! never asked for.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use stdx::{Error, Result};
use wire::headers::Headers;

use crate::body::{Body, Chunk, Sender};
use crate::client::{Client, Endpoint};
use crate::message::{Method, Request, Response};

/// Message bytes that wait to be sent.
const OUTGOING_MAX_BYTES: usize = 32 * 1024;
/// The prefix of a message: a flag and four bytes of length.
const PREFIX_BYTES: usize = 5;

/// How a call ended, if not well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub code: Code,
    pub message: String,
}

/// Status codes; unknown ones keep their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    pub const OK: Code = Code(0);
    pub const CANCELLED: Code = Code(1);
    pub const UNKNOWN: Code = Code(2);
    pub const INVALID_ARGUMENT: Code = Code(3);
    pub const DEADLINE_EXCEEDED: Code = Code(4);
    pub const NOT_FOUND: Code = Code(5);
    pub const ALREADY_EXISTS: Code = Code(6);
    pub const PERMISSION_DENIED: Code = Code(7);
    pub const RESOURCE_EXHAUSTED: Code = Code(8);
    pub const FAILED_PRECONDITION: Code = Code(9);
    pub const ABORTED: Code = Code(10);
    pub const OUT_OF_RANGE: Code = Code(11);
    pub const UNIMPLEMENTED: Code = Code(12);
    pub const INTERNAL: Code = Code(13);
    pub const UNAVAILABLE: Code = Code(14);
    pub const DATA_LOSS: Code = Code(15);
    pub const UNAUTHENTICATED: Code = Code(16);
}

impl Code {
    /// As Go names it.
    pub fn name(self) -> &'static str {
        const NAMES: &str = "OK Canceled Unknown InvalidArgument DeadlineExceeded NotFound AlreadyExists PermissionDenied ResourceExhausted FailedPrecondition Aborted OutOfRange Unimplemented Internal Unavailable DataLoss Unauthenticated";
        let at = usize::try_from(self.0).unwrap_or(usize::MAX);
        NAMES.split(' ').nth(at).unwrap_or("Unknown")
    }
}

impl Status {
    pub fn new(code: Code, message: impl Into<String>) -> Status {
        Status { code, message: message.into() }
    }

    /// The status that trailers (or the head of an answer without body) tell; `Ok` for success.
    fn from_headers(headers: &Headers) -> Option<Result<(), Status>> {
        let code = headers.get("grpc-status")?.parse().ok()?;
        Some(match code {
            0 => Ok(()),
            code => {
                let message = headers.get("grpc-message").unwrap_or("");
                let message = wire::percent::unescape(message, false);
                Err(Status { code: Code(code), message })
            }
        })
    }

    fn headers(&self) -> Headers {
        let mut headers = Headers::new().with("grpc-status", self.code.0.to_string());
        if !self.message.is_empty() {
            headers.append("grpc-message", percent_encode(&self.message));
        }
        headers
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gRPC status {}: {}", self.code.0, self.message)
    }
}
impl std::error::Error for Status {}

impl From<Error> for Status {
    /// A broken connection or stream.
    fn from(error: Error) -> Status {
        Status::new(Code::UNAVAILABLE, error.to_string())
    }
}

/// Calls a method with one message and gets one back, of at most `max_bytes`.
///
/// `path` is `/package.Service/Method`. Set `grpc-timeout` in `headers` and wrap the call in
/// `rt::timeout` for a deadline.
pub async fn unary(
    client: &Client,
    endpoint: &Endpoint,
    path: &str,
    headers: &Headers,
    message: &[u8],
    max_bytes: usize,
) -> Result<Vec<u8>, Status> {
    let request = request(path, headers).body(frame(message));
    let mut incoming = Incoming::new(send(client.clone(), endpoint.clone(), request), max_bytes);
    let Some(answer) = incoming.next().await? else {
        return Err(Status::new(Code::INTERNAL, "the server answered without a message"));
    };
    match incoming.next().await? {
        None => Ok(answer),
        Some(_) => Err(Status::new(Code::INTERNAL, "the server answered with several messages")),
    }
}

/// Calls a method with streams of messages, either of which may hold just one.
///
/// Dropping `Outgoing` half-closes; dropping `Incoming` cancels the call.
pub fn streaming(
    client: &Client,
    endpoint: &Endpoint,
    path: &str,
    headers: &Headers,
    max_bytes: usize,
) -> (Outgoing, Incoming) {
    let (sender, body) = Body::channel(OUTGOING_MAX_BYTES);
    let request = request(path, headers).body_stream(body);
    let response = send(client.clone(), endpoint.clone(), request);
    (Outgoing { sender }, Incoming::new(response, max_bytes))
}

fn request(path: &str, headers: &Headers) -> Request {
    let mut request = Request::new(Method::Post, path);
    request.headers = headers.clone();
    request.headers.set("te", "trailers");
    request.headers.set("content-type", "application/grpc");
    request.headers.set("user-agent", "k3rs");
    request
}

/// Started at once, so that messages may flow before the server's first answer.
fn send(client: Client, endpoint: Endpoint, request: Request) -> rt::Task<Result<Response>> {
    rt::spawn(async move { client.send(&endpoint, request).await })
}

fn frame(message: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(PREFIX_BYTES + message.len());
    framed.extend_from_slice(&prefix(message.len()));
    framed.extend_from_slice(message);
    framed
}

fn prefix(length: usize) -> Vec<u8> {
    let mut prefix = vec![0];
    // A message of 4 GiB does not fit into our bounds anywhere.
    prefix.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    prefix
}

/// Messages to send. Dropped, it ends them well (a server's with status OK).
#[derive(Debug)]
pub struct Outgoing {
    sender: Sender,
}

impl Outgoing {
    /// Sends one message, waiting while the peer is slow. Fails when the call is over.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), Status> {
        let sent = self.sender.send(frame(message)).await;
        sent.map_err(|_| Status::new(Code::CANCELLED, "the call is over"))
    }

    /// Waits until the peer has taken what was sent, but for the last few kilobytes.
    pub async fn ready(&mut self) -> Result<(), Status> {
        self.sender.ready().await.map_err(|_| Status::new(Code::CANCELLED, "the call is over"))
    }

    /// Resolves when the call is over.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Server: ends the call with this status.
    pub fn finish(self, status: Result<(), Status>) {
        let trailers = match status {
            Ok(()) => Headers::new().with("grpc-status", "0"),
            Err(status) => status.headers(),
        };
        self.sender.finish(trailers);
    }
}

/// Messages received, one at a time.
pub struct Incoming {
    state: State,
    buffer: Vec<u8>,
    max_bytes: usize,
}

enum State {
    /// Client: the head of the answer is not here yet.
    Waiting(Pin<Box<dyn Future<Output = Result<Response>> + Send>>),
    /// Whether a status is to come at the end.
    Reading(Body, bool),
    Done,
}

impl Incoming {
    fn new(
        response: impl Future<Output = Result<Response>> + Send + 'static,
        max_bytes: usize,
    ) -> Incoming {
        Incoming { state: State::Waiting(Box::pin(response)), buffer: Vec::new(), max_bytes }
    }

    /// Server: the messages of a request, of at most `max_bytes` each.
    pub fn of_request(request: &mut Request, max_bytes: usize) -> Incoming {
        let body = std::mem::take(&mut request.body);
        Incoming { state: State::Reading(body, false), buffer: Vec::new(), max_bytes }
    }

    /// The next message; `None` when they ended well. Not to be called again after the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Status> {
        let result = self.advance().await;
        if !matches!(result, Ok(Some(_))) {
            self.state = State::Done;
            self.buffer = Vec::new();
        }
        result
    }

    /// Server: how many bytes the next message has, as soon as it begins. Not to be called after the end.
    pub async fn length(&mut self) -> Result<usize, Status> {
        let State::Reading(body, _) = &mut self.state else { return Ok(0) };
        loop {
            if let Some(length) = length_of(&self.buffer, self.max_bytes)? {
                return Ok(length);
            }
            match body.next().await {
                Some(chunk) => self.buffer.extend_from_slice(&chunk?),
                None => return Ok(0),
            }
        }
    }

    async fn advance(&mut self) -> Result<Option<Vec<u8>>, Status> {
        if let State::Waiting(response) = &mut self.state {
            let response = response.as_mut().await?;
            if let Some(status) = Status::from_headers(&response.headers) {
                status?;
            }
            if response.status != 200 {
                return Err(status_of_http(response.status));
            }
            self.state = State::Reading(response.body, true);
        }
        let State::Reading(body, has_status) = &mut self.state else { return Ok(None) };
        loop {
            if let Some(message) = take_message(&mut self.buffer, self.max_bytes)? {
                return Ok(Some(message));
            }
            match body.next().await {
                Some(chunk) => self.buffer.extend_from_slice(&chunk?),
                None if !self.buffer.is_empty() => {
                    return Err(Status::new(Code::INTERNAL, "a message was broken off"));
                }
                None if !*has_status => return Ok(None),
                None => {
                    let trailers = body.trailers().unwrap_or_default();
                    let missing = || Err(Status::new(Code::INTERNAL, "the server gave no status"));
                    return Status::from_headers(&trailers).unwrap_or_else(missing).map(|()| None);
                }
            }
        }
    }

    /// Server: the one message of a unary request.
    pub async fn single(mut self) -> Result<Vec<u8>, Status> {
        let message = self.next().await?;
        message.ok_or_else(|| Status::new(Code::INVALID_ARGUMENT, "the request has no message"))
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("grpc::Incoming")
    }
}

/// The length of the message that a buffer begins with; `None` if that has not come.
fn length_of(buffer: &[u8], max_bytes: usize) -> Result<Option<usize>, Status> {
    let Some(&[flag, a, b, c, d]) = buffer.first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if flag != 0 {
        return Err(Status::new(Code::UNIMPLEMENTED, "compressed messages are not supported"));
    }
    if length > max_bytes {
        let what = format!("message of {length} bytes is larger than {max_bytes}");
        return Err(Status::new(Code::RESOURCE_EXHAUSTED, what));
    }
    Ok(Some(length))
}

fn take_message(buffer: &mut Vec<u8>, max_bytes: usize) -> Result<Option<Vec<u8>>, Status> {
    let Some(length) = length_of(buffer, max_bytes)? else { return Ok(None) };
    let Some(message) = buffer.get(PREFIX_BYTES..PREFIX_BYTES + length) else { return Ok(None) };
    let message = message.to_vec();
    buffer.drain(..PREFIX_BYTES + length);
    if buffer.is_empty() {
        *buffer = Vec::new();
    }
    Ok(Some(message))
}

fn status_of_http(status: u16) -> Status {
    let code = match status {
        400 => Code::INTERNAL,
        401 => Code::UNAUTHENTICATED,
        403 => Code::PERMISSION_DENIED,
        404 => Code::UNIMPLEMENTED,
        429 | 502 | 503 | 504 => Code::UNAVAILABLE,
        _ => Code::UNKNOWN,
    };
    Status::new(code, format!("the server answered with HTTP status {status}"))
}

/// Server: the response of a unary method.
pub fn respond(result: Result<Vec<u8>, Status>) -> Response {
    match result {
        Ok(message) => {
            let (mut sender, body) = Body::channel(OUTGOING_MAX_BYTES);
            // The first chunk always finds room; a large message is not copied to go behind its prefix.
            if message.len() < OUTGOING_MAX_BYTES / 2 {
                let _ = sender.try_send(Chunk::from(frame(&message)));
            } else {
                let _ = sender.try_send(Chunk::from(prefix(message.len())));
                let _ = sender.try_send(Chunk::from(message));
            }
            sender.finish(Headers::new().with("grpc-status", "0"));
            head().body_stream(body)
        }
        Err(status) => {
            let mut response = head();
            for (name, value) in status.headers().iter() {
                response.headers.append(name, value);
            }
            response
        }
    }
}

/// Server: the response of a streaming method, and where its messages go. End it with `finish`.
pub fn respond_streaming() -> (Outgoing, Response) {
    let (sender, body) = Body::channel(OUTGOING_MAX_BYTES);
    (Outgoing { sender }, head().body_stream(body))
}

fn head() -> Response {
    Response::new(200).header("content-type", "application/grpc")
}

fn percent_encode(text: &str) -> String {
    wire::percent::escape(text, |byte| matches!(byte, b' '..=b'~') && byte != b'%')
}

#[cfg(test)]
mod tests {
    use super::*;
    use rt::BoxFuture;
    use std::sync::Arc;

    fn service(mut request: Request) -> BoxFuture<'static, Response> {
        Box::pin(async move {
            let mut incoming = Incoming::of_request(&mut request, 1000);
            match request.path() {
                "/t.T/Reverse" => respond(incoming.single().await.map(|mut message| {
                    message.reverse();
                    message
                })),
                "/t.T/Echo" => {
                    let (mut outgoing, response) = respond_streaming();
                    rt::spawn(async move {
                        while let Ok(Some(message)) = incoming.next().await {
                            if outgoing.send(&message).await.is_err() {
                                return;
                            }
                        }
                        outgoing.finish(Err(Status::new(Code::ABORTED, "thät's 100% all")));
                    })
                    .detach();
                    response
                }
                _ => respond(Err(Status::new(Code::UNIMPLEMENTED, "no such method"))),
            }
        })
    }

    #[test]
    fn unary_and_streaming_calls_over_a_unix_socket() {
        rt::block_on(async {
            let dir = std::env::temp_dir().join(format!("http-grpc-{}", std::process::id()));
            let _ = std::fs::remove_file(&dir);
            let listener = rt::net::UnixListener::bind(&dir).unwrap();
            let limits = crate::server::Limits::default();
            let serving =
                rt::spawn(crate::server::serve(listener, None, Arc::new(service), limits));
            let client = Client::new(crate::client::Options::default());
            let endpoint = Endpoint::unix(&dir).protocol(crate::client::Protocol::Http2);
            let none = Headers::new();
            let answer = unary(&client, &endpoint, "/t.T/Reverse", &none, b"abc", 100).await;
            assert_eq!(answer.unwrap(), b"cba");
            let answer = unary(&client, &endpoint, "/t.T/Reverse", &none, &[1; 2000], 100).await;
            assert_eq!(answer.unwrap_err().code, Code::RESOURCE_EXHAUSTED);
            let answer = unary(&client, &endpoint, "/t.T/Nope", &none, b"", 100).await;
            assert_eq!(answer.unwrap_err(), Status::new(Code::UNIMPLEMENTED, "no such method"));

            let (mut outgoing, mut incoming) =
                streaming(&client, &endpoint, "/t.T/Echo", &none, 100);
            for n in 0..50u8 {
                outgoing.send(&[n; 30]).await.unwrap();
                assert_eq!(incoming.next().await.unwrap().unwrap(), [n; 30]);
            }
            drop(outgoing);
            let end = incoming.next().await.unwrap_err();
            assert_eq!(end, Status::new(Code::ABORTED, "thät's 100% all"));
            drop(serving);
            std::fs::remove_file(&dir).unwrap();
        });
    }
}
