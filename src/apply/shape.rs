//! Whether what is applied has the form that the schema gives it.
//!
//! Source: sigs.k8s.io/structured-merge-diff, typed/validate.go.

use api::complain::go_any;
use api::form::{Form, Types};
use api::lens::Lens;
use api::schema::{Field, Scalar, Shape, TypeId, schema};
use api::status::{Reason, Status};
use api::structural::{At, ListType, Structural, Type};
use serde_json::Value;
use stdx::{Arrange, OrdSet};

use super::typed::{List, Node, item_element, set_element};

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
    match form.types() {
        Types::Table(root) => walk.message(root, tree, ""),
        Types::Structural(schema) => walk.structural(schema, 0, tree, ""),
        Types::Unknown => return Ok(()),
    }
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
                None if schema().of(id).kind && matches!(key.as_str(), "apiVersion" | "kind") => {}
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
        let element_of = |item: &Value| match node {
            Node::Items(list) => item_element(list, item).map(Some),
            Node::Set => set_element(item).map(Some),
            _ => Ok(None),
        };
        self.elements(items, path, &element_of, &mut |walk, item, path| {
            walk.one(field, item, path);
        });
    }

    /// Looks at each item, by its place or, in lists that merge, by what it is known by.
    fn elements(
        &mut self,
        items: &[Value],
        path: &str,
        element_of: &dyn Fn(&Value) -> Result<Option<String>, String>,
        look: &mut dyn FnMut(&mut Walk, &Value, &str),
    ) {
        let mut seen = OrdSet::new();
        for (idx, item) in items.iter().enumerate() {
            let element = match element_of(item) {
                Ok(Some(element)) => match element.strip_prefix("v:") {
                    Some(value) => format!("[={value}]"),
                    None => shown(&element),
                },
                Ok(None) => format!("[{idx}]"),
                // Nothing below can be named.
                Err(why) => return self.complain(path, &format!("element {idx}: {why}")),
            };
            let below = format!("{path}{element}");
            if !seen.insert(element.clone()) {
                self.complain(path, &format!("duplicate entries for key {element}"));
            }
            look(self, item, &below);
        }
    }

    fn structural(&mut self, schema: &Structural, at: At, value: &Value, path: &str) {
        let Some(node) = schema.node(at).filter(|_| !value.is_null()) else { return };
        let object_meta = self::schema().object_meta;
        let wanted = match (node.kind, value) {
            (_, Value::Object(map)) if matches!(node.kind, Type::Object | Type::Any) => {
                for (key, value) in map {
                    let below = format!("{path}.{key}");
                    match (schema.below(node, key), key.as_str()) {
                        (_, "metadata") if path.is_empty() => {
                            self.message(object_meta, value, &below);
                        }
                        (Some(at), _) => self.structural(schema, at, value, &below),
                        (None, "apiVersion" | "kind") if path.is_empty() => {}
                        (None, "apiVersion" | "kind" | "metadata") if node.embedded => {}
                        (None, _) if node.preserve => {}
                        (None, _) => self.complain(&below, "field not declared in schema"),
                    }
                }
                return;
            }
            (Type::Array, Value::Array(items)) => {
                let Some(below) = node.items else { return };
                let item_of = |item: &Value| match &node.list {
                    ListType::Map(_) => {
                        item_element(List::Structural(schema, at, below), item).map(Some)
                    }
                    ListType::Set => set_element(item).map(Some),
                    ListType::Atomic => Ok(None),
                };
                return self.elements(items, path, &item_of, &mut |walk, item, path| {
                    walk.structural(schema, below, item, path);
                });
            }
            (Type::Object, other) => format!("expected map, got {}", go(other)),
            (Type::Array, other) => format!("expected list, got {}", go(other)),
            (Type::Boolean, other) if !other.is_boolean() => {
                format!("expected boolean, got {}", go(other))
            }
            (Type::Integer | Type::Number, other) if !other.is_number() => {
                format!("expected numeric (int or float), got {}", go_type(other))
            }
            (Type::String, other) if !other.is_string() => {
                format!("expected string, got &value.valueUnstructured{{Value:{}}}", go_any(other))
            }
            _ => return,
        };
        self.complain(path, &wanted);
    }

    fn one(&mut self, field: &Field, value: &Value, path: &str) {
        let wanted = match (field.scalar, value) {
            (_, Value::Null) => return,
            // One of several forms, which its own reader knows.
            (Scalar::Message(id), _) if schema().of(id).union => return,
            (Scalar::Message(id), value) => return self.message(id, value, path),
            (Scalar::Bool, Value::Bool(_)) => return,
            (Scalar::Bool, other) => format!("expected boolean, got {}", go(other)),
            (Scalar::I32 | Scalar::I64 | Scalar::F64, Value::Number(_)) => return,
            (Scalar::I32 | Scalar::I64 | Scalar::F64, other) => {
                format!("expected numeric (int or float), got {}", go_type(other))
            }
            (Scalar::Str | Scalar::Bytes, value) => {
                if value.is_string() {
                    return;
                }
                format!("expected string, got &value.valueUnstructured{{Value:{}}}", go_any(value))
            }
            (
                Scalar::Time | Scalar::MicroTime | Scalar::Quantity | Scalar::IntOrString,
                value @ (Value::Array(_) | Value::Object(_)),
            ) => format!("expected any scalar, got {}", go(value)),
            // Upstream's schema leaves times open, as what has several forms: their own reader looks at them.
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
    parts.arrange();
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
