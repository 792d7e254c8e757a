//! Server-side apply: who manages which field (`metadata.managedFields`), conflicts, and merging.
//!
//! Source: k8s.io/apimachinery/pkg/util/managedfields and sigs.k8s.io/structured-merge-diff.

mod fields;
mod managers;
mod shape;
mod typed;

use serde_json::{Value, json};
use stdx::time::Wall;

use crate::codec::{self, FieldValidation};
use crate::kind::{Durability, Form};
use crate::lens::{Lens, LensMut};
use crate::status::{Reason, Status};
use fields::Fields;
use managers::Manager;
use typed::Node;

pub use shape::check as check_shape;

/// What `kubectl apply` remembers of its last run without server-side apply.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// One apply request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub form: Form<'a>,
    /// The object as stored, converted to `form`; `None` creates it.
    pub live: Option<&'a Value>,
    /// What the client sent, read by `codec::decode_sparse_yaml`.
    pub applied: &'a Value,
    /// `fieldManager`
    pub manager: &'a str,
    /// "" or "status", "scale", ...
    pub subresource: &'a str,
    pub force: bool,
    pub now: Wall,
}

/// Merges the applied configuration into the live object and returns the new object, with
/// `metadata.managedFields` updated. The caller then runs defaults, strategy and validation.
/// When nothing changes, the result equals `live`, managedFields times included.
///
/// # Errors
/// 409 with one `FieldManagerConflict` cause per field that another manager owns, unless forced;
/// 400 if list items lack their keys or the configuration brings managed fields of its own.
pub fn apply(request: Request<'_>) -> Result<Value, Status> {
    match apply_once(request, request.force) {
        Err(Failure::Conflicts(conflicts)) => {
            // kubectl may take over what it applied itself before it applied on the server.
            let own = if request.manager == "kubectl" {
                last_applied(request)
            } else {
                Fields::default()
            };
            let foreign: Vec<(String, Fields)> = conflicts
                .into_iter()
                .map(|(manager, fields)| (manager, fields.difference(&own)))
                .filter(|(_, fields)| !fields.is_empty())
                .collect();
            if foreign.is_empty() {
                return apply_once(request, true).map_err(|failure| failure.into_status());
            }
            Err(Failure::Conflicts(foreign).into_status())
        }
        other => other.map_err(Failure::into_status),
    }
}

/// Records in `new`'s `metadata.managedFields` what a create, update or patch by `manager` changed
/// since `old`. Call it on every write that is not an apply, after defaults and strategy.
///
/// Unlike upstream, what only programs write is not tracked until somebody applies to it: objects
/// that a controller owns, events, leases. For a small pod the managed fields would be two thirds
/// of the bytes kept in memory and on flash.
pub fn track<'f>(
    form: impl Into<Form<'f>>,
    manager: &str,
    subresource: &str,
    now: Wall,
    old: Option<&Value>,
    new: &mut Value,
) {
    let form = form.into();
    if !is_tracked(form, old, new) {
        new.remove("metadata.managedFields");
        return;
    }
    let node = Node::root(form);
    let mut managers = managers::read(new).or_else(|| managers::read(old?)).unwrap_or_default();
    let empty;
    let before = match old {
        Some(old) => old,
        None => {
            empty = hollow(form);
            &empty
        }
    };
    let mut diff = typed::compare(node, Some(before), Some(new));
    for set in [&mut diff.added, &mut diff.modified, &mut diff.removed] {
        ignore(form, subresource, set);
    }
    let taken = diff.added.union(&diff.modified);
    if !(taken.is_empty() && diff.removed.is_empty()) {
        let api_version = form.api_version();
        for other in managers.iter_mut() {
            other.fields = other.fields.difference(&diff.removed);
            if !other.is(manager, false, &api_version, subresource) {
                other.fields = other.fields.difference(&taken);
            }
        }
        let own = managers::entry(&mut managers, manager, false, &api_version, subresource);
        own.fields = own.fields.union(&taken);
        own.time = managers::stamp(now);
    }
    managers::write(new, managers);
}

fn is_tracked(form: Form<'_>, old: Option<&Value>, new: &Value) -> bool {
    let applied = |tree: &Value| {
        tree.list("metadata.managedFields").iter().any(|entry| entry.str("operation") == "Apply")
    };
    let owned = new.list("metadata.ownerReferences").iter().any(|owner| owner.flag("controller"));
    !owned && form.kind.declared.durability != Durability::Lazy
        || applied(new)
        || old.is_some_and(applied)
}

enum Failure {
    Conflicts(Vec<(String, Fields)>),
    Other(Status),
}

