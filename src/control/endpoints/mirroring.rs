//! Slices for Endpoints that people make by hand, for services without a selector.

use api::kinds::{ENDPOINT_SLICE, ENDPOINTS, SERVICE};
use api::{Actions, Controller, Key, Lens, LensMut, Next, Value, View, Wakes, Watch, json};

use super::slices::{self, Desired};
use super::{family_of, service_of_slice};
use crate::tuning::Tuning;

const CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

pub(crate) struct Mirroring;

impl Controller for Mirroring {
    const NAME: &'static str = "endpointslicemirroring-controller";
    const WATCHES: &'static [Watch] = &[
        Watch::new(&ENDPOINTS, Wakes::Itself),
        Watch::new(
            &SERVICE,
            Wakes::With(|_, o| vec![Key::new(&ENDPOINTS, o.namespace(), o.name())]),
        ),
        Watch::new(
            &ENDPOINT_SLICE,
            Wakes::With(|_, slice| service_of_slice(slice, CONTROLLER, &ENDPOINTS)),
        ),
    ];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let Some(object) = view.at(key) else { return Next::Done };
        let tree = object.tree();
        let service = view.get(&SERVICE, &key.namespace, &key.name);
        let by_hand = service.is_some_and(|service| {
            let service = service.tree();
            service.at("spec.selector").is_null() && service.str("spec.type") != "ExternalName"
        });
        let skipped = object.label(SKIP) == Some("true")
            || tree.entry("metadata.annotations", LEADER).is_some();
        let desired = match by_hand && !skipped {
            true => desired(&tree, Tuning::of(view).mirrored_addresses_max),
            false => Vec::new(),
        };
        let mut labels = tree.at("metadata.labels").clone();
        labels.map_mut("").remove(SKIP);
        slices::sync(view, &object, object.name(), CONTROLLER, labels, desired, actions);
        Next::Done
    }
}

fn desired(endpoints: &Value, addresses_max: usize) -> Vec<Desired> {
    let mut groups: Vec<Desired> = Vec::new();
    for subset in endpoints.list("subsets") {
        let ports: Vec<Value> = subset.list("ports").iter().map(port).collect();
        let ready = subset.list("addresses").iter().map(|address| (address, true));
        let not_ready = subset.list("notReadyAddresses").iter().map(|address| (address, false));
        for (address, ready) in ready.chain(not_ready).take(addresses_max) {
            let family = family_of(address.str("ip"));
            let endpoint = endpoint(address, ready);
            match groups.iter_mut().find(|g| g.family == family && g.ports == ports) {
                Some(group) => group.endpoints.push(endpoint),
                None => {
                    groups.push(Desired { family, ports: ports.clone(), endpoints: vec![endpoint] })
                }
            }
        }
    }
    groups
}

fn port(port: &Value) -> Value {
    let protocol = if port.has("protocol") { port.str("protocol") } else { "TCP" };
    let mut out = json!({"name": port.str("name"), "protocol": protocol});
    for field in ["port", "appProtocol"] {
        if port.has(field) {
            out.set(field, port.at(field).clone());
        }
    }
    out
}

fn endpoint(address: &Value, ready: bool) -> Value {
    let mut out = json!({"addresses": [address.str("ip")], "conditions": {"ready": ready}});
    for field in ["hostname", "nodeName", "targetRef"] {
        if address.has(field) {
            out.set(field, address.at(field).clone());
        }
    }
    out
}
