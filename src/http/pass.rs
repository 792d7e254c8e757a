//! Passing requests on to another server, and its answers back.

use stdx::{Error, Result};
use wire::headers::Headers;

use crate::client::{Client, Endpoint, Upgraded};
use crate::message::{Request, Response};

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

/// Passes on a request; the body of the answer follows as it is read.
///
/// # Errors
/// If nobody answers.
pub async fn send(client: &Client, endpoint: &Endpoint, mut request: Request) -> Result<Response> {
    strip(&mut request.headers);
    let mut response = client.send(endpoint, request).await?;
    strip(&mut response.headers);
    Ok(response)
}

/// Passes on a request that asks for another protocol, and then the bytes.
///
/// # Errors
/// If it asks for none, or nobody answers.
pub async fn upgrade(
    client: &Client,
    endpoint: &Endpoint,
    mut request: Request,
) -> Result<Response> {
    let Some(near) = request.upgrade.take() else {
        return Err(Error::new("an upgrade was asked for without one"));
    };
    let protocol = request.headers.get("upgrade").unwrap_or("").to_owned();
    match client.upgrade(endpoint, request).await? {
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
                    let _ = crate::io::splice(near, far).await;
                }
            })
            .detach();
            Ok(response)
        }
    }
}

/// Takes away what is about one connection, and what its `Connection` field names.
pub fn strip(headers: &mut Headers) {
    let named: Vec<String> = headers
        .get_all("connection")
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_owned())
        .collect();
    for name in named.iter().map(String::as_str).chain(HOP_BY_HOP) {
        headers.remove(name);
    }
}
