//! HorizontalPodAutoscaler: makes something bigger or smaller as its load asks for.

use api::codec::{self, FieldValidation};
use api::kinds::HORIZONTAL_POD_AUTOSCALER;
use api::kinds::autoscaling_v1;
use api::lens::{Lens, LensMut};
use serde_json::{Value, json};

use super::horizontal_pod_autoscaler_rules as rules;
use super::{Rules, Version};
use crate::column::Column;

pub(super) static RULES: Rules = Rules {
    kind: &HORIZONTAL_POD_AUTOSCALER,
    columns: COLUMNS,
    default,
    validate: rules::validate,
    validate_status: rules::validate_status,
    versions: &[Version { group: "autoscaling", version: "v1", to_stored, validate: None }],
    ..Rules::BASE
};

pub(super) fn default(tree: &mut Value) {
    const CPU_UTILIZATION: i64 = 80;
    if tree.list("spec.metrics").is_empty() {
        tree.set("spec.metrics", json!([autoscaling_v1::cpu_metric(CPU_UTILIZATION)]));
    }
    if !tree.has("spec.behavior") {
        return;
    }
    let policy =
        |kind: &str, value: i64| json!({"type": kind, "value": value, "periodSeconds": 15});
    tree.set_default("spec.behavior.scaleUp.stabilizationWindowSeconds", 0);
    let rules = [
        ("scaleUp", json!([policy("Pods", 4), policy("Percent", 100)])),
        ("scaleDown", json!([policy("Percent", 100)])),
    ];
    for (direction, policies) in rules {
        tree.set_default(&format!("spec.behavior.{direction}.selectPolicy"), "Max");
        tree.set_default(&format!("spec.behavior.{direction}.policies"), policies);
    }
}

const COLUMNS: &[Column<'static>] = &[
    Column::with("Reference", |tree, _| {
        let target = tree.at("spec.scaleTargetRef");
        format!("{}/{}", target.str("kind"), target.str("name")).into()
    }),
    Column::with("Targets", |tree, _| targets(tree).into()),
    Column::with("MinPods", |tree, _| match tree.int("spec.minReplicas") {
        Some(number) => number.to_string().into(),
        None => "<unset>".into(),
    }),
    number("MaxPods", "spec.maxReplicas"),
    number("Replicas", "status.currentReplicas"),
    Column::AGE,
];

/// A number in a column that upstream calls one of strings.
const fn number(name: &'static str, path: &'static str) -> Column<'static> {
    Column { kind: "string", ..Column::number(name, path) }
}

/// What each metric is and should be, as `kubectl get` shows it.
fn targets(tree: &Value) -> String {
    const SHOWN_MAX: usize = 2;
    let (specs, statuses) = (tree.list("spec.metrics"), tree.list("status.currentMetrics"));
    if specs.is_empty() {
        return "<none>".into();
    }
    let shown = specs.iter().take(SHOWN_MAX).enumerate();
    let shown: Vec<String> =
        shown.map(|(idx, spec)| target(spec, statuses.get(idx).unwrap_or(&Value::Null))).collect();
    match specs.len().saturating_sub(SHOWN_MAX) {
        0 => shown.join(", "),
        more => format!("{} + {more} more...", shown.join(", ")),
    }
}

fn target(spec: &Value, status: &Value) -> String {
    let kind = spec.str("type");
    let (source, average) = match kind {
        "External" => ("external", " (avg)"),
        "Object" => ("object", " (avg)"),
        "Pods" => ("pods", ""),
        "Resource" => ("resource", ""),
        "ContainerResource" => ("containerResource", ""),
        _ => return "<unknown type>".into(),
    };
    let (wanted, current) = (spec.at(source).at("target"), status.at(source).at("current"));
    let text = |of: &Value, field: &str| match of.at(field) {
        Value::Null => None,
        Value::String(amount) => Some(amount.clone()),
        percent => Some(format!("{percent}%")),
    };
    let is_resource = matches!(source, "resource" | "containerResource");
    let (field, mark) = match (wanted.has("averageValue"), is_resource) {
        (true, _) => ("averageValue", average),
        (false, true) => ("averageUtilization", ""),
        (false, false) => ("value", ""),
    };
    let unset = if is_resource { "<auto>" } else { "<unknown>" };
    let wanted = text(wanted, field).unwrap_or_else(|| unset.into());
    let current = text(current, field).unwrap_or_else(|| "<unknown>".into());
    match is_resource {
        true => format!("{}: {current}/{wanted}", spec.at(source).str("name")),
        false => format!("{current}/{wanted}{mark}"),
    }
}

/// What an annotation held as part of an object, if Go would have read it: its types must fit.
fn checked(path: &str, value: Value) -> Option<Value> {
    let mut tree = json!({});
    tree.set(path, value);
    codec::check_fields(&HORIZONTAL_POD_AUTOSCALER, &mut tree, FieldValidation::Ignore).ok()?;
    Some(tree.at(path).clone())
}

fn to_stored(tree: &mut Value) -> Result<(), String> {
    autoscaling_v1::to_stored(tree, checked);
    default(tree);
    Ok(())
}

#[cfg(test)]
#[path = "autoscaling_v1_tests.rs"]
mod tests;
