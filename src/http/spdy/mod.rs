//! SPDY/3.1 sessions over an upgraded connection, either role: many byte streams, each with headers.
//!
//! Flow control is two-sided only with peers that take part: Kubernetes' own implementation neither
//! keeps windows nor sends WINDOW_UPDATE, so ours are kept once a peer has shown that it does. With
//! the others the connection itself is the back-pressure: what nobody reads stops the reading.

mod driver;
mod state;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Task, Poll};

use rt::future::poll_fn;
use rt::io::{AsyncRead, AsyncWrite};
use stdx::{Error, Result};
use wire::headers::Headers;
use wire::spdy as codec;

use crate::io::Io;
use driver::Driver;
use state::{SEND_BUFFERED_MAX_BYTES, State};

type Shared = Arc<Mutex<State>>;

fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A session. Dropping it says goodbye once what was written is sent, and ends its streams.
pub struct Session {
    shared: Shared,
}

impl Session {
    /// The side that was asked: its own streams have even numbers.
    pub fn server(io: Io) -> Session {
        Session::start(io, 2)
    }

    /// The side that asked.
    pub fn client(io: Io) -> Session {
        Session::start(io, 1)
    }

    fn start(io: Io, first_stream: u32) -> Session {
        let shared = Arc::new(Mutex::new(State::new(first_stream)));
        rt::spawn(Driver::new(Arc::clone(&shared), io).run()).detach();
        Session { shared }
    }

