//! Several byte streams in one WebSocket, told apart by the first byte of each message (`*.channel.k8s.io`).

use std::task::Poll;

use rt::BoxFuture;
use rt::future::poll_fn;
use stdx::Result;
use wire::base64;

use super::BUFFERED_MAX_BYTES;
use crate::body::{Body, Chunk, Sender};
use crate::io::{BodyWriter, BoxRead, BoxWrite};
use crate::websocket::{Message, WebSocket};

/// Says in v5 that a channel has ended; the next byte names it.
const CLOSE: u8 = 255;

/// How channels are written into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    /// Text messages: a digit, then base64.
    pub(super) is_base64: bool,
    /// A client tells the end of its input.
    pub(super) has_close: bool,
}

impl Format {
    /// The format of a subprotocol.
    pub(super) fn of(protocol: &str) -> Format {
        Format { is_base64: protocol.contains("base64."), has_close: protocol.starts_with("v5.") }
    }

    fn encode(self, channel: u8, data: &[u8]) -> Message {
        if self.is_base64 {
            let digit = char::from(b'0'.saturating_add(channel));
            return Message::Text(format!("{digit}{}", base64::encode(data)));
        }
        let mut bytes = Vec::with_capacity(1 + data.len());
        bytes.push(channel);
        bytes.extend_from_slice(data);
        Message::Binary(bytes)
    }

    fn decode(self, message: Message) -> Option<(u8, Vec<u8>)> {
        if self.is_base64 {
            let bytes = message.into_bytes();
            let (&digit, text) = bytes.split_first()?;
            let text = std::str::from_utf8(text).ok()?;
            return Some((digit.checked_sub(b'0')?, base64::decode(text)?));
        }
        let mut bytes = message.into_bytes();
        let channel = *bytes.first()?;
        bytes.remove(0);
        Some((channel, bytes))
    }
}

/// The channels of one WebSocket, to be set up before it is started.
pub(super) struct Channels {
    format: Format,
    /// What the peer sends us, by channel.
    incoming: Vec<(u8, Option<Sender>)>,
    /// What we send, by channel. A later group starts when all earlier ones have ended.
    outgoing: Vec<Outgoing>,
}

struct Outgoing {
    /// `None` for what only keeps the connection open.
    channel: Option<u8>,
    group: u8,
    body: Body,
    is_ended: bool,
}

impl Channels {
    pub(super) fn new(format: Format) -> Channels {
        Channels { format, incoming: Vec::new(), outgoing: Vec::new() }
    }

    /// A channel that the peer writes.
    pub(super) fn read(&mut self, channel: u8) -> BoxRead {
        let (sender, body) = Body::incoming(BUFFERED_MAX_BYTES);
        self.incoming.push((channel, Some(sender)));
        Box::new(body.reader())
    }

    /// A channel that we write, once all of the groups before have ended.
    pub(super) fn write(&mut self, channel: u8, group: u8) -> BoxWrite {
        let (sender, body) = Body::channel(BUFFERED_MAX_BYTES);
        self.outgoing.push(Outgoing { channel: Some(channel), group, body, is_ended: false });
        Box::new(BodyWriter(Some(sender)))
    }

    /// Keeps the connection open until it is dropped.
    pub(super) fn hold(&mut self) -> Sender {
        let (sender, body) = Body::channel(1);
        self.outgoing.push(Outgoing { channel: None, group: 0, body, is_ended: false });
        sender
    }

    /// Moves messages until everything we have to say is said, or the peer is gone; then closes.
    /// A server gives a `hello`: an empty message on that channel comes first, since clients wait for
    /// it. Returns what resolves when the connection is over.
    pub(super) fn start(self, socket: WebSocket, hello: Option<u8>) -> BoxFuture<'static, ()> {
        let Channels { format, incoming, outgoing } = self;
        let WebSocket { mut sender, mut receiver } = socket;
        let (over, is_over) = rt::channel::bounded::<()>(1);
        rt::spawn(async move {
            let _over = over;
            let mut incoming = incoming;
            let receive = async {
                while let Some(message) = receiver.next().await {
                    let Ok(message) = message else { return };
                    deliver(format, &mut incoming, message).await;
                }
                // The peer closed properly: what it sent was all.
                for (_, sender) in &mut incoming {
                    if let Some(sender) = sender.take() {
                        sender.finish(Default::default());
                    }
                }
            };
            let send = async {
                let mut outgoing = outgoing;
                let said = async {
                    if let Some(channel) = hello {
                        sender.send(format.encode(channel, &[])).await?;
                    }
                    let tells_end = format.has_close && hello.is_none();
                    send_all(format, tells_end, &mut sender, &mut outgoing).await?;
                    sender.close().await
                };
                let result: Result<()> = said.await;
                if let Err(error) = result {
                    log::debug!("WebSocket channels: {error}");
                    return;
                }
                // The peer answers our close; then `receive` ends.
                rt::sleep(std::time::Duration::from_secs(5)).await;
            };
            rt::future::or(receive, send).await;
        })
        .detach();
        Box::pin(async move {
            // Nothing is ever sent; the task's end closes the channel.
            let _ = is_over.recv().await;
        })
    }
}

async fn deliver(format: Format, incoming: &mut [(u8, Option<Sender>)], message: Message) {
    let Some((channel, data)) = format.decode(message) else { return };
    if channel == CLOSE && format.has_close {
        let ended = data.first().copied();
        if let Some((_, sender)) = incoming.iter_mut().find(|(c, _)| Some(*c) == ended)
            && let Some(sender) = sender.take()
        {
            sender.finish(Default::default());
        }
        return;
    }
    if let Some((_, Some(sender))) = incoming.iter_mut().find(|(c, _)| *c == channel) {
        // Data that nobody reads any more is dropped.
        let _ = sender.send(data).await;
    }
}

async fn send_all(
    format: Format,
    tells_end: bool,
    sender: &mut crate::websocket::Sender,
    outgoing: &mut [Outgoing],
) -> Result<()> {
    while let Some((channel, chunk)) = next_chunk(outgoing).await {
        match chunk {
            Some(chunk) => sender.send(format.encode(channel, &chunk)).await?,
            None if tells_end => {
                sender.send(Message::Binary(vec![CLOSE, channel])).await?;
            }
            None => {}
        }
    }
    Ok(())
}

/// The next thing to send: data of a channel, or its end; `None` when all have ended.
async fn next_chunk(outgoing: &mut [Outgoing]) -> Option<(u8, Option<Chunk>)> {
    poll_fn(|cx| {
        let group = outgoing.iter().filter(|out| !out.is_ended).map(|out| out.group).min();
        let Some(group) = group else { return Poll::Ready(None) };
        for out in outgoing.iter_mut().filter(|out| out.group == group && !out.is_ended) {
            match out.body.poll_chunk(cx) {
                Poll::Pending => continue,
                Poll::Ready(Some(Ok(chunk))) => {
                    if let Some(channel) = out.channel {
                        return Poll::Ready(Some((channel, Some(chunk))));
                    }
                }
                Poll::Ready(_) => out.is_ended = true,
            }
            match out.channel {
                Some(channel) => return Poll::Ready(Some((channel, None))),
                // Look again: this may have been the last of its group.
                None => cx.waker().wake_by_ref(),
            }
        }
        Poll::Pending
    })
    .await
}
