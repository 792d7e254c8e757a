//! Sets of fields: `FieldsV1`, a tree of path elements.
//!
//! Source: sigs.k8s.io/structured-merge-diff, fieldpath. Elements are kept as they are written:
//! `f:name` a field, `k:{"name":"a"}` a list item by its keys, `v:"x"` a list item by its value;
//! `.` says that the element itself belongs to the set beside what is below it.

use serde_json::{Map, Value};
use stdx::OrdMap;

/// How deep field sets may nest.
const DEPTH_MAX: u32 = 100;

/// A set of paths below one element, and whether the element itself belongs to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    pub member: bool,
    pub children: OrdMap<String, Fields>,
}

impl Fields {
    /// The element itself, and nothing below.
    pub(crate) fn leaf() -> Fields {
        Fields { member: true, children: OrdMap::new() }
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

    /// Adds all that is in `other`. Sets can be as large as objects, so that they are moved, not copied.
    pub(crate) fn join(&mut self, other: Fields) {
        self.member |= other.member;
        if self.children.is_empty() {
            self.children = other.children;
            return;
        }
        for (element, child) in other.children {
            match self.children.get_mut(&element) {
                Some(own) => own.join(child),
                None => self.put(element, child),
            }
        }
    }

    /// Takes out all that is in `other`.
    pub(crate) fn subtract(&mut self, other: &Fields) {
        self.member &= !other.member;
        for (element, child) in &other.children {
            let Some(own) = self.children.get_mut(element) else { continue };
            own.subtract(child);
            if own.is_empty() {
                self.children.remove(element);
            }
        }
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
    #[cfg(test)]
    fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.each_path(&mut String::new(), &mut |path| paths.push(path.to_owned()));
        paths
    }

    /// Calls `see` with the path of each member below `prefix`, in upstream's order: what is of the set at one
    /// level, then what is below each.
    pub(crate) fn each_path(&self, prefix: &mut String, see: &mut dyn FnMut(&str)) {
        for (element, _) in self.children.iter().filter(|(_, child)| child.member) {
            let len = prefix.len();
            prefix.push_str(&shown(element));
            see(prefix);
            prefix.truncate(len);
        }
        for (element, child) in &self.children {
            let len = prefix.len();
            prefix.push_str(&shown(element));
            child.each_path(prefix, see);
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

    pub(crate) fn write(self) -> Value {
        let mut map = Map::new();
        for (element, child) in self.children {
            let owned_beside = child.member && !child.children.is_empty();
            let mut below = child.write();
            if let (true, Value::Object(below)) = (owned_beside, &mut below) {
                below.insert(".".into(), Value::Object(Map::new()));
            }
            map.insert(element, below);
        }
        Value::Object(map)
    }
}

/// How much memory is taken while it is recorded who manages what a tree says, about; more rather than less: the set of
/// its fields and what it becomes in the object.
pub(super) fn cost(tree: &Value) -> usize {
    use wire::json::{ENTRY_BYTES, TEXT_BYTES};
    const FIELD_BYTES: usize = 2 * (ENTRY_BYTES + TEXT_BYTES);
    match tree {
        Value::Object(map) => {
            map.iter().map(|(key, value)| FIELD_BYTES + 2 * key.len() + cost(value)).sum()
        }
        // An item goes by texts that are in it.
        Value::Array(items) => {
            items.iter().map(|item| FIELD_BYTES + 2 * named(item) + cost(item)).sum()
        }
        _ => 0,
    }
}

fn named(item: &Value) -> usize {
    const PUNCTUATION_BYTES: usize = 48;
    match item {
        Value::String(text) => text.len(),
        Value::Object(map) => {
            PUNCTUATION_BYTES + map.values().filter_map(Value::as_str).map(str::len).sum::<usize>()
        }
        _ => 0,
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
        assert_eq!(set.clone().write(), text);
        assert_eq!(
            set.paths(),
            [
                ".spec.replicas",
                ".spec.containers[name=\"a\"]",
                ".spec.containers[name=\"a\"].image"
            ]
        );
        let other = Fields::read(&json!({"f:spec": {"f:replicas": {}}}));
        assert_eq!(set.intersection(&other), other);
        let mut left = set.clone();
        left.subtract(&other);
        assert!(!left.paths().contains(&".spec.replicas".into()));
        left.join(other.clone());
        assert_eq!(left, set);
        let mut none = other.clone();
        none.subtract(&set);
        assert!(none.is_empty());
        assert!(Fields::read(&json!({"x": 1, "f:a": 2})).is_empty());
    }
}
