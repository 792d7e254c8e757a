//! ResourceQuota: how much of what the objects of a namespace may use together.

use std::collections::BTreeSet;
use stdx::Gather;

use serde_json::Value;

use crate::complain::{Complain, IMMUTABLE, NON_NEGATIVE};
use crate::kind::*;
use crate::lens::Lens;
use crate::names;
use crate::quantity::Quantity;
use crate::quota::is_extended;
use crate::status::Cause;

pub static RESOURCE_QUOTA: Kind = Kind {
    name: "ResourceQuota",
    plural: "resourcequotas",
    declared: &Declared {
        version: "v1",
        short: &["quota"],
        subresources: &[Sub::Status],
        generation: false,
        schema: SCHEMA,
        validate,
        validate_status,
        columns: COLUMNS,
        doc: "How much of what the objects of a namespace may use together.",
        answers_deleted: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

const COLUMNS: &[Column<'static>] = &[
    Column::AGE,
    Column::with("Request", |tree, _| usage(tree, false).into()),
    Column::with("Limit", |tree, _| usage(tree, true).into()),
];

/// What is used of what, of limits or of everything else.
fn usage(tree: &Value, limits: bool) -> String {
    let hard = tree.pairs("status.hard").filter(|(name, _)| name.starts_with("limits.") == limits);
    let used = |name: &str| tree.entry("status.used", name).unwrap_or("0");
    let texts = hard.map(|(name, hard)| format!("{name}: {}/{hard}", used(name)));
    texts.collect::<Vec<_>>().join(", ")
}

/// Scopes of pods.
const SCOPES: [&str; 6] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
];

const OBJECTS: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

const COMPUTE: [&str; 6] =
    ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];

/// Whether quotas know a resource without a domain.
fn is_standard(name: &str) -> bool {
    const STORAGE: [&str; 4] = [
        "ephemeral-storage",
        "requests.ephemeral-storage",
        "limits.ephemeral-storage",
        "requests.storage",
    ];
    COMPUTE.contains(&name)
        || OBJECTS.contains(&name)
        || STORAGE.contains(&name)
        || name.strip_prefix("requests.").unwrap_or(name).starts_with("hugepages-")
}

/// A complaint about a resource's name, which upstream shows without quotes.
pub(super) fn wrong_name(name: &str, path: &str, why: &str, causes: &mut Vec<Cause>) {
    causes.invalid_whole(path, &format!("{name}: {why}"));
}

/// Complains about what is no resource at all.
pub(super) fn resource_name(name: &str, path: &str, causes: &mut Vec<Cause>) -> bool {
    if let Err(why) = names::qualified(name) {
        why.lines().for_each(|why| wrong_name(name, path, why, causes));
        return false;
    }
    if !name.contains('/') && !is_standard(name) && name != "storage" {
        wrong_name(name, path, "must be a standard resource type or fully qualified", causes);
        return false;
    }
    true
}

fn amounts(tree: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (name, value) in tree.at(path).as_object().into_iter().flatten() {
        let path = format!("{path}[{name}]");
        resource_name(name, &path, causes);
        if !name.contains('/') && !is_standard(name) {
            wrong_name(name, &path, "must be a standard resource for quota", causes);
        }
        let Some(quantity) = Quantity::from_tree(value) else { continue };
        if quantity.is_negative() {
            causes.invalid(&path, value, NON_NEGATIVE);
        }
        if (OBJECTS.contains(&name.as_str()) || is_extended(name)) && quantity.has_fraction() {
            causes.invalid_quantity(&path, value, "must be an integer");
        }
    }
}

/// Whether pods in a scope may be asked how much of a resource they use.
fn is_valid_in(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => resource == "pods",
        scope if SCOPES.contains(&scope) => resource == "pods" || COMPUTE.contains(&resource),
        _ => true,
    }
}

/// How many resources are told for a scope that it cannot be applied to.
const UNFIT_MAX: usize = 64;

/// Resources that a scope cannot be applied to.
fn n_unfit(spec: &Value, scope: &str) -> usize {
    let names = spec.at("hard").as_object().into_iter().flatten().map(|(name, _)| name);
    names.filter(|name| is_standard(name) && !is_valid_in(scope, name)).count()
}

fn conflicts(scopes: &BTreeSet<&str>) -> usize {
    let both = |a: &str, b: &str| usize::from(scopes.contains(a) && scopes.contains(b));
    both("BestEffort", "NotBestEffort") + both("Terminating", "NotTerminating")
}

/// A list of strings, or of what is like one, as Go shows it.
fn go_list(of: &str, list: &Value) -> String {
    let items: Vec<String> = list.list("").iter().map(Value::to_string).collect();
    match list {
        Value::Null => format!("[]{of}(nil)"),
        _ => format!("[]{of}{{{}}}", items.join(", ")),
    }
}

