//! HTTP/2 connections, either role: a driver that does the I/O, and the two halves of each stream.
//!
//! All halves and the driver share one locked `State`; whoever changes it wakes whom it concerns.
//! A waiting connection holds its state and the two header tables, and no buffers.

mod driver;
#[cfg(test)]
mod fuzz;
mod head;
mod state;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Task, Poll};
use std::time::Duration;

use stdx::{Error, Result};
use wire::headers::Headers;
use wire::http2::Code;

use crate::body::{Chunk, Source, TooLarge};
use crate::io::Io;

pub(crate) use driver::{Driver, Event};
pub(crate) use head::{RequestHead, request_fields, response_fields};
use state::{SEND_BUFFERED_MAX_BYTES, State};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// The bounds of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) role: Role,
    /// Received bytes that wait to be read, a stream and altogether.
    pub(crate) stream_window: i64,
    pub(crate) connection_window: i64,
    /// Streams the peer may have open.
    pub(crate) streams_max: u32,
    pub(crate) header_max_bytes: usize,
    /// The peer's first frame must have come by then.
    pub(crate) greeting_max: Duration,
    pub(crate) idle_max: Duration,
    pub(crate) stall_max: Duration,
    pub(crate) ping_after: Duration,
    pub(crate) ping_max: Duration,
}

type Shared = Arc<Mutex<State>>;

fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    // Frames are taken whole; a panic between two of them leaves the state usable, if only to end.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The owner's view of a connection. Dropping the last one ends the connection after its streams.
pub(crate) struct Connection {
    shared: Shared,
}

impl Connection {
    /// A connection over `io`, to be run by its driver.
    pub(crate) fn new(io: Io, input: Vec<u8>, config: Config) -> (Connection, Driver) {
        let state = State::new(config, rt::now().mono);
        let shared = Arc::new(Mutex::new(state));
        let driver = Driver::new(Arc::clone(&shared), io, input);
        (Connection { shared }, driver)
    }

    /// Client: opens a stream with a request's fields; `None` if the connection takes no more.
    pub(crate) fn open(
        &self,
        fields: &Headers,
        end_stream: bool,
        is_head: bool,
    ) -> Option<(SendHalf, RecvHalf)> {
        let id = lock(&self.shared).open(fields, end_stream, is_head)?;
        Some(halves(&self.shared, id))
    }

    /// Starts a graceful end.
    pub(crate) fn drain(&self) {
        let mut state = lock(&self.shared);
        state.drain();
        state.wake_driver();
    }

    /// Client: whether another stream can be opened now.
    pub(crate) fn has_room(&self) -> bool {
        let state = lock(&self.shared);
        state.failure.is_none()
            && !state.goaway_came
            && state.goaway_sent.is_none()
            && state.n_open < state.peer_streams_max as usize
    }

    pub(crate) fn is_over(&self) -> bool {
        let state = lock(&self.shared);
        state.failure.is_some() || state.goaway_came || state.goaway_sent.is_some()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut state = lock(&self.shared);
        state.is_abandoned = true;
        state.wake_driver();
    }
}

fn halves(shared: &Shared, id: u32) -> (SendHalf, RecvHalf) {
    let send = SendHalf { shared: Arc::clone(shared), id };
    let recv =
        RecvHalf { shared: Arc::clone(shared), id, bytes_left: u64::MAX, bytes_max: u64::MAX };
    (send, recv)
}

/// Why a stream ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reset(pub(crate) Code);

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the stream was reset: {}", self.0)
    }
}
impl std::error::Error for Reset {}

/// The sending half of a stream. Dropped before `finish`, it resets the stream.
pub(crate) struct SendHalf {
    shared: Shared,
    id: u32,
}

impl SendHalf {
    /// Server: sends the response's fields.
    pub(crate) fn send_head(&self, fields: &Headers, end_stream: bool) {
        lock(&self.shared).send_headers(self.id, fields, end_stream);
    }

