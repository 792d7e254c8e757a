//! Both ends against each other over unix socket pairs and loopback TCP.

use std::sync::Arc;
use std::time::Duration;

use rt::BoxFuture;
use rt::future::zip;
use rt::io::{AsyncReadExt, AsyncWriteExt};
use rt::net::{TcpListener, TcpStream, UnixStream};
use stdx::{Context, Result};

use crate::client::{Client, Endpoint, Options, Protocol, Upgraded};
use crate::io::{Io, copy_to_end, fill, prefixed};
use crate::server::{Gate, Limits, Looked, Server, serve};
use crate::{Body, Headers, Method, Peer, Request, Response};

/// A service for tests, by path.
fn answer(mut request: Request) -> BoxFuture<'static, Response> {
    Box::pin(async move {
        match request.path() {
            "/echo" => match request.body.read_all(1 << 20).await {
                Ok(bytes) => Response::new(200).body(bytes),
                Err(error) => Response::text(400, error.to_string()),
            },
            "/pass" => {
                let body = std::mem::take(&mut request.body);
                Response::new(200).body_stream(body)
            }
            "/stream" => {
                let (mut sender, body) = Body::channel(1024);
                rt::spawn(async move {
                    for n in 0..1000 {
                        if sender.send(format!("line {n}\n")).await.is_err() {
                            return;
                        }
                    }
                    sender.finish(Headers::new().with("x-trailer", "yes"));
                })
                .detach();
                Response::new(200).body_stream(body)
            }
            "/panic" => panic!("a test panics"),
            "/upgrade" => {
                let Some(upgrade) = request.upgrade.take() else {
                    return Response::text(400, "no upgrade asked for");
                };
                let (response, upgrading) = upgrade.accept("echo");
                rt::spawn(async move {
                    let (read, write) = rt::io::split(upgrading.await.unwrap());
                    let _ = copy_to_end(read, write).await;
                })
                .detach();
                response
            }
            path => Response::text(404, format!("{} {path}", request.method)),
        }
    })
}

fn server(limits: Limits) -> Server {
    Server::new(Arc::new(answer), limits)
}

/// Sends raw bytes to a server and returns all it says until it closes.
fn raw(limits: Limits, input: &[u8]) -> String {
    rt::block_on(async {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let theirs: Io = Box::new(theirs);
        let talk = async move {
            ours.write_all(input).await.unwrap();
            let mut text = Vec::new();
            let read = rt::timeout(Duration::from_secs(5), ours.read_to_end(&mut text));
            read.await.expect("the server closes").unwrap();
            String::from_utf8(text).unwrap()
        };
        zip(server(limits).serve_stream(theirs, Peer::default()), talk).await.1
    })
}

#[test]
fn http1_pipelines_and_frames() {
    let text = raw(
        Limits::default(),
        b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n\
          POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
          HEAD /a HTTP/1.1\r\nhost: x\r\n\r\n\
          GET /panic HTTP/1.1\r\nhost: x\r\n\r\n\
          POST /ignored HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc\
          GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    );
    let statuses: Vec<&str> = text.split("HTTP/1.1 ").skip(1).map(|part| &part[..3]).collect();
    assert_eq!(statuses, ["404", "200", "404", "500", "404", "404"]);
    assert!(text.contains("\r\n\r\nabc") && text.contains("\"reason\":\"InternalError\""));
}

#[test]
fn http1_refuses_with_the_right_status() {
    let limits = || Limits { header_max_bytes: 200, body_max_bytes: 10, ..Limits::default() };
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nlong: {}\r\n\r\n", "a".repeat(300));
    for (input, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "400"),
        ("nonsense\r\n\r\n", "400"),
        (&*long, "431"),
        ("PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 11\r\n\r\n", "413"),
        ("PUT / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: br\r\n\r\n", "501"),
        (
            "PUT /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n",
            "400",
        ),
    ] {
        let text = raw(limits(), input.as_bytes());
        assert_eq!(text.get(9..12), Some(status), "{input:?} gave {text:?}");
    }
}

