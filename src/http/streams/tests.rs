//! Accepting against dialling side, over every transport, through a real server.

use std::sync::Arc;

use rt::BoxFuture;
use rt::io::{AsyncReadExt, AsyncWriteExt};
use rt::net::TcpListener;

use super::*;
use crate::client::{Client, Endpoint, Options};
use crate::io::BoxRead;
use crate::message::Method;
use crate::server::{Limits, Server};
use crate::websocket::{self, Connected, Message};

/// A "kubelet": exec copies stdin to stdout and, reversed, to stderr; port-forward greets.
fn kubelet(mut request: Request) -> BoxFuture<'static, Response> {
    Box::pin(async move {
        let wanted = Wanted {
            stdin: request.query().contains("stdin"),
            stdout: true,
            stderr: true,
            tty: request.query().contains("tty"),
        };
        if request.path() == "/exec" {
            return match accept_remote_command(&mut request, wanted) {
                Ok((response, accepted)) => {
                    rt::spawn(run(accepted)).detach();
                    response
                }
                Err(refused) => refused,
            };
        }
        let ports: &[u16] = if request.query().contains("82") { &[82] } else { &[80, 81] };
        match accept_port_forward(&mut request, ports) {
            Ok((response, accepted)) => {
                rt::spawn(async move {
                    let mut connections = accepted.connections().await.unwrap();
                    while let Some(forward) = connections.next().await {
                        rt::spawn(greet(forward)).detach();
                    }
                })
                .detach();
                response
            }
            Err(refused) => refused,
        }
    })
}

async fn run(accepted: AcceptedCommand) {
    let mut command = accepted.streams().await.unwrap();
    if let Some(resize) = command.resize.take() {
        let size = resize.recv().await.unwrap();
        let text = format!("{}x{}", size.width, size.height);
        command.stdout.as_mut().unwrap().write_all(text.as_bytes()).await.unwrap();
        return command.finish(Outcome::Success).await.unwrap();
    }
    let mut text = Vec::new();
    if let Some(stdin) = &mut command.stdin {
        stdin.read_to_end(&mut text).await.unwrap();
    }
    command.stdout.as_mut().unwrap().write_all(&text).await.unwrap();
    text.reverse();
    command.stderr.as_mut().unwrap().write_all(&text).await.unwrap();
    command.finish(Outcome::ExitCode(3)).await.unwrap();
}

async fn greet(mut forward: Forward) {
    if forward.port == 81 {
        return forward.fail("nobody listens").await.unwrap();
    }
    if forward.port == 82 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut served = rt::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        served.write_all(b"bye").await.unwrap();
        drop(served);
        let (target, _) = listener.accept().await.unwrap();
        return forward.run(Box::new(target)).await.unwrap();
    }
    let mut name = [0; 3];
    forward.reader.read_exact(&mut name).await.unwrap();
    forward.writer.write_all(b"hello ").await.unwrap();
    forward.writer.write_all(&name).await.unwrap();
}

fn with_kubelet<F: Future<Output = ()>>(test: impl FnOnce(Client, Endpoint) -> F) {
    rt::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Server::new(Arc::new(kubelet), Limits::default());
        let serving = rt::spawn(async move { server.serve(listener, None).await });
        let client = Client::new(Options::default());
        let test = test(client, Endpoint::tcp("127.0.0.1", port));
        rt::timeout(Duration::from_secs(20), test).await.expect("the test ends");
        drop(serving);
    });
}

async fn all(reader: Option<BoxRead>) -> Vec<u8> {
    let mut text = Vec::new();
    reader.unwrap().read_to_end(&mut text).await.unwrap();
    text
}

