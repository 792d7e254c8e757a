//! Kubernetes' streaming protocols: remote commands (exec, attach) and port-forward, over WebSocket and SPDY.
//!
//! Both roles: a kubelet (or an API server that looks inside) accepts, an API server or a command line
//! dials. An API server that need not look inside joins the two upgraded connections with
//! `io::splice` instead: every protocol here passes through unchanged.

mod channels;
mod dial;
mod port_forward;
mod remote_command;

use std::time::Duration;

use stdx::Result;
use wire::headers::Headers;

use crate::message::{Request, Response};
use crate::upgrade::Upgrading;

pub use dial::{Attached, Dialed, Transport, dial_port_forward, dial_remote_command};
pub use port_forward::{
    AcceptedPortForward, Forward, PortForward, PortForwarder, accept_port_forward,
};
pub use remote_command::{
    AcceptedCommand, Outcome, RemoteCommand, Size, Wanted, accept_remote_command, proxy,
};

/// From the upgrade until every expected stream is there.
const STREAMS_MAX_WAIT: Duration = Duration::from_secs(30);
/// Bytes of one stream that wait in one direction.
const BUFFERED_MAX_BYTES: usize = 32 * 1024;
/// One WebSocket message.
const MESSAGE_MAX_BYTES: usize = 256 * 1024;

const SPDY_PROTOCOL: &str = "SPDY/3.1";
const SPDY_VERSIONS: &str = "x-stream-protocol-version";

/// Whether a request asks for SPDY.
fn is_spdy_asked_for(request: &Request) -> bool {
    request.headers.has_token("connection", "upgrade")
        && request.headers.has_token("upgrade", SPDY_PROTOCOL)
}

/// Agrees to SPDY: the first of the client's protocol versions that is in `versions`; a client that
/// names none gets the last. `Err` is the response that refuses.
#[allow(clippy::result_large_err)] // the refusal is a response like any other
fn accept_spdy(
    request: &mut Request,
    versions: &'static [&'static str],
) -> Result<(Response, &'static str, Upgrading), Response> {
    let wanted: Vec<&str> = request
        .headers
        .get_all(SPDY_VERSIONS)
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|version| !version.is_empty())
        .collect();
    let chosen = match wanted.is_empty() {
        true => versions.last(),
        false => wanted.iter().find_map(|wanted| versions.iter().find(|v| *v == wanted)),
    };
    let Some(&chosen) = chosen else {
        let message = format!(
            "unable to upgrade: unable to negotiate protocol: client supports {wanted:?}, server \
             accepts {versions:?}\n"
        );
        let mut response = Response::text(403, message);
        for version in versions {
            response.headers.append("x-accepted-stream-protocol-versions", version);
        }
        return Err(response);
    };
    let Some(upgrade) = request.upgrade.take() else {
        return Err(Response::text(400, "this connection cannot be upgraded\n"));
    };
    let (mut response, upgrading) = upgrade.accept(SPDY_PROTOCOL);
    response.headers.append(SPDY_VERSIONS, chosen);
    Ok((response, chosen, upgrading))
}

/// The headers with which a client asks for SPDY.
fn spdy_headers(headers: &mut Headers, versions: &[&str]) {
    headers.set("connection", "Upgrade");
    headers.set("upgrade", SPDY_PROTOCOL);
    headers.remove(SPDY_VERSIONS);
    for version in versions {
        headers.append(SPDY_VERSIONS, version);
    }
}

#[cfg(test)]
mod tests;
