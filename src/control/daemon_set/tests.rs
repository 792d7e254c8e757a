//! Sets over nodes that come, go, are tainted and labelled.

use api::kinds::{CONTROLLER_REVISION, DAEMON_SET, NODE, POD};
use api::{Lens, LensMut, Value, json};

use crate::support::conditions;
use crate::world::World;

fn set(changes: Value) -> Value {
    let mut tree = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"namespace": "d", "name": "log"},
        "spec": {
            "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": "log"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
            "template": {"metadata": {"labels": {"app": "log"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}},
        },
    });
    api::patch::merge(&mut tree, &changes);
    tree
}

fn node(name: &str, changes: Value) -> Value {
    let mut tree = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"name": name}}});
    api::patch::merge(&mut tree, &changes);
    tree
}

fn world(changes: Value, nodes: &[&str]) -> World {
    let mut world = World::new(&["daemon-set-controller", "generic-garbage-collector"], []);
    nodes.iter().for_each(|name| world.create(node(name, json!({}))));
    world.create(set(changes));
    world
}

/// Binds pods as the scheduler would, then runs the kubelet, until all is quiet.
fn converge(world: &mut World) {
    for _ in 0..60 {
        world.settle();
        schedule(world);
        world.kubelet();
    }
    world.settle();
}

fn schedule(world: &mut World) {
    for pod in world.list(&POD) {
        let pin = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms.0.matchFields.0.values.0";
        let pinned = pod.str(pin).to_owned();
        if !pinned.is_empty() && pod.str("spec.nodeName").is_empty() {
            world.edit(&POD, "d", pod.str("metadata.name"), |pod| pod.set("spec.nodeName", pinned));
        }
    }
}

/// `node=image` of every pod that is not being deleted.
fn placed(world: &World) -> Vec<String> {
    let pods = world.list(&POD);
    let live = pods.iter().filter(|p| !p.has("metadata.deletionTimestamp"));
    let mut placed: Vec<String> = live
        .map(|p| format!("{}={}", p.str("spec.nodeName"), p.str("spec.containers.0.image")))
        .collect();
    placed.sort();
    placed
}

fn status(world: &World) -> String {
    let tree = world.get(&DAEMON_SET, "d", "log").unwrap();
    let fields = [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "numberMisscheduled",
    ];
    fields.map(|f| tree.at("status").int(f).unwrap_or(0).to_string()).join(" ")
}

#[test]
fn one_on_each_node() {
    let mut world = world(json!({}), &["a", "b"]);
    converge(&mut world);
    assert_eq!(placed(&world), ["a=v1", "b=v1"]);
    assert_eq!(status(&world), "2 2 2 2 2 0 0");
    let pod = &world.list(&POD)[0];
    assert_eq!(pod.list("spec.tolerations").len(), 6);
    assert!(pod.entry("metadata.labels", "controller-revision-hash").is_some());
    world.create(node("c", json!({"spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}, {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]}})));
    world.create(node("d", json!({"spec": {"taints": [{"key": "x", "effect": "NoSchedule"}]}})));
    converge(&mut world);
    assert_eq!(placed(&world), ["a=v1", "b=v1", "c=v1"], "not where a taint is not tolerated");
    // A new NoSchedule taint lets the pod stay, NoExecute does not.
    world.edit(&NODE, "", "a", |node| {
        node.set("spec.taints", json!([{"key": "x", "effect": "NoSchedule"}]))
    });
    world.edit(&NODE, "", "b", |node| {
        node.set("spec.taints", json!([{"key": "x", "effect": "NoExecute"}]))
    });
    converge(&mut world);
    assert_eq!(placed(&world), ["a=v1", "c=v1"]);
    assert_eq!(status(&world), "1 1 1 1 1 0 1");
    world.assert_fixpoint();
}

#[test]
fn selectors_and_names() {
    for (spec, want) in [
        (json!({"nodeSelector": {"name": "b"}}), vec!["b=v1"]),
        (json!({"nodeName": "a"}), vec!["a=v1"]),
        (
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "name", "operator": "NotIn", "values": ["a"]}]}]}}}}),
            vec!["b=v1", "c=v1"],
        ),
    ] {
        let mut world = world(json!({"spec": {"template": {"spec": spec}}}), &["a", "b", "c"]);
        converge(&mut world);
        assert_eq!(placed(&world), want);
        world.assert_fixpoint();
    }
}

#[test]
fn rolling_update_keeps_to_one_at_a_time() {
    let mut world = world(json!({}), &["a", "b", "c"]);
    converge(&mut world);
    world.edit(&DAEMON_SET, "d", "log", |set| {
        set.set("spec.template.spec.containers.0.image", "v2")
    });
    for _ in 0..20 {
        world.settle();
        let pods = world.list(&POD);
        let ready =
            |p: &&Value| conditions::is_true(p, "Ready") && !p.has("metadata.deletionTimestamp");
        assert!(pods.iter().filter(ready).count() >= 2);
        schedule(&mut world);
        world.kubelet();
    }
    assert_eq!(placed(&world), ["a=v2", "b=v2", "c=v2"]);
    assert_eq!(world.names(&CONTROLLER_REVISION).len(), 2);
    assert_eq!(status(&world), "3 3 3 3 3 0 0");
    world.assert_fixpoint();
}

#[test]
fn surge_never_goes_without() {
    let rolling = json!({"spec": {"updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}});
    let mut world = world(rolling, &["a", "b"]);
    converge(&mut world);
    world.edit(&DAEMON_SET, "d", "log", |set| {
        set.set("spec.template.spec.containers.0.image", "v2")
    });
    for _ in 0..20 {
        world.settle();
        let pods = world.list(&POD);
        let ready =
            |p: &&Value| conditions::is_true(p, "Ready") && !p.has("metadata.deletionTimestamp");
        assert!(pods.iter().filter(ready).count() >= 2);
        assert!(pods.len() <= 4);
        schedule(&mut world);
        world.kubelet();
    }
    assert_eq!(placed(&world), ["a=v2", "b=v2"]);
    world.assert_fixpoint();
}

#[test]
fn on_delete_failed_pods_and_vanished_nodes() {
    let on_delete =
        json!({"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}});
    let mut world = world(on_delete, &["a", "b"]);
    converge(&mut world);
    world.edit(&DAEMON_SET, "d", "log", |set| {
        set.set("spec.template.spec.containers.0.image", "v2")
    });
    converge(&mut world);
    assert_eq!(placed(&world), ["a=v1", "b=v1"]);
    let on_a = world
        .list(&POD)
        .iter()
        .find(|p| p.str("spec.nodeName") == "a")
        .unwrap()
        .str("metadata.name")
        .to_owned();
    world.finish(&on_a, "Failed", 1);
    world.settle();
    assert_eq!(placed(&world), ["a=v1", "b=v1"], "stays a while");
    world.advance(11);
    converge(&mut world);
    assert_eq!(placed(&world), ["a=v2", "b=v1"]);
    assert!(
        world.events.iter().any(|e| e.contains("FailedDaemonPod: Found failed daemon pod d/log-"))
    );
    // A pod that was not bound yet goes with its node.
    world.create(node("c", json!({})));
    world.settle();
    assert_eq!(world.names(&POD).len(), 3);
    world.delete(&NODE, "", "c", "Background");
    converge(&mut world);
    assert_eq!(world.names(&POD).len(), 2);
    world.assert_fixpoint();
}
