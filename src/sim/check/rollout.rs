//! A rollout's own decisions keep within maxSurge and maxUnavailable.

use api::kinds::REPLICA_SET;
use api::{Action, Actions, Key, Lens, Object, Value, View};

use super::{Check, Verdict};

pub(super) struct Rollouts;

const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";

impl Check for Rollouts {
    fn decided(&mut self, name: &str, view: &View<'_>, key: &Key, actions: &Actions) -> Verdict {
        if name != "deployment-controller" {
            return Ok(());
        }
        let Some(deployment) = view.at(key) else { return Ok(()) };
        let tree = deployment.tree();
        let replicas = tree.int("spec.replicas").unwrap_or(1);
        let (surge, unavailable) = bounds(&tree, replicas);
        let sets = sets(view, &deployment, actions);
        let total = |size: fn(&Set) -> i64| sets.iter().map(size).sum::<i64>();
        let (before, after) = (total(|set| set.before), total(|set| set.after));
        if after > before.max(replicas + surge) {
            return Err(format!(
                "{after} pods, where {replicas} and a surge of {surge} are allowed"
            ));
        }
        // A change of size may take ready pods away, as upstream's does; a rollout may not.
        let scaling = sets.iter().any(|set| set.before > 0 && set.desired != Some(replicas));
        if scaling || tree.str("spec.strategy.type") == "Recreate" || tree.flag("spec.paused") {
            return Ok(());
        }
        let available = |size: fn(&Set) -> i64| {
            sets.iter().map(|set| size(set).min(set.available)).sum::<i64>()
        };
        let (before, after) = (available(|set| set.before), available(|set| set.after));
        let needed = (replicas - unavailable).min(before);
        if after < needed {
            return Err(format!("{after} pods stay available, where {needed} are needed"));
        }
        Ok(())
    }
}

struct Set {
    name: String,
    before: i64,
    after: i64,
    available: i64,
    desired: Option<i64>,
}

/// The sets of a deployment, with what the actions make of them.
fn sets(view: &View<'_>, deployment: &Object, actions: &Actions) -> Vec<Set> {
    let mut sets: Vec<Set> = view
        .owned(&REPLICA_SET, deployment.namespace(), deployment.uid())
        .iter()
        .filter(|set| set.controller().is_some_and(|owner| *owner.uid == *deployment.uid()))
        .map(|set| {
            let tree = set.tree();
            let size = tree.int("spec.replicas").unwrap_or(1);
            let desired = tree.entry("metadata.annotations", DESIRED).and_then(|n| n.parse().ok());
            let available = tree.int("status.availableReplicas").unwrap_or(0);
            Set { name: set.name().to_owned(), before: size, after: size, available, desired }
        })
        .collect();
    for action in &actions.list {
        let (tree, name): (&Value, &str) = match action {
            Action::Update { kind, object } | Action::Create { kind, object }
                if **kind == REPLICA_SET =>
            {
                (object, object.str("metadata.name"))
            }
            Action::Patch { key, patch, .. } if *key.kind == REPLICA_SET => (patch, &key.name),
            _ => continue,
        };
        let Some(size) = tree.int("spec.replicas") else { continue };
        match sets.iter_mut().find(|set| set.name == name) {
            Some(set) => set.after = size,
            None => sets.push(Set {
                name: name.to_owned(),
                before: 0,
                after: size,
                available: 0,
                desired: None,
            }),
        }
    }
    sets
}

/// maxSurge and maxUnavailable in pods.
fn bounds(tree: &Value, replicas: i64) -> (i64, i64) {
    if tree.str("spec.strategy.type") == "Recreate" {
        return (0, replicas);
    }
    let rolling = tree.at("spec.strategy.rollingUpdate");
    let surge = pods(rolling.at("maxSurge"), replicas, true);
    let unavailable = pods(rolling.at("maxUnavailable"), replicas, false);
    match (surge, unavailable) {
        (0, 0) => (0, 1),
        bounds => bounds,
    }
}

/// A number, or a percentage of `replicas`; 25% when absent.
fn pods(value: &Value, replicas: i64, round_up: bool) -> i64 {
    match value {
        Value::Number(number) => number.as_i64().unwrap_or(0),
        value => {
            let percent: i64 =
                value.as_str().unwrap_or("25%").trim_end_matches('%').parse().unwrap_or(25);
            (percent * replicas + if round_up { 99 } else { 0 }) / 100
        }
    }
}
