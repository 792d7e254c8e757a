//! Node lifecycle: a node that falls silent becomes Unknown, and taints tell of its condition.

use std::time::Duration;

use api::json;
use api::kinds::{LEASE, NODE, POD};
use api::{
    Actions, Controller, Expect, Key, Kind, Lens, LensMut, Next, Object, Value, View, Wakes, Watch,
};
use stdx::time::{Now, Wall};

use super::{NOT_READY, UNREACHABLE};
use crate::support::conditions::{self, Condition};
use crate::support::pods::Pod;
use crate::support::{created, same, time_at};
use crate::tuning::Tuning;

/// Since when a node is under suspicion.
const SILENT_SINCE: &str = "k3rs.io/silent-since";
const LEASES: &str = "kube-node-lease";

/// Conditions that only a living kubelet can vouch for.
const VOUCHED: &[&str] = &["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// Taints that follow from a condition: type, status, key.
const BY_CONDITION: &[(&str, &str, &str)] = &[
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

pub(crate) struct Lifecycle;

impl Controller for Lifecycle {
    const NAME: &'static str = "node-controller";
    const WATCHES: &'static [Watch] = &[
        // One node's change can be the one that all others' eviction depends on.
        Watch::new(
            &NODE,
            Wakes::With(|view, _| view.list(&NODE, None).iter().map(Key::of).collect()),
        ),
        Watch::new(&LEASE, Wakes::With(node_of_lease)),
    ];
    const READS: &'static [&'static Kind] = &[&POD];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let Some(node) = view.at(key) else { return Next::Done };
        let tree = node.tree();
        let now = view.now.wall;
        let confirm = confirm(Tuning::of(view));
        let silent_at = heard(view, &tree);
        let mut next = until(silent_at, now);
        let mut present = tree.clone();
        let suspected = tree.entry("metadata.annotations", SILENT_SINCE);
        let silent = silent_at <= now;
        let news = silent && !same(&unknown(&tree, view.now).into(), tree.at("status.conditions"));
        let confirmed_at =
            suspected.and_then(api::time::parse).map(|since| view.now.corrected(since) + confirm);
        if !silent && suspected.is_some() {
            let patch = json!({"metadata": {"annotations": {SILENT_SINCE: null}}});
            actions.patch(&node, patch);
        } else if news && confirmed_at.is_none() {
            let annotations = json!({SILENT_SINCE: api::time::format(now)});
            actions.patch(&node, json!({"metadata": {"annotations": annotations}}));
            next = Next::After(confirm);
        } else if news && confirmed_at.is_some_and(|at| at > now) {
            next = until(confirmed_at.unwrap_or(now), now);
        } else if silent {
            // A view that lags would take a living node for dead.
            let lease = Key::new(&LEASE, LEASES, node.name());
            actions.expect(match view.at(&lease) {
                Some(seen) => Expect::Unchanged { key: lease, revision: seen.revision() },
                None => Expect::Gone { key: lease, uid: String::new() },
            });
            let list = unknown(&tree, view.now);
            if !same(&Value::from(list.clone()), tree.at("status.conditions")) {
                actions.event(
                    &node,
                    "NodeNotReady",
                    format!("Node {} status is now: NodeNotReady", node.name()),
                );
                let patch = json!({"status": {"conditions": list.clone()}});
                actions.patch_status_exact(&node, patch);
                present.set("status.conditions", list);
            }
            mark_pods(view, &node, actions);
        }
        set_taints(view, &node, &present, actions);
        next
    }
}

/// The last part of `--node-monitor-grace-period` (12 s of 50 s): silence for longer than the rest is suspicious, and a
/// suspicion must stand for longer than a kubelet takes to renew its lease, for after a restart of everything, or
/// a jump of the clock, every lease looks old.
fn confirm(tuning: &Tuning) -> Duration {
    tuning.node_monitor_grace * 6 / 25
}

fn until(at: Wall, now: Wall) -> Next {
    if at > now { Next::After(at.since(now)) } else { Next::Done }
}

