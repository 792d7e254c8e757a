//! Hostile and careless peers: raw frames against a real server connection.

use std::sync::Arc;
use std::time::Duration;

use rt::BoxFuture;
use rt::future::zip;
use rt::io::{AsyncReadExt, AsyncWriteExt};
use rt::net::UnixStream;
use wire::headers::Headers;
use wire::hpack::Encoder;
use wire::http2::{self as codec, Code, Frame, PREFACE};

use crate::message::{Peer, Request, Response};
use crate::server::{Limits, Server};

fn service(request: Request) -> BoxFuture<'static, Response> {
    Box::pin(async move {
        if request.path() == "/never" {
            rt::future::pending::<()>().await;
        }
        if request.path() == "/slow" {
            rt::sleep(Duration::from_millis(100)).await;
        }
        Response::new(200).body("done")
    })
}

fn greeting() -> Vec<u8> {
    let mut out = PREFACE.to_vec();
    codec::emit_settings(&mut out, &[]);
    out
}

fn request_block(encoder: &mut Encoder, path: &str) -> Vec<u8> {
    let fields = Headers::new()
        .with(":method", "GET")
        .with(":scheme", "http")
        .with(":path", path)
        .with(":authority", "a");
    let mut block = Vec::new();
    encoder.encode(&fields, &mut block);
    block
}

/// Sends bytes and returns what the server said until it closed, as short words.
fn talk(input: Vec<u8>) -> Vec<String> {
    rt::block_on(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = Server::new(Arc::new(service), Limits::default());
        let client = async move {
            let (mut read, mut write) = rt::io::split(ours);
            let send = async {
                // The server may hang up amid all this.
                let _ = write.write_all(&input).await;
            };
            let mut said = Vec::new();
            let receive = async {
                let _ = read.read_to_end(&mut said).await;
            };
            let both = zip(send, receive);
            rt::timeout(Duration::from_secs(10), both).await.expect("the server hangs up");
            words(&said)
        };
        zip(server.serve_stream(Box::new(theirs), Peer::default()), client).await.1
    })
}

fn words(mut said: &[u8]) -> Vec<String> {
    let mut words = Vec::new();
    while let Some((frame, length)) = codec::parse(said) {
        words.push(match frame.unwrap() {
            Frame::GoAway { code, .. } => format!("GOAWAY {code}"),
            Frame::Reset { code, .. } => format!("RST {code}"),
            other => format!("{other:?}").split([' ', '{']).next().unwrap_or("").to_owned(),
        });
        said = &said[length..];
    }
    words
}

fn is_calmed(words: &[String]) -> bool {
    words.last().is_some_and(|word| word == "GOAWAY ENHANCE_YOUR_CALM")
}

#[test]
fn rapid_resets_end_the_connection() {
    let (mut input, mut encoder) = (greeting(), Encoder::new());
    for id in (1..10_000u32).step_by(2) {
        codec::emit_headers(&mut input, id, &request_block(&mut encoder, "/slow"), true);
        codec::emit_reset(&mut input, id, Code::CANCEL);
    }
    assert!(is_calmed(&talk(input)));
}

#[test]
fn making_us_reset_ends_the_connection() {
    let (mut input, mut encoder) = (greeting(), Encoder::new());
    for id in (1..10_000u32).step_by(2) {
        codec::emit_headers(&mut input, id, &request_block(&mut encoder, "/slow"), true);
        codec::emit_data(&mut input, id, b"after the end", true);
    }
    assert!(is_calmed(&talk(input)));
}

#[test]
fn endless_header_blocks_end_the_connection() {
    let mut input = greeting();
    // HEADERS without END_HEADERS, and CONTINUATION frames that never end either.
    input.extend_from_slice(&[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82]);
    for _ in 0..100_000 {
        input.extend_from_slice(&[0, 0, 0, 9, 0, 0, 0, 0, 1]);
    }
    assert!(is_calmed(&talk(input)));
}

type Flood<'a> = &'a dyn Fn(&mut Vec<u8>);

