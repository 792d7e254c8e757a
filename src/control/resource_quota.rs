//! ResourceQuota: says what holds, counts what is used, and gives back what became free.
//!
//! What is made is charged by the server in the transaction that makes it. A count of everything may
//! therefore be written only if it has seen what was charged: both what it counted and the quota must
//! still be what they were.

use std::time::Duration;

use api::controller::digest;
use api::kinds::{PERSISTENT_VOLUME_CLAIM, POD, RESOURCE_QUOTA, SERVICE};
use api::pod::resources::{Amounts, add, amounts, tree};
use api::{
    Actions, Controller, Expect, Key, Kind, Lens, LensMut, Next, Object, Quantity, Value, View,
    Wakes, Watch, json, quota,
};

use crate::support::write_status;

/// How often everything is counted, whether something is known to have changed or not.
const RECOUNT: Duration = Duration::from_secs(300);

pub(crate) struct ResourceQuotas;

impl Controller for ResourceQuotas {
    const NAME: &'static str = "resourcequota-controller";
    const WATCHES: &'static [Watch] = &[Watch::new(&RESOURCE_QUOTA, Wakes::With(itself))];
    const FOLLOWS: fn(&'static Kind) -> Option<Wakes> = |kind| {
        let counts = quota::is_counted(kind) && *kind != RESOURCE_QUOTA;
        counts.then_some(Wakes::With(given_back))
    };

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let Some(object) = view.at(key).filter(|object| !object.deleting()) else {
            return Next::Done;
        };
        let tree = object.tree();
        let (status, counted, next) = count(view, &tree);
        let n_before = actions.list.len();
        write_status(actions, &object, &tree, status);
        if actions.list.len() > n_before {
            let write = actions.list.split_off(n_before);
            counted.into_iter().for_each(|expect| actions.expect(expect));
            actions.list.extend(write);
        }
        next
    }
}

/// The quota's status by what there is, what it rests on, and when it will be another one by itself.
fn count(view: &View<'_>, quota_tree: &Value) -> (Value, Vec<Expect>, Next) {
    let namespace = quota_tree.str("metadata.namespace");
    let hard = amounts(quota_tree.at("spec.hard"));
    let (mut used, mut counted) = (Amounts::new(), Vec::new());
    let mut next = Next::After(RECOUNT);
    for kind in view.kinds().stored().filter(|kind| quota::is_counted(kind)) {
        let tracked: Vec<&String> = hard.keys().filter(|name| quota::tracks(kind, name)).collect();
        if tracked.is_empty() {
            continue;
        }
        let mut sum: Amounts =
            tracked.iter().map(|name| ((*name).clone(), Quantity::ZERO)).collect();
        let objects = view.list(kind, Some(namespace));
        for object in &objects {
            // Of most kinds only how many there are counts.
            let object = if quota::looks_into(kind) { object.tree() } else { Value::Null };
            if !quota::is_in_scopes(kind, &object, quota_tree.at("spec")) {
                continue;
            }
            add(&mut sum, &quota::usage(kind, &object, view.now.wall));
            if *kind == POD
                && let Some(until) = quota::charged_until(&object)
                && until >= view.now.wall
            {
                let wait = until.since(view.now.wall) + Duration::from_secs(1);
                next = next.or(Next::After(wait));
            }
        }
        counted.push(Expect::Current { kind, namespace: namespace.into(), seen: digest(&objects) });
        sum.retain(|name, _| tracked.contains(&name));
        add(&mut used, &sum);
    }
    // What no kind is known to use keeps what it had.
    for (name, amount) in amounts(quota_tree.at("status.used")) {
        if hard.contains_key(&name) {
            used.entry(name).or_insert(amount);
        }
    }
    let mut status = json!({});
    for (field, amounts) in [("hard", &hard), ("used", &used)] {
        if !amounts.is_empty() {
            status.set(field, tree(amounts));
        }
    }
    (status, counted, next)
}

/// A quota whose status says something else than its spec. The charges of the server are none of it.
fn itself(view: &View<'_>, object: &Object) -> Vec<Key> {
    let mut woken = given_back(view, object);
    let tree = object.tree();
    let (wanted, holds) = (amounts(tree.at("spec.hard")), amounts(tree.at("status.hard")));
    let used = tree.at("status.used");
    let is_settled = wanted == holds && wanted.keys().all(|name| used.get(name).is_some());
    if !is_settled {
        woken.push(Key::of(object));
    }
    woken
}

