//! What several controllers share.

pub(crate) mod claim;
pub(crate) mod conditions;
pub(crate) mod kinds;
pub(crate) mod names;
pub(crate) mod nodes;
pub(crate) mod pods;
pub(crate) mod revisions;
pub(crate) mod settings;

use std::time::Duration;

use api::{Actions, Lens, LensMut, Object, Value, json};
use stdx::time::Wall;

/// Equal as Go's semantic DeepEqual sees it: absent, null and empty are one.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            x.iter().all(|(key, value)| same(value, y.get(key).unwrap_or(&Value::Null)))
                && y.iter().all(|(key, value)| x.contains_key(key) || is_empty(value))
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(a, b)| same(a, b))
        }
        _ => a == b || (is_empty(a) && is_empty(b)),
    }
}

/// Nothing, or only maps and lists of nothing.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_empty),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Writes `status` if it says anything new.
pub(crate) fn write_status(actions: &mut Actions, object: &Object, tree: &Value, status: Value) {
    if !same(tree.at("status"), &status) {
        let mut tree = tree.clone();
        tree.set("status", status);
        // What differs here may be the same at rest: zeros that the codec leaves out.
        let at_rest = Object::from_tree(object.kind(), &tree);
        if at_rest.is_ok_and(|encoded| encoded.bytes() == object.bytes()) {
            return;
        }
        actions.update_status(object.kind(), tree);
    }
}

/// An owner reference that makes `owner` the controller.
pub(crate) fn controller_reference(owner: &Object) -> Value {
    let kind = owner.kind();
    json!({
        "apiVersion": owner.api_version(), "kind": kind.name, "name": owner.name(),
        "uid": owner.uid(), "controller": true, "blockOwnerDeletion": true,
    })
}

/// True if `owner` controls `object`.
pub(crate) fn controls(owner: &Object, object: &Object) -> bool {
    object.controller().is_some_and(|reference| &*reference.uid == owner.uid())
}

/// The time at `path`, if there is one.
pub(crate) fn time_at(tree: &Value, path: &str) -> Option<Wall> {
    api::time::parse(tree.str(path))
}

pub(crate) fn created(tree: &Value) -> Wall {
    time_at(tree, "metadata.creationTimestamp").unwrap_or_default()
}

pub(crate) fn seconds(value: i64) -> Duration {
    Duration::from_secs(u64::try_from(value).unwrap_or(0))
}

/// An `IntOrString` of `total`: a number, or a percentage rounded up or down.
pub(crate) fn scaled(value: &Value, total: i64, round_up: bool) -> i64 {
    if let Some(number) = value.as_i64() {
        return number;
    }
    let percent = value.as_str().and_then(|text| text.strip_suffix('%')?.parse::<i64>().ok());
    let product = percent.unwrap_or(0).saturating_mul(total);
    match round_up {
        true => product.saturating_add(99).div_euclid(100),
        false => product.div_euclid(100),
    }
}

/// `metadata.finalizers` without `finalizer`, if it was there.
pub(crate) fn without_finalizer(tree: &Value, finalizer: &str) -> Option<Value> {
    let list = tree.list("metadata.finalizers");
    let kept: Vec<Value> = list.iter().filter(|f| *f != finalizer).cloned().collect();
    (kept.len() != list.len()).then(|| json!({"metadata": {"finalizers": kept}}))
}

/// `metadata.finalizers` with `finalizer` added, if it was not there.
pub(crate) fn with_finalizer(tree: &Value, finalizer: &str) -> Option<Value> {
    let mut list = tree.list("metadata.finalizers").to_vec();
    if list.iter().any(|f| f == finalizer) {
        return None;
    }
    list.push(finalizer.into());
    Some(json!({"metadata": {"finalizers": list}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sameness() {
        assert!(same(&json!({"a": null, "b": {}, "c": 1}), &json!({"c": 1, "d": []})));
        assert!(!same(&json!({"a": 0}), &json!({})));
        assert!(!same(&json!([1, 2]), &json!([2, 1])));
        assert!(same(&json!({"x": {"y": [{"z": {}}]}}), &json!({"x": {"y": [{}]}})));
    }

    #[test]
    fn percentages() {
        for (value, total, up, down) in [
            (json!("25%"), 10, 3, 2),
            (json!("25%"), 3, 1, 0),
            (json!(2), 10, 2, 2),
            (json!("100%"), 7, 7, 7),
            (json!("x"), 7, 0, 0),
        ] {
            assert_eq!((scaled(&value, total, true), scaled(&value, total, false)), (up, down));
        }
    }
}
