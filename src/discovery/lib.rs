//! The documents in which a server says what it serves: discovery, plain and aggregated, and OpenAPI.
//!
//! Pure functions of the table of kinds; the server chooses by the Accept header. Nobody but a server needs
//! them, so they are a room of their own, above `api`.

pub mod elsewhere;
pub mod openapi;

use std::cmp::Reverse;

use api::catalog::Kinds;
use api::form::{Form, Resource};
use api::groups::{GROUPS, priorities};
use api::kind::{Kind, Scope, Sub};
use serde_json::{Value, json};
use stdx::{Arrange, OrdSet};

use crate::elsewhere::Elsewhere;

/// `GET /api`. `server_address` is `10.0.0.1:6443`.
pub fn api_versions(server_address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    })
}

/// `GET /apis`
pub fn group_list(kinds: &Kinds, elsewhere: &[Elsewhere<'_>]) -> Value {
    let named = everywhere(kinds, elsewhere).into_iter().filter(|(name, _)| !name.is_empty());
    let groups: Vec<Value> = named.map(|(name, versions)| group_entry(name, &versions)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `GET /apis/<group>`; `None` if nothing is served there.
pub fn group(kinds: &Kinds, elsewhere: &[Elsewhere<'_>], name: &str) -> Option<Value> {
    let all = everywhere(kinds, elsewhere);
    let (_, versions) = all.iter().find(|(known, _)| *known == name && !name.is_empty())?;
    let mut entry = group_entry(name, versions);
    entry["kind"] = "APIGroup".into();
    entry["apiVersion"] = "v1".into();
    Some(entry)
}

/// `GET /api/v1` (group "") and `GET /apis/<group>/<version>`; `None` if nothing is served there.
pub fn resources(kinds: &Kinds, group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for form in forms_of(kinds, group, version) {
        let kind = form.kind;
        let mut entry = json!({
            "name": kind.plural, "singularName": form.singular(), "namespaced": kind.namespaced(),
            "kind": kind.name, "verbs": verbs(kind),
        });
        names(form, &mut entry);
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
    resources.arrange_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    let group_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources,
    }))
}

/// `GET /api` and `GET /apis` as `APIGroupDiscoveryList` of `apidiscovery.k8s.io/<version>`
/// (`v2` or `v2beta1`): all groups but the core one, or it alone.
pub fn aggregated(kinds: &Kinds, elsewhere: &[Elsewhere<'_>], core: bool, version: &str) -> Value {
    let all = everywhere(kinds, elsewhere).into_iter().filter(|(name, _)| name.is_empty() == core);
    let items: Vec<Value> = all
        .map(|(name, versions)| {
            let versions: Vec<Value> = versions
                .into_iter()
                .map(|version| {
                    let is_it = |one: &&Elsewhere<'_>| one.group == name && one.version == version;
                    if let Some(one) = elsewhere.iter().find(is_it) {
                        return elsewhere_version(one);
                    }
                    let resources: Vec<Value> = forms_of(kinds, name, version)
                        .into_iter()
                        .map(aggregated_resource)
                        .collect();
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
pub fn groups(kinds: &Kinds) -> Vec<&'static str> {
    let mut names: OrdSet<(usize, &str)> = OrdSet::new();
    for resource in kinds.resources() {
        let group = resource.form().group();
        let rank = GROUPS.iter().position(|(name, _)| *name == group);
        names.insert((rank.unwrap_or(GROUPS.len()), group));
    }
    names.into_iter().map(|(_, name)| name).collect()
}

/// The versions of a group, preferred first.
pub fn versions<'k>(kinds: &'k Kinds, group: &str) -> Vec<&'k str> {
    let forms = kinds.resources().iter().map(Resource::form);
    let mut versions: Vec<&str> =
        forms.filter(|form| form.group() == group).map(Form::version).collect();
    versions.arrange_by_key(|version| Reverse(priority(version)));
    versions.dedup();
    versions
}

/// Every group with its versions, preferred first: those that are served here, and elsewhere.
pub fn everywhere<'k>(
    kinds: &'k Kinds,
    elsewhere: &'k [Elsewhere<'_>],
) -> Vec<(&'k str, Vec<&'k str>)> {
    let local = groups(kinds).into_iter().map(|name| (name, versions(kinds, name)));
    if elsewhere.is_empty() {
        return local.collect();
    }
    let mut all: Vec<(i64, &str, Vec<(i64, &str)>)> = local
        .map(|(name, versions)| {
            let of_version = |version| (priorities(name, version).1, version);
            (priorities(name, "").0, name, versions.into_iter().map(of_version).collect())
        })
        .collect();
    for one in elsewhere {
        let idx = all.iter().position(|(_, name, _)| *name == one.group).unwrap_or_else(|| {
            all.push((0, one.group, Vec::new()));
            all.len() - 1
        });
        let (of_group, _, versions) = &mut all[idx];
        *of_group = one.group_priority.max(*of_group);
        versions.retain(|(_, version)| *version != one.version);
        versions.push((one.version_priority, one.version));
    }
    all.arrange_by_key(|(of_group, name, _)| (Reverse(*of_group), *name));
    let sorted = all.into_iter().map(|(_, name, mut versions)| {
        versions.arrange_by_key(|(n, version)| Reverse((*n, priority(version))));
        (name, versions.into_iter().map(|(_, version)| version).collect())
    });
    sorted.collect()
}

/// Whether kinds in code are served at a group and version: no other server can have it.
pub fn is_built_in(kinds: &Kinds, group: &str, version: &str) -> bool {
    let mut forms = kinds.resources().iter().map(Resource::form);
    forms.any(|form| form.kind.is_built_in() && form.group() == group && form.version() == version)
}

/// How much a version is to be preferred, as upstream orders them: `v2`, `v1`, `v2beta1`, `v1alpha1`,
/// then the others by name.
fn priority(version: &str) -> (u8, u64, u64, Reverse<String>) {
    let other = (0, 0, 0, Reverse(version.to_owned()));
    let Some(rest) = version.strip_prefix('v') else { return other };
    let (major, rest) =
        rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
    let Ok(major) = major.parse() else { return other };
    let (stage, minor) = match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
        _ if rest.is_empty() => return (3, major, 0, Reverse(String::new())),
        (Some(minor), _) => (2, minor),
        (_, Some(minor)) => (1, minor),
        _ => return other,
    };
    match minor.parse() {
        Ok(minor) => (stage, major, minor, Reverse(String::new())),
        Err(_) => other,
    }
}

/// The forms served as resources of their own at a group and version.
pub(crate) fn forms_of<'k>(kinds: &'k Kinds, group: &str, version: &str) -> Vec<Form<'k>> {
    let forms = kinds.resources().iter().map(Resource::form);
    forms.filter(|form| form.group() == group && form.version() == version).collect()
}

