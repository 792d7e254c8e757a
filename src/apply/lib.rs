//! Server-side apply: who manages which field (`metadata.managedFields`), conflicts, and merging.
//!
//! Source: k8s.io/apimachinery/pkg/util/managedfields and sigs.k8s.io/structured-merge-diff.

mod fields;
mod managers;
mod read;
mod shape;
mod typed;
mod upgrade;

use std::fmt::Write;

use api::codec::{self, FieldValidation};
use api::form::Form;
use api::lens::{Lens, LensMut};
use api::status::{Reason, Status};
use serde_json::{Value, json};
use stdx::time::Wall;

use fields::Fields;
use managers::Manager;
use typed::Node;

pub use read::decode;
pub use shape::check as check_shape;
pub use upgrade::{annotators, upgraded};

/// How much memory is taken while it is recorded who manages what `tree` says, about, in bytes; more rather than less.
pub fn record_bytes(tree: &Value) -> usize {
    fields::cost(tree)
}

/// What `kubectl apply` remembers of its last run without server-side apply.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// How many conflicts are told one by one. They are all counted.
const CONFLICTS_TOLD_MAX: usize = 1000;

/// Who manages what was there before the first apply, where nobody was tracked.
const BEFORE: &str = "before-first-apply";

/// One apply request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub form: Form<'a>,
    /// The object as stored, converted to `form`; `None` creates it.
    pub live: Option<&'a Value>,
    /// What the client sent, read by [`decode`].
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
                .map(|(manager, mut fields)| {
                    fields.subtract(&own);
                    (manager, fields)
                })
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
pub fn track<'f>(
    form: impl Into<Form<'f>>,
    manager: &str,
    subresource: &str,
    now: Wall,
    old: Option<&Value>,
    new: &mut Value,
) {
    let form = form.into();
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
    let mut taken = diff.added;
    taken.join(diff.modified);
    if !(taken.is_empty() && diff.removed.is_empty()) {
        let api_version = form.api_version();
        for other in managers.iter_mut() {
            other.fields.subtract(&diff.removed);
            if !other.is(manager, false, &api_version, subresource) {
                other.fields.subtract(&taken);
            }
        }
        let own = managers::entry(&mut managers, manager, false, &api_version, subresource);
        own.fields.join(taken);
        own.time = managers::stamp(now);
    }
    managers::write(new, managers);
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
    let made;
    let live = match request.live {
        Some(live) => live,
        None => {
            made = hollow(form);
            &made
        }
    };
    let mut managers = managers::read(live).unwrap_or_default();
    if request.live.is_some() && managers.is_empty() {
        // What nobody was tracked for is somebody's all the same, as upstream.
        let own = managers::entry(&mut managers, BEFORE, false, &form.api_version(), "");
        let diff = typed::compare(node, Some(&hollow(form)), Some(live));
        own.fields = diff.added;
        own.fields.join(diff.modified);
        ignore(form, "", &mut own.fields);
        own.time = managers::stamp(now);
    }
    let mut after = live.clone();
    after.remove("metadata.managedFields");
    typed::merge(node, &mut after, applied, "").map_err(Failure::Other)?;

    // What the manager applied before, applies no more, and nobody else manages, goes.
    let mut set = typed::to_set(node, applied);
    ignore(form, subresource, &mut set);
    let api_version = form.api_version();
    let own = managers::entry(&mut managers, manager, true, &api_version, subresource);
    let mut doomed = std::mem::replace(&mut own.fields, set);
    managers.iter().for_each(|manager| doomed.subtract(&manager.fields));
    if !doomed.is_empty() {
        let mut kept = Fields::default();
        managers.iter().for_each(|manager| kept.join(manager.fields.clone()));
        typed::remove(node, &mut after, &doomed, &kept);
    }
    drop(doomed);

    // As upstream, before anything is read: who writes the same value in another form (`cpu: 1` for `"1"`) changes it.
    let is_own = |other: &Manager| other.is(manager, true, &api_version, subresource);
    let (said, unsaid) = changes(node, live, &after, &managers, is_own);
    if !force {
        let conflicts: Vec<(String, Fields)> = managers
            .iter()
            .filter(|other| !is_own(other))
            .map(|other| (other.shown(), other.fields.intersection(&said)))
            .filter(|(_, fields)| !fields.is_empty())
            .collect();
        if !conflicts.is_empty() {
            return Err(Failure::Conflicts(conflicts));
        }
    }
    read::convert(form, &mut after, applied).map_err(Failure::Other)?;
    let (taken, removed) = changes(node, live, &after, &managers, is_own);
    for other in managers.iter_mut().filter(|other| !is_own(other)) {
        for fields in [&removed, &taken, &said] {
            other.fields.subtract(fields);
        }
    }
    let is_same = || {
        let old_managers = managers::read(live).unwrap_or_default();
        same_but_for_managers(&after, live) && same_managers(&managers, &old_managers)
    };
    if request.live.is_some() && is_same() {
        return Ok(live.clone());
    }
    // Who only comes to manage what is there already gets no time, as upstream, or keeps its own.
    if request.live.is_none() || !(said.is_empty() && unsaid.is_empty()) {
        managers::entry(&mut managers, manager, true, &api_version, subresource).time =
            managers::stamp(now);
    }
    managers::write(&mut after, managers);
    Ok(after)
}