#[test]
fn remote_commands_over_both_transports() {
    with_kubelet(|client, endpoint| async move {
        for transport in [Transport::WebSocket, Transport::Spdy] {
            let dial = |query: &str, wanted| {
                let request = Request::new(Method::Post, format!("/exec?{query}"));
                let (client, endpoint) = (client.clone(), endpoint.clone());
                async move {
                    match dial_remote_command(&client, &endpoint, request, wanted, transport).await
                    {
                        Ok(Dialed::Stream(attached)) => attached,
                        other => panic!("{other:?}"),
                    }
                }
            };
            let wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
            let mut attached = dial("stdin", wanted).await;
            let input: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
            let mut stdin = attached.stdin.take().unwrap();
            let write = async {
                stdin.write_all(&input).await.unwrap();
                stdin.close().await.unwrap();
            };
            let outputs = rt::future::zip(all(attached.stdout.take()), all(attached.stderr.take()));
            let ((), (stdout, mut stderr)) = rt::future::zip(write, outputs).await;
            assert!(stdout == input);
            stderr.reverse();
            assert!(stderr == input);
            let status = String::from_utf8(attached.status.await.unwrap()).unwrap();
            assert!(status.contains("NonZeroExitCode") && status.contains("\"message\":\"3\""));

            let wanted = Wanted { stdin: false, stdout: true, stderr: true, tty: true };
            let mut attached = dial("tty", wanted).await;
            let size = Size { width: 80, height: 24 };
            attached.resize.as_ref().unwrap().send(size).await.unwrap();
            assert_eq!(all(attached.stdout.take()).await, b"80x24");
            assert_eq!(attached.status.await.unwrap(), Outcome::Success.to_json());
        }
    });
}

#[test]
fn port_forward_over_both_transports() {
    with_kubelet(|client, endpoint| async move {
        for transport in [Transport::WebSocket, Transport::Spdy] {
            let request = Request::get("/portForward");
            let dialed = dial_port_forward(&client, &endpoint, request, transport).await.unwrap();
            let Dialed::Stream(forwarder) = dialed else { panic!("{dialed:?}") };
            let mut connections = Vec::new();
            for _ in 0..3 {
                connections.push(forwarder.open(80).await.unwrap());
            }
            for (reader, mut writer, error) in connections {
                writer.write_all(b"bob").await.unwrap();
                assert_eq!(all(Some(reader)).await, b"hello bob");
                assert_eq!(all(Some(error)).await, b"");
            }
            let (_, _, error) = forwarder.open(81).await.unwrap();
            assert_eq!(all(Some(error)).await, b"nobody listens");
        }
    });
}

#[test]
fn old_websocket_protocols() {
    with_kubelet(|client, endpoint| async move {
        let open = |target: &'static str, protocol: &'static str| {
            let (client, endpoint) = (client.clone(), endpoint.clone());
            async move {
                let request = Request::get(target);
                let protocols = [protocol];
                match websocket::connect(&client, &endpoint, request, &protocols, 1 << 20).await {
                    Ok(Connected::Stream { socket, .. }) => socket,
                    other => panic!("{other:?}"),
                }
            }
        };
        let mut socket = open("/portForward?ports=80,81", "v4.channel.k8s.io").await;
        socket.sender.send(Message::Binary(b"\0bob".to_vec())).await.unwrap();
        let mut by_channel: [Vec<u8>; 4] = Default::default();
        while let Some(Ok(message)) = socket.receiver.next().await {
            let bytes = message.into_bytes();
            by_channel[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
        }
        assert_eq!(
            by_channel,
            [&b"\x50\0hello bob"[..], b"\x50\0", b"\x51\0", b"\x51\0nobody listens"]
        );

        // The port's end is the connection's: a client cannot say that it sends no more.
        let mut socket = open("/portForward?ports=82", "v4.channel.k8s.io").await;
        let mut said = Vec::new();
        while let Some(Ok(message)) = socket.receiver.next().await {
            said.extend(message.into_bytes());
        }
        assert!(said.ends_with(b"\0bye"), "{said:?}");

        // Without stdin, and with text messages: the exit code comes as a sentence.
        let mut socket = open("/exec?", "base64.channel.k8s.io").await;
        let mut messages = Vec::new();
        while let Some(Ok(Message::Text(text))) = socket.receiver.next().await {
            messages.push(text);
        }
        assert_eq!(messages[0], "1");
        let told = wire::base64::decode(&messages[1][1..]).unwrap();
        assert_eq!((&messages[1][..1], &*told), ("3", &b"command terminated with exit code 3"[..]));
    });
}

#[test]
fn what_nobody_speaks_is_refused() {
    with_kubelet(|client, endpoint| async move {
        let ask = |headers: &[(&str, &str)]| {
            let mut request = Request::new(Method::Post, "/exec");
            headers.iter().for_each(|(name, value)| request.headers.append(name, value));
            let (client, endpoint) = (client.clone(), endpoint.clone());
            async move { client.send(&endpoint, request).await.unwrap().status }
        };
        assert_eq!(ask(&[]).await, 400);
        let spdy = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
        assert_eq!(ask(&[spdy[0], spdy[1], (SPDY_VERSIONS, "v9.channel.k8s.io")]).await, 403);
        let websocket = [("connection", "Upgrade"), ("upgrade", "websocket")];
        assert_eq!(ask(&[websocket[0], websocket[1]]).await, 426);
    });
}

/// An API server that looks inside: it dials the kubelet the one way and speaks to the client the other.
fn middle(client: Client, kubelet: Endpoint, far: Transport) -> Server {
    let service = move |mut request: Request| -> BoxFuture<'static, Response> {
        let (client, kubelet) = (client.clone(), kubelet.clone());
        Box::pin(async move {
            let has_stdin = request.query().contains("stdin");
            let wanted = Wanted { stdin: has_stdin, stdout: true, stderr: true, tty: false };
            let onward = Request::new(Method::Post, request.target.clone());
            let dialed = dial_remote_command(&client, &kubelet, onward, wanted, far).await;
            let Ok(Dialed::Stream(attached)) = dialed else {
                return Response::text(502, "no kubelet");
            };
            match accept_remote_command(&mut request, wanted) {
                Ok((response, accepted)) => {
                    rt::spawn(async move {
                        let _ = proxy(accepted.streams().await.unwrap(), attached).await;
                    })
                    .detach();
                    response
                }
                Err(refused) => refused,
            }
        })
    };
    Server::new(Arc::new(service), Limits::default())
}

