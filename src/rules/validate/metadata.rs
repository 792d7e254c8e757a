//! Rules of `metadata`, for every kind.
//!
//! Source: k8s.io/apimachinery/pkg/api/validation/objectmeta.go, k8s.io/kubernetes/pkg/apis/core/validation

use api::complain::{Complain, IMMUTABLE, NON_NEGATIVE};
use api::form::Form;
use api::labels::{annotations, labels};
use api::lens::Lens;
use api::names;
use api::status::Cause;
use serde_json::Value;

use crate::kinds::{self, NameRule};

/// What upstream's `ValidateObjectMeta` checks: of a new object, and of many at their updates too.
/// `rule` is how names of the kind are checked, `prefix_rule` what starts one.
pub(super) fn of_new(
    form: Form<'_>,
    rule: fn(&str) -> Result<(), String>,
    prefix_rule: fn(&str) -> Result<(), String>,
    new: &Value,
    causes: &mut Vec<Cause>,
) {
    let (name, prefix) = (new.str("metadata.name"), new.str("metadata.generateName"));
    if !prefix.is_empty() {
        // The suffix makes a dash at the end an inner one.
        let masked = prefix.strip_suffix('-').map_or(prefix.to_owned(), |head| format!("{head}a"));
        for why in prefix_rule(&masked).err().iter().flat_map(|why| why.lines()) {
            causes.invalid("metadata.generateName", &prefix.into(), why);
        }
    }
    match (name, prefix) {
        ("", "") => causes.required("metadata.name", "name or generateName is required"),
        ("", _) => {}
        (name, _) => causes.check_name("metadata.name", name, rule),
    }
    match (form.kind.namespaced(), new.str("metadata.namespace")) {
        (true, "") => causes.required("metadata.namespace", ""),
        (true, namespace) => causes.check_name("metadata.namespace", namespace, names::label),
        (false, "") => {}
        (false, _) => causes.forbidden("metadata.namespace", "not allowed on this type"),
    }
    if let Some(generation) = new.int("metadata.generation").filter(|generation| *generation < 0) {
        causes.invalid("metadata.generation", &generation.into(), NON_NEGATIVE);
    }
    common(new, causes);
    finalizers(new, causes);
}

/// What `ValidateObjectMetaUpdate` checks.
pub(super) fn of_changed(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    if old.has("metadata.deletionTimestamp") {
        no_new_finalizers(new, old, causes);
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        let path = format!("metadata.{field}");
        if new.at(&path) != old.at(&path) {
            causes.invalid(&path, new.at(&path), IMMUTABLE);
        }
    }
    common(new, causes);
}

/// Finalizers without a domain are the few that Kubernetes knows. Kinds that are defined at run time may have others.
pub(super) fn standard_finalizers(new: &Value, causes: &mut Vec<Cause>) {
    for (idx, name) in new.list("metadata.finalizers").iter().enumerate() {
        let name = name.as_str().unwrap_or("");
        let is_standard = matches!(name, "kubernetes" | "orphan" | "foregroundDeletion");
        if !name.contains('/') && !is_standard {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            causes.invalid(&format!("metadata.finalizers[{idx}]"), &name.into(), detail);
        }
    }
}

/// How names of `form`'s kind are checked.
pub(super) fn name_rule(form: Form<'_>) -> fn(&str) -> Result<(), String> {
    match kinds::of(form.kind).name_rule {
        NameRule::Subdomain => names::subdomain,
        NameRule::Label => names::label,
        NameRule::Label1035 => names::label_1035,
        NameRule::PathSegment => names::path_segment,
        NameRule::Any => |_| Ok(()),
    }
}

fn common(new: &Value, causes: &mut Vec<Cause>) {
    labels(new.at("metadata.labels"), "metadata.labels", causes);
    annotations(new.at("metadata.annotations"), "metadata.annotations", causes);
    owners(new.list("metadata.ownerReferences"), causes);
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

fn finalizers(new: &Value, causes: &mut Vec<Cause>) {
    let path = "metadata.finalizers";
    for name in new.list(path) {
        causes.check_name(path, name.as_str().unwrap_or(""), names::qualified);
    }
    let has = |name: &str| new.list(path).iter().any(|finalizer| finalizer == name);
    if has("orphan") && has("foregroundDeletion") {
        causes.invalid(
            path,
            new.at(path),
            "finalizer orphan and foregroundDeletion cannot be both set",
        );
    }
}

fn no_new_finalizers(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let path = "metadata.finalizers";
    let had = old.list(path);
    let added: Vec<String> = new
        .list(path)
        .iter()
        .filter(|name| !had.contains(name))
        .filter_map(|name| name.as_str().map(|name| format!("{name:?}")))
        .collect();
    if !added.is_empty() {
        let detail = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            added.join(", ")
        );
        causes.forbidden(path, &detail);
    }
}
