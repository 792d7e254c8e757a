//! PodDisruptionBudget: how many pods may go away by choice right now.

use std::time::Duration;

use api::json;
use api::kinds::{
    DEPLOYMENT, POD, POD_DISRUPTION_BUDGET, REPLICA_SET, REPLICATION_CONTROLLER, STATEFUL_SET,
};
use api::selector::Selector;
use api::{Actions, Controller, Key, Kind, Lens, LensMut, Next, Object, Value, View, Wakes, Watch};
use stdx::OrdMap;

use crate::support::pods::Pod;
use crate::support::{conditions, scaled, write_status};

/// An eviction that did not delete its pod within this time did not happen.
const DELETION_TIMEOUT: Duration = Duration::from_secs(120);

/// What says how many pods it wants.
const SCALED: [&Kind; 3] = [&REPLICA_SET, &REPLICATION_CONTROLLER, &STATEFUL_SET];

pub(crate) struct Disruption;

impl Controller for Disruption {
    const NAME: &'static str = "disruption-controller";
    const WATCHES: &'static [Watch] = &[
        Watch::new(&POD_DISRUPTION_BUDGET, Wakes::Itself),
        Watch::new(&POD, Wakes::With(budgets_of_pod)),
        Watch::new(&REPLICA_SET, Wakes::With(budgets_near)),
        Watch::new(&REPLICATION_CONTROLLER, Wakes::With(budgets_near)),
        Watch::new(&STATEFUL_SET, Wakes::With(budgets_near)),
    ];
    const READS: &'static [&'static Kind] = &[&DEPLOYMENT];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let Some(budget) = view.at(key) else { return Next::Done };
        let tree = budget.tree();
        let selector = Selector::from_label_selector(tree.at("spec.selector"));
        let pods = view.selected(&POD, &key.namespace, &selector);
        let pods: Vec<Pod> = pods.into_iter().map(Pod::new).collect();
        if pods.is_empty() {
            actions.event(&budget, "NoPods", "No matching pods found");
        }
        let mut status = tree.at("status").clone();
        let (disrupted, next) = disrupted(view, &budget, &tree, &pods, actions);
        let generation = tree.int("metadata.generation").unwrap_or(0);
        match expected(view, &tree, &pods) {
            Err(why) => {
                let message = format!("Failed to calculate the number of expected pods: {why}");
                actions.warning(&budget, "CalculateExpectedPodCountFailed", message);
                status.set("disruptionsAllowed", 0);
                status.set("observedGeneration", generation);
                set_condition(&mut status, "False", "SyncFailed", &why, generation, view);
            }
            Ok((expected, desired)) => {
                let healthy = pods.iter().filter(|pod| {
                    !pod.deleting() && !disrupted.contains_key(pod.name()) && pod.ready()
                });
                let healthy = i64::try_from(healthy.count()).unwrap_or(0);
                let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
                status = json!({
                    "currentHealthy": healthy,
                    "desiredHealthy": desired,
                    "expectedPods": expected,
                    "disruptionsAllowed": allowed,
                    "observedGeneration": generation,
                    "conditions": status.at("conditions").clone(),
                });
                if !disrupted.is_empty() {
                    status.set("disruptedPods", json!(disrupted));
                }
                let (state, reason) = match allowed > 0 {
                    true => ("True", "SufficientPods"),
                    false => ("False", "InsufficientPods"),
                };
                set_condition(&mut status, state, reason, "", generation, view);
            }
        }
        write_status(actions, &budget, &tree, status);
        next
    }
}

fn set_condition(
    status: &mut Value,
    state: &str,
    reason: &str,
    message: &str,
    generation: i64,
    view: &View<'_>,
) {
    let kind = "DisruptionAllowed";
    let list = status.list_mut("conditions");
    let message = message.to_owned();
    let condition = conditions::Condition { kind, status: state, reason, message };
    conditions::set(list, &condition, view.now);
    if let Some(entry) = list.iter_mut().find(|entry| entry.str("type") == kind) {
        entry.set("observedGeneration", generation);
        entry.set_default("message", "");
    }
}

