//! HorizontalPodAutoscalers in `autoscaling/v1`: CPU in fields, everything else in annotations, as
//! upstream converts them.
//!
//! Source: pkg/apis/autoscaling/v1/conversion.go.

use serde_json::{Value, json};

use crate::lens::{Lens, LensMut};

/// The annotations that hold what v1 has no field for.
pub const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
pub const STATUSES: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
pub const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
pub const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// A kind of metric and where v1 and v2 have its parts; a `!` after v1's name says that v1 always
/// writes the quantity.
type Source = (&'static str, &'static [(&'static str, &'static str)]);

const SPECS: &[Source] = &[
    (
        "object",
        &[
            ("target", "describedObject"),
            ("metricName", "metric.name"),
            ("targetValue!", "target.value"),
            ("selector", "metric.selector"),
            ("averageValue", "target.averageValue"),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", "metric.name"),
            ("targetAverageValue!", "target.averageValue"),
            ("selector", "metric.selector"),
        ],
    ),
    ("resource", RESOURCE),
    ("containerResource", RESOURCE),
    (
        "external",
        &[
            ("metricName", "metric.name"),
            ("metricSelector", "metric.selector"),
            ("targetValue", "target.value"),
            ("targetAverageValue", "target.averageValue"),
        ],
    ),
];

const RESOURCE: &[(&str, &str)] = &[
    ("name", "name"),
    ("targetAverageUtilization", "target.averageUtilization"),
    ("targetAverageValue", "target.averageValue"),
    ("container", "container"),
];

const STATUS_SOURCES: &[Source] = &[
    (
        "object",
        &[
            ("target", "describedObject"),
            ("metricName", "metric.name"),
            ("currentValue!", "current.value"),
            ("selector", "metric.selector"),
            ("averageValue", "current.averageValue"),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", "metric.name"),
            ("currentAverageValue!", "current.averageValue"),
            ("selector", "metric.selector"),
        ],
    ),
    ("resource", RESOURCE_STATUS),
    ("containerResource", RESOURCE_STATUS),
    (
        "external",
        &[
            ("metricName", "metric.name"),
            ("metricSelector", "metric.selector"),
            ("currentValue!", "current.value"),
            ("currentAverageValue", "current.averageValue"),
        ],
    ),
];

const RESOURCE_STATUS: &[(&str, &str)] = &[
    ("name", "name"),
    ("currentAverageUtilization", "current.averageUtilization"),
    ("currentAverageValue!", "current.averageValue"),
    ("container", "container"),
];

/// The order in which Go writes the fields of these types; other keys follow by name.
const ORDER: &[&str] = &[
    "type",
    "status",
    "object",
    "pods",
    "resource",
    "containerResource",
    "external",
    "kind",
    "target",
    "metricName",
    "metricSelector",
    "targetValue",
    "name",
    "targetAverageUtilization",
    "currentAverageUtilization",
    "targetAverageValue",
    "currentValue",
    "currentAverageValue",
    "selector",
    "averageValue",
    "container",
    "apiVersion",
    "lastTransitionTime",
    "reason",
    "message",
    "matchLabels",
    "ScaleUp",
    "ScaleDown",
    "StabilizationWindowSeconds",
    "SelectPolicy",
    "Policies",
    "Type",
    "Value",
    "PeriodSeconds",
];

/// The metric that `targetCPUUtilizationPercentage` stands for.
/// The metric that v1's field stands for.
pub fn cpu_metric(percent: i64) -> Value {
    json!({"type": "Resource", "resource": {
        "name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent},
    }})
}

/// The utilization that v1 has a field for, if the metric is one of CPU that says it.
fn cpu_percent(metric: &Value, of: &str) -> Option<i64> {
    let is_cpu = metric.str("type") == "Resource" && metric.str("resource.name") == "cpu";
    metric.at("resource").at(of).int("averageUtilization").filter(|_| is_cpu)
}

