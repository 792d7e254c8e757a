//! Answers that stream, over a WebSocket where a client asks for one: logs and watches.
//!
//! Source: k8s.io/apimachinery/pkg/util/httpstream/wsstream, apiserver's `WatchServer.HandleWS`.

use http::websocket::{self, Accepted, Message, WebSocket};
use http::{Body, Request, Response};

/// Bytes in messages of text, for clients that read no others.
const BASE64: &str = "base64.binary.k8s.io";
const BINARY: &str = "binary.k8s.io";
/// A token comes as a subprotocol of this prefix; it is never agreed to.
const BEARER: &str = "base64url.bearer.authorization.k8s.io.";

/// What a client may send: nothing is done with it.
const INCOMING_MAX_BYTES: usize = 4 * 1024;

/// An event that is longer ends its watch.
const EVENT_MAX_BYTES: usize = 16 * 1024 * 1024;

/// How a body becomes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frames {
    /// As it comes, after one empty message that says the stream has begun (logs).
    Bytes,
    /// One line, one message of text (watches in JSON).
    Lines,
    /// After each length of four bytes one binary message (watches in protobuf).
    Lengths,
}

/// Answers `request` with a WebSocket that carries the body of `response`.
pub(crate) fn answer(mut request: Request, response: Response, frames: Frames) -> Response {
    let offered: Vec<String> = request
        .headers
        .get_all("sec-websocket-protocol")
        .flat_map(|value| value.split(','))
        .map(|protocol| protocol.trim().to_owned())
        .filter(|protocol| !protocol.is_empty() && !protocol.starts_with(BEARER))
        .collect();
    request.headers.remove("sec-websocket-protocol");
    if !offered.is_empty() {
        request.headers.set("sec-websocket-protocol", offered.join(", "));
    }
    // A watch has one protocol, whatever its name.
    let own: Vec<&str> = match frames {
        Frames::Bytes => vec![BINARY, BASE64],
        Frames::Lines | Frames::Lengths => offered.iter().map(String::as_str).collect(),
    };
    match websocket::accept(&mut request, &own, INCOMING_MAX_BYTES) {
        Err(refusal) => refusal,
        Ok((upgrading, accepted)) => {
            rt::spawn_named("websocket", carry(accepted, response.body, frames)).detach();
            upgrading
        }
    }
}

async fn carry(accepted: Accepted, body: Body, frames: Frames) {
    let text = accepted.protocol.as_deref() == Some(BASE64);
    // A client that went away meanwhile needs no answer.
    let Ok(WebSocket { sender, mut receiver }) = accepted.stream().await else { return };
    let sending = send(sender, body, frames, text);
    let receiving = async { while let Some(Ok(_)) = receiver.next().await {} };
    rt::future::or(sending, receiving).await;
}

async fn send(mut sender: websocket::Sender, mut body: Body, frames: Frames, text: bool) {
    let bytes = |bytes: Vec<u8>| match text {
        true => Message::Text(wire::base64::encode(&bytes)),
        false => Message::Binary(bytes),
    };
    if frames == Frames::Bytes && sender.send(bytes(Vec::new())).await.is_err() {
        return;
    }
    let mut waiting: Vec<u8> = Vec::new();
    while let Some(Ok(chunk)) = body.next().await {
        if frames == Frames::Bytes {
            if sender.send(bytes(chunk.into_vec())).await.is_err() {
                return;
            }
            continue;
        }
        waiting.extend_from_slice(&chunk);
        while let Some(message) = next_event(&mut waiting, frames) {
            if sender.send(message).await.is_err() {
                return;
            }
        }
        if waiting.len() > EVENT_MAX_BYTES {
            break;
        }
    }
    // The other end may be gone already.
    let _ = sender.close().await;
}

/// Takes a whole event out of what has come.
fn next_event(waiting: &mut Vec<u8>, frames: Frames) -> Option<Message> {
    if frames == Frames::Lines {
        let end = waiting.iter().position(|byte| *byte == b'\n')? + 1;
        let line: Vec<u8> = waiting.drain(..end).collect();
        return Some(Message::Text(String::from_utf8_lossy(&line).into_owned()));
    }
    let length = u32::from_be_bytes(waiting.first_chunk().copied()?);
    let end = usize::try_from(length).ok()?.checked_add(4)?;
    if waiting.len() < end {
        return None;
    }
    let event: Vec<u8> = waiting.drain(..end).skip(4).collect();
    Some(Message::Binary(event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_one_by_one() {
        let mut lines = b"{\"a\":1}\n{\"b\":2}\n{".to_vec();
        let text = |text: &str| Some(Message::Text(text.to_owned()));
        assert_eq!(next_event(&mut lines, Frames::Lines), text("{\"a\":1}\n"));
        assert_eq!(next_event(&mut lines, Frames::Lines), text("{\"b\":2}\n"));
        assert_eq!(next_event(&mut lines, Frames::Lines), None);
        assert_eq!(lines, b"{");
        let mut framed = vec![0, 0, 0, 2, 7, 8, 0, 0, 0, 1];
        assert_eq!(next_event(&mut framed, Frames::Lengths), Some(Message::Binary(vec![7, 8])));
        assert_eq!(next_event(&mut framed, Frames::Lengths), None);
    }
}