/// The quotas that may have got something back: of what is gone, and of what may use less than before.
fn given_back(view: &View<'_>, object: &Object) -> Vec<Key> {
    let quotas = view.list(&RESOURCE_QUOTA, Some(object.namespace()));
    if quotas.is_empty() {
        return Vec::new();
    }
    let kind = object.kind();
    let now = view.get(kind, object.namespace(), object.name());
    let is_gone = now.is_none_or(|now| now.uid() != object.uid());
    let shrinks = if *kind == POD {
        object.deleting() || matches!(object.tree().str("status.phase"), "Succeeded" | "Failed")
    } else {
        *kind == SERVICE || *kind == PERSISTENT_VOLUME_CLAIM
    };
    if !is_gone && !shrinks {
        return Vec::new();
    }
    let counts = |quota: &Object| {
        let tree = quota.tree();
        tree.at("spec.hard")
            .as_object()
            .is_some_and(|hard| hard.keys().any(|name| quota::tracks(kind, name)))
    };
    quotas.iter().filter(|quota| counts(quota)).map(Key::of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{World, reconcile};

    fn quota_tree(hard: Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": {"namespace": "d", "name": "q", "uid": "q"}, "spec": {"hard": hard},
        })
    }

    fn pod(name: &str, cpu: &str, phase: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "d", "name": name, "uid": name},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}, "status": {"phase": phase},
        })
    }

    #[test]
    fn counts_everything_that_a_quota_names() {
        let mut trees = vec![
            quota_tree(
                json!({"pods": "5", "requests.cpu": "2", "count/pods": "9", "secrets": "1", "example.com/x": "1"}),
            ),
            pod("a", "500m", "Running"),
            pod("b", "700m", "Succeeded"),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "other", "name": "s"}}),
        ];
        let text = reconcile::<ResourceQuotas>(trees.clone(), (&RESOURCE_QUOTA, "d", "q"), 60);
        assert_eq!(
            text,
            "expect current d pods\nexpect current d secrets\n\
             status ResourceQuota d/q {\"hard\":{\"count/pods\":\"9\",\"example.com/x\":\"1\",\"pods\":\"5\",\"requests.cpu\":\"2\",\"secrets\":\"1\"},\
             \"used\":{\"count/pods\":\"2\",\"pods\":\"1\",\"requests.cpu\":\"500m\",\"secrets\":\"0\"}}\nafter 300s\n"
        );
        trees[0].set("spec.scopes", json!(["NotBestEffort", "Terminating"]));
        let text = reconcile::<ResourceQuotas>(trees, (&RESOURCE_QUOTA, "d", "q"), 60);
        assert!(text.contains("\"pods\":\"0\""), "{text}");
    }

    #[test]
    fn gives_back_what_becomes_free() {
        let used = |world: &World| {
            world.get(&RESOURCE_QUOTA, "d", "q").unwrap().at("status.used").to_string()
        };
        let trees = [pod("a", "1", "Running"), pod("b", "1", "Running")];
        let mut world = World::new(&["resourcequota-controller"], trees);
        world.create(quota_tree(json!({"pods": "5", "cpu": "4"})));
        world.settle();
        assert_eq!(used(&world), "{\"cpu\":\"2\",\"pods\":\"2\"}");
        world.edit(&POD, "d", "a", |pod| pod.set("status.phase", "Failed"));
        world.settle();
        assert_eq!(used(&world), "{\"cpu\":\"1\",\"pods\":\"1\"}");
        world.delete(&POD, "d", "b", "Background");
        world.settle();
        assert_eq!(used(&world), "{\"cpu\":\"0\",\"pods\":\"0\"}");
        // A status that somebody else wrote is put right.
        world.edit(&RESOURCE_QUOTA, "d", "q", |quota| {
            quota.set("status.hard", json!({"pods": "9"}))
        });
        world.settle();
        let hard = world.get(&RESOURCE_QUOTA, "d", "q").unwrap().at("status.hard").to_string();
        assert_eq!(hard, "{\"cpu\":\"4\",\"pods\":\"5\"}");
        world.assert_fixpoint();
    }
}
