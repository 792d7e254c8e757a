//! FlowSchema: which requests belong to which priority level.

use api::complain::Complain;
use api::flow_control;
use api::kinds::FLOW_SCHEMA;
use api::lens::Lens;
use api::names;
use api::status::Cause;
use serde_json::Value;

use super::Rules;
use crate::column::Column;
use crate::keep;

pub(super) static RULES: Rules = Rules {
    kind: &FLOW_SCHEMA,
    columns: COLUMNS,
    prepare_status: keep::keep_metadata,
    validate,
    validate_status: conditions,
    on_update: "CV",
    ..Rules::BASE
};

const COLUMNS: &[Column<'static>] = &[
    Column::path("PriorityLevel", "spec.priorityLevelConfiguration.name"),
    Column { kind: "string", ..Column::number("MatchingPrecedence", "spec.matchingPrecedence") },
    Column::with("DistinguisherMethod", |tree, _| {
        crate::print::or_none(tree.str("spec.distinguisherMethod.type"))
    }),
    Column::AGE,
    Column::with("MissingPL", |tree, _| {
        let conditions = tree.list("status.conditions");
        let dangling = conditions.iter().find(|condition| condition.str("type") == "Dangling");
        dangling.map_or("?", |condition| condition.str("status")).into()
    }),
];

