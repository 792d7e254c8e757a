//! Message bodies: pulled chunk by chunk, with a bounded buffer between producer and consumer.

mod channel;
mod chunk;

use std::any::Any;
use std::fmt;
use std::task::{Context, Poll};

use rt::future::poll_fn;
use stdx::{Error, Result};
use wire::headers::Headers;

pub use channel::{Closed, Sender, TrySend};
pub use chunk::Chunk;

/// Where a body's chunks come from.
pub trait Source: Send {
    /// The next chunk, `None` at the end. Must not be polled again after the end or an error.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk>>>;

    /// Trailing fields, known after the end.
    fn trailers(&mut self) -> Option<Headers> {
        None
    }
}

/// A request's or response's body. Dropping it tells the producer that nobody reads on.
#[derive(Default)]
pub struct Body {
    kind: Kind,
    length: Option<u64>,
    /// What is let go with the body.
    held: Option<Box<dyn Any + Send>>,
}

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Whole(Chunk),
    Source(Box<dyn Source>),
    /// Ended, with the trailers that came.
    Ended(Option<Headers>),
}

impl Body {
    pub fn empty() -> Body {
        Body { length: Some(0), ..Body::default() }
    }

    /// A body known as a whole.
    pub fn whole(bytes: impl Into<Chunk>) -> Body {
        let chunk = bytes.into();
        let length = u64::try_from(chunk.len()).ok();
        Body { kind: Kind::Whole(chunk), length, held: None }
    }

    /// A body from a source; `length` if it is known before.
    pub fn from_source(source: impl Source + 'static, length: Option<u64>) -> Body {
        Body { kind: Kind::Source(Box::new(source)), length, held: None }
    }

    /// A body that a `Sender` feeds. The sender waits while `buffered_max_bytes` or more are not yet read.
    pub fn channel(buffered_max_bytes: usize) -> (Sender, Body) {
        let (sender, source) = channel::pipe(buffered_max_bytes, false);
        (sender, Body::from_source(source, None))
    }

    /// A channel for a message that a connection receives: only `finish` ends it well.
    pub(crate) fn incoming(buffered_max_bytes: usize) -> (Sender, Body) {
        let (sender, source) = channel::pipe(buffered_max_bytes, true);
        (sender, Body::from_source(source, None))
    }

    /// A body from a stream of chunks.
    pub fn stream(
        stream: impl rt::stream::Stream<Item = Result<Chunk>> + Send + Unpin + 'static,
    ) -> Body {
        Body::from_source(StreamSource(stream), None)
    }

    /// Keeps something for as long as the body is there.
    #[must_use]
    pub fn holding(mut self, held: impl Any + Send) -> Body {
        self.held = Some(match self.held.take() {
            Some(before) => Box::new((before, held)),
            None => Box::new(held),
        });
        self
    }

    /// The whole length, if it was announced.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The same, of a length that is known before.
    #[must_use]
    pub fn with_length(mut self, length: Option<u64>) -> Body {
        self.length = length;
        self
    }

    /// Whether nothing is left, as far as is known without waiting.
    pub fn is_ended(&self) -> bool {
        matches!(self.kind, Kind::Empty | Kind::Ended(_))
    }

    /// The bytes, if the body is known as a whole; it is then ended.
    pub(crate) fn take_whole(&mut self) -> Option<Chunk> {
        match std::mem::take(&mut self.kind) {
            Kind::Whole(chunk) => {
                self.kind = Kind::Ended(None);
                Some(chunk)
            }
            other => {
                self.kind = other;
                None
            }
        }
    }

    /// A second body of the same bytes, if they are known as a whole.
    pub fn try_clone(&self) -> Option<Body> {
        let kind = match &self.kind {
            Kind::Empty => Kind::Empty,
            Kind::Whole(chunk) => Kind::Whole(chunk.clone()),
            Kind::Source(_) | Kind::Ended(_) => return None,
        };
        Some(Body { kind, length: self.length, held: None })
    }

