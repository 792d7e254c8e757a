//! What create and update do to an object before validation: the spec/status split, system
//! metadata, `metadata.generation`, and each kind's own resets.
//!
//! The server calls one of these after `defaults::apply`, then `validate`. Setting uid, names from
//! `generateName`, `creationTimestamp` and the namespace is the server's (it has clock and
//! randomness), before `create`: a job's selector is its uid.

use api::codec;
use api::form::Form;
use api::kinds::ENDPOINT_SLICE;
use api::lens::{Lens, LensMut};
use api::schema::schema;
use serde_json::Value;

use crate::gates;
use crate::keep::keep;
use crate::kinds;

/// Prepares a tree for creation: no status, generation 1 where counted, no deletion marks.
pub fn create<'f>(form: impl Into<Form<'f>>, new: &mut Value) {
    let form = form.into();
    let kind = form.kind;
    canonical(form, new);
    if form.has_status() {
        reset_status(form, new);
    }
    for path in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        new.remove(&format!("metadata.{path}"));
    }
    if kind.declared.generation && kind.stored() {
        new.set("metadata.generation", 1);
    }
    gates::drop_disabled(kind, new, None);
    (kinds::of(kind).prepare)(new, None);
}

/// Prepares a replacement through the main resource: status and system metadata stay `old`'s;
/// the generation grows if anything outside metadata and status changed.
pub fn update<'f>(form: impl Into<Form<'f>>, new: &mut Value, old: &Value) {
    let form = form.into();
    let kind = form.kind;
    canonical(form, new);
    keep_system_metadata(new, old);
    let (has_status, built_in) = (form.has_status(), kind.is_built_in());
    if has_status {
        keep(new, old, "status");
    }
    // Upstream counts what an EndpointSlice is asked to be, with its labels, and drops what it may not be afterwards.
    let slice = *kind == ENDPOINT_SLICE;
    let differs = slice
        && (new.at("metadata.labels") != old.at("metadata.labels")
            || differs_beyond_metadata(new, old, false));
    gates::drop_disabled(kind, new, Some(old));
    (kinds::of(kind).prepare)(new, Some(old));
    if kind.declared.generation
        && (differs || (!slice && differs_beyond_metadata(new, old, has_status || built_in)))
    {
        let generation = old.int("metadata.generation").unwrap_or(0) + 1;
        new.set("metadata.generation", generation);
    }
}

/// Prepares a replacement through the `status` subresource: the status changes and, of metadata,
/// what upstream's status strategy of the kind lets through.
pub fn update_status<'f>(form: impl Into<Form<'f>>, new: &mut Value, old: &Value) {
    let form = form.into();
    canonical(form, new);
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
    (kinds::of(form.kind).prepare_status)(new, old);
}

/// Trees made in process (controllers, admission) skip the decoders; only canonical ones compare.
/// A value of a wrong type is left for `Object::from_tree` to refuse.
fn canonical(form: Form<'_>, new: &mut Value) {
    let _ = codec::check_fields(form, new, codec::FieldValidation::Ignore);
}

/// The empty status, as Go writes it: with the fields that are always there.
fn reset_status(form: Form<'_>, new: &mut Value) {
    let status = form.table().and_then(|root| schema().by_json(root, "status")).map(codec::zero_of);
    match status {
        Some(status) if !status.is_null() => new.set("status", status),
        _ => {
            new.remove("status");
        }
    }
}

/// Marks that only the server changes. Those of a deletion that is not under way are left for the
/// validation to refuse, as upstream.
fn keep_system_metadata(new: &mut Value, old: &Value) {
    for path in
        ["metadata.uid", "metadata.creationTimestamp", "metadata.generation", "metadata.selfLink"]
    {
        keep(new, old, path);
    }
    let (time, grace) = ("metadata.deletionTimestamp", "metadata.deletionGracePeriodSeconds");
    if old.has(time) {
        keep(new, old, time);
    }
    if old.has(grace) && !new.has(grace) {
        keep(new, old, grace);
    }
}

/// `status` does not count where it is a subresource.
fn differs_beyond_metadata(new: &Value, old: &Value, has_status: bool) -> bool {
    let (Value::Object(new), Value::Object(old)) = (new, old) else { return new != old };
    let relevant = |key: &&String| match key.as_str() {
        "metadata" | "kind" | "apiVersion" => false,
        "status" => !has_status,
        _ => true,
    };
    new.keys().chain(old.keys()).filter(relevant).any(|key| {
        let (a, b) = (new.get(key), old.get(key));
        a.filter(|v| !v.is_null()) != b.filter(|v| !v.is_null())
    })
}
