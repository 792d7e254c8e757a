//! Connections in memory: bytes come in order, but late; a connection may break, or fall silent so that
//! only its own ends can notice.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use http::io::Io;
use rt::io::{AsyncRead, AsyncWrite};
use stdx::time::Mono;

use crate::faults::Faults;
use crate::lock;

/// Bytes on their way in one direction.
const HELD_MAX_BYTES: usize = 256 << 10;

/// Both directions of a connection.
pub(crate) struct Wire {
    faults: Faults,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By the side that reads it.
    ways: [Way; 2],
    is_cut: bool,
    /// What is written goes nowhere.
    is_silent: bool,
}

#[derive(Default)]
struct Way {
    pieces: VecDeque<(Mono, Vec<u8>)>,
    n_bytes: usize,
    /// Nothing more comes.
    is_over: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Way {
    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

impl Wire {
    /// A new connection and its two ends.
    pub(crate) fn new(faults: &Faults) -> (Arc<Wire>, [Io; 2]) {
        let wire = Arc::new(Wire { faults: faults.clone(), state: Mutex::default() });
        let ends = [0, 1]
            .map(|side| -> Io { Box::new(End { wire: Arc::clone(&wire), side, rest: None }) });
        (wire, ends)
    }

    /// Breaks it: both ends see that at once.
    pub(crate) fn cut(&self) {
        let mut state = lock(&self.state);
        state.is_cut = true;
        state.ways.iter_mut().for_each(Way::wake);
    }
}

/// One end of a connection.
struct End {
    wire: Arc<Wire>,
    side: usize,
    rest: Option<rt::Sleep>,
}

fn broken() -> Error {
    Error::new(ErrorKind::ConnectionReset, "simulated: the connection broke")
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<Result<usize>> {
        let this = &mut *self;
        let mut state = lock(&this.wire.state);
        if state.is_cut {
            return Poll::Ready(Err(broken()));
        }
        let way = &mut state.ways[this.side];
        let Some((due, piece)) = way.pieces.front_mut() else {
            if way.is_over {
                return Poll::Ready(Ok(0));
            }
            way.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        if *due > rt::now().mono {
            let rest = this.rest.insert(rt::sleep_until(*due));
            way.reader = Some(cx.waker().clone());
            if Pin::new(rest).poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        this.rest = None;
        let n = piece.len().min(buf.len());
        buf[..n].copy_from_slice(&piece[..n]);
        piece.drain(..n);
        if piece.is_empty() {
            way.pieces.pop_front();
        }
        way.n_bytes -= n;
        way.writer.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        let mut state = lock(&self.wire.state);
        let faults = &self.wire.faults;
        if !state.is_cut && faults.broken_wire() {
            state.is_cut = !faults.silent();
            state.is_silent |= !state.is_cut;
            state.ways.iter_mut().for_each(Way::wake);
        }
        if state.is_cut {
            return Poll::Ready(Err(broken()));
        }
        if state.is_silent {
            return Poll::Ready(Ok(buf.len()));
        }
        let way = &mut state.ways[1 - self.side];
        if way.n_bytes >= HELD_MAX_BYTES {
            way.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let due = rt::now().mono + faults.lateness().unwrap_or_default();
        // In order, whatever is late.
        let due = way.pieces.back().map_or(due, |(last, _)| due.max(*last));
        way.pieces.push_back((due, buf.to_vec()));
        way.n_bytes += buf.len();
        way.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

impl End {
    fn end(&self) {
        let mut state = lock(&self.wire.state);
        if !state.is_silent {
            let way = &mut state.ways[1 - self.side];
            way.is_over = true;
            way.wake();
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.end();
    }
}