#[test]
fn http1_slow_heads_and_idle_connections_end() {
    let limits = Limits {
        header_read_max: Duration::from_millis(50),
        idle_max: Duration::from_millis(50),
        ..Limits::default()
    };
    assert!(raw(limits.clone(), b"GET / HT").starts_with("HTTP/1.1 408"));
    assert_eq!(raw(limits, b""), "");
}

/// Runs a client against a server on loopback.
fn with_server<F: Future<Output = ()>>(client: impl FnOnce(Client, Endpoint, Server) -> F) {
    rt::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = server(Limits::default());
        let serving = server.clone();
        let task = rt::spawn(async move { serving.serve(listener, None).await });
        let endpoint = Endpoint::tcp("127.0.0.1", port);
        client(Client::new(Options::default()), endpoint, server.clone()).await;
        server.shutdown(Duration::from_secs(5)).await;
        task.await.unwrap();
    });
}

const TALK_MAX: Duration = Duration::from_secs(60);

/// Sends back whatever comes, but on connections that are to be HTTP.
struct Echoes;

impl Gate for Echoes {
    fn look(&self, mut io: Io, peer: Peer) -> BoxFuture<'static, Result<Looked>> {
        Box::pin(async move {
            let mut bytes = Vec::new();
            fill(&mut io, &mut bytes).await.context(|| "read")?;
            let io = prefixed(bytes.clone(), io);
            if bytes.starts_with(b"GET ") {
                return Ok(Looked::Http(io, peer, None));
            }
            let (read, write) = rt::io::split(io);
            Ok(Looked::Other(Box::pin(async { drop(copy_to_end(read, write).await) })))
        })
    }
}

#[test]
fn a_connection_that_a_gate_takes_keeps_its_place() {
    rt::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits { connections_max: 4, shares_places: false, ..Limits::default() };
        let server = Server::new(Arc::new(answer), limits);
        let serving = server.clone();
        let task = rt::spawn(async move { serving.serve_behind(listener, Arc::new(Echoes)).await });
        let talk = async {
            let mut taken = TcpStream::connect(address).await.unwrap();
            let mut said = [0; 2];
            taken.write_all(b"on").await.unwrap();
            taken.read_exact(&mut said).await.unwrap();
            // Those that say nothing go before it, though they are younger.
            let mut silent = Vec::new();
            for _ in 0..8 {
                silent.push(TcpStream::connect(address).await.unwrap());
            }
            assert_eq!(silent[0].read(&mut [0]).await.unwrap_or(0), 0);
            taken.write_all(b"ce").await.unwrap();
            taken.read_exact(&mut said).await.unwrap();
            assert_eq!(&said, b"ce");
            let mut asking = TcpStream::connect(address).await.unwrap();
            asking.write_all(b"GET /no HTTP/1.0\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            asking.read_to_end(&mut answer).await.unwrap();
            assert!(answer.starts_with(b"HTTP/1."), "{}", answer.escape_ascii());
        };
        rt::timeout(TALK_MAX, talk).await.unwrap();
        server.shutdown(Duration::from_millis(1)).await;
        task.await.unwrap();
    });
}

#[test]
fn http1_client_and_server_stream_both_ways() {
    with_server(|client, endpoint, server| async move {
        let mut response = client.send(&endpoint, Request::get("/stream")).await.unwrap();
        let text = response.body.read_all(1 << 20).await.unwrap();
        assert!(text.ends_with(b"line 999\n"));
        assert_eq!(response.body.trailers().unwrap().get("x-trailer"), Some("yes"));

        let (mut sender, body) = Body::channel(64);
        let request = Request::new(Method::Post, "/pass").body_stream(body);
        sender.send("one").await.unwrap();
        let mut response = client.send(&endpoint, request).await.unwrap();
        assert_eq!(&*response.body.next().await.unwrap().unwrap(), b"one");
        sender.send("two").await.unwrap();
        assert_eq!(&*response.body.next().await.unwrap().unwrap(), b"two");
        // It ends with this request, whose length nobody knew when its answer began.
        assert_eq!(server.n_connections(), 1, "the connection is used again");
        drop(sender);
        assert!(response.body.next().await.is_none());
    });
}

