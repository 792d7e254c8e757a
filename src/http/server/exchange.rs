//! One HTTP/1 request and its response: bodies both ways at once, and the client's departure noticed.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use stdx::{Context, Error, Result};
use wire::http1::{self as codec, BodyDecoder, Decoded, Framing};

use super::Phase;
use super::http1::{Connection, Next};
use super::incoming::Incoming;
use crate::body::{Body, Chunk, Sender, TooLarge};
use crate::io::{CatchPanic, Io, poll_drain, poll_fill};
use crate::message::{Method, Response, Version};

/// Bytes of later requests that are read ahead while one is answered.
const PIPELINED_MAX_BYTES: usize = 16 * 1024;
/// Unread request body that is read and dropped so that the connection can go on.
const DISCARDED_MAX_BYTES: u64 = 256 * 1024;
/// Response bytes encoded at once.
const OUTPUT_MAX_BYTES: usize = 16 * 1024;

/// One request and its response, as far as they got.
pub(super) struct Exchange<'a> {
    connection: &'a mut Connection,
    decoder: BodyDecoder,
    /// Feeds the request's body to the service; gone once the body ended or nobody reads it.
    sender: Option<Sender>,
    body_left: u64,
    body_max_bytes: u64,
    discarded_bytes: u64,
    too_large: bool,
    out: Vec<u8>,
    sent: usize,
    answer: Answer,
    is_head: bool,
    is_connect: bool,
    is_http10: bool,
    keep_alive: bool,
    upgrade: Option<rt::channel::Sender<Io>>,
    stall: Stall,
}

enum Answer {
    Calling(Pin<Box<dyn Future<Output = Option<Response>> + Send>>),
    Streaming(Streaming),
    /// Its body failed; what was encoded before is written first.
    Broken(Error),
    Finished,
    Upgrading,
}

/// A response's body on its way out.
struct Streaming {
    body: Body,
    framing: Framing,
    /// What the content-length still promises.
    left: u64,
    /// What is not encoded yet of the last chunk.
    chunk: Option<Chunk>,
}

#[derive(PartialEq)]
enum Streamed {
    Some,
    End,
}

impl Streaming {
    /// Encodes what the body has ready, about `OUTPUT_MAX_BYTES` at most.
    fn poll(&mut self, out: &mut Vec<u8>, cx: &mut Task<'_>) -> Result<Poll<Streamed>> {
        while out.len() < OUTPUT_MAX_BYTES {
            if let Some(chunk) = self.chunk.as_mut().filter(|chunk| !chunk.is_empty()) {
                let n = chunk.len().min(OUTPUT_MAX_BYTES);
                match self.framing {
                    Framing::Chunked => codec::emit_chunk(out, &chunk[..n]),
                    _ => out.extend_from_slice(&chunk[..n]),
                }
                chunk.advance(n);
                continue;
            }
            self.chunk = None;
            let next = std::panic::AssertUnwindSafe(|| self.body.poll_chunk(cx));
            let polled = std::panic::catch_unwind(next)
                .map_err(|_| Error::new("the producer of the response panicked"))?;
            match polled {
                Poll::Pending if out.is_empty() => return Ok(Poll::Pending),
                Poll::Pending => break,
                Poll::Ready(Some(chunk)) => {
                    let chunk = chunk.context(|| "produce the response")?;
                    if let Framing::Length(_) = self.framing {
                        self.left = self
                            .left
                            .checked_sub(chunk.len() as u64)
                            .context(|| "the response's body is longer than its content-length")?;
                    }
                    self.chunk = Some(chunk);
                }
                Poll::Ready(None)
                    if matches!(self.framing, Framing::Length(_)) && self.left > 0 =>
                {
                    let what = "the response's body is shorter than its content-length";
                    return Err(Error::new(what));
                }
                Poll::Ready(None) => {
                    if self.framing == Framing::Chunked {
                        let trailers = self.body.trailers().unwrap_or_default();
                        codec::emit_last_chunk(out, &trailers);
                    }
                    return Ok(Poll::Ready(Streamed::End));
                }
            }
        }
        Ok(Poll::Ready(Streamed::Some))
    }
}

