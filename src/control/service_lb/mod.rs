//! ServiceLB: Services of type LoadBalancer get the addresses of nodes, as from k3s's service load balancer.
//!
//! There are no pods: what a Service is granted here, nodes serve by their rules (`netplan`). Each Service is judged
//! alone, by what it and its rivals ask for, so that one whose status cannot be written holds up nobody. A port of
//! a node is kept by the Service that has it; of those that ask for a free one the oldest gets it, then the
//! first by name. A Service is on a node with all of its ports or not at all, as a pod would be.

mod choice;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use api::balance::{self, Asks, FINALIZER, PRODUCT_MAX, Port};
use api::kinds::{CONFIG_MAP, ENDPOINT_SLICE, NODE, POD, SERVICE, SERVICE_NAME_LABEL};
use api::{Actions, Controller, Key, Lens, LensMut, Next, Object, Value, View, Wakes, Watch, json};

use crate::support::conditions::{self, Condition};
use crate::support::same;
use crate::support::settings::Settings;
use choice::{Found, Node};

/// What earlier versions of k3s kept Services by.
const OLD_FINALIZER: &str = "svccontroller.k3s.cattle.io/daemonset";
/// Says why a Service is not served, or not on all of its nodes.
const REFUSED: &str = "svccontroller.k3s.cattle.io/Refused";

pub(crate) struct ServiceLb;

impl Controller for ServiceLb {
    /// Upstream's cloud controller manager acts as this one.
    const NAME: &'static str = "service-controller";
    const WATCHES: &'static [Watch] = &[
        Watch::new(&SERVICE, Wakes::With(of_service)),
        Watch::new(&NODE, Wakes::With(|view, _| balancers(view, |_| true))),
        Watch::new(&ENDPOINT_SLICE, Wakes::With(of_slice)),
        Watch::new(&POD, Wakes::With(of_pod)),
        Watch::new(&CONFIG_MAP, Wakes::With(of_settings)),
    ];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let Some(object) = view.at(key) else { return Next::Done };
        let asks = Asks::of(&object);
        if !asks.is_balancer && !asks.has_finalizer {
            return Next::Done;
        }
        let settings = Settings::of(view);
        let nodes: Vec<Node> = view.list(&NODE, None).iter().map(Node::of).collect();
        let tree = object.tree();
        // Who names a class wants another load balancer.
        let is_ours = settings.service_lb() && !asks.has_class;
        if is_ours && asks.is_balancer && !object.deleting() {
            let found =
                choice::choose(view, (&object, &tree, &asks), &nodes, &settings.reserved_ports());
            publish(view, &object, &tree, &asks.ports, found, actions);
        } else if is_ours || was_ours(&tree, &nodes) {
            release(&object, tree, actions);
        }
        Next::Done
    }
}

/// The Service itself, and those that want a port that it has or had.
fn of_service(view: &View<'_>, service: &Object) -> Vec<Key> {
    let asks = Asks::of(service);
    let mut keys = match asks.ports.is_empty() {
        true => Vec::new(),
        false => balancers(view, |other| other.share(&asks)),
    };
    if asks.is_balancer || asks.has_finalizer {
        keys.push(Key::of(service));
    }
    keys
}

fn balancers(view: &View<'_>, wanted: impl Fn(&Asks) -> bool) -> Vec<Key> {
    let mut services = view.list(&SERVICE, None);
    services.retain(|service| {
        let asks = Asks::of(service);
        asks.is_balancer && wanted(&asks)
    });
    services.iter().map(Key::of).collect()
}

fn of_slice(view: &View<'_>, slice: &Object) -> Vec<Key> {
    let name = slice.label(SERVICE_NAME_LABEL).unwrap_or("");
    let service = view.get(&SERVICE, slice.namespace(), name);
    service.filter(|service| Asks::of(service).is_balancer).iter().map(Key::of).collect()
}

/// Those that want a port which a pod takes.
fn of_pod(view: &View<'_>, pod: &Object) -> Vec<Key> {
    let (_, ports) = balance::host_ports(pod);
    match ports.is_empty() {
        true => Vec::new(),
        false => balancers(view, |asks| ports.iter().any(|port| asks.ports.contains(port))),
    }
}

fn of_settings(view: &View<'_>, map: &Object) -> Vec<Key> {
    let ours = map.name() == "k3rs-settings" && map.namespace() == "kube-system";
    if ours { balancers(view, |_| true) } else { Vec::new() }
}

