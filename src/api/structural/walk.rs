//! Values under a structural schema: what is unknown goes, what is missing is filled in, what is wrong is told.

use serde_json::{Map, Value};

use super::{At, Node, Structural, Type};
use crate::complain::Complain;
use crate::status::Cause;

/// How many unknown fields are told.
const UNKNOWN_MAX: usize = 20;

/// How many complaints are made about one object.
const CAUSES_MAX: usize = 64;

/// What objects carry whatever their schema says.
const TYPES: [&str; 3] = ["apiVersion", "kind", "metadata"];

impl Structural {
    /// Takes out of a whole object what the schema does not know; answers the paths of that.
    pub(crate) fn prune(&self, tree: &mut Value) -> Vec<String> {
        let mut unknown = Vec::new();
        if !self.nodes.is_empty() {
            self.prune_at(0, tree, true, &mut String::new(), &mut unknown);
        }
        unknown
    }

    fn prune_at(
        &self,
        at: At,
        value: &mut Value,
        is_object: bool,
        path: &mut String,
        unknown: &mut Vec<String>,
    ) {
        let Some(node) = self.node(at) else { return };
        let len = path.len();
        match value {
            Value::Object(map) => map.retain(|key, value| {
                if (is_object || node.embedded) && TYPES.contains(&key.as_str()) {
                    return true;
                }
                let dot = if path.is_empty() { "" } else { "." };
                path.push_str(&format!("{dot}{key}"));
                let below = self.below(node, key);
                if let Some(below) = below {
                    self.prune_at(below, value, false, path, unknown);
                } else if !node.preserve && unknown.len() < UNKNOWN_MAX {
                    unknown.push(path.clone());
                }
                path.truncate(len);
                below.is_some() || node.preserve
            }),
            Value::Array(items) => {
                let Some(below) = node.items else { return };
                for (idx, item) in items.iter_mut().enumerate() {
                    path.push_str(&format!("[{idx}]"));
                    self.prune_at(below, item, false, path, unknown);
                    path.truncate(len);
                }
            }
            _ => {}
        }
    }

    /// Fills in defaults, after nulls that may not be there are gone. Idempotent.
    pub(crate) fn fill(&self, tree: &mut Value) {
        self.fill_at(0, tree);
    }

    fn fill_at(&self, at: At, value: &mut Value) {
        let Some(node) = self.node(at) else { return };
        match value {
            Value::Object(map) => {
                let is_nullable = |key: &str| {
                    let below = self.below(node, key).and_then(|below| self.node(below));
                    below.is_none_or(|below| below.nullable || below.kind == Type::Any)
                };
                map.retain(|key, value| !value.is_null() || is_nullable(key));
                for (name, below) in &node.properties {
                    let default = self.node(*below).and_then(|below| below.default.as_ref());
                    if let Some(default) = default
                        && !map.contains_key(&**name)
                    {
                        map.insert(name.to_string(), default.clone());
                    }
                }
                for (key, value) in map.iter_mut() {
                    if let Some(below) = self.below(node, key) {
                        self.fill_at(below, value);
                    }
                }
            }
            Value::Array(items) => {
                let Some(below) = node.items else { return };
                items.iter_mut().for_each(|item| self.fill_at(below, item));
            }
            _ => {}
        }
    }

    /// Checks a whole object. What has types of its own (metadata) is not looked into.
    pub(crate) fn check(&self, tree: &Value, causes: &mut Vec<Cause>) {
        self.check_at(0, tree, true, &mut String::new(), causes);
    }

    fn check_at(
        &self,
        at: At,
        value: &Value,
        is_object: bool,
        path: &mut String,
        causes: &mut Vec<Cause>,
    ) {
        let Some(node) = self.node(at) else { return };
        if causes.len() >= CAUSES_MAX || value.is_null() && node.nullable {
            return;
        }
        if !node.kind.fits(value) {
            let shown = format!("{:?}", type_name(value));
            let message = format!(
                "Invalid value: {shown}: {path} in body must be of type {}: {shown}",
                node.kind.wanted()
            );
            causes.complain("FieldValueTypeInvalid", path, message);
            return;
        }
        node.check_enum(value, path, causes);
        let len = path.len();
        match value {
            Value::Object(map) => {
                for name in node.required.iter().filter(|name| !map.contains_key(&***name)) {
                    let dot = if len == 0 { "" } else { "." };
                    causes.required(&format!("{path}{dot}{name}"), "");
                }
                node.check_count(map.len(), ["minProperties", "maxProperties"], path, causes);
                for (key, value) in map {
                    if is_object && TYPES.contains(&key.as_str()) {
                        continue;
                    }
                    let Some(below) = self.below(node, key) else { continue };
                    let dot = if len == 0 { "" } else { "." };
                    path.push_str(&format!("{dot}{key}"));
                    self.check_at(below, value, false, path, causes);
                    path.truncate(len);
                }
            }
            Value::Array(items) => {
                node.check_count(items.len(), ["minItems", "maxItems"], path, causes);
                self.check_items(node, items, path, causes);
            }
            Value::String(text) => {
                let n_chars = text.chars().count();
                node.check_length(n_chars, value, path, causes);
            }
            Value::Number(number) => node.check_number(number.as_f64(), value, path, causes),
            _ => {}
        }
    }

