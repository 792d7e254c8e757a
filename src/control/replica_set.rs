//! ReplicaSet and ReplicationController: keep as many pods of one template as they are asked for.

use api::kinds::{POD, REPLICA_SET, REPLICATION_CONTROLLER};
use api::selector::Selector;
use api::{
    Action, Actions, Controller, Key, Lens, LensMut, Next, Object, OnFailure, Status, Value, View,
    Wakes, Watch, json,
};
use stdx::{OrdMap, time::Now};

use crate::support::claim::{claim, selector_of, wakes};
use crate::support::conditions::{self, Condition};
use crate::support::names::Names;
use crate::support::pods::{self, Pod};
use crate::support::write_status;

/// Pods made or deleted in one reconcile (upstream's burst).
const BURST_MAX: usize = 500;

pub(crate) struct ReplicaSets;

impl Controller for ReplicaSets {
    const NAME: &'static str = "replicaset-controller";
    const WATCHES: &'static [Watch] = &[
        Watch::new(&REPLICA_SET, Wakes::Itself),
        Watch::new(&POD, Wakes::With(|view, pod| wakes(view, pod, &REPLICA_SET))),
    ];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        reconcile(view, key, actions)
    }
}

pub(crate) struct ReplicationControllers;

impl Controller for ReplicationControllers {
    const NAME: &'static str = "replication-controller";
    const WATCHES: &'static [Watch] = &[
        Watch::new(&REPLICATION_CONTROLLER, Wakes::Itself),
        Watch::new(&POD, Wakes::With(|view, pod| wakes(view, pod, &REPLICATION_CONTROLLER))),
    ];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        reconcile(view, key, actions)
    }
}

/// One of either kind: they differ in how they select, and in who acts for them.
fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
    let Some(set) = view.at(key) else { return Next::Done };
    let tree = set.tree();
    let selector = selector_of(key.kind, &tree);
    let claimed =
        claim(view, &set, &POD, &selector, &|pod| Pod::new(pod.clone()).active(), actions);
    let mut pods: Vec<Pod> = claimed.into_iter().map(Pod::new).collect();
    pods.retain(Pod::active);
    let status = status(&set, &tree, &pods, view.now);
    actions.on_failure = Some(OnFailure { about: set.clone(), then: refused });

    // After a refusal the counts are told first: the creates may be refused again.
    let failed_before = conditions::find(&tree, "ReplicaFailure").is_some();
    if failed_before {
        write_status(actions, &set, &tree, status.clone());
    }
    if !set.deleting() {
        scale(view, &set, &tree, pods.clone(), actions);
    }
    if !failed_before {
        write_status(actions, &set, &tree, status);
    }
    let min_ready = tree.int("spec.minReadySeconds").unwrap_or(0);
    let waits = pods.iter().filter_map(|pod| pod.available_in(min_ready, view.now));
    waits.min().map_or(Next::Done, Next::After)
}

fn wanted(tree: &Value) -> usize {
    usize::try_from(tree.int("spec.replicas").unwrap_or(1)).unwrap_or(0)
}

/// Creates or deletes pods until there are as many as wanted.
fn scale(view: &View<'_>, set: &Object, tree: &Value, mut pods: Vec<Pod>, actions: &mut Actions) {
    let wanted = wanted(tree);
    if pods.len() < wanted {
        let prefix = format!("{}-", set.name());
        let mut names = Names::new(view, set);
        let template = pods::from_template(tree.at("spec.template"), set);
        for _ in 0..(wanted - pods.len()).min(BURST_MAX) {
            let name = names.next(&POD, &prefix);
            let mut pod = template.clone();
            pod.set("metadata.generateName", prefix.clone());
            pod.set("metadata.name", name.clone());
            actions.create(&POD, pod);
            actions.event(set, "SuccessfulCreate", format!("Created pod: {name}"));
        }
    }
    if pods.len() > wanted {
        let excess = pods.len() - wanted;
        let related = if wanted > 0 { related_per_node(view, set) } else { OrdMap::new() };
        let rank = |pod: &Pod| related.get(pod.node()).copied().unwrap_or(0);
        pods::sort_for_deletion(&mut pods, rank, view.now);
        for pod in pods.iter().take(excess.min(BURST_MAX)) {
            actions.delete(&pod.object);
            actions.event(set, "SuccessfulDelete", format!("Deleted pod: {}", pod.name()));
        }
    }
}

