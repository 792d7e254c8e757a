//! Rendered texts to objects: split, told apart into manifests and hooks, and put into the order of installing.

use serde_json::Value;
use stdx::{Arrange, Context, Result};

/// The order of kinds when they are installed; what is not here comes last, by name.
const INSTALL_ORDER: &[&str] = &[
    "PriorityClass",
    "Namespace",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "PodSecurityPolicy",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "SecretList",
    "ConfigMap",
    "StorageClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleList",
    "ClusterRoleBinding",
    "ClusterRoleBindingList",
    "Role",
    "RoleList",
    "RoleBinding",
    "RoleBindingList",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "Job",
    "CronJob",
    "IngressClass",
    "Ingress",
    "APIService",
];

/// The order of kinds when they are deleted.
const UNINSTALL_ORDER: &[&str] = &[
    "APIService",
    "Ingress",
    "IngressClass",
    "Service",
    "CronJob",
    "Job",
    "StatefulSet",
    "HorizontalPodAutoscaler",
    "Deployment",
    "ReplicaSet",
    "ReplicationController",
    "Pod",
    "DaemonSet",
    "RoleBindingList",
    "RoleBinding",
    "RoleList",
    "Role",
    "ClusterRoleBindingList",
    "ClusterRoleBinding",
    "ClusterRoleList",
    "ClusterRole",
    "CustomResourceDefinition",
    "PersistentVolumeClaim",
    "PersistentVolume",
    "StorageClass",
    "ConfigMap",
    "SecretList",
    "Secret",
    "ServiceAccount",
    "PodDisruptionBudget",
    "PodSecurityPolicy",
    "LimitRange",
    "ResourceQuota",
    "NetworkPolicy",
    "Namespace",
    "PriorityClass",
];

/// The events that hooks may name; `test-success` is an older word.
const EVENTS: &[(&str, &str)] = &[
    ("pre-install", "pre-install"),
    ("post-install", "post-install"),
    ("pre-delete", "pre-delete"),
    ("post-delete", "post-delete"),
    ("pre-upgrade", "pre-upgrade"),
    ("post-upgrade", "post-upgrade"),
    ("pre-rollback", "pre-rollback"),
    ("post-rollback", "post-rollback"),
    ("test", "test"),
    ("test-success", "test"),
];

/// An object to be applied.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The template that it comes from.
    pub path: String,
    pub text: String,
    pub object: Value,
}

/// An object that is created at certain moments of a release, and is no part of it.
#[derive(Clone, Debug)]
pub struct Hook {
    pub name: String,
    pub kind: String,
    pub path: String,
    pub manifest: String,
    pub object: Value,
    pub events: Vec<String>,
    pub weight: i64,
    pub delete_policies: Vec<String>,
    pub output_log_policies: Vec<String>,
}

/// Objects and hooks of rendered templates, given by path in their order.
///
/// # Errors
/// If one is no YAML, with its template.
pub(crate) fn sorted(files: &[(String, String)]) -> Result<(Vec<Manifest>, Vec<Hook>)> {
    let (mut manifests, mut hooks) = (Vec::new(), Vec::new());
    for (path, content) in files {
        for text in split(content) {
            let documents = wire::yaml::parse_loose(text)
                .context(|| format!("YAML parse error on {path}: error converting YAML to JSON"))?;
            let object = documents.into_iter().next().unwrap_or(Value::Null);
            match object.pointer("/metadata/annotations/helm.sh~1hook").map(word) {
                None => {
                    let (path, text) = (path.clone(), text.to_owned());
                    manifests.push(Manifest { path, text, object });
                }
                Some(events) => hooks.extend(hook(path, text, object, &events)),
            }
        }
    }
    manifests.arrange_by(|a, b| compare(kind(&a.object), kind(&b.object), INSTALL_ORDER));
    hooks.arrange_by(|a, b| compare(&a.kind, &b.kind, INSTALL_ORDER));
    hooks.arrange_by(|a, b| (a.weight, &a.name).cmp(&(b.weight, &b.name)));
    Ok((manifests, hooks))
}

/// Puts objects into the order in which Helm deletes them.
pub fn sort_for_uninstall(manifests: &mut [Manifest]) {
    manifests.arrange_by(|a, b| compare(kind(&a.object), kind(&b.object), UNINSTALL_ORDER));
}

fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or("")
}

