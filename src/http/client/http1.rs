//! HTTP/1.1 for clients: one request on a connection; whoever reads the response's body drives it.

use std::sync::Arc;
use std::task::{Context as Task, Poll};

use rt::future::poll_fn;
use stdx::{Context, Error, Result};
use wire::headers::Headers;
use wire::http1::{self as codec, BodyDecoder, Decoded, Framing};

use super::{Endpoint, HEADER_MAX_BYTES, Upgraded};
use crate::body::{Body, Chunk, Source};
use crate::io::{Io, Prefixed, poll_drain, poll_fill};
use crate::message::{Method, Request, Response};

/// Request bytes encoded at once.
const OUTPUT_MAX_BYTES: usize = 16 * 1024;

/// Called with the connection when it can carry another request.
pub(super) type GiveBack = Arc<dyn Fn(Io) + Send + Sync>;

/// A failure, and whether the server may have seen the request.
pub(super) struct Failure {
    pub(super) error: Error,
    /// Nothing came back: a kept connection that the server closed in the meantime looks like this.
    pub(super) nothing_came: bool,
}

/// Sends a request and waits for the head of the response.
pub(super) async fn send(
    io: Io,
    endpoint: &Endpoint,
    request: Request,
    give_back: Option<GiveBack>,
) -> Result<Response, Failure> {
    let is_head = request.method == Method::Head;
    let mut exchange = Exchange::new(io, endpoint, request);
    let head = match poll_fn(|cx| exchange.poll_head(cx)).await {
        Ok(head) => head,
        Err(error) => return Err(Failure { error, nothing_came: !exchange.has_input }),
    };
    let bad = |error| Failure { error, nothing_came: false };
    let framing = codec::response_framing(&head.headers, head.status, is_head)
        .context(|| "read response")
        .map_err(bad)?;
    let keeps = framing != Framing::UntilClose
        && match head.minor {
            0 => head.headers.has_token("connection", "keep-alive"),
            _ => !head.headers.has_token("connection", "close"),
        };
    exchange.give_back = give_back.filter(|_| keeps);
    exchange.decoder = BodyDecoder::new(framing);
    let mut response = Response::new(head.status);
    response.headers = head.headers;
    let length = match framing {
        Framing::Length(length) => Some(length),
        _ => None,
    };
    if exchange.decoder.is_done() {
        exchange.finish();
    } else {
        response.body = Body::from_source(exchange, length);
    }
    Ok(response)
}

/// Sends a request that wants another protocol.
pub(super) async fn upgrade(io: Io, endpoint: &Endpoint, request: Request) -> Result<Upgraded> {
    let is_connect = request.method == Method::Connect;
    let mut exchange = Exchange::new(io, endpoint, request);
    let head = poll_fn(|cx| exchange.poll_head(cx)).await?;
    let mut response = Response::new(head.status);
    response.headers = head.headers;
    if head.status == 101 || (is_connect && (200..300).contains(&head.status)) {
        let io = Prefixed { prefix: exchange.input, io: exchange.io, _guard: () };
        return Ok(Upgraded::Stream(response, Box::new(io)));
    }
    let framing = codec::response_framing(&response.headers, response.status, false)
        .context(|| "read response")?;
    exchange.decoder = BodyDecoder::new(framing);
    if !exchange.decoder.is_done() {
        response.body = Body::from_source(exchange, None);
    }
    Ok(Upgraded::Refused(response))
}

/// One request and its response on one connection.
struct Exchange {
    io: Io,
    input: Vec<u8>,
    seen: usize,
    has_input: bool,
    out: Vec<u8>,
    sent: usize,
    /// What is left of the request's body, and whether it goes out in chunks.
    request_body: Option<(Body, bool)>,
    /// The request's body broke off: nobody will see its end.
    broken: bool,
    decoder: BodyDecoder,
    give_back: Option<GiveBack>,
}

impl Exchange {
    fn new(io: Io, endpoint: &Endpoint, request: Request) -> Exchange {
        let mut headers = Headers::new();
        match request.authority.is_empty() {
            true => headers.append("host", endpoint.authority()),
            false => headers.append("host", &request.authority),
        }
        for (name, value) in request.headers.iter() {
            if !matches!(name, "host" | "transfer-encoding" | "content-length") {
                headers.append(name, value);
            }
        }
        let length = request.body.length();
        let has_body = match length {
            Some(0) => {
                // A method that usually has a body says that it has none.
                if matches!(request.method, Method::Post | Method::Put | Method::Patch) {
                    headers.append("content-length", "0");
                }
                false
            }
            Some(length) => {
                headers.append("content-length", length.to_string());
                true
            }
            None => {
                headers.append("transfer-encoding", "chunked");
                true
            }
        };
        let mut out = Vec::new();
        codec::emit_request(&mut out, request.method.as_str(), &request.target, &headers);
        Exchange {
            io,
            input: Vec::new(),
            seen: 0,
            has_input: false,
            out,
            sent: 0,
            request_body: has_body.then_some((request.body, length.is_none())),
            broken: false,
            decoder: BodyDecoder::new(Framing::UntilClose),
            give_back: None,
        }
    }