/// A scope selector as Go shows it.
fn go_selector(selector: &Value) -> String {
    let one = |expression: &Value| {
        format!(
            "core.ScopedResourceSelectorRequirement{{ScopeName:{:?}, Operator:{:?}, Values:{}}}",
            expression.str("scopeName"),
            expression.str("operator"),
            go_list("string", expression.at("values"))
        )
    };
    let all: Vec<String> = selector.list("matchExpressions").iter().map(one).collect();
    format!(
        "core.ScopeSelector{{MatchExpressions:[]core.ScopedResourceSelectorRequirement{{{}}}}}",
        all.join(", ")
    )
}

fn scopes(spec: &Value, causes: &mut Vec<Cause>) {
    let (path, list) = ("spec.scopes", spec.at("scopes"));
    let named: Vec<&str> = spec.list("scopes").iter().filter_map(Value::as_str).collect();
    let complain = |detail: &str, causes: &mut Vec<Cause>| {
        causes.invalid_whole(
            path,
            &format!("{}: {detail}", go_list("core.ResourceQuotaScope", list)),
        );
    };
    let mut seen = BTreeSet::new();
    for scope in named.iter().filter(|scope| seen.insert(**scope)) {
        if causes.is_full() {
            return;
        }
        if !SCOPES.contains(scope) {
            complain("unsupported scope", causes);
        }
        for _ in 0..n_unfit(spec, scope).min(UNFIT_MAX) {
            complain("unsupported scope applied to resource", causes);
        }
    }
    for _ in 0..conflicts(&named.into_iter().collect()) {
        complain("conflicting scopes", causes);
    }
}

fn scope_selector(spec: &Value, causes: &mut Vec<Cause>) {
    let path = "spec.scopeSelector.matchExpressions";
    let selector = spec.at("scopeSelector");
    let mut named = BTreeSet::new();
    for expression in selector.list("matchExpressions") {
        let (scope, operator) = (expression.str("scopeName"), expression.str("operator"));
        let values = expression.list("values");
        if causes.is_full() {
            return;
        }
        let n_unfit = if named.insert(scope) { n_unfit(spec, scope) } else { 0 };
        if !SCOPES.contains(&scope) {
            causes.invalid(&format!("{path}.scopeName"), &scope.into(), "unsupported scope");
        }
        for _ in 0..n_unfit.min(UNFIT_MAX) {
            let detail = "unsupported scope applied to resource";
            causes.invalid_whole(path, &format!("{}: {detail}", go_selector(selector)));
        }
        if SCOPES.contains(&scope) && scope != "PriorityClass" && operator != "Exists" {
            let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            causes.invalid(&format!("{path}.operator"), &operator.into(), detail);
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => causes.required(
                &format!("{path}.values"),
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => causes.invalid(
                &format!("{path}.values"),
                expression.at("values"),
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => {
                let detail = "not a valid selector operator";
                causes.invalid(&format!("{path}.operator"), &operator.into(), detail);
            }
        }
    }
    for _ in 0..conflicts(&named) {
        let scopes = go_list("core.ResourceQuotaScope", spec.at("scopes"));
        causes.invalid_whole(path, &format!("{scopes}: conflicting scopes"));
    }
}

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = new.at("spec");
    amounts(new, "spec.hard", causes);
    scopes(spec, causes);
    scope_selector(spec, causes);
    let set = |tree: &Value| -> BTreeSet<String> {
        let scopes = tree.list("spec.scopes").iter().filter_map(Value::as_str);
        scopes.map(str::to_owned).gather()
    };
    if old.is_some_and(|old| set(old) != set(new)) {
        let scopes = go_list("core.ResourceQuotaScope", spec.at("scopes"));
        causes.invalid_whole("spec.scopes", &format!("{scopes}: {IMMUTABLE}"));
    }
}

fn validate_status(new: &Value, causes: &mut Vec<Cause>) {
    amounts(new, "status.hard", causes);
    amounts(new, "status.used", causes);
}

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
ResourceQuota kind
   1 metadata ObjectMeta
   2 spec     ResourceQuotaSpec
   3 status   ResourceQuotaStatus
ResourceQuotaSpec
   1 hard          {}quantity -- How much of each resource may be used.
   2 scopes        []str -- Which pods count; all of these must hold.
   3 scopeSelector ScopeSelector? -- Which pods count, also by the values of a scope.
ScopeSelector atomic
   1 matchExpressions []ScopedResourceSelectorRequirement
ScopedResourceSelectorRequirement
   1 scopeName~ str enum BestEffort|CrossNamespacePodAffinity|NotBestEffort|NotTerminating|PriorityClass|Terminating
   2 operator~  str enum DoesNotExist|Exists|In|NotIn
   3 values     []str
ResourceQuotaStatus
   1 hard {}quantity -- What holds now.
   2 used {}quantity -- What is used of it.
";