/// What may be done with a kind's main resource.
pub fn verbs(kind: &Kind) -> &'static [&'static str] {
    match kind.declared.deletes_collections {
        _ if kind.declared.computed => &["get", "list"],
        _ if !kind.stored() => &["create"],
        false => &["create", "delete", "get", "list", "patch", "update", "watch"],
        true => {
            &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
        }
    }
}

/// A subresource as discovery tells it.
#[derive(Debug, Clone, Copy)]
pub struct Subresource<'a> {
    pub name: &'static str,
    /// Group, version and kind of its bodies.
    pub group: &'static str,
    pub version: &'a str,
    pub kind: &'static str,
    pub verbs: &'static [&'static str],
}

/// The subresources of a form, by name.
pub fn subresources(form: Form<'_>) -> Vec<Subresource<'_>> {
    const CHANGE: &[&str] = &["get", "patch", "update"];
    const STREAM: &[&str] = &["create", "get"];
    const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];
    let kind = form.kind;
    let subs = form.subresources();
    let own = |name, verbs| Subresource {
        name,
        group: form.group(),
        version: form.version(),
        kind: kind.name,
        verbs,
    };
    let mut found: Vec<Subresource<'_>> = subs
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
    found.arrange_by_key(|sub| sub.name);
    found
}

fn names(form: Form<'_>, entry: &mut Value) {
    let (short, categories) = (form.short(), form.categories());
    if !short.is_empty() {
        entry["shortNames"] = json!(short);
    }
    if !categories.is_empty() {
        entry["categories"] = json!(categories);
    }
}

fn group_entry(name: &str, versions: &[&str]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    json!({"name": name, "preferredVersion": versions.first(), "versions": versions})
}

fn elsewhere_version(one: &Elsewhere<'_>) -> Value {
    let freshness = if one.fresh { "Current" } else { "Stale" };
    let mut entry = json!({"version": one.version, "freshness": freshness});
    let resources = one.resources.as_deref().and_then(|text| serde_json::from_str(text).ok());
    if let Some(resources) = resources {
        entry["resources"] = resources;
    }
    entry
}

