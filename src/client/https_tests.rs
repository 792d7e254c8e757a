//! The client over HTTP against servers that are busy, broken or hostile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::kinds::{CONFIG_MAP, POD};
use api::{codec, json};
use http::{Body, Request, Response};

use crate::access::{Access, Source};
use crate::request::{Client, ListOptions, PatchType};

/// A client of a server that answers with `answer`; it is told the number of the request.
async fn against(
    answer: impl Fn(usize, &Request) -> Response + Send + Sync + 'static,
) -> (Client, Arc<AtomicUsize>) {
    let n_requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&n_requests);
    let service = move |request: Request| {
        let response = answer(counted.fetch_add(1, Ordering::Relaxed), &request);
        let response: rt::BoxFuture<'static, Response> = Box::pin(async move { response });
        response
    };
    let listener = rt::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let limits = http::server::Limits::default();
    rt::spawn(http::server::serve(listener, None, Arc::new(service), limits)).detach();
    (Client::remote(Access { server, ..Access::default() }, "test").unwrap(), n_requests)
}

/// A body that never ends.
fn endless(piece: &'static [u8]) -> Body {
    let (mut sender, body) = Body::channel(64 << 10);
    rt::spawn(async move { while sender.send(piece.to_vec()).await.is_ok() {} }).detach();
    body
}

fn page(names: &[&str], next: &str) -> Vec<u8> {
    let items: Vec<_> = names
        .iter()
        .map(|name| json!({"metadata": {"name": name, "namespace": "n", "resourceVersion": "3"}}))
        .map(|tree| api::Object::from_tree(&CONFIG_MAP, &tree).unwrap())
        .collect();
    let meta = codec::ListMeta { revision: 9, next: next.into(), remaining: None };
    let mut out = Vec::new();
    codec::write_list_protobuf(&CONFIG_MAP, &items, &meta, &mut out);
    out
}

#[test]
fn a_busy_server_is_asked_again_and_a_write_not_twice() {
    rt::block_on(async {
        let (client, n) = against(|n, _| match n {
            0 => Response::text(429, "later").header("retry-after", "0"),
            1 => Response::text(503, "later").header("retry-after", "0"),
            _ => Response::new(200).body(page(&["a"], "")),
        })
        .await;
        let list = client.list(&CONFIG_MAP, "n", ListOptions::default()).await.unwrap();
        assert_eq!((list.items.len(), list.revision, n.load(Ordering::Relaxed)), (1, 9, 3));

        let (client, n) = against(|_, _| Response::text(503, "no")).await;
        let status = client.get(&POD, "n", "p").await.unwrap_err();
        assert_eq!(status.message(), "the server is currently unable to handle the request");
        assert_eq!(n.load(Ordering::Relaxed), 1, "nobody said to come again");

        // The answer is lost: it may have been done.
        let (client, n) = against(|_, _| {
            let (sender, body) = Body::channel(1);
            sender.fail(stdx::Error::new("broken"));
            Response::new(200).body_stream(body)
        })
        .await;
        let patch = json!({"data": {}});
        let done = client.patch(&CONFIG_MAP, "n", "c", "", PatchType::Merge, patch).await;
        assert_eq!((done.unwrap_err().code(), n.load(Ordering::Relaxed)), (503, 1));
    });
}

#[test]
fn a_connection_that_breaks_is_tried_again_for_reading_only() {
    rt::block_on(async {
        let listener = rt::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let n_accepted = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&n_accepted);
        rt::spawn(async move {
            use rt::io::AsyncReadExt;
            // A request comes, and its connection breaks.
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let _ = stream.read(&mut [0; 4096]).await;
            }
        })
        .detach();
        let client = Client::remote(Access { server, ..Access::default() }, "test").unwrap();
        let patch = client.patch(&CONFIG_MAP, "n", "c", "", PatchType::Merge, json!({})).await;
        assert_eq!((patch.unwrap_err().code(), n_accepted.load(Ordering::Relaxed)), (503, 1));
        assert_eq!(client.get(&POD, "n", "p").await.unwrap_err().code(), 503);
        assert_eq!(n_accepted.load(Ordering::Relaxed), 1 + 4);
    });
}

