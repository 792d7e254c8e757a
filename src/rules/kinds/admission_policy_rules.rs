//! What policies of admission and their bindings must say.
//!
//! Source: k8s.io/kubernetes/pkg/apis/admissionregistration/validation.

use api::complain::{Complain, go_any};
use api::lens::Lens;
use api::names;
use api::policy::{Names, Wanted};
use api::status::Cause;
use serde_json::Value;
use stdx::OrdSet;

use crate::checks;
use crate::checks::webhooks;

const ANNOTATIONS_MAX: usize = 20;
/// In bytes.
const VALUE_EXPRESSION_MAX: usize = 5 * 1024;
const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
const CONDITION_REASON: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";

/// A policy.
pub(super) fn policy(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = new.at("spec");
    // Compiling is dear, and what did not change was compiled before.
    if old.is_some_and(|old| old.at("spec") == spec) {
        return;
    }
    let params = spec.at("paramKind");
    if !params.is_null() {
        param_kind(params, causes);
    }
    let constraints = spec.at("matchConstraints");
    match constraints {
        Value::Null => causes.required("spec.matchConstraints", ""),
        constraints => match_resources(constraints, "spec.matchConstraints", causes),
    }
    if !constraints.is_null() && constraints.list("resourceRules").is_empty() {
        causes.required("spec.matchConstraints.resourceRules", "");
    }
    let mut names = Names::new(!params.is_null(), !spec.list("variables").is_empty());
    // Conditions are evaluated before variables are.
    let plain = Names::new(!params.is_null(), false);
    webhooks::conditions(spec.list("matchConditions"), "spec.matchConditions", causes, &plain);
    for (idx, it) in spec.list("variables").iter().enumerate() {
        variable(it, &format!("spec.variables[{idx}]"), &mut names, causes);
    }
    let (validations, annotations) = (spec.list("validations"), spec.list("auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        for field in ["spec.validations", "spec.auditAnnotations"] {
            let detail = "validations or auditAnnotations must contain at least one item";
            causes.required(field, detail);
        }
        return;
    }
    for (idx, it) in validations.iter().enumerate() {
        validation(it, &format!("spec.validations[{idx}]"), &names, causes);
    }
    if annotations.len() > ANNOTATIONS_MAX {
        let detail = format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations");
        causes.invalid("spec.auditAnnotations", spec.at("auditAnnotations"), &detail);
    }
    let mut keys = OrdSet::new();
    for (idx, it) in annotations.iter().enumerate() {
        let path = format!("spec.auditAnnotations[{idx}]");
        annotation(it, new.str("metadata.name"), &path, &names, causes);
        if !keys.insert(it.str("key")) {
            causes.duplicate(&format!("{path}.key"), &it.str("key").into());
        }
    }
}

fn param_kind(of: &Value, causes: &mut Vec<Cause>) {
    let path = "spec.paramKind.apiVersion";
    let api_version = of.str("apiVersion");
    let (group, version) = match api_version {
        "/" => ("", ""),
        whole => whole.split_once('/').unwrap_or(("", whole)),
    };
    if api_version.is_empty() {
        causes.required(path, "");
    } else if version.contains('/') {
        let detail = format!("unexpected GroupVersion string: {api_version}");
        causes.invalid(path, &api_version.into(), &detail);
    } else {
        if !group.is_empty() {
            causes.check_name(path, group, names::subdomain);
        }
        match version {
            "" => causes.invalid(path, &api_version.into(), "version must be specified"),
            version => causes.check_name(path, version, names::label_1035),
        }
    }
    let (path, kind) = ("spec.paramKind.kind", of.str("kind"));
    match names::label_1035(&kind.to_ascii_lowercase()) {
        _ if kind.is_empty() => causes.required(path, ""),
        Err(why) => {
            let detail = format!("may have mixed case, but should otherwise match: {why}");
            causes.invalid(path, &kind.into(), &detail);
        }
        Ok(()) => {}
    }
}

