//! HorizontalPodAutoscaler: makes something bigger or smaller as its load asks for.

use serde_json::{Value, json};

use super::{autoscaling_v1, horizontal_pod_autoscaler_rules as rules};
use crate::kind::*;
use crate::lens::{Lens, LensMut};

pub static HORIZONTAL_POD_AUTOSCALER: Kind = Kind {
    group: "autoscaling",
    name: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    declared: &Declared {
        version: "v2",
        short: &["hpa"],
        categories: &["all"],
        subresources: &[Sub::Status],
        schema: SCHEMA,
        columns: COLUMNS,
        generation: false,
        default,
        validate: rules::validate,
        validate_status: rules::validate_status,
        also: &[Served {
            validate: None,
            group: "autoscaling",
            version: "v1",
            root: "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler",
            from_stored: autoscaling_v1::from_stored,
            to_stored: autoscaling_v1::to_stored,
            fields: &[],
        }],
        doc: "Makes something bigger or smaller as its load asks for.",
        ..Declared::BASE
    },
    ..Kind::BASE
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

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.autoscaling.v2
HorizontalPodAutoscaler kind
   1 metadata ObjectMeta
   2 spec     HorizontalPodAutoscalerSpec
   3 status   HorizontalPodAutoscalerStatus
HorizontalPodAutoscalerSpec
   1 scaleTargetRef~ CrossVersionObjectReference -- What is made bigger or smaller.
   2 minReplicas     i32? = 1 -- The fewest replicas.
   3 maxReplicas~    i32 -- The most replicas.
   4 metrics         []MetricSpec -- What the number of replicas is computed from; the largest result counts.
   5 behavior        HorizontalPodAutoscalerBehavior? -- How fast it may go up and down.
CrossVersionObjectReference
   1 kind~      str
   2 name~      str
   3 apiVersion str
MetricSpec
   1 type~             str
   2 object            ObjectMetricSource?
   3 pods              PodsMetricSource?
   4 resource          ResourceMetricSource?
   5 external          ExternalMetricSource?
   7 containerResource ContainerResourceMetricSource?
HorizontalPodAutoscalerBehavior
   1 scaleUp   HPAScalingRules?
   2 scaleDown HPAScalingRules?
HPAScalingRules
   1 selectPolicy               str? of Disabled|Max|Min
   2 policies                   []HPAScalingPolicy?
   3 stabilizationWindowSeconds i32?
HPAScalingPolicy
   1 type~          str
   2 value~         i32
   3 periodSeconds~ i32
ObjectMetricSource
   1 describedObject~ CrossVersionObjectReference
   2 target~          MetricTarget
   3 metric~          MetricIdentifier
PodsMetricSource
   1 metric~ MetricIdentifier
   2 target~ MetricTarget
ResourceMetricSource
   1 name~   str
   2 target~ MetricTarget
ContainerResourceMetricSource
   1 name~      str
   2 target~    MetricTarget
   3 container~ str
ExternalMetricSource
   1 metric~ MetricIdentifier
   2 target~ MetricTarget
MetricIdentifier
   1 name~    str
   2 selector LabelSelector?
MetricTarget
   1 type~              str
   2 value              quantity?
   3 averageValue       quantity?
   4 averageUtilization i32?
HorizontalPodAutoscalerStatus
   1 observedGeneration i64?
   2 lastScaleTime      time?
   3 currentReplicas    i32
   4 desiredReplicas~   i32
   5 currentMetrics!    []MetricStatus
   6 conditions         []HorizontalPodAutoscalerCondition map(type) merge(type)
HorizontalPodAutoscalerCondition
   1 type~              str
   2 status~            str
   3 lastTransitionTime time
   4 reason             str
   5 message            str
MetricStatus
   1 type~             str
   2 object            ObjectMetricStatus?
   3 pods              PodsMetricStatus?
   4 resource          ResourceMetricStatus?
   5 external          ExternalMetricStatus?
   7 containerResource ContainerResourceMetricStatus?
ObjectMetricStatus
   1 metric~          MetricIdentifier
   2 current~         MetricValueStatus
   3 describedObject~ CrossVersionObjectReference
PodsMetricStatus
   1 metric~  MetricIdentifier
   2 current~ MetricValueStatus
ResourceMetricStatus
   1 name~    str
   2 current~ MetricValueStatus
ContainerResourceMetricStatus
   1 name~      str
   2 current~   MetricValueStatus
   3 container~ str
ExternalMetricStatus
   1 metric~  MetricIdentifier
   2 current~ MetricValueStatus
MetricValueStatus
   1 value              quantity?
   2 averageValue       quantity?
   3 averageUtilization i32?
package io.k8s.api.autoscaling.v1
HorizontalPodAutoscaler kind
   1 metadata ObjectMeta
   2 spec     HorizontalPodAutoscalerSpec
   3 status   HorizontalPodAutoscalerStatus
HorizontalPodAutoscalerSpec
   1 scaleTargetRef~                CrossVersionObjectReference -- What is made bigger or smaller.
   2 minReplicas                    i32? = 1 -- The fewest replicas.
   3 maxReplicas~                   i32 -- The most replicas.
   4 targetCPUUtilizationPercentage i32? -- How much of what its pods request of CPU is to be used.
CrossVersionObjectReference atomic
   1 kind~      str
   2 name~      str
   3 apiVersion str
HorizontalPodAutoscalerStatus
   1 observedGeneration              i64?
   2 lastScaleTime                   time?
   3 currentReplicas~                i32
   4 desiredReplicas~                i32
   5 currentCPUUtilizationPercentage i32?
";
