//! The roles and bindings that every cluster starts with, from a table in text.

use api::{Lens, LensMut, Value, json};

pub(crate) const TEXT: &str = include_str!("policy.txt");

/// Group and API version of everything here.
const VERSION: &str = "rbac.authorization.k8s.io/v1";

/// Every bootstrap role and binding as an object, in the table's order. Each controller's role is
/// bound to the service account of its name in kube-system.
pub(crate) fn objects() -> Vec<Value> {
    let mut objects: Vec<Value> = Vec::new();
    let mut namespaced_roles = Vec::new();
    for line in
        TEXT.lines().filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty())
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["clusterrole", name, labels @ ..] => objects.push(cluster_role(name, labels)),
            ["role", namespace, name] => {
                namespaced_roles.push((*namespace, *name));
                let mut role = named("Role", name);
                role.set("metadata.namespace", *namespace);
                role.set("rules", Value::Array(Vec::new()));
                objects.push(role);
            }
            ["aggregates", label] => {
                if let Some(role) = objects.last_mut() {
                    role.set(
                        "aggregationRule.clusterRoleSelectors",
                        json!([{"matchLabels": {*label: "true"}}]),
                    );
                }
            }
            ["clusterrolebinding", name, role, subjects @ ..] => {
                objects.push(binding("ClusterRoleBinding", name, "ClusterRole", role, subjects))
            }
            ["rolebinding", namespace, name, role, subjects @ ..] => {
                let kind = if namespaced_roles.contains(&(*namespace, *role)) {
                    "Role"
                } else {
                    "ClusterRole"
                };
                let mut binding = binding("RoleBinding", name, kind, role, subjects);
                binding.set("metadata.namespace", *namespace);
                objects.push(binding);
            }
            words => {
                if let Some(role) = objects.last_mut() {
                    let mut rule = rule(words);
                    if role.str("metadata.name").starts_with("system:controller:") {
                        patch_where_upstream_updates(&mut rule);
                    }
                    role.list_mut("rules").push(rule);
                }
            }
        }
    }
    let controllers: Vec<Value> = objects.iter().filter_map(controller_binding).collect();
    objects.extend(controllers);
    objects
}

/// Our controllers say what they change (patch) where upstream's often send the whole object
/// (update), and ask the store itself (get) where upstream's trust their cache (list).
fn patch_where_upstream_updates(rule: &mut Value) {
    let verbs = rule.list_mut("verbs");
    for (has, needs) in [("update", "patch"), ("patch", "update"), ("list", "get")] {
        if verbs.iter().any(|verb| verb == has) && !verbs.iter().any(|verb| verb == needs) {
            verbs.push(needs.into());
        }
    }
}

fn named(kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": VERSION, "kind": kind,
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        },
    })
}

fn cluster_role(name: &str, labels: &[&str]) -> Value {
    let mut role = named("ClusterRole", name);
    for (key, value) in labels.iter().filter_map(|label| label.split_once('=')) {
        role.map_mut("metadata.labels").insert(key.to_owned(), value.into());
    }
    role.set("rules", Value::Array(Vec::new()));
    role
}

/// `VERBS GROUPS RESOURCES [names=...]` or `url VERBS PATHS...`
fn rule(words: &[&str]) -> Value {
    let list = |text: &str| -> Vec<String> { text.split(',').map(str::to_owned).collect() };
    match words {
        ["url", verbs, paths @ ..] => json!({"verbs": list(verbs), "nonResourceURLs": paths}),
        [verbs, groups, resources, names @ ..] => {
            let groups: Vec<String> = list(groups)
                .into_iter()
                .map(|group| if group == "core" { String::new() } else { group })
                .collect();
            let mut rule =
                json!({"verbs": list(verbs), "apiGroups": groups, "resources": list(resources)});
            if let Some(names) = names.first().and_then(|names| names.strip_prefix("names=")) {
                rule.set("resourceNames", list(names));
            }
            rule
        }
        _ => Value::Null,
    }
}

fn binding(kind: &str, name: &str, role_kind: &str, role: &str, subjects: &[&str]) -> Value {
    let mut binding = named(kind, name);
    binding.set(
        "roleRef",
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role}),
    );
    let subjects: Vec<Value> = subjects.iter().filter_map(|subject| subject_of(subject)).collect();
    if !subjects.is_empty() {
        binding.set("subjects", subjects);
    }
    binding
}

fn subject_of(text: &str) -> Option<Value> {
    let (kind, name) = text.split_once(':')?;
    Some(match kind {
        "user" => json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}),
        "group" => json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": name}),
        "sa" => {
            let (namespace, name) = name.split_once(':')?;
            json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
        }
        _ => return None,
    })
}

/// `system:controller:x` is for the service account `x`.
fn controller_binding(role: &Value) -> Option<Value> {
    let name = role.str("metadata.name");
    let account =
        name.strip_prefix("system:controller:").filter(|_| role.str("kind") == "ClusterRole")?;
    Some(binding(
        "ClusterRoleBinding",
        name,
        "ClusterRole",
        name,
        &[&format!("sa:kube-system:{account}")],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        let objects = objects();
        let exists = |kind: &str, namespace: &str, name: &str| {
            objects.iter().any(|o| {
                o.str("kind") == kind
                    && o.str("metadata.namespace") == namespace
                    && o.str("metadata.name") == name
            })
        };
        let mut seen = stdx::OrdSet::new();
        for object in &objects {
            let identity =
                (object.str("kind"), object.str("metadata.namespace"), object.str("metadata.name"));
            assert!(seen.insert(identity), "{identity:?} twice");
            for rule in object.list("rules") {
                assert!(!rule.list("verbs").is_empty(), "{identity:?}: {rule}");
                assert!(
                    !rule.list("resources").is_empty() || !rule.list("nonResourceURLs").is_empty(),
                    "{identity:?}: {rule}"
                );
            }
            if object.has("roleRef") {
                let namespace = if object.str("roleRef.kind") == "Role" {
                    object.str("metadata.namespace")
                } else {
                    ""
                };
                assert!(
                    exists(object.str("roleRef.kind"), namespace, object.str("roleRef.name")),
                    "{identity:?} binds a role that is not there"
                );
            }
        }
        assert!(exists("ClusterRoleBinding", "", "system:controller:deployment-controller"));
        assert!(objects.len() > 110, "{}", objects.len());
    }
}
