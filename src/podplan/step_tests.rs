//! Scenarios for the step function: a pod, then a script of things that happen, and the requests asked for.

use std::time::Duration;

use api::{Lens, LensMut, Object, Value, json};
use stdx::time::{Mono, Now, Wall};

use super::state::{Exit, Seen, SeenState};
use super::*;

/// A pod with its state and a clock, stepped until it asks for nothing more.
pub(super) struct World {
    pub(super) now: Now,
    pub(super) tree: Value,
    pub(super) pod: Pod,
    pub(super) state: State,
    /// Requests since the last look, one word each.
    asked: Vec<String>,
}

impl World {
    pub(super) fn new(spec: Value) -> World {
        let tree = json!({"metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": spec});
        let now = Now {
            wall: Wall::from_secs(1_000_000),
            mono: Mono(1_000_000_000_000),
            ..Now::default()
        };
        let pod = Pod::read(&Object::from_tree(&api::kinds::POD, &tree).unwrap());
        let mut state = State::new(&pod, &tree, now.wall);
        state.start_time = Some(now.wall);
        World { now, tree, pod, state, asked: Vec::new() }
    }

    pub(super) fn change(&mut self, path: &str, value: Value) {
        self.tree.set(path, value);
        self.pod = Pod::read(&Object::from_tree(&api::kinds::POD, &self.tree).unwrap());
    }

    pub(super) fn pass(&mut self, secs: u64) {
        self.now.mono = self.now.mono + Duration::from_secs(secs);
        self.now.wall = self.now.wall + Duration::from_secs(secs);
    }

    /// Steps until nothing more is asked for; answers what was, as text.
    pub(super) fn step(&mut self) -> String {
        for _ in 0..20 {
            let step = step(self.now, &self.pod, &self.state);
            if step.requests.is_empty() {
                break;
            }
            for request in step.requests {
                self.asked.push(match &request {
                    Request::Start { container, attempt } => format!("start {container}/{attempt}"),
                    Request::Kill { container, grace, after, .. } => {
                        let after = match after.is_empty() {
                            true => String::new(),
                            false => format!(" after {}", after.join(" ")),
                        };
                        format!("kill {container} {}s{after}", grace.as_secs())
                    }
                    Request::Probe { container, kind } => {
                        format!("probe {container} {}", kind.lower())
                    }
                    Request::Wait { container, told } => {
                        format!("wait {container} {}", told.reason)
                    }
                    Request::Fail(told) => format!("fail {}", told.reason),
                    Request::MountVolumes => "mount".into(),
                    Request::UnmountVolumes => "unmount".into(),
                    Request::MakeSandbox { attempt, .. } => format!("sandbox/{attempt}"),
                    Request::StopSandbox { .. } => "stop-sandbox".into(),
                    Request::CancelStart => "cancel".into(),
                    Request::Finish => "finish".into(),
                });
                self.state.began(self.now, &request);
            }
        }
        std::mem::take(&mut self.asked).join(", ")
    }

    pub(super) fn done(&mut self, done: Done) -> String {
        self.state.done(self.now, &self.pod, done);
        self.step()
    }

    /// Volumes and sandbox come up.
    pub(super) fn up(&mut self) -> String {
        assert_eq!(self.step(), "mount");
        assert!(self.done(Done::VolumesReady).starts_with("sandbox/"));
        self.done(Done::SandboxMade { id: "s".into(), ips: vec!["10.0.0.1".parse().unwrap()] })
    }

    pub(super) fn seen(&self, name: &str, state: SeenState) -> Seen {
        let attempt = self.state.get(name).and_then(|known| known.attempt).unwrap_or(0);
        Seen {
            id: format!("{name}-{attempt}"),
            attempt,
            state,
            image: "i".into(),
            image_ref: "sha256:1".into(),
        }
    }

    pub(super) fn started(&mut self, name: &str, attempt: u32) -> String {
        let mut seen = self.seen(name, SeenState::Running { since: self.now.wall });
        seen.attempt = attempt;
        seen.id = format!("{name}-{attempt}");
        self.done(Done::Started { container: name.into(), seen })
    }

    pub(super) fn exited(&mut self, name: &str, code: i32) -> String {
        let exit = Exit {
            code,
            signal: 0,
            reason: if code == 0 { "Completed".into() } else { "Error".into() },
            message: String::new(),
            started_at: Some(self.now.wall),
            finished_at: self.now.wall,
            container_id: format!("{name}-0"),
        };
        let seen = self.seen(name, SeenState::Exited(exit));
        let container = self.pod.container(name).unwrap().clone();
        self.state.observe(self.now, &container, seen);
        self.step()
    }