/// Pods that an eviction has promised to delete and that are still there.
fn disrupted(
    view: &View<'_>,
    budget: &Object,
    tree: &Value,
    pods: &[Pod],
    actions: &mut Actions,
) -> (OrdMap<String, String>, Next) {
    let (mut kept, mut next) = (OrdMap::new(), Next::Done);
    let now = view.now.wall;
    for (name, since) in tree.pairs("status.disruptedPods") {
        let Some(pod) = pods.iter().find(|pod| pod.name() == name && !pod.deleting()) else {
            continue;
        };
        let until = api::time::parse(since).map(|at| view.now.corrected(at) + DELETION_TIMEOUT);
        match until.filter(|until| *until > now) {
            Some(until) => {
                kept.insert(name.to_owned(), since.to_owned());
                next = next.or(Next::After(until.since(now)));
            }
            None => {
                let (namespace, budget) = (budget.namespace(), budget.name());
                let message = format!(
                    "Pod was expected by PDB {namespace}/{budget} to be deleted but it wasn't"
                );
                actions.warning(&pod.object, "NotDeleted", message);
            }
        }
    }
    (kept, next)
}

/// How many pods there should be, and how many of them healthy.
fn expected(view: &View<'_>, budget: &Value, pods: &[Pod]) -> Result<(i64, i64), String> {
    let count = i64::try_from(pods.len()).unwrap_or(0);
    match (budget.at("spec.maxUnavailable"), budget.at("spec.minAvailable")) {
        (Value::Null, Value::Number(min)) => Ok((count, min.as_i64().unwrap_or(0))),
        (Value::Null, Value::Null) => Ok((count, 0)),
        (Value::Null, min) => {
            let expected = scale(view, pods)?;
            Ok((expected, scaled(min, expected, true)))
        }
        (max, _) => {
            let expected = scale(view, pods)?;
            Ok((expected, (expected - scaled(max, expected, true)).max(0)))
        }
    }
}

/// The sum of what the pods' controllers want. Pods without one do not count.
fn scale(view: &View<'_>, pods: &[Pod]) -> Result<i64, String> {
    let mut wanted: OrdMap<String, i64> = OrdMap::new();
    for pod in pods {
        let Some(owner) = pod.object.controller() else { continue };
        if wanted.contains_key(&*owner.uid) {
            continue;
        }
        let namespace = pod.object.namespace();
        let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let is_owner = |kind: &&&Kind| kind.name == &*owner.kind && kind.group == group;
        let kind = match SCALED.iter().find(is_owner) {
            Some(kind) => kind,
            None => {
                let plural = format!("{}s", owner.kind.to_ascii_lowercase());
                return Err(format!("{plural}.{group} does not implement the scale subresource"));
            }
        };
        let set = view.get(kind, namespace, &owner.name).filter(|set| *set.uid() == *owner.uid);
        let Some(set) = set else {
            return Err(format!("found no controllers for pod \"{}\"", pod.name()));
        };
        // A deployment's sets change in size; what counts is the deployment's.
        let above = set
            .controller()
            .filter(|owner| &*owner.kind == "Deployment")
            .and_then(|owner| view.get(&DEPLOYMENT, namespace, &owner.name));
        let of = above.unwrap_or(set);
        let replicas = of.tree().int("spec.replicas").unwrap_or(1);
        wanted.insert(of.uid().to_owned(), replicas);
    }
    Ok(wanted.values().sum())
}

fn budgets_of_pod(view: &View<'_>, pod: &Object) -> Vec<Key> {
    let mut budgets = view.list(&POD_DISRUPTION_BUDGET, Some(pod.namespace()));
    budgets.retain(|budget| {
        let selector = Selector::from_label_selector(budget.tree().at("spec.selector"));
        selector.matches(pod.labels())
    });
    budgets.iter().map(Key::of).collect()
}