fn node_of_lease(_: &View<'_>, lease: &Object) -> Vec<Key> {
    match lease.namespace() == LEASES {
        true => vec![Key::new(&NODE, "", lease.name())],
        false => Vec::new(),
    }
}

/// Until when the node's last sign of life is good.
fn heard(view: &View<'_>, node: &Value) -> Wall {
    let lease = view.get(&LEASE, LEASES, node.str("metadata.name")).map(|lease| lease.tree());
    let renewed = lease.and_then(|lease| time_at(&lease, "spec.renewTime"));
    let ready = conditions::find(node, "Ready");
    // What we wrote ourselves is no sign of life.
    let posted = ready
        .filter(|condition| !is_ours(condition))
        .and_then(|condition| time_at(condition, "lastHeartbeatTime"));
    let tuning = Tuning::of(view);
    let started = view.now.corrected(created(node)) + tuning.node_startup_grace;
    let signs = [renewed, posted].into_iter().flatten();
    let grace = tuning.node_monitor_grace - confirm(tuning);
    let signs = signs.map(|at| view.now.corrected(at) + grace);
    signs.max().map_or(started, |at| if ready.is_none() { at.max(started) } else { at })
}

fn is_ours(condition: &Value) -> bool {
    matches!(condition.str("reason"), "NodeStatusUnknown" | "NodeStatusNeverUpdated")
}

/// The conditions with all that the kubelet vouched for set to Unknown.
fn unknown(node: &Value, now: Now) -> Vec<Value> {
    let mut list = node.list("status.conditions").to_vec();
    for kind in VOUCHED.iter().copied() {
        let old = conditions::in_list(&list, kind);
        let (reason, message) = match old {
            None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
            Some(old) if old.str("status") == "Unknown" => continue,
            Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
        };
        let new = old.is_none();
        let condition = Condition { kind, status: "Unknown", reason, message: message.into() };
        conditions::set(&mut list, &condition, now);
        if new && let Some(entry) = list.last_mut() {
            entry.set("lastHeartbeatTime", node.str("metadata.creationTimestamp"));
        }
    }
    list
}

/// Pods of a silent node serve nobody as far as anyone can tell.
fn mark_pods(view: &View<'_>, node: &Object, actions: &mut Actions) {
    for pod in view.list(&POD, None).into_iter().map(Pod::new) {
        if pod.node() != node.name() || !pod.ready() {
            continue;
        }
        let mut list = pod.tree.list("status.conditions").to_vec();
        let reason =
            conditions::find(&pod.tree, "Ready").map_or("", |c| c.str("reason")).to_owned();
        let message = String::new();
        let condition = Condition { kind: "Ready", status: "False", reason: &reason, message };
        conditions::set(&mut list, &condition, view.now);
        actions.warning(&pod.object, "NodeNotReady", "Node is not ready");
        actions.patch_status_exact(&pod.object, json!({"status": {"conditions": list}}));
    }
}

fn is_ready(node: &Value) -> bool {
    conditions::is_true(node, "Ready")
}