    fn probed(&mut self, name: &str, kind: ProbeKind, outcome: ProbeOutcome) -> String {
        let id = self.state.get(name).unwrap().current.as_ref().unwrap().id.clone();
        self.done(Done::Probed { container: name.into(), id, kind, outcome })
    }

    pub(super) fn status(&self) -> Value {
        let addresses = Addresses { host_ips: vec!["192.0.2.1".parse().unwrap()] };
        generate_status(self.now.wall, &self.pod, &self.tree, &self.state, &addresses)
    }

    /// `phase; container state, ...; Ready` in one line.
    pub(super) fn brief(&self) -> String {
        let status = self.status();
        let words: Vec<String> = ["initContainerStatuses", "containerStatuses"]
            .iter()
            .flat_map(|list| status.list(list))
            .map(|c| {
                let state = match c.at("state") {
                    s if s.has("running") => "running".into(),
                    s if s.has("waiting") => s.str("waiting.reason").to_owned(),
                    s => format!(
                        "{}({})",
                        s.str("terminated.reason"),
                        s.int("terminated.exitCode").unwrap_or(-1)
                    ),
                };
                format!("{}={state}", c.str("name"))
            })
            .collect();
        let ready = status.list("conditions").iter().find(|c| c.str("type") == "Ready").unwrap();
        format!("{}; {}; ready {}", status.str("phase"), words.join(" "), ready.str("status"))
    }
}

pub(super) fn app(name: &str) -> Value {
    json!({"name": name, "image": "i"})
}

#[test]
fn a_plain_pod_lives_and_dies() {
    let mut w = World::new(json!({"containers": [app("a"), app("b")]}));
    assert_eq!(w.brief(), "Pending; a=ContainerCreating b=ContainerCreating; ready False");
    assert_eq!(w.up(), "start a/0");
    assert_eq!(w.started("a", 0), "start b/0");
    assert_eq!(w.brief(), "Pending; a=running b=ContainerCreating; ready False");
    assert_eq!(w.started("b", 0), "");
    assert_eq!(w.brief(), "Running; a=running b=running; ready True");
    w.change("metadata.deletionTimestamp", json!("2024-01-01T00:00:00Z"));
    w.change("metadata.deletionGracePeriodSeconds", json!(7));
    assert_eq!(w.step(), "kill a 7s, kill b 7s");
    w.change("metadata.deletionGracePeriodSeconds", json!(0));
    assert_eq!(w.step(), "kill a 2s, kill b 2s");
    assert_eq!(w.exited("a", 143), "");
    assert_eq!(w.exited("b", 137), "stop-sandbox");
    assert_eq!(w.done(Done::SandboxStopped), "unmount");
    assert_eq!(w.brief(), "Failed; a=Error(143) b=Error(137); ready False");
    assert_eq!(w.done(Done::VolumesGone), "finish");
    assert_eq!(w.done(Done::Finished), "");
}

#[test]
fn a_crash_loop_backs_off() {
    let mut w = World::new(json!({"containers": [app("a")]}));
    w.up();
    w.started("a", 0);
    assert_eq!(w.exited("a", 1), "start a/1");
    assert_eq!(w.started("a", 1), "");
    assert_eq!(w.exited("a", 1), "wait a CrashLoopBackOff");
    assert_eq!(w.brief(), "Running; a=CrashLoopBackOff; ready False");
    let status = w.status();
    assert_eq!(
        status.str("containerStatuses.0.state.waiting.message"),
        "back-off 10s restarting failed container=a pod=p_d(u)"
    );
    assert_eq!(status.int("containerStatuses.0.lastState.terminated.exitCode"), Some(1));
    assert_eq!(status.int("containerStatuses.0.restartCount"), Some(1));
    w.pass(9);
    assert_eq!(w.step(), "");
    w.pass(1);
    assert_eq!(w.step(), "start a/2");
}

