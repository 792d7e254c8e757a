//! Answers as gzip, piece by piece as they come.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context as Task, Poll};

use http::body::Source;
use http::{Body, Chunk, Headers, Method, Request, Response};
use routes::Compress;
use stdx::Result;
use wire::gzip_encode::Encoder;

use crate::passage::Flight;

/// Answers that are compressed at once: each takes a third of a megabyte. Others go as they are.
const AT_ONCE_MAX: usize = 64;

/// Whether a client takes answers as gzip.
pub(crate) fn takes_gzip(request: &Request) -> bool {
    if request.method == Method::Head || request.headers.contains("range") {
        return false;
    }
    let codings = request.headers.get_all("accept-encoding").flat_map(|line| line.split(','));
    let mut takes = None;
    for coding in codings {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        let quality = quality.trim().strip_prefix("q=").and_then(|q| q.trim().parse::<f32>().ok());
        let fine = quality.is_none_or(|q| q > 0.0);
        match name.trim() {
            "gzip" => return fine,
            "*" => takes = Some(fine),
            _ => {}
        }
    }
    takes.unwrap_or(false)
}

/// Compresses an answer, if it is one that is worth it.
pub(crate) fn compress(compress: &Compress, response: &mut Response, under_way: &Arc<AtomicUsize>) {
    let headers = &response.headers;
    let content = headers.get("content-type").unwrap_or("").to_ascii_lowercase();
    let kind = content.split(';').next().unwrap_or("").trim();
    let is_in = |list: &[String]| list.iter().any(|one| one == kind || *one == content);
    let fit = matches!(response.status, 200..=203 | 205 | 207..=299 | 400..=599)
        && !headers.contains("content-encoding")
        && !headers.contains("content-range")
        && !kind.starts_with("application/grpc")
        && !is_in(&compress.excluded)
        && (compress.included.is_empty() || is_in(&compress.included));
    if !fit {
        return;
    }
    response.headers.append("vary", "Accept-Encoding");
    let length = response.body.length();
    if length.is_some_and(|length| length < compress.min_bytes.max(1)) {
        return;
    }
    let (flight, n_flying) = Flight::begin(under_way);
    if n_flying > AT_ONCE_MAX {
        return;
    }
    response.headers.set("content-encoding", "gzip");
    response.headers.remove("content-length");
    response.headers.remove("accept-ranges");
    let body = std::mem::take(&mut response.body);
    let source = Packed { body, encoder: Encoder::new(), waiting: false, ended: false };
    response.body = Body::from_source(source, None).holding(flight);
}

/// What is sent on at once; less waits for what is there already.
const PIECE_BYTES: usize = 1 << 10;

struct Packed {
    body: Body,
    encoder: Encoder,
    /// The encoder may hold what the client could have.
    waiting: bool,
    ended: bool,
}

impl Source for Packed {
    fn poll_chunk(&mut self, cx: &mut Task<'_>) -> Poll<Option<Result<Chunk>>> {
        let mut out = Vec::new();
        while !self.ended {
            match self.body.poll_chunk(cx) {
                Poll::Ready(Some(Ok(chunk))) => {
                    self.encoder.push(&chunk, false, &mut out);
                    self.waiting = true;
                    if out.len() >= PIECE_BYTES {
                        return Poll::Ready(Some(Ok(out.into())));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => {
                    self.ended = true;
                    self.encoder.push(&[], true, &mut out);
                    return Poll::Ready(Some(Ok(out.into())));
                }
                Poll::Pending if self.waiting => {
                    self.waiting = false;
                    self.encoder.flush(&mut out);
                    return Poll::Ready(Some(Ok(out.into())));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(None)
    }

    fn trailers(&mut self) -> Option<Headers> {
        self.body.trailers()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(accepts: &str) -> bool {
        takes_gzip(&Request::get("/").header("accept-encoding", accepts))
    }

    #[test]
    fn who_takes_gzip() {
        assert!(asked("br, gzip") && asked("*") && asked("gzip;q=0.5"));
        assert!(!asked("br") && !asked("gzip;q=0, *") && !asked("") && !asked("*;q=0"));
        assert!(!takes_gzip(&Request::new(Method::Head, "/").header("accept-encoding", "gzip")));
    }

    fn packed(kind: &str, bytes: usize, own: &Compress) -> Response {
        let body = "a".repeat(bytes);
        let mut response = Response::new(200).header("content-type", kind).body(body);
        compress(own, &mut response, &Arc::default());
        response
    }

    #[test]
    fn what_is_worth_it() {
        let own = |excluded: &[&str], included: &[&str]| {
            let list = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
            Compress { excluded: list(excluded), included: list(included), min_bytes: 10 }
        };
        let is = |response: &Response| response.headers.contains("content-encoding");
        assert!(is(&packed("text/plain", 10, &own(&[], &[]))));
        assert!(!is(&packed("text/plain", 9, &own(&[], &[]))));
        assert!(!is(&packed("text/plain; charset=utf-8", 10, &own(&["text/plain"], &[]))));
        assert!(!is(&packed("image/png", 10, &own(&[], &["text/plain"]))));
        assert!(!is(&packed("application/grpc+proto", 10, &own(&[], &[]))));
        let mut body = packed("text/plain", 100_000, &own(&[], &[])).body;
        assert_eq!(body.length(), None);
        let bytes = rt::block_on(body.read_all(4096)).unwrap();
        let mut plain = String::new();
        let mut reader = wire::decompress::Decompressor::new(bytes.as_slice()).unwrap();
        std::io::Read::read_to_string(&mut reader, &mut plain).unwrap();
        assert_eq!(plain, "a".repeat(100_000));
    }

    #[test]
    fn what_came_is_not_held_back() {
        let own = Compress { excluded: Vec::new(), included: Vec::new(), min_bytes: 1024 };
        rt::block_on(async {
            let (mut sender, body) = Body::channel(1 << 10);
            let mut response = Response::new(200).body_stream(body);
            compress(&own, &mut response, &Arc::default());
            sender.send("first").await.unwrap();
            let first = response.body.next().await.unwrap().unwrap();
            assert!(first.len() > 10, "the head of the stream, and what was sent");
            drop(sender);
            assert!(response.body.read_all(100).await.is_ok());
        });
    }
}