fn match_resources(of: &Value, path: &str, causes: &mut Vec<Cause>) {
    for selector in ["namespaceSelector", "objectSelector"] {
        checks::label_selector(of.at(selector), &format!("{path}.{selector}"), causes);
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for (idx, rule) in of.list(field).iter().enumerate() {
            let path = format!("{path}.{field}[{idx}]");
            let mut seen = OrdSet::new();
            for (idx, name) in webhooks::words(rule, "resourceNames").into_iter().enumerate() {
                let path = format!("{path}.resourceNames[{idx}]");
                causes.check_name(&path, name, names::path_segment);
                if !seen.insert(name) {
                    causes.duplicate(&path, &name.into());
                }
            }
            webhooks::rule(rule, &path, causes);
        }
    }
}

/// Complains of an expression that does not compile.
fn compiles<T>(found: Result<T, String>, path: &str, text: &str, causes: &mut Vec<Cause>) {
    if let Err(why) = found {
        causes.invalid(path, &text.into(), &why);
    }
}

fn variable(of: &Value, path: &str, names: &mut Names<'_>, causes: &mut Vec<Cause>) {
    let (name, text) = (of.str("name"), of.str("expression"));
    let at = format!("{path}.name");
    if name.trim().is_empty() {
        causes.required(&at, "name is not specified");
    } else if !cel::is_identifier(name) {
        causes.invalid(&at, &name.into(), "name is not a valid CEL identifier");
    }
    let at = format!("{path}.expression");
    match text.trim() {
        "" => causes.required(&at, "expression is not specified"),
        _ => compiles(names.declare(name, text), &at, text, causes),
    }
}

fn validation(of: &Value, path: &str, names: &Names<'_>, causes: &mut Vec<Cause>) {
    let at = |field: &str| format!("{path}.{field}");
    let text = of.str("expression");
    match text.trim() {
        "" => causes.required(&at("expression"), "expression is not specified"),
        _ => {
            let found = names.compile(text, Wanted::Bool, true);
            compiles(found, &at("expression"), text, causes);
        }
    }
    let text = of.str("messageExpression");
    if !text.trim().is_empty() {
        let found = names.compile(text, Wanted::Text, false);
        compiles(found, &at("messageExpression"), text, causes);
    } else if !text.is_empty() {
        let detail = "must be non-empty if specified";
        causes.invalid(&at("messageExpression"), &text.into(), detail);
    }
    let message = of.str("message");
    if !message.is_empty() && message.trim().is_empty() {
        let detail = "message must be non-empty if specified";
        causes.invalid(&at("message"), &message.into(), detail);
    } else if message.trim().contains(['\n', '\r']) {
        let detail = "message must not contain line breaks";
        causes.invalid(&at("message"), &message.into(), detail);
    }
    match of.at("reason").as_str() {
        Some(reason) if !REASONS.contains(&reason) => {
            causes.not_supported(&at("reason"), reason, &REASONS);
        }
        _ => {}
    }
}

fn annotation(of: &Value, policy: &str, path: &str, names: &Names<'_>, causes: &mut Vec<Cause>) {
    let (at, key) = (format!("{path}.key"), of.str("key"));
    match policy {
        "" => causes.invalid(&at, &key.into(), "requires metadata.name be non-empty"),
        policy => causes.check_name(&at, &format!("{policy}/{key}"), names::qualified),
    }
    let (at, text) = (format!("{path}.valueExpression"), of.str("valueExpression"));
    let trimmed = text.trim();
    if trimmed.is_empty() {
        causes.required(&at, "valueExpression is not specified");
    } else if trimmed.len() > VALUE_EXPRESSION_MAX {
        causes.required(&at, &format!("must not exceed {VALUE_EXPRESSION_MAX} bytes in length"));
    } else {
        compiles(names.compile(trimmed, Wanted::TextOrNull, true), &at, text, causes);
    }
}

/// A policy's status.
pub(super) fn status(new: &Value, causes: &mut Vec<Cause>) {
    let warnings = new.list("status.typeChecking.expressionWarnings");
    for (idx, warning) in warnings.iter().enumerate() {
        let path = format!("status.typeChecking.expressionWarnings[{idx}]");
        for field in ["warning", "fieldRef"] {
            if warning.str(field).trim().is_empty() {
                causes.required(&format!("{path}.{field}"), "");
            }
        }
    }
    conditions(new, causes);
}