#[test]
fn floods_of_frames_that_do_nothing_end_the_connection() {
    let ping = |out: &mut Vec<u8>| codec::emit_ping(out, false, [0; 8]);
    let settings = |out: &mut Vec<u8>| codec::emit_settings(out, &[(3, 5)]);
    let empty_data = |out: &mut Vec<u8>| codec::emit_data(out, 1, &[], false);
    let window = |out: &mut Vec<u8>| codec::emit_window_update(out, 1, 1);
    let floods: [Flood<'_>; 4] = [&ping, &settings, &empty_data, &window];
    for flood in floods {
        let (mut input, mut encoder) = (greeting(), Encoder::new());
        codec::emit_headers(&mut input, 1, &request_block(&mut encoder, "/slow"), false);
        (0..100_000).for_each(|_| flood(&mut input));
        assert!(is_calmed(&talk(input)));
    }
}

#[test]
fn a_peer_that_never_reads_stops_being_read() {
    rt::block_on(async {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let server = Server::new(Arc::new(service), Limits::default());
        let serving = rt::spawn(async move {
            server.serve_stream(Box::new(theirs), Peer::default()).await;
        });
        let mut input = greeting();
        (0..9_000).for_each(|_| codec::emit_ping(&mut input, false, [0; 8]));
        let mut encoder = Encoder::new();
        for round in 0..4u32 {
            // A request now and then keeps the flood counter down.
            let block = request_block(&mut encoder, "/");
            codec::emit_headers(&mut input, 1 + 2 * round, &block, true);
            (0..9_000).for_each(|_| codec::emit_ping(&mut input, false, [0; 8]));
        }
        // 765 KB of pings: the socket buffers, our read-ahead and the control bound are less.
        let write = rt::timeout(Duration::from_millis(500), ours.write_all(&input)).await;
        assert!(write.is_err(), "everything was taken from a peer that takes nothing");
        drop(serving);
    });
}

#[test]
fn streams_beyond_the_limit_are_refused_and_others_live() {
    let (mut input, mut encoder) = (greeting(), Encoder::new());
    let n = Limits::default().streams_max + 5;
    for idx in 0..n {
        let block = request_block(&mut encoder, "/slow");
        codec::emit_headers(&mut input, 2 * idx + 1, &block, true);
    }
    codec::emit_goaway(&mut input, 0, Code::NO_ERROR, "");
    let words = talk(input);
    assert_eq!(words.iter().filter(|word| *word == "RST REFUSED_STREAM").count(), 5);
    assert_eq!(words.iter().filter(|word| *word == "Headers").count(), n as usize - 5);
}

#[test]
fn a_graceful_end_finishes_what_is_in_flight() {
    rt::block_on(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = Server::new(Arc::new(service), Limits::default());
        let serving = server.clone();
        let serve = rt::spawn(async move {
            serving.serve_stream(Box::new(theirs), Peer::default()).await;
        });
        let (mut read, mut write) = rt::io::split(ours);
        let mut input = greeting();
        codec::emit_headers(&mut input, 1, &request_block(&mut Encoder::new(), "/slow"), true);
        write.write_all(&input).await.unwrap();
        let mut said = vec![0; 9];
        read.read_exact(&mut said).await.unwrap();
        let shutdown = server.shutdown(Duration::from_secs(5));
        let client = async {
            let mut buffer = [0; 1024];
            loop {
                let n = read.read(&mut buffer).await.unwrap();
                if n == 0 {
                    return words(&said);
                }
                said.extend_from_slice(&buffer[..n]);
                // Answer the PING that measures the round trip.
                if words(&said).iter().any(|word| word == "Ping") {
                    let mut pong = Vec::new();
                    codec::emit_ping(&mut pong, true, *b"draining");
                    let _ = write.write_all(&pong).await;
                }
            }
        };
        let (words, ()) = zip(client, shutdown).await;
        let tail: Vec<&str> = words.iter().map(String::as_str).collect();
        assert!(tail.contains(&"Headers") && tail.contains(&"Data"), "{tail:?}");
        assert_eq!(tail.iter().filter(|word| **word == "GOAWAY NO_ERROR").count(), 2, "{tail:?}");
        serve.await;
    });
}

/// Sends bytes and then nothing; the server must end the connection by itself.
fn then_silence(input: Vec<u8>) -> Vec<u8> {
    rt::block_on(async {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let limits = Limits {
            idle_max: Duration::from_millis(60),
            ping_after: Duration::from_millis(60),
            header_read_max: Duration::from_millis(60),
            ..Limits::default()
        };
        let server = Server::new(Arc::new(service), limits);
        let client = async move {
            ours.write_all(&input).await.unwrap();
            let mut said = Vec::new();
            let read = rt::timeout(Duration::from_secs(10), ours.read_to_end(&mut said));
            read.await.expect("the server hangs up").unwrap();
            said
        };
        zip(server.serve_stream(Box::new(theirs), Peer::default()), client).await.1
    })
}

#[test]
fn silent_peers_are_let_go() {
    let idle = words(&then_silence(greeting()));
    assert!(idle.contains(&"GOAWAY NO_ERROR".to_owned()), "{idle:?}");
    // With a request whose body never comes, the peer is asked whether it lives.
    let mut input = greeting();
    codec::emit_headers(&mut input, 1, &request_block(&mut Encoder::new(), "/never"), false);
    let asked = words(&then_silence(input));
    assert!(asked.contains(&"Ping".to_owned()), "{asked:?}");
    // A preface that is never finished might as well be a late HTTP/1 head.
    assert!(then_silence(PREFACE[..10].to_vec()).starts_with(b"HTTP/1.1 408"));
}

#[test]
fn a_block_that_grows_beyond_the_bound_is_answered_431() {
    let (mut input, mut encoder) = (greeting(), Encoder::new());
    let mut block = request_block(&mut encoder, "/");
    // Each repetition is one byte on the wire.
    let large = Headers::new().with("x", vec![b'a'; 1500]);
    (0..60).for_each(|_| encoder.encode(&large, &mut block));
    codec::emit_headers(&mut input, 1, &block, true);
    codec::emit_headers(&mut input, 3, &request_block(&mut encoder, "/"), true);
    codec::emit_goaway(&mut input, 0, Code::NO_ERROR, "");
    let words = talk(input);
    let tail = words.iter().map(String::as_str).filter(|word| !word.starts_with("Sett"));
    assert_eq!(
        tail.collect::<Vec<_>>(),
        ["WindowUpdate", "Headers", "RST NO_ERROR", "Headers", "Data"]
    );
}
