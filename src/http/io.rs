//! One type for every byte stream: TCP, unix sockets, TLS over them, and streams inside streams.

use std::future::Future;
use std::io::Result;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rt::io::{AsyncRead, AsyncWrite};

/// What can carry a connection.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Any byte stream. One type, so that each protocol is compiled once.
pub type Io = Box<dyn Duplex>;

/// The reading half of something.
pub type BoxRead = Box<dyn AsyncRead + Send + Unpin>;
/// The writing half of something.
pub type BoxWrite = Box<dyn AsyncWrite + Send + Unpin>;

/// What is read and dropped after our end of a connection, and for how long.
const LINGER_MAX_BYTES: usize = 4 << 20;
const LINGER_MAX: Duration = Duration::from_secs(1);

/// How much is read from a connection at once, in bytes; the buffer is on the stack.
const READ_MAX_BYTES: usize = 16 * 1024;

/// Reads what is there and appends it to `buffer`; 0 at the end of the stream.
///
/// The read goes through the stack, so a connection that waits for its peer holds no buffer.
pub(crate) fn poll_fill(
    io: &mut Io,
    buffer: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<Result<usize>> {
    let mut scratch = [0u8; READ_MAX_BYTES];
    match Pin::new(io).poll_read(cx, &mut scratch) {
        Poll::Ready(Ok(n)) => {
            buffer.extend_from_slice(&scratch[..n]);
            Poll::Ready(Ok(n))
        }
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Pending => Poll::Pending,
    }
}

/// Writes all of `buffer` from `sent` on. Ready when everything is written and flushed.
pub(crate) fn poll_drain(
    io: &mut Io,
    buffer: &[u8],
    sent: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<Result<()>> {
    while *sent < buffer.len() {
        match Pin::new(&mut *io).poll_write(cx, &buffer[*sent..]) {
            Poll::Ready(Ok(0)) => {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            Poll::Ready(Ok(n)) => *sent += n,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
    Pin::new(io).poll_flush(cx)
}

/// Ends a connection so that the peer gets what was written: a socket that is closed while received
/// data is unread resets the connection, and with it what the peer has not read yet.
pub(crate) async fn linger(mut io: Io) {
    use rt::io::AsyncWriteExt;
    let drain = async {
        io.close().await?;
        let (mut scratch, mut n_bytes) = (Vec::new(), 0);
        while n_bytes < LINGER_MAX_BYTES {
            scratch.clear();
            match rt::future::poll_fn(|cx| poll_fill(&mut io, &mut scratch, cx)).await? {
                0 => break,
                n => n_bytes += n,
            }
        }
        Ok::<_, std::io::Error>(())
    };
    let _ = rt::timeout(LINGER_MAX, drain).await;
}

/// A stream whose first bytes were read already, and which holds on to something while it is open.
pub(crate) struct Prefixed<T> {
    pub(crate) prefix: Vec<u8>,
    pub(crate) io: Io,
    pub(crate) _guard: T,
}

/// A stream whose first bytes were read already.
pub fn prefixed(prefix: Vec<u8>, io: Io) -> Io {
    if prefix.is_empty() { io } else { Box::new(Prefixed { prefix, io, _guard: () }) }
}

/// Waits for bytes and appends them to `buffer`; 0 at the end of the stream.
///
/// # Errors
/// If the stream broke.
pub async fn fill(io: &mut Io, buffer: &mut Vec<u8>) -> Result<usize> {
    rt::future::poll_fn(|cx| poll_fill(io, buffer, cx)).await
}

impl<T: Send + Unpin> AsyncRead for Prefixed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<Result<usize>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n = self.prefix.len().min(buf.len());
        buf[..n].copy_from_slice(&self.prefix[..n]);
        self.prefix.drain(..n);
        if self.prefix.is_empty() {
            self.prefix = Vec::new();
        }
        Poll::Ready(Ok(n))
    }
}

impl<T: Send + Unpin> AsyncWrite for Prefixed<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

/// Copies both ways until both ends are done or one fails; an end of one side is passed to the other.
pub async fn splice(a: Io, b: Io) -> Result<()> {
    let ((a_read, a_write), (b_read, b_write)) = (rt::io::split(a), rt::io::split(b));
    rt::future::try_zip(copy_to_end(a_read, b_write), copy_to_end(b_read, a_write)).await?;
    Ok(())
}

/// Copies until the end of `from`, then closes `to`. Each piece is flushed at once.
pub async fn copy_to_end(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> Result<u64> {
    use rt::io::{AsyncReadExt, AsyncWriteExt};
    let mut buffer = vec![0u8; 8 * 1024];
    let mut total = 0;
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            to.close().await?;
            return Ok(total);
        }
        to.write_all(&buffer[..n]).await?;
        to.flush().await?;
        total += n as u64;
    }
}

/// `poll_write` into a body's sender, whose reader may be gone.
pub(crate) fn poll_write_to(
    sender: Option<&mut crate::body::Sender>,
    cx: &mut Context<'_>,
    buf: &[u8],
) -> Poll<Result<usize>> {
    let Some(sender) = sender else {
        return Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()));
    };
    let n = buf.len().min(READ_MAX_BYTES);
    match sender.poll_ready(cx) {
        Poll::Pending => Poll::Pending,
        Poll::Ready(ready) => match ready.is_ok() && sender.try_send(buf[..n].to_vec()).is_ok() {
            true => Poll::Ready(Ok(n)),
            false => Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into())),
        },
    }
}

/// A body's sender as `AsyncWrite`; closing or dropping it ends the body.
pub(crate) struct BodyWriter(pub(crate) Option<crate::body::Sender>);

impl AsyncWrite for BodyWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<Result<usize>> {
        poll_write_to(self.0.as_mut(), cx, buf)
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        self.0 = None;
        Poll::Ready(Ok(()))
    }
}

/// Turns a panic of the future into `None`, and logs it with what was being done.
pub(crate) struct CatchPanic<F> {
    future: Pin<Box<F>>,
    what: String,
}

impl<F: Future> CatchPanic<F> {
    pub(crate) fn new(what: String, future: F) -> CatchPanic<F> {
        CatchPanic { future: Box::pin(future), what }
    }
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Option<F::Output>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let future = self.future.as_mut();
        // A future that panicked is not polled again: its owner drops it with the answer.
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| future.poll(cx))) {
            Ok(poll) => poll.map(Some),
            Err(panic) => {
                log::error!("{}: panicked: {}", self.what, panic_text(&*panic));
                Poll::Ready(None)
            }
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
