//! In the end, the state is what the specs say.

use api::kinds::{
    DAEMON_SET, DEPLOYMENT, JOB, NAMESPACE, NODE, PERSISTENT_VOLUME_CLAIM, POD, REPLICA_SET,
    REPLICATION_CONTROLLER, STATEFUL_SET,
};
use api::{Lens, Object, Value};

use super::{Check, Known, Verdict};
use crate::controllers;

pub(super) struct Progress;

/// A kind, its controller, and what must be true of each of its objects.
type Goal = (&'static api::Kind, &'static str, fn(&Known, &Object, &Value) -> Verdict);

static GOALS: &[Goal] = &[
    (&DEPLOYMENT, "deployment-controller", deployment),
    (&REPLICA_SET, "replicaset-controller", replica_set),
    (&REPLICATION_CONTROLLER, "replication-controller", replica_set),
    (&STATEFUL_SET, "statefulset-controller", stateful_set),
    (&DAEMON_SET, "daemon-set-controller", daemon_set),
    (&JOB, "job-controller", job),
    (&NAMESPACE, "namespace-controller", finished_deletion),
    (&PERSISTENT_VOLUME_CLAIM, "persistent-volume-binder", claim),
    (&POD, "default-scheduler", pod),
];

impl Check for Progress {
    fn settled(&mut self, known: &Known) -> Verdict {
        for (kind, controller, goal) in GOALS {
            if !controllers::has(controller) {
                continue;
            }
            for object in known.of_kind(kind) {
                goal(known, object, &object.tree()).map_err(|why| format!("{object:?}: {why}"))?;
            }
        }
        Ok(())
    }
}

/// Running, ready, not on its way out.
pub(super) fn is_ready(pod: &Object) -> bool {
    !pod.deleting() && is_ready_tree(&pod.tree())
}

/// Whether a pod's status says that it is ready.
pub(crate) fn is_ready_tree(tree: &Value) -> bool {
    let ready = |c: &Value| c.str("type") == "Ready" && c.str("status") == "True";
    tree.list("status.conditions").iter().any(ready)
}

fn fields(tree: &Value, wanted: &[(&str, i64)]) -> Verdict {
    for (field, want) in wanted {
        let found = tree.at("status").int(field).unwrap_or(0);
        if found != *want {
            return Err(format!("status.{field} is {found}, not {want}"));
        }
    }
    observed(tree)
}

fn observed(tree: &Value) -> Verdict {
    match tree.int("status.observedGeneration") == tree.int("metadata.generation") {
        true => Ok(()),
        false => Err("its controller has not seen its newest spec".into()),
    }
}

fn finished_deletion(_: &Known, object: &Object, _: &Value) -> Verdict {
    match object.deleting() {
        true => Err("its deletion does not end".into()),
        false => Ok(()),
    }
}

/// A claim that is being deleted stays while a pod uses it.
fn claim(known: &Known, object: &Object, tree: &Value) -> Verdict {
    if object.deleting() && super::binding::users(known, object).next().is_none() {
        return finished_deletion(known, object, tree);
    }
    Ok(())
}

fn deployment(known: &Known, object: &Object, tree: &Value) -> Verdict {
    finished_deletion(known, object, tree)?;
    let wanted = tree.int("spec.replicas").unwrap_or(1);
    if !tree.flag("spec.paused") {
        fields(
            tree,
            &[("replicas", wanted), ("updatedReplicas", wanted), ("readyReplicas", wanted)],
        )?;
    }
    let sets = known.controlled(&REPLICA_SET, object);
    let sizes: i64 = sets.iter().map(|set| set.tree().int("spec.replicas").unwrap_or(1)).sum();
    match sizes == wanted {
        true => Ok(()),
        false => Err(format!("its sets ask for {sizes} pods, not {wanted}")),
    }
}

fn replica_set(known: &Known, object: &Object, tree: &Value) -> Verdict {
    finished_deletion(known, object, tree)?;
    let wanted = tree.int("spec.replicas").unwrap_or(1);
    fields(tree, &[("replicas", wanted), ("readyReplicas", wanted)])?;
    ready_pods(known, object, wanted)
}

fn ready_pods(known: &Known, object: &Object, wanted: i64) -> Verdict {
    let pods = known.controlled(&POD, object);
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    match i64::try_from(ready) == Ok(wanted) {
        true => Ok(()),
        false => Err(format!("{ready} of its pods are ready, not {wanted}")),
    }
}

fn stateful_set(known: &Known, object: &Object, tree: &Value) -> Verdict {
    finished_deletion(known, object, tree)?;
    let wanted = tree.int("spec.replicas").unwrap_or(1);
    fields(tree, &[("replicas", wanted), ("readyReplicas", wanted)])?;
    for pod in known.controlled(&POD, object) {
        let revision = tree.str("status.updateRevision");
        if pod.label("controller-revision-hash") != Some(revision) {
            return Err(format!("{pod:?} is not of the newest revision"));
        }
    }
    ready_pods(known, object, wanted)
}

fn daemon_set(known: &Known, object: &Object, tree: &Value) -> Verdict {
    finished_deletion(known, object, tree)?;
    let nodes = i64::try_from(known.of_kind(&NODE).count()).unwrap_or(0);
    let names = ["desiredNumberScheduled", "currentNumberScheduled", "numberReady"];
    fields(tree, &names.map(|name| (name, nodes)))?;
    ready_pods(known, object, nodes)
}

fn job(known: &Known, object: &Object, tree: &Value) -> Verdict {
    finished_deletion(known, object, tree)?;
    if tree.flag("spec.suspend") {
        return Ok(());
    }
    let done =
        |c: &Value| matches!(c.str("type"), "Complete" | "Failed") && c.str("status") == "True";
    match tree.list("status.conditions").iter().any(done) {
        true => Ok(()),
        false => Err("it is neither complete nor failed".into()),
    }
}

fn pod(_: &Known, object: &Object, tree: &Value) -> Verdict {
    if object.deleting() {
        return Err("its deletion does not end".into());
    }
    match tree.str("spec.nodeName").is_empty() {
        true => Err("it is not scheduled".into()),
        false => Ok(()),
    }
}