#[test]
fn a_server_in_the_middle_translates() {
    with_kubelet(|client, kubelet| async move {
        for (near, far) in
            [(Transport::WebSocket, Transport::Spdy), (Transport::Spdy, Transport::WebSocket)]
        {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = middle(client.clone(), kubelet.clone(), far);
            let serving = rt::spawn(async move { server.serve(listener, None).await });
            let endpoint = Endpoint::tcp("127.0.0.1", port);
            let wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
            let request = Request::new(Method::Post, "/exec?stdin");
            let dialed = dial_remote_command(&client, &endpoint, request, wanted, near).await;
            let Ok(Dialed::Stream(mut attached)) = dialed else { panic!("{dialed:?}") };
            let mut stdin = attached.stdin.take().unwrap();
            stdin.write_all(b"through").await.unwrap();
            stdin.close().await.unwrap();
            assert_eq!(all(attached.stdout.take()).await, b"through");
            assert_eq!(all(attached.stderr.take()).await, b"hguorht");
            let status = String::from_utf8(attached.status.await.unwrap()).unwrap();
            assert!(status.contains("ExitCode"), "{status}");
            drop(serving);
        }
    });
}

#[test]
fn a_client_that_hangs_up_is_noticed_without_any_traffic() {
    rt::block_on(async {
        for transport in [Transport::WebSocket, Transport::Spdy] {
            let (gone, is_gone) = rt::channel::bounded::<()>(1);
            let service = move |mut request: Request| -> BoxFuture<'static, Response> {
                let gone = gone.clone();
                let wanted = Wanted { stdout: true, ..Wanted::default() };
                let (response, accepted) = accept_remote_command(&mut request, wanted).unwrap();
                rt::spawn(async move {
                    accepted.streams().await.unwrap().hung_up.as_mut().await;
                    let _ = gone.send(()).await;
                })
                .detach();
                Box::pin(async move { response })
            };
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = Server::new(Arc::new(service), Limits::default());
            let serving = rt::spawn(async move { server.serve(listener, None).await });
            let (client, endpoint) =
                (Client::new(Options::default()), Endpoint::tcp("127.0.0.1", port));
            let wanted = Wanted { stdout: true, ..Wanted::default() };
            let request = Request::new(Method::Post, "/exec");
            let dialed = dial_remote_command(&client, &endpoint, request, wanted, transport).await;
            let Ok(Dialed::Stream(attached)) = dialed else { panic!("{dialed:?}") };
            assert!(rt::future::poll_once(is_gone.recv()).await.is_none());
            drop(attached);
            let noticed = rt::timeout(Duration::from_secs(10), is_gone.recv()).await;
            noticed.unwrap_or_else(|_| panic!("not noticed over {transport:?}")).unwrap();
            drop(serving);
        }
    });
}
