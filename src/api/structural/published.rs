//! The schema of a version as OpenAPI documents show it, made from its definition and not kept.

use serde_json::{Map, Value};

/// Turns a definition's schema into what is published. `v2` leaves out what swagger cannot say; a
/// whole object's `apiVersion`, `kind` and `metadata` are given by the caller, those of embedded ones
/// by `embed`, which adds to their properties.
pub(crate) fn published(schema: &mut Value, v2: bool, embed: &dyn Fn(&mut Map<String, Value>)) {
    let Value::Object(map) = schema else { return };
    let set = |map: &Map<String, Value>, word: &str| map.get(word) == Some(&Value::Bool(true));
    for word in ["$schema", "id", "example"] {
        map.remove(word);
    }
    if set(map, "x-kubernetes-embedded-resource") {
        let properties = map.entry("properties").or_insert_with(|| Value::Object(Map::new()));
        properties.as_object_mut().into_iter().for_each(embed);
    }
    if v2 {
        // kubectl before 1.28 refuses what it cannot validate by these.
        for word in ["oneOf", "anyOf", "allOf", "not"] {
            map.remove(word);
        }
        let nullable = map.remove("nullable").is_some();
        if nullable || set(map, "x-kubernetes-preserve-unknown-fields") {
            for word in ["type", "properties", "additionalProperties", "items", "required"] {
                map.remove(word);
            }
        }
    }
    for word in ["items", "additionalProperties", "not"] {
        map.get_mut(word).into_iter().for_each(|schema| published(schema, v2, embed));
    }
    for word in ["allOf", "anyOf", "oneOf"] {
        let schemas = map.get_mut(word).and_then(Value::as_array_mut);
        schemas.into_iter().flatten().for_each(|schema| published(schema, v2, embed));
    }
    let properties = map.get_mut("properties").and_then(Value::as_object_mut);
    properties.into_iter().flatten().for_each(|(_, schema)| published(schema, v2, embed));
}
