//! Namespaces, labels, annotations, replicas and images of a set of resources.

use api::{Lens, LensMut, Value};

use super::{Resource, at_path};
use crate::failure::{Outcome, failed};

/// Kinds that are in no namespace. Of others a name alone tells nothing, and kustomize takes them for namespaced.
const CLUSTER_KINDS: &[&str] = &[
    "APIService",
    "CSIDriver",
    "CSINode",
    "CertificateSigningRequest",
    "ClusterRole",
    "ClusterRoleBinding",
    "ComponentStatus",
    "CustomResourceDefinition",
    "FlowSchema",
    "IngressClass",
    "MutatingWebhookConfiguration",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "PriorityLevelConfiguration",
    "RuntimeClass",
    "SelfSubjectAccessReview",
    "SelfSubjectRulesReview",
    "StorageClass",
    "SubjectAccessReview",
    "TokenReview",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
    "VolumeAttachment",
];

pub(super) fn namespace(set: &mut [Resource], namespace: &str) {
    if namespace.is_empty() {
        return;
    }
    let accounts = set.iter().filter(|own| own.object.str("kind") == "ServiceAccount");
    let place = |tree: &Value, name: &str, namespace: &str| {
        (tree.str(name).to_owned(), tree.str(namespace).to_owned())
    };
    let accounts: Vec<(String, String)> =
        accounts.map(|own| place(&own.object, "metadata.name", "metadata.namespace")).collect();
    for resource in set {
        let kind = resource.object.str("kind").to_owned();
        if kind == "Namespace" {
            resource.object.set("metadata.name", namespace);
        }
        if !CLUSTER_KINDS.contains(&kind.as_str()) {
            resource.object.set("metadata.namespace", namespace);
        }
        if matches!(kind.as_str(), "RoleBinding" | "ClusterRoleBinding") {
            at_path(&mut resource.object, "subjects", false, &mut |subject| {
                let own = place(subject, "name", "namespace");
                let is_meant = own.0 == "default" || accounts.contains(&own);
                if subject.str("kind") == "ServiceAccount" && is_meant {
                    subject.set("namespace", namespace);
                }
            });
        }
        let set_it = &mut |value: &mut Value| *value = namespace.into();
        match kind.as_str() {
            "APIService" => at_path(&mut resource.object, "spec/service/namespace", false, set_it),
            "CustomResourceDefinition" => {
                at_path(
                    &mut resource.object,
                    "spec/conversion/webhook/clientConfig/service/namespace",
                    false,
                    set_it,
                );
            }
            _ => {}
        }
    }
}

/// Where labels go beside an object's own: the kinds, the path, and whether it is made. First those of templates.
const OF_TEMPLATES: &[(&str, &str, bool)] = &[
    (
        "Deployment ReplicaSet ReplicationController DaemonSet StatefulSet Job",
        "spec/template/metadata/labels",
        true,
    ),
    ("CronJob", "spec/jobTemplate/metadata/labels", true),
    ("CronJob", "spec/jobTemplate/spec/template/metadata/labels", true),
    ("StatefulSet", "spec/volumeClaimTemplates/metadata/labels", true),
];
const OF_SELECTORS: &[(&str, &str, bool)] = &[
    ("Service ReplicationController", "spec/selector", true),
    ("Deployment ReplicaSet DaemonSet StatefulSet", "spec/selector/matchLabels", true),
    ("Job PodDisruptionBudget", "spec/selector/matchLabels", false),
    ("CronJob", "spec/jobTemplate/spec/selector/matchLabels", false),
    ("NetworkPolicy", "spec/podSelector/matchLabels", false),
    ("NetworkPolicy", "spec/ingress/from/podSelector/matchLabels", false),
    ("NetworkPolicy", "spec/egress/to/podSelector/matchLabels", false),
    (
        "Deployment StatefulSet",
        "spec/template/spec/topologySpreadConstraints/labelSelector/matchLabels",
        false,
    ),
    (
        "Deployment StatefulSet",
        "spec/template/spec/affinity/podAffinity/preferredDuringSchedulingIgnoredDuringExecution/podAffinityTerm/labelSelector/matchLabels",
        false,
    ),
    (
        "Deployment StatefulSet",
        "spec/template/spec/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution/labelSelector/matchLabels",
        false,
    ),
    (
        "Deployment StatefulSet",
        "spec/template/spec/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/podAffinityTerm/labelSelector/matchLabels",
        false,
    ),
    (
        "Deployment StatefulSet",
        "spec/template/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/labelSelector/matchLabels",
        false,
    ),
];
const OF_ANNOTATIONS: &[(&str, &str, bool)] = &[
    (
        "Deployment ReplicaSet ReplicationController DaemonSet StatefulSet Job",
        "spec/template/metadata/annotations",
        true,
    ),
    ("CronJob", "spec/jobTemplate/metadata/annotations", true),
    ("CronJob", "spec/jobTemplate/spec/template/metadata/annotations", true),
];

