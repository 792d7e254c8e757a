//! PodDisruptionBudget: how many pods of a group may be missing when pods are evicted.

use serde_json::Value;

use crate::complain::Complain;
use crate::kind::*;
use crate::lens::Lens;
use crate::status::Cause;

pub static POD_DISRUPTION_BUDGET: Kind = Kind {
    group: "policy",
    name: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    declared: &Declared {
        version: "v1",
        short: &["pdb"],
        subresources: &[Sub::Status],
        name_rule: NameRule::PathSegment,
        schema: SCHEMA,
        validate,
        columns: COLUMNS,
        doc: "How many pods of a group may be missing when pods are evicted.",
        conditional_updates: true,
        on_update: "V",
        ..Declared::BASE
    },
    ..Kind::BASE
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
    crate::validate::label_selector(spec.at("selector"), "spec.selector", causes);
}

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.policy.v1
PodDisruptionBudgetSpec
   1 minAvailable               intorstr? -- How many pods must stay, as number or percentage.
   2 selector                   LabelSelector? replace -- Selects the pods.
   3 maxUnavailable             intorstr? -- How many pods may be missing, as number or percentage.
   4 unhealthyPodEvictionPolicy str?           in AlwaysAllow|IfHealthyBudget
PodDisruptionBudgetStatus
   1 observedGeneration  i64
   2 disruptedPods       {}time
   3 disruptionsAllowed~ i32
   4 currentHealthy~     i32
   5 desiredHealthy~     i32
   6 expectedPods~       i32
   7 conditions          []Condition map(type) merge(type)
PodDisruptionBudget kind
   1 metadata ObjectMeta
   2 spec     PodDisruptionBudgetSpec
   3 status   PodDisruptionBudgetStatus
";
