//! NodeRestriction: a kubelet changes its own node, its own pods and what belongs to them.

use api::kinds::{LEASE, NODE, PERSISTENT_VOLUME_CLAIM, POD, SERVICE_ACCOUNT};
use api::pod::references::{self, Target};
use api::{Lens, LensMut, Status, Value};

use super::{Act, Operation};
use crate::auth::MIRROR;
use crate::storage;

/// Label prefixes that only administrators set on nodes.
const RESTRICTED: &str = "node-restriction.kubernetes.io";

/// Labels under `kubernetes.io` and `k8s.io` that a kubelet may set.
const ALLOWED_LABELS: [&str; 15] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os-release",
    "node.kubernetes.io/windows-build",
    "node.kubernetes.io/exclude-from-external-load-balancers",
    "node.kubernetes.io/exclude-disruption",
];

pub(super) async fn check(act: &Act<'_>, tree: &Value) -> Result<(), Status> {
    let Some(node) = act.caller.user.node_name() else { return Ok(()) };
    if *act.kind == NODE {
        return own_node(act, tree, node);
    }
    if *act.kind == POD {
        return own_pod(act, tree, node).await;
    }
    if *act.kind == PERSISTENT_VOLUME_CLAIM {
        return claim(act, tree, node);
    }
    if *act.kind == SERVICE_ACCOUNT && act.subresource() == "token" {
        return token(act, tree, node).await;
    }
    if *act.kind == LEASE {
        let name = match act.request.name.as_str() {
            "" => tree.str("metadata.name"),
            name => name,
        };
        if act.request.namespace != "kube-node-lease" {
            return Err(act.forbidden(
                tree,
                "can only access leases in the \"kube-node-lease\" system namespace",
            ));
        }
        if name != node {
            return Err(act.forbidden(
                tree,
                "can only access node lease with the same name as the requesting node",
            ));
        }
    }
    Ok(())
}

fn own_node(act: &Act<'_>, tree: &Value, node: &str) -> Result<(), Status> {
    let name = match act.request.name.as_str() {
        "" => tree.str("metadata.name"),
        name => name,
    };
    if name != node {
        return Err(
            act.forbidden(tree, format!("node {node:?} is not allowed to modify node {name:?}"))
        );
    }
    if act.operation == Operation::Delete {
        return Err(
            act.forbidden(tree, format!("node {node:?} is not allowed to delete node {name:?}"))
        );
    }
    let none = Value::Null;
    let old = act.old.unwrap_or(&none);
    if act.operation == Operation::Update && tree.at("spec.taints") != old.at("spec.taints") {
        return Err(act.forbidden(tree, format!("node {node:?} is not allowed to modify taints")));
    }
    if act.operation == Operation::Update
        && tree.at("metadata.ownerReferences") != old.at("metadata.ownerReferences")
    {
        return Err(
            act.forbidden(tree, format!("node {node:?} is not allowed to modify ownerReferences"))
        );
    }
    let changed: Vec<&str> = tree
        .pairs("metadata.labels")
        .filter(|(key, value)| old.entry("metadata.labels", key) != Some(*value))
        .map(|(key, _)| key)
        .chain(
            old.pairs("metadata.labels")
                .filter(|(key, _)| tree.entry("metadata.labels", key).is_none())
                .map(|(key, _)| key),
        )
        .filter(|key| forbidden_label(key))
        .collect();
    let what = match act.operation {
        Operation::Create => "is not allowed to set the following labels",
        _ => "is not allowed to modify labels",
    };
    match changed.is_empty() {
        true => Ok(()),
        false => Err(act.forbidden(tree, format!("{what}: {}", changed.join(", ")))),
    }
}

/// Upstream's `getModifiedLabels` over its allowed sets.
fn forbidden_label(key: &str) -> bool {
    let Some((prefix, _)) = key.split_once('/') else { return false };
    let under = |domain: &str| {
        prefix == domain || prefix.strip_suffix(domain).is_some_and(|head| head.ends_with('.'))
    };
    if under(RESTRICTED) {
        return true;
    }
    if !under("kubernetes.io") && !under("k8s.io") {
        return false;
    }
    !(under("kubelet.kubernetes.io")
        || under("node.kubernetes.io")
        || ALLOWED_LABELS.contains(&key))
}

async fn own_pod(act: &Act<'_>, tree: &Value, node: &str) -> Result<(), Status> {
    let old = act.old.unwrap_or(tree);
    match (act.operation, act.subresource()) {
        (Operation::Create, "") => mirror_pod(act, tree, node).await,
        (Operation::Create, "eviction") => eviction(act, node).await,
        (Operation::Delete, _) if old.str("spec.nodeName") != node => Err(act.forbidden(
            old,
            format!("node {node:?} can only delete pods with spec.nodeName set to itself"),
        )),
        (Operation::Delete, _) => Ok(()),
        (Operation::Update, "status") => {
            if old.str("spec.nodeName") != node {
                return Err(act.forbidden(tree, format!(
                    "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
                )));
            }
            let same = |path: &str| tree.at(path) == old.at(path);
            if !same("metadata.labels") {
                return Err(act.forbidden(
                    tree,
                    format!("node {node:?} cannot update labels through pod status"),
                ));
            }
            match same("status.resourceClaimStatuses") {
                true => Ok(()),
                false => Err(act.forbidden(
                    tree,
                    format!("node {node:?} cannot update resource claim statues"),
                )),
            }
        }
        (_, sub) => {
            Err(act.forbidden(tree, format!("node {node:?} may not change pods through {sub:?}")))
        }
    }
}

