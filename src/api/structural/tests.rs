//! Reading and walking structural schemas.

use serde_json::{Value, json};

use super::*;
use crate::definition::{Definition, Printed, ScalePaths, Version};
use crate::kind::{Kind, Scope};

fn schema() -> Value {
    json!({"type": "object", "required": ["spec"], "properties": {
        "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
        "spec": {"type": "object", "required": ["size"], "description": "What is wanted.", "properties": {
            "size": {"type": "integer", "minimum": 1, "maximum": 5, "description": "How large."},
            "color": {"type": "string", "enum": ["red", "green"], "default": "red"},
            "name": {"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^a"},
            "port": {"x-kubernetes-int-or-string": true},
            "maybe": {"type": "string", "nullable": true},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"n": {"type": "integer"}}},
            "tags": {"type": "object", "additionalProperties": {"type": "string"}},
            "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "required": ["name"], "properties": {
                    "name": {"type": "string"}, "n": {"type": "integer", "default": 7}}}},
            "grid": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
        }},
        "status": {"type": "object", "properties": {"ready": {"type": "integer"}}},
    }})
}

/// A definition in `example.com/v1` with most of what there is.
pub(crate) fn definition(plural: &str, name: &str, scope: Scope) -> Definition {
    Definition {
        kind: Kind::intern("example.com", name, plural, scope).unwrap(),
        short: vec!["gd".into()],
        categories: vec!["all".into()],
        versions: vec![Version {
            name: "v1".into(),
            served: true,
            stored: true,
            schema: Structural::read(&schema()).unwrap(),
            columns: vec![Printed {
                name: "Size".into(),
                kind: "integer".into(),
                format: "".into(),
                priority: 0,
                description: "".into(),
                path: ".spec.size".into(),
            }],
            status: true,
            scale: Some(ScalePaths {
                spec: "spec.size".into(),
                status: "status.ready".into(),
                selector: "".into(),
            }),
            selectable: vec!["spec.color".into()],
        }],
    }
}

fn with_spec(spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "x"}, "spec": spec})
}

#[test]
fn what_is_unknown_goes_and_is_told() {
    let structural = Structural::read(&schema()).unwrap();
    for (spec, want, unknown) in [
        (json!({"size": 1, "bad": 2}), json!({"size": 1}), vec!["spec.bad"]),
        (json!({"free": {"x": {"y": 1}}}), json!({"free": {"x": {"y": 1}}}), vec![]),
        (json!({"tags": {"a": "b"}}), json!({"tags": {"a": "b"}}), vec![]),
        (
            json!({"parts": [{"name": "a"}, {"name": "b", "z": 1}]}),
            json!({"parts": [{"name": "a"}, {"name": "b"}]}),
            vec!["spec.parts[1].z"],
        ),
    ] {
        let mut tree = with_spec(spec);
        assert_eq!(structural.prune(&mut tree), unknown);
        assert_eq!(tree, with_spec(want));
    }
    let mut anything = with_spec(json!({"q": 1}));
    assert!(Structural::default().prune(&mut anything).is_empty());
    assert_eq!(anything, with_spec(json!({"q": 1})), "no schema keeps everything");
}

#[test]
fn defaults_come_once() {
    let structural = Structural::read(&schema()).unwrap();
    let mut tree =
        with_spec(json!({"size": null, "maybe": null, "parts": [{"name": "a"}], "color": null}));
    structural.fill(&mut tree);
    let want = with_spec(json!({"maybe": null, "color": "red", "parts": [{"name": "a", "n": 7}]}));
    assert_eq!(tree, want);
    structural.fill(&mut tree);
    assert_eq!(tree, want);
}

#[test]
fn what_is_wrong_is_told_in_upstreams_words() {
    let structural = Structural::read(&schema()).unwrap();
    for (spec, want) in [
        (json!({"size": 3, "port": "http", "maybe": null}), ""),
        (json!({}), "spec.size: Required value"),
        (
            json!(1),
            "spec: Invalid value: \"integer\": spec in body must be of type object: \"integer\"",
        ),
        (
            json!({"size": "a"}),
            "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
        ),
        (
            json!({"size": 0}),
            "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1",
        ),
        (
            json!({"size": 6}),
            "spec.size: Invalid value: 6: spec.size in body should be less than or equal to 5",
        ),
        (
            json!({"size": 1, "color": "blue"}),
            "spec.color: Unsupported value: \"blue\": supported values: \"red\", \"green\"",
        ),
        (
            json!({"size": 1, "name": "a"}),
            "spec.name: Invalid value: \"a\": spec.name in body should be at least 2 chars long",
        ),
        (json!({"size": 1, "name": "abcde"}), "spec.name: Too long: may not be more than 4 bytes"),
        (
            json!({"size": 1, "port": true}),
            "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\"",
        ),
        (
            json!({"size": 1, "parts": [{"name": "a"}, {"name": "a"}]}),
            "spec.parts[1]: Duplicate value: map[string]string{\"name\":\"a\"}",
        ),
        (
            json!({"size": 1, "grid": [[1], ["x"]]}),
            "spec.grid[1][0]: Invalid value: \"string\": spec.grid[1][0] in body must be of type integer: \"string\"",
        ),
    ] {
        let mut causes = Vec::new();
        structural.check(&with_spec(spec.clone()), &mut causes);
        let told: Vec<String> =
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        assert_eq!(told.join("\n"), want, "{spec}");
    }
}

#[test]
fn what_is_read_is_written_again() {
    let structural = Structural::read(&schema()).unwrap();
    assert_eq!(structural.written(0, false), schema());
    let v2 = structural.written(0, true);
    assert!(v2["properties"]["spec"]["properties"]["maybe"].get("type").is_none(), "{v2}");
}

#[test]
fn schemas_are_bounded_and_structural() {
    let mut deep = json!({"type": "object"});
    for _ in 0..=DEPTH_MAX {
        deep = json!({"type": "object", "properties": {"a": deep}});
    }
    let wide: Map<String, Value> =
        (0..=NODES_MAX).map(|n| (n.to_string(), json!({"type": "string"}))).collect();
    for bad in [
        deep,
        json!({"type": "object", "properties": wide}),
        json!({"type": "gizmo"}),
        json!({"type": "array"}),
        json!({"$ref": "#/x"}),
        json!({"properties": {"a": {}}, "additionalProperties": {}}),
        json!({"type": "array", "items": {}, "x-kubernetes-list-type": "map"}),
        json!([]),
    ] {
        assert!(Structural::read(&bad).is_err());
    }
}
