//! Wrong jobs and cron jobs, with the fields that upstream complains about.

use api::kinds::{CRON_JOB, JOB};
use api::lens::LensMut;
use api::status::Status;
use serde_json::{Value, json};

use super::ready;

fn job(change: impl FnOnce(&mut Value)) -> Value {
    let mut tree = json!({"metadata": {"name": "j"}, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    change(&mut tree);
    ready(&JOB, &tree)
}

/// `field: reason` of each complaint, in order of the fields.
pub(super) fn complaints(result: Result<(), Status>) -> Vec<String> {
    let Err(status) = result else { return Vec::new() };
    let details = status.details();
    let causes = details.get("causes").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut out: Vec<String> = causes
        .iter()
        .map(|cause| {
            let reason = cause["reason"].as_str().unwrap_or("").trim_start_matches("FieldValue");
            format!("{}: {reason}", cause["field"].as_str().unwrap_or(""))
        })
        .collect();
    out.sort();
    out
}

#[test]
fn rules_between_fields_of_jobs() {
    let rule = |rule: Value| json!({"podFailurePolicy": {"rules": [rule]}});
    let codes = |codes: Value| json!({"podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": codes}]}});
    let indexed = |more: Value| {
        let mut spec = json!({"completionMode": "Indexed", "completions": 5});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let success = |rule: Value| indexed(json!({"successPolicy": {"rules": [rule]}}));
    let first = "spec.podFailurePolicy.rules[0]";
    let cases: Vec<(Value, Vec<String>)> = vec![
        (json!({}), vec![]),
        (json!({"backoffLimitPerIndex": 1}), vec!["spec.backoffLimitPerIndex: Invalid".into()]),
        (
            json!({"maxFailedIndexes": 1}),
            vec![
                "spec.backoffLimitPerIndex: Required".into(),
                "spec.maxFailedIndexes: Invalid".into(),
            ],
        ),
        (indexed(json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 5})), vec![]),
        (
            indexed(json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 6})),
            vec!["spec.maxFailedIndexes: Invalid".into()],
        ),
        (indexed(json!({"parallelism": 100_001})), vec!["spec.parallelism: Invalid".into()]),
        (
            json!({"completionMode": "Indexed", "completions": 100_001, "backoffLimitPerIndex": 1, "parallelism": 10_001}),
            vec!["spec.maxFailedIndexes: Required".into(), "spec.parallelism: Invalid".into()],
        ),
        (
            json!({"completionMode": "Indexed", "parallelism": 1}),
            vec!["spec.completions: Required".into()],
        ),
        (json!({"managedBy": "plain"}), vec!["spec.managedBy: Invalid".into()]),
        (json!({"managedBy": "example.com/one"}), vec![]),
        (
            json!({"managedBy": format!("example.com/{}", "x".repeat(60))}),
            vec!["spec.managedBy: TooLong".into()],
        ),
        (
            rule(json!({"action": "FailIndex", "onPodConditions": [{"type": "DisruptionTarget"}]})),
            vec![format!("{first}.action: Invalid")],
        ),
        (
            rule(json!({"action": "Sometimes", "onPodConditions": [{"type": "DisruptionTarget"}]})),
            vec![format!("{first}.action: NotSupported")],
        ),
        (rule(json!({"action": "Ignore"})), vec![format!("{first}: Invalid")]),
        (
            rule(json!({"onPodConditions": [{"type": "", "status": "Perhaps"}]})),
            vec![
                format!("{first}.action: Required"),
                format!("{first}.onPodConditions[0].status: NotSupported"),
                format!("{first}.onPodConditions[0].type: Invalid"),
                format!("{first}.onPodConditions[0].type: Invalid"),
            ],
        ),
        (
            rule(
                json!({"action": "Ignore", "onPodConditions": [{"type": "A"}], "onExitCodes": {"operator": "In", "values": [1]}}),
            ),
            vec![format!("{first}: Invalid")],
        ),
        (codes(json!({"operator": "In", "values": [1, 2, 40]})), vec![]),
        (
            codes(json!({"operator": "In", "values": [2, 1]})),
            vec![format!("{first}.onExitCodes.values: Invalid")],
        ),
        (
            codes(json!({"operator": "NotIn", "values": [0, 1, 1]})),
            vec![format!("{first}.onExitCodes.values[2]: Duplicate")],
        ),
        (
            codes(json!({"operator": "In", "values": [0]})),
            vec![format!("{first}.onExitCodes.values[0]: Invalid")],
        ),
        (
            codes(json!({"values": []})),
            vec![
                format!("{first}.onExitCodes.operator: Required"),
                format!("{first}.onExitCodes.values: Invalid"),
            ],
        ),
        (
            codes(json!({"operator": "In", "values": [1], "containerName": "other"})),
            vec![format!("{first}.onExitCodes.containerName: Invalid")],
        ),
        (
            json!({"podReplacementPolicy": "TerminatingOrFailed", "podFailurePolicy": {"rules": []}}),
            vec!["spec.podReplacementPolicy: NotSupported".into()],
        ),
        (
            json!({"successPolicy": {"rules": [{"succeededCount": 1}]}}),
            vec!["spec.successPolicy: Invalid".into()],
        ),
        (
            indexed(json!({"successPolicy": {"rules": []}})),
            vec!["spec.successPolicy.rules: Required".into()],
        ),
        (success(json!({})), vec!["spec.successPolicy.rules[0]: Required".into()]),
        (success(json!({"succeededIndexes": "0,2-4", "succeededCount": 4})), vec![]),
        (
            success(json!({"succeededIndexes": "0,2-3", "succeededCount": 4})),
            vec!["spec.successPolicy.rules[0].succeededCount: Invalid".into()],
        ),
        (
            success(json!({"succeededCount": 6})),
            vec!["spec.successPolicy.rules[0].succeededCount: Invalid".into()],
        ),
        (
            success(json!({"succeededIndexes": "3,1"})),
            vec!["spec.successPolicy.rules[0].succeededIndexes: Invalid".into()],
        ),
        (
            success(json!({"succeededIndexes": "5"})),
            vec!["spec.successPolicy.rules[0].succeededIndexes: Invalid".into()],
        ),
        (
            json!({"selector": {"matchLabels": {"a": "b"}}}),
            vec!["spec.selector: Invalid".into(), "spec.template.metadata.labels: Invalid".into()],
        ),
        (
            json!({"manualSelector": true}),
            vec!["spec.selector: Required".into(), "spec.template.metadata.labels: Invalid".into()],
        ),
    ];
    for (spec, want) in cases {
        let tree = job(|tree| {
            let map = tree.at_mut("spec").and_then(Value::as_object_mut).unwrap();
            map.extend(spec.as_object().unwrap().clone());
        });
        assert_eq!(complaints(crate::validate::create(&JOB, &tree)), want, "{spec}");
    }
}

