//! PodDisruptionBudget: how many pods of a group may be missing when pods are evicted.

use api::complain::Complain;
use api::kinds::POD_DISRUPTION_BUDGET;
use api::lens::Lens;
use api::status::Cause;
use serde_json::Value;

use super::{NameRule, Rules};
use crate::column::Column;

pub(super) static RULES: Rules = Rules {
    kind: &POD_DISRUPTION_BUDGET,
    name_rule: NameRule::PathSegment,
    validate,
    validate_status: |new, causes| {
        super::admission_policy_rules::conditions(new, causes);
        let counts = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
        super::workload::not_negative_counts(new, &counts, causes);
    },
    columns: COLUMNS,
    on_update: "V",
    ..Rules::BASE
};

const COLUMNS: &[Column<'static>] = &[
    Column::with("Min Available", |tree, _| or_not_applicable(tree.at("spec.minAvailable"))),
    Column::with("Max Unavailable", |tree, _| or_not_applicable(tree.at("spec.maxUnavailable"))),
    Column::number("Allowed Disruptions", "status.disruptionsAllowed"),
    Column::AGE,
];

fn or_not_applicable(bound: &Value) -> Value {
    match bound {
        Value::Null => "N/A".into(),
        Value::String(text) => text.as_str().into(),
        number => number.to_string().into(),
    }
}

fn validate(new: &Value, _: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = new.at("spec");
    if spec.has("minAvailable") && spec.has("maxUnavailable") {
        causes.invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set");
    }
    for bound in ["minAvailable", "maxUnavailable"] {
        let path = format!("spec.{bound}");
        super::workload::int_or_percent(spec.at(bound), &path, causes);
        super::workload::at_most_all(spec.at(bound), &path, causes);
    }
    crate::checks::label_selector(spec.at("selector"), "spec.selector", causes);
}