/// What v1 has no field for goes into annotations.
pub fn from_stored(tree: &mut Value) {
    drop_annotations(tree);
    let mut notes: Vec<(&str, Value)> = Vec::new();
    let metrics = take_list(tree, "spec.metrics");
    if let Some(percent) = metrics.iter().find_map(|metric| cpu_percent(metric, "target")) {
        tree.set("spec.targetCPUUtilizationPercentage", percent);
    }
    let others = metrics.iter().filter(|metric| cpu_percent(metric, "target").is_none());
    notes.push((METRICS, others.map(|metric| to_v1(metric, SPECS)).collect()));
    let statuses = take_list(tree, "status.currentMetrics");
    if let Some(percent) = statuses.iter().rev().find_map(|status| cpu_percent(status, "current")) {
        tree.set("status.currentCPUUtilizationPercentage", percent);
    }
    notes.push((STATUSES, statuses.iter().map(|status| to_v1(status, STATUS_SOURCES)).collect()));
    if let Some(behavior) = tree.remove("spec.behavior") {
        notes.push((BEHAVIOR, capitalized(&behavior)));
    }
    notes.push((CONDITIONS, take_list(tree, "status.conditions").into()));
    for (name, value) in notes {
        if value.as_array().is_none_or(|items| !items.is_empty()) {
            let mut text = String::new();
            write(&value, ORDER, &mut text);
            tree.map_mut("metadata.annotations").insert(name.into(), text.into());
        }
    }
    if let Some(status) = tree.get_mut("status") {
        status.set_default("currentReplicas", 0);
    }
}

/// The way back. `checked` tells what an annotation held as part of an object, at a path, if Go would have read
/// it; it needs the codec, which stands above kinds.
pub fn to_stored(tree: &mut Value, checked: fn(&str, Value) -> Option<Value>) {
    tree.set("apiVersion", "autoscaling/v2");
    let note = |name: &str| -> Option<Value> {
        serde_json::from_str(tree.entry("metadata.annotations", name)?).ok()
    };
    let metrics = note(METRICS).and_then(|noted| checked("spec.metrics", from_v1(&noted, SPECS)));
    let statuses = note(STATUSES)
        .and_then(|noted| checked("status.currentMetrics", from_v1(&noted, STATUS_SOURCES)));
    let conditions = note(CONDITIONS).and_then(|noted| checked("status.conditions", noted));
    let behavior = note(BEHAVIOR).and_then(|noted| checked("spec.behavior", uncapitalized(noted)));
    drop_annotations(tree);
    let mut all = metrics.and_then(|list| list.as_array().cloned()).unwrap_or_default();
    let percent = tree.remove("spec.targetCPUUtilizationPercentage");
    all.extend(percent.as_ref().and_then(Value::as_i64).map(cpu_metric));
    if !all.is_empty() {
        tree.set("spec.metrics", all);
    }
    if let Some(behavior) = behavior.filter(|it| it.has("scaleUp") || it.has("scaleDown")) {
        tree.set("spec.behavior", behavior);
    }
    if let Some(percent) = tree.remove("status.currentCPUUtilizationPercentage") {
        let status = json!({"type": "Resource", "resource": {
            "name": "cpu", "current": {"averageUtilization": percent},
        }});
        tree.set("status.currentMetrics", json!([status]));
    }
    for (path, value) in [("status.currentMetrics", statuses), ("status.conditions", conditions)] {
        if let Some(value) = value {
            tree.set(path, value);
        }
    }
    if tree.int("status.currentReplicas") == Some(0) {
        tree.remove("status.currentReplicas");
    }
}

fn drop_annotations(tree: &mut Value) {
    let Some(annotations) = tree.at_mut("metadata.annotations").and_then(Value::as_object_mut)
    else {
        return;
    };
    for name in [METRICS, STATUSES, CONDITIONS, BEHAVIOR] {
        annotations.remove(name);
    }
    if annotations.is_empty() {
        tree.remove("metadata.annotations");
    }
}

