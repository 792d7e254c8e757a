//! The flow schemas and priority levels that every server has, and which schemas name a level that is missing.

use api::flow_control::{self, AUTOUPDATE};
use api::kinds::{self, FLOW_SCHEMA, NAMESPACE, PRIORITY_LEVEL_CONFIGURATION};
use api::{Actions, Controller, Key, Lens, LensMut, Next, Object, View, Wakes, Watch, json};

use crate::support::conditions::{self, Condition};
use crate::support::same;

pub(crate) struct FlowControl;

impl Controller for FlowControl {
    const NAME: &'static str = "flow-control-controller";
    const WATCHES: &'static [Watch] = &[
        Watch::new(&FLOW_SCHEMA, Wakes::With(wakes)),
        Watch::new(&PRIORITY_LEVEL_CONFIGURATION, Wakes::With(wakes)),
        // There is nothing of the others at the first start.
        Watch::new(&NAMESPACE, Wakes::With(wakes_at_start)),
    ];

    fn reconcile(view: &View<'_>, _key: &Key, actions: &mut Actions) -> Next {
        for wanted in flow_control::objects() {
            let Some(kind) = kinds::of_tree(&wanted) else { continue };
            let Some(found) = view.get(kind, "", wanted.str("metadata.name")) else {
                actions.create(kind, wanted);
                continue;
            };
            let mut tree = found.tree();
            let follows = tree.entry("metadata.annotations", AUTOUPDATE) == Some("true");
            if follows && !same(tree.at("spec"), wanted.at("spec")) {
                tree.set("spec", wanted.at("spec").clone());
                actions.update(kind, tree);
            }
        }
        for schema in view.list(&FLOW_SCHEMA, None) {
            tell_dangling(view, &schema, actions);
        }
        Next::Done
    }
}

/// One key stands for all.
fn wakes(_: &View<'_>, _: &Object) -> Vec<Key> {
    vec![Key::new(&FLOW_SCHEMA, "", "")]
}

fn wakes_at_start(view: &View<'_>, namespace: &Object) -> Vec<Key> {
    if namespace.name() == "kube-system" { wakes(view, namespace) } else { Vec::new() }
}

fn tell_dangling(view: &View<'_>, schema: &Object, actions: &mut Actions) {
    let tree = schema.tree();
    let level = tree.str("spec.priorityLevelConfiguration.name");
    let (status, reason, rest) = match view.get(&PRIORITY_LEVEL_CONFIGURATION, "", level) {
        Some(_) => ("False", "Found", "and it exists"),
        None => ("True", "NotFound", "but there is no such object"),
    };
    let message = format!(
        "This FlowSchema references the PriorityLevelConfiguration object named {level:?} {rest}"
    );
    let mut list = tree.list("status.conditions").to_vec();
    conditions::set(&mut list, &Condition { kind: "Dangling", status, reason, message }, view.now);
    if list != tree.list("status.conditions") {
        actions.patch_status_exact(schema, json!({"status": {"conditions": list}}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;
    use api::Value;

    fn namespace() -> Value {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}})
    }

    #[test]
    fn what_every_server_has_comes_comes_back_and_says_what_it_lacks() {
        let own = json!({
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
            "metadata": {"name": "own"},
            "spec": {"priorityLevelConfiguration": {"name": "none"}, "matchingPrecedence": 5},
        });
        let mut world = World::new(&["flow-control-controller"], [namespace(), own]);
        world.settle();
        let dangling = |world: &World, name: &str| {
            let schema = world.get(&FLOW_SCHEMA, "", name).unwrap();
            schema.str("status.conditions.0.status").to_owned()
        };
        assert_eq!(
            (dangling(&world, "own"), dangling(&world, "probes")),
            ("True".into(), "False".into())
        );
        world.delete(&FLOW_SCHEMA, "", "probes", "Background");
        world.settle();
        assert_eq!(dangling(&world, "probes"), "False");
        world.assert_fixpoint();
    }
}