#[test]
fn restart_policies() {
    for (policy, code, want, phase) in [
        ("Always", 0, "start a/1", "Running"),
        ("OnFailure", 0, "stop-sandbox", "Succeeded"),
        ("OnFailure", 1, "start a/1", "Running"),
        ("Never", 0, "stop-sandbox", "Succeeded"),
        ("Never", 1, "stop-sandbox", "Failed"),
    ] {
        let mut w = World::new(json!({"containers": [app("a")], "restartPolicy": policy}));
        w.up();
        w.started("a", 0);
        assert_eq!(w.exited("a", code), want, "{policy} {code}");
        assert_eq!(w.status().str("phase"), phase, "{policy} {code}");
        if want == "stop-sandbox" {
            assert_eq!(w.done(Done::SandboxStopped), "unmount");
            assert_eq!(w.done(Done::VolumesGone), "", "a terminal pod stays until it is deleted");
        }
    }
}

#[test]
fn init_containers_run_in_order() {
    let mut w =
        World::new(json!({"initContainers": [app("i"), app("j")], "containers": [app("a")]}));
    assert_eq!(w.up(), "start i/0");
    assert_eq!(w.started("i", 0), "");
    assert_eq!(w.brief(), "Pending; i=running j=PodInitializing a=PodInitializing; ready False");
    assert_eq!(w.exited("i", 1), "start i/1");
    assert_eq!(w.started("i", 1), "");
    assert_eq!(w.exited("i", 0), "start j/0");
    w.started("j", 0);
    assert_eq!(w.exited("j", 0), "start a/0");
    w.started("a", 0);
    assert_eq!(w.brief(), "Running; i=Completed(0) j=Completed(0) a=running; ready True");
}

#[test]
fn a_failed_init_container_fails_a_pod_that_never_restarts() {
    let mut w = World::new(
        json!({"initContainers": [app("i")], "containers": [app("a")], "restartPolicy": "Never"}),
    );
    w.up();
    w.started("i", 0);
    assert_eq!(w.exited("i", 3), "stop-sandbox");
    assert_eq!(w.status().str("phase"), "Failed");
}

#[test]
fn sidecars_start_in_turn_and_end_last() {
    let sidecar = json!({"name": "s", "image": "i", "restartPolicy": "Always",
        "startupProbe": {"tcpSocket": {"port": 1}, "periodSeconds": 1}});
    let other = json!({"name": "t", "image": "i", "restartPolicy": "Always"});
    let mut w = World::new(
        json!({"initContainers": [sidecar, other], "containers": [app("a")], "restartPolicy": "Never"}),
    );
    assert_eq!(w.up(), "start s/0");
    assert_eq!(w.started("s", 0), "probe s startup");
    assert_eq!(w.probed("s", ProbeKind::Startup, ProbeOutcome::Success), "start t/0");
    assert_eq!(w.started("t", 0), "start a/0");
    w.started("a", 0);
    assert_eq!(w.brief(), "Running; s=running t=running a=running; ready True");
    assert_eq!(w.exited("a", 0), "kill s 30s after t, kill t 30s");
    assert_eq!(w.status().str("phase"), "Running");
    assert_eq!(w.exited("t", 0), "");
    assert_eq!(w.exited("s", 0), "stop-sandbox");
    assert_eq!(w.status().str("phase"), "Succeeded");
}

#[test]
fn a_liveness_failure_restarts_with_its_own_grace() {
    let mut w = World::new(json!({"containers": [{"name": "a", "image": "i",
        "livenessProbe": {"tcpSocket": {"port": 1}, "failureThreshold": 2, "terminationGracePeriodSeconds": 5}}]}));
    w.up();
    assert_eq!(w.started("a", 0), "probe a liveness");
    let failure = || ProbeOutcome::Failure("no".into());
    assert_eq!(w.probed("a", ProbeKind::Liveness, failure()), "");
    w.pass(10);
    assert_eq!(w.step(), "probe a liveness");
    assert_eq!(w.probed("a", ProbeKind::Liveness, failure()), "kill a 5s");
    assert_eq!(w.exited("a", 137), "start a/1");
}

#[test]
fn readiness_gates_and_probes_decide_ready() {
    let mut w = World::new(json!({
        "readinessGates": [{"conditionType": "x/y"}],
        "containers": [{"name": "a", "image": "i", "readinessProbe": {"tcpSocket": {"port": 1}}}]}));
    w.up();
    assert_eq!(w.started("a", 0), "probe a readiness");
    assert_eq!(w.brief(), "Running; a=running; ready False");
    w.probed("a", ProbeKind::Readiness, ProbeOutcome::Success);
    let status = w.status();
    let ready = status.list("conditions").iter().find(|c| c.str("type") == "Ready").unwrap();
    assert_eq!(
        ready.str("message"),
        "corresponding condition of pod readiness gate \"x/y\" does not exist."
    );
    w.change("status.conditions", json!([{"type": "x/y", "status": "True"}]));
    assert_eq!(w.brief(), "Running; a=running; ready True");
    assert!(w.status().list("conditions").iter().any(|c| c.str("type") == "x/y"));
}

