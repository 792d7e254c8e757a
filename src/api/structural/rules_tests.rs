//! Rules in CEL: when kinds are defined and when objects are written.

use serde_json::{Value, json};

use super::Structural;

fn told(causes: &[crate::status::Cause]) -> Vec<String> {
    causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

fn written(schema: &Value, new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut causes = Vec::new();
    Structural::read(schema).unwrap().obey(new, old, true, &mut causes);
    told(&causes)
}

fn defined(spec: &Value) -> Vec<String> {
    let schema = json!({"type": "object", "properties": {"spec": spec}});
    let mut causes = Vec::new();
    Structural::read(&schema).unwrap().check_rules("schema", &mut causes);
    told(&causes)
}

fn spec(properties: &Value, rules: &Value) -> Value {
    json!({"type": "object", "properties": {"spec": {
        "type": "object", "properties": properties, "x-kubernetes-validations": rules}}})
}

#[test]
fn objects_obey_the_rules_of_their_schema() {
    let numbers = json!({"min": {"type": "integer"}, "max": {"type": "integer"}});
    for (rule, object, want) in [
        (json!({"rule": "self.min <= self.max"}), json!({"min": 1, "max": 2}), ""),
        (
            json!({"rule": " self.min <= self.max "}),
            json!({"min": 3, "max": 2}),
            "spec: Invalid value: \"object\": failed rule: self.min <= self.max",
        ),
        (
            json!({"rule": "self.min <= self.max", "message": "too small"}),
            json!({"min": 3, "max": 2}),
            "spec: Invalid value: \"object\": too small",
        ),
        (
            json!({"rule": "self.min <= self.max", "message": "no", "messageExpression": "'min is ' + string(self.min)"}),
            json!({"min": 3, "max": 2}),
            "spec: Invalid value: \"object\": min is 3",
        ),
        (
            json!({"rule": "self.min <= self.max", "message": "no", "messageExpression": "string(self.min / 0)"}),
            json!({"min": 3, "max": 2}),
            "spec: Invalid value: \"object\": no",
        ),
        (
            json!({"rule": "self.min <= self.max", "reason": "FieldValueForbidden", "fieldPath": ".max"}),
            json!({"min": 3, "max": 2}),
            "spec.max: Forbidden: failed rule: self.min <= self.max",
        ),
        (
            json!({"rule": "self.min <= self.max", "reason": "FieldValueRequired"}),
            json!({"min": 3, "max": 2}),
            "spec: Required value: failed rule: self.min <= self.max",
        ),
        (
            json!({"rule": "self.min <= self.max"}),
            json!({"min": 3}),
            "spec: Invalid value: \"object\": no such key: max evaluating rule: self.min <= self.max",
        ),
        (json!({"rule": "self.min > oldSelf.min"}), json!({"min": 3}), ""),
        (json!({"rule": "!oldSelf.hasValue()", "optionalOldSelf": true}), json!({"min": 3}), ""),
    ] {
        let schema = spec(&numbers, &json!([rule]));
        let found = written(&schema, &json!({"spec": object}), None).join("; ");
        assert_eq!(found, want, "{rule} of {object}");
    }
}

#[test]
fn changes_obey_rules_about_what_was_before() {
    let schema = json!({"type": "object", "properties": {
        "fixed": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "fixed"}]},
        "items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object",
                "properties": {"name": {"type": "string"}, "size": {"type": "integer"}},
                "x-kubernetes-validations": [{"rule": "self.size >= oldSelf.size", "message": "shrinks"}]}},
        "loud": {"type": "object", "additionalProperties": {"type": "string",
            "x-kubernetes-validations": [{"rule": "self == self.upperAscii()", "message": "not loud"}]}},
    }});
    let old = json!({"fixed": "a", "items": [{"name": "x", "size": 1}, {"name": "y", "size": 5}], "loud": {"k": "was"}});
    for (new, want) in [
        (json!({"fixed": "a"}), vec![]),
        (json!({"fixed": "b"}), vec!["fixed: Invalid value: \"string\": fixed"]),
        (
            json!({"items": [{"name": "y", "size": 6}, {"name": "x", "size": 0}, {"name": "z", "size": 0}]}),
            vec!["items[1]: Invalid value: \"object\": shrinks"],
        ),
        // What breaks a rule and is as it was, passes.
        (json!({"loud": {"k": "was"}}), vec![]),
        (json!({"loud": {"k": "is"}}), vec!["loud[k]: Invalid value: \"string\": not loud"]),
        (
            json!({"loud": {"k": "was", "n": "new"}}),
            vec!["loud[n]: Invalid value: \"string\": not loud"],
        ),
    ] {
        assert_eq!(written(&schema, &new, Some(&old)), want, "{new}");
    }
}