    /// Sends the request on while waiting for the final head.
    fn poll_head(&mut self, cx: &mut Task<'_>) -> Poll<Result<codec::ResponseHead>> {
        // A server may answer and close before it has read the whole request: its answer counts.
        let sending = self.poll_send(cx);
        if self.broken {
            // It waits for the rest, and would for ever.
            return Poll::Ready(Err(sending.err().unwrap_or_else(|| Error::new("send request"))));
        }
        loop {
            if codec::has_head(&self.input, self.seen)
                && let Some((head, length)) =
                    codec::parse_response(&self.input).context(|| "read response")?
            {
                self.input.drain(..length);
                self.seen = 0;
                if (100..200).contains(&head.status) && head.status != 101 {
                    continue;
                }
                return Poll::Ready(Ok(head));
            }
            self.seen = self.input.len();
            if self.seen > HEADER_MAX_BYTES {
                return Poll::Ready(Err(Error::new("the response's head is too large")));
            }
            match poll_fill(&mut self.io, &mut self.input, cx) {
                Poll::Ready(Ok(0)) => {
                    let closed = Error::new("the server closed the connection without an answer");
                    return Poll::Ready(Err(sending.err().unwrap_or(closed)));
                }
                Poll::Ready(Ok(_)) => self.has_input = true,
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(error).context(|| "read response"));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Sends what it can of the request.
    fn poll_send(&mut self, cx: &mut Task<'_>) -> Result<()> {
        loop {
            if !self.out.is_empty() {
                match poll_drain(&mut self.io, &self.out, &mut self.sent, cx) {
                    Poll::Ready(Ok(())) => {
                        self.out.clear();
                        self.sent = 0;
                    }
                    Poll::Ready(Err(error)) => {
                        self.request_body = None;
                        return Err(error).context(|| "send request");
                    }
                    Poll::Pending => return Ok(()),
                }
            }
            let Some((body, chunked)) = &mut self.request_body else {
                self.out = Vec::new();
                return Ok(());
            };
            match body.poll_chunk(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(Ok(chunk))) => {
                    for piece in chunk.chunks(OUTPUT_MAX_BYTES) {
                        match chunked {
                            true => codec::emit_chunk(&mut self.out, piece),
                            false => self.out.extend_from_slice(piece),
                        }
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    (self.request_body, self.broken) = (None, true);
                    return Err(error).context(|| "produce the request's body");
                }
                Poll::Ready(None) => {
                    if *chunked {
                        let trailers = body.trailers().unwrap_or_default();
                        codec::emit_last_chunk(&mut self.out, &trailers);
                    }
                    self.request_body = None;
                }
            }
        }
    }

    /// Gives the connection back if both messages are complete and nothing unasked came.
    fn finish(&mut self) {
        let is_sent = self.out.is_empty() && self.request_body.is_none() && !self.broken;
        let is_clean = self.input.is_empty() && is_sent;
        if let Some(give_back) = self.give_back.take()
            && is_clean
        {
            let closed = Box::new(rt::io::Cursor::new(Vec::new()));
            give_back(std::mem::replace(&mut self.io, closed));
        }
    }
}

impl Source for Exchange {
    fn poll_chunk(&mut self, cx: &mut Task<'_>) -> Poll<Option<Result<Chunk>>> {
        // A failure to send shows in what the server answers.
        let _ = self.poll_send(cx);
        loop {
            match self.decoder.decode(&self.input) {
                Err(error) => return Poll::Ready(Some(Err(error).context(|| "read response"))),
                Ok(Decoded::Data { start, end }) => {
                    let chunk = if start == 0 && end == self.input.len() {
                        std::mem::take(&mut self.input)
                    } else {
                        let chunk = self.input[start..end].to_vec();
                        self.input.drain(..end);
                        chunk
                    };
                    return Poll::Ready(Some(Ok(chunk.into())));
                }
                Ok(Decoded::Done { consumed }) => {
                    self.input.drain(..consumed);
                    self.finish();
                    return Poll::Ready(None);
                }
                Ok(Decoded::More { consumed }) => {
                    self.input.drain(..consumed);
                    match poll_fill(&mut self.io, &mut self.input, cx) {
                        Poll::Ready(Ok(0)) if self.decoder.ends_at_close() => {
                            return Poll::Ready(None);
                        }
                        Poll::Ready(Ok(0)) => {
                            let error = Error::new("the server broke its response off");
                            return Poll::Ready(Some(Err(error)));
                        }
                        Poll::Ready(Ok(_)) => {}
                        Poll::Ready(Err(error)) => {
                            return Poll::Ready(Some(Err(error).context(|| "read response")));
                        }
                        Poll::Pending => return Poll::Pending,
                    }
                }
            }
        }
    }

    fn trailers(&mut self) -> Option<Headers> {
        self.decoder.trailers()
    }
}
