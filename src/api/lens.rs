//! Reading and changing trees by path without unwrapping at each step.

use serde_json::{Map, Value};

static NULL: Value = Value::Null;

/// Borrowing reads. A path is field names joined by dots; a number picks a list element.
/// What is absent or of another type reads as null, empty, zero or `None`, never an error:
/// validation has run before brains see an object. Keys that hold dots (labels, annotations,
/// data) are reached with `at(...)` and then `Value::get`.
pub trait Lens {
    /// The value at `path`, or null.
    fn at(&self, path: &str) -> &Value;

    /// The string at `path`, or "".
    fn str(&self, path: &str) -> &str {
        self.at(path).as_str().unwrap_or("")
    }

    /// The integer at `path`.
    fn int(&self, path: &str) -> Option<i64> {
        self.at(path).as_i64()
    }

    /// The boolean at `path`, false if absent.
    fn flag(&self, path: &str) -> bool {
        self.at(path).as_bool().unwrap_or(false)
    }

    /// The list at `path`, empty if absent.
    fn list(&self, path: &str) -> &[Value] {
        self.at(path).as_array().map_or(&[], Vec::as_slice)
    }

    /// The entries of the map at `path` with string values, in key order.
    fn pairs(&self, path: &str) -> impl Iterator<Item = (&str, &str)> {
        self.at(path)
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(k, v)| Some((k.as_str(), v.as_str()?)))
    }

    /// The value of `key` in the map at `path`; for keys that hold dots.
    fn entry(&self, path: &str, key: &str) -> Option<&str> {
        self.at(path).get(key)?.as_str()
    }

    /// True if there is something other than null at `path`.
    fn has(&self, path: &str) -> bool {
        !self.at(path).is_null()
    }
}

impl Lens for Value {
    fn at(&self, path: &str) -> &Value {
        if path.is_empty() {
            return self;
        }
        let mut value = self;
        for part in path.split('.') {
            let next = match value {
                Value::Object(map) => map.get(part),
                Value::Array(items) => part.parse::<usize>().ok().and_then(|idx| items.get(idx)),
                _ => None,
            };
            match next {
                Some(next) => value = next,
                None => return &NULL,
            }
        }
        value
    }
}

/// Changes by path; missing maps on the way are made, other types on the way are replaced by maps.
pub trait LensMut {
    /// The place at `path`, made (null) if absent.
    fn slot(&mut self, path: &str) -> &mut Value;

    /// Puts `value` at `path`.
    fn set(&mut self, path: &str, value: impl Into<Value>) {
        *self.slot(path) = value.into();
    }

    /// Puts `value` at `path` if nothing (or null) is there.
    fn set_default(&mut self, path: &str, value: impl Into<Value>) {
        let slot = self.slot(path);
        if slot.is_null() {
            *slot = value.into();
        }
    }

    /// The map at `path`, made if absent.
    fn map_mut(&mut self, path: &str) -> &mut Map<String, Value>;

    /// The list at `path`, made if absent.
    fn list_mut(&mut self, path: &str) -> &mut Vec<Value>;

    /// Takes the value at `path` out, if there is one; makes nothing.
    fn remove(&mut self, path: &str) -> Option<Value>;

    /// The existing value at `path`, without making anything.
    fn at_mut(&mut self, path: &str) -> Option<&mut Value>;
}

impl LensMut for Value {
    fn slot(&mut self, path: &str) -> &mut Value {
        let mut value = self;
        if path.is_empty() {
            return value;
        }
        for part in path.split('.') {
            let idx = match &*value {
                Value::Array(items) => part.parse::<usize>().ok().filter(|idx| *idx < items.len()),
                _ => None,
            };
            if idx.is_none() && !value.is_object() {
                *value = Value::Object(Map::new());
            }
            value = match (value, idx) {
                (Value::Array(items), Some(idx)) => &mut items[idx],
                (Value::Object(map), _) => map.entry(part).or_insert(Value::Null),
                _ => unreachable!("neither list with index nor map, though made one just above"),
            };
        }
        value
    }

    fn map_mut(&mut self, path: &str) -> &mut Map<String, Value> {
        let slot = self.slot(path);
        if !slot.is_object() {
            *slot = Value::Object(Map::new());
        }
        match slot {
            Value::Object(map) => map,
            _ => unreachable!("made a map just above"),
        }
    }

    fn list_mut(&mut self, path: &str) -> &mut Vec<Value> {
        let slot = self.slot(path);
        if !slot.is_array() {
            *slot = Value::Array(Vec::new());
        }
        match slot {
            Value::Array(items) => items,
            _ => unreachable!("made a list just above"),
        }
    }

    fn remove(&mut self, path: &str) -> Option<Value> {
        match path.rsplit_once('.') {
            None => self.as_object_mut()?.remove(path),
            Some((parent, last)) => match self.at_mut(parent)? {
                Value::Object(map) => map.remove(last),
                Value::Array(items) => {
                    let idx = last.parse::<usize>().ok().filter(|idx| *idx < items.len())?;
                    Some(items.remove(idx))
                }
                _ => None,
            },
        }
    }

    fn at_mut(&mut self, path: &str) -> Option<&mut Value> {
        let mut value = self;
        if path.is_empty() {
            return Some(value);
        }
        for part in path.split('.') {
            value = match value {
                Value::Object(map) => map.get_mut(part)?,
                Value::Array(items) => items.get_mut(part.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_read_and_write() {
        let mut v = json!({"spec": {"containers": [{"name": "a"}], "replicas": 3}, "metadata": {"labels": {"a.b/c": "d"}}});
        assert_eq!(v.str("spec.containers.0.name"), "a");
        assert_eq!(v.int("spec.replicas"), Some(3));
        assert_eq!(v.entry("metadata.labels", "a.b/c"), Some("d"));
        assert!(!v.has("spec.template.spec"));
        v.set("spec.template.spec.nodeName", "n");
        v.set("spec.containers.0.image", "i");
        v.set_default("spec.replicas", 5);
        assert_eq!(v.str("spec.template.spec.nodeName"), "n");
        assert_eq!(v.str("spec.containers.0.image"), "i");
        assert_eq!(v.int("spec.replicas"), Some(3));
        assert_eq!(v.remove("spec.template"), Some(json!({"spec": {"nodeName": "n"}})));
        assert_eq!(v.remove("spec.nothing.here"), None);
        assert!(!v.has("spec.nothing"));
    }
}