#[test]
fn http1_upgrade_gives_the_stream() {
    with_server(|client, endpoint, _| async move {
        let request =
            Request::get("/upgrade").header("connection", "Upgrade").header("upgrade", "echo");
        let Upgraded::Stream(_, mut io) = client.upgrade(&endpoint, request).await.unwrap() else {
            panic!("refused")
        };
        io.write_all(b"hello").await.unwrap();
        let mut back = [0; 5];
        io.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"hello");
    });
}

#[test]
fn http1_a_client_that_leaves_is_seen_by_the_producer() {
    rt::block_on(async {
        let (gone, left) = rt::channel::bounded::<()>(1);
        let service = move |_: Request| -> BoxFuture<'static, Response> {
            let gone = gone.clone();
            Box::pin(async move {
                let (sender, body) = Body::channel(1024);
                rt::spawn(async move {
                    sender.closed().await;
                    let _ = gone.send(()).await;
                })
                .detach();
                Response::new(200).body_stream(body)
            })
        };
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let server = Server::new(Arc::new(service), Limits::default());
        let serving = rt::spawn(async move {
            server.serve_stream(Box::new(theirs), Peer::default()).await;
        });
        ours.write_all(b"GET /watch HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut head = [0; 12];
        ours.read_exact(&mut head).await.unwrap();
        drop(ours);
        rt::timeout(Duration::from_secs(5), left.recv()).await.unwrap().unwrap();
        serving.await;
    });
}

#[test]
fn http2_client_and_server_stream_both_ways() {
    with_server(|client, endpoint, server| async move {
        let endpoint = endpoint.protocol(Protocol::Http2);
        let mut response = client.send(&endpoint, Request::get("/stream")).await.unwrap();
        let text = response.body.read_all(1 << 20).await.unwrap();
        assert!(text.ends_with(b"line 999\n"));
        assert_eq!(response.body.trailers().unwrap().get("x-trailer"), Some("yes"));

        let (mut sender, body) = Body::channel(64);
        let request = Request::new(Method::Post, "/pass").body_stream(body);
        sender.send("one").await.unwrap();
        let mut response = client.send(&endpoint, request).await.unwrap();
        assert_eq!(&*response.body.next().await.unwrap().unwrap(), b"one");
        sender.send("two").await.unwrap();
        assert_eq!(&*response.body.next().await.unwrap().unwrap(), b"two");

        // Other streams go on, a panic and a large body included, while that one is open.
        let panicked = client.send(&endpoint, Request::get("/panic")).await.unwrap();
        assert_eq!(panicked.status, 500);
        let large = vec![7; 900_000];
        let request = Request::new(Method::Post, "/echo").body(large.clone());
        let mut echo = client.send(&endpoint, request).await.unwrap();
        assert!(echo.body.read_all(1 << 20).await.unwrap() == large);
        let many = (0..60).map(|n| {
            let (client, endpoint) = (client.clone(), endpoint.clone());
            rt::spawn(async move {
                let request = Request::get(format!("/{n}"));
                client.send(&endpoint, request).await.unwrap().body.read_all(99).await.unwrap()
            })
        });
        for (n, task) in many.collect::<Vec<_>>().into_iter().enumerate() {
            assert_eq!(task.await, format!("GET /{n}").into_bytes());
        }

        drop(sender);
        assert!(response.body.next().await.is_none());
        assert_eq!(server.n_connections(), 1, "all went over one connection");
    });
}

