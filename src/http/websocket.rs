//! WebSocket (RFC 6455) for both ends: our handshake with subprotocols, async-tungstenite's frames.

use std::fmt;
use std::task::Poll;

use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use async_tungstenite::tungstenite::{Error as WsError, Message as Raw};
use async_tungstenite::{WebSocketReceiver, WebSocketSender, WebSocketStream};
use rt::stream::StreamExt;
use stdx::{Context, Error, Result};
use wire::base64;

use crate::client::{Client, Endpoint, Upgraded};
use crate::io::Io;
use crate::message::{Request, Response};
use crate::upgrade::Upgrading;

/// What RFC 6455 appends to a key before hashing it.
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The buffers of one connection; a message may be larger, up to its bound.
const BUFFER_BYTES: usize = 4 * 1024;
const WRITE_BUFFER_MAX_BYTES: usize = 256 * 1024;

/// Whether a request asks for a WebSocket.
pub fn is_asked_for(request: &Request) -> bool {
    request.headers.has_token("connection", "upgrade")
        && request.headers.has_token("upgrade", "websocket")
}

/// A WebSocket that will be there once the response is written.
#[derive(Debug)]
pub struct Accepted {
    /// The subprotocol, of those the server offers; `None` if the client asked for none.
    pub protocol: Option<String>,
    upgrading: Upgrading,
    message_max_bytes: usize,
}

impl Accepted {
    /// Waits for the stream. The response must have been returned to the client for that.
    pub async fn stream(self) -> Result<WebSocket> {
        let io = self.upgrading.await?;
        Ok(WebSocket::over(io, Role::Server, self.message_max_bytes).await)
    }
}

/// Agrees to a WebSocket: the first of the client's subprotocols that is in `protocols`, or none if
/// the client asks for none. `Err` is the response that refuses.
#[allow(clippy::result_large_err)] // the refusal is a response like any other
pub fn accept(
    request: &mut Request,
    protocols: &[&str],
    message_max_bytes: usize,
) -> Result<(Response, Accepted), Response> {
    let refuse = |status: u16, why: &str| Err(Response::text(status, format!("{why}\n")));
    if !is_asked_for(request) {
        return refuse(400, "a WebSocket upgrade is required");
    }
    if request.headers.get("sec-websocket-version").map(str::trim) != Some("13") {
        let mut response = Response::text(426, "WebSocket version 13 is required\n");
        response.headers.append("sec-websocket-version", "13");
        return Err(response);
    }
    let key = request.headers.get("sec-websocket-key").map(str::trim).unwrap_or("");
    if base64::decode(key).is_none_or(|key| key.len() != 16) {
        return refuse(400, "bad Sec-WebSocket-Key");
    }
    let accept = accept_key(key);
    let wanted: Vec<&str> = request
        .headers
        .get_all("sec-websocket-protocol")
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|protocol| !protocol.is_empty())
        .collect();
    let protocol = wanted.iter().find(|wanted| protocols.contains(wanted)).map(|&p| p.to_owned());
    if protocol.is_none() && !wanted.is_empty() {
        return refuse(403, "none of the WebSocket subprotocols is supported");
    }
    let Some(upgrade) = request.upgrade.take() else {
        return refuse(400, "this connection cannot be upgraded");
    };
    let (mut response, upgrading) = upgrade.accept("websocket");
    response.headers.append("sec-websocket-accept", accept);
    if let Some(protocol) = &protocol {
        response.headers.append("sec-websocket-protocol", protocol);
    }
    Ok((response, Accepted { protocol, upgrading, message_max_bytes }))
}

/// How a server answered a client's wish for a WebSocket.
#[derive(Debug)]
pub enum Connected {
    Stream { socket: WebSocket, protocol: Option<String> },
    Refused(Response),
}

/// Asks for a WebSocket with one of `protocols`, best first.
pub async fn connect(
    client: &Client,
    endpoint: &Endpoint,
    mut request: Request,
    protocols: &[&str],
    message_max_bytes: usize,
) -> Result<Connected> {
    let mut nonce = [0u8; 16];
    rt::random(&mut nonce);
    let key = base64::encode(&nonce);
    request.headers.set("connection", "Upgrade");
    request.headers.set("upgrade", "websocket");
    request.headers.set("sec-websocket-version", "13");
    request.headers.set("sec-websocket-key", &key);
    if !protocols.is_empty() {
        request.headers.set("sec-websocket-protocol", protocols.join(", "));
    }
    let (response, io) = match client.upgrade(endpoint, request).await? {
        Upgraded::Refused(response) => return Ok(Connected::Refused(response)),
        Upgraded::Stream(response, io) => (response, io),
    };
    let what = || format!("open a WebSocket to {endpoint}");
    if response.headers.get("sec-websocket-accept") != Some(&accept_key(&key)) {
        return Err(Error::new("the server's Sec-WebSocket-Accept is wrong")).context(what);
    }
    let protocol = response.headers.get("sec-websocket-protocol").map(str::to_owned);
    if protocol.as_deref().is_some_and(|protocol| !protocols.contains(&protocol)) {
        return Err(Error::new("the server chose a subprotocol nobody asked for")).context(what);
    }
    let socket = WebSocket::over(io, Role::Client, message_max_bytes).await;
    Ok(Connected::Stream { socket, protocol })
}

fn accept_key(key: &str) -> String {
    use ring::digest;
    let text = format!("{key}{ACCEPT_SUFFIX}");
    base64::encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref())
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Binary(Vec<u8>),
    Text(String),
}

impl Message {
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into_bytes(),
        }
    }
}

