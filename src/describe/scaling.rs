//! Deployments' ReplicaSets, and HorizontalPodAutoscalers.

use api::{Lens, Value, json};
use stdx::Arrange;

use crate::controller;
use crate::needs::Part;
use crate::page::Page;
use crate::words;

/// Which ReplicaSets a Deployment has: the one of its template, and all others.
pub(crate) fn replica_sets(page: &mut Page<'_>, deployment: &Value) {
    let related = page.related;
    let answer = related.iter().find(|(part, _)| *part == Part::ReplicaSets);
    let Some((_, Ok(list))) = answer else { return };
    let uid = deployment.str("metadata.uid");
    let is_own = |set: &&Value| controller(set).is_some_and(|owner| owner.str("uid") == uid);
    let mut sets: Vec<&Value> = list.list("").iter().filter(is_own).collect();
    sets.arrange_by_key(|set| {
        (set.str("metadata.creationTimestamp").to_owned(), set.str("metadata.name").to_owned())
    });
    let wanted = template(deployment);
    let new = sets.iter().position(|set| template(set) == wanted);
    let others = sets.iter().enumerate().filter(|(idx, _)| Some(*idx) != new);
    let old: Vec<String> = others.map(|(_, set)| told(set)).collect();
    let new: Vec<String> = new.iter().map(|idx| told(sets[*idx])).collect();
    if !old.is_empty() || !new.is_empty() {
        page.line(&["OldReplicaSets:\t", &words::or(old.join(", "), "<none>")]);
        page.line(&["NewReplicaSet:\t", &words::or(new.join(", "), "<none>")]);
    }
}

/// The template of pods without what the Deployment's controller adds, and without what is empty.
fn template(object: &Value) -> Value {
    let mut template = object.at("spec.template").clone();
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            labels.remove("pod-template-hash");
        }
        metadata.retain(|_, value| !value.is_null() && *value != json!({}));
    }
    template
}

fn told(set: &Value) -> String {
    let (have, want) =
        (set.int("status.replicas").unwrap_or(0), set.int("spec.replicas").unwrap_or(0));
    format!("{} ({have}/{want} replicas created)", set.str("metadata.name"))
}

/// What an autoscaler looks at: each metric as it is now and as it should be.
pub(crate) fn metrics(page: &mut Page<'_>, autoscaler: &Value) {
    for (idx, metric) in autoscaler.list("spec.metrics").iter().enumerate() {
        let now = autoscaler.at("status.currentMetrics").at(&idx.to_string());
        let field = match metric.str("type") {
            "External" => "external",
            "Pods" => "pods",
            "Object" => "object",
            "Resource" => "resource",
            "ContainerResource" => "containerResource",
            other => {
                page.line(&["  <unknown metric type ", &format!("{other:?}"), ">"]);
                continue;
            }
        };
        let (metric, now) = (metric.at(field), now.at(field));
        let what = title(field, metric);
        let (kind, current, target) = compared(field, metric.at("target"), now);
        page.line(&["  ", &what, kind, ":\t", &current, " / ", &target]);
    }
}

fn title(field: &str, metric: &Value) -> String {
    let name = metric.str("metric.name");
    match field {
        "external" => format!("{name:?} "),
        "pods" => format!("{name:?} on pods"),
        "object" => {
            let object = metric.at("describedObject");
            format!("\"{name}\" on {}/{} ", object.str("kind"), object.str("name"))
        }
        "resource" => format!("resource {} on pods", metric.str("name")),
        _ => {
            let (name, container) = (metric.str("name"), metric.str("container"));
            format!("resource {name} of container \"{container}\" on pods")
        }
    }
}

/// How the target is meant, and both values. A value that is not there reads as zero where kubectl prints it without looking.
fn compared(field: &str, target: &Value, now: &Value) -> (&'static str, String, String) {
    let text = |value: &Value| if value.is_null() { "0".to_owned() } else { words::plain(value) };
    let unknown = || "<unknown>".to_owned();
    let average = || if now.is_null() { unknown() } else { text(now.at("current.averageValue")) };
    match field {
        "external" | "object" => {
            let is_average = match field {
                "external" => target.has("averageValue"),
                _ => target.str("type") == "AverageValue",
            };
            if is_average {
                let is_known = field == "object" || now.has("current.averageValue");
                let current = if is_known { average() } else { unknown() };
                return ("(target average value)", current, text(target.at("averageValue")));
            }
            let current = if now.is_null() { unknown() } else { text(now.at("current.value")) };
            ("(target value)", current, text(target.at("value")))
        }
        "pods" => ("", average(), text(target.at("averageValue"))),
        _ if target.has("averageValue") => ("", average(), text(target.at("averageValue"))),
        _ => {
            let current = now.int("current.averageUtilization").map_or_else(unknown, |percent| {
                format!("{percent}% ({})", text(now.at("current.averageValue")))
            });
            let wanted = target.int("averageUtilization");
            let wanted =
                wanted.map_or_else(|| "<auto>".to_owned(), |percent| format!("{percent}%"));
            ("  (as a percentage of request)", current, wanted)
        }
    }
}

pub(crate) fn behavior(page: &mut Page<'_>, autoscaler: &Value) {
    let behavior = autoscaler.at("spec.behavior");
    if behavior.is_null() {
        return;
    }
    page.line(&["Behavior:"]);
    for (title, field) in [("  Scale Up:", "scaleUp"), ("  Scale Down:", "scaleDown")] {
        if behavior.has(field) {
            page.line(&[title]);
            page.render(DIRECTION, behavior.at(field));
        }
    }
}

const DIRECTION: &str = "\
?stabilizationWindowSeconds|    Stabilization Window: {stabilizationWindowSeconds} seconds
+policies|    Select Policy: {selectPolicy=Max}
+policies|    Policies:
*policies|      - Type: {type}~Value: {value=0}~Period: {periodSeconds=0} seconds";