/// Why a list with `*` may hold nothing else, and why an empty one will not do.
type ListRule = (&'static str, &'static str, &'static str);

const VERBS: ListRule = (
    "verbs",
    "verbs must contain at least one value",
    "if '*' is present, must not specify other verbs",
);

const RESOURCE_LISTS: &[ListRule] = &[
    (
        "apiGroups",
        "resource rules must supply at least one api group",
        "if '*' is present, must not specify other api groups",
    ),
    (
        "resources",
        "resource rules must supply at least one resource",
        "if '*' is present, must not specify other resources",
    ),
];

const PATHS: ListRule = (
    "nonResourceURLs",
    "nonResourceURLs must contain at least one value",
    "if '*' is present, must not specify other non-resource URLs",
);

fn validate(new: &Value, _: Option<&Value>, causes: &mut Vec<Cause>) {
    const PRECEDENCE_MAX: i64 = 10_000;
    let (name, spec) = (new.str("metadata.name"), new.at("spec"));
    let precedence = spec.int("matchingPrecedence").unwrap_or(0);
    let mut complain = |detail: &str| {
        causes.invalid("spec.matchingPrecedence", &precedence.into(), detail);
    };
    match precedence {
        ..=0 => complain("must be a positive value"),
        1 if name != "exempt" => {
            complain("only the schema named 'exempt' may have matchingPrecedence 1");
        }
        1..=PRECEDENCE_MAX => {}
        _ => complain("must not be greater than 10000"),
    }
    if let Some(method) = spec.at("distinguisherMethod").get("type").and_then(Value::as_str)
        && !matches!(method, "ByNamespace" | "ByUser")
    {
        let message = format!(
            "Unsupported value: flowcontrol.FlowDistinguisherMethod{{Type:{method:?}}}: supported values: \"ByNamespace\", \"ByUser\""
        );
        causes.complain("FieldValueNotSupported", "spec.distinguisherMethod.type", message);
    }
    let path = "spec.priorityLevelConfiguration.name";
    match spec.str("priorityLevelConfiguration.name") {
        "" => causes.required(path, "must reference a priority level"),
        level => causes.check_name(path, level, names::subdomain),
    }
    for (idx, rule) in spec.list("rules").iter().enumerate() {
        self::rule(rule, &format!("spec.rules[{idx}]"), causes);
    }
    let fixed = flow_control::is_mandatory(name).then(|| flow_control::schema_spec(name)).flatten();
    if fixed.is_some_and(|fixed| fixed != *spec) {
        causes.invalid("spec", spec, &format!("spec of '{name}' must equal the fixed value"));
    }
    conditions(new, causes);
}

/// Conditions have types, each once.
pub(super) fn conditions(new: &Value, causes: &mut Vec<Cause>) {
    let mut seen = stdx::OrdSet::new();
    for (idx, condition) in new.list("status.conditions").iter().enumerate() {
        let path = format!("status.conditions[{idx}].type");
        let kind = condition.str("type");
        if !seen.insert(kind) {
            causes.duplicate(&path, &kind.into());
        }
        if kind.is_empty() {
            causes.required(&path, "must not be empty");
        }
    }
}

fn rule(rule: &Value, path: &str, causes: &mut Vec<Cause>) {
    if rule.list("subjects").is_empty() {
        causes.required(&format!("{path}.subjects"), "subjects must contain at least one value");
    }
    for (idx, subject) in rule.list("subjects").iter().enumerate() {
        self::subject(subject, &format!("{path}.subjects[{idx}]"), causes);
    }
    let (resources, paths) = (rule.list("resourceRules"), rule.list("nonResourceRules"));
    if resources.is_empty() && paths.is_empty() {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        causes.required(path, detail);
    }
    for (idx, one) in resources.iter().enumerate() {
        resource_rule(one, &format!("{path}.resourceRules[{idx}]"), causes);
    }
    for (idx, one) in paths.iter().enumerate() {
        let path = format!("{path}.nonResourceRules[{idx}]");
        verbs(one, &path, causes);
        if list(one, &PATHS, &path, causes) {
            for (idx, url) in one.list("nonResourceURLs").iter().enumerate() {
                self::url(url, &format!("{path}.nonResourceURLs[{idx}]"), causes);
            }
        }
    }
}

fn subject(subject: &Value, path: &str, causes: &mut Vec<Cause>) {
    const KINDS: &[(&str, &str)] =
        &[("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let kind = subject.str("kind");
    let Some((_, own)) = KINDS.iter().find(|(name, _)| *name == kind) else {
        let supported = ["Group", "ServiceAccount", "User"];
        return causes.not_supported(&format!("{path}.kind"), kind, &supported);
    };
    for (other, field) in KINDS.iter().filter(|(name, field)| *name != kind && subject.has(field)) {
        let detail = format!("{field} is forbidden when subject kind is not '{other}'");
        causes.forbidden(&format!("{path}.{field}"), &detail);
    }
    let path = format!("{path}.{own}");
    let who = subject.at(own);
    if who.is_null() {
        let detail = format!("{own} is required when subject kind is '{kind}'");
        return causes.required(&path, &detail);
    }
    let path_of_name = format!("{path}.name");
    match who.str("name") {
        "" => causes.required(&path_of_name, ""),
        "*" => {}
        name if kind == "ServiceAccount" => {
            causes.check_name(&path_of_name, name, names::subdomain);
        }
        _ => {}
    }
    if kind == "ServiceAccount" {
        let path = format!("{path}.namespace");
        match who.str("namespace") {
            "" => causes.required(&path, "must specify namespace for service account"),
            namespace => causes.check_name(&path, namespace, names::label),
        }
    }
}

fn resource_rule(rule: &Value, path: &str, causes: &mut Vec<Cause>) {
    const NAMESPACES: ListRule = (
        "namespaces",
        "resource rules that are not cluster scoped must supply at least one namespace",
        "if '*' is present, must not specify other namespaces",
    );
    verbs(rule, path, causes);
    for of in RESOURCE_LISTS {
        list(rule, of, path, causes);
    }
    let namespaces = rule.list("namespaces");
    if namespaces.is_empty() && rule.flag("clusterScope") {
        return;
    }
    if !list(rule, &NAMESPACES, path, causes) {
        return;
    }
    for (idx, namespace) in namespaces.iter().enumerate() {
        for why in
            names::label(namespace.as_str().unwrap_or("")).err().iter().flat_map(|w| w.lines())
        {
            let detail = format!("each member of this list must be '*' or a DNS-1123 label; {why}");
            causes.invalid(&format!("{path}.namespaces[{idx}]"), namespace, &detail);
        }
    }
}

/// Checks that a list is not empty and that `*` is alone; true if its members are to be looked at.
fn list(of: &Value, rule: &ListRule, path: &str, causes: &mut Vec<Cause>) -> bool {
    let (field, none, several) = rule;
    let (items, path) = (of.list(field), format!("{path}.{field}"));
    if items.is_empty() {
        causes.required(&path, none);
        return false;
    }
    let wild = items.iter().any(|item| item == "*");
    if wild && items.len() > 1 {
        causes.invalid(&path, of.at(field), several);
    }
    !wild
}

fn verbs(rule: &Value, path: &str, causes: &mut Vec<Cause>) {
    const SUPPORTED: &[&str] = &[
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "proxy",
        "update",
        "watch",
    ];
    let verbs: Vec<&str> = rule.list("verbs").iter().filter_map(Value::as_str).collect();
    if list(rule, &VERBS, path, causes) && !verbs.iter().all(|verb| SUPPORTED.contains(verb)) {
        let quoted: Vec<String> = SUPPORTED.iter().map(|verb| format!("{verb:?}")).collect();
        let shown: Vec<String> = verbs.iter().map(|verb| format!("{verb:?}")).collect();
        let message = format!(
            "Unsupported value: []string{{{}}}: supported values: {}",
            shown.join(", "),
            quoted.join(", ")
        );
        causes.complain("FieldValueNotSupported", &format!("{path}.verbs"), message);
    }
}

fn url(url: &Value, path: &str, causes: &mut Vec<Cause>) {
    let text = url.as_str().unwrap_or("");
    let n_stars = text.matches('*').count();
    let detail = match text {
        "" => "must not be empty",
        "/" => return,
        _ if !text.starts_with('/') => "must start with slash",
        _ if text.contains(' ') => "must not contain white-space",
        _ if text.contains("//") => "must not contain double slash",
        _ if n_stars > 1 || n_stars == 1 && !text.ends_with("/*") => {
            "wildcard can only do suffix matching"
        }
        _ => return,
    };
    causes.invalid(path, url, detail);
}

#[cfg(test)]
mod tests {
    use api::flow_control::{is_mandatory, objects};
    use api::lens::Lens;

    #[test]
    fn what_every_server_has_is_legal_and_names_levels_that_exist() {
        let all = objects();
        assert_eq!(all.len(), 21);
        assert!(all[..4].iter().all(|object| is_mandatory(object.str("metadata.name"))));
        for mut object in all.clone() {
            let kind = api::kinds::of_tree(&object).unwrap();
            let before = object.at("spec").clone();
            crate::defaults::apply(kind, &mut object);
            assert_eq!(object.at("spec"), &before, "defaults add nothing: {object}");
            assert_eq!(crate::validate::create(kind, &object), Ok(()), "{object}");
            let level = object.at("spec.priorityLevelConfiguration.name");
            assert!(
                level.is_null()
                    || all.iter().any(|other| {
                        other.str("kind") == "PriorityLevelConfiguration"
                            && other.at("metadata.name") == level
                    }),
                "{level}"
            );
        }
    }
}
