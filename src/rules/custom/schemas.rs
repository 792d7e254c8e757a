//! Rules of schemas: what OpenAPI v3 allows of them, what makes them structural, and their defaults.
//!
//! Source: apiextensions-apiserver/pkg/apis/apiextensions/validation/validation.go,
//! pkg/apiserver/schema/{validation,complete}.go, pkg/apiserver/schema/defaulting/validation.go.

use api::complain::{Complain, go_any};
use api::lens::Lens;
use api::status::Cause;
use api::structural::{Structural, check_pattern};
use serde_json::{Map, Value, json};
use stdx::{Arrange, OrdSet};

/// How many complaints are made about one schema.
const CAUSES_MAX: usize = 64;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const META: [&str; 3] = ["metadata", "kind", "apiVersion"];

/// What stands at the root where the status is validated apart, in upstream's order and words.
const AT_ROOT: &str = "Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations";
const NOT_AT_ROOT: [&str; 21] = [
    "id",
    "$schema",
    "$ref",
    "default",
    "enum",
    "maxProperties",
    "minProperties",
    "allOf",
    "oneOf",
    "anyOf",
    "not",
    "additionalProperties",
    "patternProperties",
    "dependencies",
    "additionalItems",
    "definitions",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
];

/// Checks the schema of one version.
pub(crate) fn check(schema: &Value, path: &str, has_status: bool, causes: &mut Vec<Cause>) {
    if !schema.is_object() {
        return;
    }
    let structural = match Structural::read(schema) {
        Ok(structural) => structural,
        Err(why) => {
            causes.invalid_whole(path, &why);
            return;
        }
    };
    let told = causes.len();
    if has_status {
        root(schema, path, causes);
    }
    if schema.flag("nullable") {
        causes.forbidden(&format!("{path}.nullable"), "nullable cannot be true at the root");
    }
    let mut rules = Rules { path: path.to_owned(), causes: Vec::new() };
    rules.structural(schema, Level::Root);
    rules.complete(schema, schema, path, path);
    rules.causes.arrange_by(|a, b| (&a.field, &a.message).cmp(&(&b.field, &b.message)));
    let is_structural = rules.causes.is_empty();
    causes.append(&mut rules.causes);
    if is_structural {
        defaults(&structural, path, causes);
    }
    rules.openapi(schema, Inside { root: true, ..Inside::default() });
    causes.append(&mut rules.causes);
    if causes.len() == told {
        structural.check_rules(path, causes);
    }
    causes.truncate(told + CAUSES_MAX);
}

fn root(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    if !matches!(schema.str("type"), "" | "object") {
        let detail = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        causes.invalid(&format!("{path}.type"), schema.at("type"), detail);
        return;
    }
    if schema.flag("nullable") || NOT_AT_ROOT.iter().any(|word| schema.get(word).is_some()) {
        let detail = format!(
            "only [{AT_ROOT}] fields are allowed at the root of the schema if the status subresource is enabled"
        );
        causes.invalid_whole(path, &detail);
    }
}

/// How a schema is met.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What holds of a schema because of where it is.
#[derive(Clone, Copy, Default)]
struct Inside<'a> {
    root: bool,
    metadata: bool,
    /// Why there may be no defaults.
    no_defaults: Option<&'a str>,
}

struct Rules {
    path: String,
    causes: Vec<Cause>,
}

impl Rules {
    /// Goes one step down, and comes back.
    fn at(&mut self, step: &str, check: impl FnOnce(&mut Rules)) {
        let len = self.path.len();
        if self.causes.len() >= CAUSES_MAX {
            return;
        }
        self.path.push_str(step);
        check(self);
        self.path.truncate(len);
    }

    fn forbidden(&mut self, word: &str, detail: &str) {
        let path = format!("{}.{word}", self.path);
        self.causes.forbidden(&path, detail);
    }

    fn required(&mut self, word: &str, detail: &str) {
        let path = format!("{}.{word}", self.path);
        self.causes.required(&path, detail);
    }

    fn invalid(&mut self, word: &str, value: &Value, detail: &str) {
        let path = format!("{}.{word}", self.path);
        self.causes.invalid(&path, value, detail);
    }

    fn each(&mut self, schema: &Value, word: &str, mut check: impl FnMut(&mut Rules, &Value)) {
        for (idx, one) in schema.at(word).as_array().into_iter().flatten().enumerate() {
            self.at(&format!(".{word}[{idx}]"), |rules| check(rules, one));
        }
    }

