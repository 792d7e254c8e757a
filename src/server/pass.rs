//! Passing requests on to another server, and its answers back.

use api::Status;
use api::status::Reason;
use http::client::{Client, Endpoint, Upgraded};
use http::{Headers, Request, Response};

/// Fields that belong to one connection.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Says where a request came from, and what it asked for.
pub(crate) fn forwarded(request: &mut Request, uri: &str) {
    let peer = request.peer.address.map(|address| address.ip().to_string());
    let authority = std::mem::take(&mut request.authority);
    request.headers.set("x-forwarded-uri", uri);
    request.headers.set("x-forwarded-host", &authority);
    if let Some(peer) = peer {
        request.headers.append("x-forwarded-for", peer);
    }
}

/// Passes on a request; the body of the answer follows as it is read.
///
/// # Errors
/// 503 if nobody answers.
pub(crate) async fn send(
    client: &Client,
    endpoint: &Endpoint,
    mut request: Request,
) -> Result<Response, Status> {
    strip(&mut request.headers);
    let mut response = client.send(endpoint, request).await.map_err(unreachable)?;
    strip(&mut response.headers);
    Ok(response)
}

fn unreachable(error: stdx::Error) -> Status {
    Status::new(Reason::ServiceUnavailable, format!("error trying to reach service: {error}"))
}

/// Passes on a request that asks for another protocol, and then the bytes.
pub(crate) async fn upgrade(
    client: &Client,
    endpoint: &Endpoint,
    mut request: Request,
) -> Result<Response, Status> {
    let Some(near) = request.upgrade.take() else {
        return Err(Status::internal("an upgrade was asked for without one"));
    };
    let protocol = request.headers.get("upgrade").unwrap_or("").to_owned();
    match client.upgrade(endpoint, request).await.map_err(unreachable)? {
        Upgraded::Refused(response) => Ok(response),
        Upgraded::Stream(head, far) => {
            let (mut response, upgrading) = near.accept(&protocol);
            for (name, value) in head.headers.iter() {
                if !HOP_BY_HOP.contains(&name) {
                    response.headers.append(name, value);
                }
            }
            rt::spawn_named("proxied upgrade", async move {
                if let Ok(near) = upgrading.await {
                    // Either side may go at any time.
                    let _ = http::io::splice(near, far).await;
                }
            })
            .detach();
            Ok(response)
        }
    }
}

/// Takes away what is about one connection, and what its `Connection` field names.
pub(crate) fn strip(headers: &mut Headers) {
    let named: Vec<String> = headers
        .get_all("connection")
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_owned())
        .collect();
    for name in named.iter().map(String::as_str).chain(HOP_BY_HOP) {
        headers.remove(name);
    }
}
