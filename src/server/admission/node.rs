//! NodeRestriction: a kubelet changes its own node, its own pods and what belongs to them.

use api::kinds::{LEASE, NODE, POD, SERVICE_ACCOUNT};
use api::{Lens, Status, Value};
use client::Verb;

use super::Act;

const MIRROR: &str = "kubernetes.io/config.mirror";

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

pub(super) fn check(act: &Act<'_>, tree: &Value) -> Result<(), Status> {
    let Some(node) = act.caller.user.node_name() else { return Ok(()) };
    if *act.kind == NODE {
        return own_node(act, tree, node);
    }
    if *act.kind == POD {
        return own_pod(act, tree, node);
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
    if act.verb == Verb::Delete {
        return Err(
            act.forbidden(tree, format!("node {node:?} is not allowed to delete node {name:?}"))
        );
    }
    let none = Value::Null;
    let old = act.old.unwrap_or(&none);
    if act.verb == Verb::Update && tree.at("spec.taints") != old.at("spec.taints") {
        return Err(act.forbidden(tree, format!("node {node:?} is not allowed to modify taints")));
    }
    if act.verb == Verb::Update
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
    match changed.is_empty() {
        true => Ok(()),
        false => Err(
            act.forbidden(tree, format!("is not allowed to modify labels: {}", changed.join(", ")))
        ),
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

fn own_pod(act: &Act<'_>, tree: &Value, node: &str) -> Result<(), Status> {
    let old = act.old.unwrap_or(tree);
    match (act.verb, act.subresource()) {
        (Verb::Create, "") => {
            if tree.entry("metadata.annotations", MIRROR).is_none() {
                return Err(act.forbidden(tree, format!(
                    "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
                )));
            }
            if tree.str("spec.nodeName") != node {
                return Err(act.forbidden(
                    tree,
                    format!("node {node:?} can only create pods with spec.nodeName set to itself"),
                ));
            }
            if !tree.str("spec.serviceAccountName").is_empty() {
                return Err(act.forbidden(
                    tree,
                    format!("node {node:?} can not create pods that reference a service account"),
                ));
            }
            let referring = tree.list("spec.volumes").iter().any(|volume| {
                ["secret", "configMap", "persistentVolumeClaim", "projected"]
                    .iter()
                    .any(|field| volume.has(field))
            });
            match referring {
                true => Err(act.forbidden(
                    tree,
                    format!("node {node:?} can not create pods that reference other API objects"),
                )),
                false => Ok(()),
            }
        }
        (Verb::Delete, _) if old.str("spec.nodeName") != node => Err(act.forbidden(
            old,
            format!("node {node:?} can only delete pods with spec.nodeName set to itself"),
        )),
        (Verb::Update, "status") => {
            if old.str("spec.nodeName") != node {
                return Err(act.forbidden(tree, format!(
                    "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
                )));
            }
            match tree.at("metadata.labels") == old.at("metadata.labels") {
                true => Ok(()),
                false => Err(act.forbidden(
                    tree,
                    format!("node {node:?} cannot update labels through pod status"),
                )),
            }
        }
        (Verb::Delete, _) => Ok(()),
        (_, sub) => {
            Err(act.forbidden(tree, format!("node {node:?} may not change pods through {sub:?}")))
        }
    }
}

/// A kubelet asks for tokens of the pods it runs only.
pub(crate) fn check_token(
    user: &crate::auth::User,
    account: &str,
    bound: Option<&api::Object>,
) -> Result<(), Status> {
    let Some(node) = user.node_name() else { return Ok(()) };
    let refuse = |why: String| Err(Status::forbidden(&SERVICE_ACCOUNT, account, why));
    let Some(pod) = bound.filter(|object| *object.kind() == POD) else {
        return refuse("node requested token not bound to a pod".into());
    };
    match pod.tree().str("spec.nodeName") == node {
        true => Ok(()),
        false => refuse("node requested token bound to a pod scheduled on a different node".into()),
    }
}