/// A status's list of `metav1.Condition`.
pub(super) fn conditions(new: &Value, causes: &mut Vec<Cause>) {
    let mut seen = OrdSet::new();
    for (idx, it) in new.list("status.conditions").iter().enumerate() {
        let path = format!("status.conditions[{idx}]");
        if !seen.insert(it.str("type")) {
            causes.duplicate(&format!("{path}.type"), &it.str("type").into());
        }
        condition(it, &path, causes);
    }
}

/// `metav1.Condition`
fn condition(of: &Value, path: &str, causes: &mut Vec<Cause>) {
    const REASON_MAX: usize = 1024;
    const MESSAGE_MAX: usize = 32 * 1024;
    let at = |field: &str| format!("{path}.{field}");
    causes.check_name(&at("type"), of.str("type"), names::qualified);
    if !["True", "False", "Unknown"].contains(&of.str("status")) {
        let known = ["False", "True", "Unknown"];
        causes.not_supported(&at("status"), of.str("status"), &known);
    }
    if of.int("observedGeneration").is_some_and(|generation| generation < 0) {
        let detail = "must be greater than or equal to zero";
        causes.invalid(&at("observedGeneration"), of.at("observedGeneration"), detail);
    }
    if of.str("lastTransitionTime").is_empty() {
        causes.required(&at("lastTransitionTime"), "must be set");
    }
    let reason = of.str("reason");
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_reason = reason.bytes().all(|byte| inner(byte) || matches!(byte, b',' | b':'))
        && reason.starts_with(|first: char| first.is_ascii_alphabetic())
        && reason.bytes().last().is_some_and(inner);
    if reason.is_empty() {
        causes.required(&at("reason"), "must be set");
    } else {
        if !is_reason {
            causes.invalid(&at("reason"), &reason.into(), CONDITION_REASON);
        }
        if reason.len() > REASON_MAX {
            causes.too_long(&at("reason"), REASON_MAX);
        }
    }
    if of.str("message").len() > MESSAGE_MAX {
        causes.too_long(&at("message"), MESSAGE_MAX);
    }
}

/// A binding.
pub(super) fn binding(new: &Value, _: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = new.at("spec");
    match spec.str("policyName") {
        "" => causes.required("spec.policyName", ""),
        name => causes.check_name("spec.policyName", name, names::subdomain),
    }
    if spec.has("paramRef") {
        param_ref(spec.at("paramRef"), causes);
    }
    if spec.has("matchResources") {
        match_resources(spec.at("matchResources"), "spec.matchResources", causes);
    }
    actions(spec, causes);
}

fn param_ref(of: &Value, causes: &mut Vec<Cause>) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let (name, selects) = (of.str("name"), of.has("selector"));
    if !name.is_empty() {
        causes.check_name("spec.paramRef.name", name, names::path_segment);
        if selects {
            causes.forbidden("spec.paramRef.name", EXCLUSIVE);
        }
    }
    if selects {
        checks::label_selector(of.at("selector"), "spec.paramRef.selector", causes);
        if !name.is_empty() {
            causes.forbidden("spec.paramRef.selector", EXCLUSIVE);
        }
    }
    if name.is_empty() && !selects {
        causes.required("spec.paramRef", "one of name or selector must be specified");
    }
    match of.str("parameterNotFoundAction") {
        "" => causes.required("spec.paramRef.parameterNotFoundAction", ""),
        "Allow" | "Deny" => {}
        other => {
            let path = "spec.paramRef.parameterNotFoundAction";
            causes.not_supported_in_order(path, other, &["Deny", "Allow"]);
        }
    }
}

