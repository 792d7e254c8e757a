//! Turning an HTTP/1.1 connection into a raw byte stream.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use rt::channel;
use stdx::{Error, Result};

use crate::io::{Io, Prefixed};

/// A request's right to take over its connection.
///
/// Answer with the response of `accept`; the byte stream arrives once that response is written.
/// Dropping it and answering otherwise leaves the connection an HTTP connection.
pub struct Upgrade {
    pub(crate) sender: channel::Sender<Io>,
    receiver: channel::Receiver<Io>,
    /// What is let go with the stream.
    held: Option<Box<dyn Any + Send>>,
}

impl Upgrade {
    pub(crate) fn new() -> Upgrade {
        let (sender, receiver) = channel::bounded(1);
        Upgrade { sender, receiver, held: None }
    }

    /// Keeps something for as long as the stream is there.
    pub fn hold(&mut self, held: impl Any + Send) {
        self.held = Some(Box::new(held));
    }

    /// The stream to come. [`Upgrade::accept`] makes the response that belongs to it.
    pub(crate) fn into_stream(self) -> Upgrading {
        Upgrading(Box::pin(self.receiver), self.held)
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upgrade")
    }
}

/// Resolves to the byte stream; to an error if the connection broke first.
pub struct Upgrading(Pin<Box<channel::Receiver<Io>>>, Option<Box<dyn Any + Send>>);

impl Future for Upgrading {
    type Output = Result<Io>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Io>> {
        use rt::stream::Stream;
        let io = std::task::ready!(self.0.as_mut().poll_next(cx));
        let _guard = self.1.take();
        Poll::Ready(match io {
            Some(io) => Ok(Box::new(Prefixed { prefix: Vec::new(), io, _guard })),
            None => Err(Error::new("the connection ended before it was upgraded")),
        })
    }
}

impl fmt::Debug for Upgrading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upgrading")
    }
}
