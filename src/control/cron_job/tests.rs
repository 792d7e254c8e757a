//! CronJobs through hours of time.

use api::kinds::{CRON_JOB, JOB};
use api::{Lens, LensMut, Value, json};

use crate::world::World;

fn cron_job(changes: Value) -> Value {
    let mut tree = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"namespace": "d", "name": "tick"},
        "spec": {
            "schedule": "*/10 * * * *", "concurrencyPolicy": "Allow", "suspend": false,
            "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1,
            "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}}},
        },
    });
    api::patch::merge(&mut tree, &changes);
    tree
}

fn world(changes: Value) -> World {
    let mut world = World::new(&["cronjob-controller"], [cron_job(changes)]);
    world.settle();
    world
}

fn finish(world: &mut World, name: &str, condition: &str) {
    let now = api::time::format(world.now().wall);
    world.edit(&JOB, "d", name, |job| {
        job.set("status.conditions", json!([{"type": condition, "status": "True"}]));
        job.set("status.completionTime", now.clone());
        job.set("status.startTime", now);
    });
    world.settle();
}

fn active(world: &World) -> usize {
    world.get(&CRON_JOB, "d", "tick").unwrap().list("status.active").len()
}

#[test]
fn one_job_a_time() {
    let mut world = world(json!({}));
    assert!(world.names(&JOB).is_empty());
    world.advance(601);
    // 2024-01-01T00:10:00Z is minute 28401130.
    assert_eq!(world.names(&JOB), ["tick-28401130"]);
    let job = world.get(&JOB, "d", "tick-28401130").unwrap();
    assert_eq!(
        job.entry("metadata.annotations", "batch.kubernetes.io/cronjob-scheduled-timestamp"),
        Some("2024-01-01T00:10:00Z")
    );
    assert_eq!(job.entry("metadata.labels", "a"), Some("b"));
    let tree = world.get(&CRON_JOB, "d", "tick").unwrap();
    assert_eq!(tree.str("status.lastScheduleTime"), "2024-01-01T00:10:00Z");
    assert_eq!(tree.str("status.active.0.name"), "tick-28401130");
    finish(&mut world, "tick-28401130", "Complete");
    assert_eq!(active(&world), 0);
    let tree = world.get(&CRON_JOB, "d", "tick").unwrap();
    assert_eq!(tree.str("status.lastSuccessfulTime"), "2024-01-01T00:10:01Z");
    assert_eq!(
        world.events,
        [
            "CronJob d/tick Normal SuccessfulCreate: Created job tick-28401130",
            "CronJob d/tick Normal SawCompletedJob: Saw completed job: tick-28401130, condition: Complete",
        ]
    );
    world.advance(3600);
    assert_eq!(world.names(&JOB).len(), 7);
    assert_eq!(active(&world), 6);
    world.assert_fixpoint();
}

#[test]
fn concurrency() {
    let with = |policy: &str| {
        let mut world = world(json!({"spec": {"concurrencyPolicy": policy}}));
        world.advance(1801);
        world
    };
    assert_eq!(active(&with("Allow")), 3);
    let mut world = with("Forbid");
    assert_eq!(world.names(&JOB), ["tick-28401130"]);
    assert!(world.events.iter().any(|e| e.contains("JobAlreadyActive")));
    // It starts as soon as the one before has ended.
    finish(&mut world, "tick-28401130", "Failed");
    assert_eq!(world.names(&JOB), ["tick-28401130", "tick-28401150"]);
    let world = with("Replace");
    assert_eq!(world.names(&JOB), ["tick-28401150"]);
    assert_eq!(active(&world), 1);
}