    fn properties(&mut self, schema: &Value, mut check: impl FnMut(&mut Rules, &str, &Value)) {
        for (name, one) in schema.at("properties").as_object().into_iter().flatten() {
            self.at(&format!(".properties[{name}]"), |rules| check(rules, name, one));
        }
    }

    /// Rules of structural schemas.
    fn structural(&mut self, schema: &Value, level: Level) {
        let kind = schema.str("type");
        if kind == "array" && !schema.has("items") {
            self.required("items", "must be specified");
        }
        if let items @ Value::Object(_) = schema.at("items") {
            self.at(".items", |rules| rules.structural(items, Level::Item));
        }
        self.properties(schema, |rules, _, one| rules.structural(one, Level::Field));
        let additional = schema.at("additionalProperties");
        if !additional.is_null() && level == Level::Root {
            self.forbidden("additionalProperties", "must not be used at the root");
        }
        if additional.is_object() {
            self.at(".additionalProperties", |rules| rules.structural(additional, Level::Field));
        }
        let flag = |word: &str| schema.get(word) == Some(&Value::Bool(true));
        let embedded = flag("x-kubernetes-embedded-resource");
        let int_or_string = flag("x-kubernetes-int-or-string");
        let preserve = flag("x-kubernetes-preserve-unknown-fields");
        for (word, set) in [
            ("x-kubernetes-preserve-unknown-fields", preserve),
            ("x-kubernetes-embedded-resource", embedded),
        ] {
            if int_or_string && set {
                let detail = "must be false if x-kubernetes-int-or-string is true";
                self.invalid(word, &true.into(), detail);
            }
        }
        let pattern = json!([{"type": "integer"}, {"type": "string"}]);
        let skip_any = schema.at("anyOf") == &pattern;
        let skip_all = schema.at("allOf.0.anyOf") == &pattern;
        self.values(schema, skip_any, skip_all);
        self.typed(schema, level, [embedded, int_or_string || preserve]);
        if embedded && !additional.is_null() {
            let detail = "must not be used if x-kubernetes-embedded-resource is set";
            self.forbidden("additionalProperties", detail);
        }
        self.metadata(schema, level, embedded);
        let is_bare = schema.at("properties").as_object().is_none_or(Map::is_empty);
        if embedded && !preserve && is_bare {
            self.required("properties", "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields");
        }
    }

