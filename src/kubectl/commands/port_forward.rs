//! `kubectl port-forward`: ports of this machine that lead to a pod's.

use std::net::IpAddr;
use std::sync::Arc;

use api::selector::Selector;
use api::{Lens, Value};
use http::Method;
use http::io::copy_to_end;
use http::streams::{Dialed, PortForwarder, Transport, dial_port_forward};
use rt::io::AsyncReadExt;
use rt::net::{TcpListener, TcpStream};
use stdx::Arrange;

use crate::call::{BLANK, Call, Command};
use crate::failure::{Failure, Outcome, bind_error, failed};
use crate::flags::{Flag, duration, list};
use crate::out;
use crate::select::{self, Info, Pick};

const OWN: &[Flag] = &[
    list(
        "address",
        "Addresses to listen on (comma separated). Only accepts IP addresses or localhost as a value.",
    ),
    duration(
        "pod-running-timeout",
        "1m0s",
        "The length of time (like 5s, 2m, or 3h, higher than zero) to wait until at least one pod is running",
    ),
];

pub(crate) static COMMAND: Command = Command {
    name: "port-forward",
    about: "Forward one or more local ports to a pod.",
    usage: "TYPE/NAME [options] [LOCAL_PORT:]REMOTE_PORT [...[LOCAL_PORT_N:]REMOTE_PORT_N]",
    flags: &[OWN],
    run: Some(run),
    ..BLANK
};

/// What a kubelet says of a connection that failed.
const ERROR_MAX_BYTES: u64 = 64 << 10;

fn run(call: &Call<'_>) -> Outcome {
    let (Some((target, ports)), true) = (call.args().split_first(), call.args().len() > 1) else {
        return call.usage("TYPE/NAME and list of ports are required for port-forward");
    };
    if call.nanos("pod-running-timeout") <= 0 {
        return call.usage("--pod-running-timeout must be higher than zero");
    }
    let info = object(call, target)?;
    let Some(pod) = pods(call, &info)?.into_iter().next() else {
        return failed(format!("no pods found in {}", info.resource.plural));
    };
    let is_service = info.resource.kind == "Service" && info.resource.group.is_empty();
    let mut pairs = Vec::new();
    for port in ports {
        let resolved =
            if is_service { of_service(&info.object, &pod, port)? } else { of_pod(&pod, port)? };
        pairs.push(parse(&resolved)?);
    }
    let phase = pod.str("status.phase");
    if phase != "Running" {
        return failed(format!(
            "unable to forward port because pod is not running. Current status={phase}"
        ));
    }
    let addresses = addresses(call)?;
    rt::block_on(forward(call, &pod, &pairs, &addresses))
}

/// The one object whose pod is meant.
fn object(call: &Call<'_>, target: &str) -> Outcome<Info> {
    let pick = Pick { default_type: "pods", ..Pick::of(call, &[target.to_owned()]) };
    let mut infos = select::all_infos(call, &pick)?;
    match infos.len() {
        1 => Ok(infos.remove(0)),
        n => failed(format!("expected one resource, got {n}")),
    }
}

/// The pods of an object, those that run first.
fn pods(call: &Call<'_>, info: &Info) -> Outcome<Vec<Value>> {
    let kind = info.resource.kind.as_str();
    let selector = match kind {
        "Pod" => return Ok(vec![info.object.clone()]),
        "Service"
        | "ReplicationController"
        | "Deployment"
        | "ReplicaSet"
        | "StatefulSet"
        | "DaemonSet"
        | "Job" => Selector::text(info.object.at("spec.selector")),
        _ => {
            return failed(format!("cannot attach to {kind}: selector for {kind} not implemented"));
        }
    };
    if selector.is_empty() {
        return failed(format!(
            "invalid service '{}': Service is defined without a selector",
            info.name
        ));
    }
    let pick = Pick { selector, ..Pick::default() };
    let resource = call.mapper()?.find(call.rest()?, "pods")?;
    let list = || select::list(call, &resource, &info.namespace, &pick);
    let mut pods = select::items(&resource, list()?);
    if pods.is_empty() {
        crate::pods::await_any(call, &info.namespace, &pick.selector)?;
        pods = select::items(&resource, list()?);
    }
    pods.arrange_by_key(|pod| {
        (pod.str("spec.nodeName").is_empty(), pod.str("status.phase") != "Running")
    });
    Ok(pods)
}

/// `LOCAL:REMOTE`, or one for both.
fn split(port: &str) -> (&str, &str) {
    port.split_once(':').unwrap_or((port, port))
}

