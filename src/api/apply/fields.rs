//! Sets of fields: `FieldsV1`, a tree of path elements.
//!
//! Source: sigs.k8s.io/structured-merge-diff, fieldpath. Elements are kept as they are written:
//! `f:name` a field, `k:{"name":"a"}` a list item by its keys, `v:"x"` a list item by its value;
//! `.` says that the element itself belongs to the set beside what is below it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// How deep field sets may nest.
const DEPTH_MAX: u32 = 100;

/// A set of paths below one element, and whether the element itself belongs to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    pub member: bool,
    pub children: BTreeMap<String, Fields>,
}

impl Fields {
    /// The element itself, and nothing below.
    pub(crate) fn leaf() -> Fields {
        Fields { member: true, children: BTreeMap::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(Fields::is_empty)
    }

    /// Adds `child` under `element`, unless it is empty.
    pub(crate) fn put(&mut self, element: String, child: Fields) {
        if !child.is_empty() {
            self.children.insert(element, child);
        }
    }

    pub(crate) fn union(&self, other: &Fields) -> Fields {
        let mut result = self.clone();
        result.member |= other.member;
        for (element, child) in &other.children {
            let merged =
                result.children.get(element).map_or_else(|| child.clone(), |own| own.union(child));
            result.put(element.clone(), merged);
        }
        result
    }

    pub(crate) fn difference(&self, other: &Fields) -> Fields {
        let mut result = Fields { member: self.member && !other.member, ..Fields::default() };
        for (element, child) in &self.children {
            let left =
                other.children.get(element).map_or_else(|| child.clone(), |o| child.difference(o));
            result.put(element.clone(), left);
        }
        result
    }

    pub(crate) fn intersection(&self, other: &Fields) -> Fields {
        let mut result = Fields { member: self.member && other.member, ..Fields::default() };
        for (element, child) in &self.children {
            if let Some(other) = other.children.get(element) {
                result.put(element.clone(), child.intersection(other));
            }
        }
        result
    }

    /// Takes an element and everything below it out.
    pub(crate) fn remove_tree(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [last] => {
                self.children.remove(*last);
            }
            [first, rest @ ..] => {
                if let Some(child) = self.children.get_mut(*first) {
                    child.remove_tree(rest);
                    if child.is_empty() {
                        self.children.remove(*first);
                    }
                }
            }
        }
    }

    /// The paths of all members, as conflicts name them: `.spec.containers[name="a"].image`.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths(&mut String::new(), &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &mut String, paths: &mut Vec<String>) {
        if self.member {
            paths.push(prefix.clone());
        }
        for (element, child) in &self.children {
            let len = prefix.len();
            prefix.push_str(&shown(element));
            child.collect_paths(prefix, paths);
            prefix.truncate(len);
        }
    }

    /// Reads `fieldsV1`; what is malformed is left out.
    pub(crate) fn read(tree: &Value) -> Fields {
        let mut fields = Fields::read_below(tree, 0);
        // The root itself is never a member.
        fields.member = false;
        fields
    }

    fn read_below(tree: &Value, depth: u32) -> Fields {
        let Value::Object(map) = tree else { return Fields::default() };
        if map.is_empty() || depth > DEPTH_MAX {
            return Fields::leaf();
        }
        let mut fields = Fields { member: map.contains_key("."), ..Fields::default() };
        for (element, below) in map {
            if matches!(element.get(..2), Some("f:" | "k:" | "v:" | "i:")) {
                fields.put(element.clone(), Fields::read_below(below, depth + 1));
            }
        }
        fields
    }

    pub(crate) fn write(&self) -> Value {
        let mut map = Map::new();
        for (element, child) in &self.children {
            let mut below = child.write();
            if let (true, false, Value::Object(below)) =
                (child.member, child.children.is_empty(), &mut below)
            {
                below.insert(".".into(), Value::Object(Map::new()));
            }
            map.insert(element.clone(), below);
        }
        Value::Object(map)
    }
}

/// One element as paths show it.
fn shown(element: &str) -> String {
    match element.split_at_checked(2) {
        Some(("f:", name)) => format!(".{name}"),
        Some(("v:", value)) => format!("[={value}]"),
        Some(("k:", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<String> =
                keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        _ => format!("[{element}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sets_read_write_and_combine() {
        let text = json!({"f:spec": {"f:replicas": {}, "f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}}}}});
        let set = Fields::read(&text);
        assert_eq!(set.write(), text);
        assert_eq!(
            set.paths(),
            [
                ".spec.containers[name=\"a\"]",
                ".spec.containers[name=\"a\"].image",
                ".spec.replicas"
            ]
        );
        let other = Fields::read(&json!({"f:spec": {"f:replicas": {}}}));
        assert_eq!(set.difference(&other).union(&other), set);
        assert_eq!(set.intersection(&other), other);
        assert!(other.difference(&set).is_empty());
        assert!(Fields::read(&json!({"x": 1, "f:a": 2})).is_empty());
    }
}
