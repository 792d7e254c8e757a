//! Where a Service's traffic goes: EndpointSlices and Endpoints from pods, and slices from hand-made Endpoints.

mod legacy;
mod mirroring;
mod slices;

pub(crate) use legacy::LegacyEndpoints;
pub(crate) use mirroring::Mirroring;

use api::json;
use api::kinds::{ENDPOINT_SLICE, NODE, POD, SERVICE, SERVICE_NAME_LABEL};
use api::selector::Selector;
use api::{Actions, Controller, Key, Kind, Lens, LensMut, Next, Object, Value, View, Wakes, Watch};
use stdx::OrdMap;

use crate::support::pods::Pod;
use slices::{Desired, MANAGED_BY};

const CONTROLLER: &str = "endpointslice-controller.k8s.io";
const ZONE: &str = "topology.kubernetes.io/zone";
const HEADLESS: &str = "service.kubernetes.io/headless";

pub(crate) struct EndpointSlices;

impl Controller for EndpointSlices {
    const NAME: &'static str = "endpointslice-controller";
    const WATCHES: &'static [Watch] = &[
        Watch::new(&SERVICE, Wakes::Itself),
        Watch::new(&POD, Wakes::With(services_of_pod)),
        Watch::new(
            &ENDPOINT_SLICE,
            Wakes::With(|_, slice| service_of_slice(slice, CONTROLLER, &SERVICE)),
        ),
    ];
    const READS: &'static [&'static Kind] = &[&NODE];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        // Slices of a vanished service go with their owner.
        let Some(object) = view.at(key) else { return Next::Done };
        let service = object.tree();
        if !has_selector(&service) {
            return Next::Done;
        }
        let pods = selected_pods(view, &object, &service);
        let mut desired = Vec::new();
        for family in families(&service) {
            let mut groups: OrdMap<String, Desired> = OrdMap::new();
            for pod in &pods {
                let Some(endpoint) = endpoint(view, pod, &service, family) else { continue };
                let ports = ports(&service, pod);
                let group = groups.entry(Value::from(ports.clone()).to_string());
                group
                    .or_insert_with(|| Desired { family, ports, endpoints: Vec::new() })
                    .endpoints
                    .push(endpoint);
            }
            if groups.is_empty() {
                // One empty slice tells that there is a service with nothing behind it.
                desired.push(Desired { family, ports: Vec::new(), endpoints: Vec::new() });
            }
            desired.extend(groups.into_values());
        }
        let mut labels = service.at("metadata.labels").clone();
        if is_headless(&service) {
            labels.map_mut("").insert(HEADLESS.into(), "".into());
        }
        slices::sync(view, &object, object.name(), CONTROLLER, labels, desired, actions);
        Next::Done
    }
}

/// A service whose endpoints are pods. An `ExternalName` has none, and without a selector they are made by hand.
fn has_selector(service: &Value) -> bool {
    service.str("spec.type") != "ExternalName" && service.at("spec.selector").is_object()
}

fn is_headless(service: &Value) -> bool {
    service.str("spec.clusterIP") == "None"
}

/// The services whose selector matches a pod.
fn services_of_pod(view: &View<'_>, pod: &Object) -> Vec<Key> {
    if pod.labels().next().is_none() {
        return Vec::new();
    }
    let mut services = view.list(&SERVICE, Some(pod.namespace()));
    services.retain(|service| {
        let tree = service.tree();
        let selector = Selector::from_map(tree.at("spec.selector"));
        !selector.is_everything() && selector.matches(pod.labels())
    });
    services.iter().map(Key::of).collect()
}

/// The object (of `kind`) that a slice of ours was made for.
fn service_of_slice(slice: &Object, controller: &str, kind: &'static Kind) -> Vec<Key> {
    let ours = slice.label(MANAGED_BY) == Some(controller);
    let service = slice.label(SERVICE_NAME_LABEL).filter(|_| ours);
    service.map(|name| Key::new(kind, slice.namespace(), name)).into_iter().collect()
}

/// The service's pods that can have endpoints: not finished, with an address.
fn selected_pods(view: &View<'_>, object: &Object, service: &Value) -> Vec<Pod> {
    let selector = Selector::from_map(service.at("spec.selector"));
    let pods = view.selected(&POD, object.namespace(), &selector).into_iter().map(Pod::new);
    pods.filter(|pod| !pod.finished() && !addresses(pod).is_empty()).collect()
}

