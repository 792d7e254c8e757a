//! Rules of a HorizontalPodAutoscaler.
//!
//! Source: pkg/apis/autoscaling/validation.

use api::complain::{Complain, NON_NEGATIVE};
use api::lens::Lens;
use api::names;
use api::quantity::Quantity;
use api::status::Cause;
use serde_json::Value;

use crate::checks;
use crate::gates;

const PERIOD_MAX_SECS: i64 = 1800;
const STABILIZATION_MAX_SECS: i64 = 3600;

/// The kinds of metrics: type, field, and the fields of a target of which there must be one: what
/// is said if there is none, and if there are both.
const SOURCES: &[(&str, &str, Targets)] = &[
    (
        "Object",
        "object",
        Targets {
            fields: ["value", "averageValue"],
            none: ("averageValue", "must set either a target value or averageValue"),
            both: None,
        },
    ),
    (
        "External",
        "external",
        Targets {
            fields: ["value", "averageValue"],
            none: ("averageValue", "must set either a target value for metric or a per-pod target"),
            both: Some((
                "value",
                "may not set both a target value for metric and a per-pod target",
            )),
        },
    ),
    (
        "Pods",
        "pods",
        Targets {
            fields: ["averageValue", "averageValue"],
            none: ("averageValue", "must specify a positive target averageValue"),
            both: None,
        },
    ),
    ("Resource", "resource", OF_RESOURCE),
    ("ContainerResource", "containerResource", OF_RESOURCE),
];

struct Targets {
    fields: [&'static str; 2],
    none: (&'static str, &'static str),
    both: Option<(&'static str, &'static str)>,
}

const OF_RESOURCE: Targets = Targets {
    fields: ["averageUtilization", "averageValue"],
    none: ("averageUtilization", "must set either a target raw value or a target utilization"),
    both: Some(("averageValue", "may not set both a target raw value and a target utilization")),
};

pub(super) fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = new.at("spec");
    let (min, max) = (spec.int("minReplicas"), spec.int("maxReplicas").unwrap_or(0));
    // What scales to zero from a time when that was allowed may go on.
    let to_zero = gates::is_on(gates::SCALE_TO_ZERO);
    let least = i64::from(!to_zero && old.is_none_or(|old| old.int("spec.minReplicas") != Some(0)));
    if let Some(min) = min.filter(|min| *min < least) {
        let detail = format!("must be greater than or equal to {least}");
        causes.invalid("spec.minReplicas", &min.into(), &detail);
    }
    if max < 1 {
        causes.invalid("spec.maxReplicas", &max.into(), "must be greater than 0");
    }
    if min.is_some_and(|min| max < min) {
        let detail = "must be greater than or equal to `minReplicas`";
        causes.invalid("spec.maxReplicas", &max.into(), detail);
    }
    reference(spec.at("scaleTargetRef"), "spec.scaleTargetRef", causes);
    for (idx, metric) in spec.list("metrics").iter().enumerate() {
        self::metric(metric, &format!("spec.metrics[{idx}]"), causes);
    }
    let counts_at_zero = |metric: &Value| matches!(metric.str("type"), "Object" | "External");
    if min == Some(0) && !spec.list("metrics").iter().any(counts_at_zero) {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        causes.forbidden("spec.metrics", detail);
    }
    for direction in ["scaleUp", "scaleDown"] {
        let rules = spec.at("behavior").at(direction);
        if !rules.is_null() {
            scaling_rules(rules, &format!("spec.behavior.{direction}"), causes);
        }
    }
}

pub(super) fn validate_status(new: &Value, causes: &mut Vec<Cause>) {
    for path in ["status.currentReplicas", "status.desiredReplicas"] {
        if let Some(number) = new.int(path).filter(|number| *number < 0) {
            causes.invalid(path, &number.into(), NON_NEGATIVE);
        }
    }
}

/// A `CrossVersionObjectReference` at `path`.
fn reference(reference: &Value, path: &str, causes: &mut Vec<Cause>) {
    for field in ["kind", "name"] {
        named(reference, field, "", path, causes);
    }
}

/// A path segment that must be there.
fn named(of: &Value, field: &str, detail: &str, path: &str, causes: &mut Vec<Cause>) {
    let path = format!("{path}.{field}");
    match of.str(field) {
        "" => causes.required(&path, detail),
        name => causes.check_name(&path, name, names::path_segment),
    }
}