/// What an apply takes over, and what it removes.
fn changes(
    node: Node<'_>,
    live: &Value,
    after: &Value,
    managers: &[Manager],
    is_own: impl Fn(&Manager) -> bool,
) -> (Fields, Fields) {
    let mut diff = typed::compare(node, Some(live), Some(after));
    // They are written anew later.
    diff.removed.remove_tree(&["f:metadata", "f:managedFields"]);
    let mut taken = diff.added;
    taken.join(diff.modified);
    // What the manager applies as nothing (an empty list) is gone once it is read, and is a change that it made.
    if let Some(own) = managers.iter().find(|manager| is_own(manager)) {
        taken.join(diff.removed.intersection(&own.fields));
    }
    (taken, diff.removed)
}

/// Whether two objects differ in nothing but who manages them.
fn same_but_for_managers(a: &Value, b: &Value) -> bool {
    fn but<'v>(map: &'v Value, left_out: &'v str) -> impl Iterator<Item = (&'v String, &'v Value)> {
        map.as_object().into_iter().flatten().filter(move |(key, _)| *key != left_out)
    }
    but(a, "metadata").eq(but(b, "metadata"))
        && but(a.at("metadata"), "managedFields").eq(but(b.at("metadata"), "managedFields"))
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
    set.join(Fields::read(&annotation));
    set
}

impl Failure {
    /// In upstream's words.
    fn into_status(self) -> Status {
        let conflicts = match self {
            Failure::Other(status) => return status,
            Failure::Conflicts(conflicts) => conflicts,
        };
        let (mut n_paths, mut causes, mut lines) = (0, Vec::new(), String::new());
        for (manager, fields) in &conflicts {
            let _ = write!(lines, "\nconflicts with {manager}:");
            fields.each_path(&mut String::new(), &mut |path| {
                n_paths += 1;
                if n_paths > CONFLICTS_TOLD_MAX {
                    return;
                }
                let _ = write!(lines, "\n- {path}");
                causes.push(json!({
                    "reason": "FieldManagerConflict", "message": format!("conflict with {manager}"), "field": path,
                }));
            });
        }
        let message = match &causes[..] {
            [cause] => {
                format!(
                    "Apply failed with 1 conflict: {}: {}",
                    cause.str("message"),
                    cause.str("field")
                )
            }
            _ => format!("Apply failed with {n_paths} conflicts:{}", lines.replacen('\n', " ", 1)),
        };
        Status::new(Reason::Conflict, message).detail("causes", causes)
    }
}

#[cfg(test)]
mod stored_tests;
#[cfg(test)]
mod tests;
