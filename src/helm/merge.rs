//! Three-way merges: what a release said before and says now, over what is there.
//!
//! What a chart never said stays as others have made it. Built-in kinds merge as strategic merge patches do, by the
//! keys that the schema names; all else as JSON merge patches do.

use api::schema::{Field, Shape, TypeId, schema};
use api::{Map, Value};

/// Deeper than any object that the API takes.
const DEPTH_MAX: u32 = 100;

/// Changes `live` as Helm would: what `new` says counts, what `old` said and `new` does not goes. `id` is the type of
/// the object in the schema.
pub(crate) fn three_way(id: Option<TypeId>, live: &mut Value, old: &Value, new: &Value) {
    let (Value::Object(live), Value::Object(new)) = (live, new) else { return };
    merge_maps(id, live, old.as_object().unwrap_or(&Map::new()), new, 0);
}

/// A JSON merge patch that makes `new` of what was `old`, and says again all that `new` says.
pub(crate) fn merge_patch(old: &Value, new: &Value) -> Value {
    patch_of(old, new, 0)
}

fn patch_of(old: &Value, new: &Value, depth: u32) -> Value {
    let Value::Object(new) = new else { return new.clone() };
    let mut patch = Map::new();
    let old = old.as_object();
    for key in old.into_iter().flat_map(Map::keys).filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        let before = old.and_then(|old| old.get(key)).unwrap_or(&Value::Null);
        let value =
            if depth < DEPTH_MAX { patch_of(before, value, depth + 1) } else { value.clone() };
        patch.insert(key.clone(), value);
    }
    Value::Object(patch)
}

fn merge_maps(
    id: Option<TypeId>,
    live: &mut Map<String, Value>,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    depth: u32,
) {
    live.retain(|key, _| new.contains_key(key) || !old.contains_key(key));
    for (key, value) in new {
        let field = id.and_then(|id| schema().by_json(id, key));
        // Below maps from texts nothing merges specially.
        let inner = field.filter(|field| field.shape != Shape::Map).and_then(Field::message);
        let before = old.get(key);
        match (live.get_mut(key), value) {
            (_, Value::Null) => {
                live.remove(key);
            }
            (Some(Value::Object(target)), Value::Object(value)) if depth < DEPTH_MAX => {
                let empty = Map::new();
                let before = before.and_then(Value::as_object).unwrap_or(&empty);
                merge_maps(inner, target, before, value, depth + 1);
                if field.is_some_and(Field::retain_keys) {
                    target.retain(|key, _| value.contains_key(key));
                }
            }
            (Some(Value::Array(target)), Value::Array(value))
                if depth < DEPTH_MAX && field.is_some_and(Field::merge) =>
            {
                let before = before.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                let how = Items {
                    id: inner,
                    key: field.map_or("", |field| field.extra().merge_key),
                    retains: field.is_some_and(Field::retain_keys),
                };
                how.merge(target, before, value, depth + 1);
            }
            _ => {
                live.insert(key.clone(), value.clone());
            }
        }
    }
}

/// How the items of a list are told apart.
struct Items {
    id: Option<TypeId>,
    /// "" for items that are their own keys.
    key: &'static str,
    retains: bool,
}

impl Items {
    fn of<'v>(&self, item: &'v Value) -> Option<&'v Value> {
        if self.key.is_empty() { Some(item) } else { item.get(self.key) }
    }

    /// In the order of `new`, and then what only others have put there.
    fn merge(&self, live: &mut Vec<Value>, old: &[Value], new: &[Value], depth: u32) {
        let keys: Vec<&Value> = new.iter().filter_map(|item| self.of(item)).collect();
        let is_ambiguous = (1..keys.len()).any(|at| keys[..at].contains(&keys[at]));
        // Without keys of their own items cannot be told apart.
        if keys.len() < new.len() || is_ambiguous {
            *live = new.to_vec();
            return;
        }
        let find =
            |list: &[Value], key: &Value| list.iter().position(|it| self.of(it) == Some(key));
        let mut merged = Vec::with_capacity(new.len());
        for (item, key) in new.iter().zip(&keys) {
            let Some(at) = find(live, key) else {
                merged.push(item.clone());
                continue;
            };
            let mut target = live.remove(at);
            if let (Value::Object(target), Value::Object(item)) = (&mut target, item) {
                let empty = Map::new();
                let before = find(old, key).and_then(|at| old[at].as_object()).unwrap_or(&empty);
                merge_maps(self.id, target, before, item, depth);
                if self.retains {
                    target.retain(|key, _| item.contains_key(key));
                }
            }
            merged.push(target);
        }
        live.retain(|item| self.of(item).is_none_or(|key| find(old, key).is_none()));
        merged.append(live);
        *live = merged;
    }
}

