//! Copies of requests for services that are only to see them: their answers are nobody's.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use http::body::{Sender, Source};
use http::{Body, Chunk, Headers, Peer, Request};
use stdx::{Error, Result};

use crate::forward::{self, Passed};
use crate::live::Live;
use crate::passage::Flight;

/// Copies under way.
const COPIES_MAX: usize = 128;
/// Of a body that streams by, this much waits for a mirror that is slower; a copy that lags more is broken off.
const BEHIND_MAX_BYTES: usize = 256 << 10;
/// How long a mirror may take, and how much of its answer is read so that the connection can be used again.
const TAKES_MAX: Duration = Duration::from_secs(30);
const ANSWER_MAX_BYTES: usize = 256 << 10;

/// Sends copies of a request to the services of these numbers, while it goes its own way.
pub(crate) fn send(
    live: &Live,
    numbers: &[usize],
    request: &mut Request,
    passed: &Passed<'_>,
    n_mirrored: &Arc<AtomicUsize>,
) {
    if request.upgrade.is_some() {
        return;
    }
    let mut senders = Vec::new();
    for upstream in numbers.iter().filter_map(|number| live.upstreams.get(*number)) {
        let (flight, n_flying) = Flight::begin(n_mirrored);
        if n_flying > COPIES_MAX {
            continue;
        }
        let mut own = Request {
            method: request.method.clone(),
            target: request.target.clone(),
            authority: request.authority.clone(),
            headers: request.headers.clone(),
            body: Body::empty(),
            version: request.version,
            peer: Peer { place: None, ..request.peer.clone() },
            upgrade: None,
        };
        own.body = match request.body.try_clone() {
            Some(body) => body,
            None => {
                let (sender, body) = Body::channel(BEHIND_MAX_BYTES);
                senders.push(sender);
                Body::from_source(Copied(body), request.body.length())
            }
        };
        forward::prepare(upstream, &mut own, passed, "");
        let upstream = Arc::clone(upstream);
        rt::spawn_named("mirrored request", async move {
            let sent = async {
                let server = upstream.next()?;
                let mut answer = upstream.client().send(&server.endpoint, own).await.ok()?;
                answer.body.read_all(ANSWER_MAX_BYTES).await.ok()
            };
            let _ = rt::timeout(TAKES_MAX, sent).await;
            drop(flight);
        })
        .detach();
    }
    if !senders.is_empty() {
        let length = request.body.length();
        let body = std::mem::take(&mut request.body);
        request.body = Body::from_source(Tee { body, senders, left_bytes: length }, length);
    }
}

/// A body that is copied as it is read.
struct Tee {
    body: Body,
    senders: Vec<Sender>,
    /// Of a length that is known: who has read so much does not ask for the end.
    left_bytes: Option<u64>,
}

/// The copy, which says how long it is as the first one does.
struct Copied(Body);

impl Source for Copied {
    fn poll_chunk(&mut self, cx: &mut Task<'_>) -> Poll<Option<Result<Chunk>>> {
        self.0.poll_chunk(cx)
    }
}

impl Source for Tee {
    fn poll_chunk(&mut self, cx: &mut Task<'_>) -> Poll<Option<Result<Chunk>>> {
        let polled = self.body.poll_chunk(cx);
        match &polled {
            Poll::Ready(Some(Ok(chunk))) => {
                let mut kept = Vec::new();
                for mut sender in self.senders.drain(..) {
                    match sender.try_send(chunk.clone()) {
                        Ok(()) => kept.push(sender),
                        Err(_) => broken(sender),
                    }
                }
                self.senders = kept;
                if let Some(left) = &mut self.left_bytes {
                    *left = left.saturating_sub(chunk.len() as u64);
                    if *left == 0 {
                        // Dropped, each says that this was all.
                        self.senders.clear();
                    }
                }
            }
            Poll::Ready(None) => self.senders.clear(),
            Poll::Ready(Some(Err(_))) => {
                self.senders.drain(..).for_each(broken);
            }
            Poll::Pending => {}
        }
        polled
    }

    fn trailers(&mut self) -> Option<Headers> {
        self.body.trailers()
    }
}

/// A copy that ends here must not look like a whole one.
fn broken(sender: Sender) {
    sender.fail(Error::new("the request was not copied to its end"));
}

impl Drop for Tee {
    fn drop(&mut self) {
        // Nobody read to the end.
        self.senders.drain(..).for_each(broken);
    }
}
