//! The schema of a version as OpenAPI documents show it, made from its definition and not kept.
//!
//! Source: apiextensions-apiserver/pkg/controller/openapi/{v2/conversion,builder/builder}.go,
//! pkg/apiserver/schema/{unfold,kubeopenapi}.go.

use stdx::OrdSet;

use serde_json::{Map, Value, json};

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

/// Whether swagger says nothing of whole objects of a schema: clients would take what it says for all
/// that there may be.
pub fn is_open(schema: &Value) -> bool {
    schema.get(PRESERVE) == Some(&Value::Bool(true))
}

/// Turns a definition's schema into what is published. `v2` leaves out what swagger, or kubectl's
/// reading of it, cannot say. `embed` says what every object has, and adds it to the properties of
/// embedded ones.
pub fn published(schema: &mut Value, v2: bool, embed: &dyn Fn(&mut Map<String, Value>)) {
    let Value::Object(map) = schema else { return };
    let set = |map: &Map<String, Value>, word: &str| map.get(word) == Some(&Value::Bool(true));
    for word in ["$schema", "id", "example", "externalDocs"] {
        map.remove(word);
    }
    let preserves = set(map, PRESERVE);
    if !preserves {
        map.remove(PRESERVE);
    }
    match v2 {
        true => as_swagger(map, preserves),
        false if set(map, INT_OR_STRING) => unfold(map),
        false => {}
    }
    for word in ["items", "additionalProperties"] {
        map.get_mut(word).into_iter().for_each(|schema| published(schema, v2, embed));
    }
    let properties = map.get_mut("properties").and_then(Value::as_object_mut);
    properties.into_iter().flatten().for_each(|(_, schema)| published(schema, v2, embed));
    if set(map, EMBEDDED) && !(v2 && preserves) {
        let properties = map.entry("properties").or_insert_with(|| json!({}));
        properties.as_object_mut().into_iter().for_each(embed);
        let required = map.entry("required").or_insert_with(|| json!([]));
        for word in ["kind", "apiVersion"] {
            let required = required.as_array_mut().into_iter();
            required.filter(|names| !names.contains(&word.into())).for_each(|names| {
                names.push(word.into());
            });
        }
    }
}

/// Takes out of one schema what kubectl stumbles over.
fn as_swagger(map: &mut Map<String, Value>, preserves: bool) {
    for word in ["oneOf", "anyOf", "allOf", "not"] {
        map.remove(word);
    }
    let nullable = map.remove("nullable") == Some(Value::Bool(true));
    if nullable || preserves {
        map.remove("items");
        map.remove("properties");
    }
    let kind = map.get("type").and_then(Value::as_str).unwrap_or("");
    if nullable || kind == "array" && !map.contains_key("items") || kind == "object" && preserves {
        map.remove("type");
    }
    let is_nullable = |schema: &Value| schema.get("nullable") == Some(&Value::Bool(true));
    if map.get("additionalProperties").is_some_and(is_nullable) {
        map.remove("required");
    }
    let properties = map.get("properties").and_then(Value::as_object);
    let nullable: OrdSet<String> = properties
        .into_iter()
        .flatten()
        .filter(|(_, schema)| is_nullable(schema))
        .map(|(name, _)| name.clone())
        .collect();
    if let Some(Value::Array(required)) = map.get_mut("required") {
        required.retain(|name| name.as_str().is_none_or(|name| !nullable.contains(name)));
        if required.is_empty() {
            map.remove("required");
        }
    }
}

/// What is a number or a string says so in words that every reader of OpenAPI knows.
fn unfold(map: &mut Map<String, Value>) {
    let both = json!([{"type": "integer"}, {"type": "string"}]);
    let first = map.get("allOf").and_then(|all| all.get(0)).and_then(|first| first.get("anyOf"));
    if map.get("anyOf") == Some(&both) || first == Some(&both) {
        return;
    }
    if !map.contains_key("anyOf") {
        map.insert("anyOf".into(), both);
        return;
    }
    let all = map.entry("allOf").or_insert_with(|| json!([]));
    all.as_array_mut().into_iter().for_each(|all| all.insert(0, json!({"anyOf": both})));
}
