//! Proxies: HTTP to a pod, a Service's endpoint or a node's kubelet, through the API server.

use api::kinds::{ENDPOINTS, NODE, POD, SERVICE};
use api::{Lens, Status, Value};
use client::Request;
use http::client::Endpoint;
use http::tls::{Trust, client_config};
use http::{Method, Response};

use super::address::{self, Proxyable};
use super::links::Base;
use super::{Incoming, call, dialer};
use crate::core::Core;
use crate::pass;
use crate::storage;

/// `[scheme:]name[:port]`, as upstream's `SplitSchemeNamePort`.
struct Named<'a> {
    https: bool,
    name: &'a str,
    port: &'a str,
}

fn split(text: &str) -> Result<Named<'_>, Status> {
    let parts: Vec<&str> = text.split(':').collect();
    let named = match parts.as_slice() {
        [name] => Named { https: false, name, port: "" },
        [name, port] => Named { https: false, name, port },
        ["http", name, port] => Named { https: false, name, port },
        ["https", name, port] => Named { https: true, name, port },
        _ => return Err(Status::bad_request(format!("invalid proxy request {text:?}"))),
    };
    match named.name.is_empty() {
        true => Err(Status::bad_request(format!("invalid proxy request {text:?}"))),
        false => Ok(named),
    }
}

/// `pods/proxy`
pub(super) async fn pod(
    core: &Core,
    request: &Request,
    incoming: Incoming,
) -> Result<Response, Status> {
    let named = split(&request.name)?;
    let pod = storage::get(&core.store, &POD, &request.namespace, named.name).await?.tree();
    let address = address::of_pod(core, &pod).await?;
    let port = match named.port {
        "" => pod
            .list("spec.containers")
            .iter()
            .flat_map(|container| container.list("ports"))
            .find(|port| matches!(port.str("protocol"), "" | "TCP"))
            .and_then(|port| port.int("containerPort")),
        text => text.parse().ok(),
    };
    let port = port_number(port, named.port)?.unwrap_or(80);
    forward(core, pod.str("spec.nodeName"), named.https, address, port, incoming).await
}

/// `services/proxy`
pub(super) async fn service(
    core: &Core,
    request: &Request,
    incoming: Incoming,
) -> Result<Response, Status> {
    let named = split(&request.name)?;
    let service = storage::get(&core.store, &SERVICE, &request.namespace, named.name).await?.tree();
    let ports = service.list("spec.ports");
    let wanted = match (named.port, ports) {
        ("", [only]) => only.str("name"),
        ("", _) => "",
        (text, ports) => {
            let found = ports.iter().find(|port| {
                port.str("name") == text
                    || text.parse::<i64>().ok().is_some_and(|n| port.int("port") == Some(n))
            });
            match found {
                Some(port) => port.str("name"),
                None => {
                    return Err(Status::unavailable(format!(
                        "no service port {text:?} found for service {:?}",
                        named.name
                    )));
                }
            }
        }
    };
    let endpoints = storage::find(&core.store, &ENDPOINTS, &request.namespace, named.name)
        .await?
        .map(|e| e.tree());
    // From a random one on, the first that a pod stands behind.
    let mut candidates: Vec<(&Value, u16)> = Vec::new();
    for subset in endpoints.iter().flat_map(|endpoints| endpoints.list("subsets")) {
        let Some(port) = subset.list("ports").iter().find(|port| port.str("name") == wanted) else {
            continue;
        };
        let Some(port) = port.int("port").and_then(|port| u16::try_from(port).ok()) else {
            continue;
        };
        candidates.extend(subset.list("addresses").iter().map(|address| (address, port)));
    }
    let random = usize::try_from(rt::random_u64() % candidates.len().max(1) as u64).unwrap_or(0);
    candidates.rotate_left(random);
    for (endpoint, port) in candidates {
        if let Some((pod, address)) = address::behind(core, &request.namespace, endpoint).await {
            let node = pod.str("spec.nodeName");
            return forward(core, node, named.https, address, port, incoming).await;
        }
    }
    Err(Status::unavailable(format!("no endpoints available for service {:?}", request.name)))
}

