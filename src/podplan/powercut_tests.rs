//! What becomes of a pod whose containers all died at once: by what was written down, and by its restart policy.

use api::{Lens, LensMut, Value, json};
use stdx::time::Wall;

use super::state::{Exit, SeenState};
use super::step_tests::{World, app};
use super::*;

/// What this node may find of container `a` after it lost everything that ran.
fn found(what: &str) -> (Value, Vec<Record>) {
    let at = "2024-01-01T00:00:00Z";
    let ended = |code: i32| {
        json!({"name": "a", "containerID": "k3rs://x", "restartCount": 0, "state": {"terminated":
            {"exitCode": code, "reason": "Error", "startedAt": at, "finishedAt": at, "containerID": "k3rs://x"}}})
    };
    let exit =
        |code: i32| Exit { code, reason: "Error".into(), ..Exit::unknown("x", None, Wall(0), "") };
    let record = |exit: Option<Exit>| {
        vec![Record { name: "a".into(), attempt: 0, id: "x".into(), started_at: None, exit }]
    };
    match what {
        "nothing" => (json!([]), Vec::new()),
        "api: running" => (
            json!([{"name": "a", "containerID": "k3rs://x", "restartCount": 0, "state": {"running": {"startedAt": at}}}]),
            Vec::new(),
        ),
        "api: 0" => (json!([ended(0)]), Vec::new()),
        "api: 1" => (json!([ended(1)]), Vec::new()),
        "disk: started" => (json!([]), record(None)),
        "disk: 0" => (json!([]), record(Some(exit(0)))),
        "disk: 1" => (json!([]), record(Some(exit(1)))),
        "api: running, disk: 0" => (found("api: running").0, record(Some(exit(0)))),
        "api: 0, disk: started" => (json!([ended(0)]), record(None)),
        other => panic!("{other}"),
    }
}

#[test]
fn at_most_once_whatever_is_left_after_a_power_cut() {
    // What is found; then for Always, OnFailure and Never: whether it runs again, and the phase if not.
    for (what, always, on_failure, never) in [
        ("nothing", "runs", "runs", "runs"),
        ("api: running", "runs", "runs", "Failed"),
        ("api: 0", "runs", "Succeeded", "Succeeded"),
        ("api: 1", "runs", "runs", "Failed"),
        ("disk: started", "runs", "runs", "Failed"),
        ("disk: 0", "runs", "Succeeded", "Succeeded"),
        ("disk: 1", "runs", "runs", "Failed"),
        ("api: running, disk: 0", "runs", "Succeeded", "Succeeded"),
        ("api: 0, disk: started", "runs", "Succeeded", "Succeeded"),
    ] {
        for (policy, want) in [("Always", always), ("OnFailure", on_failure), ("Never", never)] {
            let mut w = World::new(json!({"containers": [app("a")], "restartPolicy": policy}));
            let (statuses, records) = found(what);
            w.tree.set("status", json!({"phase": "Running", "containerStatuses": statuses}));
            w.state = State::new(&w.pod, &w.tree, w.now.wall);
            w.state.recall(&records, w.now.wall);
            let asked = w.step();
            let case = format!("{what}, {policy}");
            match want {
                "runs" => {
                    assert_eq!(asked, "mount", "{case}");
                    w.done(Done::VolumesReady);
                    let asked = w.done(Done::SandboxMade { id: "s".into(), ips: Vec::new() });
                    let attempt = usize::from(what != "nothing");
                    assert_eq!(asked, format!("start a/{attempt}"), "{case}");
                }
                phase => {
                    assert_eq!(asked, "unmount", "{case}");
                    assert_eq!(w.status().str("phase"), phase, "{case}");
                    assert!(w.status().has("containerStatuses.0.state.terminated"), "{case}");
                }
            }
        }
    }
}

#[test]
fn a_power_cut_among_several_containers() {
    let spec = |policy: &str| {
        json!({"restartPolicy": policy, "initContainers": [app("i"),
            {"name": "s", "image": "i", "restartPolicy": "Always"}], "containers": [app("a"), app("b")]})
    };
    let record = |name: &str, code: Option<i32>| Record {
        name: name.into(),
        attempt: 0,
        id: name.into(),
        started_at: Some(Wall::from_secs(1)),
        exit: code.map(|code| Exit { code, ..Exit::unknown(name, None, Wall(0), "") }),
    };
    let after = |policy: &str, records: &[Record]| {
        let mut w = World::new(spec(policy));
        w.state.recall(records, w.now.wall);
        w
    };
    let whole = [record("i", Some(0)), record("s", None), record("a", None), record("b", Some(0))];
    // What succeeded is not run again; what must run gets its init containers and sidecars first.
    let mut w = after("OnFailure", &whole);
    assert_eq!(w.up(), "start i/1");
    w.started("i", 1);
    assert_eq!(w.exited("i", 0), "start s/1");
    assert_eq!(w.started("s", 1), "start a/1");
    assert_eq!(w.started("a", 1), "");
    assert_eq!(w.exited("a", 0), "kill s 30s", "b's success counts beside a's: all is done");
    let mut w = after("Never", &whole);
    assert_eq!(w.step(), "unmount");
    assert_eq!(
        w.brief(),
        "Failed; i=ContainerStatusUnknown(0) s=ContainerStatusUnknown(137) a=ContainerStatusUnknown(137) b=ContainerStatusUnknown(0); ready False"
    );
    // Cut off between the starts: what never ran does not run alone.
    let mut w = after("Never", &[record("i", Some(0)), record("s", None), record("a", Some(0))]);
    assert_eq!(w.step(), "unmount");
    assert!(w.brief().starts_with("Failed; "), "{}", w.brief());
    assert!(w.brief().contains("b=ContainerStatusUnknown(137)"), "{}", w.brief());
    // Cut off in an init container.
    let mut w = after("Never", &[record("i", None)]);
    assert_eq!(w.step(), "unmount");
    assert!(w.brief().starts_with("Failed; "), "{}", w.brief());
    let mut w = after("OnFailure", &[record("i", None)]);
    assert_eq!(w.up(), "start i/1");
    // Deleted meanwhile: nothing runs.
    let mut w = after("OnFailure", &whole);
    w.change("metadata.deletionTimestamp", json!("2024-01-01T00:00:00Z"));
    assert_eq!(w.step(), "unmount");
    assert_eq!(w.done(Done::VolumesGone), "finish");
}

#[test]
fn the_end_of_a_lost_container_is_not_its_start() {
    let mut w = World::new(json!({"containers": [app("a")]}));
    w.tree.set("status.containerStatuses", found("api: running").0);
    w.pass(100);
    w.state = State::new(&w.pod, &w.tree, w.now.wall);
    let exit = w.state.get("a").unwrap().previous.clone().unwrap();
    assert_eq!(exit.finished_at, w.now.wall.max(exit.started_at.unwrap()));
    // One that is found after all was not lost.
    let mut seen = w.seen("a", SeenState::Running { since: w.now.wall });
    seen.id = "x".into();
    let container = w.pod.container("a").unwrap().clone();
    w.state.observe(w.now, &container, seen);
    assert_eq!(w.state.get("a").unwrap().previous, None);
}