pub(super) fn labels(set: &mut [Resource], tree: &Value) {
    let own = "metadata/labels";
    for entry in tree.list("labels") {
        let mut places = Vec::new();
        if entry.flag("includeSelectors") || entry.flag("includeTemplates") {
            places.extend_from_slice(OF_TEMPLATES);
        }
        if entry.flag("includeSelectors") {
            places.extend_from_slice(OF_SELECTORS);
        }
        put(set, entry.at("pairs"), own, &places);
    }
    put(set, tree.at("commonLabels"), own, &[OF_TEMPLATES, OF_SELECTORS].concat());
}

pub(super) fn annotations(set: &mut [Resource], pairs: &Value) {
    put(set, pairs, "metadata/annotations", OF_ANNOTATIONS);
}

fn put(set: &mut [Resource], pairs: &Value, own: &str, places: &[(&str, &str, bool)]) {
    if pairs.as_object().is_none_or(api::Map::is_empty) {
        return;
    }
    let merge = &mut |value: &mut Value| {
        if value.is_null() {
            *value = Value::Object(api::Map::new());
        }
        for (key, text) in pairs.pairs("") {
            value[key] = text.into();
        }
    };
    for resource in set {
        let kind = resource.object.str("kind").to_owned();
        at_path(&mut resource.object, own, true, merge);
        for (kinds, path, creates) in places {
            if kinds.split(' ').any(|known| known == kind) {
                at_path(&mut resource.object, path, *creates, merge);
            }
        }
    }
}

pub(super) fn replicas(set: &mut [Resource], entries: &[Value]) -> Outcome {
    for entry in entries {
        let (name, count) = (entry.str("name"), entry.int("count").unwrap_or(0));
        let mut is_found = false;
        let kinds = ["Deployment", "ReplicationController", "ReplicaSet", "StatefulSet"];
        for resource in set.iter_mut().filter(|own| own.is_called(name)) {
            if kinds.contains(&resource.object.str("kind")) {
                resource.object.set("spec.replicas", count);
                is_found = true;
            }
        }
        if !is_found {
            return failed(format!(
                "resource with name {name} does not match a config with the following GVK [Deployment.[noVer].[noGrp] StatefulSet.[noVer].[noGrp] ReplicaSet.[noVer].[noGrp] ReplicationController.[noVer].[noGrp]]"
            ));
        }
    }
    Ok(())
}

pub(super) fn images(set: &mut [Resource], entries: &[Value]) {
    for entry in entries {
        for resource in set.iter_mut() {
            walk(&mut resource.object, entry, 0);
        }
    }
}

/// Levels of a document; the reader of YAML allows no more.
const DEPTH_MAX: usize = 128;

/// All lists of containers, wherever they are.
fn walk(tree: &mut Value, entry: &Value, depth: usize) {
    if depth > DEPTH_MAX {
        return;
    }
    match tree {
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, entry, depth + 1)),
        Value::Object(map) => {
            for (name, inner) in map.iter_mut() {
                if matches!(name.as_str(), "containers" | "initContainers") {
                    at_path(inner, "image", false, &mut |image| {
                        if let Some(new) = image.as_str().and_then(|image| changed(image, entry)) {
                            *image = new.into();
                        }
                    });
                }
                walk(inner, entry, depth + 1);
            }
        }
        _ => {}
    }
}

/// The image with another name, tag or digest; `None` if another one is meant.
fn changed(image: &str, entry: &Value) -> Option<String> {
    let (rest, digest) = image.split_once('@').unwrap_or((image, ""));
    let colon = rest.rfind(':').filter(|at| !rest[*at..].contains('/'));
    let (name, tag) = colon.map_or((rest, ""), |at| (&rest[..at], &rest[at + 1..]));
    if name != entry.str("name") {
        return None;
    }
    let text = |field: &str| match entry.at(field) {
        Value::Number(number) => number.to_string(),
        other => other.as_str().unwrap_or("").to_owned(),
    };
    let (new_name, new_tag, new_digest) = (text("newName"), text("newTag"), text("digest"));
    let name = if new_name.is_empty() { name.to_owned() } else { new_name };
    let (tag, digest) = match (new_tag.as_str(), new_digest.as_str()) {
        ("", "") => (tag, digest),
        (tag, "") => (tag, ""),
        ("", digest) => ("", digest),
        both => both,
    };
    let colon = if tag.is_empty() { "" } else { ":" };
    let at = if digest.is_empty() { "" } else { "@" };
    Some([&name, colon, tag, at, digest].concat())
}

#[cfg(test)]
mod tests {
    use api::json;

    use super::*;

    #[test]
    fn images_change_in_parts() {
        for (image, entry, want) in [
            ("nginx", json!({"name": "nginx", "newTag": "2"}), Some("nginx:2")),
            ("nginx:1", json!({"name": "nginx", "newName": "r:5000/n"}), Some("r:5000/n:1")),
            ("r:5000/n", json!({"name": "r:5000/n", "newTag": "x"}), Some("r:5000/n:x")),
            ("n:1", json!({"name": "n", "digest": "sha256:a"}), Some("n@sha256:a")),
            ("n@sha256:b", json!({"name": "n", "newTag": "2"}), Some("n:2")),
            ("m:1", json!({"name": "n", "newTag": "2"}), None),
        ] {
            assert_eq!(changed(image, &entry).as_deref(), want, "{image}");
        }
    }
}