#[test]
fn index_lists_are_ascending_and_below_the_completions() {
    use crate::kinds::job_rules::count_indexes;
    assert_eq!(count_indexes("", 5), Ok(0));
    assert_eq!(count_indexes("0,2-4", 5), Ok(4));
    for (bad, why) in [
        (
            "1-2-3",
            "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts separated by '-'",
        ),
        ("x", "cannot convert string to integer for index: \"x\""),
        ("5", "too large index: \"5\""),
        ("3-3", "non-increasing order, previous: 3, current: 3"),
        ("2,1", "non-increasing order, previous: 2, current: 1"),
    ] {
        assert_eq!(count_indexes(bad, 5), Err(why.to_owned()), "{bad}");
    }
}

#[test]
fn what_an_existing_job_may_change() {
    let old = job(|tree| {
        tree.set("spec.suspend", true);
        tree.set("spec.template.spec.affinity.podAffinity", json!({}));
    });
    let check = |change: &dyn Fn(&mut Value)| {
        let mut new = old.clone();
        change(&mut new);
        complaints(crate::validate::update(&JOB, &new, &old))
    };
    assert_eq!(
        check(&|tree| tree.set("spec.template.spec.nodeSelector", json!({"a": "b"}))),
        Vec::<String>::new()
    );
    assert_eq!(
        check(&|tree| {
            tree.remove("spec.template.spec.affinity.podAffinity");
        }),
        ["spec.template: Invalid"]
    );
    assert_eq!(check(&|tree| tree.set("spec.completions", 2)), ["spec.completions: Invalid"]);
    assert_eq!(check(&|tree| tree.set("spec.parallelism", 2)), Vec::<String>::new());
    assert_eq!(check(&|tree| tree.set("spec.managedBy", "a.b/c")), ["spec.managedBy: Invalid"]);
}

#[test]
fn rules_between_fields_of_cron_jobs() {
    for (spec, want) in [
        (json!({}), vec![]),
        (json!({"timeZone": "Europe/Berlin"}), vec![]),
        (json!({"timeZone": ""}), vec!["spec.timeZone: Invalid"]),
        (json!({"timeZone": "Local"}), vec!["spec.timeZone: Invalid"]),
        (json!({"timeZone": "local"}), vec!["spec.timeZone: Invalid", "spec.timeZone: Invalid"]),
        (json!({"timeZone": "Mars/Base"}), vec!["spec.timeZone: Invalid"]),
        (json!({"timeZone": "../UTC"}), vec!["spec.timeZone: Invalid"]),
        (json!({"schedule": "TZ=UTC * * * * *"}), vec!["spec.schedule: Invalid"]),
        (
            json!({"schedule": "TZ=Mars * * * * *"}),
            vec!["spec.schedule: Invalid", "spec.schedule: Invalid"],
        ),
        (json!({"schedule": "* * * *"}), vec!["spec.schedule: Invalid"]),
        (
            json!({"jobTemplate": {"spec": {"maxFailedIndexes": 1, "template": {"spec": {
                "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}}),
            vec![
                "spec.jobTemplate.spec.backoffLimitPerIndex: Required",
                "spec.jobTemplate.spec.maxFailedIndexes: Invalid",
            ],
        ),
    ] {
        let mut tree = json!({"metadata": {"name": "c"}, "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}}});
        let map = tree.at_mut("spec").and_then(Value::as_object_mut).unwrap();
        map.extend(spec.as_object().unwrap().clone());
        let tree = ready(&CRON_JOB, &tree);
        assert_eq!(complaints(crate::validate::create(&CRON_JOB, &tree)), want, "{spec}");
    }
}
