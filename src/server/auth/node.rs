//! The Node authorizer: a kubelet reads what its own pods refer to, and no more.

use api::kinds::{PERSISTENT_VOLUME_CLAIM, POD};
use api::{Lens, Value};
use client::ListOptions;

use super::rules::{Rule, words};
use super::{Attributes, Decision};
use crate::core::Core;
use crate::registry::{list, storage};

/// Decides for the kubelet of `node`; what it says nothing about is left to RBAC.
pub(super) async fn decide(core: &Core, node: &str, attributes: &Attributes) -> Decision {
    let answer = match (attributes.group.as_str(), attributes.resource.as_str()) {
        _ if !attributes.is_resource() => Err(String::new()),
        ("", "secrets" | "configmaps") => read_referred(core, node, attributes).await,
        ("", "persistentvolumeclaims") => match attributes.subresource.as_str() {
            "" | "status" => referred_by_name(core, node, attributes).await,
            _ => Err(String::new()),
        },
        ("", "persistentvolumes") => volume(core, node, attributes).await,
        ("", "serviceaccounts") => token(core, node, attributes).await,
        ("", "nodes") => own_node(node, attributes),
        ("", "pods") => own_pods(core, node, attributes).await,
        ("coordination.k8s.io", "leases") => lease(node, attributes),
        _ => Err(String::new()),
    };
    match answer {
        Ok(()) => Decision { allowed: true, reason: String::new() },
        Err(reason) => {
            let allowed =
                reason.is_empty() && common_rules().iter().any(|rule| rule.allows(attributes));
            Decision { allowed, reason }
        }
    }
}

type Answer = Result<(), String>;

fn unrelated(node: &str) -> String {
    format!("no relationship found between node '{node}' and this object")
}

async fn read_referred(core: &Core, node: &str, attributes: &Attributes) -> Answer {
    if !matches!(attributes.verb.as_str(), "get" | "list" | "watch") {
        return Err("can only read resources of this type".into());
    }
    if !attributes.subresource.is_empty() {
        return Err("cannot read subresource".into());
    }
    if attributes.namespace.is_empty() {
        return Err("can only read namespaced object of this type".into());
    }
    referred_by_name(core, node, attributes).await
}

/// Whether a pod of the node in this namespace refers to the object.
async fn referred_by_name(core: &Core, node: &str, attributes: &Attributes) -> Answer {
    let name = attributes.name.as_str();
    if name.is_empty() {
        return Err("No Object name found".into());
    }
    let mut pods = pods_of(core, node, &attributes.namespace).await;
    let referred = pods.any(|pod| refers(&pod, &attributes.resource, name));
    if referred { Ok(()) } else { Err(unrelated(node)) }
}

/// The trees of a node's pods in a namespace ("" for all), one at a time.
async fn pods_of(core: &Core, node: &str, namespace: &str) -> impl Iterator<Item = Value> {
    let options =
        ListOptions { field_selector: format!("spec.nodeName={node}"), ..ListOptions::default() };
    let found = list::list(core, &POD, namespace, &options).await;
    found.map(|found| found.items).unwrap_or_default().into_iter().map(|pod| pod.tree())
}

fn refers(pod: &Value, resource: &str, name: &str) -> bool {
    match resource {
        "secrets" => {
            pod.list("spec.imagePullSecrets").iter().any(|r| r.str("name") == name)
                || in_volumes(pod, "secret", "secretName", "secret", name)
                || in_environment(pod, "secretRef", "secretKeyRef", name)
        }
        "configmaps" => {
            in_volumes(pod, "configMap", "name", "configMap", name)
                || in_environment(pod, "configMapRef", "configMapKeyRef", name)
        }
        "persistentvolumeclaims" => pod.list("spec.volumes").iter().any(|volume| {
            volume.str("persistentVolumeClaim.claimName") == name
                || volume.has("ephemeral")
                    && format!("{}-{}", pod.str("metadata.name"), volume.str("name")) == name
        }),
        _ => false,
    }
}

fn in_volumes(pod: &Value, field: &str, name_field: &str, source: &str, name: &str) -> bool {
    pod.list("spec.volumes").iter().any(|volume| {
        volume.at(field).str(name_field) == name
            || volume.list("projected.sources").iter().any(|s| s.at(source).str("name") == name)
            || field == "secret"
                && [
                    "csi.nodePublishSecretRef",
                    "iscsi.secretRef",
                    "cephfs.secretRef",
                    "rbd.secretRef",
                ]
                .iter()
                .any(|path| volume.at(path).str("name") == name)
    })
}

fn in_environment(pod: &Value, from: &str, key: &str, name: &str) -> bool {
    ["spec.containers", "spec.initContainers", "spec.ephemeralContainers"].iter().any(|path| {
        pod.list(path).iter().any(|container| {
            container.list("envFrom").iter().any(|e| e.at(from).str("name") == name)
                || container
                    .list("env")
                    .iter()
                    .any(|e| e.at("valueFrom").at(key).str("name") == name)
        })
    })
}

