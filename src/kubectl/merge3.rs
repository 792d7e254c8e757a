//! The patch of `apply`: from what was applied before, what is there, and what is wanted.
//!
//! Built-in kinds get strategic merge patches, by the merge keys of `api`'s schema; others get merge patches.

use api::schema::{Field, TypeId, schema};
use api::{Lens, Map, Value, json};
use stdx::Arrange;

/// Deeper than any object that a server stores.
const DEPTH_MAX: u32 = 128;

/// A built-in kind in a version.
pub(crate) fn resource_of(api_version: &str, kind: &str) -> Option<api::Resource> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kinds = api::Kinds::built_in();
    let own = kinds.by_name(group, kind)?;
    kinds.of_kind(own, group, version)
}

/// The type of a built-in kind, `None` for others.
pub(crate) fn type_of(api_version: &str, kind: &str) -> Option<TypeId> {
    resource_of(api_version, kind)?.form().table()
}

/// What turns `current` into `modified`, and takes away what only `original` had.
pub(crate) fn patch(
    original: &Value,
    current: &Value,
    modified: &Value,
    of: Option<TypeId>,
) -> Value {
    Value::Object(maps(original, current, modified, of, of.is_some(), 0))
}

fn field(of: Option<TypeId>, key: &str) -> Option<&'static Field> {
    schema().by_json(of?, key)
}

fn maps(
    original: &Value,
    current: &Value,
    modified: &Value,
    of: Option<TypeId>,
    strategic: bool,
    depth: u32,
) -> Map<String, Value> {
    let mut patch = Map::new();
    let (Value::Object(own), true) = (modified, depth < DEPTH_MAX) else { return patch };
    for (key, wanted) in own {
        let (before, now) = (original.get(key).unwrap_or(&Value::Null), current.get(key));
        let field = field(of, key);
        let inner = field.and_then(Field::message);
        match (now, wanted) {
            (Some(now), wanted) if now == wanted && before == wanted => {}
            (Some(now @ Value::Object(_)), Value::Object(_)) => {
                let mut sub = maps(before, now, wanted, inner, strategic, depth + 1);
                if !sub.is_empty() {
                    if strategic && field.is_some_and(Field::retain_keys) {
                        sub.insert("$retainKeys".to_owned(), keys(wanted));
                    }
                    patch.insert(key.clone(), Value::Object(sub));
                }
            }
            (Some(Value::Array(now)), Value::Array(wanted))
                if strategic && field.is_some_and(Field::merge) =>
            {
                let merge_key = field.map_or("", |it| it.extra().merge_key);
                let retains = field.is_some_and(Field::retain_keys);
                list(key, before, now, wanted, merge_key, (inner, retains, depth), &mut patch);
            }
            (Some(now), wanted) if now == wanted => {}
            (None, Value::Null) => {}
            (_, wanted) => {
                patch.insert(key.clone(), wanted.clone());
            }
        }
    }
    for key in original.as_object().into_iter().flat_map(|map| map.keys()) {
        if !own.contains_key(key) {
            patch.insert(key.clone(), Value::Null);
        }
    }
    patch
}

/// The names of a map's fields, in order.
fn keys(map: &Value) -> Value {
    let mut keys: Vec<&str> =
        map.as_object().into_iter().flat_map(|map| map.keys()).map(String::as_str).collect();
    keys.arrange();
    json!(keys)
}

/// A list that is merged: by a key, or as a set of values.
fn list(
    key: &str,
    before: &Value,
    now: &[Value],
    wanted: &[Value],
    merge_key: &str,
    (inner, retains, depth): (Option<TypeId>, bool, u32),
    patch: &mut Map<String, Value>,
) {
    let before = before.as_array().map_or(&[][..], Vec::as_slice);
    if merge_key.is_empty() {
        let added: Vec<Value> = wanted.iter().filter(|item| !now.contains(item)).cloned().collect();
        let gone: Vec<Value> =
            before.iter().filter(|item| !wanted.contains(item)).cloned().collect();
        let is_moved = now != wanted;
        if !added.is_empty() || !gone.is_empty() || is_moved {
            patch.insert(format!("$setElementOrder/{key}"), Value::Array(wanted.to_vec()));
        }
        if !added.is_empty() {
            patch.insert(key.to_owned(), Value::Array(added));
        }
        if !gone.is_empty() {
            patch.insert(format!("$deleteFromPrimitiveList/{key}"), Value::Array(gone));
        }
        return;
    }
    let find = |list: &[Value], wanted: &Value| {
        list.iter().find(|item| item.get(merge_key) == Some(wanted)).cloned()
    };
    let mut items: Vec<Value> = Vec::new();
    for item in wanted {
        let id = item.get(merge_key).cloned().unwrap_or(Value::Null);
        match find(now, &id) {
            Some(own) => {
                let was = find(before, &id).unwrap_or(Value::Null);
                let mut sub = maps(&was, &own, item, inner, true, depth + 1);
                if !sub.is_empty() {
                    if retains {
                        sub.insert("$retainKeys".to_owned(), keys(item));
                    }
                    sub.insert(merge_key.to_owned(), id);
                    items.push(Value::Object(sub));
                }
            }
            None => items.push(item.clone()),
        }
    }
    for item in before {
        let id = item.get(merge_key).cloned().unwrap_or(Value::Null);
        if find(wanted, &id).is_none() {
            items.push(json!({"$patch": "delete", merge_key: id}));
        }
    }
    let ids = |list: &[Value]| -> Vec<Value> {
        list.iter().map(|item| item.get(merge_key).cloned().unwrap_or(Value::Null)).collect()
    };
    if !items.is_empty() || ids(now) != ids(wanted) {
        let order: Vec<Value> = ids(wanted).into_iter().map(|id| json!({merge_key: id})).collect();
        patch.insert(format!("$setElementOrder/{key}"), Value::Array(order));
    }
    if !items.is_empty() {
        patch.insert(key.to_owned(), Value::Array(items));
    }
}

/// Whether a patch changes nothing.
pub(crate) fn is_empty(patch: &Value) -> bool {
    patch.at("").as_object().is_some_and(Map::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_ours_is_taken_away() {
        let original = json!({"data": {"a": "1", "b": "2"}});
        let current = json!({"data": {"a": "1", "b": "2", "c": "3"}, "metadata": {"uid": "x"}});
        let modified = json!({"data": {"a": "9"}});
        let want = json!({"data": {"a": "9", "b": null}});
        assert_eq!(patch(&original, &current, &modified, None), want);
        assert!(is_empty(&patch(&modified, &modified, &modified, None)));
    }

    #[test]
    fn containers_are_merged_by_name() {
        let of = type_of("apps/v1", "Deployment");
        assert!(of.is_some());
        let with =
            |containers: Value| json!({"spec": {"template": {"spec": {"containers": containers}}}});
        let original = with(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]));
        let current =
            with(json!([{"name": "a", "image": "1", "extra": true}, {"name": "b", "image": "1"}]));
        let modified = with(json!([{"name": "a", "image": "2"}]));
        let want = json!({"spec": {"template": {"spec": {
            "$setElementOrder/containers": [{"name": "a"}],
            "containers": [{"image": "2", "name": "a"}, {"$patch": "delete", "name": "b"}],
        }}}});
        assert_eq!(patch(&original, &current, &modified, of), want);
    }
}