fn apply_once(request: Request<'_>, force: bool) -> Result<Value, Failure> {
    let Request { form, applied, manager, subresource, now, .. } = request;
    if applied.has("metadata.managedFields") {
        return Err(Failure::Other(Status::bad_request("metadata.managedFields must be nil")));
    }
    let node = Node::root(form);
    let live = request.live.cloned().unwrap_or_else(|| hollow(form));
    let old_managers = managers::read(&live).unwrap_or_default();
    let mut managers = old_managers.clone();
    let mut before = live.clone();
    before.remove("metadata.managedFields");
    let mut merged = before.clone();
    typed::merge(node, &mut merged, applied, "").map_err(Failure::Other)?;

    // What the manager applied before, applies no more, and nobody else manages, goes.
    let mut set = typed::to_set(node, applied);
    ignore(form, subresource, &mut set);
    let api_version = form.api_version();
    let own = managers::entry(&mut managers, manager, true, &api_version, subresource);
    let last = std::mem::replace(&mut own.fields, set);
    let kept = managers.iter().fold(Fields::default(), |all, manager| all.union(&manager.fields));
    typed::remove(node, &mut merged, &last.difference(&kept), &kept);

    let mut after = merged.clone();
    if let Err(status) = codec::check_fields(form, &mut after, FieldValidation::Ignore) {
        return Err(Failure::Other(status));
    }
    let diff = typed::compare(node, Some(&before), Some(&after));
    // What the manager applies as nothing (an empty list) is gone by now, and is a change that it made.
    let own = managers::entry(&mut managers, manager, true, &api_version, subresource);
    let emptied = diff.removed.intersection(&own.fields);
    let taken = diff.added.union(&diff.modified).union(&emptied);
    let is_own = |other: &Manager| other.is(manager, true, &api_version, subresource);
    let conflicts: Vec<(String, Fields)> = managers
        .iter()
        .filter(|other| !is_own(other))
        .map(|other| (other.shown(), other.fields.intersection(&taken)))
        .filter(|(_, fields)| !fields.is_empty())
        .collect();
    if !conflicts.is_empty() && !force {
        return Err(Failure::Conflicts(conflicts));
    }
    for other in managers.iter_mut().filter(|other| !is_own(other)) {
        other.fields = other.fields.difference(&diff.removed).difference(&taken);
    }
    if after == before && same_managers(&managers, &old_managers) && request.live.is_some() {
        return Ok(live);
    }
    managers::entry(&mut managers, manager, true, &api_version, subresource).time =
        managers::stamp(now);
    managers::write(&mut after, managers);
    Ok(after)
}

fn same_managers(new: &[Manager], old: &[Manager]) -> bool {
    let managing = |managers: &[Manager]| managers.iter().filter(|m| !m.fields.is_empty()).count();
    let same = |a: &Manager| {
        old.iter().any(|b| {
            b.is(&a.name, a.applies, &a.api_version, &a.subresource) && b.fields == a.fields
        })
    };
    managing(new) == managing(old) && new.iter().filter(|m| !m.fields.is_empty()).all(same)
}

/// What an object without any content looks like in canonical form: compared with it, only what was
/// really said counts as added.
fn hollow(form: Form<'_>) -> Value {
    let mut tree = json!({});
    // An empty object fits every schema.
    let _ = codec::check_fields(form, &mut tree, FieldValidation::Ignore);
    tree
}

/// Takes out what nobody manages: identity, what the server sets, and what this resource cannot write.
fn ignore(form: Form<'_>, subresource: &str, set: &mut Fields) {
    set.children.remove("f:apiVersion");
    set.children.remove("f:kind");
    for name in [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "generation",
        "managedFields",
        "resourceVersion",
    ] {
        set.remove_tree(&["f:metadata", &format!("f:{name}")]);
    }
    if let Some(metadata) = set.children.get_mut("f:metadata") {
        metadata.member = false;
        if metadata.is_empty() {
            set.children.remove("f:metadata");
        }
    }
    if form.has_status() {
        match subresource {
            "status" => set.remove_tree(&["f:spec"]),
            _ => set.remove_tree(&["f:status"]),
        }
    }
}

/// The fields of the last client-side apply, which kubectl leaves in an annotation.
fn last_applied(request: Request<'_>) -> Fields {
    let text = request.live.and_then(|live| live.entry("metadata.annotations", LAST_APPLIED));
    let Some(tree) = text.and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return Fields::default();
    };
    let mut set = typed::to_set(Node::root(request.form), &tree);
    // The annotation itself is kubectl's too.
    let annotation = json!({"f:metadata": {"f:annotations": {format!("f:{LAST_APPLIED}"): {}}}});
    set = set.union(&Fields::read(&annotation));
    set
}

impl Failure {
    /// In upstream's words.
    fn into_status(self) -> Status {
        let conflicts = match self {
            Failure::Other(status) => return status,
            Failure::Conflicts(conflicts) => conflicts,
        };
        let paths: Vec<(String, String)> = conflicts
            .into_iter()
            .flat_map(|(manager, fields)| {
                fields.paths().into_iter().map(move |path| (manager.clone(), path))
            })
            .collect();
        let causes: Vec<Value> = paths
            .iter()
            .map(|(manager, path)| {
                json!({
                    "reason": "FieldManagerConflict", "message": format!("conflict with {manager}"), "field": path,
                })
            })
            .collect();
        let message = match &paths[..] {
            [(manager, path)] => {
                format!("Apply failed with 1 conflict: conflict with {manager}: {path}")
            }
            _ => {
                let mut lines: Vec<String> = Vec::new();
                let mut last = "";
                for (manager, path) in &paths {
                    if manager != last {
                        lines.push(format!("conflicts with {manager}:"));
                        last = manager;
                    }
                    lines.push(format!("- {path}"));
                }
                format!("Apply failed with {} conflicts: {}", paths.len(), lines.join("\n"))
            }
        };
        Status::new(Reason::Conflict, message).detail("causes", causes)
    }
}

#[cfg(test)]
mod tests;
