//! The way to nodes: logs, exec, attach and port-forward of pods, and proxies to what runs there.

mod address;
mod kubelet;
mod links;
mod pods;
mod proxy;

use api::kinds::{NODE, POD, SERVICE};
use api::query::Query;
use api::{LensMut, Status, Value, json};
use client::Request;
use http::Response;

use crate::admission::{self, Act, Notes};
use crate::core::{Call, Core, not_found};

/// Whether a subresource is answered here.
pub(crate) fn is_here(request: &Request) -> bool {
    match request.subresource.as_str() {
        "log" | "exec" | "attach" | "portforward" => *request.kind == POD,
        "proxy" => [&POD, &SERVICE, &NODE].contains(&request.kind),
        _ => false,
    }
}

/// What comes in beside the parsed request.
pub(crate) struct Incoming {
    /// Headers without what they say about the caller, body and upgrade as they came; the target is
    /// the API server's.
    pub(crate) http: http::Request,
    pub(crate) query: Query,
    /// What follows `/proxy`, escaped.
    pub(crate) rest: String,
}

/// Answers an authorized request to a node.
///
/// # Errors
/// What is refused before the node is asked.
pub(crate) async fn answer(
    core: &Core,
    request: &Request,
    incoming: Incoming,
) -> Result<Response, Status> {
    let kind = request.kind;
    match request.subresource.as_str() {
        "log" if *kind == POD => pods::logs(core, request, incoming).await,
        "exec" if *kind == POD => pods::command(core, request, incoming, "exec").await,
        "attach" if *kind == POD => pods::command(core, request, incoming, "attach").await,
        "portforward" if *kind == POD => pods::port_forward(core, request, incoming).await,
        "proxy" if *kind == POD => proxy::pod(core, request, incoming).await,
        "proxy" if *kind == SERVICE => proxy::service(core, request, incoming).await,
        "proxy" if *kind == NODE => proxy::node(core, request, incoming).await,
        _ => Err(not_found()),
    }
}

/// Admission of a connection; logs are only read.
pub(crate) async fn admit(call: &Call<'_>, query: &Query, path: &str) -> Result<(), Status> {
    if call.request.subresource == "log" {
        return Ok(());
    }
    let mut notes = Notes::default();
    admission::admit(&Act::connect(call), options(call.request, query, path), &mut notes)
        .await
        .map(drop)
}

/// What a connection is asked for with: `PodExecOptions` and the like.
fn options(request: &Request, query: &Query, path: &str) -> Value {
    let kind = match (request.kind.name, request.subresource.as_str()) {
        (_, "exec") => "PodExecOptions",
        (_, "attach") => "PodAttachOptions",
        (_, "portforward") => "PodPortForwardOptions",
        ("Service", _) => "ServiceProxyOptions",
        ("Node", _) => "NodeProxyOptions",
        _ => "PodProxyOptions",
    };
    let mut options = json!({"kind": kind, "apiVersion": "v1"});
    match request.subresource.as_str() {
        "exec" | "attach" => {
            for stream in ["stdin", "stdout", "stderr", "tty"] {
                if query.flag(stream) {
                    options.set(stream, true);
                }
            }
            if query.has("container") {
                options.set("container", query.get("container"));
            }
            let command: Vec<Value> = query.all("command").map(Value::from).collect();
            if request.subresource == "exec" && !command.is_empty() {
                options.set("command", Value::Array(command));
            }
        }
        "portforward" => {
            let ports = query.all("ports").flat_map(|list| list.split(','));
            let ports: Vec<Value> =
                ports.filter_map(|port| port.parse::<i64>().ok()).map(Value::from).collect();
            if !ports.is_empty() {
                options.set("ports", Value::Array(ports));
            }
        }
        _ if !path.is_empty() => options.set("path", path),
        _ => {}
    }
    options
}

/// How connections to addresses of a node and its pods are opened; `None` is by plain TCP.
fn dialer(core: &Core, node: &str) -> Option<std::sync::Arc<dyn http::client::Dial>> {
    let own = core.door.get().filter(|door| door.has(node));
    match own {
        Some(door) => door.dialer(node),
        None => core.config.tunnels.as_ref().and_then(|tunnels| tunnels.to_pods(node)),
    }
}

/// Puts an authorized request to a node's kubelet, in this process or at its port.
pub(crate) async fn call(
    core: &Core,
    node: &str,
    request: http::Request,
) -> Result<Response, Status> {
    match core.door.get().filter(|door| door.has(node)) {
        Some(door) => Ok(door.call(node, request).await),
        None => kubelet::call(core, node, request).await,
    }
}
