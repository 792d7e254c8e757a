//! The Node authorizer: a kubelet reads what its own pods refer to, and no more.

use api::kinds::{PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD, VOLUME_ATTACHMENT};
use api::pod::references::{self, Target};
use api::{Lens, Value};
use client::ListOptions;
use store::Store;

use super::rules::{Rule, words};
use super::{Attributes, Decision};
use crate::storage::{self, list};

/// Marks a pod that shows what a kubelet runs by itself.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";

/// Decides for the kubelet of `node`; what it says nothing about is left to RBAC.
pub(super) async fn decide(store: &Store, node: &str, attributes: &Attributes) -> Decision {
    let answer = match (attributes.group.as_str(), attributes.resource.as_str()) {
        _ if !attributes.is_resource() => Err(String::new()),
        ("", "secrets") => read_referred(store, node, attributes, Target::Secret).await,
        ("", "configmaps") => read_referred(store, node, attributes, Target::ConfigMap).await,
        ("", "persistentvolumeclaims") => claim(store, node, attributes).await,
        ("", "persistentvolumes") => volume(store, node, attributes).await,
        ("", "serviceaccounts") => token(store, node, attributes).await,
        ("", "nodes") => own_node(node, attributes),
        ("", "pods") => own_pods(store, node, attributes).await,
        ("coordination.k8s.io", "leases") => lease(node, attributes),
        ("storage.k8s.io", "volumeattachments") => attachment(store, node, attributes).await,
        ("storage.k8s.io", "csinodes") => own_csi_node(node, attributes),
        _ => Err(String::new()),
    };
    match answer {
        Ok(()) => Decision::allowed(String::new()),
        Err(reason) => {
            let allowed =
                reason.is_empty() && common_rules().iter().any(|rule| rule.allows(attributes));
            Decision { allowed, reason, ..Decision::default() }
        }
    }
}

type Answer = Result<(), String>;

fn unrelated(node: &str) -> String {
    format!("no relationship found between node '{node}' and this object")
}

async fn read_referred(
    store: &Store,
    node: &str,
    attributes: &Attributes,
    target: Target,
) -> Answer {
    if !matches!(attributes.verb.as_str(), "get" | "list" | "watch") {
        return Err("can only read resources of this type".into());
    }
    if !attributes.subresource.is_empty() {
        return Err("cannot read subresource".into());
    }
    if attributes.namespace.is_empty() {
        return Err("can only read namespaced object of this type".into());
    }
    let answer = referred_by_name(store, node, attributes, target).await;
    let is_secret = target == Target::Secret && !attributes.name.is_empty();
    match answer {
        Err(_) if is_secret && named_by_volume(store, node, attributes).await => Ok(()),
        answer => answer,
    }
}

/// Whether a volume that a pod of the node has by its claim names the Secret, for its driver.
async fn named_by_volume(store: &Store, node: &str, attributes: &Attributes) -> bool {
    let mut claims = stdx::OrdSet::new();
    for pod in pods_of(store, node, "").await {
        if pod.entry("metadata.annotations", MIRROR).is_none() {
            let names = references::names(&pod, Target::Claim).into_iter();
            claims.extend(names.map(|name| (pod.str("metadata.namespace").to_owned(), name)));
        }
    }
    for (namespace, name) in &claims {
        let claim = storage::find(store, &PERSISTENT_VOLUME_CLAIM, namespace, name).await;
        let Some(claim) = claim.ok().flatten().map(|claim| claim.tree()) else { continue };
        let bound = claim.str("spec.volumeName");
        let volume = storage::find(store, &PERSISTENT_VOLUME, "", bound).await;
        let Some(volume) = volume.ok().flatten().map(|volume| volume.tree()) else { continue };
        let promised = volume.at("spec.claimRef");
        if promised.str("namespace") != namespace || promised.str("name") != name {
            continue;
        }
        let source = volume.at("spec.csi").as_object().into_iter().flatten();
        let mut references = source.filter(|(field, _)| field.ends_with("SecretRef"));
        if references.any(|(_, secret)| {
            secret.str("name") == attributes.name && secret.str("namespace") == attributes.namespace
        }) {
            return true;
        }
    }
    false
}

/// An attachment is the node's if it is to this node.
async fn attachment(store: &Store, node: &str, attributes: &Attributes) -> Answer {
    if attributes.verb != "get" {
        return Err("can only get individual resources of this type".into());
    }
    if !attributes.subresource.is_empty() {
        return Err("cannot get subresource".into());
    }
    let found = storage::find(store, &VOLUME_ATTACHMENT, "", &attributes.name).await;
    match found.ok().flatten().is_some_and(|it| it.tree().str("spec.nodeName") == node) {
        true => Ok(()),
        false => Err(unrelated(node)),
    }
}

