//! A body that somebody feeds: a bounded pipe between a producer and whoever sends the body on.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use rt::future::poll_fn;
use stdx::{Error, Result};
use wire::headers::Headers;

use super::{Chunk, Source};

/// Both ends of a pipe that takes no more once `buffered_max_bytes` wait in it.
pub(super) fn pipe(buffered_max_bytes: usize, drop_is_failure: bool) -> (Sender, PipeSource) {
    let pipe = Arc::new(Mutex::new(Pipe { buffered_max_bytes, ..Pipe::default() }));
    (Sender { pipe: Arc::clone(&pipe), drop_is_failure }, PipeSource(pipe))
}

/// The producing end of `Body::channel`.
///
/// Dropping it ends the body well; `fail`, or a panic while it is held, breaks it off, so that the
/// peer sees a truncated message.
pub struct Sender {
    pipe: Arc<Mutex<Pipe>>,
    drop_is_failure: bool,
}

#[derive(Default)]
struct Pipe {
    chunks: VecDeque<Chunk>,
    buffered_bytes: usize,
    buffered_max_bytes: usize,
    /// Set once the producer is done: well, or with an error.
    end: Option<Result<Option<Headers>>>,
    reader_gone: bool,
    reader: Option<Waker>,
    sender: Option<Waker>,
}

/// The consumer of a channel body is gone: the client hung up or the connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reader of the body is gone")
    }
}
impl std::error::Error for Closed {}

/// Why `try_send` did not take a chunk.
#[derive(Debug)]
pub enum TrySend {
    Full(Chunk),
    Closed,
}

fn lock(pipe: &Mutex<Pipe>) -> MutexGuard<'_, Pipe> {
    // The pipe is consistent between its statements, so a panic elsewhere does not spoil it.
    pipe.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sender {
    /// Passes on one chunk as soon as fewer than the bound are buffered.
    pub async fn send(&mut self, chunk: impl Into<Chunk>) -> Result<(), Closed> {
        self.ready().await?;
        self.push(chunk.into());
        Ok(())
    }

    /// Waits until a chunk may be sent.
    pub async fn ready(&mut self) -> Result<(), Closed> {
        poll_fn(|cx| self.poll_ready(cx)).await
    }

    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let mut pipe = lock(&self.pipe);
        if pipe.reader_gone {
            return Poll::Ready(Err(Closed));
        }
        if pipe.buffered_bytes < pipe.buffered_max_bytes || pipe.chunks.is_empty() {
            return Poll::Ready(Ok(()));
        }
        pipe.sender = Some(cx.waker().clone());
        Poll::Pending
    }

    pub fn try_send(&mut self, chunk: impl Into<Chunk>) -> Result<(), TrySend> {
        let chunk = chunk.into();
        {
            let pipe = lock(&self.pipe);
            if pipe.reader_gone {
                return Err(TrySend::Closed);
            }
            if pipe.buffered_bytes >= pipe.buffered_max_bytes && !pipe.chunks.is_empty() {
                return Err(TrySend::Full(chunk));
            }
        }
        self.push(chunk);
        Ok(())
    }

    /// Resolves when the consumer is gone. Await it beside the events that a watch waits for.
    pub async fn closed(&self) {
        poll_fn(|cx| self.poll_closed(cx)).await;
    }

    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut pipe = lock(&self.pipe);
        if pipe.reader_gone {
            return Poll::Ready(());
        }
        pipe.sender = Some(cx.waker().clone());
        Poll::Pending
    }

    pub fn is_closed(&self) -> bool {
        lock(&self.pipe).reader_gone
    }

    /// Ends the body well, with trailers if there are any.
    pub fn finish(self, trailers: Headers) {
        self.end(Ok((!trailers.is_empty()).then_some(trailers)));
    }

    /// Breaks the body off; the peer sees a truncated message.
    pub fn fail(self, error: Error) {
        self.end(Err(error));
    }

    fn push(&mut self, chunk: Chunk) {
        if chunk.is_empty() {
            return;
        }
        let waker = {
            let mut pipe = lock(&self.pipe);
            pipe.buffered_bytes += chunk.len();
            pipe.chunks.push_back(chunk);
            pipe.reader.take()
        };
        wake(waker);
    }

    fn end(&self, end: Result<Option<Headers>>) {
        let waker = {
            let mut pipe = lock(&self.pipe);
            pipe.end.get_or_insert(end);
            pipe.reader.take()
        };
        wake(waker);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.end(match (self.drop_is_failure, std::thread::panicking()) {
            (true, _) => Err(Error::new("the connection broke amid the message")),
            (_, true) => Err(Error::new("the producer of the body panicked")),
            _ => Ok(None),
        });
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("body::Sender")
    }
}

pub(super) struct PipeSource(Arc<Mutex<Pipe>>);

impl Source for PipeSource {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk>>> {
        let mut pipe = lock(&self.0);
        if let Some(chunk) = pipe.chunks.pop_front() {
            pipe.buffered_bytes -= chunk.len();
            if pipe.chunks.is_empty() {
                pipe.chunks.shrink_to_fit();
            }
            let waker = pipe.sender.take();
            drop(pipe);
            wake(waker);
            return Poll::Ready(Some(Ok(chunk)));
        }
        match &mut pipe.end {
            Some(Ok(_)) => Poll::Ready(None),
            Some(error) => {
                // The end stays set, as a well-formed one, so that nothing is reported twice.
                match std::mem::replace(error, Ok(None)) {
                    Err(error) => Poll::Ready(Some(Err(error))),
                    Ok(_) => Poll::Ready(None),
                }
            }
            None => {
                pipe.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn trailers(&mut self) -> Option<Headers> {
        match &mut lock(&self.0).end {
            Some(Ok(trailers)) => trailers.take(),
            _ => None,
        }
    }
}

impl Drop for PipeSource {
    fn drop(&mut self) {
        let (waker, chunks) = {
            let mut pipe = lock(&self.0);
            pipe.reader_gone = true;
            pipe.buffered_bytes = 0;
            (pipe.sender.take(), std::mem::take(&mut pipe.chunks))
        };
        drop(chunks);
        wake(waker);
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