/// A volume is the node's if a claim bound to it is.
async fn volume(core: &Core, node: &str, attributes: &Attributes) -> Answer {
    if attributes.verb != "get" || !attributes.subresource.is_empty() {
        return Err("can only get individual resources of this type".into());
    }
    for pod in pods_of(core, node, "").await {
        for volume in pod.list("spec.volumes") {
            let claim = volume.str("persistentVolumeClaim.claimName");
            if claim.is_empty() {
                continue;
            }
            let namespace = pod.str("metadata.namespace");
            let found =
                storage::find(&core.store, &PERSISTENT_VOLUME_CLAIM, namespace, claim).await;
            let bound = found.ok().flatten().map(|claim| claim.tree());
            if bound.is_some_and(|claim| claim.str("spec.volumeName") == attributes.name) {
                return Ok(());
            }
        }
    }
    Err(unrelated(node))
}

async fn token(core: &Core, node: &str, attributes: &Attributes) -> Answer {
    if attributes.verb != "create" || attributes.subresource != "token" {
        return Err("can only create tokens for individual service accounts".into());
    }
    let mut pods = pods_of(core, node, &attributes.namespace).await;
    match pods.any(|pod| pod.str("spec.serviceAccountName") == attributes.name) {
        true => Ok(()),
        false => Err(unrelated(node)),
    }
}

fn own_node(node: &str, attributes: &Attributes) -> Answer {
    match attributes.verb.as_str() {
        // NodeRestriction looks at the name.
        "create" if attributes.subresource.is_empty() => Ok(()),
        "get" | "list" | "watch" if attributes.subresource.is_empty() => {
            let other = match attributes.name.as_str() {
                name if name == node => return Ok(()),
                "" => "all nodes".to_owned(),
                name => format!("'{name}'"),
            };
            Err(format!("node '{node}' cannot read {other}, only its own Node object"))
        }
        "update" | "patch" if matches!(attributes.subresource.as_str(), "" | "status") => Ok(()),
        _ => Err(String::new()),
    }
}

async fn own_pods(core: &Core, node: &str, attributes: &Attributes) -> Answer {
    let related = || async {
        let found = storage::find(&core.store, &POD, &attributes.namespace, &attributes.name).await;
        let pod = found.ok().flatten().map(|pod| pod.tree());
        match pod.is_some_and(|pod| pod.str("spec.nodeName") == node) {
            true => Ok(()),
            false => Err(unrelated(node)),
        }
    };
    match (attributes.verb.as_str(), attributes.subresource.as_str()) {
        ("get", "") => related().await,
        ("list" | "watch", "") => {
            let terms = api::selector_syntax::parse_fields(&attributes.field_selector);
            let own = terms
                .unwrap_or_default()
                .iter()
                .any(|term| term.equal && term.path == "spec.nodeName" && term.value == node);
            match own {
                true => Ok(()),
                false if !attributes.name.is_empty() => related().await,
                false => Err("can only list/watch pods with spec.nodeName field selector".into()),
            }
        }
        // NodeRestriction looks at the pod.
        ("create" | "delete", "") | ("update" | "patch", "status") | ("create", "eviction") => {
            Ok(())
        }
        _ => Err(String::new()),
    }
}

fn lease(node: &str, attributes: &Attributes) -> Answer {
    match attributes.verb.as_str() {
        "get" | "create" | "update" | "patch" | "delete" => {}
        _ => return Err("can only get, create, update, patch, or delete a node lease".into()),
    }
    if attributes.namespace != "kube-node-lease" {
        return Err("can only access leases in the \"kube-node-lease\" system namespace".into());
    }
    match attributes.verb == "create" || attributes.name == node {
        true => Ok(()),
        false => Err("can only access node lease with the same name as the requesting node".into()),
    }
}

/// What every kubelet may do beside the above (upstream's `NodeRules`).
fn common_rules() -> Vec<Rule> {
    let rule = |verbs: &[&str], groups: &[&str], resources: &[&str]| Rule {
        verbs: words(verbs.iter().copied()),
        groups: words(groups.iter().copied()),
        resources: words(resources.iter().copied()),
        ..Rule::default()
    };
    vec![
        rule(&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
        rule(
            &["create"],
            &["authorization.k8s.io"],
            &["localsubjectaccessreviews", "subjectaccessreviews"],
        ),
        rule(&["get", "list", "watch"], &[""], &["services"]),
        rule(&["create", "patch", "update"], &[""], &["events"]),
        rule(
            &["create", "get", "list", "watch"],
            &["certificates.k8s.io"],
            &["certificatesigningrequests"],
        ),
        rule(&["get"], &["storage.k8s.io"], &["volumeattachments"]),
        rule(&["get", "list", "watch"], &["storage.k8s.io"], &["csidrivers"]),
        rule(&["get", "list", "watch"], &["node.k8s.io"], &["runtimeclasses"]),
    ]
}
