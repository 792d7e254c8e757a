//! Reading and walking structural schemas.

use serde_json::{Map, Value, json};

use super::*;
use crate::custom::Schema;
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
pub(crate) fn definition(plural: &str, name: &str, scope: Scope, stamp: &str) -> Definition {
    Definition {
        kind: Kind::intern("example.com", name, plural, scope).unwrap(),
        singular: name.to_ascii_lowercase().into(),
        list_kind: format!("{name}List").into(),
        short: vec!["gd".into()],
        categories: vec!["all".into()],
        versions: vec![Version {
            name: "v1".into(),
            served: true,
            stored: true,
            schema: Schema::of(&schema()),
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
            warning: None,
        }],
        conversion: None,
        waiting: false,
        terminating: false,
        stamp: stamp.into(),
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
            "spec.parts[1]: Duplicate value: map[string]interface {}{\"name\":\"a\"}",
        ),
        (
            json!({"size": 1, "grid": [[1], ["x"]]}),
            "spec.grid[1][0]: Invalid value: \"string\": spec.grid[1][0] in body must be of type integer: \"string\"",
        ),
    ] {
        let mut causes = Vec::new();
        structural.check(&with_spec(spec.clone()), None, &mut causes);
        let told: Vec<String> =
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        assert_eq!(told.join("\n"), want, "{spec}");
    }
}

#[test]
fn what_is_published_is_what_readers_understand() {
    let inner = |schema: Value| json!({"type": "object", "required": ["a", "b"], "properties": {"a": schema, "b": {"type": "string"}}});
    let embed =
        |properties: &mut Map<String, Value>| drop(properties.insert("kind".into(), json!(1)));
    let preserve = "x-kubernetes-preserve-unknown-fields";
    let both = json!([{"type": "integer"}, {"type": "string"}]);
    // A property, as it is published in v3 and in v2.
    for (given, v3, v2) in [
        (
            json!({"type": "string", "oneOf": [{"minLength": 1}], "not": {"enum": ["x"]}, "example": "y", "default": "d"}),
            json!({"type": "string", "oneOf": [{"minLength": 1}], "not": {"enum": ["x"]}, "default": "d"}),
            json!({"type": "string", "default": "d"}),
        ),
        (
            json!({"type": "object", preserve: true, "description": "d", "properties": {"n": {"type": "integer"}}}),
            json!({"type": "object", preserve: true, "description": "d", "properties": {"n": {"type": "integer"}}}),
            json!({preserve: true, "description": "d"}),
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, preserve: true}),
            json!({"type": "array", "items": {"type": "string"}, preserve: true}),
            json!({preserve: true}),
        ),
        (
            json!({"type": "object", preserve: false}),
            json!({"type": "object"}),
            json!({"type": "object"}),
        ),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!({"x-kubernetes-int-or-string": true, "anyOf": both}),
            json!({"x-kubernetes-int-or-string": true}),
        ),
        (
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"minimum": 1}]}),
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"minimum": 1}], "allOf": [{"anyOf": both}]}),
            json!({"x-kubernetes-int-or-string": true}),
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true}),
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"kind": 1}, "required": ["kind", "apiVersion"]}),
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"kind": 1}, "required": ["kind", "apiVersion"]}),
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true, preserve: true}),
            json!({"type": "object", "x-kubernetes-embedded-resource": true, preserve: true, "properties": {"kind": 1}, "required": ["kind", "apiVersion"]}),
            json!({"x-kubernetes-embedded-resource": true, preserve: true}),
        ),
    ] {
        for (is_v2, want) in [(false, v3), (true, v2)] {
            let mut schema = inner(given.clone());
            published(&mut schema, is_v2, &embed);
            assert_eq!(schema, inner(want), "v2: {is_v2}, {given}");
        }
    }
    // What may be null is of no type that swagger has, and so it is not required either.
    let mut schema =
        inner(json!({"type": "object", "nullable": true, "properties": {"x": {"type": "string"}}}));
    published(&mut schema, true, &embed);
    assert_eq!(
        schema,
        json!({"type": "object", "required": ["b"], "properties": {"a": {}, "b": {"type": "string"}}})
    );
}

#[test]
fn schemas_are_bounded() {
    let mut deep = json!({"type": "object"});
    for _ in 0..=DEPTH_MAX {
        deep = json!({"type": "object", "properties": {"a": deep}});
    }
    let wide: Map<String, Value> =
        (0..=NODES_MAX).map(|n| (n.to_string(), json!({"type": "string"}))).collect();
    for bad in [deep, json!({"type": "object", "properties": wide}), json!([])] {
        assert!(Structural::read(&bad).is_err());
    }
}

