//! The I/O of a SPDY session: reads frames into the state and writes what the state has.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use rt::future::poll_fn;
use stdx::{Error, Result};
use wire::spdy::{self as codec, Frame};

use super::{Shared, lock};
use crate::io::{Io, linger, poll_drain, poll_fill};

/// From our wish to leave to the end, whatever is still unsent.
const LEAVING_MAX: Duration = Duration::from_secs(30);

/// Reads and writes the connection until either side ends the session.
pub(super) struct Driver {
    shared: Shared,
    io: Io,
    input: Vec<u8>,
    decoder: codec::HeaderDecoder,
    /// The DATA frame whose data is being passed on: its stream, what is left of it, whether it ends.
    data: Option<(u32, usize, bool)>,
    out: Vec<u8>,
    sent: usize,
    /// Runs while we want to leave but the peer does not take what is left.
    patience: Option<rt::Sleep>,
}

impl Driver {
    pub(super) fn new(shared: Shared, io: Io) -> Driver {
        Driver {
            shared,
            io,
            input: Vec::new(),
            decoder: codec::HeaderDecoder::new(),
            data: None,
            out: Vec::new(),
            sent: 0,
            patience: None,
        }
    }

    pub(super) async fn run(mut self) {
        let ended = poll_fn(|cx| self.poll(cx)).await;
        let why = match ended {
            Ok(()) => "the session is over".to_owned(),
            Err(error) => error.to_string(),
        };
        log::debug!("SPDY session ends: {why}");
        lock(&self.shared).end(why);
        linger(self.io).await;
    }

    fn poll(&mut self, cx: &mut Task<'_>) -> Poll<Result<()>> {
        lock(&self.shared).driver = Some(cx.waker().clone());
        for _ in 0..16 {
            if self.poll_write(cx)?.is_ready() && lock(&self.shared).goodbye_sent {
                return Poll::Ready(Ok(()));
            }
            let (is_leaving, is_full) = {
                let state = lock(&self.shared);
                (state.is_leaving, state.is_full())
            };
            if is_leaving {
                let patience = self.patience.get_or_insert_with(|| rt::sleep(LEAVING_MAX));
                if Pin::new(patience).poll(cx).is_ready() {
                    return Poll::Ready(Err(Error::new("the peer does not take what is left")));
                }
            }
            if is_full {
                return Poll::Pending;
            }
            match poll_fill(&mut self.io, &mut self.input, cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Error::new("the peer is gone"))),
                Poll::Ready(Ok(_)) => self.take_input()?,
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(Error::wrap("read SPDY session", error)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_write(&mut self, cx: &mut Task<'_>) -> Result<Poll<()>> {
        loop {
            if self.sent == self.out.len() {
                self.out.clear();
                self.sent = 0;
                lock(&self.shared).fill(&mut self.out);
                if self.out.is_empty() {
                    self.out = Vec::new();
                    return Ok(Poll::Ready(()));
                }
            }
            match poll_drain(&mut self.io, &self.out, &mut self.sent, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Err(Error::wrap("write SPDY session", error)),
                Poll::Pending => return Ok(Poll::Pending),
            }
        }
    }

    fn take_input(&mut self) -> Result<()> {
        let mut state = lock(&self.shared);
        let mut at = 0;
        loop {
            if let Some((id, left, fin)) = self.data.take() {
                let n = left.min(self.input.len() - at);
                state.on_data(id, &self.input[at..at + n]);
                at += n;
                if n < left {
                    self.data = Some((id, left - n, fin));
                    break;
                }
                if fin {
                    state.on_fin(id);
                }
            }
            match codec::parse(&self.input[at..]).map_err(|e| Error::wrap("read session", e))? {
                None => break,
                Some((Frame::Data { stream, length, fin }, used)) => {
                    self.data = Some((stream, length, fin));
                    at += used;
                }
                Some((frame, used)) => {
                    let received = state.receive(frame, &mut self.decoder);
                    received.map_err(|e| Error::wrap("read session", e))?;
                    at += used;
                }
            }
        }
        self.input.drain(..at);
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        Ok(())
    }
}
