//! What pods and pod templates share beyond the schema: what they refer to, ask for, and their quality of service.

pub mod ephemeral;
pub mod fields;
pub mod references;
pub mod resources;

use serde_json::Value;

use crate::lens::Lens;
use crate::quantity::Quantity;

/// The quality of service class of a pod's spec: `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(spec: &Value) -> &'static str {
    let containers = || spec.list("containers").iter().chain(spec.list("initContainers"));
    let amount = |container: &Value, what: &str, resource: &str| {
        container
            .at("resources")
            .at(what)
            .get(resource)
            .and_then(Quantity::from_tree)
            .filter(|q| !q.is_zero())
    };
    let (mut any, mut guaranteed) = (false, true);
    for container in containers() {
        for resource in ["cpu", "memory"] {
            let limit = amount(container, "limits", resource);
            let request = amount(container, "requests", resource);
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// The containers of every sort with the field each stands in.
pub fn all_containers(spec: &Value) -> impl Iterator<Item = (&'static str, usize, &Value)> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(move |field| {
        spec.list(field).iter().enumerate().map(move |(idx, c)| (field, idx, c))
    })
}

/// True for an init container that keeps running beside the others (a sidecar).
pub fn restartable(init_container: &Value) -> bool {
    init_container.str("restartPolicy") == "Always"
}

/// A sysctl's name with dots, as upstream normalizes it: `net/ipv4/conf/eth0.1/x` is
/// `net.ipv4.conf.eth0/1.x`, and a name whose first separator is a dot is that already.
pub fn sysctl_name(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('/') => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// The namespace of a sysctl that the pod shares with the host, and the field that says so. Such a sysctl
/// would be the whole machine's.
pub fn host_namespace_of_sysctl(spec: &Value, name: &str) -> Option<(&'static str, &'static str)> {
    let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."];
    if name.starts_with("net.") && spec.flag("hostNetwork") {
        return Some(("net", "hostNetwork"));
    }
    let is_ipc = name == "kernel.sem" || ipc.iter().any(|prefix| name.starts_with(prefix));
    (is_ipc && spec.flag("hostIPC")).then_some(("ipc", "hostIPC"))
}
