//! Structural schemas: the OpenAPI v3 of kinds that are defined at run time, read once into a table of nodes.
//!
//! The schemas of kinds in code (`schema`) describe Go types: what is absent is zero, and what is zero is
//! not written. These describe JSON as it was sent: nothing is filled in but defaults, nothing is left
//! out but what the schema does not know. So each has its own walk, and a [`Form`](crate::Form) knows which
//! is its own; everything above them is shared.
//!
//! Source: k8s.io/apiextensions-apiserver/pkg/apiserver/schema; messages of k8s.io/kube-openapi validation.

mod read;
mod walk;

#[cfg(test)]
pub(crate) mod tests;

use serde_json::{Map, Value};

/// How deep a schema may nest, and so how deep a walk through a value goes.
pub const DEPTH_MAX: usize = 48;
/// How many nodes a schema may have.
pub const NODES_MAX: usize = 20_000;

/// A schema of one version of a kind.
#[derive(Debug, Clone, Default)]
pub struct Structural {
    /// The root is the first; an empty schema keeps everything.
    nodes: Vec<Node>,
}

/// A node's place in its schema.
pub(crate) type At = u32;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Type {
    /// Says nothing of the type.
    #[default]
    Any,
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
    IntOrString,
}

impl Type {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Type::Any | Type::IntOrString => "",
            Type::Object => "object",
            Type::Array => "array",
            Type::String => "string",
            Type::Integer => "integer",
            Type::Number => "number",
            Type::Boolean => "boolean",
        }
    }
}

/// How server-side apply owns a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum ListType {
    #[default]
    Atomic,
    Set,
    Map(Vec<Box<str>>),
}

/// One schema inside another.
#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    pub(crate) kind: Type,
    pub(crate) nullable: bool,
    /// `x-kubernetes-preserve-unknown-fields`
    pub(crate) preserve: bool,
    /// `x-kubernetes-embedded-resource`
    pub(crate) embedded: bool,
    /// `x-kubernetes-map-type: atomic`
    pub(crate) atomic: bool,
    pub(crate) list: ListType,
    /// By name.
    pub(crate) properties: Vec<(Box<str>, At)>,
    pub(crate) additional: Option<At>,
    pub(crate) items: Option<At>,
    pub(crate) required: Vec<Box<str>>,
    pub(crate) default: Option<Value>,
    /// Every other keyword as it was given: `enum`, bounds, `pattern`, `format`, `description`, `anyOf`, ...
    pub(crate) rest: Map<String, Value>,
}

impl Structural {
    pub(crate) fn node(&self, at: At) -> Option<&Node> {
        self.nodes.get(at as usize)
    }

    /// What is below an object's key: a property, else what maps hold.
    pub(crate) fn below(&self, node: &Node, key: &str) -> Option<At> {
        let found = node.properties.binary_search_by(|(name, _)| (**name).cmp(key));
        found.ok().map(|idx| node.properties[idx].1).or(node.additional)
    }

    /// The schema as OpenAPI shows it. `v2` leaves out what swagger cannot say. `root` is a whole object's,
    /// whose `apiVersion`, `kind` and `metadata` are given by the caller.
    pub(crate) fn written(&self, at: At, v2: bool) -> Value {
        let Some(node) = self.node(at) else { return Value::Object(Map::new()) };
        let mut out = node.rest.clone();
        if v2 {
            // kubectl before 1.28 refuses what it cannot validate by these.
            for word in ["oneOf", "anyOf", "allOf", "not", "nullable"] {
                out.remove(word);
            }
        }
        let lost = v2 && (node.preserve || node.nullable);
        if node.kind != Type::Any && node.kind != Type::IntOrString && !lost {
            out.insert("type".into(), node.kind.name().into());
        }
        if node.kind == Type::IntOrString {
            out.insert("x-kubernetes-int-or-string".into(), true.into());
        }
        for (set, word) in [
            (node.nullable && !v2, "nullable"),
            (node.preserve, "x-kubernetes-preserve-unknown-fields"),
            (node.embedded, "x-kubernetes-embedded-resource"),
        ] {
            if set {
                out.insert(word.into(), true.into());
            }
        }
        if node.atomic {
            out.insert("x-kubernetes-map-type".into(), "atomic".into());
        }
        let list_type = match &node.list {
            ListType::Atomic => None,
            ListType::Set => Some("set"),
            ListType::Map(keys) => {
                let keys: Vec<Value> = keys.iter().map(|key| (&**key).into()).collect();
                out.insert("x-kubernetes-list-map-keys".into(), keys.into());
                Some("map")
            }
        };
        if let Some(list_type) = list_type {
            out.insert("x-kubernetes-list-type".into(), list_type.into());
        }
        if let Some(default) = &node.default {
            out.insert("default".into(), default.clone());
        }
        if lost {
            return Value::Object(out);
        }
        if !node.properties.is_empty() {
            let written = |(name, at): &(Box<str>, At)| (name.to_string(), self.written(*at, v2));
            let properties: Map<String, Value> = node.properties.iter().map(written).collect();
            out.insert("properties".into(), properties.into());
        }
        if let Some(additional) = node.additional {
            out.insert("additionalProperties".into(), self.written(additional, v2));
        }
        if let Some(items) = node.items {
            out.insert("items".into(), self.written(items, v2));
        }
        if !node.required.is_empty() {
            let required: Vec<Value> = node.required.iter().map(|name| (&**name).into()).collect();
            out.insert("required".into(), required.into());
        }
        Value::Object(out)
    }
}
