//! Discovery documents: which groups, versions and resources are served, plain and aggregated.
//!
//! Pure functions of the table of kinds; the server chooses by the Accept header.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::kind::{Form, Kind, Scope, Sub};
use crate::kinds::KINDS;

/// The order in which upstream lists its groups; others follow by name.
const GROUP_ORDER: &[&str] = &[
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
];

/// `GET /api`. `server_address` is `10.0.0.1:6443`.
pub fn api_versions(server_address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    })
}

/// `GET /apis`
pub fn group_list() -> Value {
    let groups: Vec<Value> =
        groups().into_iter().filter(|name| !name.is_empty()).map(group_entry).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `GET /apis/<group>`; `None` if nothing is served there.
pub fn group(name: &str) -> Option<Value> {
    let known = groups().into_iter().find(|known| *known == name && !name.is_empty())?;
    let mut entry = group_entry(known);
    entry["kind"] = "APIGroup".into();
    entry["apiVersion"] = "v1".into();
    Some(entry)
}

/// `GET /api/v1` (group "") and `GET /apis/<group>/<version>`; `None` if nothing is served there.
pub fn resources(group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for form in forms_of(group, version) {
        let kind = form.kind;
        let mut entry = json!({
            "name": kind.plural, "singularName": kind.singular(), "namespaced": kind.namespaced(),
            "kind": kind.name, "verbs": verbs(kind),
        });
        if !kind.short.is_empty() {
            entry["shortNames"] = json!(kind.short);
        }
        if !kind.categories.is_empty() {
            entry["categories"] = json!(kind.categories);
        }
        resources.push(entry);
        for sub in subresources(form) {
            let mut entry = json!({
                "name": format!("{}/{}", kind.plural, sub.name), "singularName": "", "namespaced": kind.namespaced(),
                "kind": sub.kind, "verbs": sub.verbs,
            });
            if (sub.group, sub.version) != (group, version) {
                entry["group"] = sub.group.into();
                entry["version"] = sub.version.into();
            }
            resources.push(entry);
        }
    }
    if resources.is_empty() {
        return None;
    }
    resources.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    let group_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources,
    }))
}

/// `GET /api` and `GET /apis` as `APIGroupDiscoveryList` of `apidiscovery.k8s.io/<version>`
/// (`v2` or `v2beta1`): all groups but the core one, or it alone.
pub fn aggregated(core: bool, version: &str) -> Value {
    let names = groups().into_iter().filter(|name| name.is_empty() == core);
    let items: Vec<Value> = names
        .map(|name| {
            let versions: Vec<Value> = versions(name)
                .into_iter()
                .map(|version| {
                    let resources: Vec<Value> =
                        forms_of(name, version).into_iter().map(aggregated_resource).collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let metadata = if core {
                json!({"creationTimestamp": null})
            } else {
                json!({"name": name, "creationTimestamp": null})
            };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {}, "items": items,
    })
}

/// Every served group, in upstream's order; the core group is "".
pub fn groups() -> Vec<&'static str> {
    let mut names: BTreeMap<(usize, &str), ()> = BTreeMap::new();
    for kind in KINDS.iter().filter(|kind| has_resource(kind)) {
        for form in kind.forms() {
            let rank = GROUP_ORDER.iter().position(|name| *name == form.group());
            names.insert((rank.unwrap_or(GROUP_ORDER.len()), form.group()), ());
        }
    }
    names.into_keys().map(|(_, name)| name).collect()
}

/// The versions of a group, preferred first.
pub fn versions(group: &str) -> Vec<&'static str> {
    let mut versions: Vec<&str> = Vec::new();
    for kind in KINDS.iter().filter(|kind| has_resource(kind)) {
        for form in kind.forms().filter(|form| form.group() == group) {
            if !versions.contains(&form.version()) {
                versions.push(form.version());
            }
        }
    }
    // Stable versions are longer-lived and sort before betas: `v1` < `v1beta1` < `v2`.
    versions.sort_unstable();
    versions
}

/// The forms served as resources of their own at a group and version.
pub fn forms_of(group: &str, version: &str) -> Vec<Form> {
    KINDS
        .iter()
        .filter(|kind| has_resource(kind))
        .filter_map(|kind| kind.form(group, version))
        .collect()
}

/// False for kinds that only appear as bodies of subresources.
pub fn has_resource(kind: &Kind) -> bool {
    !matches!(kind.name, "Eviction" | "TokenRequest" | "Scale")
}

/// What may be done with a kind's main resource.
pub fn verbs(kind: &Kind) -> &'static [&'static str] {
    match kind.name {
        _ if !kind.stored() => &["create"],
        "Namespace" => &["create", "delete", "get", "list", "patch", "update", "watch"],
        _ => &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
    }
}