impl<'a> Exchange<'a> {
    /// Calls the service with the request.
    pub(super) fn new(connection: &'a mut Connection, incoming: Incoming) -> Exchange<'a> {
        let Incoming {
            request,
            decoder,
            sender,
            upgrade,
            keep_alive,
            expects_continue,
            body_max_bytes,
        } = incoming;
        let is_head = request.method == Method::Head;
        let is_connect = request.method == Method::Connect;
        let is_http10 = request.version == Version::Http10;
        let service = std::sync::Arc::clone(&connection.shared.service);
        let stall = Stall::new(connection.shared.limits.stall_max);
        let what = format!("{} {}", request.method, request.path());
        let call = CatchPanic::new(what, async move { service.call(request).await });
        let mut out = Vec::new();
        if expects_continue {
            out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        Exchange {
            connection,
            decoder,
            sender: Some(sender),
            body_left: body_max_bytes,
            body_max_bytes,
            discarded_bytes: 0,
            too_large: false,
            out,
            sent: 0,
            answer: Answer::Calling(Box::pin(call)),
            is_head,
            is_connect,
            is_http10,
            keep_alive,
            upgrade,
            stall,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Task<'_>) -> Poll<Result<Next>> {
        loop {
            let reading = self.poll_request(cx)?;
            let written = self.poll_output(cx)?;
            let waits_for_peer = match (&written, &self.answer) {
                (Poll::Pending, _) => true,
                (
                    Poll::Ready(()),
                    Answer::Calling(_) | Answer::Streaming(_) | Answer::Broken(_),
                ) => match self.poll_answer(cx)? {
                    Poll::Ready(()) => continue,
                    Poll::Pending => reading.is_pending() && self.wants_body(),
                },
                (Poll::Ready(()), Answer::Finished) => match self.finish(&reading) {
                    Some(next) => return Poll::Ready(Ok(next)),
                    // The rest of the body is read and dropped from now on.
                    None if self.sender.take().is_some() => continue,
                    None => true,
                },
                (Poll::Ready(()), Answer::Upgrading) => {
                    let next = self.upgrade.take().map_or(Next::Close, Next::Upgraded);
                    return Poll::Ready(Ok(next));
                }
            };
            // Not before it waits: an answer that is there at once costs no look at the socket.
            if self.decoder.is_done() {
                self.watch_client(cx)?;
            }
            ready!(self.stall.poll(waits_for_peer, cx));
            return Poll::Ready(Err(Error::new("the client is too slow")));
        }
    }

    /// Whether the peer still owes us body bytes that somebody waits for.
    fn wants_body(&self) -> bool {
        !self.decoder.is_done() && self.sender.as_ref().is_some_and(|s| !s.is_closed())
    }

    /// Passes request bytes on to the service. Pending: waits for the peer or for the service to
    /// read; ready: the body is complete. Fails when the client is gone amid it.
    fn poll_request(&mut self, cx: &mut Task<'_>) -> Result<Poll<()>> {
        while !self.decoder.is_done() {
            if self.discarded_bytes > DISCARDED_MAX_BYTES {
                return Ok(Poll::Ready(()));
            }
            let nobody_reads = match &mut self.sender {
                None => true,
                Some(sender) => match sender.poll_ready(cx) {
                    Poll::Ready(ready) => ready.is_err(),
                    Poll::Pending => return Ok(Poll::Pending),
                },
            };
            match self.decoder.decode(&self.connection.input).context(|| "request body")? {
                Decoded::Data { start, end } => {
                    let n_bytes = (end - start) as u64;
                    if nobody_reads {
                        self.discarded_bytes += n_bytes;
                    } else {
                        self.pass_on(start, end);
                    }
                    self.connection.input.drain(..end);
                }
                Decoded::Done { consumed } => {
                    self.connection.input.drain(..consumed);
                }
                Decoded::More { consumed } => {
                    self.connection.input.drain(..consumed);
                    let connection = &mut *self.connection;
                    match poll_fill(&mut connection.io, &mut connection.input, cx) {
                        Poll::Ready(Ok(0)) => {
                            return Err(Error::new("the client left amid its request"));
                        }
                        Poll::Ready(Ok(_)) => self.stall.progress(),
                        Poll::Ready(Err(error)) => return Err(error).context(|| "read request"),
                        Poll::Pending => return Ok(Poll::Pending),
                    }
                }
            }
        }
        if let Some(sender) = self.sender.take() {
            sender.finish(self.decoder.trailers().unwrap_or_default());
        }
        Ok(Poll::Ready(()))
    }

    fn pass_on(&mut self, start: usize, end: usize) {
        let n_bytes = (end - start) as u64;
        if n_bytes > self.body_left {
            self.too_large = true;
            if let Some(sender) = self.sender.take() {
                sender.fail(TooLarge { max_bytes: self.body_max_bytes }.into());
            }
            return;
        }
        self.body_left -= n_bytes;
        if let Some(sender) = &mut self.sender {
            // `poll_ready` was asked just before; a reader gone since then is noticed next time.
            let _ = sender.try_send(self.connection.input[start..end].to_vec());
        }
    }

    /// Reads ahead a little while the service works: the only way to see that the client left.
    fn watch_client(&mut self, cx: &mut Task<'_>) -> Result<()> {
        let connection = &mut *self.connection;
        while connection.input.len() < PIPELINED_MAX_BYTES {
            match poll_fill(&mut connection.io, &mut connection.input, cx) {
                Poll::Ready(Ok(0)) => match self.answer {
                    Answer::Finished | Answer::Upgrading => return Ok(()),
                    _ => return Err(Error::new("the client left before it was answered")),
                },
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(error).context(|| "read from the client"),
                Poll::Pending => return Ok(()),
            }
        }
        Ok(())
    }

    /// Writes what is encoded. Ready: nothing is left to write.
    fn poll_output(&mut self, cx: &mut Task<'_>) -> Result<Poll<()>> {
        if self.out.is_empty() {
            return Ok(Poll::Ready(()));
        }
        let before = self.sent;
        let drained = poll_drain(&mut self.connection.io, &self.out, &mut self.sent, cx);
        if self.sent > before {
            self.stall.progress();
        }
        match drained {
            Poll::Ready(Ok(())) => {
                self.out.clear();
                self.sent = 0;
                Ok(Poll::Ready(()))
            }
            Poll::Ready(Err(error)) => Err(error).context(|| "write response"),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    /// Gets the next part of the response from the service and encodes it.
    fn poll_answer(&mut self, cx: &mut Task<'_>) -> Result<Poll<()>> {
        match &mut self.answer {
            Answer::Calling(call) => {
                let Poll::Ready(response) = call.as_mut().poll(cx) else {
                    return Ok(Poll::Pending);
                };
                let response = response.unwrap_or_else(|| {
                    let message =
                        "This request caused apiserver to panic. Look in the logs for details.";
                    self.refusal(500, "InternalError", message)
                });
                self.begin(response);
                // What the body has ready goes out with the head: one write, and one record of TLS.
                if let Answer::Streaming(streaming) = &mut self.answer {
                    match streaming.poll(&mut self.out, cx) {
                        Ok(Poll::Ready(Streamed::End)) => self.answer = Answer::Finished,
                        Ok(_) => {}
                        // The head goes out nevertheless: it was an answer, which then broke.
                        Err(error) => self.answer = Answer::Broken(error),
                    }
                }
                Ok(Poll::Ready(()))
            }
            Answer::Streaming(streaming) => {
                let polled = streaming.poll(&mut self.out, cx)?;
                if polled == Poll::Ready(Streamed::End) {
                    self.answer = Answer::Finished;
                } else if polled.is_pending() {
                    // Nothing to say for now: the buffer goes back until there is.
                    self.out = Vec::new();
                }
                Ok(polled.map(|_| ()))
            }
            Answer::Broken(_) => match std::mem::replace(&mut self.answer, Answer::Finished) {
                Answer::Broken(error) => Err(error),
                _ => Ok(Poll::Ready(())),
            },
            Answer::Finished | Answer::Upgrading => Ok(Poll::Ready(())),
        }
    }

    fn refusal(&self, code: u16, reason: &str, message: &str) -> Response {
        self.connection.shared.service.refusal(code, reason, message)
    }

    /// Encodes the head of the response and decides how its body is framed.
    fn begin(&mut self, mut response: Response) {
        if self.too_large && response.status < 400 {
            response =
                self.refusal(413, "RequestEntityTooLarge", "the request's body is too large");
        }
        let status = response.status;
        let upgraded = match self.is_connect {
            true => (200..300).contains(&status) && self.upgrade.is_some(),
            false => status == 101 && self.upgrade.is_some(),
        };
        if upgraded {
            codec::emit_response(&mut self.out, status, &response.headers);
            self.answer = Answer::Upgrading;
            return;
        }
        if (100..200).contains(&status) {
            response = self.refusal(500, "InternalError", "the service answered out of turn");
        }
        let Response { status, mut headers, body } = response;
        let declared = codec::content_length(&headers).ok().flatten();
        let bodiless = self.is_head || status == 204 || status == 304;
        let framing = match body.length().or(declared) {
            _ if bodiless => Framing::Length(0),
            Some(length) => Framing::Length(length),
            None if self.is_http10 => Framing::UntilClose,
            None => Framing::Chunked,
        };
        headers.retain(|name, _| {
            !matches!(name, "transfer-encoding" | "connection" | "keep-alive" | "content-length")
        });
        match (framing, declared.or(body.length())) {
            (Framing::Chunked, _) => headers.append("transfer-encoding", "chunked"),
            (Framing::Length(length), _) if !bodiless => {
                headers.append("content-length", length.to_string());
            }
            // An answer to HEAD tells the length that GET would have.
            (_, Some(length)) if self.is_head && length > 0 => {
                headers.append("content-length", length.to_string());
            }
            _ => {}
        }
        if !headers.contains("date") {
            headers.append("date", codec::date(rt::now().wall.secs()));
        }
        let rest_is_small = self.decoder.remaining().is_some_and(|n| n <= DISCARDED_MAX_BYTES);
        let can_continue = self.keep_alive
            && !self.too_large
            && framing != Framing::UntilClose
            && (self.decoder.is_done() || rest_is_small)
            && self.connection.shared.phase() == Phase::Running;
        self.keep_alive = can_continue;
        if !can_continue {
            headers.append("connection", "close");
        } else if self.is_http10 {
            headers.append("connection", "keep-alive");
        }
        codec::emit_response(&mut self.out, status, &headers);
        let left = if let Framing::Length(n) = framing { n } else { 0 };
        self.answer = match bodiless {
            true => Answer::Finished,
            false => Answer::Streaming(Streaming { body, framing, left, chunk: None }),
        };
    }

    /// After the last byte of the response: whether another request can follow.
    fn finish(&mut self, reading: &Poll<()>) -> Option<Next> {
        match reading {
            _ if !self.keep_alive => Some(Next::Close),
            _ if self.decoder.is_done() => Some(Next::Request),
            Poll::Ready(()) => Some(Next::Close),
            Poll::Pending => None,
        }
    }
}

/// Runs out when the peer neither takes nor gives anything for too long while it is its turn.
struct Stall {
    max: Duration,
    timer: Option<rt::Sleep>,
}

impl Stall {
    fn new(max: Duration) -> Stall {
        Stall { max, timer: None }
    }

    fn progress(&mut self) {
        self.timer = None;
    }

    /// Ready when the time is up; the clock only runs while `waits_for_peer`.
    fn poll(&mut self, waits_for_peer: bool, cx: &mut Task<'_>) -> Poll<()> {
        if !waits_for_peer {
            self.timer = None;
            return Poll::Pending;
        }
        let timer = self.timer.get_or_insert_with(|| rt::sleep(self.max));
        Pin::new(timer).poll(cx)
    }
}