#[cfg(test)]
mod tests {
    use api::json;
    use api::kinds::{DEPLOYMENT, SERVICE};

    use super::*;

    fn check(kind: &'static api::Kind, [live, old, new, wanted]: [Value; 4]) {
        let mut merged = live;
        three_way(schema().stored(kind), &mut merged, &old, &new);
        assert_eq!(merged, wanted);
    }

    #[test]
    fn what_others_have_set_stays() {
        let spec =
            |containers: Value| json!({"spec": {"template": {"spec": {"containers": containers}}}});
        check(
            &DEPLOYMENT,
            [
                json!({"metadata": {"labels": {"x": "1"}}, "spec": {"replicas": 3, "template": {"spec": {
                "restartPolicy": "Always",
                "containers": [
                    {"name": "side", "image": "s"},
                    {"name": "a", "image": "1", "env": [{"name": "E", "value": "1"}], "imagePullPolicy": "Always"},
                    {"name": "gone", "image": "g"},
                ]}}}}),
                spec(
                    json!([{"name": "a", "image": "1", "env": [{"name": "E", "value": "1"}]}, {"name": "gone"}]),
                ),
                spec(json!([{"name": "new", "image": "n"}, {"name": "a", "image": "2"}])),
                json!({"metadata": {"labels": {"x": "1"}}, "spec": {"replicas": 3, "template": {"spec": {
                "restartPolicy": "Always",
                "containers": [
                    {"name": "new", "image": "n"},
                    {"name": "a", "image": "2", "imagePullPolicy": "Always"},
                    {"name": "side", "image": "s"},
                ]}}}}),
            ],
        );
    }

    #[test]
    fn lists_without_keys_are_replaced_and_nulls_delete() {
        check(
            &SERVICE,
            [
                json!({"spec": {"clusterIP": "1", "ports": [{"port": 1, "nodePort": 30000}], "externalIPs": ["a"], "selector": {"a": "b"}}}),
                json!({"spec": {"ports": [{"port": 1}], "selector": {"a": "b"}}}),
                json!({"spec": {"ports": [{"port": 1, "name": "x"}], "externalIPs": ["c"], "type": null}}),
                json!({"spec": {"clusterIP": "1", "ports": [{"port": 1, "nodePort": 30000, "name": "x"}], "externalIPs": ["c"]}}),
            ],
        );
        // DNS over both protocols: the key does not tell the two apart.
        let both = json!({"spec": {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}});
        check(
            &SERVICE,
            [json!({"spec": {"ports": [{"port": 53}]}}), json!({}), both.clone(), both],
        );
    }

    #[test]
    fn the_only_keys_of_a_union_are_those_that_are_said() {
        check(
            &DEPLOYMENT,
            [
                json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
                json!({"spec": {"strategy": {"type": "RollingUpdate"}}}),
                json!({"spec": {"strategy": {"type": "Recreate"}}}),
                json!({"spec": {"strategy": {"type": "Recreate"}}}),
            ],
        );
    }

    #[test]
    fn patches_of_custom_objects_delete_what_was_said() {
        let patch = merge_patch(
            &json!({"spec": {"a": 1, "b": {"c": 1, "d": 2}, "l": [1]}}),
            &json!({"spec": {"b": {"d": 2}, "l": [2]}}),
        );
        assert_eq!(patch, json!({"spec": {"a": null, "b": {"c": null, "d": 2}, "l": [2]}}));
    }
}