fn parse(port: &str) -> Outcome<(u16, u16)> {
    let parts: Vec<&str> = port.split(':').collect();
    let (local, remote) = match parts.as_slice() {
        [both] => (*both, *both),
        ["", remote] => ("0", *remote),
        [local, remote] => (*local, *remote),
        _ => return failed(format!("invalid port format '{port}'")),
    };
    let read = |text: &str, what: &str| {
        text.parse::<u16>().map_err(|_| {
            let why = match !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
                true => "value out of range",
                false => "invalid syntax",
            };
            Failure::Message(format!(
                "error parsing {what} port '{text}': strconv.ParseUint: parsing {text:?}: {why}"
            ))
        })
    };
    let (local, remote) = (read(local, "local")?, read(remote, "remote")?);
    if remote == 0 {
        return failed("remote port must be > 0");
    }
    Ok((local, remote))
}

/// The number of a pod's port by its name.
fn of_pod(pod: &Value, port: &str) -> Outcome<String> {
    let (local, remote) = split(port);
    if remote.parse::<i64>().is_ok() || remote.is_empty() {
        return Ok(port.to_owned());
    }
    let ports = pod.list("spec.containers").iter().flat_map(|container| container.list("ports"));
    let found =
        ports.filter(|own| own.str("name") == remote).find_map(|own| own.int("containerPort"));
    let Some(number) = found else {
        return failed(format!(
            "Pod '{}' does not have a named port '{remote}'",
            pod.str("metadata.name")
        ));
    };
    Ok(match local == remote {
        true => number.to_string(),
        false => format!("{local}:{number}"),
    })
}

/// The port of a pod that a service's port, by number or name, leads to.
fn of_service(service: &Value, pod: &Value, port: &str) -> Outcome<String> {
    let (mut local, remote) = split(port);
    let name = service.str("metadata.name");
    let ports = service.list("spec.ports");
    let number = match remote.parse::<i64>() {
        Ok(number) => number,
        Err(_) => {
            let found =
                ports.iter().find(|own| own.str("name") == remote).and_then(|own| own.int("port"));
            let Some(number) = found else {
                return failed(format!("Service '{name}' does not have a named port '{remote}'"));
            };
            number
        }
    };
    let shown = number.to_string();
    if local == remote {
        local = &shown;
    }
    let Some(own) = ports.iter().find(|own| own.int("port") == Some(number)) else {
        return failed(format!("Service {name} does not have a service port {number}"));
    };
    let inner = match own.at("targetPort") {
        _ if service.str("spec.clusterIP") == "None" => number,
        Value::String(named) => {
            let ports =
                pod.list("spec.containers").iter().flat_map(|container| container.list("ports"));
            let found = ports
                .filter(|own| own.str("name") == named)
                .find_map(|own| own.int("containerPort"));
            let Some(found) = found else {
                return failed(format!(
                    "Pod '{}' does not have a named port '{named}'",
                    pod.str("metadata.name")
                ));
            };
            found
        }
        target => target.as_i64().filter(|port| *port != 0).unwrap_or(number),
    };
    Ok(format!("{local}:{inner}"))
}

/// Where to listen; of `localhost` one of both families is enough.
fn addresses(call: &Call<'_>) -> Outcome<Vec<(IpAddr, bool)>> {
    let mut named = call.list("address");
    if named.is_empty() {
        named.push("localhost".to_owned());
    }
    let mut found = Vec::new();
    for address in named {
        if address == "localhost" {
            found.push((IpAddr::from([127, 0, 0, 1]), true));
            found.push((IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1u16]), true));
        } else if let Ok(ip) = address.parse() {
            found.push((ip, false));
        } else {
            return failed(format!("{address} is not a valid IP"));
        }
    }
    Ok(found)
}

async fn forward(
    call: &Call<'_>,
    pod: &Value,
    pairs: &[(u16, u16)],
    addresses: &[(IpAddr, bool)],
) -> Outcome {
    let session = Arc::new(dial(call, pod).await?);
    let mut is_any = false;
    for (local, remote) in pairs {
        match listen(*local, *remote, addresses, &session).await {
            Ok(()) => is_any = true,
            Err(why) => out::tell(&format!("Unable to listen on port {local}: {why}")),
        }
    }
    if !is_any {
        let all: Vec<String> =
            pairs.iter().map(|(local, remote)| format!("{{{local} {remote}}}")).collect();
        return failed(format!(
            "unable to listen on any of the requested ports: [{}]",
            all.join(" ")
        ));
    }
    session.ended().await;
    failed("lost connection to pod")
}