/// Writes what was found, and tells what is new of it.
fn publish(
    view: &View<'_>,
    object: &Object,
    tree: &Value,
    ports: &[Port],
    found: Found,
    actions: &mut Actions,
) {
    let ports: Vec<Value> =
        ports.iter().map(|(protocol, port)| json!({"port": port, "protocol": protocol})).collect();
    let ingress = found.addresses.iter().take(PRODUCT_MAX / ports.len().max(1));
    let ingress: Vec<Value> =
        ingress.map(|ip| json!({"ip": ip.to_string(), "ipMode": "VIP", "ports": ports})).collect();
    let mut new = tree.clone();
    let (before, after) = (addresses(tree), found.addresses.iter().map(IpAddr::to_string));
    let after: Vec<String> = after.take(ingress.len()).collect();
    set_finalizer(&mut new, !ingress.is_empty());
    new.set("status.loadBalancer.ingress", ingress);
    let mut list = tree.list("status.conditions").to_vec();
    let known = conditions::in_list(&list, REFUSED);
    let refused = found.refused.as_ref();
    let is_news = refused.is_some_and(|(reason, message)| {
        known.is_none_or(|old| old.str("reason") != *reason || old.str("message") != message)
    });
    match refused {
        Some((reason, message)) => {
            let message = message.clone();
            let condition = Condition { kind: REFUSED, status: "True", reason, message };
            conditions::set(&mut list, &condition, view.now);
        }
        None => conditions::remove(&mut list, REFUSED),
    }
    new.set("status.conditions", list);
    if !write(object, tree, new, actions) {
        return;
    }
    if before.is_empty() && after.is_empty() {
        // Nothing to tell of but the reason.
    } else if after.is_empty() {
        const NONE: &str = "There are no available nodes for LoadBalancer";
        actions.warning(object, "UnAvailableLoadBalancer", NONE);
    } else if before != after {
        let (old, new) = (before.join(" "), after.join(" "));
        let message = format!("Updated LoadBalancer with new IPs: [{old}] -> [{new}]");
        actions.event(object, "UpdatedLoadBalancer", message);
    }
    if let Some((reason, message)) =
        refused.filter(|(reason, _)| is_news && *reason != choice::NOT_READY)
    {
        actions.warning(object, reason, message.clone());
    }
}

/// Takes the load balancer away: its addresses, and what keeps the Service for it.
fn release(object: &Object, tree: Value, actions: &mut Actions) {
    let mut new = tree.clone();
    set_finalizer(&mut new, false);
    new.remove("status.loadBalancer.ingress");
    let mut list = tree.list("status.conditions").to_vec();
    conditions::remove(&mut list, REFUSED);
    new.set("status.conditions", list);
    if write(object, &tree, new, actions) && !addresses(&tree).is_empty() {
        actions.event(object, "DeletedLoadBalancer", "Deleted load balancer");
    }
}

/// Whether the addresses are from here, or from k3s: where ServiceLB is off, or a class was named since, it takes
/// away its own and not another's.
fn was_ours(tree: &Value, nodes: &[Node]) -> bool {
    let ingress = tree.list("status.loadBalancer.ingress");
    let of_node = |ip: &str| ip.parse().is_ok_and(|ip| nodes.iter().any(|node| node.has(ip)));
    let ours = |one: &Value| !one.list("ports").is_empty() || of_node(one.str("ip"));
    let kept = tree.list("metadata.finalizers").iter().any(|finalizer| finalizer == FINALIZER);
    kept && !ingress.is_empty() && ingress.iter().all(ours)
}

fn addresses(tree: &Value) -> Vec<String> {
    let ingress = tree.list("status.loadBalancer.ingress").iter();
    let shown = |one: &Value| match one.str("ip") {
        "" => one.str("hostname").to_owned(),
        ip => ip.to_owned(),
    };
    ingress.map(shown).collect()
}

fn set_finalizer(tree: &mut Value, wanted: bool) {
    let mut list = tree.list("metadata.finalizers").to_vec();
    list.retain(|finalizer| finalizer != OLD_FINALIZER && (wanted || finalizer != FINALIZER));
    if wanted && !list.iter().any(|finalizer| finalizer == FINALIZER) {
        list.push(FINALIZER.into());
    }
    tree.set("metadata.finalizers", list);
}

/// Writes status and finalizers, which go together, where they differ.
fn write(object: &Object, old: &Value, new: Value, actions: &mut Actions) -> bool {
    let is_same = |path: &str| same(old.at(path), new.at(path));
    let differs = !is_same("status") || !is_same("metadata.finalizers");
    if differs {
        actions.update_status(object.kind(), new);
    }
    differs
}
