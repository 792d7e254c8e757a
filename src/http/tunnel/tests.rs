//! Two ends of a session over a pair of sockets.

use std::time::Duration;

use rt::future::{or, zip};
use rt::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::websocket::Message;

/// An agent that echoes at `echo:1`, never reads at `deaf:1`, and fails at `closed:1`.
struct Echo(Mutex<Vec<Stream>>);

impl Exits for Echo {
    fn allows(&self, network: &str, address: &str) -> bool {
        network == "tcp" && address != "127.0.0.1:22"
    }

    fn lead(&self, address: &str, stream: Stream) {
        match address {
            "deaf:1" => self.0.lock().unwrap().push(stream),
            "closed:1" => stream.fail("connection refused"),
            _ => rt::spawn(async move {
                let (reader, writer) = rt::io::split(stream);
                let _ = crate::io::copy_to_end(reader, writer).await;
            })
            .detach(),
        }
    }
}

async fn sockets() -> (WebSocket, WebSocket) {
    let (a, b) = rt::net::UnixStream::pair().unwrap();
    zip(
        WebSocket::server(Box::new(a), MESSAGE_MAX_BYTES),
        WebSocket::client(Box::new(b), MESSAGE_MAX_BYTES),
    )
    .await
}

/// Runs `test` with a session to an agent.
fn with_agent<T>(test: impl AsyncFnOnce(&Session) -> T) -> T {
    rt::block_on(async {
        let (near, far) = sockets().await;
        let (server, agent) = (Session::new(), Session::new());
        let echo = Echo(Mutex::default());
        let running = async {
            let _ = zip(server.open(near), agent.serve(far, &echo)).await;
            rt::future::pending::<()>().await
        };
        let tested = or(async { Some(test(&server).await) }, async {
            running.await;
            None
        });
        rt::timeout(Duration::from_secs(60), tested).await.expect("in time").unwrap()
    })
}

async fn echoes(stream: &mut Stream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(back, text.as_bytes());
}

#[test]
fn connections_carry_bytes_both_ways_side_by_side() {
    with_agent(async |session| {
        let mut few = session.connect("tcp", "echo:1").unwrap();
        let (mut reader, mut writer) = rt::io::split(session.connect("tcp", "echo:1").unwrap());
        let much = vec![7; 8_000_000];
        let write = async { writer.write_all(&much).await.unwrap() };
        let read = async {
            let mut back = vec![0; much.len()];
            reader.read_exact(&mut back).await.unwrap();
            assert!(back == much);
        };
        let small = async {
            for idx in 0..20 {
                echoes(&mut few, &format!("{idx} beside it")).await;
            }
        };
        zip(zip(write, read), small).await;
    });
}

#[test]
fn refusals_say_why() {
    with_agent(async |session| {
        for (network, address, why) in [
            ("tcp", "127.0.0.1:22", "connect not allowed"),
            ("udp", "echo:1", "connect not allowed"),
            ("tcp", "closed:1", "connection refused"),
        ] {
            let mut stream = session.connect(network, address).unwrap();
            let mut some = [0; 8];
            assert_eq!(stream.read(&mut some).await.unwrap_err().to_string(), why);
        }
        // The session goes on.
        echoes(&mut session.connect("tcp", "echo:1").unwrap(), "still there").await;
    });
}

#[test]
fn who_does_not_read_stops_its_own_connection_only() {
    with_agent(async |session| {
        let mut deaf = session.connect("tcp", "deaf:1").unwrap();
        let mut sent = 0;
        let filling = async {
            while let Ok(n) = deaf.write(&[1; 16 * 1024]).await {
                sent += n;
            }
        };
        assert_eq!(rt::timeout(Duration::from_millis(500), filling).await, Err(rt::Elapsed));
        let bound = state::RECEIVED_MAX_BYTES + state::SEND_BUFFERED_MAX_BYTES;
        assert!((state::PAUSE_BYTES..=bound).contains(&sent), "{sent}");
        echoes(&mut session.connect("tcp", "echo:1").unwrap(), "not stopped").await;
    });
}

