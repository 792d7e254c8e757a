//! Jobs of every sort, from start to end.

use api::kinds::{JOB, POD};
use api::{Lens, LensMut, Value, json};

use crate::world::World;

fn job(changes: Value) -> Value {
    let mut tree = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"namespace": "d", "name": "sum", "uid": "job-1"},
        "spec": {
            "parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed",
            "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "job-1"}},
            "template": {
                "metadata": {"labels": {"batch.kubernetes.io/controller-uid": "job-1"}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "main"}]},
            },
        },
    });
    api::patch::merge(&mut tree, &changes);
    tree
}

fn world(changes: Value) -> World {
    let mut world = World::new(&["job-controller", "generic-garbage-collector"], [job(changes)]);
    world.converge();
    world
}

fn get(world: &World) -> Value {
    world.get(&JOB, "d", "sum").unwrap()
}

/// `type=status reason: message` of every condition.
fn told(world: &World) -> Vec<String> {
    let text = |c: &Value| {
        format!("{}={} {}: {}", c.str("type"), c.str("status"), c.str("reason"), c.str("message"))
    };
    get(world).list("status.conditions").iter().map(text).collect()
}

fn counts(world: &World) -> [i64; 4] {
    let status = get(world);
    ["active", "ready", "succeeded", "failed"].map(|f| status.at("status").int(f).unwrap_or(0))
}

/// Names of pods that run.
fn running(world: &World) -> Vec<String> {
    let pods = world.list(&POD);
    let live = pods
        .iter()
        .filter(|p| p.str("status.phase") == "Running" && !p.has("metadata.deletionTimestamp"));
    live.map(|p| p.str("metadata.name").to_owned()).collect()
}

fn finish(world: &mut World, name: &str, exit: i64) {
    world.finish(name, if exit == 0 { "Succeeded" } else { "Failed" }, exit);
    world.converge();
}

/// The running pod of an index.
fn of_index(world: &World, index: i64) -> String {
    let prefix = format!("sum-{index}-");
    running(world).into_iter().find(|name| name.starts_with(&prefix)).unwrap_or_default()
}

#[test]
fn one_pod_succeeds() {
    let mut world = world(json!({}));
    assert_eq!(counts(&world), [1, 1, 0, 0]);
    let pod = &world.list(&POD)[0];
    assert_eq!(pod.at("metadata.finalizers"), &json!(["batch.kubernetes.io/job-tracking"]));
    assert_eq!(pod.entry("metadata.labels", "job-name"), Some("sum"));
    assert_eq!(get(&world).str("status.startTime"), "2024-01-01T00:00:00Z");
    world.advance(5);
    let name = running(&world)[0].clone();
    finish(&mut world, &name, 0);
    assert_eq!(counts(&world), [0, 0, 1, 0]);
    assert_eq!(
        told(&world),
        [
            "SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods",
            "Complete=True CompletionsReached: Reached expected number of succeeded pods",
        ]
    );
    assert_eq!(get(&world).str("status.completionTime"), "2024-01-01T00:00:05Z");
    assert_eq!(world.list(&POD)[0].list("metadata.finalizers").len(), 0);
    let events: Vec<_> = world.events.iter().map(|e| e.split_once(": ").unwrap().0).collect();
    assert_eq!(events, ["Job d/sum Normal SuccessfulCreate", "Job d/sum Normal Completed"]);
    world.assert_fixpoint();
}

#[test]
fn failures_back_off_and_end_the_job() {
    let mut world = world(json!({"spec": {"backoffLimit": 2}}));
    for (wait, failed) in [(10, 1), (20, 2)] {
        let name = running(&world)[0].clone();
        finish(&mut world, &name, 1);
        assert_eq!(counts(&world)[3], failed);
        assert!(running(&world).is_empty(), "waits");
        world.advance(wait - 1);
        world.converge();
        assert!(running(&world).is_empty(), "still waits");
        world.advance(2);
        world.converge();
        assert_eq!(running(&world).len(), 1);
    }
    let name = running(&world)[0].clone();
    finish(&mut world, &name, 1);
    assert_eq!(
        told(&world),
        [
            "FailureTarget=True BackoffLimitExceeded: Job has reached the specified backoff limit",
            "Failed=True BackoffLimitExceeded: Job has reached the specified backoff limit",
        ]
    );
    assert_eq!(counts(&world), [0, 0, 0, 3]);
    assert_eq!(
        world.events.last().unwrap(),
        "Job d/sum Warning BackoffLimitExceeded: Job has reached the specified backoff limit"
    );
    world.assert_fixpoint();
}