/// A session with the pod: over a WebSocket, or SPDY where the server wants that.
async fn dial(call: &Call<'_>, pod: &Value) -> Outcome<PortForwarder> {
    let rest = call.rest()?;
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}/portforward",
        pod.str("metadata.namespace"),
        pod.str("metadata.name")
    );
    let first = match call.env("KUBECTL_PORT_FORWARD_WEBSOCKETS").as_str() {
        "false" => Transport::Spdy,
        _ => Transport::WebSocket,
    };
    for transport in [first, Transport::Spdy] {
        let method = if transport == Transport::Spdy { Method::Post } else { Method::Get };
        let request = rest.request(method, &path, "application/json, */*", None);
        let (endpoint, request) = rest.raw.prepared(request).await;
        let dialed = dial_port_forward(rest.raw.http(), &endpoint, request, transport).await;
        match dialed.map_err(|error| rest.unreachable(&error))? {
            Dialed::Stream(session) => return Ok(session),
            Dialed::Refused(mut response) => {
                let is_final =
                    transport == Transport::Spdy || matches!(response.status, 401 | 403 | 404);
                if !is_final {
                    continue;
                }
                let bytes =
                    response.body.read_all(ERROR_MAX_BYTES as usize).await.unwrap_or_default();
                if let Ok(status) = serde_json::from_slice::<Value>(&bytes)
                    && status.str("kind") == "Status"
                {
                    return Err(Failure::Status(status));
                }
                return failed(format!(
                    "error upgrading connection: the server answered {}",
                    response.status
                ));
            }
        }
    }
    failed("error upgrading connection")
}

/// Listens on a port of each address; an error only if it is on none.
async fn listen(
    local: u16,
    remote: u16,
    addresses: &[(IpAddr, bool)],
    session: &Arc<PortForwarder>,
) -> Result<(), String> {
    let mut failures = Vec::new();
    let (mut port, mut is_any, mut is_other) = (local, false, false);
    for (address, is_localhost) in addresses {
        let listener = match TcpListener::bind((*address, port)).await {
            Ok(listener) => listener,
            Err(error) => {
                let family = if address.is_ipv4() { "tcp4" } else { "tcp6" };
                let shown = shown(*address, local);
                let why = bind_error(&error);
                failures.push(format!(
                    "unable to create listener: Error listen {family} {shown}: {why}"
                ));
                is_other |= !is_localhost;
                continue;
            }
        };
        // A port that the system chose for the first is the others', too.
        port = listener.local_addr().map_or(port, |own| own.port());
        out::line(&format!("Forwarding from {} -> {remote}", shown(*address, port)));
        is_any = true;
        rt::spawn(accept(listener, port, remote, Arc::clone(session))).detach();
    }
    match is_any && !is_other {
        true => Ok(()),
        false => Err(format!(
            "Listeners failed to create with the following errors: [{}]",
            failures.join(" ")
        )),
    }
}

fn shown(address: IpAddr, port: u16) -> String {
    match address {
        IpAddr::V4(ip) => format!("{ip}:{port}"),
        IpAddr::V6(ip) => format!("[{ip}]:{port}"),
    }
}

async fn accept(listener: TcpListener, local: u16, remote: u16, session: Arc<PortForwarder>) {
    while let Ok((stream, _)) = listener.accept().await {
        out::line(&format!("Handling connection for {local}"));
        let session = Arc::clone(&session);
        rt::spawn(async move {
            if let Err(why) = connection(stream, remote, &session).await {
                out::tell(&format!("an error occurred forwarding {local} -> {remote}: {why}"));
            }
        })
        .detach();
    }
}

/// One connection: both ways until each side has ended, or the pod's end says what is wrong.
async fn connection(stream: TcpStream, remote: u16, session: &PortForwarder) -> Result<(), String> {
    let (from_pod, to_pod, error) =
        session.open(remote).await.map_err(|error| error.to_string())?;
    let (from_here, to_here) = rt::io::split(stream);
    let up = rt::spawn(async move { copy_to_end(from_here, to_pod).await });
    let down = copy_to_end(from_pod, to_here).await;
    drop(up);
    let mut text = String::new();
    let told = error.take(ERROR_MAX_BYTES).read_to_string(&mut text).await;
    match told {
        Ok(n) if n > 0 => Err(text),
        _ => down.map(|_| ()).map_err(|error| error.to_string()),
    }
}