#[test]
fn pages_shrink_and_are_begun_again() {
    rt::block_on(async {
        let (client, _) = against(|_, request| {
            let query = request.query();
            if query.contains("limit=500") {
                return Response::new(200).body(vec![0; 17 << 20]);
            }
            match query.contains("continue=x") {
                true => Response::new(200).body(page(&["b"], "")),
                false => Response::new(200).body(page(&["a"], "x")),
            }
        })
        .await;
        let list = client.list(&CONFIG_MAP, "n", ListOptions::default()).await.unwrap();
        assert_eq!(list.items.len(), 2);

        let (client, n) = against(|_, request| {
            if request.query().contains("continue=") {
                let gone = api::Status::expired("too old");
                return Response::json(410, gone.to_tree().to_string());
            }
            let next = if request.query().contains("limit=") { "x" } else { "" };
            Response::new(200).body(page(&["a"], next))
        })
        .await;
        let list = client.list(&CONFIG_MAP, "n", ListOptions::default()).await.unwrap();
        assert_eq!((list.items.len(), n.load(Ordering::Relaxed)), (1, 5), "whole in the end");

        let (client, _) = against(|_, _| Response::new(200).body(page(&[], "for ever"))).await;
        assert!(client.list(&CONFIG_MAP, "n", ListOptions::default()).await.is_err());
    });
}

#[test]
fn what_a_hostile_server_sends_is_bounded() {
    rt::block_on(async {
        let (client, _) =
            against(|_, _| Response::new(200).body_stream(endless(&[b' '; 32 << 10]))).await;
        let status = client.get(&POD, "n", "p").await.unwrap_err();
        assert!(status.message().contains("is larger than"), "{status}");
        for (media, piece) in [
            ("application/vnd.kubernetes.protobuf;stream=watch", &[0xff_u8; 4096][..]),
            ("application/json", &[b'['; 4096]),
            ("application/json", b"x\n"),
        ] {
            let (client, _) = against(move |_, _| {
                Response::new(200).header("content-type", media).body_stream(endless(piece))
            })
            .await;
            let mut watch = client.watch(&POD, "", ListOptions::default()).await.unwrap();
            let said = watch.next().await.unwrap().unwrap_err();
            assert_eq!(said.code(), 500, "{media}: {said}");
            assert!(watch.next().await.is_none());
        }
        let (client, _) = against(|_, _| Response::new(200).body(b"k8s\0\xff\xff".to_vec())).await;
        assert_eq!(client.get(&POD, "n", "p").await.unwrap_err().code(), 500);
    });
}

#[test]
fn a_watch_that_breaks_ends_without_an_error() {
    rt::block_on(async {
        let (client, _) = against(|_, _| {
            let (sender, body) = Body::channel(1);
            sender.fail(stdx::Error::new("broken"));
            Response::new(200).header("content-type", "application/json").body_stream(body)
        })
        .await;
        let mut watch = client.watch(&POD, "", ListOptions::default()).await.unwrap();
        assert!(watch.next().await.is_none());
    });
}

#[test]
fn a_token_is_read_again_after_a_refusal() {
    rt::block_on(async {
        let dir = std::env::temp_dir().join(format!("client-{:x}", rt::random_u64()));
        rt::fs::create_dir_all(&dir, 0o700).unwrap();
        let file = dir.join("token");
        rt::fs::write(&file, b"old\n", 0o600).unwrap();
        let listener = rt::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let service = |request: Request| {
            let is_new = request.headers.get("authorization") == Some("Bearer new");
            let response = match is_new {
                true => Response::new(200).body(page(&["a"], "")),
                false => Response::text(401, "who?"),
            };
            let response: rt::BoxFuture<'static, Response> = Box::pin(async move { response });
            response
        };
        let limits = http::server::Limits::default();
        rt::spawn(http::server::serve(listener, None, Arc::new(service), limits)).detach();
        let access = Access { server, token: Source::File(file.clone()), ..Access::default() };
        let client = Client::remote(access, "test").unwrap();
        rt::fs::write(&file, b"new\n", 0o600).unwrap();
        rt::sleep(std::time::Duration::from_millis(1100)).await;
        client.list(&CONFIG_MAP, "n", ListOptions::default()).await.unwrap();
        rt::fs::remove_dir_all(&dir).unwrap();
    });
}