    /// The next chunk, never an empty one; `None` at the end.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk>>> {
        match std::mem::take(&mut self.kind) {
            Kind::Empty => {
                self.kind = Kind::Ended(None);
                Poll::Ready(None)
            }
            Kind::Ended(trailers) => {
                self.kind = Kind::Ended(trailers);
                Poll::Ready(None)
            }
            Kind::Whole(chunk) => {
                self.kind = Kind::Ended(None);
                Poll::Ready((!chunk.is_empty()).then_some(Ok(chunk)))
            }
            Kind::Source(mut source) => loop {
                match source.poll_chunk(cx) {
                    Poll::Ready(Some(Ok(chunk))) if chunk.is_empty() => continue,
                    Poll::Ready(Some(Ok(chunk))) => {
                        self.kind = Kind::Source(source);
                        return Poll::Ready(Some(Ok(chunk)));
                    }
                    Poll::Ready(end) => {
                        self.kind = Kind::Ended(source.trailers());
                        return Poll::Ready(end);
                    }
                    Poll::Pending => {
                        self.kind = Kind::Source(source);
                        return Poll::Pending;
                    }
                }
            },
        }
    }

    /// The next chunk; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Chunk>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The trailing fields, once the end was reached.
    pub fn trailers(&mut self) -> Option<Headers> {
        match &mut self.kind {
            Kind::Ended(trailers) => trailers.take(),
            _ => None,
        }
    }

    /// Everything that is left, or an error when it is more than `max_bytes`.
    pub async fn read_all(&mut self, max_bytes: usize) -> Result<Vec<u8>> {
        if self.length.is_some_and(|length| length > max_bytes as u64) {
            return Err(TooLarge { max_bytes: max_bytes as u64 }.into());
        }
        let mut all = Vec::new();
        while let Some(chunk) = self.next().await {
            let chunk = chunk?;
            if all.len() + chunk.len() > max_bytes {
                return Err(TooLarge { max_bytes: max_bytes as u64 }.into());
            }
            if all.is_empty() {
                all = chunk.into_vec();
            } else {
                all.extend_from_slice(&chunk);
            }
        }
        Ok(all)
    }

    /// The body as a byte stream.
    pub fn reader(self) -> Reader {
        Reader { body: self, chunk: None }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Empty => "empty",
            Kind::Whole(_) => "whole",
            Kind::Source(_) => "stream",
            Kind::Ended(_) => "ended",
        };
        write!(f, "Body({kind}, length {:?})", self.length)
    }
}

impl<T: Into<Chunk>> From<T> for Body {
    fn from(bytes: T) -> Body {
        Body::whole(bytes)
    }
}

/// The error of a body above its bound; the HTTP answer is 413. Found with `is_too_large`.
#[derive(Debug)]
pub struct TooLarge {
    pub max_bytes: u64,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the body is larger than {} bytes", self.max_bytes)
    }
}
impl std::error::Error for TooLarge {}

impl From<TooLarge> for Error {
    fn from(error: TooLarge) -> Error {
        Error::wrap("read body", error)
    }
}

/// Whether an error of `Body` says that the body is above its bound.
pub fn is_too_large(error: &Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if error.is::<TooLarge>() {
            return true;
        }
        next = error.source();
    }
    false
}

struct StreamSource<S>(S);

impl<S: rt::stream::Stream<Item = Result<Chunk>> + Send + Unpin> Source for StreamSource<S> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk>>> {
        std::pin::Pin::new(&mut self.0).poll_next(cx)
    }
}

/// A body as `AsyncRead`.
#[derive(Debug)]
pub struct Reader {
    body: Body,
    chunk: Option<Chunk>,
}

impl rt::io::AsyncRead for Reader {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<std::io::Result<usize>> {
        let this = &mut *self;
        loop {
            if let Some(chunk) = this.chunk.as_mut().filter(|chunk| !chunk.is_empty()) {
                let n = chunk.len().min(buf.len());
                buf[..n].copy_from_slice(&chunk[..n]);
                chunk.advance(n);
                return Poll::Ready(Ok(n));
            }
            this.chunk = None;
            match this.body.poll_chunk(cx) {
                Poll::Ready(Some(Ok(chunk))) => this.chunk = Some(chunk),
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(std::io::Error::other(error)));
                }
                Poll::Ready(None) => return Poll::Ready(Ok(0)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rt::future::{poll_once, zip};

    #[test]
    fn a_slow_reader_stops_the_sender_and_a_gone_one_is_told() {
        rt::block_on(async {
            let (mut sender, mut body) = Body::channel(4);
            sender.send("abcdef").await.unwrap();
            assert!(matches!(sender.try_send("x"), Err(TrySend::Full(_))));
            let (sent, chunk) = zip(sender.send("gh"), body.next()).await;
            sent.unwrap();
            assert_eq!(&*chunk.unwrap().unwrap(), b"abcdef");
            assert!(poll_once(sender.closed()).await.is_none());
            drop(body);
            assert!(poll_once(sender.closed()).await.is_some());
            assert_eq!(sender.send("x").await, Err(Closed));
        });
    }

    #[test]
    fn ends_carry_trailers_or_errors() {
        rt::block_on(async {
            let (sender, mut body) = Body::channel(4);
            sender.finish(Headers::new().with("grpc-status", "0"));
            assert!(body.next().await.is_none());
            assert_eq!(body.trailers().unwrap().get("grpc-status"), Some("0"));
            let (sender, mut body) = Body::channel(4);
            sender.fail(Error::new("disk"));
            assert!(body.next().await.unwrap().is_err());
            assert!(body.next().await.is_none());
        });
    }

    #[test]
    fn read_all_is_bounded() {
        rt::block_on(async {
            let error = Body::whole("12345").read_all(4).await.unwrap_err();
            assert!(is_too_large(&error));
            assert_eq!(Body::whole("12345").read_all(5).await.unwrap(), b"12345");
        });
    }
}
