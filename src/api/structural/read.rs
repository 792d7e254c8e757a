//! OpenAPI v3 to nodes.

use serde_json::{Map, Value};

use super::{At, DEPTH_MAX, ListType, NODES_MAX, Node, Structural, Type};

impl Structural {
    /// Reads a schema (`openAPIV3Schema`).
    ///
    /// # Errors
    /// Where it is no structural schema, or too deep or too large.
    pub fn read(schema: &Value) -> Result<Structural, String> {
        let mut structural = Structural::default();
        structural.add(schema, 0).map_err(|(path, why)| match path.as_str() {
            "" => why,
            path => format!("{}: {why}", path.trim_start_matches('.')),
        })?;
        Ok(structural)
    }

    fn add(&mut self, schema: &Value, depth: usize) -> Result<At, (String, String)> {
        let here = |why: &str| (String::new(), why.to_owned());
        let Value::Object(map) = schema else { return Err(here("a schema is an object")) };
        if depth > DEPTH_MAX {
            return Err(here(&format!("a schema nests at most {DEPTH_MAX} deep")));
        }
        if self.nodes.len() >= NODES_MAX {
            return Err(here(&format!("a schema has at most {NODES_MAX} parts")));
        }
        let at = At::try_from(self.nodes.len()).map_err(|_| here("too many parts"))?;
        self.nodes.push(Node::default());
        let mut node = self.flat(map).map_err(|why| here(&why))?;
        let under = |name: &str, (path, why): (String, String)| (format!(".{name}{path}"), why);
        if let Some(Value::Object(properties)) = map.get("properties") {
            // Maps are in the order of their keys.
            for (name, property) in properties {
                let below = self.add(property, depth + 1).map_err(|error| under(name, error))?;
                node.properties.push((name.as_str().into(), below));
            }
        }
        match map.get("additionalProperties") {
            Some(Value::Bool(true)) => node.preserve = true,
            Some(schema @ Value::Object(_)) => {
                let below = self.add(schema, depth + 1).map_err(|error| under("*", error))?;
                node.additional = Some(below);
            }
            _ => {}
        }
        if node.additional.is_some() && !node.properties.is_empty() {
            return Err(here("additionalProperties and properties are mutually exclusive"));
        }
        if let Some(items) = map.get("items") {
            node.items = Some(self.add(items, depth + 1).map_err(|error| under("[]", error))?);
        }
        if node.kind == Type::Array && node.items.is_none() {
            return Err(here("must be specified: items"));
        }
        self.nodes[at as usize] = node;
        Ok(at)
    }

    /// What a schema says of the value itself.
    fn flat(&self, map: &Map<String, Value>) -> Result<Node, String> {
        let mut node = Node::default();
        for (word, value) in map {
            let text = value.as_str().unwrap_or("");
            let set = value == &Value::Bool(true);
            match word.as_str() {
                "type" => node.kind = type_of(text)?,
                "nullable" => node.nullable = set,
                "x-kubernetes-preserve-unknown-fields" => node.preserve |= set,
                "x-kubernetes-embedded-resource" => node.embedded = set,
                "x-kubernetes-map-type" => node.atomic = text == "atomic",
                "default" => node.default = Some(value.clone()),
                "required" => node.required = names(value),
                "$ref" => return Err("Forbidden: $ref is not supported".into()),
                "properties"
                | "additionalProperties"
                | "items"
                | "x-kubernetes-int-or-string"
                | "x-kubernetes-list-type"
                | "x-kubernetes-list-map-keys" => {}
                _ => {
                    node.rest.insert(word.clone(), value.clone());
                }
            }
        }
        if map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
            node.kind = Type::IntOrString;
        }
        node.list = match map.get("x-kubernetes-list-type").and_then(Value::as_str) {
            None | Some("atomic") => ListType::Atomic,
            Some("set") => ListType::Set,
            Some("map") => {
                let keys = map.get("x-kubernetes-list-map-keys").map(names).unwrap_or_default();
                if keys.is_empty() {
                    return Err("x-kubernetes-list-map-keys: Required value".into());
                }
                ListType::Map(keys)
            }
            Some(other) => return Err(format!("x-kubernetes-list-type: {other:?} is none")),
        };
        Ok(node)
    }
}

fn type_of(word: &str) -> Result<Type, String> {
    Ok(match word {
        "" => Type::Any,
        "object" => Type::Object,
        "array" => Type::Array,
        "string" => Type::String,
        "integer" => Type::Integer,
        "number" => Type::Number,
        "boolean" => Type::Boolean,
        other => return Err(format!("type: Unsupported value: {other:?}")),
    })
}

fn names(list: &Value) -> Vec<Box<str>> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(Value::as_str).map(Box::from).collect()
}