fn actions(spec: &Value, causes: &mut Vec<Cause>) {
    const KNOWN: [&str; 3] = ["Audit", "Deny", "Warn"];
    let (path, mut seen) = ("spec.validationActions", OrdSet::new());
    for (idx, action) in webhooks::words(spec, "validationActions").into_iter().enumerate() {
        let path = format!("{path}[{idx}]");
        if !KNOWN.contains(&action) {
            causes.not_supported(&path, action, &KNOWN);
        }
        if !seen.insert(action) {
            causes.duplicate(&path, &action.into());
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let shown: Vec<String> = spec.list("validationActions").iter().map(go_any).collect();
        let message = format!(
            "Invalid value: []admissionregistration.ValidationAction{{{}}}: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)",
            shown.join(", ")
        );
        causes.complain("FieldValueInvalid", path, message);
    }
    if seen.is_empty() {
        causes.required(path, "at least one validation action is required");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::lens::LensMut;
    use serde_json::json;

    fn said(mut good: Value, check: Check, change: &Value) -> Vec<String> {
        for (path, value) in change.as_object().into_iter().flatten() {
            match value {
                Value::Null => drop(good.remove(path)),
                value => good.set(path, value.clone()),
            }
        }
        let mut causes = Vec::new();
        check(&good, None, &mut causes);
        causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    type Check = fn(&Value, Option<&Value>, &mut Vec<Cause>);

    fn expect(good: &Value, check: Check, cases: &[(Value, &str)]) {
        for (change, wanted) in cases {
            let said = said(good.clone(), check, change);
            let first = said.first().map_or("", String::as_str);
            let first = first.strip_prefix("spec.").unwrap_or(first);
            assert!(
                first.contains(wanted) && first.is_empty() == wanted.is_empty(),
                "{change}: {said:?}"
            );
        }
    }

    /// The words are those of a stock kube-apiserver.
    #[test]
    fn a_policy_says_what_it_must() {
        let good = json!({"metadata": {"name": "p.example.com"}, "spec": {
            "matchConstraints": {"resourceRules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}]},
            "validations": [{"expression": "object.x > 1"}]}});
        let one = |validation: Value| json!({"spec.validations": [validation]});
        let kind = |api_version: &str, kind: &str| json!({"spec.paramKind": {"apiVersion": api_version, "kind": kind}});
        let annotation = |annotation: Value| json!({"spec.auditAnnotations": [annotation]});
        expect(
            &good,
            policy,
            &[
                (json!({}), ""),
                (json!({"spec.matchConstraints": null}), "matchConstraints: Required value"),
                (
                    json!({"spec.matchConstraints": {}}),
                    "matchConstraints.resourceRules: Required value",
                ),
                (
                    json!({"spec.validations": null}),
                    "validations: Required value: validations or auditAnnotations must contain at least one item",
                ),
                (
                    one(json!({"expression": " "})),
                    "validations[0].expression: Required value: expression is not specified",
                ),
                (
                    one(json!({"expression": "object.x +"})),
                    "validations[0].expression: Invalid value: \"object.x +\": compilation failed: ERROR: <input>:1:11: Syntax error: mismatched input '<EOF>'",
                ),
                (
                    one(json!({"expression": "1"})),
                    "validations[0].expression: Invalid value: \"1\": must evaluate to bool but got int",
                ),
                (one(json!({"expression": "params.x"})), "undeclared reference to 'params'"),
                (one(json!({"expression": "variables.x"})), "undeclared reference to 'variables'"),
                (
                    one(json!({"expression": "true", "messageExpression": "1"})),
                    "validations[0].messageExpression: Invalid value: \"1\": must evaluate to string but got int",
                ),
                (
                    one(
                        json!({"expression": "true", "messageExpression": "string(authorizer.path('/').check('get').allowed())"}),
                    ),
                    "undeclared reference to 'authorizer'",
                ),
                (
                    one(json!({"expression": "true", "messageExpression": " "})),
                    "messageExpression: Invalid value: \" \": must be non-empty if specified",
                ),
                (
                    one(json!({"expression": "true", "message": " "})),
                    "message: Invalid value: \" \": message must be non-empty if specified",
                ),
                (
                    one(json!({"expression": "true", "message": "a\nb"})),
                    "message must not contain line breaks",
                ),
                (
                    one(json!({"expression": "true", "reason": "Odd"})),
                    "reason: Unsupported value: \"Odd\": supported values: \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\"",
                ),
                (
                    json!({"spec.variables": [{"name": "a", "expression": "1"}], "spec.validations": [{"expression": "variables.a == 1"}]}),
                    "",
                ),
                (
                    json!({"spec.variables": [{"name": "a b", "expression": "1"}]}),
                    "variables[0].name: Invalid value: \"a b\": name is not a valid CEL identifier",
                ),
                (
                    json!({"spec.variables": [{"name": "in", "expression": "1"}]}),
                    "name is not a valid CEL identifier",
                ),
                (
                    json!({"spec.variables": [{"name": "a", "expression": "b"}]}),
                    "variables[0].expression: Invalid value: \"b\": compilation failed",
                ),
                (
                    json!({"spec.matchConditions": [{"name": "c", "expression": "variables.a"}], "spec.variables": [{"name": "a", "expression": "true"}]}),
                    "matchConditions[0].expression: Invalid value: \"variables.a\": compilation failed",
                ),
                (kind("v1", "ConfigMap"), ""),
                (kind("", "ConfigMap"), "paramKind.apiVersion: Required value"),
                (
                    kind("a/b/c", "ConfigMap"),
                    "paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
                ),
                (
                    kind("a/", "ConfigMap"),
                    "paramKind.apiVersion: Invalid value: \"a/\": version must be specified",
                ),
                (kind("v1", ""), "paramKind.kind: Required value"),
                (
                    kind("v1", "a/b"),
                    "paramKind.kind: Invalid value: \"a/b\": may have mixed case, but should otherwise match: a DNS-1035 label",
                ),
                (annotation(json!({"key": "k", "valueExpression": "'v'"})), ""),
                (
                    annotation(json!({"key": "k", "valueExpression": "1"})),
                    "auditAnnotations[0].valueExpression: Invalid value: \"1\": must evaluate to one of [string null_type] but got int",
                ),
                (
                    annotation(json!({"key": "", "valueExpression": "'v'"})),
                    "auditAnnotations[0].key: Invalid value: \"p.example.com/\": name part must be non-empty",
                ),
                (
                    annotation(json!({"key": "k", "valueExpression": " "})),
                    "valueExpression: Required value: valueExpression is not specified",
                ),
            ],
        );
    }

    #[test]
    fn a_binding_says_what_it_must() {
        let good = json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}});
        let param = |param: Value| json!({"spec.paramRef": param});
        expect(
            &good,
            binding,
            &[
                (json!({}), ""),
                (json!({"spec.policyName": ""}), "policyName: Required value"),
                (
                    json!({"spec.policyName": "A"}),
                    "policyName: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
                ),
                (
                    json!({"spec.validationActions": []}),
                    "validationActions: Required value: at least one validation action is required",
                ),
                (
                    json!({"spec.validationActions": ["Shout"]}),
                    "validationActions[0]: Unsupported value: \"Shout\": supported values: \"Audit\", \"Deny\", \"Warn\"",
                ),
                (
                    json!({"spec.validationActions": ["Deny", "Warn"]}),
                    "validationActions: Invalid value: []admissionregistration.ValidationAction{\"Deny\", \"Warn\"}: must not contain both Deny and Warn",
                ),
                (param(json!({"name": "x", "parameterNotFoundAction": "Deny"})), ""),
                (param(json!({"name": "x"})), "paramRef.parameterNotFoundAction: Required value"),
                (
                    param(json!({"name": "x", "parameterNotFoundAction": "x"})),
                    "Unsupported value: \"x\": supported values: \"Deny\", \"Allow\"",
                ),
                (
                    param(json!({"parameterNotFoundAction": "Deny"})),
                    "paramRef: Required value: one of name or selector must be specified",
                ),
                (
                    param(json!({"name": "x", "selector": {}, "parameterNotFoundAction": "Deny"})),
                    "paramRef.name: Forbidden: name and selector are mutually exclusive",
                ),
            ],
        );
    }

    #[test]
    fn a_status_has_conditions_as_they_are_everywhere() {
        let good = json!({"type": "A", "status": "True", "reason": "R", "lastTransitionTime": "2024-01-01T00:00:00Z"});
        for (field, value, wanted) in [
            ("type", json!("A"), ""),
            ("status", json!("Maybe"), "Unsupported value: \"Maybe\""),
            ("reason", json!(""), "Required value: must be set"),
            ("reason", json!("1"), "a condition reason must start with alphabetic character"),
            ("lastTransitionTime", Value::Null, "Required value: must be set"),
        ] {
            let mut one = good.clone();
            one[field] = value;
            let mut causes = Vec::new();
            status(&json!({"status": {"conditions": [one]}}), &mut causes);
            let first = causes.first().map_or("", |cause| cause.message.as_str());
            assert!(
                first.contains(wanted) && first.is_empty() == wanted.is_empty(),
                "{field}: {first}"
            );
        }
    }
}