fn take_list(tree: &mut Value, path: &str) -> Vec<Value> {
    match tree.remove(path) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

/// One metric, in its spec or status, as v1 had it.
fn to_v1(metric: &Value, sources: &[Source]) -> Value {
    let mut old = json!({"type": metric.at("type")});
    for (source, fields) in sources.iter().filter(|(source, _)| metric.has(source)) {
        let part = metric.at(source);
        for (name, path) in *fields {
            let (name, always) = match name.strip_suffix('!') {
                Some(name) => (name, true),
                None => (*name, false),
            };
            let value = match part.at(path) {
                Value::Null if always => "0".into(),
                Value::Null => continue,
                value => value.clone(),
            };
            old.slot(source).set(name, value);
        }
    }
    old
}

/// A list of metrics as v1 had them, in their present form.
fn from_v1(list: &Value, sources: &[Source]) -> Value {
    let one = |old: &Value| {
        let mut metric = json!({"type": old.at("type")});
        for (source, fields) in sources.iter().filter(|(source, _)| old.has(source)) {
            let (part, slot) = (old.at(source), metric.slot(source));
            for (name, path) in *fields {
                let (name, always) = (name.trim_end_matches('!'), name.ends_with('!'));
                match part.at(name) {
                    Value::Null if always => slot.set(path, "0"),
                    Value::Null => {}
                    value => slot.set(path, value.clone()),
                }
            }
            if std::ptr::eq(sources, SPECS) {
                let kind = target_type(source, slot.at("target"));
                slot.set("target.type", kind);
            }
        }
        metric
    };
    match list {
        Value::Array(items) => items.iter().map(one).collect(),
        other => other.clone(),
    }
}

/// What v1 left to be concluded from the fields that are set.
fn target_type(source: &str, target: &Value) -> &'static str {
    match source {
        "resource" | "containerResource" if target.has("averageUtilization") => "Utilization",
        "object" if !target.has("averageValue") => "Value",
        "external" if target.has("value") => "Value",
        _ => "AverageValue",
    }
}

/// Upstream writes its internal type here: with Go's names, and what is not set as null.
fn capitalized(behavior: &Value) -> Value {
    let rules = |rules: &Value| match rules {
        Value::Null => Value::Null,
        rules => {
            let policies = rules.at("policies").as_array().map(|policies| {
                let one = |policy: &Value| {
                    json!({
                        "Type": policy.at("type"), "Value": policy.at("value"),
                        "PeriodSeconds": policy.at("periodSeconds"),
                    })
                };
                policies.iter().map(one).collect::<Vec<_>>()
            });
            json!({
                "StabilizationWindowSeconds": rules.at("stabilizationWindowSeconds"),
                "SelectPolicy": rules.at("selectPolicy"), "Policies": policies,
            })
        }
    };
    json!({"ScaleUp": rules(behavior.at("scaleUp")), "ScaleDown": rules(behavior.at("scaleDown"))})
}

/// The same read back. Go reads keys whatever their case; ours begin with a small letter.
fn uncapitalized(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let small = |(mut key, value): (String, Value)| {
                if let Some(first) = key.get_mut(..1) {
                    first.make_ascii_lowercase();
                }
                (key, uncapitalized(value))
            };
            Value::Object(map.into_iter().map(small).collect())
        }
        // The parser has bounded how deep this goes.
        Value::Array(items) => items.into_iter().map(uncapitalized).collect(),
        other => other,
    }
}

/// JSON as Go writes it: keys in order, and what HTML could misread escaped.
fn write(value: &Value, order: &[&str], out: &mut String) {
    match value {
        Value::Object(map) => {
            let known = order.iter().filter_map(|key| map.get_key_value(*key));
            let others = map.iter().filter(|(key, _)| !order.contains(&key.as_str()));
            join(known.chain(others), '{', '}', out, |(key, value), out| {
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                // Labels are a map, not a type.
                write(value, if key == "matchLabels" { &[] } else { order }, out);
            });
        }
        Value::Array(items) => {
            join(items.iter(), '[', ']', out, |item, out| write(item, order, out))
        }
        Value::String(_) => {
            let text = value.to_string();
            for c in text.chars() {
                match c {
                    '<' | '>' | '&' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
                    c => out.push(c),
                }
            }
        }
        other => out.push_str(&other.to_string()),
    }
}

fn join<T>(
    items: impl Iterator<Item = T>,
    open: char,
    close: char,
    out: &mut String,
    each: impl Fn(T, &mut String),
) {
    out.push(open);
    for (idx, item) in items.enumerate() {
        if idx > 0 {
            out.push(',');
        }
        each(item, out);
    }
    out.push(close);
}
