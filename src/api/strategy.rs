//! What create and update do to an object before validation: the spec/status split, system
//! metadata, `metadata.generation`, and each kind's own resets.
//!
//! The server calls one of these after `defaults::apply`, then `validate`. Setting uid, names from
//! `generateName`, `creationTimestamp` and the namespace is the server's (it has clock and
//! randomness), before `create`: a job's selector is its uid.

use serde_json::Value;

use crate::codec;
use crate::kind::Kind;
use crate::lens::{Lens, LensMut};
use crate::schema::schema;

/// Prepares a tree for creation: no status, generation 1 where counted, no deletion marks.
pub fn create(kind: &'static Kind, new: &mut Value) {
    canonical(kind, new);
    if kind.has_status() {
        reset_status(kind, new);
    }
    for path in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        new.remove(&format!("metadata.{path}"));
    }
    if kind.generation && kind.stored() {
        new.set("metadata.generation", 1);
    }
    (kind.prepare)(new, None);
}

/// Prepares a replacement through the main resource: status and system metadata stay `old`'s;
/// the generation grows if anything outside metadata and status changed.
pub fn update(kind: &'static Kind, new: &mut Value, old: &Value) {
    canonical(kind, new);
    keep_system_metadata(new, old);
    if kind.has_status() {
        keep(new, old, "status");
    }
    (kind.prepare)(new, Some(old));
    if kind.generation && differs_beyond_metadata(new, old) {
        let generation = old.int("metadata.generation").unwrap_or(0) + 1;
        new.set("metadata.generation", generation);
    }
}

/// Prepares a replacement through the `status` subresource: the status changes and, of metadata,
/// what upstream's status strategy of the kind lets through.
pub fn update_status(kind: &'static Kind, new: &mut Value, old: &Value) {
    canonical(kind, new);
    let mut result = old.clone();
    match new.get_mut("status").map(Value::take) {
        Some(status) => result.set("status", status),
        None => {
            result.remove("status");
        }
    }
    let metadata = new.get_mut("metadata").map(Value::take).unwrap_or_default();
    result.set("metadata", metadata);
    *new = result;
    keep_system_metadata(new, old);
    match kind.name {
        // Old kubelets corrupted owners in a way that broke garbage collection.
        "Pod" => {
            keep(new, old, "metadata.ownerReferences");
            if new.str("status.qosClass").is_empty() {
                keep(new, old, "status.qosClass");
            }
        }
        "Deployment" => keep(new, old, "metadata.labels"),
        _ => {}
    }
}

/// Trees made in process (controllers, admission) skip the decoders; only canonical ones compare.
/// A value of a wrong type is left for `Object::from_tree` to refuse.
fn canonical(kind: &'static Kind, new: &mut Value) {
    let _ = codec::check_fields(kind, new, codec::FieldValidation::Ignore);
}

/// The empty status, as Go writes it: with the fields that are always there.
fn reset_status(kind: &'static Kind, new: &mut Value) {
    let status = schema().by_json(schema().root(kind), "status").map(codec::zero_of);
    match status {
        Some(status) if !status.is_null() => new.set("status", status),
        _ => {
            new.remove("status");
        }
    }
}

/// Marks that only the server changes.
fn keep_system_metadata(new: &mut Value, old: &Value) {
    for path in [
        "metadata.uid",
        "metadata.creationTimestamp",
        "metadata.generation",
        "metadata.deletionTimestamp",
        "metadata.deletionGracePeriodSeconds",
        "metadata.selfLink",
    ] {
        keep(new, old, path);
    }
}

fn keep(new: &mut Value, old: &Value, path: &str) {
    match old.at(path) {
        Value::Null => {
            new.remove(path);
        }
        value => new.set(path, value.clone()),
    }
}

fn differs_beyond_metadata(new: &Value, old: &Value) -> bool {
    let (Value::Object(new), Value::Object(old)) = (new, old) else { return new != old };
    let relevant =
        |key: &&String| !matches!(key.as_str(), "metadata" | "status" | "kind" | "apiVersion");
    new.keys().chain(old.keys()).filter(relevant).any(|key| {
        let (a, b) = (new.get(key), old.get(key));
        a.filter(|v| !v.is_null()) != b.filter(|v| !v.is_null())
    })
}
