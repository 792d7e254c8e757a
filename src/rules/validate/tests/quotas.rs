//! Wrong quotas, limit ranges and replication controllers, in upstream's words.

use api::kind::Kind;
use api::kinds::{LIMIT_RANGE, POD_TEMPLATE, REPLICATION_CONTROLLER, RESOURCE_QUOTA};
use api::lens::Lens;
use api::status::Status;
use serde_json::{Value, json};

use super::ready;

fn told(result: Result<(), Status>) -> Vec<String> {
    let Err(status) = result else { return Vec::new() };
    let details = status.details();
    let causes = details.get("causes").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut out: Vec<String> =
        causes.iter().map(|c| format!("{}: {}", c.str("field"), c.str("message"))).collect();
    out.sort();
    out
}

fn go(value: i64, scale: i64, text: &str) -> String {
    format!(
        "resource.Quantity{{i:resource.int64Amount{{value:{value}, scale:{scale}}}, d:resource.infDecAmount{{Dec:(*inf.Dec)(nil)}}, s:\"{text}\", Format:\"DecimalSI\"}}"
    )
}

#[test]
fn what_is_wrong_is_told() {
    let limit = |limit: Value| json!({"limits": [limit]});
    let template = |labels: Value, policy: &str| json!({"metadata": {"labels": labels}, "spec": {"restartPolicy": policy, "containers": [{"name": "c", "image": "i"}]}});
    let cases: Vec<(&'static Kind, Value, Vec<String>)> = vec![
        (&RESOURCE_QUOTA, json!({"hard": {"pods": "5", "requests.storage": "1Gi", "count/x.example.com": "1", "requests.example.com/gpu": "2"}}), vec![]),
        (
            &RESOURCE_QUOTA,
            json!({"hard": {"cows": "1", "pods": "1500m", "cpu": "-1", "storage": "1"}}),
            vec![
                "spec.hard[cows]: Invalid value: cows: must be a standard resource for quota".into(),
                "spec.hard[cows]: Invalid value: cows: must be a standard resource type or fully qualified".into(),
                "spec.hard[cpu]: Invalid value: \"-1\": must be greater than or equal to 0".into(),
                format!("spec.hard[pods]: Invalid value: {}: must be an integer", go(1500, -3, "1500m")),
                "spec.hard[storage]: Invalid value: storage: must be a standard resource for quota".into(),
            ],
        ),
        (
            &RESOURCE_QUOTA,
            json!({"hard": {"secrets": "1"}, "scopes": ["BestEffort", "NotBestEffort", "x"]}),
            ["conflicting scopes", "unsupported scope", "unsupported scope applied to resource", "unsupported scope applied to resource"]
                .map(|why| format!("spec.scopes: Invalid value: []core.ResourceQuotaScope{{\"BestEffort\", \"NotBestEffort\", \"x\"}}: {why}"))
                .to_vec(),
        ),
        (
            &RESOURCE_QUOTA,
            json!({"scopeSelector": {"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": "In"}, {"scopeName": "BestEffort", "operator": "DoesNotExist"}, {"scopeName": "PriorityClass", "operator": "x"},
            ]}}),
            vec![
                "spec.scopeSelector.matchExpressions.operator: Invalid value: \"DoesNotExist\": must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity".into(),
                "spec.scopeSelector.matchExpressions.operator: Invalid value: \"x\": not a valid selector operator".into(),
                "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector".into(),
            ],
        ),
        (&LIMIT_RANGE, limit(json!({"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "2"}})), vec![]),
        (
            &LIMIT_RANGE,
            limit(json!({"type": "Pod", "default": {"cpu": "1"}, "min": {"cpu": "2"}, "max": {"cpu": "1", "cows": "1"}})),
            vec![
                "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'".into(),
                "spec.limits[0].max[cows]: Invalid value: cows: must be a standard resource for containers".into(),
                "spec.limits[0].max[cows]: Invalid value: cows: must be a standard resource type or fully qualified".into(),
                format!("spec.limits[0].min[cpu]: Invalid value: {}: min value 2 is greater than max value 1", go(2, 0, "2")),
            ],
        ),
        (
            &LIMIT_RANGE,
            limit(json!({"type": "PersistentVolumeClaim"})),
            vec!["spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided".into()],
        ),
        (
            &LIMIT_RANGE,
            limit(json!({"type": "Cow", "maxLimitRequestRatio": {"cpu": "500m"}})),
            vec![
                format!("spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: {}: ratio 500m is less than 1", go(500, -3, "500m")),
                "spec.limits[0].type: Invalid value: \"Cow\": must be a standard limit type or fully qualified".into(),
            ],
        ),
        (&REPLICATION_CONTROLLER, json!({"template": template(json!({"a": "b"}), "Always")}), vec![]),
        (
            &REPLICATION_CONTROLLER,
            json!({"selector": {"a": "c"}, "replicas": -1, "template": template(json!({"a": "b"}), "Never")}),
            vec![
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0".into(),
                "spec.template.metadata.labels: Invalid value: map[string]string{\"a\":\"b\"}: `selector` does not match template `labels`".into(),
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"".into(),
            ],
        ),
        (
            &REPLICATION_CONTROLLER,
            json!({}),
            vec!["spec.selector: Required value".into(), "spec.template: Required value".into()],
        ),
    ];
    for (kind, spec, wanted) in cases {
        let tree = ready(kind, &json!({"metadata": {"name": "x", "namespace": "d"}, "spec": spec}));
        assert_eq!(told(crate::validate::create(kind, &tree)), wanted, "{spec}");
    }
    let template = json!({"metadata": {"name": "x"}, "template": template(json!({}), "Sometimes")});
    let wrong = told(crate::validate::create(&POD_TEMPLATE, &ready(&POD_TEMPLATE, &template)));
    assert!(
        wrong[0].starts_with("template.spec.restartPolicy: Unsupported value: \"Sometimes\""),
        "{wrong:?}"
    );
}

#[test]
fn defaults_of_ranges_and_controllers() {
    let limit = json!({"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1", "memory": "1Gi"}, "default": {"memory": "2Gi"}});
    let range =
        ready(&LIMIT_RANGE, &json!({"metadata": {"name": "x"}, "spec": {"limits": [limit]}}));
    let limit = range.at("spec.limits.0");
    assert_eq!(limit["default"], json!({"cpu": "2", "memory": "2Gi"}));
    assert_eq!(limit["defaultRequest"], json!({"cpu": "2", "memory": "2Gi"}));
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let tree = json!({"metadata": {"name": "x"}, "spec": {"template": template}});
    let tree = ready(&REPLICATION_CONTROLLER, &tree);
    assert_eq!(
        (tree.at("spec.selector"), tree.at("metadata.labels")),
        (&json!({"a": "b"}), &json!({"a": "b"}))
    );
    assert_eq!(tree.int("spec.replicas"), Some(1));
}
