//! JSON Schema as charts use it to check values: drafts 4 to 2020-12, references inside the document only.

use stdx::OrdSet;

use regex_lite::Regex;
use serde_json::{Map, Value};

use crate::chart::Chart;

/// Checks of one chart's values.
const STEPS_MAX: usize = 1_000_000;
/// Schemas inside each other, references included.
const DEPTH_MAX: usize = 150;
/// Complaints that are told.
const COMPLAINTS_MAX: usize = 100;

/// What is wrong with the values of a chart and of those inside, a paragraph a chart; empty if nothing is.
pub(crate) fn complaints(chart: &Chart, values: &Value) -> String {
    let mut out = String::new();
    if let Some(schema) = &chart.content.schema {
        let found = match serde_json::from_slice::<Value>(schema) {
            Ok(schema) => check(&schema, values),
            Err(error) => vec![format!("values.schema.json: {error}")],
        };
        if !found.is_empty() {
            out.push_str(&format!("{}:\n", chart.name()));
            for complaint in found {
                out.push_str(&format!("- {complaint}\n"));
            }
        }
    }
    for child in &chart.dependencies {
        if let Some(own) = values.get(child.name()) {
            out.push_str(&complaints(child, own));
        }
    }
    out
}

/// What is wrong with `values` by `schema`.
fn check(schema: &Value, values: &Value) -> Vec<String> {
    let draft = schema.get("$schema").and_then(Value::as_str).unwrap_or("");
    let is_old = ["draft-04", "draft-06", "draft-07"].iter().any(|old| draft.contains(old));
    let mut checker = Checker { root: schema, is_old, steps: 0, found: Vec::new() };
    checker.check(schema, values, "(root)", 0);
    let mut found = checker.found;
    if found.len() > COMPLAINTS_MAX {
        found.truncate(COMPLAINTS_MAX);
        found.push("and more".to_owned());
    }
    found
}

struct Checker<'a> {
    root: &'a Value,
    /// What stands beside a `$ref` does not count.
    is_old: bool,
    steps: usize,
    found: Vec<String>,
}

/// What of a value was looked at, for `unevaluatedProperties` and `unevaluatedItems`.
#[derive(Default)]
struct Seen {
    names: OrdSet<String>,
    n_items: usize,
    is_all: bool,
}

impl Seen {
    fn add(&mut self, other: Seen) {
        self.names.extend(other.names);
        self.n_items = self.n_items.max(other.n_items);
        self.is_all |= other.is_all;
    }
}

impl<'a> Checker<'a> {
    fn say(&mut self, at: &str, what: String) {
        self.found.push(format!("{at}: {what}"));
    }

    /// Whether it fits, without complaints if not.
    fn fits(&mut self, schema: &'a Value, value: &Value, at: &str, depth: usize) -> Option<Seen> {
        let n = self.found.len();
        let seen = self.check(schema, value, at, depth);
        let is_fit = self.found.len() == n;
        self.found.truncate(n);
        is_fit.then_some(seen)
    }

    fn check(&mut self, schema: &'a Value, value: &Value, at: &str, depth: usize) -> Seen {
        let mut seen = Seen::default();
        self.steps += 1;
        if self.steps > STEPS_MAX || depth > DEPTH_MAX {
            if self.found.len() <= COMPLAINTS_MAX {
                self.say(at, "the schema is too deep or takes too long".to_owned());
            }
            return seen;
        }
        let schema = match schema {
            Value::Object(schema) => schema,
            Value::Bool(false) => {
                self.say(at, "nothing is allowed here".to_owned());
                return seen;
            }
            _ => return seen,
        };
        for word in ["$ref", "$dynamicRef", "$recursiveRef"] {
            let Some(Value::String(reference)) = schema.get(word) else { continue };
            match self.resolve(reference) {
                Some(target) => seen.add(self.check(target, value, at, depth + 1)),
                None => {
                    let what = format!(
                        "the schema refers to {reference:?}, which is not in this document and is not fetched"
                    );
                    self.say(at, what);
                }
            }
            if self.is_old {
                return seen;
            }
        }
        self.scalar(schema, value, at);
        match value {
            Value::Object(map) => self.object(schema, map, at, depth, &mut seen),
            Value::Array(items) => self.array(schema, items, at, depth, &mut seen),
            _ => {}
        }
        self.combined(schema, value, at, depth, &mut seen);
        self.unevaluated(schema, value, at, depth, &mut seen);
        seen
    }