/// A kubelet shows what it runs by itself: a pod of its own that refers to nothing of the API.
async fn mirror_pod(act: &Act<'_>, pod: &Value, node: &str) -> Result<(), Status> {
    let refuse = |why: String| Err(act.forbidden(pod, why));
    if pod.entry("metadata.annotations", MIRROR).is_none() {
        return refuse(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    if pod.str("spec.nodeName") != node {
        return refuse(format!(
            "node {node:?} can only create pods with spec.nodeName set to itself"
        ));
    }
    let owner = match pod.list("metadata.ownerReferences") {
        [owner] => owner,
        [] => {
            return refuse(format!(
                "node {node:?} can only create pods with an owner reference set to itself"
            ));
        }
        _ => {
            return refuse(format!(
                "node {node:?} can only create pods with a single owner reference set to itself"
            ));
        }
    };
    if owner.str("apiVersion") != "v1" || owner.str("kind") != "Node" || owner.str("name") != node {
        return refuse(format!(
            "node {node:?} can only create pods with an owner reference set to itself"
        ));
    }
    if !owner.flag("controller") {
        return refuse(format!(
            "node {node:?} can only create pods with a controller owner reference set to itself"
        ));
    }
    if owner.flag("blockOwnerDeletion") {
        return refuse(format!(
            "node {node:?} must not set blockOwnerDeletion on an owner reference"
        ));
    }
    let uid = storage::get(&act.core.store, &NODE, "", node).await?.uid().to_owned();
    if owner.str("uid") != uid {
        let given = owner.str("uid");
        return refuse(format!("node {node} UID mismatch: expected {given} got {uid}"));
    }
    // Classes are no objects that give access to anything.
    let object = |target| !matches!(target, Target::PriorityClass | Target::RuntimeClass);
    match references::first(pod, object) {
        None => Ok(()),
        Some(Target::ServiceAccount) => {
            refuse(format!("node {node:?} can not create pods that reference a service account"))
        }
        Some(target) => {
            refuse(format!("node {node:?} can not create pods that reference {}", target.plural()))
        }
    }
}

/// Of a claim a kubelet changes what a resize changes.
fn claim(act: &Act<'_>, tree: &Value, node: &str) -> Result<(), Status> {
    if act.subresource() != "status" {
        return Err(act.forbidden(tree, "may only update PVC status"));
    }
    let rest = |tree: &Value| {
        let mut rest = tree.clone();
        for path in ["resourceVersion", "managedFields"] {
            rest.remove(&format!("metadata.{path}"));
        }
        for path in ["capacity", "conditions", "allocatedResources", "allocatedResourceStatuses"] {
            rest.remove(&format!("status.{path}"));
        }
        rest
    };
    match act.old.is_some_and(|old| rest(old) == rest(tree)) {
        true => Ok(()),
        false => Err(act.forbidden(tree, format!(
            "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
        ))),
    }
}

/// A kubelet evicts what it runs.
async fn eviction(act: &Act<'_>, node: &str) -> Result<(), Status> {
    let (namespace, name) = (&act.request.namespace, &act.request.name);
    let pod = storage::get(&act.core.store, &POD, namespace, name).await?;
    match pod.tree().str("spec.nodeName") == node {
        true => Ok(()),
        false => Err(Status::forbidden(
            &POD,
            name,
            format!("node {node} can only evict pods with spec.nodeName set to itself"),
        )),
    }
}

/// A kubelet asks for tokens of the pods it runs only.
async fn token(act: &Act<'_>, request: &Value, node: &str) -> Result<(), Status> {
    let refuse =
        |why: &str| Err(Status::forbidden(&SERVICE_ACCOUNT, &act.request.name, why.to_owned()));
    let bound = request.at("spec.boundObjectRef");
    if (bound.str("apiVersion"), bound.str("kind")) != ("v1", "Pod") || bound.str("name").is_empty()
    {
        return refuse("node requested token not bound to a pod");
    }
    if bound.str("uid").is_empty() {
        return refuse("node requested token with a pod binding without a uid");
    }
    let (namespace, name) = (&act.request.namespace, bound.str("name"));
    let pod = storage::get(&act.core.store, &POD, namespace, name).await?;
    match pod.tree().str("spec.nodeName") == node {
        true => Ok(()),
        false => refuse("node requested token bound to a pod scheduled on a different node"),
    }
}