/// An open WebSocket, in two halves that may be used by two tasks.
#[derive(Debug)]
pub struct WebSocket {
    pub sender: Sender,
    pub receiver: Receiver,
}

impl WebSocket {
    async fn over(io: Io, role: Role, message_max_bytes: usize) -> WebSocket {
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_write_buffer_size(WRITE_BUFFER_MAX_BYTES.max(message_max_bytes * 2))
            .max_message_size(Some(message_max_bytes))
            .max_frame_size(Some(message_max_bytes));
        let stream = WebSocketStream::from_raw_socket(io, role, Some(config)).await;
        let (sender, receiver) = stream.split();
        WebSocket {
            sender: Sender(sender),
            receiver: Receiver { inner: receiver, is_closing: false },
        }
    }

    /// A server's WebSocket over a stream whose handshake others did.
    pub async fn server(io: Io, message_max_bytes: usize) -> WebSocket {
        WebSocket::over(io, Role::Server, message_max_bytes).await
    }

    /// A client's WebSocket over a stream whose handshake others did.
    pub async fn client(io: Io, message_max_bytes: usize) -> WebSocket {
        WebSocket::over(io, Role::Client, message_max_bytes).await
    }

    /// The WebSocket as a byte stream: binary messages without borders.
    pub(crate) fn into_stream(self) -> Io {
        Box::new(MessageStream::new(self))
    }
}

/// The sending half.
pub struct Sender(WebSocketSender<Io>);

impl Sender {
    /// Sends a message and flushes it.
    pub async fn send(&mut self, message: Message) -> Result<()> {
        let raw = match message {
            Message::Binary(bytes) => Raw::binary(bytes),
            Message::Text(text) => Raw::text(text),
        };
        self.0.send(raw).await.context(|| "send a WebSocket message")
    }

    /// Sends a PING; the receiver's other end answers by itself.
    pub async fn ping(&mut self) -> Result<()> {
        self.0.send(Raw::Ping(Vec::new().into())).await.context(|| "send a WebSocket ping")
    }

    /// Starts the closing handshake.
    pub async fn close(&mut self) -> Result<()> {
        use async_tungstenite::tungstenite::protocol::CloseFrame;
        use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        match self.0.close(Some(frame)).await {
            Err(WsError::ConnectionClosed | WsError::AlreadyClosed) | Ok(()) => Ok(()),
            Err(error) => Err(error).context(|| "close a WebSocket"),
        }
    }
}

/// The receiving half. PINGs are answered while it is read.
pub struct Receiver {
    inner: WebSocketReceiver<Io>,
    /// The peer has said that it closes: however the connection ends now, it has said everything.
    is_closing: bool,
}

impl Receiver {
    /// The next message; `None` when the peer closed the WebSocket.
    pub async fn next(&mut self) -> Option<Result<Message>> {
        loop {
            match self.next_sign().await? {
                Ok(None) => {}
                Ok(Some(message)) => return Some(Ok(message)),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The next sign of life: a message, or `None` inside for a PING, a PONG and the like.
    pub(crate) async fn next_sign(&mut self) -> Option<Result<Option<Message>>> {
        let message = match self.inner.next().await? {
            Ok(Raw::Binary(bytes)) => Message::Binary(bytes.into()),
            Ok(Raw::Text(text)) => Message::Text(text.as_str().to_owned()),
            // The closing handshake goes on while the stream is read to its end.
            Ok(Raw::Close(_)) => {
                self.is_closing = true;
                return Some(Ok(None));
            }
            Ok(Raw::Ping(_) | Raw::Pong(_) | Raw::Frame(_)) => return Some(Ok(None)),
            Err(_) if self.is_closing => return None,
            Err(error) => return Some(Err(error).context(|| "receive a WebSocket message")),
        };
        Some(Ok(Some(message)))
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("websocket::Sender")
    }
}
impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("websocket::Receiver")
    }
}

/// Binary messages as a byte stream. Two tasks move the bytes, each through a bounded body.
struct MessageStream {
    reader: crate::body::Reader,
    writer: Option<crate::body::Sender>,
    _receiving: rt::Task<()>,
}

/// Bytes that wait in either direction, and the most that goes into one message.
const STREAM_BUFFERED_MAX_BYTES: usize = 32 * 1024;

impl MessageStream {
    fn new(socket: WebSocket) -> MessageStream {
        let WebSocket { mut sender, mut receiver } = socket;
        let (mut incoming, reading) = crate::body::Body::channel(STREAM_BUFFERED_MAX_BYTES);
        let (writer, mut outgoing) = crate::body::Body::channel(STREAM_BUFFERED_MAX_BYTES);
        let receiving = rt::spawn(async move {
            while let Some(message) = receiver.next().await {
                match message {
                    Ok(message) => {
                        if incoming.send(message.into_bytes()).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => return incoming.fail(error),
                }
            }
        });
        rt::spawn(async move {
            while let Some(Ok(chunk)) = outgoing.next().await {
                if sender.send(Message::Binary(chunk.into_vec())).await.is_err() {
                    return;
                }
            }
            let _ = sender.close().await;
        })
        .detach();
        MessageStream { reader: reading.reader(), writer: Some(writer), _receiving: receiving }
    }
}

impl rt::io::AsyncRead for MessageStream {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut [u8],
    ) -> Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl rt::io::AsyncWrite for MessageStream {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        crate::io::poll_write_to(self.writer.as_mut(), cx, buf)
    }
    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        // The sending task flushes after each message.
        Poll::Ready(Ok(()))
    }
    fn poll_close(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.writer = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_key_of_the_rfc() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
