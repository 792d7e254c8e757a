//! Compressed answers.

use std::task::{Context, Poll};

use http::Chunk;
use http::body::Source;
use wire::gzip_encode::Encoder;

use super::pieces::Pieces;

/// Smaller answers are not worth the work, as upstream has it.
pub(crate) const THRESHOLD_BYTES: usize = 128 * 1024;

/// A whole answer at once.
pub(crate) fn whole(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() / 4);
    Encoder::new().push(bytes, true, &mut out);
    out
}

/// A long list, compressed as it is read.
#[derive(Debug)]
pub(crate) struct Stream {
    pieces: Pieces,
    encoder: Encoder,
    ended: bool,
}

impl Stream {
    pub(crate) fn new(pieces: Pieces) -> Stream {
        Stream { pieces, encoder: Encoder::new(), ended: false }
    }
}

impl Source for Stream {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<stdx::Result<Chunk>>> {
        let mut out = Vec::new();
        while out.is_empty() {
            if self.ended {
                return Poll::Ready(None);
            }
            let piece = self.pieces.next_piece();
            self.ended = piece.is_none();
            self.encoder.push(&piece.unwrap_or_default(), self.ended, &mut out);
        }
        Poll::Ready(Some(Ok(out.into())))
    }
}
