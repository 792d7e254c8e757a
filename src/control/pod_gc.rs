//! Pod garbage: pods whose node is gone, terminating pods that no node will end, and too many finished ones.

use std::time::Duration;

use api::controller::Action;
use api::kinds::{NODE, POD};
use api::{Actions, Controller, Expect, Key, Lens, Next, Object, View, Wakes, Watch, json};
use stdx::Arrange;

use crate::support::conditions::{self, Condition};
use crate::support::created;
use crate::support::pods::Pod;
use crate::tuning::Tuning;

/// A node may come back under its name; its pods wait this long.
const QUARANTINE: Duration = Duration::from_secs(40);
const GONE_SINCE: &str = "k3rs.io/node-gone-since";

pub(crate) struct PodGc;

impl Controller for PodGc {
    const NAME: &'static str = "pod-garbage-collector";
    const WATCHES: &'static [Watch] =
        &[Watch::new(&POD, Wakes::With(wakes)), Watch::new(&NODE, Wakes::With(pods_of_node))];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        if key.name.is_empty() {
            collect_finished(view, actions);
            return Next::Done;
        }
        let Some(pod) = view.at(key).map(Pod::new) else { return Next::Done };
        if pod.node().is_empty() {
            if pod.deleting() {
                force(&pod, actions);
            }
            return Next::Done;
        }
        let marked = pod.tree.entry("metadata.annotations", GONE_SINCE);
        if view.get(&NODE, "", pod.node()).is_some() {
            if marked.is_some() {
                let patch = json!({"metadata": {"annotations": {GONE_SINCE: null}}});
                actions.patch(&pod.object, patch);
            }
            return Next::Done;
        }
        let Some(since) = marked.and_then(api::time::parse) else {
            let now = api::time::format(view.now.wall);
            let patch = json!({"metadata": {"annotations": {GONE_SINCE: now}}});
            actions.patch(&pod.object, patch);
            return Next::After(QUARANTINE);
        };
        let waited = view.now.age(since);
        if waited < QUARANTINE {
            return Next::After(QUARANTINE - waited);
        }
        let node = Key::new(&NODE, "", pod.node());
        actions.expect(Expect::Gone { key: node, uid: String::new() });
        let message = "PodGC: node no longer exists";
        end(&pod, "DeletionByPodGC", message, view, actions);
        force(&pod, actions);
        Next::Done
    }
}

fn finished_key() -> Key {
    Key::new(&POD, "", "")
}

fn wakes(view: &View<'_>, object: &Object) -> Vec<Key> {
    let pod = Pod::new(object.clone());
    let mut keys = Vec::new();
    let lost = match pod.node() {
        "" => pod.deleting(),
        node => view.get(&NODE, "", node).is_none(),
    };
    if lost {
        keys.push(Key::of(object));
    }
    if pod.finished() && view.list(&POD, None).len() > Tuning::of(view).finished_pods_max {
        keys.push(finished_key());
    }
    keys
}

/// The pods of a node that went away, or came back.
fn pods_of_node(view: &View<'_>, node: &Object) -> Vec<Key> {
    let there = view.at(&Key::of(node)).is_some();
    let mut pods = view.list(&POD, None);
    pods.retain(|pod| {
        let tree = pod.tree();
        tree.str("spec.nodeName") == node.name()
            && (!there || tree.entry("metadata.annotations", GONE_SINCE).is_some())
    });
    pods.iter().map(Key::of).collect()
}

/// Deletes the oldest finished pods beyond the limit.
fn collect_finished(view: &View<'_>, actions: &mut Actions) {
    let mut finished: Vec<Pod> =
        view.list(&POD, None).into_iter().map(Pod::new).filter(Pod::finished).collect();
    finished.arrange_by_key(|pod| (created(&pod.tree), pod.name().to_owned()));
    let excess = finished.len().saturating_sub(Tuning::of(view).finished_pods_max);
    finished.iter().take(excess).for_each(|pod| force(pod, actions));
}

/// Marks a pod as failed before it vanishes, for those who count.
fn end(pod: &Pod, reason: &str, message: &str, view: &View<'_>, actions: &mut Actions) {
    if pod.finished() {
        return;
    }
    let mut list = pod.tree.list("status.conditions").to_vec();
    let message = message.to_owned();
    let condition = Condition { kind: "DisruptionTarget", status: "True", reason, message };
    conditions::set(&mut list, &condition, view.now);
    let status = json!({"phase": "Failed", "conditions": list});
    actions.patch_status_exact(&pod.object, json!({"status": status}));
}

fn force(pod: &Pod, actions: &mut Actions) {
    actions.push(Action::Delete {
        key: Key::of(&pod.object),
        uid: pod.object.uid().into(),
        revision: None,
        grace_secs: Some(0),
        propagation: "Background",
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    #[test]
    fn pods_follow_their_node() {
        let node = || json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
        let pod = |name: &str, node: &str| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "d", "name": name}, "spec": {"nodeName": node}, "status": {"phase": "Running"}});
        let mut world =
            World::new(&["pod-garbage-collector"], [node(), pod("a", "n"), pod("free", "")]);
        world.settle();
        world.delete(&NODE, "", "n", "Background");
        world.advance(20);
        assert_eq!(world.names(&POD), ["a", "free"], "the node may come back");
        world.create(node());
        world.advance(60);
        assert_eq!(world.names(&POD), ["a", "free"]);
        let tree = world.get(&POD, "d", "a").unwrap();
        assert_eq!(tree.entry("metadata.annotations", GONE_SINCE), None);
        world.delete(&NODE, "", "n", "Background");
        world.advance(41);
        assert_eq!(world.names(&POD), ["free"]);
        world.edit(&POD, "d", "free", |pod| {
            use api::LensMut;
            pod.set("metadata.deletionTimestamp", "2024-01-01T00:00:00Z");
        });
        world.settle();
        assert!(world.names(&POD).is_empty(), "no node will ever end it");
    }
}
