//! HTTP/2 for clients: a request is a stream of a connection that many requests share.

use std::task::Poll;

use rt::future::poll_fn;
use stdx::{Context, Error, Result};
use wire::headers::Headers;
use wire::http1::content_length;
use wire::http2::Code;

use super::{Endpoint, HEADER_MAX_BYTES, Options};
use crate::body::Body;
use crate::h2::{Config, Connection, Event, RecvHalf, Reset, Role, SendHalf, request_fields};
use crate::io::Io;
use crate::message::{Method, Request, Response};

/// Response bytes of one stream, and of all, that wait to be read.
const STREAM_WINDOW_BYTES: i64 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: i64 = 512 * 1024;

/// Starts to speak HTTP/2 on a stream.
pub(super) fn start(io: Io, options: &Options) -> Connection {
    let config = Config {
        role: Role::Client,
        stream_window: STREAM_WINDOW_BYTES,
        connection_window: CONNECTION_WINDOW_BYTES,
        streams_max: 0,
        header_max_bytes: HEADER_MAX_BYTES,
        greeting_max: options.connect_max,
        idle_max: options.idle_max,
        stall_max: options.connect_max.max(options.ping_after),
        ping_after: options.ping_after,
        ping_max: options.ping_max,
    };
    let (connection, mut driver) = Connection::new(io, Vec::new(), config);
    rt::spawn(async move {
        // A server cannot open streams; one that tries is told so by the state.
        while let Event::Request { .. } = driver.next().await {}
        driver.close().await;
    })
    .detach();
    connection
}

/// Opens a stream for the request; gives the request back if the connection takes no more.
#[allow(clippy::result_large_err)] // the request goes back to who will send it elsewhere
pub(super) fn open(
    connection: &Connection,
    endpoint: &Endpoint,
    request: Request,
) -> Result<Result<Opened>, Request> {
    let scheme = if endpoint.tls.is_some() { "https" } else { "http" };
    let authority = match request.authority.is_empty() {
        true => endpoint.authority(),
        false => request.authority.clone(),
    };
    let length = request.body.length();
    let is_empty = length == Some(0);
    let has_length =
        !is_empty || matches!(request.method, Method::Post | Method::Put | Method::Patch);
    let fields = request_fields(
        request.method.as_str(),
        scheme,
        &authority,
        &request.target,
        &request.headers,
        length.filter(|_| has_length),
    );
    let fields = match fields {
        Ok(fields) => fields,
        Err(error) => return Ok(Err(error)),
    };
    let is_head = request.method == Method::Head;
    let Some((send, recv)) = connection.open(&fields, is_empty, is_head) else {
        return Err(request);
    };
    if !is_empty {
        send_body(send, request.body);
    }
    Ok(Ok(Opened { recv, is_head }))
}

/// A stream whose request is on its way.
pub(super) struct Opened {
    recv: RecvHalf,
    is_head: bool,
}

impl Opened {
    /// Waits for the response's head.
    pub(super) async fn response(self) -> Result<Response> {
        let Opened { mut recv, is_head } = self;
        let (status, headers) = poll_fn(|cx| recv.poll_head(cx)).await?;
        let mut response = Response::new(status);
        let length = content_length(&headers).context(|| "read response")?;
        response.headers = headers;
        if !is_head && !recv.is_ended() {
            response.body = Body::from_source(recv, length);
        } else if !is_head {
            // The end is here, but trailers may be too: gRPC answers errors with nothing else.
            response.body = Body::from_source(recv, None);
        }
        Ok(response)
    }
}

/// Whether the server surely did not act on the request.
pub(super) fn was_refused(error: &Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<Reset>().is_some_and(|reset| reset.0 == Code::REFUSED_STREAM) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Sends a body: what is ready at once from here, the rest from a task of its own.
fn send_body(send: SendHalf, mut body: Body) {
    if let Some(chunk) = body.take_whole() {
        send.push(chunk);
        return send.finish(Headers::new());
    }
    rt::spawn(async move {
        loop {
            let next = poll_fn(|cx| {
                if let Poll::Ready(reset) = send.poll_reset(cx) {
                    return Poll::Ready(Err(reset));
                }
                if send.poll_ready(cx)?.is_pending() {
                    return Poll::Pending;
                }
                body.poll_chunk(cx).map(Ok)
            });
            match next.await {
                Ok(Some(Ok(chunk))) => send.push(chunk),
                Ok(Some(Err(error))) => {
                    log::debug!("HTTP/2 request broken off: {error}");
                    return send.reset(Code::CANCEL);
                }
                Ok(None) => return send.finish(body.trailers().unwrap_or_default()),
                // Whoever waits for the response is told the same.
                Err(_) => return,
            }
        }
    })
    .detach();
}