    /// The next stream the peer opens, already replied to; `None` when the session is over.
    pub async fn accept(&self) -> Option<Stream> {
        poll_fn(|cx| {
            let mut state = lock(&self.shared);
            if let Some((id, headers)) = state.opened.pop_front() {
                state.reply(id);
                return Poll::Ready(Some(Stream::new(&self.shared, id, headers)));
            }
            if state.failure.is_some() || state.is_gone {
                return Poll::Ready(None);
            }
            state.acceptor = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Opens a stream and waits until the peer has replied: data that comes earlier may be dropped.
    pub async fn open(&self, headers: &Headers) -> Result<Stream> {
        let id = lock(&self.shared)
            .open(headers)
            .ok_or_else(|| Error::new("the SPDY session takes no more streams"))?;
        let stream = Stream::new(&self.shared, id, Headers::new());
        poll_fn(|cx| lock(&self.shared).poll_replied(id, cx)).await?;
        Ok(stream)
    }

    /// Resolves when the session is over. Of this and `accept`, only one may be waited for at a time.
    pub fn watch(&self) -> rt::BoxFuture<'static, ()> {
        let shared = Arc::clone(&self.shared);
        Box::pin(poll_fn(move |cx| {
            let mut state = lock(&shared);
            if state.failure.is_some() {
                return Poll::Ready(());
            }
            state.acceptor = Some(cx.waker().clone());
            Poll::Pending
        }))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut state = lock(&self.shared);
        state.is_leaving = true;
        state.wake_driver();
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("spdy::Session")
    }
}

/// One stream, in its two halves.
#[derive(Debug)]
pub struct Stream {
    /// As the peer sent them; empty for streams we opened.
    pub headers: Headers,
    pub reader: ReadHalf,
    pub writer: WriteHalf,
}

impl Stream {
    fn new(shared: &Shared, id: u32, headers: Headers) -> Stream {
        let reader = ReadHalf { shared: Arc::clone(shared), id, left: Vec::new(), at: 0 };
        Stream { headers, reader, writer: WriteHalf { shared: Arc::clone(shared), id } }
    }

    /// Refuses or breaks off the stream.
    pub fn reset(self) {
        lock(&self.writer.shared).reset(self.writer.id, codec::RESET_CANCEL);
    }
}

/// What the peer sends on a stream. Dropping it discards the rest.
pub struct ReadHalf {
    shared: Shared,
    id: u32,
    left: Vec<u8>,
    at: usize,
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Task<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.at == this.left.len() {
            match lock(&this.shared).poll_received(this.id, cx) {
                Poll::Ready(Ok(Some(bytes))) => (this.left, this.at) = (bytes, 0),
                Poll::Ready(Ok(None)) => return Poll::Ready(Ok(0)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        let n = buf.len().min(this.left.len() - this.at);
        buf[..n].copy_from_slice(&this.left[this.at..this.at + n]);
        this.at += n;
        if this.at == this.left.len() {
            (this.left, this.at) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(n))
    }
}

impl Drop for ReadHalf {
    fn drop(&mut self) {
        lock(&self.shared).drop_reader(self.id);
    }
}

/// What we send on a stream. Closing or dropping it tells the peer that no more comes.
pub struct WriteHalf {
    shared: Shared,
    id: u32,
}

impl AsyncWrite for WriteHalf {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Task<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let n = buf.len().min(SEND_BUFFERED_MAX_BYTES);
        lock(&self.shared).poll_send(self.id, &buf[..n], cx)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<io::Result<()>> {
        // The driver writes whatever is there as soon as the connection takes it.
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<io::Result<()>> {
        lock(&self.shared).finish(self.id);
        Poll::Ready(Ok(()))
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        lock(&self.shared).drop_writer(self.id);
    }
}

impl fmt::Debug for ReadHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spdy::ReadHalf({})", self.id)
    }
}
impl fmt::Debug for WriteHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spdy::WriteHalf({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rt::future::zip;
    use rt::io::{AsyncReadExt, AsyncWriteExt};

    fn pair() -> (Session, Session) {
        let (a, b) = rt::net::UnixStream::pair().unwrap();
        (Session::client(Box::new(a)), Session::server(Box::new(b)))
    }

    #[test]
    fn streams_carry_headers_and_data_both_ways() {
        rt::block_on(async {
            let (client, server) = pair();
            let serve = async {
                let mut streams = Vec::new();
                for _ in 0..3 {
                    streams.push(server.accept().await.unwrap());
                }
                for mut stream in streams {
                    let name = stream.headers.get("streamtype").unwrap().to_owned();
                    stream.writer.write_all(name.as_bytes()).await.unwrap();
                    rt::spawn(async move {
                        let _ = crate::io::copy_to_end(stream.reader, stream.writer).await;
                    })
                    .detach();
                }
            };
            let ask = async {
                let mut streams = Vec::new();
                for name in ["one", "two", "three"] {
                    streams
                        .push(client.open(&Headers::new().with("streamtype", name)).await.unwrap());
                }
                let large = vec![7u8; 1_000_000];
                for (stream, name) in streams.into_iter().zip(["one", "two", "three"]) {
                    let (mut reader, mut writer) = (stream.reader, stream.writer);
                    let mut back = Vec::new();
                    let write = async {
                        writer.write_all(&large).await.unwrap();
                        writer.close().await.unwrap();
                    };
                    zip(write, async { reader.read_to_end(&mut back).await.unwrap() }).await;
                    assert_eq!(&back[..name.len()], name.as_bytes());
                    assert!(back[name.len()..] == large);
                }
            };
            zip(serve, ask).await;
            drop(server);
            assert!(client.accept().await.is_none());
        });
    }

    #[test]
    fn what_was_written_arrives_before_goodbye_and_a_lost_peer_is_an_error() {
        rt::block_on(async {
            let (client, server) = pair();
            let (mut theirs, ours) = zip(async { server.accept().await.unwrap() }, async {
                client.open(&Headers::new().with("a", "b")).await.unwrap()
            })
            .await;
            theirs.writer.write_all(&[1; 100_000]).await.unwrap();
            drop((theirs, server));
            let (mut reader, mut back) = (ours.reader, Vec::new());
            reader.read_to_end(&mut back).await.unwrap();
            assert_eq!(back.len(), 100_000);

            let (a, b) = rt::net::UnixStream::pair().unwrap();
            let client = Session::client(Box::new(a));
            drop(b);
            assert!(client.open(&Headers::new()).await.is_err());
        });
    }

    #[test]
    fn damaged_sessions_break_nothing() {
        use wire::spdy::{self as codec, HeaderEncoder};
        let mut prng = stdx::prng::Prng::new(8);
        rt::block_on(async {
            for _ in 0..300 {
                let (mut input, mut encoder) = (Vec::new(), HeaderEncoder::new());
                for id in [1u32, 3, 5] {
                    encoder.emit_syn_stream(&mut input, id, &Headers::new().with("a", "b"), false);
                    codec::emit_data(&mut input, id, &[1; 300], id == 3);
                    codec::emit_window_update(&mut input, id, 70_000);
                }
                codec::emit_reset(&mut input, 5, codec::RESET_CANCEL);
                codec::emit_ping(&mut input, 1);
                for _ in 0..prng.below(4) {
                    let at = prng.below(input.len() as u64) as usize;
                    input[at] = prng.next_u64() as u8;
                }
                let (mut ours, theirs) = rt::net::UnixStream::pair().unwrap();
                let session = Session::server(Box::new(theirs));
                let serve = async {
                    while let Some(mut stream) = session.accept().await {
                        let _ = stream.writer.write_all(b"hello").await;
                        let mut some = [0; 100];
                        let _ = rt::future::poll_once(stream.reader.read(&mut some)).await;
                    }
                };
                let send = async {
                    let _ = ours.write_all(&input).await;
                    let _ = ours.close().await;
                };
                let both = zip(serve, send);
                let ended = rt::timeout(std::time::Duration::from_secs(5), both).await;
                ended.expect("the session ends");
            }
        });
    }
}
