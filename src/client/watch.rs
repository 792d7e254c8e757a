//! A watch over HTTPS: frames or lines taken from an answer that does not end, within their bounds.

use std::time::Duration;

use api::codec::{self, Framed};
use api::{Kind, Lens, Status};
use http::{Body, Response};
use rt::BoxFuture;
use stdx::time::Mono;

use crate::request::{ListOptions, WatchEvent, WatchStream};

/// One event: an object may be as large as a body, and JSON twice as large as protobuf.
const EVENT_MAX_BYTES: usize = 8 << 20;

/// How long a watch is asked to last: between these, so that many do not begin again at once. It ends
/// before a server that hangs, or a history that moves on unseen, does harm.
const TIMEOUT_MIN_SECS: u64 = 300;
const TIMEOUT_SPREAD_SECS: u64 = 300;

/// How much later than asked a server may end it. (A peer that is gone is noticed much sooner: by
/// HTTP/2's PING within 45 s, by TCP's keep-alive within two minutes.)
const GRACE: Duration = Duration::from_secs(30);

/// A running watch.
pub(crate) struct Stream {
    kind: &'static Kind,
    body: Body,
    frames: Frames,
    deadline: Mono,
    ended: bool,
}

/// The bytes that have come, and how they are cut.
#[derive(Default)]
struct Frames {
    is_protobuf: bool,
    bytes: Vec<u8>,
    /// What is handed out already.
    taken: usize,
    /// Where no end of line was found yet.
    searched: usize,
}

impl Stream {
    /// Chooses how long the watch lasts, unless the caller did.
    pub(crate) fn settle_timeout(options: &mut ListOptions) -> Duration {
        let secs = *options
            .timeout_secs
            .get_or_insert_with(|| TIMEOUT_MIN_SECS + rt::random_u64() % TIMEOUT_SPREAD_SECS);
        Duration::from_secs(secs)
    }

    /// Reads the events of an answer, for at most `lasts`.
    pub(crate) fn new(kind: &'static Kind, response: Response, lasts: Duration) -> Stream {
        let media = response.headers.get("content-type").unwrap_or("");
        let is_protobuf = media.starts_with("application/vnd.kubernetes.protobuf");
        Stream {
            kind,
            body: response.body,
            frames: Frames { is_protobuf, ..Frames::default() },
            deadline: rt::now().mono + lasts + GRACE,
            ended: false,
        }
    }

    async fn step(&mut self) -> Option<Result<WatchEvent, Status>> {
        while !self.ended {
            match self.frames.next() {
                Ok(Some(frame)) => {
                    let event = event(self.kind, frame);
                    self.ended = event.is_err();
                    return Some(event);
                }
                Ok(None) => {}
                Err(error) => {
                    self.ended = true;
                    return Some(Err(Status::internal(error)));
                }
            }
            let left = self.deadline.since(rt::now().mono);
            match rt::timeout(left, self.body.next()).await {
                Ok(Some(Ok(chunk))) => self.frames.push(&chunk),
                // It goes on from where it was: that is the caller's to ask for.
                Ok(Some(Err(error))) => {
                    log::debug!("watch {}: {error}", self.kind.plural);
                    self.ended = true;
                }
                Ok(None) | Err(rt::Elapsed) => self.ended = true,
            }
        }
        // The connection goes back, or ends.
        self.body = Body::empty();
        None
    }
}

impl WatchStream for Stream {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<WatchEvent, Status>>> {
        Box::pin(self.step())
    }
}

impl Frames {
    fn push(&mut self, chunk: &[u8]) {
        // What was handed out makes room first, so that the buffer is as large as one event and a chunk.
        self.bytes.drain(..self.taken);
        self.searched = self.searched.saturating_sub(self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(chunk);
    }

    /// The next whole event.
    fn next(&mut self) -> stdx::Result<Option<Framed<'_>>> {
        let too_large =
            || stdx::Error::new(format!("a watch event is larger than {EVENT_MAX_BYTES} bytes"));
        if self.is_protobuf {
            let rest = &self.bytes[self.taken..];
            let Some((head, rest)) = rest.split_first_chunk::<4>() else { return self.quiet() };
            let length = usize::try_from(u32::from_be_bytes(*head)).unwrap_or(usize::MAX);
            if length > EVENT_MAX_BYTES {
                return Err(too_large());
            }
            if rest.len() < length {
                return Ok(None);
            }
            let start = self.taken + 4;
            self.taken = start + length;
            return codec::watch_frame(&self.bytes[start..start + length]).map(Some);
        }
        loop {
            let from = self.searched.max(self.taken);
            let Some(end) = self.bytes[from..].iter().position(|byte| *byte == b'\n') else {
                self.searched = self.bytes.len();
                if self.bytes.len() - self.taken > EVENT_MAX_BYTES {
                    return Err(too_large());
                }
                return self.quiet();
            };
            let (start, end) = (self.taken, from + end);
            self.taken = end + 1;
            if self.bytes[start..end].iter().any(|byte| !byte.is_ascii_whitespace()) {
                return codec::watch_line(&self.bytes[start..end]).map(Some);
            }
        }
    }

    /// A watch that waits holds no buffer.
    fn quiet(&mut self) -> stdx::Result<Option<Framed<'_>>> {
        if self.taken == self.bytes.len() {
            self.bytes = Vec::new();
            (self.taken, self.searched) = (0, 0);
        }
        Ok(None)
    }
}

fn event(kind: &'static Kind, frame: Framed<'_>) -> Result<WatchEvent, Status> {
    if frame.event() == "ERROR" {
        let unread =
            || Status::internal("the server ended a watch with an error that cannot be read");
        return Err(frame.status().unwrap_or_else(unread));
    }
    let object = frame.object(kind).map_err(Status::internal)?;
    Ok(match frame.event() {
        "ADDED" => WatchEvent::Added(object),
        "MODIFIED" => WatchEvent::Modified(object),
        "DELETED" => WatchEvent::Deleted(object),
        "BOOKMARK" => {
            let annotations = object.tree();
            let annotations = annotations.at("metadata.annotations");
            let end = annotations.get("k8s.io/initial-events-end").and_then(api::Value::as_str);
            WatchEvent::Bookmark { revision: object.revision(), initial_end: end == Some("true") }
        }
        other => return Err(Status::internal(format!("a watch event of type {other:?}"))),
    })
}