#[test]
fn history() {
    let mut world = world(json!({}));
    for n in 0..12 {
        world.advance(600);
        world.advance(1);
        let jobs = world.list(&JOB);
        let unfinished = jobs.iter().find(|job| !job.has("status.conditions"));
        let name = unfinished.unwrap().str("metadata.name").to_owned();
        finish(&mut world, &name, if n % 3 == 0 { "Failed" } else { "Complete" });
    }
    let kinds: Vec<_> =
        world.list(&JOB).iter().map(|j| j.str("status.conditions.0.type").to_owned()).collect();
    assert_eq!(kinds.iter().filter(|k| *k == "Complete").count(), 3);
    assert_eq!(kinds.iter().filter(|k| *k == "Failed").count(), 1);
    world.assert_fixpoint();
}

#[test]
fn suspension_and_missed_times() {
    let mut world = world(json!({"spec": {"suspend": true}}));
    world.advance(7200);
    assert!(world.names(&JOB).is_empty());
    // Only the latest missed time is made up for.
    world.edit(&CRON_JOB, "d", "tick", |tree| tree.set("spec.suspend", false));
    world.settle();
    assert_eq!(world.names(&JOB), ["tick-28401240"]);
    // With a deadline that has passed, none is.
    let mut world = self::world(json!({"spec": {"suspend": true, "startingDeadlineSeconds": 30}}));
    world.advance(7290);
    world.edit(&CRON_JOB, "d", "tick", |tree| tree.set("spec.suspend", false));
    world.settle();
    assert!(world.names(&JOB).is_empty());
    world.advance(600);
    assert_eq!(world.names(&JOB), ["tick-28401250"]);
    // A clock that jumps by months.
    let mut world = self::world(json!({}));
    world.secs += 90 * 86_400;
    world.edit(&CRON_JOB, "d", "tick", |tree| tree.set("spec.successfulJobsHistoryLimit", 2));
    world.settle();
    world.assert_fixpoint();
    assert_eq!(world.names(&JOB).len(), 1);
    assert!(world.events.iter().any(|e| e.contains("TooManyMissedTimes")));
}

#[test]
fn a_clock_that_is_set_back() {
    let mut world = world(json!({}));
    world.secs += 400 * 86_400;
    world.edit(&CRON_JOB, "d", "tick", |tree| tree.set("spec.successfulJobsHistoryLimit", 2));
    world.settle();
    assert_eq!(world.names(&JOB).len(), 1);
    world.secs -= 399 * 86_400;
    world.edit(&CRON_JOB, "d", "tick", |tree| tree.set("spec.successfulJobsHistoryLimit", 3));
    world.advance(601);
    assert_eq!(world.names(&JOB).len(), 2);
    world.assert_fixpoint();
}

#[test]
fn zones_and_nonsense() {
    let mut world = world(json!({"spec": {"schedule": "30 9 * * *", "timeZone": "Asia/Tokyo"}}));
    world.advance(86_400);
    // 00:30 UTC, and Tokyo's time in the annotation.
    let job = &world.list(&JOB)[0];
    assert_eq!(
        job.entry("metadata.annotations", "batch.kubernetes.io/cronjob-scheduled-timestamp"),
        Some("2024-01-01T09:30:00+09:00")
    );
    for (spec, reason) in [
        (
            json!({"schedule": "x"}),
            "UnparseableSchedule: unparseable schedule: \"x\" : expected exactly 5 fields, found 1: [x]",
        ),
        (
            json!({"timeZone": "Mars/Base"}),
            "UnknownTimeZone: invalid timeZone: \"Mars/Base\": unknown time zone Mars/Base",
        ),
    ] {
        let world = self::world(json!({"spec": spec}));
        assert_eq!(world.events, [format!("CronJob d/tick Warning {reason}")]);
    }
}

#[test]
fn a_lost_status_makes_no_second_job() {
    let mut world = world(json!({}));
    world.refuse = |action| {
        matches!(action, api::Action::UpdateStatus { .. })
            .then(|| api::Status::unavailable("try later"))
    };
    world.advance(602);
    assert_eq!(world.names(&JOB).len(), 1);
    world.refuse = |_| None;
    world.advance(5);
    assert_eq!(world.names(&JOB).len(), 1);
    assert_eq!(active(&world), 1);
    world.assert_fixpoint();
}
