//! Structural schemas: the OpenAPI v3 of kinds that are defined at run time, read into a table of nodes.
//!
//! The schemas of kinds in code (`schema`) describe Go types: what is absent is zero, and what is zero is
//! not written. These describe JSON as it was sent: nothing is filled in but defaults, nothing is left
//! out but what the schema does not know. So each has its own walk, and a [`Form`](crate::Form) knows which
//! is its own; everything above them is shared.
//!
//! Source: k8s.io/apiextensions-apiserver/pkg/apiserver/schema; messages of k8s.io/kube-openapi validation.

mod check;
mod embedded;
mod formats;
mod pattern;
mod published;
mod read;
mod rules;
mod rules_check;
mod walk;

#[cfg(test)]
mod rules_tests;
#[cfg(test)]
pub(crate) mod tests;

use serde_json::Value;

pub(crate) use formats::fits as fits_format;
pub(crate) use pattern::{Pattern, check as check_pattern};
pub(crate) use published::{is_open, published};
pub(crate) use rules::{META, TEXT, View};
pub(crate) use walk::TYPES;

/// How deep a schema may nest, and so how deep a walk through a value goes.
pub const DEPTH_MAX: usize = 48;
/// How many nodes a schema may have.
pub const NODES_MAX: usize = 20_000;

/// A schema of one version of a kind.
#[derive(Debug, Default)]
pub struct Structural {
    /// The root is the first; an empty schema keeps everything.
    nodes: Vec<Node>,
    /// About how much memory it takes.
    bytes: usize,
    /// Its rules, once they were used.
    compiled: std::sync::OnceLock<rules::Rules>,
}

/// A node's place in its schema.
pub(crate) type At = u32;

/// The place of a schema that says nothing: what is there is let through, but nothing inside it is known.
pub(crate) const NOTHING: At = At::MAX;

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
            Type::Any => "",
            Type::IntOrString => "integer,string",
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
    Map(Box<[Box<str>]>),
}

/// One schema inside another.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) kind: Type,
    pub(crate) nullable: bool,
    /// `x-kubernetes-preserve-unknown-fields`
    pub(crate) preserve: bool,
    /// `x-kubernetes-embedded-resource`
    pub(crate) embedded: bool,
    /// `x-kubernetes-map-type: atomic`
    pub(crate) atomic: bool,
    /// `additionalProperties: false`
    pub(crate) closed: bool,
    pub(crate) list: ListType,
    /// By name.
    pub(crate) properties: Box<[(Box<str>, At)]>,
    pub(crate) additional: Option<At>,
    pub(crate) items: Option<At>,
    pub(crate) required: Box<[Box<str>]>,
    pub(crate) default: Option<Box<Value>>,
    pub(crate) limits: Option<Box<Limits>>,
    pub(crate) logic: Option<Box<Logic>>,
    /// `x-kubernetes-validations` as it was given.
    pub(crate) rules: Option<Box<Value>>,
}

/// What a value may be beyond its type.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    pub(crate) minimum: Option<f64>,
    pub(crate) exclusive_minimum: bool,
    pub(crate) maximum: Option<f64>,
    pub(crate) exclusive_maximum: bool,
    pub(crate) multiple_of: Option<f64>,
    /// Of a string in characters, of a list in items, of a map in entries.
    pub(crate) length: Span,
    pub(crate) items: Span,
    pub(crate) entries: Span,
    pub(crate) unique: bool,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) format: Option<formats::Format>,
    pub(crate) values: Box<[Value]>,
}

/// The least and the most of something.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Span {
    pub(crate) min: Option<i64>,
    pub(crate) max: Option<i64>,
}

/// Schemas that hold together.
#[derive(Debug, Default)]
pub(crate) struct Logic {
    pub(crate) all: Box<[At]>,
    pub(crate) any: Box<[At]>,
    pub(crate) one: Box<[At]>,
    pub(crate) not: Option<At>,
}

impl Structural {
    pub(crate) fn node(&self, at: At) -> Option<&Node> {
        self.nodes.get(at as usize)
    }

    /// What is below an object's key: a property, else what maps hold.
    pub(crate) fn below(&self, node: &Node, key: &str) -> Option<At> {
        property(node, key).or(node.additional)
    }

    /// Whether a node has a property of this name, or nothing is known of it.
    pub(crate) fn names(&self, at: At, key: &str) -> bool {
        self.node(at).is_none_or(|node| property(node, key).is_some())
    }

    /// About how much memory it takes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let rules = self.compiled.get().map_or(0, rules::Rules::heap_bytes);
        self.bytes + rules + self.nodes.capacity() * size_of::<Node>()
    }

    /// Shows every default with its place in the schema, as `.properties[a].items`.
    pub(crate) fn each_default(&self, visit: &mut dyn FnMut(At, &str, &Value)) {
        self.defaults_at(0, &mut String::new(), visit);
    }

    fn defaults_at(&self, at: At, path: &mut String, visit: &mut dyn FnMut(At, &str, &Value)) {
        let Some(node) = self.node(at) else { return };
        if let Some(default) = &node.default {
            visit(at, path, default);
        }
        let len = path.len();
        for (name, below) in &node.properties {
            path.push_str(&format!(".properties[{name}]"));
            self.defaults_at(*below, path, visit);
            path.truncate(len);
        }
        if let Some(items) = node.items {
            path.push_str(".items");
            self.defaults_at(items, path, visit);
            path.truncate(len);
        }
    }
}

fn property(node: &Node, key: &str) -> Option<At> {
    let found = node.properties.binary_search_by(|(name, _)| (**name).cmp(key));
    Some(node.properties[found.ok()?].1)
}
