//! Bodies that may be so large and no larger.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as Task, Poll};

use http::body::Source;
use http::{Body, Chunk, Headers};
use stdx::{Error, Result};

/// A body that breaks off beyond its limit, and says so in `exceeded`.
pub(crate) fn limited(body: Body, max_bytes: u64, exceeded: &Arc<AtomicBool>) -> Body {
    let length = body.length();
    let exceeded = Arc::clone(exceeded);
    Body::from_source(Limited { body, left_bytes: max_bytes, exceeded }, length)
}

struct Limited {
    body: Body,
    left_bytes: u64,
    exceeded: Arc<AtomicBool>,
}

impl Source for Limited {
    fn poll_chunk(&mut self, cx: &mut Task<'_>) -> Poll<Option<Result<Chunk>>> {
        let polled = self.body.poll_chunk(cx);
        if let Poll::Ready(Some(Ok(chunk))) = &polled {
            match self.left_bytes.checked_sub(chunk.len() as u64) {
                Some(left) => self.left_bytes = left,
                None => {
                    self.exceeded.store(true, Ordering::Release);
                    return Poll::Ready(Some(Err(Error::new("the body is too large"))));
                }
            }
        }
        polled
    }

    fn trailers(&mut self) -> Option<Headers> {
        self.body.trailers()
    }
}
