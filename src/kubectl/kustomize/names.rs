//! Names with prefixes, suffixes and hashes, and what refers to them.

use api::{Lens, LensMut, Value, json};
use ring::digest;

use super::{Resource, at_path};
use crate::failure::Outcome;

/// Puts a prefix and a suffix to names, and to what refers to them.
pub(super) fn rename(set: &mut [Resource], prefix: &str, suffix: &str) {
    if prefix.is_empty() && suffix.is_empty() {
        return;
    }
    let new_names = set.iter().map(|resource| {
        let is_kept = match resource.object.str("kind") {
            "CustomResourceDefinition" | "Namespace" => true,
            "APIService" => resource.group() == "apiregistration.k8s.io",
            _ => false,
        };
        let name = resource.object.str("metadata.name");
        (!is_kept).then(|| [prefix, name, suffix].concat())
    });
    let new_names: Vec<Option<String>> = new_names.collect();
    apply(set, new_names);
}

/// Puts the hash of its content to each generated name.
pub(super) fn add_hashes(set: &mut [Resource]) -> Outcome {
    let new_names = set.iter().map(|resource| {
        resource
            .needs_hash
            .then(|| format!("{}-{}", resource.object.str("metadata.name"), hash(&resource.object)))
    });
    let new_names: Vec<Option<String>> = new_names.collect();
    apply(set, new_names);
    Ok(())
}

/// The first ten digits of the SHA-256, as letters and digits that spell no word.
fn hash(object: &Value) -> String {
    let or_empty = |field: &str| match object.get(field) {
        Some(value) => value.clone(),
        None => "".into(),
    };
    let kind = object.str("kind");
    // The name is not among it: kustomize looks for it where it is not.
    let mut content = json!({"kind": kind, "name": "", "data": or_empty("data")});
    let more = if kind == "Secret" { "stringData" } else { "binaryData" };
    if object.has(more) {
        content[more] = object.at(more).clone();
    }
    if kind == "Secret" {
        content["type"] = or_empty("type");
    }
    // As Go writes it, with signs that HTML knows escaped.
    let text =
        content.to_string().replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e");
    let sum = digest::digest(&digest::SHA256, text.as_bytes());
    let hex = sum.as_ref().iter().take(5).flat_map(|byte| [byte >> 4, byte & 15]);
    hex.map(|digit| char::from(b"gh2k456789mbcdtf"[usize::from(digit)])).collect()
}

fn apply(set: &mut [Resource], new_names: Vec<Option<String>>) {
    let mut renamed: Vec<[String; 4]> = Vec::new();
    for (resource, new) in set.iter_mut().zip(new_names) {
        let Some(new) = new else { continue };
        let old = resource.object.str("metadata.name").to_owned();
        let namespace = resource.object.str("metadata.namespace").to_owned();
        renamed.push([resource.object.str("kind").to_owned(), old, new.clone(), namespace]);
        resource.object.set("metadata.name", new.as_str());
        resource.names.push(new);
    }
    for resource in set.iter_mut() {
        let kind = resource.object.str("kind").to_owned();
        for (target, referrers, path) in references() {
            if !referrers.is_empty() && !referrers.split(' ').any(|own| own == kind) {
                continue;
            }
            let (parent, field) = path.rsplit_once('/').unwrap_or(("", &path));
            at_path(&mut resource.object, parent, false, &mut |holder| {
                // What says its kind means only that.
                let named = match target {
                    "" => holder.str("kind").to_owned(),
                    own => own.to_owned(),
                };
                // A subject says in which namespace it is.
                let within = holder.str("namespace").to_owned();
                let Some(Value::String(name)) = holder.get_mut(field) else { return };
                let new = renamed.iter().find(|[kind, old, _, namespace]| {
                    *kind == named && old == name && (within.is_empty() || within == *namespace)
                });
                if let Some([_, _, new, _]) = new {
                    name.clone_from(new);
                }
            });
        }
    }
}

/// Where the spec of a pod is, by kind.
const POD_SPECS: &[(&str, &str)] = &[
    ("Pod", "spec"),
    ("Deployment ReplicaSet ReplicationController DaemonSet StatefulSet Job", "spec/template/spec"),
    ("CronJob", "spec/jobTemplate/spec/template/spec"),
];

/// What a pod's spec refers to: the kind, and where it is.
const OF_PODS: &[(&str, &str)] = &[
    ("ConfigMap", "volumes/configMap/name"),
    ("ConfigMap", "volumes/projected/sources/configMap/name"),
    ("ConfigMap", "containers/env/valueFrom/configMapKeyRef/name"),
    ("ConfigMap", "initContainers/env/valueFrom/configMapKeyRef/name"),
    ("ConfigMap", "containers/envFrom/configMapRef/name"),
    ("ConfigMap", "initContainers/envFrom/configMapRef/name"),
    ("Secret", "volumes/secret/secretName"),
    ("Secret", "volumes/projected/sources/secret/name"),
    ("Secret", "containers/env/valueFrom/secretKeyRef/name"),
    ("Secret", "initContainers/env/valueFrom/secretKeyRef/name"),
    ("Secret", "containers/envFrom/secretRef/name"),
    ("Secret", "initContainers/envFrom/secretRef/name"),
    ("Secret", "imagePullSecrets/name"),
    ("ServiceAccount", "serviceAccountName"),
    ("PersistentVolumeClaim", "volumes/persistentVolumeClaim/claimName"),
    ("PriorityClass", "priorityClassName"),
];

/// What others refer to: the kind, or "" where it stands beside the name; the kinds that refer; where.
const OF_OTHERS: &[(&str, &str, &str)] = &[
    ("Service", "StatefulSet", "spec/serviceName"),
    ("Service", "Ingress", "spec/rules/http/paths/backend/service/name"),
    ("Service", "Ingress", "spec/defaultBackend/service/name"),
    ("Service", "APIService", "spec/service/name"),
    (
        "Service",
        "MutatingWebhookConfiguration ValidatingWebhookConfiguration",
        "webhooks/clientConfig/service/name",
    ),
    ("Secret", "Ingress", "spec/tls/secretName"),
    ("Secret", "ServiceAccount", "imagePullSecrets/name"),
    ("Secret", "ServiceAccount", "secrets/name"),
    ("", "RoleBinding ClusterRoleBinding", "roleRef/name"),
    ("", "RoleBinding ClusterRoleBinding", "subjects/name"),
    ("", "HorizontalPodAutoscaler", "spec/scaleTargetRef/name"),
    ("PersistentVolume", "PersistentVolumeClaim", "spec/volumeName"),
    ("StorageClass", "PersistentVolumeClaim PersistentVolume", "spec/storageClassName"),
    ("StorageClass", "StatefulSet", "spec/volumeClaimTemplates/spec/storageClassName"),
    ("IngressClass", "Ingress", "spec/ingressClassName"),
];

fn references() -> impl Iterator<Item = (&'static str, &'static str, String)> {
    let of_pods = POD_SPECS.iter().flat_map(|(kinds, spec)| {
        OF_PODS.iter().map(move |(target, path)| (*target, *kinds, format!("{spec}/{path}")))
    });
    let of_others =
        OF_OTHERS.iter().map(|(target, kinds, path)| (*target, *kinds, (*path).to_owned()));
    of_pods.chain(of_others)
}
