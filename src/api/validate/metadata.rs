//! Rules of `metadata`, for every kind.
//!
//! Source: k8s.io/apimachinery/pkg/api/validation/objectmeta.go

use serde_json::Value;

use crate::complain::{Complain, NON_NEGATIVE};
use crate::kind::{Form, NameRule};
use crate::lens::Lens;
use crate::names;
use crate::status::Cause;

/// All annotations of an object together, as upstream.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

pub(super) fn check(form: Form<'_>, new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let rule: fn(&str) -> Result<(), String> = match form.kind.declared.name_rule {
        NameRule::Subdomain => names::subdomain,
        NameRule::Label => names::label,
        NameRule::Label1035 => names::label_1035,
        NameRule::PathSegment => names::path_segment,
    };
    let name = new.str("metadata.name");
    match (name, new.str("metadata.generateName")) {
        ("", "") => causes.required("metadata.name", "name or generateName is required"),
        ("", _) => {}
        (name, _) if old.is_none() => causes.check_name("metadata.name", name, rule),
        _ => {}
    }
    let prefix = new.str("metadata.generateName");
    if old.is_none() && !prefix.is_empty() {
        // The suffix makes a dash at the end an inner one.
        let masked = prefix.strip_suffix('-').map_or(prefix.to_owned(), |head| format!("{head}a"));
        if let Err(why) = rule(&masked) {
            causes.invalid("metadata.generateName", &prefix.into(), &why);
        }
    }
    let namespace = new.str("metadata.namespace");
    match (form.kind.namespaced(), namespace) {
        (true, "") => causes.required("metadata.namespace", ""),
        (true, namespace) => causes.check_name("metadata.namespace", namespace, names::label),
        (false, "") => {}
        (false, _) => causes.forbidden("metadata.namespace", "not allowed on this type"),
    }
    if let Some(generation) = new.int("metadata.generation").filter(|generation| *generation < 0) {
        causes.invalid("metadata.generation", &generation.into(), NON_NEGATIVE);
    }
    labels(new.at("metadata.labels"), "metadata.labels", causes);
    annotations(new.at("metadata.annotations"), "metadata.annotations", causes);
    owners(new.list("metadata.ownerReferences"), causes);
    finalizers(new, old, causes);
    if let Some(old) = old {
        for path in
            ["metadata.name", "metadata.namespace", "metadata.uid", "metadata.creationTimestamp"]
        {
            if new.at(path) != old.at(path) {
                causes.invalid(path, new.at(path), "field is immutable");
            }
        }
    }
}

/// A map of labels at `path`.
pub(crate) fn labels(map: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (key, value) in map.pairs("") {
        causes.check_name(path, key, names::qualified);
        causes.check_name(path, value, names::label_value);
    }
}

/// A map of annotations at `path`.
pub(crate) fn annotations(map: &Value, path: &str, causes: &mut Vec<Cause>) {
    let mut n_bytes = 0;
    for (key, value) in map.pairs("") {
        if let Err(why) = names::qualified(&key.to_ascii_lowercase()) {
            causes.invalid(path, &key.into(), &why);
        }
        n_bytes += key.len() + value.len();
    }
    if n_bytes > ANNOTATIONS_BYTES_MAX {
        causes.too_long(path, ANNOTATIONS_BYTES_MAX);
    }
}

fn owners(owners: &[Value], causes: &mut Vec<Cause>) {
    let mut controller: Option<&Value> = None;
    // Upstream names no index here.
    let path = "metadata.ownerReferences";
    for owner in owners {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner.str(field).is_empty() {
                let what = if field == "apiVersion" { "version" } else { field };
                let detail = format!("{what} must not be empty");
                causes.invalid(&format!("{path}.{field}"), &"".into(), &detail);
            }
        }
        if owner.str("apiVersion") == "v1" && owner.str("kind") == "Event" {
            causes.invalid(
                path,
                &owner.str("kind").into(),
                "/v1, Kind=Event is disallowed from being an owner",
            );
        }
        if owner.flag("controller") {
            if let Some(other) = controller {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {} and {}",
                    other.str("name"),
                    owner.str("name")
                );
                causes.invalid("metadata.ownerReferences", &owner.str("name").into(), &detail);
            }
            controller = Some(owner);
        }
    }
}

fn finalizers(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let path = "metadata.finalizers";
    for name in new.list(path) {
        causes.check_name(path, name.as_str().unwrap_or(""), names::qualified);
    }
    let has = |name: &str| new.list(path).iter().any(|finalizer| finalizer == name);
    if has("orphan") && has("foregroundDeletion") {
        causes.invalid(
            path,
            new.at(path),
            "finalizers orphan and foregroundDeletion cannot be both set",
        );
    }
    let Some(old) = old.filter(|old| old.has("metadata.deletionTimestamp")) else { return };
    let added: Vec<&Value> =
        new.list(path).iter().filter(|name| !old.list(path).contains(name)).collect();
    if !added.is_empty() {
        let names: Vec<&str> = added.iter().filter_map(|name| name.as_str()).collect();
        causes.forbidden(
            path,
            &format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
            ),
        );
    }
}