/// A controller's size may matter to any budget of its namespace.
fn budgets_near(view: &View<'_>, object: &Object) -> Vec<Key> {
    let budgets = view.list(&POD_DISRUPTION_BUDGET, Some(object.namespace()));
    budgets.iter().map(Key::of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    fn group(kind: &str) -> &str {
        if kind == "ReplicationController" { "v1" } else { "apps/v1" }
    }

    fn set(kind: &str, replicas: i64) -> Value {
        json!({"apiVersion": group(kind), "kind": kind, "metadata": {"namespace": "d", "name": "s", "uid": "s"}, "spec": {"replicas": replicas}})
    }

    fn pod(name: &str, owner: &str, ready: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "d", "name": name, "labels": {"a": "b"}, "ownerReferences": [{"apiVersion": group(owner), "kind": owner, "name": "s", "uid": "s", "controller": true}]},
            "spec": {"nodeName": "n"},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
        })
    }

    fn told(world: &World) -> String {
        let tree = world.get(&POD_DISRUPTION_BUDGET, "d", "p").unwrap();
        let n = |field: &str| tree.at("status").int(field).unwrap_or(0);
        let condition = conditions::find(&tree, "DisruptionAllowed").cloned().unwrap_or_default();
        let (reason, message) = (condition.str("reason"), condition.str("message"));
        format!(
            "{}/{} of {}: {} {reason} {message}",
            n("currentHealthy"),
            n("desiredHealthy"),
            n("expectedPods"),
            n("disruptionsAllowed"),
        )
    }

    #[test]
    fn budgets() {
        let three = |owner: &str| {
            vec![
                set(owner, 4),
                pod("x", owner, "True"),
                pod("y", owner, "True"),
                pod("z", owner, "False"),
            ]
        };
        let spec = |spec: Value| json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"namespace": "d", "name": "p"}, "spec": spec});
        let select = json!({"matchLabels": {"a": "b"}});
        #[rustfmt::skip]
        let cases = [
            (three("ReplicaSet"), json!({"minAvailable": 1, "selector": select}), "2/1 of 3: 1 SufficientPods "),
            (three("ReplicaSet"), json!({"minAvailable": 2, "selector": select}), "2/2 of 3: 0 InsufficientPods "),
            (three("ReplicaSet"), json!({"minAvailable": "30%", "selector": select}), "2/2 of 4: 0 InsufficientPods "),
            (three("ReplicationController"), json!({"minAvailable": "30%", "selector": select}), "2/2 of 4: 0 InsufficientPods "),
            (three("StatefulSet"), json!({"maxUnavailable": 3, "selector": select}), "2/1 of 4: 1 SufficientPods "),
            (three("StatefulSet"), json!({"maxUnavailable": "25%", "selector": {}}), "2/3 of 4: 0 InsufficientPods "),
            (vec![], json!({"minAvailable": 0, "selector": select}), "0/0 of 0: 0 InsufficientPods "),
            (three("ReplicaSet"), json!({"minAvailable": 0, "selector": {"matchLabels": {"a": "c"}}}), "0/0 of 0: 0 InsufficientPods "),
            (vec![pod("x", "Job", "True")], json!({"maxUnavailable": 1, "selector": select}),
                "0/0 of 0: 0 SyncFailed jobs.apps does not implement the scale subresource"),
        ];
        for (trees, budget, want) in cases {
            let mut world = World::new(&["disruption-controller"], trees);
            world.create(spec(budget));
            world.settle();
            assert_eq!(told(&world), want);
            world.assert_fixpoint();
        }
    }

    #[test]
    fn evictions_count_until_they_happen() {
        let mut world = World::new(
            &["disruption-controller"],
            [set("ReplicaSet", 2), pod("x", "ReplicaSet", "True"), pod("y", "ReplicaSet", "True")],
        );
        world.create(json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"namespace": "d", "name": "p"}, "spec": {"minAvailable": 1, "selector": {}}}));
        world.settle();
        assert_eq!(told(&world), "2/1 of 2: 1 SufficientPods ");
        let now = api::time::format(world.now().wall);
        world.edit(&POD_DISRUPTION_BUDGET, "d", "p", |budget| {
            budget.set("status.disruptionsAllowed", 0);
            budget.set("status.disruptedPods", json!({"x": now}));
        });
        world.settle();
        assert_eq!(told(&world), "1/1 of 2: 0 InsufficientPods ");
        world.advance(121);
        assert_eq!(told(&world), "2/1 of 2: 1 SufficientPods ");
        assert!(world.events.iter().any(|e| e.contains("NotDeleted")));
        world.delete(&POD, "d", "x", "Background");
        world.settle();
        assert_eq!(told(&world), "1/1 of 2: 0 InsufficientPods ");
    }
}