#[test]
fn parallel_with_fixed_completions() {
    let mut world = world(json!({"spec": {"parallelism": 2, "completions": 3}}));
    assert_eq!(counts(&world), [2, 2, 0, 0]);
    for left in [2, 1, 0] {
        let name = running(&world)[0].clone();
        finish(&mut world, &name, 0);
        assert_eq!(running(&world).len(), left);
    }
    assert_eq!(counts(&world), [0, 0, 3, 0]);
    assert!(told(&world)[1].starts_with("Complete=True"));
    world.assert_fixpoint();
}

#[test]
fn work_queue_ends_when_one_succeeded_and_all_ended() {
    let mut world = world(json!({"spec": {"parallelism": 3, "completions": null}}));
    assert_eq!(running(&world).len(), 3);
    for left in [2, 1, 0] {
        let name = running(&world)[0].clone();
        finish(&mut world, &name, 0);
        assert_eq!(running(&world).len(), left, "no new ones");
    }
    assert!(told(&world)[1].starts_with("Complete=True"));
}

#[test]
fn deadline() {
    let mut world = world(json!({"spec": {"activeDeadlineSeconds": 30}}));
    world.advance(31);
    world.converge();
    assert_eq!(
        told(&world),
        [
            "FailureTarget=True DeadlineExceeded: Job was active longer than specified deadline",
            "Failed=True DeadlineExceeded: Job was active longer than specified deadline",
        ]
    );
    assert!(world.names(&POD).is_empty());
    assert_eq!(counts(&world), [0, 0, 0, 1]);
    world.assert_fixpoint();
}

#[test]
fn suspend_and_resume() {
    let mut world = world(json!({"spec": {"suspend": true, "activeDeadlineSeconds": 30}}));
    assert!(world.names(&POD).is_empty());
    assert_eq!(told(&world), ["Suspended=True JobSuspended: Job suspended"]);
    assert!(!get(&world).has("status.startTime"));
    world.advance(100);
    world.edit(&JOB, "d", "sum", |job| job.set("spec.suspend", false));
    world.converge();
    assert_eq!(told(&world), ["Suspended=False JobResumed: Job resumed"]);
    assert_eq!(get(&world).str("status.startTime"), "2024-01-01T00:01:40Z");
    assert_eq!(running(&world).len(), 1);
    world.edit(&JOB, "d", "sum", |job| job.set("spec.suspend", true));
    world.converge();
    assert!(world.names(&POD).is_empty());
    assert_eq!(counts(&world), [0, 0, 0, 0], "stopped pods are no failures");
    world.assert_fixpoint();
}

#[test]
fn indexed() {
    let mut world =
        world(json!({"spec": {"completionMode": "Indexed", "parallelism": 3, "completions": 4}}));
    let pod = world.get(&POD, "d", &of_index(&world, 1)).unwrap();
    assert_eq!(pod.str("spec.hostname"), "sum-1");
    assert_eq!(
        pod.entry("metadata.annotations", "batch.kubernetes.io/job-completion-index"),
        Some("1")
    );
    assert_eq!(pod.str("spec.containers.0.env.0.name"), "JOB_COMPLETION_INDEX");
    for index in [0, 2] {
        let name = of_index(&world, index);
        finish(&mut world, &name, 0);
    }
    assert_eq!(get(&world).str("status.completedIndexes"), "0,2");
    let name = of_index(&world, 1);
    finish(&mut world, &name, 1);
    world.advance(11);
    world.converge();
    for index in [1, 3] {
        let name = of_index(&world, index);
        finish(&mut world, &name, 0);
    }
    assert_eq!(get(&world).str("status.completedIndexes"), "0-3");
    assert_eq!(counts(&world), [0, 0, 4, 1]);
    assert!(told(&world)[1].starts_with("Complete=True"));
    world.assert_fixpoint();
}