fn told(schema: &Value, new: &Value, old: Option<&Value>) -> String {
    let structural = Structural::read(schema).unwrap();
    let mut causes = Vec::new();
    structural.check(new, old, &mut causes);
    let lines: Vec<String> =
        causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    lines.join("\n")
}

#[test]
fn schemas_hold_together_as_upstreams_do() {
    let root = |a: Value| json!({"type": "object", "properties": {"a": a}});
    for (schema, value, want) in [
        (
            json!({"type": "object", "oneOf": [{"required": ["x"]}, {"required": ["y"]}]}),
            json!({"x": 1, "y": 1}),
            "<nil>: Invalid value: \"\": \"a\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
        ),
        (
            json!({"type": "object", "oneOf": [{"required": ["x"]}, {"required": ["y"]}]}),
            json!({}),
            "<nil>: Invalid value: \"\": \"a\" must validate one and only one schema (oneOf). Found none valid\na.x: Required value",
        ),
        (
            json!({"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}]}),
            json!(3),
            "<nil>: Invalid value: \"\": \"a\" must validate at least one schema (anyOf)\na: Invalid value: 3: a in body should be greater than or equal to 5",
        ),
        (json!({"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 3}]}), json!(3), ""),
        (
            json!({"type": "integer", "allOf": [{"minimum": 5}, {"maximum": 3}]}),
            json!(3),
            "a: Invalid value: 3: a in body should be greater than or equal to 5\n<nil>: Invalid value: \"\": \"a\" must validate all the schemas (allOf)",
        ),
        (
            json!({"type": "string", "not": {"enum": ["x"]}}),
            json!("x"),
            "<nil>: Invalid value: \"\": \"a\" must not validate the schema (not)",
        ),
        (json!({"type": "string", "not": {"enum": ["x"]}}), json!("y"), ""),
        (
            json!({"type": "string", "pattern": "^[a-z]+$"}),
            json!("A"),
            "a: Invalid value: \"A\": a in body should match '^[a-z]+$'",
        ),
        (
            json!({"type": "string", "format": "ipv4"}),
            json!("x"),
            "a: Invalid value: \"x\": a in body must be of type ipv4: \"x\"",
        ),
        (json!({"type": "string", "format": "odd"}), json!("x"), ""),
        (
            json!({"type": "number", "multipleOf": 0.5}),
            json!(0.7),
            "a: Invalid value: 0.7: a in body should be a multiple of 0.5",
        ),
        (
            json!({"type": "object", "additionalProperties": false}),
            json!({"b": 1}),
            "a: Invalid value: \"b\": a.b in body is a forbidden property",
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}),
            json!(["x", "y", "x", "x"]),
            "a[2]: Duplicate value: \"x\"",
        ),
    ] {
        assert_eq!(told(&root(schema.clone()), &json!({"a": value}), None), want, "{schema}");
    }
}

#[test]
fn what_was_wrong_before_and_is_not_touched_passes() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "integer", "maximum": 1},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "properties": {"name": {"type": "string"}, "n": {"type": "integer", "maximum": 1}}}},
        "atomic": {"type": "array", "items": {"type": "integer", "maximum": 1}},
    }});
    let old = json!({"a": 5, "list": [{"name": "x", "n": 5}], "atomic": [5]});
    for (new, want) in [
        (old.clone(), ""),
        (json!({"a": 5, "b": 1}), ""),
        (json!({"a": 6}), "a: Invalid value: 6: a in body should be less than or equal to 1"),
        (json!({"list": [{"name": "y", "n": 1}, {"name": "x", "n": 5}]}), ""),
        (
            json!({"list": [{"name": "y", "n": 5}]}),
            "list[0].n: Invalid value: 5: list[0].n in body should be less than or equal to 1",
        ),
        (
            json!({"atomic": [5, 1]}),
            "atomic[0]: Invalid value: 5: atomic[0] in body should be less than or equal to 1",
        ),
    ] {
        assert_eq!(told(&schema, &new, Some(&old)), want, "{new}");
    }
}

#[test]
fn checks_cost_a_bounded_time() {
    let alternatives: Vec<Value> = (0..2000).map(|n| json!({"minimum": n + 10})).collect();
    let wide = json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer", "anyOf": alternatives}}}});
    let many: Vec<Value> = (0..100_000).map(|_| json!(1)).collect();
    let pattern = json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string", "pattern": "(a|b|ab)*c".repeat(100)}}}});
    let texts: Vec<Value> = (0..100).map(|_| json!("ab".repeat(50_000))).collect();
    for (schema, value) in [(wide, many), (pattern, texts)] {
        let said = told(&schema, &json!({"a": value}), None);
        assert!(said.contains("costs too much to check") || said.lines().count() >= 64, "{said}");
        assert!(said.lines().count() < 200);
    }
}