    fn resolve(&self, reference: &str) -> Option<&'a Value> {
        let fragment = match reference.split_once('#') {
            Some(("", fragment)) => fragment,
            Some((base, fragment)) => {
                let id = self.root.get("$id").or_else(|| self.root.get("id"))?.as_str()?;
                let is_own =
                    base == id.trim_end_matches('#') || id.rsplit('/').next() == Some(base);
                if !is_own {
                    return None;
                }
                fragment
            }
            None => {
                // A name of another file, or the `$id` of a part.
                return self.named(reference, "$id");
            }
        };
        match fragment {
            "" => Some(self.root),
            pointer if pointer.starts_with('/') => {
                let decoded = pointer.replace("%25", "%").replace("%24", "$");
                self.root.pointer(&decoded)
            }
            anchor => {
                self.named(anchor, "$anchor").or_else(|| self.named(&format!("#{anchor}"), "$id"))
            }
        }
    }

    /// The definition that has a name of its own.
    fn named(&self, name: &str, word: &str) -> Option<&'a Value> {
        let tables = ["$defs", "definitions"].iter().filter_map(|table| self.root.get(*table));
        let mut definitions = tables.filter_map(Value::as_object).flat_map(Map::values);
        definitions.find(|definition| definition.get(word).and_then(Value::as_str) == Some(name))
    }

    /// What does not look inside.
    fn scalar(&mut self, schema: &Map<String, Value>, value: &Value, at: &str) {
        if let Some(types) = schema.get("type") {
            let is_any = match types {
                Value::String(name) => is_type(value, name),
                Value::Array(names) => {
                    names.iter().filter_map(Value::as_str).any(|name| is_type(value, name))
                }
                _ => true,
            };
            if !is_any {
                let wanted = match types {
                    Value::Array(names) => {
                        let names: Vec<_> = names.iter().filter_map(Value::as_str).collect();
                        names.join("/")
                    }
                    other => other.as_str().unwrap_or("").to_owned(),
                };
                let found = type_of(value);
                self.say(at, format!("Invalid type. Expected: {wanted}, given: {found}"));
            }
        }
        if let Some(Value::Array(allowed)) = schema.get("enum")
            && !allowed.iter().any(|one| is_equal(one, value))
        {
            let shown: Vec<String> = allowed.iter().map(ToString::to_string).collect();
            self.say(at, format!("must be one of the following: {}", shown.join(", ")));
        }
        if let Some(constant) = schema.get("const")
            && !is_equal(constant, value)
        {
            self.say(at, format!("does not match: {constant}"));
        }
        if let Some(n) = value.as_f64() {
            self.number(schema, n, at);
        }
        if let Value::String(text) = value {
            let length = text.chars().count();
            self.count(schema, "minLength", "maxLength", length, at, "String length");
            if let Some(Value::String(pattern)) = schema.get("pattern") {
                match Regex::new(pattern) {
                    Ok(regex) if !regex.is_match(text) => {
                        self.say(at, format!("Does not match pattern '{pattern}'"));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        self.say(at, format!("the schema's pattern '{pattern}': {error}"))
                    }
                }
            }
        }
    }

    fn number(&mut self, schema: &Map<String, Value>, n: f64, at: &str) {
        let limit = |name: &str| schema.get(name).and_then(Value::as_f64);
        let is_strict = |name: &str| schema.get(name) == Some(&Value::Bool(true));
        if let Some(low) = limit("minimum")
            && (n < low || n == low && is_strict("exclusiveMinimum"))
        {
            self.say(at, format!("Must be greater than or equal to {low}"));
        }
        if let Some(high) = limit("maximum")
            && (n > high || n == high && is_strict("exclusiveMaximum"))
        {
            self.say(at, format!("Must be less than or equal to {high}"));
        }
        if let Some(low) = limit("exclusiveMinimum")
            && n <= low
        {
            self.say(at, format!("Must be greater than {low}"));
        }
        if let Some(high) = limit("exclusiveMaximum")
            && n >= high
        {
            self.say(at, format!("Must be less than {high}"));
        }
        if let Some(step) = limit("multipleOf")
            && step > 0.0
            && (n / step - (n / step).round()).abs() > 1e-9
        {
            self.say(at, format!("Must be a multiple of {step}"));
        }
    }

    fn count(
        &mut self,
        schema: &Map<String, Value>,
        min: &str,
        max: &str,
        n: usize,
        at: &str,
        what: &str,
    ) {
        let limit = |name: &str| {
            let limit = schema.get(name).and_then(Value::as_f64)?;
            // Counts that matter are exact as floats.
            Some((limit, n as f64))
        };
        if let Some((low, n)) = limit(min)
            && n < low
        {
            self.say(at, format!("{what} must be at least {low}"));
        }
        if let Some((high, n)) = limit(max)
            && n > high
        {
            self.say(at, format!("{what} must be at most {high}"));
        }
    }

    fn object(
        &mut self,
        schema: &'a Map<String, Value>,
        map: &Map<String, Value>,
        at: &str,
        depth: usize,
        seen: &mut Seen,
    ) {
        if let Some(Value::Array(names)) = schema.get("required") {
            for name in names.iter().filter_map(Value::as_str) {
                if !map.contains_key(name) {
                    self.say(at, format!("{name} is required"));
                }
            }
        }
        self.count(schema, "minProperties", "maxProperties", map.len(), at, "Number of properties");
        let properties = schema.get("properties").and_then(Value::as_object);
        let patterns = schema.get("patternProperties").and_then(Value::as_object);
        let mut regexes = Vec::new();
        for (pattern, inner) in patterns.into_iter().flatten() {
            match Regex::new(pattern) {
                Ok(regex) => regexes.push((regex, inner)),
                Err(error) => self.say(at, format!("the schema's pattern '{pattern}': {error}")),
            }
        }
        for (name, value) in map {
            let path = path(at, name);
            let mut is_known = false;
            if let Some(inner) = properties.and_then(|properties| properties.get(name)) {
                is_known = true;
                self.check(inner, value, &path, depth + 1);
            }
            for (regex, inner) in &regexes {
                if regex.is_match(name) {
                    is_known = true;
                    self.check(inner, value, &path, depth + 1);
                }
            }
            if let Some(names) = schema.get("propertyNames") {
                self.check(names, &Value::String(name.clone()), &path, depth + 1);
            }
            match schema.get("additionalProperties") {
                Some(Value::Bool(false)) if !is_known => {
                    self.say(at, format!("Additional property {name} is not allowed"));
                }
                Some(inner) if !is_known => {
                    is_known = true;
                    self.check(inner, value, &path, depth + 1);
                }
                _ => {}
            }
            if is_known {
                seen.names.insert(name.clone());
            }
        }
        for word in ["dependencies", "dependentRequired", "dependentSchemas"] {
            for (name, needs) in schema.get(word).and_then(Value::as_object).into_iter().flatten() {
                match needs {
                    _ if !map.contains_key(name) => {}
                    Value::Array(needs) => {
                        for need in needs.iter().filter_map(Value::as_str) {
                            if !map.contains_key(need) {
                                self.say(at, format!("Has a dependency on {need}"));
                            }
                        }
                    }
                    inner => {
                        let value = Value::Object(map.clone());
                        seen.add(self.check(inner, &value, at, depth + 1));
                    }
                }
            }
        }
    }

    fn array(
        &mut self,
        schema: &'a Map<String, Value>,
        items: &[Value],
        at: &str,
        depth: usize,
        seen: &mut Seen,
    ) {
        self.count(schema, "minItems", "maxItems", items.len(), at, "Number of items");
        if schema.get("uniqueItems") == Some(&Value::Bool(true)) {
            let mut known = OrdSet::default();
            if !items.iter().all(|item| known.insert(canonical(item))) {
                self.say(at, "array items must be unique".to_owned());
            }
        }
        let prefix = match (schema.get("prefixItems"), schema.get("items")) {
            (Some(Value::Array(prefix)), _) | (None, Some(Value::Array(prefix))) => &prefix[..],
            _ => &[],
        };
        for (idx, (inner, item)) in prefix.iter().zip(items).enumerate() {
            self.check(inner, item, &path(at, &idx.to_string()), depth + 1);
        }
        let rest = match schema.get("items") {
            Some(Value::Array(_)) => schema.get("additionalItems"),
            other => other,
        };
        seen.n_items = prefix.len();
        if let Some(rest) = rest {
            for (idx, item) in items.iter().enumerate().skip(prefix.len()) {
                self.check(rest, item, &path(at, &idx.to_string()), depth + 1);
            }
            seen.n_items = items.len();
        }
        if let Some(inner) = schema.get("contains") {
            let n =
                items.iter().filter(|item| self.fits(inner, item, at, depth + 1).is_some()).count();
            let limit = |name: &str| schema.get(name).and_then(Value::as_u64);
            let least = limit("minContains").unwrap_or(1);
            let is_few = (n as u64) < least;
            if is_few || limit("maxContains").is_some_and(|most| n as u64 > most) {
                self.say(at, "the items do not contain what they must".to_owned());
            }
        }
    }

    fn combined(
        &mut self,
        schema: &'a Map<String, Value>,
        value: &Value,
        at: &str,
        depth: usize,
        seen: &mut Seen,
    ) {
        let list = |name: &str| match schema.get(name) {
            Some(Value::Array(list)) => Some(&list[..]),
            _ => None,
        };
        for inner in list("allOf").unwrap_or_default() {
            seen.add(self.check(inner, value, at, depth + 1));
        }
        for (word, what) in [
            ("anyOf", "Must validate at least one schema (anyOf)"),
            ("oneOf", "Must validate one and only one schema (oneOf)"),
        ] {
            let Some(list) = list(word) else { continue };
            let mut n = 0;
            for inner in list {
                if let Some(inner_seen) = self.fits(inner, value, at, depth + 1) {
                    n += 1;
                    seen.add(inner_seen);
                }
            }
            if n == 0 || word == "oneOf" && n > 1 {
                self.say(at, what.to_owned());
            }
        }
        if let Some(inner) = schema.get("not")
            && self.fits(inner, value, at, depth + 1).is_some()
        {
            self.say(at, "Must not validate the schema (not)".to_owned());
        }
        if let Some(condition) = schema.get("if") {
            let fit = self.fits(condition, value, at, depth + 1);
            let branch = if fit.is_some() { "then" } else { "else" };
            seen.add(fit.unwrap_or_default());
            if let Some(inner) = schema.get(branch) {
                seen.add(self.check(inner, value, at, depth + 1));
            }
        }
    }

    fn unevaluated(
        &mut self,
        schema: &'a Map<String, Value>,
        value: &Value,
        at: &str,
        depth: usize,
        seen: &mut Seen,
    ) {
        if let (Some(inner), Value::Object(map), false) =
            (schema.get("unevaluatedProperties"), value, seen.is_all)
        {
            for (name, value) in map.iter().filter(|(name, _)| !seen.names.contains(*name)) {
                match inner {
                    Value::Bool(false) => {
                        self.say(at, format!("Additional property {name} is not allowed"));
                    }
                    inner => {
                        self.check(inner, value, &path(at, name), depth + 1);
                    }
                }
            }
            seen.is_all = true;
        }
        if let (Some(inner), Value::Array(items)) = (schema.get("unevaluatedItems"), value) {
            for (idx, item) in items.iter().enumerate().skip(seen.n_items) {
                self.check(inner, item, &path(at, &idx.to_string()), depth + 1);
            }
            seen.n_items = items.len();
        }
    }
}

