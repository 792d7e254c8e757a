//! The v2 document in protobuf: `openapi.v2.Document` of the gnostic project, which kubectl up to
//! 1.27 reads. Source: OpenAPIv2.proto there; each function names its message.

use api::lens::Lens;
use serde_json::{Map, Value};
use wire::protobuf as pb;

/// Nothing here fails; the type is what `put_message` asks for.
type Done = Result<(), std::convert::Infallible>;

/// Appends a `Document`.
pub(super) fn document(
    info: &Value,
    paths: impl Iterator<Item = (String, Value)>,
    definitions: impl Iterator<Item = (String, Value)>,
    out: &mut Vec<u8>,
) {
    pb::put_bytes(out, 1, b"2.0");
    message(out, 2, |out| {
        put_str(out, 1, info.str("title"));
        put_str(out, 2, info.str("version"));
    });
    message(out, 8, |out| {
        for (path, item) in paths {
            named(out, 2, &path, |out| path_item(&item, out));
        }
    });
    message(out, 9, |out| {
        for (name, definition) in definitions {
            named(out, 1, &name, |out| schema(&definition, out));
        }
    });
}

fn message(out: &mut Vec<u8>, tag: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let written: Done = pb::put_message(out, tag, |out| {
        body(out);
        Ok(())
    });
    match written {
        Ok(()) => {}
    }
}

/// `Named...`: a name and a value.
fn named(out: &mut Vec<u8>, tag: u32, name: &str, body: impl FnOnce(&mut Vec<u8>)) {
    message(out, tag, |out| {
        pb::put_bytes(out, 1, name.as_bytes());
        message(out, 2, body);
    });
}

/// proto3: empty strings are left out.
fn put_str(out: &mut Vec<u8>, tag: u32, text: &str) {
    if !text.is_empty() {
        pb::put_bytes(out, tag, text.as_bytes());
    }
}

/// `Any`: the value as YAML, of which JSON is a part.
fn any(out: &mut Vec<u8>, tag: u32, value: &Value) {
    message(out, tag, |out| pb::put_bytes(out, 2, value.to_string().as_bytes()));
}

/// `NamedAny` for each `x-` key.
fn vendor_extensions(map: &Map<String, Value>, tag: u32, out: &mut Vec<u8>) {
    for (key, value) in map.iter().filter(|(key, _)| key.starts_with("x-")) {
        named(out, tag, key, |out| pb::put_bytes(out, 2, value.to_string().as_bytes()));
    }
}

/// `PathItem`
fn path_item(item: &Value, out: &mut Vec<u8>) {
    for (tag, verb) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(Value::Object(map)) = item.get(verb) {
            message(out, tag, |out| operation(map, out));
        }
    }
    for parameter in item.list("parameters") {
        parameters_item(parameter, 9, out);
    }
}

/// `Operation`
fn operation(map: &Map<String, Value>, out: &mut Vec<u8>) {
    for parameter in map.get("parameters").and_then(Value::as_array).into_iter().flatten() {
        parameters_item(parameter, 8, out);
    }
    message(out, 9, |out| {
        for (code, response) in
            map.get("responses").and_then(Value::as_object).into_iter().flatten()
        {
            // NamedResponseValue, ResponseValue.response, Response
            named(out, 1, code, |out| {
                message(out, 1, |out| {
                    put_str(out, 1, response.str("description"));
                    if let Some(answer) = response.get("schema") {
                        message(out, 2, |out| message(out, 1, |out| schema(answer, out)));
                    }
                });
            });
        }
    });
    vendor_extensions(map, 13, out);
}

/// `ParametersItem` with its `Parameter`.
fn parameters_item(parameter: &Value, tag: u32, out: &mut Vec<u8>) {
    let required = parameter.flag("required");
    message(out, tag, |out| {
        message(out, 1, |out| match parameter.str("in") {
            // BodyParameter
            "body" => message(out, 1, |out| {
                put_str(out, 2, parameter.str("name"));
                put_str(out, 3, "body");
                if required {
                    pb::put_uint(out, 4, 1);
                }
                message(out, 5, |out| schema(parameter.at("schema"), out));
            }),
            // NonBodyParameter: query or path, whose tags of what we write are two apart from each other.
            place => message(out, 2, |out| {
                let (which, type_tag) = if place == "query" { (3, 6) } else { (4, 5) };
                message(out, which, |out| {
                    if required {
                        pb::put_uint(out, 1, 1);
                    }
                    put_str(out, 2, place);
                    put_str(out, 4, parameter.str("name"));
                    put_str(out, type_tag, parameter.str("type"));
                });
            }),
        });
    });
}

/// `Schema`
fn schema(value: &Value, out: &mut Vec<u8>) {
    let Value::Object(map) = value else { return };
    put_str(out, 1, map.get("$ref").and_then(Value::as_str).unwrap_or(""));
    put_str(out, 2, value.str("format"));
    put_str(out, 4, value.str("description"));
    if let Some(default) = map.get("default") {
        any(out, 5, default);
    }
    for (tag, bound) in [(7, "maximum"), (9, "minimum")] {
        if let Some(bound) = map.get(bound).and_then(Value::as_f64) {
            pb::put_double(out, tag, bound);
        }
    }
    for name in value.list("required") {
        put_str(out, 19, name.as_str().unwrap_or(""));
    }
    for allowed in value.list("enum") {
        any(out, 20, allowed);
    }
    if let Some(inner) = map.get("additionalProperties") {
        message(out, 21, |out| message(out, 1, |out| schema(inner, out)));
    }
    if let Some(Value::String(name)) = map.get("type") {
        message(out, 22, |out| put_str(out, 1, name));
    }
    if let Some(items) = map.get("items") {
        message(out, 23, |out| message(out, 1, |out| schema(items, out)));
    }
    if let Some(Value::Object(properties)) = map.get("properties") {
        message(out, 25, |out| {
            for (name, property) in properties {
                named(out, 1, name, |out| schema(property, out));
            }
        });
    }
    vendor_extensions(map, 31, out);
}
