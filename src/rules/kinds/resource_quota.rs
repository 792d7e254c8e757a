//! ResourceQuota: how much of what the objects of a namespace may use together.

use api::complain::{Complain, IMMUTABLE, NON_NEGATIVE};
use api::kinds::RESOURCE_QUOTA;
use api::lens::Lens;
use api::quantity::Quantity;
use api::quota::is_extended;
use api::status::Cause;
use serde_json::Value;
use stdx::OrdSet;

use super::Rules;
use crate::checks::{COMPUTE, OBJECTS, is_standard, resource_name, wrong_name};
use crate::column::Column;

pub(super) static RULES: Rules =
    Rules { kind: &RESOURCE_QUOTA, validate, validate_status, columns: COLUMNS, ..Rules::BASE };

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

fn conflicts(scopes: &OrdSet<&str>) -> usize {
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
    let mut seen = OrdSet::new();
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
    let mut named = OrdSet::new();
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
    let set = |tree: &Value| -> OrdSet<String> {
        let scopes = tree.list("spec.scopes").iter().filter_map(Value::as_str);
        scopes.map(str::to_owned).collect()
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
