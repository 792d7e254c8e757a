//! An APIService for each group and version that this server itself serves.

use std::time::Duration;
use stdx::OrdSet;

use api::groups::{GROUPS, priorities};
use api::kinds::{API_SERVICE, CUSTOM_RESOURCE_DEFINITION, NAMESPACE};
use api::{
    Actions, Controller, Key, Lens, Next, Object, Resource, Value, View, Wakes, Watch, json,
};

/// How a local APIService came to be; those marked `true` go with what they are about.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// When to look again whether a kind is served whose definition is gone.
const LINGERING: Duration = Duration::from_secs(1);

pub(crate) struct Local;

impl Controller for Local {
    const NAME: &'static str = "api-service-registration-controller";
    const WATCHES: &'static [Watch] = &[
        Watch::new(&API_SERVICE, Wakes::With(wakes)),
        Watch::new(&CUSTOM_RESOURCE_DEFINITION, Wakes::With(wakes_of_definition)),
        // There are none at the first start.
        Watch::new(&NAMESPACE, Wakes::With(wakes_at_start)),
    ];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let kinds = view.kinds();
        let forms = || kinds.resources().iter().map(Resource::form);
        let served: OrdSet<(&str, &str)> =
            forms().map(|form| (form.group(), form.version())).collect();
        // The group of these objects registers itself nowhere, as upstream.
        for (group, version) in served.iter().filter(|(group, _)| *group != API_SERVICE.group) {
            let name = format!("{version}.{group}");
            if view.get(&API_SERVICE, "", &name).is_none() {
                actions.create(&API_SERVICE, service(group, version));
            }
        }
        for found in view.list(&API_SERVICE, None) {
            let about = found.name().split_once('.').map(|(version, group)| (group, version));
            if about.is_some_and(|about| served.contains(&about)) {
                continue;
            }
            if found.label(MANAGED) == Some("true") && !found.tree().has("spec.service") {
                actions.delete(&found);
            }
        }
        // A definition that is gone is served a moment longer.
        let lingers = || forms().any(|form| form.kind.qualified_plural() == key.name);
        match *key.kind == CUSTOM_RESOURCE_DEFINITION && lingers() {
            true => Next::After(LINGERING),
            false => Next::Done,
        }
    }
}

fn service(group: &str, version: &str) -> Value {
    // Others have the priority of kinds that are defined at run time.
    let (group_priority, version_priority) = priorities(group, version);
    let is_defined = GROUPS.iter().all(|(name, _)| *name != group);
    let managed = if is_defined { "true" } else { "onstart" };
    let mut spec = json!({
        "version": version, "groupPriorityMinimum": group_priority,
        "versionPriority": version_priority,
    });
    if !group.is_empty() {
        spec["group"] = group.into();
    }
    json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}"), "labels": {MANAGED: managed}},
        "spec": spec,
    })
}

/// One key stands for all.
fn wakes(_: &View<'_>, _: &Object) -> Vec<Key> {
    vec![Key::new(&API_SERVICE, "", "")]
}

/// A definition says that it is established once its kind is served.
fn wakes_of_definition(view: &View<'_>, definition: &Object) -> Vec<Key> {
    match view.at(&Key::of(definition)) {
        Some(_) => wakes(view, definition),
        None => vec![Key::of(definition)],
    }
}

fn wakes_at_start(view: &View<'_>, namespace: &Object) -> Vec<Key> {
    if namespace.name() == "kube-system" { wakes(view, namespace) } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    #[test]
    fn each_version_that_is_served_has_one_and_what_is_gone_has_none() {
        let gone = json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": "v1.gone.example.com", "labels": {MANAGED: "true"}},
            "spec": {"group": "gone.example.com", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1},
        });
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}});
        let mut world = World::new(&["api-service-registration-controller"], [namespace, gone]);
        world.settle();
        for name in ["v1.", "v1.apps", "v2.autoscaling", "v1.autoscaling", "v1.k3s.cattle.io"] {
            let service = world.get(&API_SERVICE, "", name).unwrap();
            let managed = if name == "v1.k3s.cattle.io" { "true" } else { "onstart" };
            assert_eq!(service.entry("metadata.labels", MANAGED), Some(managed), "{name}");
        }
        assert!(world.get(&API_SERVICE, "", "v1.gone.example.com").is_none());
        assert!(world.get(&API_SERVICE, "", "v1.apiregistration.k8s.io").is_none());
        world.assert_fixpoint();
    }
}
