//! What a replacement leaves as it was.

use api::lens::{Lens, LensMut};
use serde_json::Value;

/// What is at `path` stays as it was.
pub(crate) fn keep(new: &mut Value, old: &Value, path: &str) {
    match old.at(path) {
        Value::Null => {
            new.remove(path);
        }
        value => new.set(path, value.clone()),
    }
}

/// Metadata that a status strategy of upstream's keeps as it was (`ResetObjectMetaForStatus`).
pub(crate) fn keep_metadata(new: &mut Value, old: &Value) {
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        keep(new, old, &format!("metadata.{field}"));
    }
}
