//! Endpoints: the older form of the same, one object a service, in one address family.

use api::kinds::{ENDPOINTS, POD, SERVICE};
use api::{Action, Actions, Controller, Key, Lens, LensMut, Next, Object, Value, View, Wakes};
use api::{Watch, json};
use stdx::{Arrange, OrdMap};

use super::{
    HEADLESS, addresses, families, family_of, has_selector, hostname, is_headless, ports,
    selected_pods, services_of_pod, target_ref,
};
use crate::support::same;

/// Addresses in one Endpoints object; the rest is left out, and an annotation says so.
const ADDRESSES_MAX: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

pub(crate) struct LegacyEndpoints;

impl Controller for LegacyEndpoints {
    const NAME: &'static str = "endpoint-controller";
    const WATCHES: &'static [Watch] = &[
        Watch::new(&SERVICE, Wakes::Itself),
        Watch::new(&POD, Wakes::With(services_of_pod)),
        Watch::new(&ENDPOINTS, Wakes::With(wakes_of_endpoints)),
    ];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let old = view.get(&ENDPOINTS, &key.namespace, &key.name);
        let Some(object) = view.at(key) else {
            if let Some(old) = old.filter(|old| !old.deleting()) {
                actions.push(Action::Delete {
                    key: Key::of(&old),
                    uid: old.uid().into(),
                    revision: Some(old.revision()),
                    grace_secs: None,
                    propagation: "Background",
                });
            }
            return Next::Done;
        };
        let service = object.tree();
        if has_selector(&service) {
            write(view, &object, &service, old, actions);
        }
        Next::Done
    }
}

/// Endpoints that are deleted are made again; those that someone else makes are left alone.
fn wakes_of_endpoints(view: &View<'_>, endpoints: &Object) -> Vec<Key> {
    match view.at(&Key::of(endpoints)) {
        None => vec![Key::new(&SERVICE, endpoints.namespace(), endpoints.name())],
        Some(_) => Vec::new(),
    }
}

fn write(
    view: &View<'_>,
    object: &Object,
    service: &Value,
    old: Option<Object>,
    actions: &mut Actions,
) {
    let (subsets, truncated) = subsets(view, object, service);
    let mut labels = service.at("metadata.labels").clone();
    match is_headless(service) {
        true => labels.map_mut("").insert(HEADLESS.into(), "".into()),
        false => labels.as_object_mut().and_then(|map| map.remove(HEADLESS)),
    };
    let mut tree = match &old {
        Some(old) => old.tree(),
        None => json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"namespace": object.namespace(), "name": object.name()},
        }),
    };
    let before = tree.clone();
    tree.set("metadata.labels", if labels.is_null() { json!({}) } else { labels });
    tree.set("subsets", subsets);
    if truncated {
        tree.map_mut("metadata.annotations").insert(OVER_CAPACITY.into(), "truncated".into());
    } else if let Some(Value::Object(map)) = tree.at_mut("metadata.annotations") {
        map.remove(OVER_CAPACITY);
    }
    match old {
        None => actions.create(&ENDPOINTS, tree),
        Some(_) if same(&before, &tree) => {}
        Some(_) => actions.update(&ENDPOINTS, tree),
    }
}

/// Addresses grouped by the ports that they serve, ready and not ready apart.
fn subsets(view: &View<'_>, object: &Object, service: &Value) -> (Vec<Value>, bool) {
    let publish = service.flag("spec.publishNotReadyAddresses");
    let family = families(service).first().copied().unwrap_or("IPv4");
    let mut groups: OrdMap<String, (Vec<Value>, [Vec<Value>; 2])> = OrdMap::new();
    let mut n = 0;
    for pod in selected_pods(view, object, service) {
        if pod.deleting() && !publish {
            continue;
        }
        let of_family = |address: &&str| family_of(address) == family;
        let Some(ip) = addresses(&pod).into_iter().find(of_family).map(str::to_owned) else {
            continue;
        };
        let ports = ports(service, &pod);
        if ports.is_empty() && !(service.list("spec.ports").is_empty() && is_headless(service)) {
            continue;
        }
        n += 1;
        let mut address = json!({"ip": ip, "targetRef": target_ref(&pod)});
        if !pod.node().is_empty() {
            address.set("nodeName", pod.node());
        }
        if let Some(name) = hostname(&pod, service) {
            address.set("hostname", name);
        }
        let ready = publish || pod.ready();
        let group = groups.entry(Value::from(ports.clone()).to_string());
        let (_, lists) = group.or_insert_with(|| (ports, Default::default()));
        lists[usize::from(!ready)].push(address);
    }
    let mut left = ADDRESSES_MAX;
    let mut subsets = Vec::new();
    for (ports, lists) in groups.into_values() {
        let mut subset = json!({});
        for (field, mut list) in ["addresses", "notReadyAddresses"].into_iter().zip(lists) {
            list.arrange_by_key(ip_order);
            list.truncate(left);
            left -= list.len();
            if !list.is_empty() {
                subset.set(field, list);
            }
        }
        if subset.as_object().is_some_and(|map| !map.is_empty()) {
            if !ports.is_empty() {
                // Here an empty name is no name.
                let unnamed = |port: &&mut Value| port.str("name").is_empty();
                let mut ports = ports;
                ports.iter_mut().filter(unnamed).for_each(|port| drop(port.remove("name")));
                subset.set("ports", ports);
            }
            subsets.push(subset);
        }
    }
    (subsets, n > ADDRESSES_MAX)
}

fn ip_order(address: &Value) -> Option<std::net::IpAddr> {
    address.str("ip").parse().ok()
}