fn aggregated_resource(form: Form<'_>) -> Value {
    let kind = form.kind;
    let response = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut entry = json!({
        "resource": kind.plural,
        "responseKind": response(form.group(), form.version(), kind.name),
        "scope": if kind.scope == Scope::Namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": form.singular(),
        "verbs": verbs(kind),
    });
    names(form, &mut entry);
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
    use api::lens::Lens;

    #[test]
    fn versions_are_preferred_as_upstream_prefers_them() {
        let mut versions = ["foo", "v1alpha1", "v2", "v10beta3", "v1", "v3beta1", "v10", "bar"];
        versions.sort_by_cached_key(|version| Reverse(priority(version)));
        assert_eq!(versions, ["v10", "v2", "v1", "v10beta3", "v3beta1", "v1alpha1", "bar", "foo"]);
    }

    #[test]
    fn documents_name_what_is_served() {
        let kinds = &Kinds::built_in();
        assert_eq!(groups(kinds)[..3], ["", "apiregistration.k8s.io", "apps"]);
        let apps = resources(kinds, "apps", "v1").unwrap();
        let names: Vec<&str> = apps.list("resources").iter().map(|r| r.str("name")).collect();
        assert!(
            names.contains(&"deployments/scale") && names.contains(&"statefulsets"),
            "{names:?}"
        );
        assert!(
            resources(kinds, "apps", "v2").is_none() && resources(kinds, "nope", "v1").is_none()
        );
        assert!(
            group(kinds, &[], "apps").is_some()
                && group(kinds, &[], "").is_none()
                && group(kinds, &[], "nope").is_none()
        );
        let core = aggregated(kinds, &[], true, "v2");
        assert_eq!(core.list("items").len(), 1);
        let pods = core
            .list("items.0.versions.0.resources")
            .iter()
            .find(|r| r.str("resource") == "pods")
            .unwrap();
        assert_eq!(pods.str("responseKind.kind"), "Pod");
        assert!(pods.list("subresources").iter().any(|s| s.str("responseKind.kind") == "Eviction"));
        assert_eq!(
            aggregated(kinds, &[], false, "v2beta1").list("items").len(),
            groups(kinds).len() - 1
        );
    }

    #[test]
    fn what_is_served_elsewhere_has_its_place() {
        let kinds = &Kinds::built_in();
        let one = |group, version, group_priority, version_priority| Elsewhere {
            group,
            version,
            group_priority,
            version_priority,
            resources: Some(r#"[{"resource":"flunders"}]"#.into()),
            fresh: version == "v1",
        };
        let elsewhere = [
            one("low.example.com", "v1", 10, 1),
            one("wardle.example.com", "v1alpha1", 17_790, 200),
            one("wardle.example.com", "v1", 2000, 100),
            one("apps", "v1beta9", 1, 14),
        ];
        let tree = group_list(kinds, &elsewhere);
        let names: Vec<&str> = tree.list("groups").iter().map(|group| group.str("name")).collect();
        assert_eq!(names[..3], ["apiregistration.k8s.io", "apps", "wardle.example.com"]);
        assert_eq!(names.last(), Some(&"low.example.com"));
        assert_eq!(names.len(), groups(kinds).len() - 1 + 2);
        let wardle = group(kinds, &elsewhere, "wardle.example.com").unwrap();
        assert_eq!(wardle.str("preferredVersion.version"), "v1alpha1");
        let apps = group(kinds, &elsewhere, "apps").unwrap();
        assert_eq!(apps.str("preferredVersion.version"), "v1");
        assert_eq!(apps.list("versions").len(), 2);
        let tree = aggregated(kinds, &elsewhere, false, "v2");
        let wardle = tree
            .list("items")
            .iter()
            .find(|item| item.str("metadata.name") == "wardle.example.com");
        let versions: Vec<String> =
            wardle.unwrap().list("versions").iter().map(Value::to_string).collect();
        assert_eq!(
            versions,
            [
                r#"{"freshness":"Stale","resources":[{"resource":"flunders"}],"version":"v1alpha1"}"#,
                r#"{"freshness":"Current","resources":[{"resource":"flunders"}],"version":"v1"}"#,
            ]
        );
        assert_eq!(aggregated(kinds, &elsewhere, true, "v2").list("items").len(), 1);
        assert!(is_built_in(kinds, "apps", "v1") && !is_built_in(kinds, "apps", "v1beta9"));
    }
}