/// Active pods a node, of this set and of all sets with the same controller (a deployment's
/// revisions): scaling down takes from the nodes that hold the most.
fn related_per_node(view: &View<'_>, set: &Object) -> OrdMap<String, usize> {
    let mut sets = vec![set.clone()];
    if let Some(owner) = set.controller() {
        sets = view.owned(set.kind(), set.namespace(), &owner.uid);
        sets.retain(|other| other.controller().is_some_and(|o| o.uid == owner.uid));
    }
    let mut counts = OrdMap::new();
    for set in sets {
        for pod in view.owned(&POD, set.namespace(), set.uid()) {
            let pod = Pod::new(pod);
            if pod.active() {
                *counts.entry(pod.node().to_owned()).or_insert(0) += 1;
            }
        }
    }
    counts
}

fn status(set: &Object, tree: &Value, pods: &[Pod], now: Now) -> Value {
    let min_ready = tree.int("spec.minReadySeconds").unwrap_or(0);
    let template = Value::clone(tree.at("spec.template.metadata.labels"));
    let labels = Selector::from_map(&template);
    let count = |test: &dyn Fn(&Pod) -> bool| pods.iter().filter(|pod| test(pod)).count();
    let mut status = json!({
        "replicas": pods.len(),
        "fullyLabeledReplicas": count(&|pod| labels.matches(pod.object.labels())),
        "readyReplicas": count(&Pod::ready),
        "availableReplicas": count(&|pod| pod.available(min_ready, now)),
        "observedGeneration": tree.int("metadata.generation").unwrap_or(0),
    });
    // Zero is the absence of these fields.
    for field in ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"] {
        if status.int(field) == Some(0) {
            status.remove(field);
        }
    }
    let mut list = tree.list("status.conditions").to_vec();
    if set.deleting() || pods.len() == wanted(tree) {
        conditions::remove(&mut list, "ReplicaFailure");
    }
    if !list.is_empty() {
        status.set("conditions", list);
    }
    status
}