#[test]
fn pulls_back_off_and_config_errors_retry_on_a_poke() {
    let mut w = World::new(json!({"containers": [app("a")]}));
    w.up();
    let told = Told::new("ErrImagePull", "boom");
    let failed =
        |told: &Told| Done::StartFailed { container: "a".into(), told: told.clone(), seen: None };
    assert_eq!(w.done(failed(&told)), "");
    assert_eq!(w.brief(), "Pending; a=ErrImagePull; ready False");
    w.pass(2);
    assert_eq!(w.step(), "wait a ImagePullBackOff");
    assert_eq!(
        w.status().str("containerStatuses.0.state.waiting.message"),
        "Back-off pulling image \"i\": ErrImagePull: boom"
    );
    w.pass(8);
    assert_eq!(w.step(), "start a/0");
    let told = Told::new("CreateContainerConfigError", "configmap \"c\" not found");
    assert_eq!(w.done(failed(&told)), "");
    w.state.poke(w.now);
    assert_eq!(w.step(), "start a/0");
}

#[test]
fn a_lost_sandbox_is_made_again() {
    let mut w = World::new(json!({"initContainers": [app("i")], "containers": [app("a")]}));
    w.up();
    w.started("i", 0);
    w.exited("i", 0);
    w.started("a", 0);
    w.state.sandbox_lost();
    assert_eq!(w.exited("a", 255), "sandbox/1");
    assert_eq!(
        w.done(Done::SandboxMade { id: "s2".into(), ips: vec!["10.0.0.2".parse().unwrap()] }),
        "start i/1"
    );
    w.started("i", 1);
    assert_eq!(w.exited("i", 0), "start a/1");
}

#[test]
fn a_deadline_fails_the_pod() {
    let mut w = World::new(
        json!({"containers": [app("a")], "activeDeadlineSeconds": 60, "restartPolicy": "OnFailure"}),
    );
    w.up();
    w.started("a", 0);
    w.pass(60);
    assert_eq!(w.step(), "fail DeadlineExceeded, kill a 30s");
    assert_eq!(w.exited("a", 143), "stop-sandbox");
    let status = w.status();
    assert_eq!((status.str("phase"), status.str("reason")), ("Failed", "DeadlineExceeded"));
}

#[test]
fn a_refused_pod_says_only_why() {
    let mut w = World::new(json!({"containers": [app("a")]}));
    w.state.failed = Some(Told::new("OutOfcpu", "Pod was rejected: no"));
    assert_eq!(w.step(), "unmount");
    let status = w.status();
    assert_eq!((status.str("phase"), status.str("reason")), ("Failed", "OutOfcpu"));
    assert!(!status.has("containerStatuses"));
}

#[test]
fn a_deleted_pod_does_not_wait_for_its_pull() {
    let mut w = World::new(json!({"containers": [app("a")]}));
    assert_eq!(w.up(), "start a/0");
    w.change("metadata.deletionTimestamp", json!("2024-01-01T00:00:00Z"));
    assert_eq!(w.step(), "cancel, stop-sandbox");
}

#[test]
fn statuses_remember_over_a_reboot() {
    let mut w = World::new(json!({"containers": [app("a")]}));
    w.tree.set(
        "status",
        json!({"phase": "Running", "startTime": "2024-01-01T00:00:00Z", "containerStatuses": [
            {"name": "a", "restartCount": 3, "containerID": "k3rs://x", "state": {"running": {"startedAt": "2024-01-01T00:00:00Z"}}}]}),
    );
    w.state = State::new(&w.pod, &w.tree, w.now.wall);
    assert_eq!(w.up(), "start a/4");
    let status = w.status();
    assert_eq!(
        status.str("containerStatuses.0.lastState.terminated.reason"),
        "ContainerStatusUnknown"
    );
    assert_eq!(status.int("containerStatuses.0.restartCount"), Some(3));
}

