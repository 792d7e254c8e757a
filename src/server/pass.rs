//! Passing requests on to another server, with where they came from.

use api::Status;
use api::status::Reason;
use http::client::{Client, Endpoint};
use http::{Request, Response};

pub(crate) use http::pass::strip;

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
    request: Request,
) -> Result<Response, Status> {
    http::pass::send(client, endpoint, request).await.map_err(unreachable)
}

/// Passes on a request that asks for another protocol, and then the bytes.
pub(crate) async fn upgrade(
    client: &Client,
    endpoint: &Endpoint,
    request: Request,
) -> Result<Response, Status> {
    http::pass::upgrade(client, endpoint, request).await.map_err(unreachable)
}

fn unreachable(error: stdx::Error) -> Status {
    Status::new(Reason::ServiceUnavailable, format!("error trying to reach service: {error}"))
}