    /// Ready when more data may be pushed; an error when nobody will get it.
    pub(crate) fn poll_ready(&self, cx: &mut Task<'_>) -> Poll<Result<(), Reset>> {
        let mut state = lock(&self.shared);
        let Some(stream) = state.streams.get_mut(&self.id) else {
            return Poll::Ready(Err(Reset(Code::CANCEL)));
        };
        if let Some(code) = stream.reset {
            return Poll::Ready(Err(Reset(code)));
        }
        if stream.send_bytes < SEND_BUFFERED_MAX_BYTES {
            return Poll::Ready(Ok(()));
        }
        stream.sender = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Ready when the stream was reset or its connection ended.
    pub(crate) fn poll_reset(&self, cx: &mut Task<'_>) -> Poll<Reset> {
        let mut state = lock(&self.shared);
        let Some(stream) = state.streams.get_mut(&self.id) else {
            return Poll::Ready(Reset(Code::CANCEL));
        };
        if let Some(code) = stream.reset {
            return Poll::Ready(Reset(code));
        }
        stream.sender = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn push(&self, chunk: Chunk) {
        lock(&self.shared).send_data(self.id, chunk);
    }

    /// Ends the stream, with trailers unless they are empty.
    pub(crate) fn finish(self, trailers: Headers) {
        lock(&self.shared).send_end(self.id, trailers);
    }

    pub(crate) fn reset(self, code: Code) {
        lock(&self.shared).reset(self.id, code);
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        lock(&self.shared).drop_handle(self.id, false);
    }
}

/// The receiving half of a stream. A client that drops it before the end resets the stream.
pub(crate) struct RecvHalf {
    shared: Shared,
    id: u32,
    bytes_left: u64,
    bytes_max: u64,
}

impl RecvHalf {
    /// Refuses to give out more than this.
    pub(crate) fn limit(mut self, bytes_max: u64) -> RecvHalf {
        (self.bytes_left, self.bytes_max) = (bytes_max, bytes_max);
        self
    }

    /// Client: the response's status and fields.
    pub(crate) fn poll_head(&mut self, cx: &mut Task<'_>) -> Poll<Result<(u16, Headers)>> {
        let mut state = lock(&self.shared);
        let failure = state.failure.clone();
        let Some(stream) = state.streams.get_mut(&self.id) else {
            return Poll::Ready(Err(Error::new("the stream is gone")));
        };
        if let Some(head) = stream.head.take() {
            return Poll::Ready(Ok(head));
        }
        if let Some(code) = stream.reset {
            return Poll::Ready(Err(broken_off(code, failure)));
        }
        stream.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether the whole message is here already.
    pub(crate) fn is_ended(&self) -> bool {
        let state = lock(&self.shared);
        state
            .streams
            .get(&self.id)
            .is_none_or(|stream| stream.recv_end && stream.received.is_empty())
    }
}

fn broken_off(code: Code, failure: Option<String>) -> Error {
    match failure {
        Some(failure) => Error::wrap(format!("HTTP/2 connection: {failure}"), Reset(code)),
        None => Error::wrap("HTTP/2", Reset(code)),
    }
}

impl Source for RecvHalf {
    fn poll_chunk(&mut self, cx: &mut Task<'_>) -> Poll<Option<Result<Chunk>>> {
        let mut state = lock(&self.shared);
        let failure = state.failure.clone();
        let Some(stream) = state.streams.get_mut(&self.id) else { return Poll::Ready(None) };
        if let Some(bytes) = stream.received.pop_front() {
            if stream.received.is_empty() {
                stream.received.shrink_to_fit();
            }
            state.consumed(self.id, bytes.len());
            let n_bytes = bytes.len() as u64;
            if n_bytes > self.bytes_left {
                let error = TooLarge { max_bytes: self.bytes_max };
                return Poll::Ready(Some(Err(error.into())));
            }
            self.bytes_left -= n_bytes;
            return Poll::Ready(Some(Ok(bytes.into())));
        }
        if stream.recv_end {
            return Poll::Ready(None);
        }
        if let Some(code) = stream.reset {
            return Poll::Ready(Some(Err(broken_off(code, failure))));
        }
        stream.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn trailers(&mut self) -> Option<Headers> {
        lock(&self.shared).streams.get_mut(&self.id).and_then(|stream| stream.trailers.take())
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        lock(&self.shared).drop_handle(self.id, true);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.shared);
        write!(f, "h2::Connection({} streams, failure {:?})", state.n_open, state.failure)
    }
}