#[test]
fn hooks_run_side_by_side_and_signals_in_order() {
    let sidecar = |name: &str| json!({"name": name, "image": "i", "restartPolicy": "Always"});
    let mut w = World::new(json!({"initContainers": [sidecar("s"), sidecar("t")],
        "containers": [app("a"), app("b")]}));
    w.up();
    for name in ["s", "t", "a", "b"] {
        w.started(name, 0);
    }
    w.change("metadata.deletionTimestamp", json!("2024-01-01T00:00:00Z"));
    w.change("metadata.deletionGracePeriodSeconds", json!(9));
    assert_eq!(w.step(), "kill s 9s after t a b, kill t 9s after a b, kill a 9s, kill b 9s");
    // Without grace nobody waits for anybody.
    w.change("metadata.deletionGracePeriodSeconds", json!(0));
    assert_eq!(w.step(), "kill s 2s, kill t 2s, kill a 2s, kill b 2s");
}

#[test]
fn what_a_probe_killed_restarts_whatever_its_exit_code() {
    for (policy, code, want, message) in [
        ("Always", 0, "start a/1", "Container a failed liveness probe, will be restarted"),
        ("OnFailure", 0, "start a/1", "Container a failed liveness probe, will be restarted"),
        ("OnFailure", 137, "start a/1", "Container a failed liveness probe, will be restarted"),
        ("Never", 0, "stop-sandbox", "Container a failed liveness probe"),
        ("Never", 137, "stop-sandbox", "Container a failed liveness probe"),
    ] {
        let mut w =
            World::new(json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "i",
            "livenessProbe": {"tcpSocket": {"port": 1}, "failureThreshold": 1}}]}));
        w.up();
        assert_eq!(w.started("a", 0), "probe a liveness");
        let id = w.state.get("a").unwrap().current.as_ref().unwrap().id.clone();
        let outcome = ProbeOutcome::Failure("no".into());
        let kind = ProbeKind::Liveness;
        w.state.done(w.now, &w.pod, Done::Probed { container: "a".into(), id, kind, outcome });
        let asked = step(w.now, &w.pod, &w.state).requests;
        let Request::Kill { why, .. } = &asked[0] else { panic!("{asked:?}") };
        assert_eq!(why, message, "{policy}");
        assert_eq!(w.step(), "kill a 30s");
        assert_eq!(w.state.replacing(), policy != "Never", "{policy}");
        assert_eq!(w.exited("a", code), want, "{policy} {code}");
        if want == "start a/1" {
            // Once: the next exit is its own.
            assert!(w.state.replacing());
            w.started("a", 1);
            assert!(!w.state.replacing());
            let next = if policy == "Always" { "wait a CrashLoopBackOff" } else { "stop-sandbox" };
            assert_eq!(w.exited("a", 0), next, "{policy}");
        }
    }
}

#[test]
fn another_image_restarts_even_what_never_restarts() {
    for policy in ["Always", "OnFailure", "Never"] {
        let mut w =
            World::new(json!({"restartPolicy": policy, "containers": [app("a"), app("b")]}));
        w.up();
        w.started("a", 0);
        w.started("b", 0);
        w.change("spec.containers.0.image", json!("other"));
        assert_eq!(w.step(), "kill a 30s", "{policy}");
        assert_eq!(w.exited("a", 0), "start a/1", "{policy}");
    }
}

#[test]
fn a_pod_without_a_place_waits_for_it() {
    let mut w = World::new(json!({"containers": [app("a")]}));
    w.state.held = true;
    assert_eq!(w.step(), "");
    assert_eq!(w.brief(), "Pending; a=ContainerCreating; ready False");
    w.state.held = false;
    assert_eq!(w.step(), "mount");
    let mut w = World::new(json!({"containers": [app("a")]}));
    w.state.held = true;
    w.change("metadata.deletionTimestamp", json!("2024-01-01T00:00:00Z"));
    assert_eq!(w.step(), "unmount");
    assert_eq!(w.done(Done::VolumesGone), "finish");
}

#[test]
fn a_static_pod_is_not_what_its_mirror_was() {
    let mut w = World::new(json!({"containers": [app("a")]}));
    w.tree.set("metadata.annotations", json!({"kubernetes.io/config.source": "file"}));
    w.change("status", json!({"phase": "Failed"}));
    w.state = State::new(&w.pod, &w.tree, w.now.wall);
    w.up();
    w.started("a", 0);
    assert_eq!(w.brief(), "Running; a=running; ready True");
}