/// `nodes/proxy`: the kubelet's own API, or another port of the node.
pub(super) async fn node(
    core: &Core,
    request: &Request,
    incoming: Incoming,
) -> Result<Response, Status> {
    let named = split(&request.name)?;
    let node = storage::get(&core.store, &NODE, "", named.name).await?.tree();
    let kubelet = node.int("status.daemonEndpoints.kubeletEndpoint.Port").unwrap_or(10_250);
    if named.port.is_empty() || named.port.parse() == Ok(kubelet) {
        let Incoming { http, rest, .. } = incoming;
        let mut onward = http;
        onward.target = target(&rest, &onward);
        return call(core, named.name, onward).await;
    }
    let port = port_number(named.port.parse().ok(), named.port)?.unwrap_or(0);
    let address = address_of(&node)
        .ok_or_else(|| Status::unavailable(format!("node {} has no address", named.name)))?;
    let address = address::of_node(address).await?;
    forward(core, named.name, named.https, address, port, incoming).await
}

pub(super) fn address_of(node: &Value) -> Option<&str> {
    let addresses = node.list("status.addresses");
    let internal = addresses.iter().find(|address| address.str("type") == "InternalIP");
    internal.map(|address| address.str("address")).filter(|address| !address.is_empty())
}

fn port_number(port: Option<i64>, text: &str) -> Result<Option<u16>, Status> {
    match port {
        None if text.is_empty() => Ok(None),
        Some(port) => match u16::try_from(port) {
            Ok(port) if port != 0 => Ok(Some(port)),
            _ => Err(Status::bad_request(format!("invalid port {text:?}"))),
        },
        None => Err(Status::bad_request(format!("invalid port {text:?}"))),
    }
}

/// The path and query at the far end.
fn target(rest: &str, request: &http::Request) -> String {
    let path = if rest.is_empty() { "/" } else { rest };
    match request.query() {
        "" => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

/// Passes a request on to an address of the cluster.
async fn forward(
    core: &Core,
    node: &str,
    https: bool,
    address: Proxyable,
    port: u16,
    incoming: Incoming,
) -> Result<Response, Status> {
    address.port(core, port)?;
    let Incoming { http: mut request, rest, .. } = incoming;
    let browses = matches!(request.method, Method::Get | Method::Head);
    if rest.is_empty() && request.upgrade.is_none() && browses {
        // Relative links need the slash. A redirected POST would lose its body.
        let query = request.query();
        let location = match query {
            "" => format!("{}/", request.path()),
            query => format!("{}/?{query}", request.path()),
        };
        return Ok(Response::new(301).header("location", location));
    }
    let base = request.path().strip_suffix(rest.as_str()).unwrap_or("").to_owned();
    let mut endpoint = Endpoint::tcp(address.address.to_string(), port);
    let own = endpoint.authority();
    if https {
        endpoint = endpoint.tls(client_config(Trust::Insecure, None).map_err(Status::internal)?);
    }
    if let Some(dialer) = dialer(core, node) {
        endpoint = endpoint.dialer(dialer);
    }
    request.target = target(&rest, &request);
    let authority = request.authority.clone();
    pass::forwarded(&mut request, &format!("{base}{rest}"));
    if request.headers.get("accept").is_some_and(|accept| accept.contains("text/html")) {
        // A document for a browser is looked into.
        request.headers.remove("accept-encoding");
    }
    if request.upgrade.is_some() {
        return pass::upgrade(&core.http, &endpoint, request).await;
    }
    let mut response = pass::send(&core.http, &endpoint, request).await?;
    Base::new(&base, [own, authority]).keep(&mut response);
    Ok(response)
}
