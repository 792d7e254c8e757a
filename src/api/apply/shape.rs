//! Whether what is applied has the form that the schema gives it.
//!
//! Source: sigs.k8s.io/structured-merge-diff, typed/validate.go.

use std::collections::BTreeSet;

use serde_json::Value;

use super::typed::{Node, item_element};
use crate::kind::Form;
use crate::lens::Lens;
use crate::schema::{Field, Scalar, Shape, TypeId, schema};
use crate::status::{Reason, Status};

/// Complaints that are told; more help nobody.
const COMPLAINTS_MAX: usize = 100;

/// Refuses fields that the schema does not have, values of another form, and items of associative
/// lists that are there twice.
///
/// # Errors
/// 500, as upstream.
pub fn check<'f>(form: impl Into<Form<'f>>, tree: &Value) -> Result<(), Status> {
    let form = form.into();
    let mut walk = Walk { wrong: Vec::new() };
    // Structural schemas prune what they do not know, with a warning, and are checked afterwards.
    let Some(root) = form.table() else { return Ok(()) };
    walk.message(root, tree, "");
    let told = match walk.wrong.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        several => format!("errors:\n  {}", several.join("\n  ")),
    };
    let version = form.api_version();
    let slash = if version.contains('/') { "" } else { "/" };
    let (namespace, name) = (tree.str("metadata.namespace"), tree.str("metadata.name"));
    Err(Status::new(
        Reason::Unknown,
        format!(
            "failed to create typed patch object ({namespace}/{name}; {slash}{version}, Kind={}): {told}",
            form.kind.name
        ),
    ))
}

struct Walk {
    wrong: Vec<String>,
}

impl Walk {
    fn complain(&mut self, path: &str, what: &str) {
        if self.wrong.len() < COMPLAINTS_MAX {
            self.wrong.push(format!("{path}: {what}"));
        }
    }

    fn message(&mut self, id: TypeId, value: &Value, path: &str) {
        let map = match value {
            Value::Object(map) => map,
            Value::Null => return,
            other => return self.complain(path, &format!("expected map, got {}", go(other))),
        };
        for (key, value) in map {
            let below = format!("{path}.{key}");
            match schema().by_json(id, key) {
                Some(field) => self.field(field, value, &below),
                None if path.is_empty() && matches!(key.as_str(), "apiVersion" | "kind") => {}
                None => self.complain(&below, "field not declared in schema"),
            }
        }
    }

    fn field(&mut self, field: &'static Field, value: &Value, path: &str) {
        match (field.shape, value) {
            (_, Value::Null) => {}
            (Shape::Single, value) => self.one(field, value, path),
            (Shape::Map, Value::Object(map)) => {
                for (key, value) in map {
                    self.one(field, value, &format!("{path}.{key}"));
                }
            }
            (Shape::Map, other) => self.complain(path, &format!("expected map, got {}", go(other))),
            (Shape::List, Value::Array(items)) => self.items(field, items, path),
            (Shape::List, other) => {
                self.complain(path, &format!("expected list, got {}", go(other)));
            }
        }
    }

    fn items(&mut self, field: &'static Field, items: &[Value], path: &str) {
        let node = Node::of(field);
        let mut seen = BTreeSet::new();
        for (idx, item) in items.iter().enumerate() {
            let element = match node {
                Node::Items(list) => match item_element(list, item) {
                    Ok(element) => shown(&element),
                    // Nothing below can be named.
                    Err(why) => return self.complain(path, &format!("element {idx}: {why}")),
                },
                Node::Set => format!("[={item}]"),
                _ => format!("[{idx}]"),
            };
            let below = format!("{path}{element}");
            if !seen.insert(element.clone()) {
                self.complain(path, &format!("duplicate entries for key {element}"));
            }
            self.one(field, item, &below);
        }
    }

    fn one(&mut self, field: &Field, value: &Value, path: &str) {
        let wanted = match (field.scalar, value) {
            (_, Value::Null) => return,
            (Scalar::Message(id), value) => return self.message(id, value, path),
            (Scalar::Bool, Value::Bool(_)) => return,
            (Scalar::Bool, other) => format!("expected boolean, got {}", go(other)),
            (Scalar::I32 | Scalar::I64 | Scalar::F64, Value::Number(_)) => return,
            (Scalar::I32 | Scalar::I64 | Scalar::F64, other) => {
                format!("expected numeric (int or float), got {}", go_type(other))
            }
            (Scalar::Str | Scalar::Bytes | Scalar::Time | Scalar::MicroTime, value) => {
                if value.is_string() {
                    return;
                }
                format!(
                    "expected string, got &value.valueUnstructured{{Value:{}}}",
                    go_inner(value)
                )
            }
            _ => return,
        };
        self.complain(path, &wanted);
    }
}

/// An element of an associative list as upstream's paths name it: `[name="a"]`.
fn shown(element: &str) -> String {
    let keys: Value = serde_json::from_str(element.get(2..).unwrap_or("")).unwrap_or_default();
    let mut parts: Vec<String> = keys
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    parts.sort();
    format!("[{}]", parts.join(","))
}

/// Go's `%v` of a pointer to a value.
fn go(value: &Value) -> String {
    format!("&{{{}}}", go_plain(value))
}

fn go_plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(go_plain).collect::<Vec<_>>().join(" "))
        }
        Value::Object(map) => {
            let pairs: Vec<String> =
                map.iter().map(|(key, value)| format!("{key}:{}", go_plain(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        Value::Null => "<nil>".into(),
        other => other.to_string(),
    }
}

/// Go's `%#v` of what is in it.
fn go_inner(value: &Value) -> String {
    match value {
        Value::Array(items) => format!(
            "[]interface {{}}{{{}}}",
            items.iter().map(go_inner).collect::<Vec<_>>().join(", ")
        ),
        Value::Object(map) => {
            let pairs: Vec<String> =
                map.iter().map(|(key, value)| format!("{key:?}:{}", go_inner(value))).collect();
            format!("map[string]interface {{}}{{{}}}", pairs.join(", "))
        }
        Value::Null => "interface {}(nil)".into(),
        other => other.to_string(),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        Value::Null => "<nil>",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
    }
}
