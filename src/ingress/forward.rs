//! Passing a request on to an endpoint, and what comes back to the client.

use std::task::{Context as Task, Poll};
use std::time::Duration;

use http::body::Source;
use http::client::Upgraded;
use http::{Body, Chunk, Headers, Request, Response};
use stdx::{Error, Result};

use crate::figures::Tally;
use crate::flags::EntryPoint;
use crate::forwarded::{self, Origin};
use crate::upstream::{Server, Upstream};

/// What an endpoint is told beside what its client said.
#[derive(Clone, Copy)]
pub(crate) struct Passed<'a> {
    pub(crate) entry: &'a EntryPoint,
    pub(crate) hostname: &'a str,
    /// Fields in place of the client's; an empty one is taken away.
    pub(crate) fields: &'a [(String, String)],
    /// How often it is tried, if nobody answers, and how long is waited before the second time.
    pub(crate) attempts: u32,
    pub(crate) interval_ms: u64,
}

/// Endpoints that are tried, if one after the other does not take the connection.
const ATTEMPTS_MAX: usize = 3;

/// Between two of them, where somebody asked for waits.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(60);

/// An answer of our own.
pub(crate) fn plain(code: u16, text: &str) -> Response {
    Response::text(code, text).header("x-content-type-options", "nosniff")
}

/// Sends a request to an endpoint of the service.
pub(crate) async fn forward(
    upstream: &Upstream,
    mut request: Request,
    passed: &Passed<'_>,
    told: &mut (dyn FnMut(&Server) + Send),
) -> Response {
    let Some((mut server, cookie)) = upstream.choose(&request.headers) else {
        return plain(503, "no available server\n");
    };
    let upgrade = request.upgrade.take().filter(|_| may_upgrade(&request.headers));
    let protocol = match &upgrade {
        Some(_) => request.headers.get("upgrade").unwrap_or("").to_owned(),
        None => String::new(),
    };
    prepare(upstream, &mut request, passed, &protocol);
    let mut response = if let Some(near) = upgrade {
        told(server);
        match upstream.client().upgrade(&server.endpoint, request).await {
            Ok(Upgraded::Stream(head, far)) => accepted(near, &protocol, &head.headers, far),
            Ok(Upgraded::Refused(response)) => response,
            Err(error) => failed(server, &error),
        }
    } else {
        let mut attempts = 1;
        let mut wait = Duration::from_millis(passed.interval_ms);
        loop {
            told(server);
            // What has a body that streams by cannot be sent again.
            let may_again = upstream.n_ready() > 1 || passed.attempts > 1;
            let again = if may_again { request.try_clone() } else { None };
            match upstream.client().send(&server.endpoint, request).await {
                Ok(response) => break response,
                Err(error) => match again {
                    // Nobody took the connection, so nobody saw the request.
                    Some(again)
                        if is_refused(&error)
                            && attempts < ATTEMPTS_MAX.min(upstream.n_ready()) =>
                    {
                        attempts += 1;
                        request = again;
                        server = upstream.next().unwrap_or(server);
                    }
                    Some(again) if attempts < passed.attempts as usize => {
                        attempts += 1;
                        rt::sleep(wait).await;
                        wait = (wait * 2).min(RETRY_WAIT_MAX);
                        request = again;
                        server = upstream.next().unwrap_or(server);
                    }
                    _ => break failed(server, &error),
                },
            }
        }
    };
    if response.status != 101 {
        response.headers = forwarded::response(response.headers);
    }
    if let Some(cookie) = cookie {
        response.headers.append("set-cookie", cookie);
    }
    response
}

/// Makes of a client's request what the service gets.
pub(crate) fn prepare(
    upstream: &Upstream,
    request: &mut Request,
    passed: &Passed<'_>,
    protocol: &str,
) {
    let origin = Origin {
        entry: passed.entry,
        peer: &request.peer,
        authority: &request.authority,
        upgrade: protocol,
        hostname: passed.hostname,
    };
    request.headers = forwarded::request(&request.headers, &origin);
    if !upstream.service.pass_host {
        request.authority = String::new();
    }
    for (name, value) in passed.fields {
        match (name.as_str(), value.is_empty()) {
            (name, _) if is_framing(name) => {}
            ("host", false) => request.authority.clone_from(value),
            (name, true) => request.headers.remove(name),
            (name, false) => request.headers.set(name, value),
        }
    }
}

/// What frames a message is for the connection to say.
pub(crate) fn is_framing(name: &str) -> bool {
    matches!(name, "connection" | "transfer-encoding" | "content-length" | "upgrade" | "te")
}

/// Whether a connection may change to what is asked for. HTTP/2 it may not: what comes in it would be nobody's
/// to route.
fn may_upgrade(headers: &Headers) -> bool {
    let protocols = headers.get_all("upgrade").flat_map(|value| value.split(','));
    let mut names = protocols.map(|name| name.trim().split('/').next().unwrap_or(""));
    !names.any(|name| ["h2c", "h2", "http", ""].iter().any(|no| name.eq_ignore_ascii_case(no)))
}

/// The endpoint agreed: both streams are joined once the client has its answer.
fn accepted(
    near: http::upgrade::Upgrade,
    protocol: &str,
    head: &Headers,
    far: http::io::Io,
) -> Response {
    let (mut response, upgrading) = near.accept(protocol);
    let mut back = head.clone();
    back.remove("content-length");
    for (name, value) in forwarded::response(back).iter() {
        response.headers.append(name, value);
    }
    rt::spawn_named("proxied upgrade", async move {
        if let Ok(near) = upgrading.await {
            // Either side may go at any time.
            let _ = http::io::splice(near, far).await;
        }
    })
    .detach();
    response
}

/// What a client is told when no endpoint answered.
fn failed(server: &Server, error: &Error) -> Response {
    log::debug!("{}: {error}", server.url);
    match causes(error).any(|cause| cause.is::<rt::Elapsed>()) {
        true => plain(504, "Gateway Timeout"),
        false => plain(502, "Bad Gateway"),
    }
}

fn is_refused(error: &Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    let kinds = causes(error).filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    kinds
        .map(std::io::Error::kind)
        .any(|kind| matches!(kind, ConnectionRefused | HostUnreachable | NetworkUnreachable))
}

fn causes(error: &Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| error.source())
}

/// Has the tally counted when the last of the answer is gone.
pub(crate) fn counted(mut response: Response, mut tally: Tally) -> Response {
    match response.body.length() {
        Some(length) => {
            tally.response_bytes = length;
            response.body = std::mem::take(&mut response.body).holding(tally);
        }
        None => {
            let body = std::mem::take(&mut response.body);
            response.body = Body::from_source(Counted { body, tally }, None);
        }
    }
    response
}

/// A body of a length that nobody said.
struct Counted {
    body: Body,
    tally: Tally,
}

impl Source for Counted {
    fn poll_chunk(&mut self, cx: &mut Task<'_>) -> Poll<Option<Result<Chunk>>> {
        let polled = self.body.poll_chunk(cx);
        if let Poll::Ready(Some(Ok(chunk))) = &polled {
            self.tally.response_bytes += u64::try_from(chunk.len()).unwrap_or(0);
        }
        polled
    }

    fn trailers(&mut self) -> Option<Headers> {
        self.body.trailers()
    }
}