#[test]
fn limit_per_index() {
    let mut world = world(json!({"spec": {
        "completionMode": "Indexed", "parallelism": 2, "completions": 2, "backoffLimitPerIndex": 1, "backoffLimit": 2147483647,
    }}));
    let name = of_index(&world, 0);
    finish(&mut world, &name, 1);
    assert_eq!(of_index(&world, 0), "", "waits");
    world.advance(11);
    world.converge();
    let name = of_index(&world, 0);
    let pod = world.get(&POD, "d", &name).unwrap();
    assert_eq!(
        pod.entry("metadata.annotations", "batch.kubernetes.io/job-index-failure-count"),
        Some("1")
    );
    finish(&mut world, &name, 1);
    assert_eq!(get(&world).str("status.failedIndexes"), "0");
    assert!(told(&world).is_empty(), "the other index goes on");
    let name = of_index(&world, 1);
    finish(&mut world, &name, 0);
    assert_eq!(told(&world)[1], "Failed=True FailedIndexes: Job has failed indexes");
    assert_eq!(counts(&world), [0, 0, 1, 2]);
    world.assert_fixpoint();
}

#[test]
fn pod_failure_policy() {
    let rules = json!([
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]);
    let mut world =
        world(json!({"spec": {"backoffLimit": 0, "podFailurePolicy": {"rules": rules}}}));
    let name = running(&world)[0].clone();
    world.edit(&POD, "d", &name, |pod| {
        pod.list_mut("status.conditions")
            .push(json!({"type": "DisruptionTarget", "status": "True"}));
    });
    finish(&mut world, &name, 137);
    assert_eq!(counts(&world)[3], 0, "ignored");
    world.advance(11);
    world.converge();
    let name = running(&world)[0].clone();
    finish(&mut world, &name, 42);
    assert_eq!(
        told(&world)[1],
        format!(
            "Failed=True PodFailurePolicy: Container main for pod d/{name} failed with exit code 42 matching FailJob rule at index 0"
        )
    );
    world.assert_fixpoint();
}

#[test]
fn success_policy() {
    let mut world = world(json!({"spec": {
        "completionMode": "Indexed", "parallelism": 3, "completions": 3,
        "successPolicy": {"rules": [{"succeededIndexes": "0-1", "succeededCount": 1}]},
    }}));
    let name = of_index(&world, 1);
    finish(&mut world, &name, 0);
    assert_eq!(told(&world)[1], "Complete=True SuccessPolicy: Matched rules at index 0");
    assert!(running(&world).is_empty(), "the rest is stopped");
    world.assert_fixpoint();
}

#[test]
fn replacement_waits_for_failed_pods_if_told_so() {
    let mut world = world(json!({"spec": {"podReplacementPolicy": "Failed"}}));
    let name = running(&world)[0].clone();
    world.delete(&POD, "d", &name, "Background");
    world.settle();
    assert_eq!(world.names(&POD).len(), 1, "no replacement while it terminates");
    assert_eq!(get(&world).int("status.terminating"), Some(1));
    world.finish(&name, "Failed", 143);
    world.advance(11);
    world.converge();
    assert_eq!(running(&world).len(), 1);
    assert_eq!(counts(&world)[3], 1);
}

#[test]
fn lost_answers_and_lost_jobs() {
    // The status write is refused once: nothing is released, nothing counts twice.
    let mut world = world(json!({}));
    let name = running(&world)[0].clone();
    world.refuse = |action| {
        matches!(action, api::Action::UpdateStatus { .. })
            .then(|| api::Status::unavailable("try later"))
    };
    world.finish(&name, "Succeeded", 0);
    world.settle();
    assert_eq!(world.list(&POD)[0].list("metadata.finalizers").len(), 1);
    world.refuse = |_| None;
    world.advance(2);
    assert_eq!(counts(&world), [0, 0, 1, 0]);
    // Pods of a job that is deleted without them are let go.
    let mut world = self::world(json!({}));
    world.delete(&JOB, "d", "sum", "Background");
    world.converge();
    assert!(world.names(&POD).is_empty());
    // Another controller's job is left alone.
    let world = self::world(json!({"spec": {"managedBy": "example.com/other"}}));
    assert!(world.names(&POD).is_empty());
}