/// A claim is read, and its status says how far a resize is; the rest is not the kubelet's.
async fn claim(store: &Store, node: &str, attributes: &Attributes) -> Answer {
    match (attributes.verb.as_str(), attributes.subresource.as_str()) {
        ("update" | "patch", "status") | ("get", "") => {}
        (_, "status") => return Err("can only get/update/patch this type".into()),
        ("get", _) => return Err("cannot get subresource".into()),
        _ => return Err("can only get individual resources of this type".into()),
    }
    referred_by_name(store, node, attributes, Target::Claim).await
}

/// Whether a pod of the node in this namespace refers to the object.
async fn referred_by_name(
    store: &Store,
    node: &str,
    attributes: &Attributes,
    target: Target,
) -> Answer {
    let name = attributes.name.as_str();
    if name.is_empty() {
        return Err("No Object name found".into());
    }
    let mut pods = pods_of(store, node, &attributes.namespace).await;
    let referred = pods.any(|pod| refers(&pod, target, name));
    if referred { Ok(()) } else { Err(unrelated(node)) }
}

/// Mirror pods are the kubelet's own words: what it writes there must not open anything to it.
fn refers(pod: &Value, target: Target, name: &str) -> bool {
    pod.entry("metadata.annotations", MIRROR).is_none() && references::refers(pod, target, name)
}

/// The trees of a node's pods in a namespace ("" for all), one at a time.
async fn pods_of(store: &Store, node: &str, namespace: &str) -> impl Iterator<Item = Value> {
    let options =
        ListOptions { field_selector: format!("spec.nodeName={node}"), ..ListOptions::default() };
    let found = list::list(store, &POD, namespace, &options).await;
    found.map(|found| found.items).unwrap_or_default().into_iter().map(|pod| pod.tree())
}

/// A volume is the node's if the claim that it is bound to is.
async fn volume(store: &Store, node: &str, attributes: &Attributes) -> Answer {
    if attributes.verb != "get" {
        return Err("can only get individual resources of this type".into());
    }
    if !attributes.subresource.is_empty() {
        return Err("cannot get subresource".into());
    }
    let found = storage::find(store, &PERSISTENT_VOLUME, "", &attributes.name).await;
    let Some(volume) = found.ok().flatten().map(|volume| volume.tree()) else {
        return Err(unrelated(node));
    };
    let (namespace, claim) =
        (volume.str("spec.claimRef.namespace"), volume.str("spec.claimRef.name"));
    if namespace.is_empty() || claim.is_empty() {
        return Err(unrelated(node));
    }
    let mut pods = pods_of(store, node, namespace).await;
    match pods.any(|pod| refers(&pod, Target::Claim, claim)) {
        true => Ok(()),
        false => Err(unrelated(node)),
    }
}

async fn token(store: &Store, node: &str, attributes: &Attributes) -> Answer {
    if attributes.verb != "create" || attributes.name.is_empty() {
        return Err("can only create tokens for individual service accounts".into());
    }
    if attributes.subresource != "token" {
        return Err("can only create token subresource of service account".into());
    }
    let mut pods = pods_of(store, node, &attributes.namespace).await;
    match pods.any(|pod| refers(&pod, Target::ServiceAccount, &attributes.name)) {
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

async fn own_pods(store: &Store, node: &str, attributes: &Attributes) -> Answer {
    let related = || async {
        let found = storage::find(store, &POD, &attributes.namespace, &attributes.name).await;
        let pod = found.ok().flatten().map(|pod| pod.tree());
        match pod.is_some_and(|pod| pod.str("spec.nodeName") == node) {
            true => Ok(()),
            false => Err(unrelated(node)),
        }
    };
    match (attributes.verb.as_str(), attributes.subresource.as_str()) {
        ("get", "") => related().await,
        ("list" | "watch", "") => {
            let terms = api::selector::parse_fields(&attributes.field_selector);
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

fn own_csi_node(node: &str, attributes: &Attributes) -> Answer {
    match attributes.verb.as_str() {
        "get" | "create" | "update" | "patch" | "delete" => {}
        _ => return Err("can only get, create, update, patch, or delete a CSINode".into()),
    }
    if !attributes.subresource.is_empty() {
        return Err("cannot authorize CSINode subresources".into());
    }
    match attributes.verb == "create" || attributes.name == node {
        true => Ok(()),
        false => Err("can only access CSINode with the same name as the requesting node".into()),
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
        rule(&["get"], &[""], &["endpoints"]),
        rule(&["create", "patch", "update"], &[""], &["events"]),
        rule(
            &["create", "get", "list", "watch"],
            &["certificates.k8s.io"],
            &["certificatesigningrequests"],
        ),
        rule(&["get", "list", "watch"], &["storage.k8s.io"], &["csidrivers"]),
        rule(&["get", "list", "watch"], &["node.k8s.io"], &["runtimeclasses"]),
    ]
}