#[test]
fn http2_a_client_that_leaves_is_seen_by_the_producer() {
    rt::block_on(async {
        let (gone, left) = rt::channel::bounded::<()>(1);
        let service = move |_: Request| -> BoxFuture<'static, Response> {
            let gone = gone.clone();
            Box::pin(async move {
                let (mut sender, body) = Body::channel(1024);
                rt::spawn(async move {
                    while sender.send(vec![0; 512]).await.is_ok() {}
                    let _ = gone.send(()).await;
                })
                .detach();
                Response::new(200).body_stream(body)
            })
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = rt::spawn(serve(listener, None, Arc::new(service), Limits::default()));
        let endpoint = Endpoint::tcp("127.0.0.1", port).protocol(Protocol::Http2);
        let client = Client::new(Options::default());
        // The stalled reader stops the producer; the dropped one ends it.
        let mut response = client.send(&endpoint, Request::get("/watch")).await.unwrap();
        response.body.next().await.unwrap().unwrap();
        assert!(rt::future::poll_once(left.recv()).await.is_none());
        drop(response);
        rt::timeout(Duration::from_secs(5), left.recv()).await.unwrap().unwrap();
        drop(serving);
    });
}

/// Requests with random damage, pipelined; whatever comes back, the server lives and lets go.
#[test]
fn http1_damaged_requests_break_nothing() {
    let valid: &[u8] = b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n\
        3\r\nabc\r\n0\r\nt: 1\r\n\r\nGET /stream HTTP/1.1\r\nhost: x\r\n\r\n\
        GET /upgrade HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nbytes";
    let mut prng = stdx::prng::Prng::new(21);
    rt::block_on(async {
        for _ in 0..300 {
            let mut input = valid.to_vec();
            for _ in 0..prng.below(5) {
                let at = prng.below(input.len() as u64) as usize;
                match prng.below(3) {
                    0 => input[at] = prng.next_u64() as u8,
                    1 => drop(input.remove(at)),
                    _ => input.truncate(at.max(9)),
                }
            }
            let (ours, theirs) = UnixStream::pair().unwrap();
            let talk = async move {
                let (mut read, mut write) = rt::io::split(ours);
                let send = async {
                    let _ = write.write_all(&input).await;
                    let _ = write.close().await;
                };
                let mut said = Vec::new();
                zip(send, read.read_to_end(&mut said)).await.1.unwrap();
            };
            let serve = server(Limits::default());
            let both = zip(serve.serve_stream(Box::new(theirs), Peer::default()), talk);
            rt::timeout(Duration::from_secs(5), both).await.expect("the server lets go");
        }
    });
}

/// A server that answers one request a connection and hangs up on the second, three times over.
async fn hang_up_on_the_second(listener: TcpListener) {
    for _ in 0..3 {
        let (mut io, _) = listener.accept().await.unwrap();
        for is_second in [false, true] {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if io.read(&mut byte).await.unwrap_or(0) == 0 {
                    return;
                }
                head.push(byte[0]);
            }
            if !is_second {
                io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
            }
        }
    }
}

#[test]
fn only_harmless_requests_are_sent_again_when_a_kept_connection_breaks() {
    rt::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = rt::spawn(hang_up_on_the_second(listener));
        let (client, endpoint) =
            (Client::new(Options::default()), Endpoint::tcp("127.0.0.1", port));
        let ask = |method: Method| {
            let (client, endpoint) = (client.clone(), endpoint.clone());
            async move {
                let mut response = client.send(&endpoint, Request::new(method, "/")).await?;
                response.body.read_all(10).await
            }
        };
        assert_eq!(ask(Method::Get).await.unwrap(), b"hi");
        assert_eq!(ask(Method::Get).await.unwrap(), b"hi", "sent again on a second connection");
        assert!(ask(Method::Post).await.is_err(), "may have been acted on");
        assert_eq!(ask(Method::Post).await.unwrap(), b"hi");
        drop(serving);
    });
}