#[test]
fn whole_objects_have_a_name_and_rules_have_a_budget() {
    let schema = json!({"type": "object", "x-kubernetes-validations": [
        {"rule": "self.metadata.name.startsWith('a') && self.kind == 'K'", "message": "name"}]});
    let object =
        |name: &str| json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": name}});
    assert_eq!(written(&schema, &object("a"), None), [""; 0]);
    assert_eq!(written(&schema, &object("b"), None), ["<nil>: Invalid value: \"object\": name"]);
    let list = json!({"l": {"type": "array", "items": {"type": "integer"}}});
    let costly = spec(
        &list,
        &json!([{"rule": "self.l.all(a, self.l.all(b, self.l.all(c, a + b + c > 0)))"}]),
    );
    let many: Vec<u32> = (1..200).collect();
    let found = written(&costly, &json!({"spec": {"l": many}}), None);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].contains(
            "no further validation rules will be run due to call cost exceeds limit for rule"
        ),
        "{found:?}"
    );
}

#[test]
fn what_is_wrong_with_rules_is_told_when_a_kind_is_defined() {
    let text = json!({"type": "string", "maxLength": 5});
    let with = |rule: Value| {
        let mut text = text.clone();
        text["x-kubernetes-validations"] = json!([rule]);
        defined(&text)
    };
    assert_eq!(with(json!({"rule": "self.size() > 1"})), [""; 0]);
    let place = "schema.properties[spec].x-kubernetes-validations[0]";
    let shown = |rule: &str| {
        format!(
            "Invalid value: apiextensions.ValidationRule{{Rule:\"{rule}\", Message:\"\", MessageExpression:\"\", Reason:(*apiextensions.FieldValueErrorReason)(nil), FieldPath:\"\", OptionalOldSelf:(*bool)(nil)}}"
        )
    };
    assert_eq!(
        with(json!({"rule": "self.x"})),
        [format!(
            "{place}.rule: {}: compilation failed: ERROR: <input>:1:5: type 'string' does not support field selection\n | self.x\n | ....^",
            shown("self.x")
        )]
    );
    assert_eq!(
        with(json!({"rule": "self"})),
        [format!("{place}.rule: {}: cel expression must evaluate to a bool", shown("self"))]
    );
    assert_eq!(
        with(json!({"rule": "true", "optionalOldSelf": true})),
        [format!(
            "{place}.optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule"
        )]
    );
    assert_eq!(
        with(json!({"rule": "true", "fieldPath": ".x"})),
        [format!("{place}.fieldPath: Invalid value: \".x\": fieldPath must be a valid path")]
    );
    let list = |most: Option<u32>| {
        let mut list = json!({"type": "array", "items": {"type": "string",
            "x-kubernetes-validations": [{"rule": "self.matches('^a+$') && oldSelf != ''"}]}});
        if let Some(most) = most {
            list["maxItems"] = json!(most);
        }
        defined(&list)
    };
    let place = "schema.properties[spec].items.x-kubernetes-validations[0].rule";
    let over = |factor: &str| {
        format!(
            "{place}: Forbidden: estimated rule cost exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
        )
    };
    let loose = format!(
        "{place}: Invalid value: \"self.matches('^a+$') && oldSelf != ''\": oldSelf cannot be used on the uncorrelatable portion of the schema within schema.properties[spec]"
    );
    assert_eq!(list(Some(1)).join(""), loose);
    let found = list(None);
    assert_eq!(found[0], over("more than 100x"), "{found:?}");
    assert!(found.contains(&loose));
    assert!(
        found
            .last()
            .unwrap()
            .contains("estimated rule cost total for entire OpenAPIv3 schema exceeds budget"),
        "{found:?}"
    );
}

#[test]
fn items_of_long_lists_find_what_they_were() {
    let item = json!({"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v"}]});
    let list = json!({"type": "array", "maxItems": 20000, "items": item,
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]});
    let schema = json!({"type": "object", "properties": {"spec": list}});
    let items = |n: i64, v: i64| -> Vec<Value> {
        (0..n).map(|nth| json!({"k": nth.to_string(), "v": v})).collect()
    };
    let whole = |items: Vec<Value>| json!({"spec": items});
    assert!(written(&schema, &whole(items(20_000, 2)), Some(&whole(items(20_000, 2)))).is_empty());
    let found = written(&schema, &whole(items(20_000, 1)), Some(&whole(items(20_000, 2))));
    assert_eq!(found.len(), 64);
    assert!(found[0].starts_with("spec[0]: "), "{}", found[0]);
    // What was there twice before counts where it was first.
    let old = json!({"spec": [{"k": "a", "v": 1}, {"k": "a", "v": 9}]});
    assert!(written(&schema, &json!({"spec": [{"k": "a", "v": 2}]}), Some(&old)).is_empty());
}
