//! HTTP/1.1 for servers: one request at a time, with bodies streamed both ways and the client's departure noticed.

use std::sync::Arc;

use rt::future::poll_fn;
use stdx::{Context, Result};
use wire::http1::{self as codec, Http1Error};
use wire::http2::PREFACE;

use super::exchange::Exchange;
use super::incoming::{Incoming, Refused};
use super::{Permit, Phase, Shared, http2};
use crate::io::{Io, Prefixed, linger, poll_drain, poll_fill};
use crate::message::Peer;

/// One HTTP/1 connection.
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    permit: Option<Permit>,
    pub(super) io: Io,
    /// Bytes read and not used yet; holds no memory while the connection is idle.
    pub(super) input: Vec<u8>,
    peer: Peer,
}

/// What comes after a request was answered.
pub(super) enum Next {
    Request,
    Close,
    /// The stream was handed to the one that upgraded it.
    Upgraded(rt::channel::Sender<Io>),
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>, permit: Permit, io: Io, peer: Peer) -> Connection {
        Connection { shared, permit: Some(permit), io, input: Vec::new(), peer }
    }

    /// Serves requests until either side ends the connection.
    pub(super) async fn run(mut self) -> Result<()> {
        if !self.peer.tls && self.is_http2().await {
            // HTTP/2 with prior knowledge, as gRPC speaks it on unix sockets.
            if let Some(permit) = self.permit.take() {
                Box::pin(http2::run(self.shared, permit, self.io, self.input, self.peer)).await;
            }
            return Ok(());
        }
        loop {
            let head = match self.read_head().await {
                Ok(Some(head)) => head,
                Ok(None) => break,
                Err(refused) => {
                    self.refuse(refused).await?;
                    break;
                }
            };
            match self.exchange(head).await? {
                Next::Request => {}
                Next::Close => break,
                Next::Upgraded(sender) => {
                    // Its place is busy until the stream ends.
                    let busy = self.peer.place.as_ref().map(crate::places::Place::busy);
                    let _guard = (busy, self.permit);
                    let io = Prefixed { prefix: self.input, io: self.io, _guard };
                    // If nobody waits for the stream any more, it is closed by being dropped.
                    let _ = sender.try_send(Box::new(io));
                    return Ok(());
                }
            }
            if self.input.is_empty() {
                self.input = Vec::new();
            }
        }
        linger(self.io).await;
        Ok(())
    }

    /// Whether the first bytes are HTTP/2's preface.
    async fn is_http2(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let look = async {
            while self.input.len() < PREFACE.len() && PREFACE.starts_with(&self.input) {
                if !matches!(self.fill().await, Ok(n) if n > 0) {
                    return false;
                }
            }
            self.input.starts_with(PREFACE)
        };
        let draining = async {
            shared.reached(Phase::Draining).await;
            false
        };
        let looked = rt::timeout(shared.limits.idle_max, rt::future::or(look, draining)).await;
        looked.unwrap_or(false)
    }

    /// The next request's head; `None` when the client is done or the server drains.
    async fn read_head(&mut self) -> Result<Option<codec::RequestHead>, Refused> {
        let limits = self.shared.limits.clone();
        if self.input.is_empty() {
            let shared = Arc::clone(&self.shared);
            let first = async { Some(self.fill().await) };
            let draining = async {
                shared.reached(Phase::Draining).await;
                None
            };
            match rt::timeout(limits.idle_max, rt::future::or(first, draining)).await {
                Ok(Some(Ok(n))) if n > 0 => {}
                _ => return Ok(None),
            }
        }
        let read = async {
            let mut seen = 0;
            loop {
                // Empty lines before a request are skipped, as RFC 9112 asks.
                let blank = self.input.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
                self.input.drain(..blank);
                if codec::has_head(&self.input, seen)
                    && let Some((head, length)) = codec::parse_request(&self.input)?
                {
                    if length > limits.header_max_bytes {
                        return Err(Http1Error::TooLarge.into());
                    }
                    self.input.drain(..length);
                    return Ok(Some(head));
                }
                seen = self.input.len();
                if seen > limits.header_max_bytes {
                    return Err(Http1Error::TooLarge.into());
                }
                match self.fill().await {
                    Ok(n) if n > 0 => {}
                    _ => return Ok(None),
                }
            }
        };
        match rt::timeout(limits.header_read_max, read).await {
            Ok(result) => result,
            Err(_) => Err(Refused { status: 408, message: "the request's head is late".into() }),
        }
    }

    async fn fill(&mut self) -> std::io::Result<usize> {
        poll_fn(|cx| poll_fill(&mut self.io, &mut self.input, cx)).await
    }

    /// Answers one request.
    async fn exchange(&mut self, head: codec::RequestHead) -> Result<Next> {
        let incoming = match Incoming::new(head, &self.shared, &self.peer) {
            Ok(incoming) => incoming,
            Err(refused) => {
                self.refuse(refused).await?;
                return Ok(Next::Close);
            }
        };
        let _busy = self.peer.place.as_ref().map(crate::places::Place::busy);
        let mut exchange = Exchange::new(self, incoming);
        poll_fn(|cx| exchange.poll(cx)).await
    }

    /// Answers a request that cannot be served, after which the connection ends.
    async fn refuse(&mut self, refused: Refused) -> Result<()> {
        let response = self.shared.service.refusal(refused.status, "BadRequest", &refused.message);
        let mut out = Vec::new();
        let mut headers = response.headers;
        headers.set("connection", "close");
        let mut body = response.body;
        let text = body.read_all(4096).await?;
        headers.set("content-length", text.len().to_string());
        codec::emit_response(&mut out, refused.status, &headers);
        out.extend_from_slice(&text);
        let mut sent = 0;
        let write = poll_fn(|cx| poll_drain(&mut self.io, &out, &mut sent, cx));
        rt::timeout(self.shared.limits.header_read_max, write)
            .await
            .context(|| "write a refusal")?
            .context(|| "write a refusal")
    }
}
