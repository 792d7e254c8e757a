//! Namespace: empties a namespace that is being deleted, and lets it go when nothing is left.

use std::time::Duration;

use api::kinds::NAMESPACE;
use api::{Action, Actions, Controller, Expect, Key, Lens, LensMut, Next, Object, Value, View};
use api::{Kind, Wakes, Watch};
use stdx::OrdMap;

use crate::support::conditions::{self, Condition};
use crate::support::kinds::is_content;
use crate::support::write_status;

const FINALIZER: &str = "kubernetes";
/// Everything that empties a namespace is an event; this is for what no event tells.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

pub(crate) struct Namespaces;

impl Controller for Namespaces {
    const NAME: &'static str = "namespace-controller";
    const WATCHES: &'static [Watch] = &[Watch::new(&NAMESPACE, Wakes::Itself)];
    const FOLLOWS: fn(&'static Kind) -> Option<Wakes> =
        |kind| is_content(kind).then_some(Wakes::With(wakes_of_content));

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let Some(namespace) = view.at(key).filter(Object::deleting) else { return Next::Done };
        let tree = namespace.tree();
        if !tree.list("spec.finalizers").iter().any(|f| f == FINALIZER) {
            return Next::Done;
        }
        let mut remaining = Vec::new();
        let kinds = view.kinds();
        for kind in kinds.stored().filter(|kind| is_content(kind)) {
            let objects = view.list(kind, Some(&key.name));
            for object in objects.iter().filter(|object| !object.deleting()) {
                actions.delete(object);
            }
            if !objects.is_empty() {
                remaining.push((kind, objects));
            }
        }
        let status = status(view, &tree, &remaining);
        if !remaining.is_empty() {
            write_status(actions, &namespace, &tree, status);
            return Next::After(LOOK_AGAIN);
        }
        for kind in kinds.stored().filter(|kind| is_content(kind)) {
            actions.expect(Expect::Empty { kind, namespace: key.name.clone() });
        }
        let mut tree = tree;
        tree.list_mut("spec.finalizers").retain(|f| f != FINALIZER);
        actions.push(Action::Finalize { object: tree });
        Next::Done
    }
}

/// What goes away, or is made at the last moment, in a namespace that is being deleted.
fn wakes_of_content(view: &View<'_>, object: &Object) -> Vec<Key> {
    let namespace = view.get(&NAMESPACE, "", object.namespace());
    namespace.filter(Object::deleting).map(|namespace| Key::of(&namespace)).into_iter().collect()
}

fn status(view: &View<'_>, tree: &Value, remaining: &[(&'static Kind, Vec<Object>)]) -> Value {
    let mut finalizers: OrdMap<String, usize> = OrdMap::new();
    for object in remaining.iter().flat_map(|(_, objects)| objects) {
        for finalizer in object.tree().list("metadata.finalizers") {
            *finalizers.entry(finalizer.as_str().unwrap_or("").to_owned()).or_insert(0) += 1;
        }
    }
    let content: Vec<String> = remaining
        .iter()
        .map(|(kind, objects)| {
            format!("{}.{} has {} resource instances", kind.plural, kind.group, objects.len())
        })
        .collect();
    let finalizers: Vec<String> =
        finalizers.iter().map(|(name, n)| format!("{name} in {n} resource instances")).collect();
    let some = |list: &[String], yes: (&'static str, &str), no: (&'static str, &str)| match list
        .is_empty()
    {
        true => ("False", no.0, no.1.to_owned()),
        false => ("True", yes.0, format!("{}{}", yes.1, list.join(", "))),
    };
    let fine = |reason, message: &str| ("False", reason, message.to_owned());
    let conditions = [
        (
            "NamespaceDeletionDiscoveryFailure",
            fine("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            fine("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        (
            "NamespaceDeletionContentFailure",
            fine(
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
        ),
        (
            "NamespaceContentRemaining",
            some(
                &content,
                ("SomeResourcesRemain", "Some resources are remaining: "),
                ("ContentRemoved", "All content successfully removed"),
            ),
        ),
        (
            "NamespaceFinalizersRemaining",
            some(
                &finalizers,
                (
                    "SomeFinalizersRemain",
                    "Some content in the namespace has finalizers remaining: ",
                ),
                ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
            ),
        ),
    ];
    let mut result = tree.at("status").clone();
    result.set("phase", "Terminating");
    let list = result.list_mut("conditions");
    for (kind, (status, reason, message)) in conditions {
        conditions::set(list, &Condition { kind, status, reason, message }, view.now);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;
    use api::json;
    use api::kinds::{CONFIG_MAP, POD};

    #[test]
    fn empties_and_lets_go() {
        let object = |kind: &str, ns: &str, finalizers: Value| json!({"apiVersion": "v1", "kind": kind, "metadata": {"namespace": ns, "name": "x", "finalizers": finalizers}, "spec": {"nodeName": "n"}});
        let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {"finalizers": [FINALIZER]}});
        let mut world = World::new(
            &["namespace-controller"],
            [
                namespace("a"),
                namespace("b"),
                object("Pod", "a", json!([])),
                object("ConfigMap", "a", json!(["x.io/hold"])),
                object("ConfigMap", "b", json!([])),
            ],
        );
        world.settle();
        world.delete(&NAMESPACE, "", "a", "Background");
        world.settle();
        let tree = world.get(&NAMESPACE, "", "a").unwrap();
        assert_eq!(tree.str("status.phase"), "Terminating");
        let message = |kind: &str| conditions::find(&tree, kind).unwrap().str("message").to_owned();
        assert_eq!(
            message("NamespaceContentRemaining"),
            "Some resources are remaining: pods. has 1 resource instances, configmaps. has 1 resource instances"
        );
        assert_eq!(
            message("NamespaceFinalizersRemaining"),
            "Some content in the namespace has finalizers remaining: x.io/hold in 1 resource instances"
        );
        world.kubelet();
        world.settle();
        assert!(world.names(&POD).is_empty());
        assert_eq!(world.names(&NAMESPACE), ["a", "b"], "held by a finalizer");
        world.edit(&CONFIG_MAP, "a", "x", |map| map.set("metadata.finalizers", json!([])));
        world.settle();
        assert_eq!(world.names(&NAMESPACE), ["b"]);
        assert_eq!(world.names(&CONFIG_MAP).len(), 1);
        world.assert_fixpoint();
    }
}
