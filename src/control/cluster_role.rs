//! ClusterRole aggregation: the rules of a role with an `aggregationRule` are those of the roles it selects.

use api::kinds::CLUSTER_ROLE;
use api::selector::Selector;
use api::{Actions, Controller, Key, Lens, Next, Object, Value, View, Wakes, Watch, json};

use crate::support::same;

pub(crate) struct Aggregation;

impl Controller for Aggregation {
    const NAME: &'static str = "clusterrole-aggregation-controller";
    const WATCHES: &'static [Watch] = &[Watch::new(&CLUSTER_ROLE, Wakes::With(wakes))];

    fn reconcile(view: &View<'_>, _key: &Key, actions: &mut Actions) -> Next {
        let roles = view.list(&CLUSTER_ROLE, None);
        for role in &roles {
            aggregate(role, &roles, actions);
        }
        Next::Done
    }
}

fn aggregate(role: &Object, roles: &[Object], actions: &mut Actions) {
    let tree = role.tree();
    let mut rules: Vec<Value> = Vec::new();
    let selectors = selectors(&tree);
    if selectors.is_empty() {
        return;
    }
    for selector in &selectors {
        for other in roles {
            if other.name() == role.name() || !selector.matches(other.labels()) {
                continue;
            }
            for rule in other.tree().list("rules") {
                if !rules.iter().any(|known| same(known, rule)) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    if !same(tree.at("rules"), &Value::from(rules.clone())) {
        actions.patch_exact(role, json!({"rules": rules}));
    }
}

fn selectors(role: &Value) -> Vec<Selector> {
    let list = role.list("aggregationRule.clusterRoleSelectors");
    list.iter().map(Selector::from_label_selector).collect()
}

/// One key stands for all roles: a start brings eighty of them at once, and looking through all
/// of them for each would be thousands of decodings.
fn wakes(_: &View<'_>, _: &Object) -> Vec<Key> {
    vec![Key::new(&CLUSTER_ROLE, "", "")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;
    use api::LensMut;

    #[test]
    fn rules_add_up() {
        let role = |name: &str, label: &str, verb: &str| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name, "labels": {label: "true"}}, "rules": [{"verbs": [verb]}]});
        let mut admin = role("admin", "to-top", "none");
        admin.set(
            "aggregationRule",
            json!({"clusterRoleSelectors": [{"matchLabels": {"to-admin": "true"}}]}),
        );
        let mut top = role("top", "x", "none");
        top.set(
            "aggregationRule",
            json!({"clusterRoleSelectors": [{"matchLabels": {"to-top": "true"}}]}),
        );
        let mut world = World::new(
            &["clusterrole-aggregation-controller"],
            [
                admin,
                top,
                role("b", "to-admin", "get"),
                role("c", "to-admin", "list"),
                role("d", "other", "nuke"),
            ],
        );
        world.settle();
        let rules = |world: &World, name: &str| {
            world.get(&CLUSTER_ROLE, "", name).unwrap().at("rules").clone()
        };
        assert_eq!(rules(&world, "admin"), json!([{"verbs": ["get"]}, {"verbs": ["list"]}]));
        assert_eq!(rules(&world, "top"), rules(&world, "admin"), "through both levels");
        world.delete(&CLUSTER_ROLE, "", "c", "Background");
        world.settle();
        assert_eq!(rules(&world, "top"), json!([{"verbs": ["get"]}]));
        world.assert_fixpoint();
    }
}