#[test]
fn a_tunnel_that_is_cut_ends_what_is_in_it() {
    rt::block_on(async {
        for cut_by_peer in [true, false] {
            let (near, mut far) = sockets().await;
            let server = Session::new();
            let mut stream = server.connect("tcp", "echo:1").unwrap();
            let reading = async {
                let mut some = [0; 8];
                stream.read(&mut some).await.unwrap_err().to_string()
            };
            let cutting = async {
                assert!(far.receiver.next().await.is_some(), "the opening comes");
                if !cut_by_peer {
                    server.end("another took its place");
                }
                (!cut_by_peer).then_some(far)
            };
            let (ended, (why, _far)) = zip(server.open(near), zip(reading, cutting)).await;
            assert!(
                why.starts_with(if cut_by_peer { "tunnel disconnect" } else { "another" }),
                "{why}"
            );
            assert!(cut_by_peer || ended.to_string() == "another took its place", "{ended}");
            assert!(server.connect("tcp", "echo:1").is_err());
        }
    });
}

#[test]
fn a_server_opens_nothing_for_agents() {
    rt::block_on(async {
        let (near, mut far) = sockets().await;
        let server = Session::new();
        let asking = async {
            let connect = b"\x02\x04\x04\0tcp/127.0.0.1:10250".to_vec();
            far.sender.send(Message::Binary(connect)).await.unwrap();
            let answer = far.receiver.next().await.unwrap().unwrap().into_bytes();
            let (id, message) = wire::remotedialer::parse(&answer).unwrap();
            let wants = wire::remotedialer::Message::Error("connect not allowed".into());
            assert_eq!((id, message), (2, wants));
            // What is no message of a tunnel ends it.
            far.sender.send(Message::Text("hello".into())).await.unwrap();
        };
        let (ended, ()) = zip(server.open(near), asking).await;
        assert_eq!(ended.to_string(), "wrong websocket message type");
    });
}

/// Takes what is written, and says nothing.
struct Silent(Arc<Mutex<usize>>);

impl AsyncRead for Silent {
    fn poll_read(self: Pin<&mut Self>, _: &mut Task<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
}

impl AsyncWrite for Silent {
    fn poll_write(self: Pin<&mut Self>, _: &mut Task<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        *self.0.lock().unwrap() += buf.len();
        Poll::Ready(Ok(buf.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_close(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_silent_peer_is_given_up_after_a_minute() {
    for is_agent in [true, false] {
        let end = rt::sim::run(1, 100_000, async move {
            let began = rt::now().mono;
            let written = Arc::new(Mutex::new(0));
            let silent: Io = Box::new(Silent(Arc::clone(&written)));
            let (session, echo) = (Session::new(), Echo(Mutex::default()));
            let mut stream = session.connect("tcp", "echo:1").unwrap();
            let ended = match is_agent {
                true => session.serve(WebSocket::client(silent, 1000).await, &echo).await,
                false => session.open(WebSocket::server(silent, 1000).await).await,
            };
            assert_eq!(ended.to_string(), "the peer has been silent for too long");
            assert_eq!(rt::now().mono.since(began).as_secs(), 60);
            let why = stream.read(&mut [0; 8]).await.unwrap_err().to_string();
            assert!(why.contains("silent"), "{why}");
            // An agent's pings are six bytes each, a masked frame without content, every five seconds.
            let pings = 6 * 11;
            assert!((*written.lock().unwrap() >= pings) == is_agent, "{written:?}");
        });
        assert_eq!(end, rt::sim::End::Done(()));
    }
}

#[test]
fn a_session_whose_task_ends_leaves_nobody_waiting() {
    rt::block_on(async {
        let (near, _far) = sockets().await;
        let server = Session::new();
        let mut stream = server.connect("tcp", "echo:1").unwrap();
        let waiting = rt::timeout(Duration::from_millis(20), server.open(near)).await;
        assert_eq!(waiting.err(), Some(rt::Elapsed));
        assert!(stream.read(&mut [0; 8]).await.is_err());
    });
}