fn compare(a: &str, b: &str, order: &[&str]) -> std::cmp::Ordering {
    let place = |kind: &str| order.iter().position(|known| *known == kind).unwrap_or(order.len());
    let (a_place, b_place) = (place(a), place(b));
    match a_place == order.len() && b_place == order.len() {
        true => a.cmp(b),
        false => a_place.cmp(&b_place),
    }
}

/// An annotation; what is no text was written without quotes.
fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn hook(path: &str, text: &str, object: Value, events: &str) -> Option<Hook> {
    let known = |event: &str| {
        let event = event.trim().to_lowercase();
        let found = EVENTS.iter().find(|(word, _)| *word == event)?;
        Some(found.1.to_owned())
    };
    // A hook that names an event nobody knows is left out, as Helm leaves it out.
    let events = events.split(',').map(known).collect::<Option<Vec<_>>>()?;
    let annotation = |name: &str| {
        let annotations = object.pointer("/metadata/annotations")?;
        annotations.get(name).map(word)
    };
    let list = |name: &str| match annotation(name) {
        Some(list) => list.split(',').map(|one| one.trim().to_lowercase()).collect(),
        None => Vec::new(),
    };
    let weight = annotation("helm.sh/hook-weight").and_then(|weight| weight.parse().ok());
    Some(Hook {
        name: object.pointer("/metadata/name").map(word).unwrap_or_default(),
        kind: kind(&object).to_owned(),
        path: path.to_owned(),
        manifest: text.to_owned(),
        events,
        weight: weight.unwrap_or(0),
        delete_policies: list("helm.sh/hook-delete-policy"),
        output_log_policies: list("helm.sh/hook-output-log-policy"),
        object,
    })
}

/// The documents of a text, cut where Helm cuts it: at each `---` that begins a line.
fn split(content: &str) -> Vec<&str> {
    let content = content.trim();
    let mut out = Vec::new();
    let mut start = 0;
    let mut from = 0;
    while let Some(offset) = content[from..].find("---") {
        let at = from + offset;
        let is_line = at == 0 || content.as_bytes()[at - 1] == b'\n';
        if !is_line || at < start {
            from = at + 1;
            continue;
        }
        out.push(content[start..at].trim());
        let rest = &content[at + 3..];
        start = at + 3 + (rest.len() - rest.trim_start().len());
        from = start;
    }
    out.push(content[start..].trim());
    out.retain(|text| !text.is_empty());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_their_lines() {
        assert_eq!(
            split("---\na: 1\n---\n\n---\nb: |\n  ---\n  x\n--- # c\nc: 1\n"),
            ["a: 1", "b: |\n  ---\n  x", "# c\nc: 1"]
        );
        assert_eq!(split(""), Vec::<&str>::new());
    }

    #[test]
    fn kinds_and_hooks_have_their_order() {
        let text = |kind: &str, name: &str, annotations: &str| {
            format!(
                "---\nkind: {kind}\nmetadata:\n  name: {name}\n  annotations: {{{annotations}}}\n"
            )
        };
        let content = [
            text("Zed", "z", ""),
            text("Deployment", "d", ""),
            text("Aaa", "a", ""),
            text("Secret", "s", ""),
            text("Job", "late", "helm.sh/hook: 'post-install, Test-Success', helm.sh/hook-weight: 5"),
            text("Job", "early", "helm.sh/hook: pre-install, helm.sh/hook-weight: '-1', helm.sh/hook-delete-policy: 'hook-succeeded,before-hook-creation'"),
            text("Job", "odd", "helm.sh/hook: crd-install"),
        ]
        .concat();
        let (manifests, hooks) = sorted(&[("c/templates/a.yaml".into(), content)]).unwrap();
        let kinds: Vec<&str> = manifests.iter().map(|one| kind(&one.object)).collect();
        assert_eq!(kinds, ["Secret", "Deployment", "Aaa", "Zed"]);
        assert_eq!(hooks.len(), 2);
        assert_eq!((hooks[0].name.as_str(), hooks[0].weight), ("early", -1));
        assert_eq!(hooks[0].delete_policies, ["hook-succeeded", "before-hook-creation"]);
        assert_eq!((hooks[1].name.as_str(), hooks[1].weight), ("late", 5));
        assert_eq!(hooks[1].events, ["post-install", "test"]);
        let bad = sorted(&[("c/templates/b.yaml".into(), "a: [".into())]).unwrap_err();
        assert!(bad.to_string().starts_with("YAML parse error on c/templates/b.yaml"), "{bad}");
    }
}
