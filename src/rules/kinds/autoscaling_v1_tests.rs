//! Tests of the conversion between autoscaling/v1 and v2.

use api::kinds::autoscaling_v1::{
    BEHAVIOR, CONDITIONS, METRICS, STATUSES, cpu_metric, from_stored,
};
use api::lens::Lens;

use super::*;

/// A v2 autoscaler with every kind of metric.
fn everything() -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h", "annotations": {"mine": "yes"}},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
            "minReplicas": 1, "maxReplicas": 5,
            "metrics": [
                {"type": "ContainerResource", "containerResource": {"name": "memory", "container": "c", "target": {"type": "AverageValue", "averageValue": "100Mi"}}},
                {"type": "Pods", "pods": {"metric": {"name": "rps", "selector": {"matchLabels": {"a": "<b"}}}, "target": {"type": "AverageValue", "averageValue": "10"}}},
                {"type": "Object", "object": {"describedObject": {"apiVersion": "v1", "kind": "Service", "name": "s"}, "metric": {"name": "q"}, "target": {"type": "Value", "value": "3"}}},
                {"type": "External", "external": {"metric": {"name": "e"}, "target": {"type": "Value", "value": "7"}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}},
            ],
            "behavior": {
                "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]},
                "scaleDown": {"selectPolicy": "Min", "policies": [{"type": "Percent", "value": 50, "periodSeconds": 30}]},
            },
        },
        "status": {"desiredReplicas": 2, "currentMetrics": [
            {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 50, "averageValue": "1"}}},
        ]},
    })
}

#[test]
fn what_v1_has_no_field_for_goes_into_annotations_and_back() {
    let mut tree = everything();
    from_stored(&mut tree);
    assert_eq!(tree.int("spec.targetCPUUtilizationPercentage"), Some(60));
    assert_eq!(tree.int("status.currentCPUUtilizationPercentage"), Some(50));
    for (name, wanted) in [
        (
            METRICS,
            r#"[{"type":"ContainerResource","containerResource":{"name":"memory","targetAverageValue":"100Mi","container":"c"}},{"type":"Pods","pods":{"metricName":"rps","targetAverageValue":"10","selector":{"matchLabels":{"a":"\u003cb"}}}},{"type":"Object","object":{"target":{"kind":"Service","name":"s","apiVersion":"v1"},"metricName":"q","targetValue":"3"}},{"type":"External","external":{"metricName":"e","targetValue":"7"}}]"#,
        ),
        (
            BEHAVIOR,
            r#"{"ScaleUp":{"StabilizationWindowSeconds":0,"SelectPolicy":"Max","Policies":[{"Type":"Pods","Value":2,"PeriodSeconds":60}]},"ScaleDown":{"StabilizationWindowSeconds":null,"SelectPolicy":"Min","Policies":[{"Type":"Percent","Value":50,"PeriodSeconds":30}]}}"#,
        ),
        (
            STATUSES,
            r#"[{"type":"Resource","resource":{"name":"cpu","currentAverageUtilization":50,"currentAverageValue":"1"}}]"#,
        ),
    ] {
        assert_eq!(tree.entry("metadata.annotations", name), Some(wanted), "{name}");
    }
    to_stored(&mut tree).unwrap();
    assert_eq!(tree, everything(), "and back");
}

#[test]
fn what_nobody_could_have_written_is_left_out() {
    for text in ["{", "5", r#"[{"type":5}]"#, r#"[{"type":"Pods","pods":{"metricName":{}}}]"#] {
        let mut tree = json!({
            "metadata": {"name": "h", "annotations": {METRICS: text, BEHAVIOR: text, CONDITIONS: text}},
            "spec": {"maxReplicas": 1},
        });
        to_stored(&mut tree).unwrap();
        assert_eq!(tree.at("spec.metrics"), &json!([cpu_metric(80)]), "{text}");
        assert!(!tree.has("metadata.annotations") && !tree.has("spec.behavior"), "{text}");
    }
}
