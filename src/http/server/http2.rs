//! HTTP/2 for servers: each stream is a task that calls the service and sends its response.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rt::future::poll_fn;
use stdx::Result;
use wire::headers::Headers;
use wire::http1::{content_length, date};
use wire::http2::Code;

use super::{Permit, Phase, Shared};
use crate::body::{Body, Chunk};
use crate::h2::{self, Config, Connection, RecvHalf, RequestHead, Reset, Role, SendHalf};
use crate::io::{CatchPanic, Io};
use crate::message::{Method, Peer, Request, Response, Version, refusal};

/// Request bytes of one stream, and of all, that wait to be read.
const STREAM_WINDOW_BYTES: i64 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: i64 = 256 * 1024;

/// Serves one connection to its end; `input` was read already.
pub(super) async fn run(shared: Arc<Shared>, _permit: Permit, io: Io, input: Vec<u8>, peer: Peer) {
    let limits = &shared.limits;
    let config = Config {
        role: Role::Server,
        stream_window: STREAM_WINDOW_BYTES,
        connection_window: CONNECTION_WINDOW_BYTES,
        streams_max: limits.streams_max,
        header_max_bytes: limits.header_max_bytes,
        greeting_max: limits.header_read_max,
        idle_max: limits.idle_max,
        stall_max: limits.stall_max,
        ping_after: limits.ping_after,
        ping_max: Duration::from_secs(30).min(limits.ping_after),
    };
    let (connection, mut driver) = Connection::new(io, input, config);
    let mut draining = Some(Box::pin({
        let shared = Arc::clone(&shared);
        async move { shared.reached(Phase::Draining).await }
    }));
    loop {
        let event = poll_fn(|cx| {
            if let Some(future) = &mut draining
                && future.as_mut().poll(cx).is_ready()
            {
                draining = None;
                connection.drain();
            }
            driver.poll(cx)
        });
        match event.await {
            h2::Event::End => return driver.close().await,
            h2::Event::Request { head, send, recv, is_empty } => {
                let (shared, peer) = (Arc::clone(&shared), peer.clone());
                rt::spawn(async move {
                    // Broken streams have been told to whom they concern.
                    let _ = answer(&shared, head, send, recv, is_empty, peer).await;
                })
                .detach();
            }
        }
    }
}

/// One stream: the request to the service, its response to the client.
async fn answer(
    shared: &Shared,
    head: RequestHead,
    send: SendHalf,
    recv: RecvHalf,
    is_empty: bool,
    peer: Peer,
) -> Result<(), Reset> {
    let _busy = peer.place.as_ref().map(crate::places::Place::busy);
    let method = Method::from(&*head.method);
    let is_head = method == Method::Head;
    let bytes_max = shared.service.body_max_bytes(&method, &head.target, &shared.limits);
    // The head was checked to have at most one length.
    let length = content_length(&head.headers).ok().flatten();
    if length.is_some_and(|length| length > bytes_max) {
        let message = format!("the request's body is larger than {bytes_max} bytes");
        drop(recv);
        let response = shared.service.refusal(413, "RequestEntityTooLarge", &message);
        return respond(send, response, is_head).await;
    }
    let body = match is_empty {
        true => Body::empty(),
        false => Body::from_source(recv.limit(bytes_max), length),
    };
    let mut headers = head.headers;
    if length.is_some() {
        headers.remove("content-length");
    }
    let request = Request {
        method,
        target: head.target,
        authority: head.authority,
        headers,
        body,
        version: Version::Http2,
        peer,
        upgrade: None,
    };
    let what = format!("{} {}", request.method, request.path());
    let call = CatchPanic::new(what, async move { shared.service.call(request).await });
    let response = {
        let mut call = std::pin::pin!(call);
        poll_fn(|cx| match send.poll_reset(cx) {
            Poll::Ready(reset) => Poll::Ready(Err(reset)),
            Poll::Pending => call.as_mut().poll(cx).map(Ok),
        })
        .await?
    };
    let response = response.unwrap_or_else(|| {
        let message = "This request caused apiserver to panic. Look in the logs for details.";
        shared.service.refusal(500, "InternalError", message)
    });
    respond(send, response, is_head).await
}

async fn respond(send: SendHalf, response: Response, is_head: bool) -> Result<(), Reset> {
    let mut response = match response.status {
        100..200 => refusal(500, "InternalError", "HTTP/2 has no upgrades"),
        _ => response,
    };
    let declared = content_length(&response.headers).ok().flatten();
    let bodiless = is_head || response.status == 204 || response.status == 304;
    let length = match bodiless {
        // An answer to HEAD tells the length that GET would have.
        true => declared.or(response.body.length().filter(|&length| is_head && length > 0)),
        false => response.body.length().or(declared),
    };
    let mut fields = h2::response_fields(response.status, &response.headers);
    if let Some(length) = length {
        fields.append("content-length", length.to_string());
    }
    if !fields.contains("date") {
        fields.append("date", date(rt::now().wall.secs()));
    }
    if bodiless || response.body.is_ended() {
        send.send_head(&fields, true);
        return Ok(());
    }
    send.send_head(&fields, false);
    send_body(send, &mut response.body).await
}

/// Sends a body to its end, or until nobody wants it.
async fn send_body(send: SendHalf, body: &mut Body) -> Result<(), Reset> {
    loop {
        match next_chunk(&send, body).await? {
            Some(Ok(chunk)) => send.push(chunk),
            Some(Err(error)) => {
                log::debug!("HTTP/2 response broken off: {error}");
                send.reset(Code::INTERNAL_ERROR);
                return Ok(());
            }
            None => {
                let trailers: Headers = body.trailers().unwrap_or_default();
                send.finish(trailers);
                return Ok(());
            }
        }
    }
}

/// The next chunk, asked for only when there is room for it, and given up when the stream is reset.
async fn next_chunk(send: &SendHalf, body: &mut Body) -> Result<Option<Result<Chunk>>, Reset> {
    poll_fn(|cx| {
        if let Poll::Ready(reset) = send.poll_reset(cx) {
            return Poll::Ready(Err(reset));
        }
        if send.poll_ready(cx)?.is_pending() {
            return Poll::Pending;
        }
        let next = std::panic::AssertUnwindSafe(|| body.poll_chunk(cx));
        match std::panic::catch_unwind(next) {
            Ok(polled) => polled.map(Ok),
            Err(_) => {
                let error = stdx::Error::new("the producer of the response panicked");
                Poll::Ready(Ok(Some(Err(error))))
            }
        }
    })
    .await
}