    fn check_items(
        &self,
        node: &Node,
        items: &[Value],
        path: &mut String,
        causes: &mut Vec<Cause>,
    ) {
        let len = path.len();
        let mut seen = std::collections::BTreeSet::new();
        for (idx, item) in items.iter().enumerate() {
            path.push_str(&format!("[{idx}]"));
            let identity = match &node.list {
                super::ListType::Atomic => None,
                super::ListType::Set => Some(item.clone()),
                super::ListType::Map(keys) => {
                    let part = |key: &str| Some((key.to_owned(), item.get(key)?.clone()));
                    Some(Value::Object(
                        keys.iter().filter_map(|key| part(key)).collect::<Map<_, _>>(),
                    ))
                }
            };
            if let Some(identity) = identity
                && !seen.insert(identity.to_string())
            {
                causes.duplicate(path, &identity);
            }
            if let Some(below) = node.items {
                self.check_at(below, item, false, path, causes);
            }
            path.truncate(len);
        }
    }
}

impl Type {
    fn fits(self, value: &Value) -> bool {
        match self {
            Type::Any => true,
            Type::Object => value.is_object(),
            Type::Array => value.is_array(),
            Type::String => value.is_string(),
            Type::Integer => value.as_f64().is_some_and(|number| number.fract() == 0.0),
            Type::Number => value.is_number(),
            Type::Boolean => value.is_boolean(),
            Type::IntOrString => value.is_string() || value.is_i64(),
        }
    }

    fn wanted(self) -> &'static str {
        match self {
            Type::IntOrString => "integer,string",
            other => other.name(),
        }
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

impl Node {
    fn bound(&self, word: &str) -> Option<u64> {
        self.rest.get(word).and_then(Value::as_u64)
    }

    fn check_enum(&self, value: &Value, path: &str, causes: &mut Vec<Cause>) {
        let Some(Value::Array(allowed)) = self.rest.get("enum") else { return };
        if allowed.is_empty() || allowed.contains(value) {
            return;
        }
        let shown = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let allowed: Vec<String> = allowed.iter().map(shown).collect();
        let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
        causes.not_supported_in_order(path, &shown(value), &allowed);
    }

    fn check_count(&self, n: usize, words: [&str; 2], path: &str, causes: &mut Vec<Cause>) {
        let what = if words[0] == "minItems" { "items" } else { "properties" };
        if let Some(min) = self.bound(words[0]).filter(|min| (n as u64) < *min) {
            let detail = format!("{path} in body should have at least {min} {what}");
            causes.invalid(path, &n.into(), &detail);
        }
        if let Some(max) = self.bound(words[1]).filter(|max| n as u64 > *max) {
            causes.too_many(path, n, usize::try_from(max).unwrap_or(usize::MAX));
        }
    }

    fn check_length(&self, n: usize, value: &Value, path: &str, causes: &mut Vec<Cause>) {
        if let Some(min) = self.bound("minLength").filter(|min| (n as u64) < *min) {
            let detail = format!("{path} in body should be at least {min} chars long");
            causes.invalid(path, value, &detail);
        }
        if let Some(max) = self.bound("maxLength").filter(|max| n as u64 > *max) {
            causes.too_long(path, usize::try_from(max).unwrap_or(usize::MAX));
        }
    }

    fn check_number(
        &self,
        number: Option<f64>,
        value: &Value,
        path: &str,
        causes: &mut Vec<Cause>,
    ) {
        let Some(number) = number else { return };
        let bound = |word: &str| self.rest.get(word).filter(|bound| bound.is_number());
        let exclusive = |word: &str| self.rest.get(word) == Some(&Value::Bool(true));
        let mut told = |holds: bool, detail: String| {
            if !holds {
                causes.invalid(path, value, &format!("{path} in body should be {detail}"));
            }
        };
        if let Some((text, min)) = bound("minimum").and_then(|it| Some((it, it.as_f64()?))) {
            match exclusive("exclusiveMinimum") {
                true => told(number > min, format!("greater than {text}")),
                false => told(number >= min, format!("greater than or equal to {text}")),
            }
        }
        if let Some((text, max)) = bound("maximum").and_then(|it| Some((it, it.as_f64()?))) {
            match exclusive("exclusiveMaximum") {
                true => told(number < max, format!("less than {text}")),
                false => told(number <= max, format!("less than or equal to {text}")),
            }
        }
    }
}
