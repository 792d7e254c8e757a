//! In the end, endpoints name exactly the ready pods.

use std::collections::BTreeSet;

use api::kinds::{ENDPOINT_SLICE, POD, SERVICE};
use api::selector::Selector;
use api::{Action, Actions, Key, Lens, Object, View};

use super::{Check, Known, Verdict};
use crate::controllers;

pub(super) struct Endpoints;

impl Check for Endpoints {
    fn decided(&mut self, name: &str, view: &View<'_>, key: &Key, actions: &Actions) -> Verdict {
        let publishes = |service: Object| service.tree().flag("spec.publishNotReadyAddresses");
        if name != "endpointslice-controller" || view.at(key).is_some_and(publishes) {
            return Ok(());
        }
        for action in &actions.list {
            let (Action::Create { object, .. } | Action::Update { object, .. }) = action else {
                continue;
            };
            for endpoint in object.list("endpoints") {
                let pod = view.get(&POD, &key.namespace, endpoint.str("targetRef.name"));
                let ready = pod.is_some_and(|pod| super::progress::is_ready(&pod));
                if endpoint.flag("conditions.ready") && !ready {
                    return Err(format!("{} is named as ready", endpoint.at("targetRef")));
                }
            }
        }
        Ok(())
    }

    fn settled(&mut self, known: &Known) -> Verdict {
        if !controllers::has("endpointslice-controller") {
            return Ok(());
        }
        for service in known.of_kind(&SERVICE) {
            let tree = service.tree();
            let selector = Selector::from_map(tree.at("spec.selector"));
            if tree.at("spec.selector").is_null() || service.deleting() {
                continue;
            }
            let ready = |pod: &&Object| {
                pod.namespace() == service.namespace()
                    && selector.matches(pod.labels())
                    && super::progress::is_ready(pod)
            };
            let wanted: BTreeSet<String> = known
                .of_kind(&POD)
                .filter(ready)
                .map(|pod| pod.tree().str("status.podIP").to_owned())
                .collect();
            let found = ready_addresses(known, service);
            if wanted != found {
                return Err(format!("{service:?} names {found:?}, ready are {wanted:?}"));
            }
        }
        Ok(())
    }
}

fn ready_addresses(known: &Known, service: &Object) -> BTreeSet<String> {
    let mut addresses = BTreeSet::new();
    for slice in known.of_kind(&ENDPOINT_SLICE) {
        let of_service = slice.label("kubernetes.io/service-name") == Some(service.name());
        if slice.namespace() != service.namespace() || !of_service {
            continue;
        }
        for endpoint in slice.tree().list("endpoints") {
            if endpoint.flag("conditions.ready") {
                let texts = endpoint.list("addresses").iter().filter_map(|a| a.as_str());
                addresses.extend(texts.map(str::to_owned));
            }
        }
    }
    addresses
}