    fn typed(&mut self, schema: &Value, level: Level, [embedded, untyped]: [bool; 2]) {
        let kind = schema.str("type");
        if embedded && kind != "object" {
            let detail = "must be object if x-kubernetes-embedded-resource is true";
            match kind {
                "" => self.required("type", detail),
                kind => self.invalid("type", &kind.into(), detail),
            }
        } else if kind.is_empty() && !untyped {
            let detail = match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            };
            self.required("type", detail);
        }
        if level == Level::Root && !kind.is_empty() && kind != "object" {
            self.invalid("type", &kind.into(), "must be object at the root");
        }
    }

    fn metadata(&mut self, schema: &Value, level: Level, embedded: bool) {
        let known = level == Level::Root || embedded;
        let properties = schema.at("properties");
        for word in ["kind", "apiVersion"] {
            if known && properties.get(word).is_some_and(|it| it.str("type") != "string") {
                let kind = properties.at(word).at("type");
                let shown = if kind.is_null() { Value::from("") } else { kind.clone() };
                self.invalid(&format!("properties[{word}].type"), &shown, "must be string");
            }
        }
        let Some(metadata) = properties.get("metadata") else { return };
        if known && metadata.str("type") != "object" {
            let kind = Value::from(metadata.str("type"));
            self.invalid("properties[metadata].type", &kind, "must be object");
        }
        if level == Level::Root {
            let names = metadata.at("properties").as_object();
            let may_be = names.is_none_or(|names| {
                names.keys().all(|name| matches!(name.as_str(), "name" | "generateName"))
            });
            let others = metadata.as_object().into_iter().flatten().any(|(word, _)| {
                !matches!(
                    word.as_str(),
                    "type" | "properties" | "default" | "externalDocs" | "example"
                )
            });
            if !may_be || others {
                self.forbidden("properties[metadata]", "must not specify anything other than name and generateName, but metadata is implicitly specified");
            }
        }
    }

    /// What a schema says of values, and the schemas that it holds together.
    fn values(&mut self, schema: &Value, skip_any: bool, skip_all: bool) {
        if !skip_any {
            self.each(schema, "anyOf", |rules, one| rules.nested(one, false));
        }
        let mut is_first = skip_all;
        self.each(schema, "allOf", |rules, one| rules.nested(one, std::mem::take(&mut is_first)));
        self.each(schema, "oneOf", |rules, one| rules.nested(one, false));
        if let not @ Value::Object(_) = schema.at("not") {
            self.at(".not", |rules| rules.nested(not, false));
        }
        let pattern = schema.str("pattern");
        if let Some(Err(why)) = (!pattern.is_empty()).then(|| check_pattern(pattern)) {
            let detail = format!("must be a valid regular expression, but isn't: {why}");
            self.invalid("pattern", &pattern.into(), &detail);
        }
    }

    /// A schema inside of `allOf`, `anyOf`, `oneOf` or `not`, which says nothing of shapes.
    fn nested(&mut self, schema: &Value, skip_any: bool) {
        self.values(schema, skip_any, false);
        if let items @ Value::Object(_) = schema.at("items") {
            self.at(".items", |rules| rules.nested(items, false));
        }
        self.properties(schema, |rules, _, one| rules.nested(one, false));
        for (word, what) in [
            ("type", "empty"),
            ("additionalProperties", "undefined"),
            ("default", "undefined"),
            ("title", "empty"),
            ("description", "empty"),
            ("nullable", "false"),
            ("x-kubernetes-preserve-unknown-fields", "false"),
            ("x-kubernetes-embedded-resource", "false"),
            ("x-kubernetes-int-or-string", "false"),
            ("x-kubernetes-list-map-keys", "empty"),
            ("x-kubernetes-list-type", "undefined"),
            ("x-kubernetes-map-type", "undefined"),
            ("x-kubernetes-validations", "empty"),
        ] {
            if schema
                .get(word)
                .is_some_and(|value| !value.is_null() && value != &Value::Bool(false))
            {
                self.forbidden(word, &format!("must be {what} to be structural"));
            }
        }
        if schema.at("properties").get("metadata").is_some() {
            self.forbidden("properties[metadata]", "must not be specified in a nested context");
        }
    }

    /// What nested schemas speak of must be in the structure. Upstream follows those of the root only.
    fn complete(&mut self, values: &Value, structure: &Value, path: &str, nested: &str) {
        for word in ["allOf", "anyOf", "oneOf"] {
            for (idx, one) in values.at(word).as_array().into_iter().flatten().enumerate() {
                self.covered(one, structure, path, &format!("{nested}.{word}[{idx}]"));
            }
        }
        if let not @ Value::Object(_) = values.at("not") {
            self.covered(not, structure, path, &format!("{nested}.not"));
        }
    }

    fn covered(&mut self, values: &Value, structure: &Value, path: &str, nested: &str) {
        if self.causes.len() >= CAUSES_MAX {
            return;
        }
        self.complete(values, structure, path, nested);
        let mut step = |one: &Value, found: Option<&Value>, step: &str| {
            let (path, nested) = (format!("{path}.{step}"), format!("{nested}.{step}"));
            match found.filter(|found| found.is_object()) {
                Some(found) => self.covered(one, found, &path, &nested),
                None => {
                    self.causes.required(&path, &format!("because it is defined in {nested}"));
                }
            }
        };
        if let items @ Value::Object(_) = values.at("items") {
            step(items, structure.get("items"), "items");
        }
        for (name, one) in values.at("properties").as_object().into_iter().flatten() {
            let found = structure.at("properties").get(name);
            step(one, found, &format!("properties[{name}]"));
        }
    }

    /// What OpenAPI v3 has no meaning for here, and rules of the extensions.
    fn openapi(&mut self, schema: &Value, inside: Inside<'_>) {
        self.unsupported(schema, inside);
        let additional = schema.at("additionalProperties");
        let has_properties = schema.at("properties").as_object().is_some_and(|it| !it.is_empty());
        if !additional.is_null() && has_properties && additional != &Value::Bool(true) {
            let detail = "additionalProperties and properties are mutual exclusive";
            self.forbidden("additionalProperties", detail);
        }
        let plain = Inside { root: false, ..inside };
        if additional.is_object() {
            let reason = "inside additionalProperties applying to object metadata";
            let no_defaults = if inside.metadata { Some(reason) } else { inside.no_defaults };
            let inside = Inside { no_defaults, ..plain };
            self.at(".additionalProperties", |rules| rules.openapi(additional, inside));
        }
        let embedded = schema.flag("x-kubernetes-embedded-resource");
        self.properties(schema, |rules, name, one| {
            let is_meta = (inside.root || embedded) && META.contains(&name);
            let reason = format!("in top-level {name}");
            let mut below = Inside { metadata: inside.metadata || is_meta, ..plain };
            if is_meta && inside.root {
                below.no_defaults = Some(&reason);
            }
            rules.openapi(one, below);
        });
        for word in ["not", "items"] {
            if let one @ Value::Object(_) = schema.at(word) {
                self.at(&format!(".{word}"), |rules| rules.openapi(one, plain));
            }
        }
        for word in ["allOf", "oneOf", "anyOf"] {
            self.each(schema, word, |rules, one| rules.openapi(one, plain));
        }
        if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
            let word = "x-kubernetes-preserve-unknown-fields";
            self.invalid(word, &false.into(), "must be true or undefined");
        }
        self.list_and_map_types(schema);
        self.rules(schema);
    }

    fn unsupported(&mut self, schema: &Value, inside: Inside<'_>) {
        let kind = schema.str("type");
        if !kind.is_empty() && !TYPES.contains(&kind) {
            let path = format!("{}.type", self.path);
            self.causes.not_supported(&path, kind, &TYPES);
        }
        if let (true, Some(reason)) = (schema.get("default").is_some(), inside.no_defaults) {
            self.forbidden("default", &format!("must not be set {reason}"));
        }
        for word in
            ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"]
        {
            if schema.get(word).is_some_and(|value| !value.is_null()) {
                self.forbidden(word, &format!("{word} is not supported"));
            }
        }
        if kind == "null" {
            let detail = "type cannot be set to null, use nullable as an alternative";
            self.forbidden("type", detail);
        }
        if schema.at("items").is_array() {
            self.forbidden("items", "items must be a schema object and not an array");
        }
        if inside.metadata && schema.flag("x-kubernetes-embedded-resource") {
            let word = "x-kubernetes-embedded-resource";
            self.forbidden(word, "must not be used inside of resource meta");
        }
        if schema.flag("uniqueItems") {
            let detail =
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.forbidden("uniqueItems", detail);
        }
    }

    fn list_and_map_types(&mut self, schema: &Value) {
        let kind = schema.str("type");
        for (word, wanted, known) in [
            ("x-kubernetes-map-type", "object", &["atomic", "granular"][..]),
            ("x-kubernetes-list-type", "array", &["atomic", "set", "map"]),
        ] {
            let Value::String(value) = schema.get(word).unwrap_or(&Value::Null) else { continue };
            if kind != wanted {
                let detail = format!("must be {wanted} if {word} is specified");
                match kind {
                    "" => self.required("type", &detail),
                    kind => self.invalid("type", &kind.into(), &detail),
                }
            }
            if !known.contains(&value.as_str()) {
                let path = format!("{}.{word}", self.path);
                self.causes.not_supported_in_order(&path, value, known);
            }
        }
        let word = "x-kubernetes-list-type";
        let list = schema.get(word).and_then(Value::as_str);
        let keys = schema.get("x-kubernetes-list-map-keys").unwrap_or(&Value::Null);
        let keys: Vec<&str> =
            keys.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !keys.is_empty() && list != Some("map") {
            let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
            match list {
                None => self.required(word, detail),
                Some(list) => self.invalid(word, &list.into(), detail),
            }
        }
        match list {
            Some("set") => self.set_items(schema.at("items")),
            Some("map") => self.map_items(schema.at("items"), &keys),
            _ => {}
        }
        if matches!(list, Some("set" | "map")) && schema.flag("items.nullable") {
            let detail = format!("cannot be nullable when {word} is {}", list.unwrap_or(""));
            self.forbidden("items.nullable", &detail);
        }
    }

    fn set_items(&mut self, items: &Value) {
        let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let of = |word: &str| items.get(word).and_then(Value::as_str);
        let (list, map) = (of("x-kubernetes-list-type"), of("x-kubernetes-map-type"));
        match items.str("type") {
            "array" if list.is_some_and(|list| list != "atomic") => {
                self.invalid("items.x-kubernetes-list-type", &list.into(), detail);
            }
            "object" if map != Some("atomic") => {
                self.invalid("items.x-kubernetes-map-type", &map.unwrap_or("null").into(), detail);
            }
            _ => {}
        }
    }

    fn map_items(&mut self, items: &Value, keys: &[&str]) {
        let word = "x-kubernetes-list-map-keys";
        if keys.is_empty() {
            self.required(word, "must not be empty if x-kubernetes-list-type is map");
        }
        if !items.is_object() {
            self.required("items", "must have a schema if x-kubernetes-list-type is map");
            return;
        }
        let kind = items.str("type");
        if kind != "object" {
            let detail = "must be object if parent array's x-kubernetes-list-type is map";
            self.invalid("items.type", &kind.into(), detail);
            return;
        }
        let shown = json!(keys);
        let mut seen = OrdSet::new();
        let required: OrdSet<&str> =
            items.list("required").iter().filter_map(Value::as_str).collect();
        for key in keys {
            if self.causes.len() >= CAUSES_MAX {
                return;
            }
            if !seen.insert(key) {
                self.invalid(word, &shown, "must not contain duplicate entries");
            }
            let Some(property) = items.at("properties").get(*key) else {
                self.invalid(word, &shown, "entries must all be names of item properties");
                continue;
            };
            let path = format!("items.properties[{key}]");
            if matches!(property.str("type"), "array" | "object") {
                let detail =
                    "must be a scalar type if parent array's x-kubernetes-list-type is map";
                self.invalid(&format!("{path}.type"), &kind.into(), detail);
            }
            if !required.contains(key) && !property.has("default") {
                self.required(&format!("{path}.default"), "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property");
            }
            if property.flag("nullable") {
                let detail =
                    "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
                self.forbidden(&format!("{path}.nullable"), detail);
            }
        }
    }

    /// The form of rules in CEL; what they say is another's to check.
    fn rules(&mut self, schema: &Value) {
        const REASONS: [&str; 4] = [
            "FieldValueDuplicate",
            "FieldValueForbidden",
            "FieldValueInvalid",
            "FieldValueRequired",
        ];
        self.each(schema, "x-kubernetes-validations", |rules, rule| {
            let [text, message, expression, field] =
                ["rule", "message", "messageExpression", "fieldPath"].map(|word| rule.str(word));
            let broken = |text: &str| text.contains(['\n', '\r']);
            let line_breaks = "must not contain line breaks";
            if text.trim().is_empty() {
                rules.required("rule", "rule is not specified");
            } else if !message.is_empty() && message.trim().is_empty() {
                let detail = "message must be non-empty if specified";
                rules.invalid("message", &message.into(), detail);
            } else if broken(message.trim()) {
                rules.invalid("message", &message.into(), &format!("message {line_breaks}"));
            } else if broken(text.trim()) && message.is_empty() {
                let detail = "message must be specified if rule contains line breaks";
                rules.required("message", detail);
            }
            if !expression.is_empty() && expression.trim().is_empty() {
                let detail = "messageExpression must be non-empty if specified";
                rules.required("messageExpression", detail);
            }
            if let Some(reason) = rule.get("reason").and_then(Value::as_str)
                && !REASONS.contains(&reason)
            {
                let path = format!("{}.reason", rules.path);
                rules.causes.not_supported(&path, reason, &REASONS);
            }
            if !field.is_empty() && field.trim().is_empty() {
                let detail = "fieldPath must be non-empty if specified";
                rules.invalid("fieldPath", &field.into(), detail);
            }
            if broken(field) {
                rules.invalid("fieldPath", &field.into(), &format!("fieldPath {line_breaks}"));
            }
        });
    }
}

/// Every default must be what its schema allows, and hold nothing that it does not know.
fn defaults(structural: &Structural, path: &str, causes: &mut Vec<Cause>) {
    structural.each_default(&mut |at, steps, default| {
        if causes.len() >= CAUSES_MAX {
            return;
        }
        let place = format!("{path}{steps}.default");
        if !structural.is_pruned(at, default) {
            let message =
                format!("Invalid value: {}: must not have unknown fields", go_any(default));
            causes.complain("FieldValueInvalid", &place, message);
        }
        causes.extend(structural.at(at, &place, default, None));
    });
}
