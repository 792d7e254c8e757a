//! The kubelet of another process or machine: HTTPS through the tunnel that it has opened, or to the address and port
//! that its Node names.

use api::Status;
use api::kinds::NODE;
use api::status::Reason;
use api::{Lens, Value};
use http::Response;
use http::client::Endpoint;

use super::{address, proxy};
use crate::core::Core;
use crate::pass;
use crate::storage;

/// Puts an authorized request to the kubelet of a node, as the API server.
///
/// The Node is the node's own to write. So its certificate must be the one that this cluster gave to
/// that name, and what else listens on this machine is not reached.
pub(super) async fn call(
    core: &Core,
    name: &str,
    mut request: http::Request,
) -> Result<Response, Status> {
    let Some(tls) = &core.config.kubelet_tls else {
        return Err(Status::unavailable("no node is reachable yet"));
    };
    let node = storage::get(&core.store, &NODE, "", name).await?.tree();
    let port = port_of(&node)?;
    let endpoint = match core.config.tunnels.as_ref().and_then(|tunnels| tunnels.to(name)) {
        Some(tunnel) => Endpoint::tcp("127.0.0.1", port).dialer(tunnel),
        None => {
            let address = proxy::address_of(&node)
                .ok_or_else(|| Status::unavailable(format!("node {name} has no address")))?;
            Endpoint::tcp(address::of_kubelet(address, port).await?.to_string(), port)
        }
    };
    let endpoint = endpoint.tls(tls.clone()).server_name(name);
    request.authority.clear();
    if request.upgrade.is_some() {
        return pass::upgrade(&core.http, &endpoint, request).await.map_err(unreachable);
    }
    pass::strip(&mut request.headers);
    let sent = core.http.send(&endpoint, request).await;
    let mut response = sent.map_err(|error| Status::new(Reason::Unknown, error.to_string()))?;
    pass::strip(&mut response.headers);
    Ok(response)
}

fn unreachable(status: Status) -> Status {
    Status::new(Reason::Unknown, status.message())
}

/// The kubelet's port, by default 10250.
fn port_of(node: &Value) -> Result<u16, Status> {
    let port = node.int("status.daemonEndpoints.kubeletEndpoint.Port").unwrap_or(0);
    match u16::try_from(port) {
        Ok(0) => Ok(address::KUBELET_PORT),
        Ok(port) => Ok(port),
        Err(_) => Err(Status::bad_request(format!("invalid port {port}"))),
    }
}
