//! OpenAPI v3 to nodes.

use serde_json::{Map, Value};

use super::{
    At, DEPTH_MAX, Limits, ListType, Logic, NODES_MAX, NOTHING, Node, Pattern, Span, Structural,
    Type, formats,
};

impl Structural {
    /// Reads a schema (`openAPIV3Schema`). Whether it is structural in every respect is asked when it is
    /// defined (`custom::schemas`); here it is bounded, and what has no meaning is passed over.
    ///
    /// # Errors
    /// Where it is too deep or too large, or is no schema at all.
    pub fn read(schema: &Value) -> Result<Structural, String> {
        let mut structural = Structural::default();
        structural.add(schema, 0).map_err(|(path, why)| match path.as_str() {
            "" => why,
            path => format!("{}: {why}", path.trim_start_matches('.')),
        })?;
        structural.nodes.shrink_to_fit();
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
        let mut node = self.flat(map);
        let under = |name: &str, (path, why): (String, String)| (format!(".{name}{path}"), why);
        if let Some(Value::Object(properties)) = map.get("properties") {
            // Maps are in the order of their keys.
            let mut read = Vec::with_capacity(properties.len());
            for (name, property) in properties {
                let below = self.add(property, depth + 1).map_err(|error| under(name, error))?;
                self.bytes += name.len() + size_of::<(Box<str>, At)>() + 16;
                read.push((name.as_str().into(), below));
            }
            node.properties = read.into();
        }
        match map.get("additionalProperties") {
            Some(Value::Bool(allowed)) => {
                node.additional = Some(NOTHING);
                node.closed = !allowed;
            }
            Some(schema @ Value::Object(_)) => {
                let below = self.add(schema, depth + 1).map_err(|error| under("*", error))?;
                node.additional = Some(below);
            }
            _ => {}
        }
        if let Some(items @ Value::Object(_)) = map.get("items") {
            node.items = Some(self.add(items, depth + 1).map_err(|error| under("[]", error))?);
        }
        node.logic = self.logic(map, depth)?;
        self.nodes[at as usize] = node;
        Ok(at)
    }

    fn logic(
        &mut self,
        map: &Map<String, Value>,
        depth: usize,
    ) -> Result<Option<Box<Logic>>, (String, String)> {
        let mut several = |word: &str| -> Result<Box<[At]>, (String, String)> {
            let schemas = map.get(word).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let read = schemas.iter().map(|schema| self.add(schema, depth + 1));
            read.collect::<Result<_, _>>().map_err(|(path, why)| (format!(".{word}{path}"), why))
        };
        let mut logic = Logic {
            all: several("allOf")?,
            any: several("anyOf")?,
            one: several("oneOf")?,
            not: None,
        };
        if let Some(not @ Value::Object(_)) = map.get("not") {
            logic.not = Some(self.add(not, depth + 1)?);
        }
        let is_empty = logic.all.is_empty() && logic.any.is_empty() && logic.one.is_empty();
        Ok((!is_empty || logic.not.is_some()).then(|| Box::new(logic)))
    }

    /// What a schema says of the value itself.
    fn flat(&mut self, map: &Map<String, Value>) -> Node {
        let mut node = Node::default();
        let mut limits = Limits::default();
        let mut limited = false;
        for (word, value) in map {
            let text = value.as_str().unwrap_or("");
            let set = value == &Value::Bool(true);
            let mut limit = true;
            match word.as_str() {
                "minimum" => limits.minimum = value.as_f64(),
                "maximum" => limits.maximum = value.as_f64(),
                "exclusiveMinimum" => limits.exclusive_minimum = set,
                "exclusiveMaximum" => limits.exclusive_maximum = set,
                "multipleOf" => limits.multiple_of = value.as_f64(),
                "minLength" => limits.length.min = value.as_i64(),
                "maxLength" => limits.length.max = value.as_i64(),
                "minItems" => limits.items.min = value.as_i64(),
                "maxItems" => limits.items.max = value.as_i64(),
                "minProperties" => limits.entries.min = value.as_i64(),
                "maxProperties" => limits.entries.max = value.as_i64(),
                "uniqueItems" => limits.unique = set,
                "pattern" => limits.pattern = Pattern::new(text),
                "format" => limits.format = formats::Format::of(text),
                "enum" => limits.values = value.as_array().cloned().unwrap_or_default().into(),
                _ => limit = false,
            }
            limited |= limit;
            match word.as_str() {
                "type" => node.kind = type_of(text),
                "nullable" => node.nullable = set,
                "x-kubernetes-preserve-unknown-fields" => node.preserve = set,
                "x-kubernetes-embedded-resource" => node.embedded = set,
                "x-kubernetes-map-type" => node.atomic = text == "atomic",
                "default" if !value.is_null() => node.default = Some(Box::new(value.clone())),
                "required" => node.required = names(value),
                "x-kubernetes-validations" => node.rules = Some(Box::new(value.clone())),
                _ => {}
            }
            if matches!(word.as_str(), "default" | "enum" | "required" | "x-kubernetes-validations")
            {
                self.bytes += 4 * wire::json::tree_bytes(value.to_string().as_bytes()) / 3;
            }
        }
        if limited {
            self.bytes += size_of::<Limits>() + 16;
            node.limits = Some(Box::new(limits));
        }
        if map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
            node.kind = Type::IntOrString;
        }
        node.list = match map.get("x-kubernetes-list-type").and_then(Value::as_str) {
            Some("set") => ListType::Set,
            Some("map") => {
                ListType::Map(map.get("x-kubernetes-list-map-keys").map(names).unwrap_or_default())
            }
            _ => ListType::Atomic,
        };
        node
    }
}

impl Span {
    /// Whether a count is below or above.
    pub(super) fn broken(self, n: usize) -> (Option<i64>, Option<i64>) {
        let n = i64::try_from(n).unwrap_or(i64::MAX);
        (self.min.filter(|min| n < *min), self.max.filter(|max| n > *max))
    }
}

fn type_of(word: &str) -> Type {
    match word {
        "object" => Type::Object,
        "array" => Type::Array,
        "string" => Type::String,
        "integer" => Type::Integer,
        "number" => Type::Number,
        "boolean" => Type::Boolean,
        _ => Type::Any,
    }
}

fn names(list: &Value) -> Box<[Box<str>]> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(Value::as_str).map(Box::from).collect()
}