fn addresses(pod: &Pod) -> Vec<&str> {
    let list = pod.tree.list("status.podIPs").iter().map(|entry| entry.str("ip"));
    let addresses: Vec<&str> = list.filter(|ip| !ip.is_empty()).collect();
    match (addresses.is_empty(), pod.tree.str("status.podIP")) {
        (true, ip) if !ip.is_empty() => vec![ip],
        _ => addresses,
    }
}

/// The address types that the service is served on.
fn families(service: &Value) -> Vec<&'static str> {
    let list = service.list("spec.ipFamilies");
    match (list.is_empty(), service.str("spec.clusterIP")) {
        (true, ip) => vec![family_of(ip)],
        (false, _) => list.iter().map(|f| if f == "IPv6" { "IPv6" } else { "IPv4" }).collect(),
    }
}

fn family_of(address: &str) -> &'static str {
    if address.contains(':') { "IPv6" } else { "IPv4" }
}

/// What a port of the service is on this pod; ports that the pod does not have are left out.
fn ports(service: &Value, pod: &Pod) -> Vec<Value> {
    let mut ports = Vec::new();
    for port in service.list("spec.ports") {
        let protocol = match port.str("protocol") {
            "" => "TCP",
            protocol => protocol,
        };
        let number = match port.at("targetPort") {
            Value::String(name) => named_port(pod, name, protocol),
            target => target.as_i64().filter(|n| *n != 0).or_else(|| port.int("port")),
        };
        let Some(number) = number else { continue };
        let mut entry = json!({"name": port.str("name"), "protocol": protocol, "port": number});
        if port.has("appProtocol") {
            entry.set("appProtocol", port.str("appProtocol"));
        }
        ports.push(entry);
    }
    ports
}

/// A container's (or sidecar's) port of this name and protocol.
fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<i64> {
    let sidecars = pod.tree.list("spec.initContainers").iter();
    let sidecars = sidecars.filter(|container| container.str("restartPolicy") == "Always");
    let containers = pod.tree.list("spec.containers").iter().chain(sidecars);
    let is_it = |port: &&Value| {
        let own = port.str("protocol");
        port.str("name") == name && (own == protocol || (own.is_empty() && protocol == "TCP"))
    };
    containers
        .flat_map(|container| container.list("ports"))
        .find(is_it)
        .and_then(|port| port.int("containerPort"))
}

fn target_ref(pod: &Pod) -> Value {
    json!({
        "kind": "Pod", "namespace": pod.object.namespace(),
        "name": pod.name(), "uid": pod.object.uid(),
    })
}

/// The pod's own host name within the service's domain.
fn hostname<'p>(pod: &'p Pod, service: &Value) -> Option<&'p str> {
    let name = pod.tree.str("spec.hostname");
    let ours = pod.tree.str("spec.subdomain") == service.str("metadata.name");
    (ours && !name.is_empty()).then_some(name)
}

/// Whether clients are to be led to endpoints of their own zone. The annotation asks for another share of zones and
/// counts more; we hint at none then.
fn prefers_close(service: &Value) -> bool {
    const MODES: [&str; 2] =
        ["service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints"];
    let mode = |key: &&str| service.entry("metadata.annotations", key);
    let by_annotation = MODES.iter().find_map(mode).is_some_and(|m| matches!(m, "Auto" | "auto"));
    service.str("spec.trafficDistribution") == "PreferClose" && !by_annotation
}

fn endpoint(view: &View<'_>, pod: &Pod, service: &Value, family: &str) -> Option<Value> {
    let mut addresses = addresses(pod);
    addresses.retain(|address| family_of(address) == family);
    if addresses.is_empty() {
        return None;
    }
    let (serving, terminating) = (pod.ready(), pod.deleting());
    let ready = service.flag("spec.publishNotReadyAddresses") || (serving && !terminating);
    let mut endpoint = json!({
        "addresses": addresses,
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": target_ref(pod),
    });
    if !pod.node().is_empty() {
        endpoint.set("nodeName", pod.node());
        let node = view.get(&NODE, "", pod.node());
        if let Some(zone) = node.as_ref().and_then(|node| node.label(ZONE)) {
            endpoint.set("zone", zone);
            if ready && prefers_close(service) {
                endpoint.set("hints", json!({"forZones": [{"name": zone}]}));
            }
        }
    }
    if let Some(name) = hostname(pod, service) {
        endpoint.set("hostname", name);
    }
    Some(endpoint)
}

#[cfg(test)]
mod tests;
