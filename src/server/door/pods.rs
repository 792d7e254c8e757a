//! Logs, exec, attach and port-forward: checked here, done by the kubelet.

use api::kinds::POD;
use api::query::{Query, escape};
use api::status::{Cause, Reason};
use api::{Kind, Lens, Status, Value};
use client::Request;
use http::{Method, Response};

use super::{Incoming, call};
use crate::core::{Core, method_not_allowed};
use crate::socket::{self, Frames};
use crate::storage;

/// `pods/log`
pub(super) async fn logs(
    core: &Core,
    request: &Request,
    mut incoming: Incoming,
) -> Result<Response, Status> {
    if !matches!(incoming.http.method, Method::Get | Method::Head) {
        return Err(method_not_allowed());
    }
    let socket = take_socket(&mut incoming.http);
    let query = log_query(&incoming.query)?;
    let pod = storage::get(&core.store, &POD, &request.namespace, &request.name).await?.tree();
    let container = container(&pod, incoming.query.get("container"))?;
    let node = pod.str("spec.nodeName");
    if node.is_empty() {
        // There is nothing to show yet.
        return Ok(Response::new(204));
    }
    let target =
        format!("/containerLogs/{}/{}/{container}{query}", request.namespace, request.name);
    let mut response = call(core, node, onward(incoming, target)).await?;
    if !(200..=206).contains(&response.status) {
        return Err(refusal(&request.name, response).await);
    }
    if let Some(socket) = socket {
        return Ok(socket::answer(socket, response, Frames::Bytes));
    }
    response.headers.set("cache-control", "no-cache, private");
    response.headers.set("content-type", "text/plain");
    Ok(response)
}

/// The wish for a WebSocket, if there is one: the node is asked without it, for a plain stream.
fn take_socket(request: &mut http::Request) -> Option<http::Request> {
    if !http::websocket::is_asked_for(request) {
        return None;
    }
    let mut socket = http::Request::get(request.target.as_str());
    socket.headers = request.headers.clone();
    socket.upgrade = request.upgrade.take();
    let handshake = ["connection", "upgrade", "sec-websocket-key", "sec-websocket-version"];
    for name in handshake.into_iter().chain(["sec-websocket-protocol", "sec-websocket-extensions"])
    {
        request.headers.remove(name);
    }
    Some(socket)
}

/// A kubelet's refusal as a `Status` (upstream's `GenericHttpResponseChecker`).
async fn refusal(pod: &str, mut response: Response) -> Status {
    let text = response.body.read_all(REFUSAL_MAX_BYTES).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    let reason = match response.status {
        400 => Reason::BadRequest,
        401 => Reason::Unauthorized,
        403 => Reason::Forbidden,
        404 => Reason::NotFound,
        503 => Reason::ServiceUnavailable,
        _ => return Status::internal(text),
    };
    let message = match reason {
        Reason::BadRequest | Reason::ServiceUnavailable => text,
        _ => format!("{text} (get pods {pod})"),
    };
    Status::new(reason, message).about(&POD, pod)
}

/// What is read of a kubelet's refusal.
const REFUSAL_MAX_BYTES: usize = 10_000;

/// `PodLogOptions`, checked and as the kubelet reads them.
fn log_query(query: &Query) -> Result<String, Status> {
    let mut parts = Vec::new();
    for flag in ["follow", "previous", "timestamps"] {
        if query.flag(flag) {
            parts.push(format!("{flag}=true"));
        }
    }
    let mut causes = Vec::new();
    for (field, least) in [("sinceSeconds", 1), ("tailLines", 0), ("limitBytes", 1)] {
        let Some(number) = query.int(field)? else { continue };
        if number < least {
            let complaint = match least {
                0 => "must be greater than or equal to 0",
                _ => "must be greater than 0",
            };
            causes.push(Cause {
                reason: "FieldValueInvalid",
                message: format!("Invalid value: {number}: {complaint}"),
                field: field.into(),
            });
        }
        parts.push(format!("{field}={number}"));
    }
    let since = query.get("sinceTime");
    if !since.is_empty() {
        if api::time::parse(since).is_none() {
            return Err(Status::bad_request(format!(
                "parsing time {since:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {since:?}"
            )));
        }
        if query.has("sinceSeconds") {
            causes.push(Cause {
                reason: "FieldValueForbidden",
                message: "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
                    .into(),
                field: "sinceSeconds".into(),
            });
        }
        parts.push(format!("sinceTime={}", escape(since)));
    }
    if !causes.is_empty() {
        let options = Kind { name: "PodLogOptions", plural: "", ..Kind::BASE };
        return Err(Status::invalid(&options, "", causes));
    }
    Ok(if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) })
}