fn metric(metric: &Value, path: &str, causes: &mut Vec<Cause>) {
    const TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];
    let kind = metric.str("type");
    let path_of_type = format!("{path}.type");
    if kind.is_empty() {
        causes.required(&path_of_type, "must specify a metric source type");
    }
    let expected = SOURCES.iter().find(|(name, ..)| *name == kind).map(|(_, field, _)| *field);
    if expected.is_none() {
        // Upstream says it twice.
        causes.not_supported(&path_of_type, kind, TYPES);
        causes.not_supported(&path_of_type, kind, TYPES);
    }
    let present: Vec<_> = SOURCES.iter().filter(|(_, field, _)| metric.has(field)).collect();
    if let Some((_, field, targets)) = present.first() {
        source(metric.at(field), field, targets, &format!("{path}.{field}"), causes);
    }
    if let Some(field) = expected.filter(|field| !metric.has(field)) {
        let detail = "must populate information for the given metric source";
        causes.required(&format!("{path}.{field}"), detail);
    }
    if present.len() == 1 {
        return;
    }
    for (_, field, _) in present.iter().filter(|(_, field, _)| Some(*field) != expected) {
        causes.forbidden(&format!("{path}.{field}"), "must populate the given metric source only");
    }
}

fn source(source: &Value, field: &str, targets: &Targets, path: &str, causes: &mut Vec<Cause>) {
    match field {
        "resource" | "containerResource" => resource(source, field, path, causes),
        _ => {
            if field == "object" {
                reference(source.at("describedObject"), &format!("{path}.describedObject"), causes);
            }
            let path = format!("{path}.metric");
            named(source.at("metric"), "name", "must specify a metric name", &path, causes);
        }
    }
    let path = format!("{path}.target");
    let target = source.at("target");
    self::target(target, &path, causes);
    let n_set = targets.fields.iter().filter(|field| target.has(field)).count();
    match (n_set, &targets.both) {
        (0, _) => causes.required(&format!("{path}.{}", targets.none.0), targets.none.1),
        (2, Some((field, detail))) => causes.forbidden(&format!("{path}.{field}"), detail),
        _ => {}
    }
}

fn resource(source: &Value, field: &str, path: &str, causes: &mut Vec<Cause>) {
    let path_of_name = format!("{path}.name");
    match source.str("name") {
        "" => causes.required(&path_of_name, "must specify a resource name"),
        name if field == "containerResource" => {
            checks::limited_name(true, name, &path_of_name, causes);
        }
        _ => {}
    }
    if field == "resource" {
        return;
    }
    let path = format!("{path}.container");
    match source.str("container") {
        "" => causes.required(&path, "must specify a container"),
        name => causes.check_name(&path, name, names::label),
    }
}

fn target(target: &Value, path: &str, causes: &mut Vec<Cause>) {
    let kind = target.str("type");
    let path_of_type = format!("{path}.type");
    if kind.is_empty() {
        causes.required(&path_of_type, "must specify a metric target type");
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        let detail = "must be either Utilization, Value, or AverageValue";
        causes.invalid(&path_of_type, &kind.into(), detail);
    }
    for field in ["value", "averageValue"] {
        let value = target.at(field);
        if Quantity::from_tree(value).is_some_and(|it| it.is_negative() || it.is_zero()) {
            causes.invalid_quantity(&format!("{path}.{field}"), value, "must be positive");
        }
    }
    if let Some(percent) = target.int("averageUtilization").filter(|percent| *percent < 1) {
        let path = format!("{path}.averageUtilization");
        causes.invalid(&path, &percent.into(), "must be greater than 0");
    }
}

fn scaling_rules(rules: &Value, path: &str, causes: &mut Vec<Cause>) {
    let window = rules.int("stabilizationWindowSeconds").unwrap_or(0);
    let path_of_window = format!("{path}.stabilizationWindowSeconds");
    at_most(window, STABILIZATION_MAX_SECS, &path_of_window, causes);
    if window < 0 {
        let detail = "must be greater than or equal to zero";
        causes.invalid(&path_of_window, &window.into(), detail);
    }
    let path = format!("{path}.policies");
    if rules.list("policies").is_empty() {
        causes.required(&path, "must specify at least one Policy");
    }
    for (idx, policy) in rules.list("policies").iter().enumerate() {
        let path = format!("{path}[{idx}]");
        let kind = policy.str("type");
        if !matches!(kind, "Percent" | "Pods") {
            causes.not_supported(&format!("{path}.type"), kind, &["Percent", "Pods"]);
        }
        for field in ["value", "periodSeconds"] {
            let number = policy.int(field).unwrap_or(0);
            if number <= 0 {
                let path = format!("{path}.{field}");
                causes.invalid(&path, &number.into(), "must be greater than zero");
            }
        }
        let period = policy.int("periodSeconds").unwrap_or(0);
        at_most(period, PERIOD_MAX_SECS, &format!("{path}.periodSeconds"), causes);
    }
}

fn at_most(secs: i64, max_secs: i64, path: &str, causes: &mut Vec<Cause>) {
    if secs > max_secs {
        let detail = format!("must be less than or equal to {max_secs}");
        causes.invalid(path, &secs.into(), &detail);
    }
}
