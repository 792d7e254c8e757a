//! LimitRange: bounds and defaults for what pods, containers and claims of a namespace ask for.

use api::complain::Complain;
use api::kinds::LIMIT_RANGE;
use api::lens::{Lens, LensMut};
use api::names;
use api::quantity::Quantity;
use api::quota::is_native;
use api::status::Cause;
use serde_json::Value;
use stdx::OrdSet;

use super::Rules;
use crate::checks::limited_name;
use crate::column::Column;

pub(super) static RULES: Rules = Rules {
    kind: &LIMIT_RANGE,
    validate,
    columns: &[Column::CREATED_AT],
    default,
    prepare,
    on_update: "CS",
    ..Rules::BASE
};

/// One without a name gets a unique one, as upstream's.
fn prepare(new: &mut Value, old: Option<&Value>) {
    if old.is_none() && new.str("metadata.name").is_empty() {
        let uid = new.at("metadata.uid").clone();
        new.set("metadata.name", uid);
    }
}

/// A container's limit is by default the most there may be, its request the limit, or the least.
fn default(tree: &mut Value) {
    let Some(Value::Array(limits)) = tree.at_mut("spec.limits") else { return };
    for limit in limits.iter_mut().filter(|limit| limit.str("type") == "Container") {
        for (to, from) in
            [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")]
        {
            let from = limit.at(from).clone();
            for (name, amount) in from.as_object().into_iter().flatten() {
                limit.map_mut(to).entry(name.as_str()).or_insert_with(|| amount.clone());
            }
        }
    }
}

fn validate(new: &Value, _: Option<&Value>, causes: &mut Vec<Cause>) {
    let mut types = OrdSet::new();
    for (idx, limit) in new.list("spec.limits").iter().enumerate() {
        let path = format!("spec.limits[{idx}]");
        let kind = limit.str("type");
        let type_path = format!("{path}.type");
        let known = ["Pod", "Container", "PersistentVolumeClaim"].contains(&kind);
        if names::qualified(kind).is_err() {
            causes.check_name(&type_path, kind, names::qualified);
        } else if !kind.contains('/') && !known {
            let detail = "must be a standard limit type or fully qualified";
            causes.invalid(&type_path, &kind.into(), detail);
        }
        if !types.insert(kind) {
            causes.duplicate(&type_path, &kind.into());
        }
        let mut resources: OrdSet<&str> = OrdSet::new();
        for field in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            let map = limit.at(field).as_object().filter(|map| !map.is_empty());
            if map.is_some() && kind == "Pod" && field.starts_with("default") {
                let detail = "may not be specified when `type` is 'Pod'";
                causes.forbidden(&format!("{path}.{field}"), detail);
                continue;
            }
            for (name, _) in map.into_iter().flatten() {
                let path = format!("{path}.{field}[{name}]");
                limited_name(kind == "Pod" || kind == "Container", name, &path, causes);
                resources.insert(name);
            }
        }
        let has_storage = |field: &str| limit.at(field).get("storage").is_some();
        if kind == "PersistentVolumeClaim" && !has_storage("min") && !has_storage("max") {
            let detail =
                "either minimum or maximum storage value is required, but neither was provided";
            causes.required(&format!("{path}.limits"), detail);
        }
        for name in resources {
            bounds(limit, name, &path, causes);
        }
    }
}

/// The bounds of one resource must agree.
fn bounds(limit: &Value, name: &str, path: &str, causes: &mut Vec<Cause>) {
    let pod = limit.str("type") == "Pod";
    let get = |field: &str| match pod && field.starts_with("default") {
        true => None,
        false => limit.at(field).get(name).and_then(Quantity::from_tree),
    };
    for (small, large, field, shown, words) in [
        ("min", "max", "min", "min", ["min value", "max value"]),
        (
            "min",
            "defaultRequest",
            "defaultRequest",
            "defaultRequest",
            ["min value", "default request value"],
        ),
        (
            "defaultRequest",
            "max",
            "defaultRequest",
            "defaultRequest",
            ["default request value", "max value"],
        ),
        (
            "defaultRequest",
            "default",
            "defaultRequest",
            "defaultRequest",
            ["default request value", "default limit value"],
        ),
        ("min", "default", "default", "min", ["min value", "default value"]),
        ("default", "max", "default", "max", ["default value", "max value"]),
    ] {
        if let (Some(a), Some(b)) = (get(small), get(large))
            && a > b
        {
            let detail = format!("{} {a} is greater than {} {b}", words[0], words[1]);
            let field = format!("{path}.{field}[{name}]");
            causes.invalid_quantity(
                &field,
                limit.at(shown).get(name).unwrap_or(&Value::Null),
                &detail,
            );
        }
    }
    let ratio_path = format!("{path}.maxLimitRequestRatio[{name}]");
    let ratio_text = limit.at("maxLimitRequestRatio").get(name).unwrap_or(&Value::Null);
    if let Some(ratio) = get("maxLimitRequestRatio") {
        if ratio < Quantity::from_units(1) {
            let detail = format!("ratio {ratio} is less than 1");
            causes.invalid_quantity(&ratio_path, ratio_text, &detail);
        }
        if let (Some(min), Some(max)) = (get("min"), get("max")) {
            let most = max.as_f64() / min.as_f64();
            if ratio.as_f64() > most {
                let detail = format!("ratio {ratio} is greater than max/min = {most:.6}");
                causes.invalid_quantity(&ratio_path, ratio_text, &detail);
            }
        }
    }
    let overcommits = is_native(name) && !name.starts_with("hugepages-");
    if let (false, Some(most), Some(least)) = (overcommits, get("default"), get("defaultRequest"))
        && most != least
    {
        let detail =
            format!("default value {most} must equal to defaultRequest value {least} in {name}");
        let shown = limit.at("defaultRequest").get(name).unwrap_or(&Value::Null);
        causes.invalid_quantity(&format!("{path}.defaultRequest[{name}]"), shown, &detail);
    }
}
