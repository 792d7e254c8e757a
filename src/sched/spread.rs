//! Constraints that a profile gives pods without constraints of their own (`defaultConstraints`).

use api::kinds::{
    POD_DISRUPTION_BUDGET, REPLICA_SET, REPLICATION_CONTROLLER, SERVICE, STATEFUL_SET,
};
use api::selector::Selector;
use api::{Kind, Lens, LensMut, Map, Value, View, json};

use crate::pod::Pod;
use crate::profile::Profile;

/// What the scheduler reads where a profile has such constraints.
pub(crate) static READS: &[&Kind] =
    &[&POD_DISRUPTION_BUDGET, &SERVICE, &REPLICA_SET, &REPLICATION_CONTROLLER, &STATEFUL_SET];

/// Gives the pod the profile's constraints, about pods that the same services and the same owner select. Who is selected by
/// none gets none.
pub(crate) fn give_constraints(pod: &mut Pod, profile: &Profile, view: &View<'_>) {
    if profile.default_constraints.is_empty()
        || !pod.tree.list("spec.topologySpreadConstraints").is_empty()
    {
        return;
    }
    let selector = selector(pod, view);
    if selector.is_null() {
        return;
    }
    let constraints = profile.default_constraints.iter().map(|constraint| {
        let mut constraint = constraint.clone();
        constraint.set("labelSelector", selector.clone());
        constraint
    });
    let constraints: Vec<Value> = constraints.collect();
    pod.tree.set("spec.topologySpreadConstraints", constraints);
}

/// All that select the pod, together; null: nobody does.
fn selector(pod: &Pod, view: &View<'_>) -> Value {
    let namespace = pod.namespace();
    let mut labels = Map::new();
    let mut add = |selector: &Value| {
        for (key, value) in selector.as_object().into_iter().flatten() {
            labels.insert(key.clone(), value.clone());
        }
    };
    for service in view.list(&SERVICE, Some(namespace)) {
        let tree = service.tree();
        let selector = tree.at("spec.selector");
        let of_labels = Selector::from_label_selector(&json!({"matchLabels": selector}));
        let selects = selector.as_object().is_some_and(|labels| !labels.is_empty());
        if selects && of_labels.matches_map(pod.labels()) {
            add(selector);
        }
    }
    let mut expressions = Value::Null;
    if let Some(owner) = pod.object.controller() {
        let kinds = [&REPLICA_SET, &STATEFUL_SET, &REPLICATION_CONTROLLER];
        let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let kind = kinds.into_iter().find(|kind| kind.name == &*owner.kind && kind.group == group);
        let owner = kind.and_then(|kind| view.get(kind, namespace, &owner.name));
        if let Some(owner) = owner.map(|owner| owner.tree()) {
            let selector = owner.at("spec.selector");
            match owner.str("kind") == REPLICATION_CONTROLLER.name {
                true => add(selector),
                false => add(selector.at("matchLabels")),
            }
            expressions = selector.at("matchExpressions").clone();
        }
    }
    if labels.is_empty() && expressions.is_null() {
        return Value::Null;
    }
    let mut selector = json!({"matchLabels": labels});
    if !expressions.is_null() {
        selector.set("matchExpressions", expressions);
    }
    selector
}