fn path(at: &str, name: &str) -> String {
    match at {
        "(root)" => name.to_owned(),
        at => format!("{at}.{name}"),
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_type(value, "integer") => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|n| n.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

/// JSON's equality: `1` and `1.0` are one number.
fn is_equal(a: &Value, b: &Value) -> bool {
    a == b || canonical(a) == canonical(b)
}

fn canonical(value: &Value) -> String {
    let mut value = value.clone();
    crate::values::floats(&mut value);
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn n_complaints(schema: Value, values: Value) -> usize {
        check(&schema, &values).len()
    }

    #[test]
    fn values_are_checked() {
        for (schema, good, bad) in [
            (json!({"type":"object","required":["a"]}), json!({"a":1}), json!({})),
            (
                json!({"properties":{"a":{"type":["string","null"]}}}),
                json!({"a":null}),
                json!({"a":1}),
            ),
            (json!({"properties":{"a":{"type":"integer"}}}), json!({"a":1.0}), json!({"a":1.5})),
            (
                json!({"properties":{"a":{}},"additionalProperties":false}),
                json!({"a":1}),
                json!({"b":1}),
            ),
            (
                json!({"patternProperties":{"^x-":{"type":"string"}},"additionalProperties":false}),
                json!({"x-a":"1"}),
                json!({"x-a":1}),
            ),
            (json!({"enum":[1,"a"]}), json!(1.0), json!(2)),
            (json!({"const":{"a":[1]}}), json!({"a":[1]}), json!({"a":[2]})),
            (json!({"oneOf":[{"type":"string"},{"minimum":5}]}), json!(7), json!(3)),
            (json!({"anyOf":[{"type":"string"},{"type":"null"}]}), json!(null), json!(3)),
            (json!({"not":{"type":"string"}}), json!(1), json!("")),
            (json!({"$ref":"#/$defs/x","$defs":{"x":{"type":"string"}}}), json!("a"), json!(1)),
            (
                json!({"$ref":"#/definitions/a~1b","definitions":{"a/b":{"type":"string"}}}),
                json!("a"),
                json!(1),
            ),
            (json!({"$ref":"http://example.com/x.json"}), json!(null), json!(null)),
            (
                json!({"items":{"type":"string"},"minItems":1,"uniqueItems":true}),
                json!(["a", "b"]),
                json!(["a", "a"]),
            ),
            (
                json!({"prefixItems":[{"type":"string"}],"items":false}),
                json!(["a"]),
                json!(["a", 1]),
            ),
            (json!({"contains":{"const":1}}), json!([2, 1]), json!([2])),
            (
                json!({"if":{"properties":{"a":{"const":1}}},"then":{"required":["b"]},"else":{"required":["c"]}}),
                json!({"a":2,"c":1}),
                json!({"a":1,"c":1}),
            ),
            (json!({"pattern":"^a+$","maxLength":3}), json!("aaa"), json!("ab")),
            (json!({"exclusiveMinimum":1,"multipleOf":0.5}), json!(1.5), json!(1)),
            (
                json!({"allOf":[{"properties":{"a":{}}}],"unevaluatedProperties":false}),
                json!({"a":1}),
                json!({"b":1}),
            ),
            (json!({"dependentRequired":{"a":["b"]}}), json!({"b":1}), json!({"a":1})),
        ] {
            let is_remote =
                schema.get("$ref").is_some_and(|r| r.as_str().unwrap().starts_with("http"));
            if !is_remote {
                assert_eq!(n_complaints(schema.clone(), good), 0, "{schema}");
            }
            assert_eq!(n_complaints(schema.clone(), bad), 1, "{schema}");
        }
        let old = json!({"$schema":"http://json-schema.org/draft-07/schema#","$ref":"#/definitions/x","type":"string","definitions":{"x":{"type":"integer"}}});
        assert_eq!(n_complaints(old, json!(1)), 0);
    }

    #[test]
    fn a_schema_in_itself_ends() {
        assert_eq!(n_complaints(json!({"$ref":"#"}), json!(1)), 1);
        let wide = json!({"anyOf":[{"$ref":"#"},{"$ref":"#"}]});
        assert!(n_complaints(wide, json!(1)) > 0);
        let tree = json!({"type":"object","additionalProperties":{"$ref":"#"}});
        assert_eq!(n_complaints(tree, json!({"a":{"b":{"c":{}}}})), 0);
    }
}
