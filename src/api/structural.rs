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
mod host;
mod pattern;
mod published;
mod read;
mod rules;
mod rules_check;
mod walk;

#[cfg(test)]
mod rules_tests;
#[cfg(test)]
pub mod tests;

use serde_json::Value;

pub use formats::fits as fits_format;
pub use host::violations;
pub use pattern::{Pattern, check as check_pattern};
pub use published::{is_open, published};
pub use rules::{META, TEXT, View};
pub use walk::TYPES;

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
pub type At = u32;

/// The place of a schema that says nothing: what is there is let through, but nothing inside it is known.
pub const NOTHING: At = At::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Type {
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
    pub fn name(self) -> &'static str {
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
pub enum ListType {
    #[default]
    Atomic,
    Set,
    Map(Box<[Box<str>]>),
}

/// One schema inside another.
#[derive(Debug, Default)]
pub struct Node {
    pub kind: Type,
    pub nullable: bool,
    /// `x-kubernetes-preserve-unknown-fields`
    pub preserve: bool,
    /// `x-kubernetes-embedded-resource`
    pub embedded: bool,
    /// `x-kubernetes-map-type: atomic`
    pub atomic: bool,
    /// `additionalProperties: false`
    pub closed: bool,
    pub list: ListType,
    /// By name.
    pub properties: Box<[(Box<str>, At)]>,
    pub additional: Option<At>,
    pub items: Option<At>,
    pub required: Box<[Box<str>]>,
    pub default: Option<Box<Value>>,
    pub limits: Option<Box<Limits>>,
    pub logic: Option<Box<Logic>>,
    /// `x-kubernetes-validations` as it was given.
    pub rules: Option<Box<Value>>,
}

/// What a value may be beyond its type.
#[derive(Debug, Default)]
pub struct Limits {
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub multiple_of: Option<f64>,
    /// Of a string in characters, of a list in items, of a map in entries.
    pub length: Span,
    pub items: Span,
    pub entries: Span,
    pub unique: bool,
    pub pattern: Option<Pattern>,
    pub format: Option<formats::Format>,
    pub values: Box<[Value]>,
}

/// The least and the most of something.
#[derive(Debug, Clone, Copy, Default)]
pub struct Span {
    pub min: Option<i64>,
    pub max: Option<i64>,
}

/// Schemas that hold together.
#[derive(Debug, Default)]
pub struct Logic {
    pub all: Box<[At]>,
    pub any: Box<[At]>,
    pub one: Box<[At]>,
    pub not: Option<At>,
}

impl Structural {
    pub fn node(&self, at: At) -> Option<&Node> {
        self.nodes.get(at as usize)
    }

    /// What is below an object's key: a property, else what maps hold.
    pub fn below(&self, node: &Node, key: &str) -> Option<At> {
        property(node, key).or(node.additional)
    }

    /// Whether a node has a property of this name, or nothing is known of it.
    pub fn names(&self, at: At, key: &str) -> bool {
        self.node(at).is_none_or(|node| property(node, key).is_some())
    }

    /// About how much memory it takes.
    pub fn heap_bytes(&self) -> usize {
        let rules = self.compiled.get().map_or(0, rules::Rules::heap_bytes);
        self.bytes + rules + self.nodes.capacity() * size_of::<Node>()
    }

    /// Shows every default with its place in the schema, as `.properties[a].items`.
    pub fn each_default(&self, visit: &mut dyn FnMut(At, &str, &Value)) {
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