/// A pod could not be made or deleted: an event, and the condition that Deployments pass on.
fn refused(set: &Object, refused: &Action, why: &Status, now: Now, actions: &mut Actions) {
    let (reason, doing) = match refused {
        Action::Create { .. } => ("FailedCreate", "creating"),
        Action::Delete { .. } => ("FailedDelete", "deleting"),
        _ => return,
    };
    actions.warning(set, reason, format!("Error {doing}: {}", why.message()));
    let tree = set.tree();
    if conditions::find(&tree, "ReplicaFailure").is_none() {
        let mut list = tree.list("status.conditions").to_vec();
        let message = why.message().to_owned();
        let failure = Condition { kind: "ReplicaFailure", status: "True", reason, message };
        conditions::set(&mut list, &failure, now);
        actions.patch_status(set, json!({"status": {"conditions": list}}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{World, reconcile, set_ready};

    fn set(replicas: i64) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"namespace": "d", "name": "web", "uid": "rs-1", "resourceVersion": "7", "generation": 1},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}},
            },
        })
    }

    fn pod(name: &str, changes: Value) -> Value {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "namespace": "d", "name": name, "uid": name, "labels": {"app": "web"}, "resourceVersion": "3",
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs-1", "controller": true}],
            },
            "spec": {"nodeName": "n"},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2024-01-01T00:00:00Z"}]},
        });
        api::patch::merge(&mut pod, &changes);
        pod
    }

    #[test]
    fn decisions() {
        let orphan = json!({"metadata": {"ownerReferences": null}});
        let cases: &[(&str, Vec<Value>, &str)] = &[
            ("nothing there", vec![], ""),
            (
                "creates, tells, counts",
                vec![set(2)],
                "create Pod d/web-jp54f\nevent ReplicaSet d/web Normal SuccessfulCreate: Created pod: web-jp54f\n\
                 create Pod d/web-km52x\nevent ReplicaSet d/web Normal SuccessfulCreate: Created pod: web-km52x\n\
                 status ReplicaSet d/web {\"observedGeneration\":1,\"replicas\":0}\n",
            ),
            (
                "adopts an orphan after a look at the store",
                vec![set(1), pod("o", orphan.clone())],
                "expect live ReplicaSet d/web\n\
                 patch Pod d/o {\"metadata\":{\"ownerReferences\":[{\"apiVersion\":\"apps/v1\",\"blockOwnerDeletion\":true,\"controller\":true,\"kind\":\"ReplicaSet\",\"name\":\"web\",\"uid\":\"rs-1\"}]}}\n\
                 status ReplicaSet d/web {\"availableReplicas\":1,\"fullyLabeledReplicas\":1,\"observedGeneration\":1,\"readyReplicas\":1,\"replicas\":1}\n",
            ),
            (
                "releases what no longer matches",
                vec![set(0), pod("r", json!({"metadata": {"labels": {"app": "x"}}}))],
                "patch Pod d/r {\"metadata\":{\"ownerReferences\":[]}}\n\
                 status ReplicaSet d/web {\"observedGeneration\":1,\"replicas\":0}\n",
            ),
            (
                "a pod of a former set with the same name is not ours",
                vec![
                    set(0),
                    pod(
                        "f",
                        json!({"metadata": {"ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs-0", "controller": true}]}}),
                    ),
                ],
                "status ReplicaSet d/web {\"observedGeneration\":1,\"replicas\":0}\n",
            ),
            (
                "finished and deleted pods do not count",
                vec![
                    set(0),
                    pod("a", json!({"status": {"phase": "Failed"}})),
                    pod("b", json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z"}})),
                ],
                "status ReplicaSet d/web {\"observedGeneration\":1,\"replicas\":0}\n",
            ),
            (
                "an unready pod goes before a ready one",
                vec![set(1), pod("a", json!({})), pod("b", json!({"status": {"conditions": []}}))],
                "delete Pod d/b Background\nevent ReplicaSet d/web Normal SuccessfulDelete: Deleted pod: b\n\
                 status ReplicaSet d/web {\"availableReplicas\":1,\"fullyLabeledReplicas\":2,\"observedGeneration\":1,\"readyReplicas\":1,\"replicas\":2}\n",
            ),
            (
                "an unassigned pod goes before an assigned one, cost before age",
                vec![
                    set(1),
                    pod(
                        "a",
                        json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"}}}),
                    ),
                    pod("b", json!({})),
                    pod("c", json!({"spec": {"nodeName": null}})),
                ],
                "delete Pod d/c Background\nevent ReplicaSet d/web Normal SuccessfulDelete: Deleted pod: c\n\
                 delete Pod d/a Background\nevent ReplicaSet d/web Normal SuccessfulDelete: Deleted pod: a\n\
                 status ReplicaSet d/web {\"availableReplicas\":3,\"fullyLabeledReplicas\":3,\"observedGeneration\":1,\"readyReplicas\":3,\"replicas\":3}\n",
            ),
            (
                "a set that is being deleted only counts",
                vec![
                    {
                        let mut set = set(3);
                        set.set("metadata.deletionTimestamp", "2024-01-01T00:00:00Z");
                        set
                    },
                    pod("a", json!({})),
                    pod("o", orphan),
                ],
                "status ReplicaSet d/web {\"availableReplicas\":1,\"fullyLabeledReplicas\":1,\"observedGeneration\":1,\"readyReplicas\":1,\"replicas\":1}\n",
            ),
            (
                "waits until a ready pod counts as available",
                vec![
                    {
                        let mut set = set(1);
                        set.set("spec.minReadySeconds", 90);
                        set
                    },
                    pod("a", json!({})),
                ],
                "status ReplicaSet d/web {\"fullyLabeledReplicas\":1,\"observedGeneration\":1,\"readyReplicas\":1,\"replicas\":1}\nafter 30s\n",
            ),
        ];
        for (name, trees, want) in cases {
            let text = reconcile::<ReplicaSets>(trees.clone(), (&REPLICA_SET, "d", "web"), 60);
            assert_eq!(&text, want, "{name}");
        }
    }

    #[test]
    fn replication_controllers_select_by_a_map() {
        let controller = json!({
            "apiVersion": "v1", "kind": "ReplicationController",
            "metadata": {"namespace": "d", "name": "web", "uid": "rc-1", "resourceVersion": "7", "generation": 1},
            "spec": {
                "replicas": 1, "selector": {"app": "web"},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}},
            },
        });
        let orphan = |labels: Value| {
            pod("o", json!({"metadata": {"ownerReferences": null, "labels": labels}}))
        };
        let released = json!({
            "metadata": {"labels": {"app": "x"}, "ownerReferences": [{"apiVersion": "v1", "kind": "ReplicationController", "name": "web", "uid": "rc-1", "controller": true}]},
        });
        for (name, pods, want) in [
            (
                "adopts",
                vec![orphan(json!({"app": "web", "other": "y"}))],
                "expect live ReplicationController d/web\n\
                 patch Pod d/o {\"metadata\":{\"ownerReferences\":[{\"apiVersion\":\"v1\",\"blockOwnerDeletion\":true,\"controller\":true,\"kind\":\"ReplicationController\",\"name\":\"web\",\"uid\":\"rc-1\"}]}}\n\
                 status ReplicationController d/web {\"availableReplicas\":1,\"fullyLabeledReplicas\":1,\"observedGeneration\":1,\"readyReplicas\":1,\"replicas\":1}\n",
            ),
            (
                "releases and replaces",
                vec![pod("r", released)],
                "patch Pod d/r {\"metadata\":{\"ownerReferences\":[]}}\n\
                 create Pod d/web-q6fv4\nevent ReplicationController d/web Normal SuccessfulCreate: Created pod: web-q6fv4\n\
                 status ReplicationController d/web {\"observedGeneration\":1,\"replicas\":0}\n",
            ),
        ] {
            let trees = [vec![controller.clone()], pods].concat();
            let key = (&REPLICATION_CONTROLLER, "d", "web");
            let text = reconcile::<ReplicationControllers>(trees, key, 60);
            assert_eq!(text, want, "{name}");
        }
    }

    #[test]
    fn scales_up_and_down_and_survives_refusals() {
        let mut world = World::new(&["replicaset-controller"], [set(3)]);
        world.refuse = |action| {
            matches!(action, Action::Create { kind, .. } if **kind == POD)
                .then(|| Status::forbidden(&POD, "x", "exceeded quota"))
        };
        world.settle();
        let tree = world.get(&REPLICA_SET, "d", "web").unwrap();
        assert_eq!(tree.str("status.conditions.0.type"), "ReplicaFailure");
        assert_eq!(tree.str("status.conditions.0.reason"), "FailedCreate");
        world.events.dedup();
        assert_eq!(
            world.events,
            [
                "ReplicaSet d/web Warning FailedCreate: Error creating: pods \"x\" is forbidden: exceeded quota"
            ]
        );
        world.refuse = |_| None;
        world.advance(5);
        world.converge();
        let tree = world.get(&REPLICA_SET, "d", "web").unwrap();
        assert_eq!(tree.int("status.availableReplicas"), Some(3));
        assert!(!tree.has("status.conditions"));
        // A pod turns unready, then the set shrinks: that one goes.
        let name = world.names(&POD)[1].clone();
        let now = world.now();
        world.edit(&POD, "d", &name, |pod| set_ready(pod, false, now));
        world.edit(&REPLICA_SET, "d", "web", |set| set.set("spec.replicas", 2));
        world.converge();
        assert!(!world.names(&POD).contains(&name));
        assert_eq!(world.names(&POD).len(), 2);
        // A killed pod is replaced.
        let name = world.names(&POD)[0].clone();
        world.delete(&POD, "d", &name, "Background");
        world.converge();
        assert_eq!(world.names(&POD).len(), 2);
        assert!(!world.names(&POD).contains(&name));
        world.assert_fixpoint();
    }
}