/// `pods/exec` and `pods/attach`
pub(super) async fn command(
    core: &Core,
    request: &Request,
    incoming: Incoming,
    verb: &'static str,
) -> Result<Response, Status> {
    if !matches!(incoming.http.method, Method::Get | Method::Post) {
        return Err(method_not_allowed());
    }
    let query = &incoming.query;
    let pod = storage::get(&core.store, &POD, &request.namespace, &request.name).await?.tree();
    let container = container(&pod, query.get("container"))?;
    let node = host(&pod)?;
    let mut parts = Vec::new();
    for (ours, theirs, default) in [
        ("stdin", "input", false),
        ("stdout", "output", true),
        ("stderr", "error", true),
        ("tty", "tty", false),
    ] {
        // Upstream's defaults: both outputs, unless the query says which streams it wants.
        let asked = query.optional_flag(ours);
        let any = ["stdin", "stdout", "stderr"].iter().any(|field| query.has(field));
        if asked.unwrap_or(default && !any) {
            parts.push(format!("{theirs}=1"));
        }
    }
    if verb == "exec" {
        let words: Vec<&str> = query.all("command").collect();
        if words.is_empty() {
            return Err(Status::bad_request(
                "you must specify at least 1 command for the container",
            ));
        }
        parts.extend(words.into_iter().map(|word| format!("command={}", escape(word))));
    }
    let node = node.to_owned();
    let target =
        format!("/{verb}/{}/{}/{container}?{}", request.namespace, request.name, parts.join("&"));
    call(core, &node, onward(incoming, target)).await
}

/// `pods/portforward`
pub(super) async fn port_forward(
    core: &Core,
    request: &Request,
    incoming: Incoming,
) -> Result<Response, Status> {
    if !matches!(incoming.http.method, Method::Get | Method::Post) {
        return Err(method_not_allowed());
    }
    let pod = storage::get(&core.store, &POD, &request.namespace, &request.name).await?.tree();
    let node = host(&pod)?;
    let ports: Vec<String> = incoming
        .query
        .all("ports")
        .chain(incoming.query.all("port"))
        .flat_map(|list| list.split(','))
        .filter(|port| !port.is_empty())
        .map(|port| format!("port={}", escape(port)))
        .collect();
    let mut target = format!("/portForward/{}/{}", request.namespace, request.name);
    if !ports.is_empty() {
        target.push('?');
        target.push_str(&ports.join("&"));
    }
    call(core, node, onward(incoming, target)).await
}

/// The same request with the kubelet's target.
fn onward(incoming: Incoming, target: String) -> http::Request {
    let mut request = incoming.http;
    request.target = target;
    request
}

fn host(pod: &Value) -> Result<&str, Status> {
    match pod.str("spec.nodeName") {
        "" => Err(Status::bad_request(format!(
            "pod {} does not have a host assigned",
            pod.str("metadata.name")
        ))),
        node => Ok(node),
    }
}

/// The container that is meant: the one that is named, or the only one.
fn container(pod: &Value, named: &str) -> Result<String, Status> {
    let name = pod.str("metadata.name");
    let names = |path: &str| -> Vec<&str> {
        pod.list(path).iter().map(|container| container.str("name")).collect()
    };
    let (main, init) = (names("spec.containers"), names("spec.initContainers"));
    let ephemeral = names("spec.ephemeralContainers");
    if named.is_empty() {
        return match main.as_slice() {
            [only] if init.is_empty() && ephemeral.is_empty() => Ok((*only).to_owned()),
            [only] if ephemeral.is_empty() && !init.is_empty() => Err(choose(name, &[only], &init)),
            _ => Err(choose(name, &main, &init)),
        };
    }
    let known = main.iter().chain(&init).chain(&ephemeral).any(|own| *own == named);
    match known {
        true => Ok(named.to_owned()),
        false => Err(Status::new(
            Reason::BadRequest,
            format!("container {named} is not valid for pod {name}"),
        )),
    }
}

fn choose(pod: &str, main: &[&str], init: &[&str]) -> Status {
    let mut message = format!(
        "a container name must be specified for pod {pod}, choose one of: [{}]",
        main.join(" ")
    );
    if !init.is_empty() {
        message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
    }
    Status::bad_request(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn the_container_is_found_or_asked_for() {
        let one = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}});
        assert_eq!(container(&one, "").unwrap(), "a");
        assert_eq!(
            container(&one, "x").unwrap_err().message(),
            "container x is not valid for pod p"
        );
        let two = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(
            container(&two, "").unwrap_err().message(),
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
        assert_eq!(container(&two, "i").unwrap(), "i");
    }

    #[test]
    fn log_options_are_checked() {
        let text = |query: &str| log_query(&Query::parse(query).unwrap());
        assert_eq!(text("").unwrap(), "");
        assert_eq!(text("follow=true&tailLines=5").unwrap(), "?follow=true&tailLines=5");
        for bad in [
            "tailLines=-1",
            "sinceSeconds=0",
            "limitBytes=0",
            "sinceSeconds=5&sinceTime=2024-01-01T00:00:00Z",
        ] {
            assert_eq!(text(bad).unwrap_err().code(), 422, "{bad}");
        }
        assert_eq!(text("sinceTime=yesterday").unwrap_err().code(), 400);
        assert_eq!(text("tailLines=x").unwrap_err().code(), 400);
    }
}