/// A subresource as discovery tells it.
#[derive(Debug, Clone, Copy)]
pub struct Subresource {
    pub name: &'static str,
    /// Group, version and kind of its bodies.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub verbs: &'static [&'static str],
}

/// The subresources of a form, by name.
pub fn subresources(form: Form) -> Vec<Subresource> {
    const CHANGE: &[&str] = &["get", "patch", "update"];
    const STREAM: &[&str] = &["create", "get"];
    const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];
    let kind = form.kind;
    // Other forms are views of the object; subresources hang on the stored one.
    let subs = if form.served.is_none() { kind.subresources } else { &[] };
    let own = |name, verbs| Subresource {
        name,
        group: form.group(),
        version: form.version(),
        kind: kind.name,
        verbs,
    };
    let mut found: Vec<Subresource> = subs
        .iter()
        .map(|sub| match sub {
            Sub::Status => own("status", CHANGE),
            Sub::Scale { .. } => Subresource {
                group: "autoscaling",
                version: "v1",
                kind: "Scale",
                ..own("scale", CHANGE)
            },
            Sub::Named(name) => match (*name, kind.name) {
                ("binding", _) => Subresource { kind: "Binding", ..own("binding", &["create"]) },
                ("eviction", _) => Subresource {
                    group: "policy",
                    kind: "Eviction",
                    ..own("eviction", &["create"])
                },
                ("token", _) => Subresource {
                    group: "authentication.k8s.io",
                    kind: "TokenRequest",
                    ..own("token", &["create"])
                },
                ("log", _) => own("log", &["get"]),
                ("exec", _) => Subresource { kind: "PodExecOptions", ..own("exec", STREAM) },
                ("attach", _) => Subresource { kind: "PodAttachOptions", ..own("attach", STREAM) },
                ("portforward", _) => {
                    Subresource { kind: "PodPortForwardOptions", ..own("portforward", STREAM) }
                }
                ("proxy", "Pod") => Subresource { kind: "PodProxyOptions", ..own("proxy", PROXY) },
                ("proxy", "Service") => {
                    Subresource { kind: "ServiceProxyOptions", ..own("proxy", PROXY) }
                }
                ("proxy", _) => Subresource { kind: "NodeProxyOptions", ..own("proxy", PROXY) },
                ("finalize", _) => own("finalize", &["update"]),
                (name, _) => own(name, CHANGE),
            },
        })
        .collect();
    found.sort_by_key(|sub| sub.name);
    found
}

fn group_entry(name: &str) -> Value {
    let versions: Vec<Value> = versions(name)
        .into_iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    json!({"name": name, "preferredVersion": versions.first(), "versions": versions})
}

fn aggregated_resource(form: Form) -> Value {
    let kind = form.kind;
    let response = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut entry = json!({
        "resource": kind.plural,
        "responseKind": response(form.group(), form.version(), kind.name),
        "scope": if kind.scope == Scope::Namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular(),
        "verbs": verbs(kind),
    });
    if !kind.short.is_empty() {
        entry["shortNames"] = json!(kind.short);
    }
    if !kind.categories.is_empty() {
        entry["categories"] = json!(kind.categories);
    }
    let subs: Vec<Value> = subresources(form)
        .into_iter()
        .map(|sub| {
            json!({
                "subresource": sub.name, "responseKind": response(sub.group, sub.version, sub.kind), "verbs": sub.verbs,
            })
        })
        .collect();
    if !subs.is_empty() {
        entry["subresources"] = subs.into();
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lens::Lens;

    #[test]
    fn documents_name_what_is_served() {
        assert_eq!(groups()[..3], ["", "apps", "events.k8s.io"]);
        let apps = resources("apps", "v1").unwrap();
        let names: Vec<&str> = apps.list("resources").iter().map(|r| r.str("name")).collect();
        assert!(
            names.contains(&"deployments/scale") && names.contains(&"statefulsets"),
            "{names:?}"
        );
        assert!(resources("apps", "v2").is_none() && resources("nope", "v1").is_none());
        assert!(group("apps").is_some() && group("").is_none() && group("autoscaling").is_none());
        let core = aggregated(true, "v2");
        assert_eq!(core.list("items").len(), 1);
        let pods = core
            .list("items.0.versions.0.resources")
            .iter()
            .find(|r| r.str("resource") == "pods")
            .unwrap();
        assert_eq!(pods.str("responseKind.kind"), "Pod");
        assert!(pods.list("subresources").iter().any(|s| s.str("responseKind.kind") == "Eviction"));
        assert_eq!(aggregated(false, "v2beta1").list("items").len(), groups().len() - 1);
    }
}