/// NoSchedule taints from conditions, and NoExecute for a node that is lost while others are not:
/// when all are, it is rather the network that is, and nobody is evicted.
fn set_taints(view: &View<'_>, node: &Object, tree: &Value, actions: &mut Actions) {
    let others = view.list(&NODE, None).into_iter();
    let any_ready = is_ready(tree)
        || others.filter(|other| other.name() != node.name()).any(|other| is_ready(&other.tree()));
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    for (kind, status, key) in BY_CONDITION {
        if conditions::find(tree, kind).is_some_and(|c| c.str("status") == *status) {
            wanted.push((key, "NoSchedule"));
            if *kind == "Ready" && any_ready {
                wanted.push((key, "NoExecute"));
            }
        }
    }
    if tree.flag("spec.unschedulable") {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let now = api::time::format(view.now.wall);
    let ours = |taint: &Value| {
        let (key, effect) = (taint.str("key"), taint.str("effect"));
        match effect {
            "NoSchedule" => key == UNSCHEDULABLE || BY_CONDITION.iter().any(|(_, _, k)| *k == key),
            "NoExecute" => key == NOT_READY || key == UNREACHABLE,
            _ => false,
        }
    };
    let is = |taint: &Value, (key, effect): (&str, &str)| {
        taint.str("key") == key && taint.str("effect") == effect
    };
    let mut taints = tree.list("spec.taints").to_vec();
    // A node that has not told its condition yet keeps the taint that it registered with.
    let untold = conditions::find(tree, "Ready").is_none();
    taints.retain(|taint| !ours(taint) || untold || wanted.iter().any(|want| is(taint, *want)));
    for (key, effect) in wanted {
        if !taints.iter().any(|taint| is(taint, (key, effect))) {
            taints.push(json!({"key": key, "effect": effect, "timeAdded": now}));
        }
    }
    // Eviction counts from here, also for taints that people set.
    for taint in taints.iter_mut().filter(|taint| taint.str("effect") == "NoExecute") {
        taint.set_default("timeAdded", now.clone());
    }
    if !same(&Value::from(taints.clone()), tree.at("spec.taints")) {
        let mut patch = json!({"spec": {"taints": taints}});
        if patch.list("spec.taints").is_empty() {
            patch.set("spec.taints", Value::Null);
        }
        // The list is replaced: only if nobody else changes the node at the same time, which the
        // status patch above has done.
        let told = actions.list.iter().any(|action| match action {
            api::Action::Patch { key, .. } => *key == Key::of(node),
            _ => false,
        });
        if !told {
            actions.patch_exact(node, patch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{World, now_at, set_ready};

    fn node(name: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    }

    fn beat(world: &mut World, name: &str) {
        let time = api::time::format_micro(world.now().wall);
        if world.get(&LEASE, LEASES, name).is_none() {
            world.create(json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"namespace": LEASES, "name": name}, "spec": {"renewTime": time},
            }));
        } else {
            world.edit(&LEASE, LEASES, name, |lease| lease.set("spec.renewTime", time));
        }
    }

    fn taints(world: &World, name: &str) -> Vec<String> {
        let tree = world.get(&NODE, "", name).unwrap();
        let list = tree.list("spec.taints").iter();
        list.map(|t| format!("{}:{}", t.str("key"), t.str("effect"))).collect()
    }

    fn ready(world: &World, name: &str) -> String {
        let tree = world.get(&NODE, "", name).unwrap();
        let condition = conditions::find(&tree, "Ready").cloned().unwrap_or_default();
        format!("{} {}", condition.str("status"), condition.str("reason"))
    }

    #[test]
    fn silence_and_return() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "d", "name": "p"}, "spec": {"nodeName": "a"},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        });
        let mut world = World::new(&["node-controller"], [node("a"), node("b"), pod]);
        for name in ["a", "b"] {
            world.edit(&NODE, "", name, |node| set_ready(node, true, now_at(0)));
            beat(&mut world, name);
        }
        world.settle();
        assert!(taints(&world, "a").is_empty());
        for _ in 0..6 {
            world.advance(10);
            beat(&mut world, "b");
            world.settle();
        }
        assert_eq!(ready(&world, "a"), "Unknown NodeStatusUnknown");
        assert_eq!(ready(&world, "b"), "True ");
        assert_eq!(
            taints(&world, "a"),
            [
                "node.kubernetes.io/unreachable:NoSchedule",
                "node.kubernetes.io/unreachable:NoExecute"
            ]
        );
        let pod = world.get(&POD, "d", "p").unwrap();
        assert!(!conditions::is_true(&pod, "Ready"));
        // It comes back.
        beat(&mut world, "a");
        let now = world.now();
        world.edit(&NODE, "", "a", |node| {
            set_ready(node, true, now);
            node.list_mut("status.conditions").iter_mut().for_each(|c| {
                c.remove("reason");
                c.set("status", if c.str("type") == "Ready" { "True" } else { "False" });
            });
        });
        world.settle();
        assert!(taints(&world, "a").is_empty());
        // All fall silent: marked, but nobody is evicted for it.
        world.advance(200);
        assert_eq!(
            [ready(&world, "a"), ready(&world, "b")],
            ["Unknown NodeStatusUnknown"; 2].map(str::to_owned)
        );
        assert_eq!(taints(&world, "a"), ["node.kubernetes.io/unreachable:NoSchedule"]);
        assert_eq!(taints(&world, "b"), ["node.kubernetes.io/unreachable:NoSchedule"]);
        world.assert_fixpoint();
    }

    #[test]
    fn a_restart_or_a_jump_of_the_clock_is_no_silence() {
        let mut world = World::new(&["node-controller"], [node("a")]);
        world.edit(&NODE, "", "a", |node| set_ready(node, true, now_at(0)));
        beat(&mut world, "a");
        world.settle();
        world.secs += 1_000_000;
        world.edit(&NODE, "", "a", |node| node.set("metadata.labels", json!({"x": "y"})));
        world.advance(9);
        beat(&mut world, "a");
        world.settle();
        assert_eq!(ready(&world, "a"), "True ");
        world.advance(30);
        assert_eq!(ready(&world, "a"), "True ");
        let tree = world.get(&NODE, "", "a").unwrap();
        assert_eq!(tree.entry("metadata.annotations", SILENT_SINCE), None);
        world.advance(30);
        assert_eq!(ready(&world, "a"), "Unknown NodeStatusUnknown");
    }

    #[test]
    fn a_clock_that_is_set_is_no_silence_either_way() {
        for by_secs in [1_700_000_000, 3600, -3600, -1_000_000_000] {
            let mut world = World::new(&["node-controller"], [node("a")]);
            world.edit(&NODE, "", "a", |node| set_ready(node, true, now_at(0)));
            beat(&mut world, "a");
            world.advance(9);
            let revision =
                world.get(&NODE, "", "a").unwrap().str("metadata.resourceVersion").to_owned();
            world.set_clock(by_secs);
            world.advance(20);
            // Nobody even suspects anything: 29 seconds are no silence.
            let tree = world.get(&NODE, "", "a").unwrap();
            assert_eq!(tree.str("metadata.resourceVersion"), revision, "set by {by_secs} s");
            world.advance(40);
            assert_eq!(ready(&world, "a"), "Unknown NodeStatusUnknown", "set by {by_secs} s");
        }
    }

    #[test]
    fn never_heard_of_and_conditions() {
        let mut world = World::new(&["node-controller"], [node("a")]);
        world.settle();
        assert_eq!(ready(&world, "a"), " ");
        world.advance(73);
        assert_eq!(ready(&world, "a"), "Unknown NodeStatusNeverUpdated");
        let mut world = World::new(&["node-controller"], [node("a")]);
        beat(&mut world, "a");
        world.edit(&NODE, "", "a", |node| {
            node.set("spec.unschedulable", true);
            node.set("spec.taints", json!([{"key": "mine", "effect": "NoExecute"}]));
            node.set(
                "status.conditions",
                json!([
                    {"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True"},
                ]),
            );
        });
        world.settle();
        assert_eq!(
            taints(&world, "a"),
            [
                "mine:NoExecute",
                "node.kubernetes.io/disk-pressure:NoSchedule",
                "node.kubernetes.io/unschedulable:NoSchedule",
            ]
        );
        let tree = world.get(&NODE, "", "a").unwrap();
        assert_eq!(tree.str("spec.taints.0.timeAdded"), "2024-01-01T00:00:00Z");
        world.edit(&NODE, "", "a", |node| {
            node.set("spec.unschedulable", false);
            node.set("status.conditions", json!([{"type": "Ready", "status": "True"}]));
        });
        world.settle();
        assert_eq!(taints(&world, "a"), ["mine:NoExecute"]);
        world.assert_fixpoint();
    }
}
