//! What the API is told about a pod: phase, conditions and container statuses, in upstream's words.

use std::net::IpAddr;

use api::{Lens, Value, json};
use stdx::time::Wall;

use super::state::{ContainerState, Exit, Sandbox, Seen, SeenState, State, UNKNOWN};
use super::step::{abandoned, outcome, restarts, terminating};
use super::{Container, Pod, Qos, RestartPolicy, Role};

/// The node's addresses, and the pod's where it is on the node's network.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    pub host_ips: Vec<IpAddr>,
}

/// The scheme of container ids.
pub(crate) const ID_SCHEME: &str = "k3rs://";

/// The status as it should be. `tree` is the pod as the API last had it: conditions of others and
/// times of what did not change are kept.
pub fn generate(now: Wall, pod: &Pod, tree: &Value, state: &State, addresses: &Addresses) -> Value {
    let old = tree.at("status");
    let statuses = |roles: &[Role]| -> Vec<Value> {
        pod.containers
            .iter()
            .filter(|container| roles.contains(&container.role))
            .map(|container| container_status(pod, container, state))
            .collect()
    };
    let init = statuses(&[Role::Init, Role::Sidecar]);
    let app = statuses(&[Role::App]);
    let ephemeral = statuses(&[Role::Ephemeral]);

    let computed = phase(pod, state, &init, &app);
    let running = pod.containers.iter().any(|c| state.get(&c.name).is_some_and(|k| k.running()));
    // A terminal phase is final for everyone else, so it waits until nothing runs any more.
    let ended = matches!(computed, "Succeeded" | "Failed");
    let phase = match old.str("phase") {
        "" => {
            if ended && running {
                "Running"
            } else {
                computed
            }
        }
        old @ ("Pending" | "Running") if ended && running => old,
        // Terminal phases are never left; but a mirror's is that of a static pod before this one.
        old @ ("Succeeded" | "Failed") if !pod.is_static => old,
        _ => computed,
    };

    let mut status = json!({
        "phase": phase,
        "qosClass": Qos::of(tree).as_str(),
    });
    let conditions = conditions(now, pod, state, old, phase, &init, &app);
    if let Value::Object(map) = &mut status {
        map.insert("conditions".into(), conditions.into());
        let ip_texts =
            |ips: &[IpAddr]| -> Vec<String> { ips.iter().map(IpAddr::to_string).collect() };
        let host_ips = ip_texts(&addresses.host_ips);
        let pod_ips = match &state.sandbox {
            _ if pod.host_network
                && !matches!(state.sandbox, Sandbox::Absent | Sandbox::Making) =>
            {
                host_ips.clone()
            }
            Sandbox::Ready { ips, .. } => ip_texts(ips),
            // Until everything stopped the pod may still answer where it did.
            _ if running || ended => {
                old.list("podIPs").iter().map(|ip| ip.str("ip").to_owned()).collect()
            }
            _ => Vec::new(),
        };
        for (one, many, ips) in [("hostIP", "hostIPs", host_ips), ("podIP", "podIPs", pod_ips)] {
            if let Some(first) = ips.first() {
                map.insert(one.into(), first.clone().into());
                let list: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
                map.insert(many.into(), list.into());
            }
        }
        if let Some(start) = state.start_time {
            map.insert("startTime".into(), api::time::format(start).into());
        }
        if let Some(told) = &state.failed {
            map.insert("reason".into(), told.reason.clone().into());
            map.insert("message".into(), told.message.clone().into());
        }
        // A pod that was refused has no containers to tell about.
        let refused = state.failed.is_some()
            && state.containers.values().all(|c| c.current.is_none() && c.attempt.is_none());
        for (name, list) in [
            ("initContainerStatuses", init),
            ("containerStatuses", app),
            ("ephemeralContainerStatuses", ephemeral),
        ] {
            if !list.is_empty() && !refused {
                map.insert(name.into(), list.into());
            }
        }
    }
    status
}

fn container_status(pod: &Pod, container: &Container, state: &State) -> Value {
    let default = ContainerState::default();
    let known = state.get(&container.name).unwrap_or(&default);
    let mut status = json!({
        "name": container.name,
        "image": known.current.as_ref().map_or(&*container.image, |seen| &*seen.image),
        "imageID": known.current.as_ref().map_or(&*known.image_ref, |seen| &*seen.image_ref),
        "restartCount": known.attempt.unwrap_or(0),
        "ready": is_ready(container, known),
    });
    let (current, last) = states(pod, container, known, state);
    if let Value::Object(map) = &mut status {
        let id = known.current.as_ref().map(|seen| seen.id.clone()).or_else(|| {
            known
                .previous
                .as_ref()
                .map(|exit| exit.container_id.clone())
                .filter(|id| !id.is_empty())
        });
        if let Some(id) = id {
            map.insert("containerID".into(), format!("{ID_SCHEME}{id}").into());
        }
        if container.role != Role::Ephemeral {
            let started = known.started() && state.starting.as_deref() != Some(&*container.name);
            map.insert("started".into(), started.into());
        }
        map.insert("state".into(), current);
        map.insert("lastState".into(), last);
    }
    status
}

fn is_ready(container: &Container, known: &ContainerState) -> bool {
    match container.role {
        Role::Init => known.exit().is_some_and(|exit| exit.code == 0),
        Role::Ephemeral => false,
        Role::Sidecar | Role::App => known.ready(),
    }
}

/// `state` and `lastState`.
fn states(
    pod: &Pod,
    container: &Container,
    known: &ContainerState,
    state: &State,
) -> (Value, Value) {
    let waiting = |reason: &str, message: &str| match message {
        "" => json!({"waiting": {"reason": reason}}),
        message => json!({"waiting": {"reason": reason, "message": message}}),
    };
    let last = |exit: Option<&Exit>| {
        exit.map_or_else(|| json!({}), |exit| json!({"terminated": terminated(exit)}))
    };
    let starting = state.starting.as_deref() == Some(&*container.name);
    match &known.current {
        Some(Seen { state: SeenState::Running { since }, .. }) if !starting => {
            let since = api::time::format(*since);
            (json!({"running": {"startedAt": since}}), last(known.previous.as_ref()))
        }
        Some(Seen { state: SeenState::Exited(exit), .. }) => match &known.waiting {
            Some(told) if !terminating(pod, state) => {
                (waiting(&told.reason, &told.message), last(Some(exit)))
            }
            _ => (json!({"terminated": terminated(exit)}), last(known.previous.as_ref())),
        },
        _ => match (&known.waiting, &known.previous) {
            (Some(told), previous)
                if !terminating(pod, state) || (previous.is_none() && !abandoned(pod, state)) =>
            {
                (waiting(&told.reason, &told.message), last(previous.as_ref()))
            }
            // What ran before the sandbox went, and will not run again, keeps its last word.
            (_, Some(exit)) if terminating(pod, state) || !restarts_from(pod, container, exit) => {
                (json!({"terminated": terminated(exit)}), json!({}))
            }
            // As upstream: once a pod has initialized, a container without an end failed.
            (_, None) if abandoned(pod, state) && has_initialized(pod, state) => {
                let message = "The container could not be located when the pod was terminated";
                let lost = json!({"exitCode": 137, "reason": UNKNOWN, "message": message});
                (json!({"terminated": lost}), json!({}))
            }
            (_, previous) => {
                let reason = match pod.has_init_containers() {
                    true => "PodInitializing",
                    false => "ContainerCreating",
                };
                (waiting(reason, ""), last(previous.as_ref()))
            }
        },
    }
}

fn has_initialized(pod: &Pod, state: &State) -> bool {
    pod.init_containers().all(|container| {
        let known = state.get(&container.name);
        container.role == Role::Sidecar && known.is_some_and(|known| known.attempt.is_some())
            || known.and_then(ContainerState::last_exit).is_some_and(|exit| exit.code == 0)
    })
}

fn restarts_from(pod: &Pod, container: &Container, exit: &Exit) -> bool {
    container.role == Role::Init || restarts(pod.restart_policy, container.role, exit.code)
}

/// `terminated` of a container's state.
pub(super) fn terminated(exit: &Exit) -> Value {
    let started = exit.started_at.map_or(Value::Null, |at| api::time::format(at).into());
    let mut tree = json!({
        "exitCode": exit.code,
        "reason": exit.reason,
        "startedAt": started,
        "finishedAt": api::time::format(exit.finished_at),
        "containerID": format!("{ID_SCHEME}{}", exit.container_id),
    });
    if let Value::Object(map) = &mut tree {
        if exit.signal != 0 {
            map.insert("signal".into(), exit.signal.into());
        }
        if !exit.message.is_empty() {
            map.insert("message".into(), exit.message.clone().into());
        }
        if exit.container_id.is_empty() {
            map.remove("containerID");
        }
        if exit.started_at.is_none() {
            // metav1.Time is never null where a container never ran: upstream shows the epoch.
            map.insert("startedAt".into(), api::time::format(Wall(0)).into());
        }
    }
    tree
}

/// Upstream's `getPhase`.
fn phase(pod: &Pod, state: &State, init: &[Value], app: &[Value]) -> &'static str {
    if state.failed.is_some() {
        return "Failed";
    }
    let deleted = pod.deleting_grace_secs.is_some() || state.gone;
    let all_stopped =
        pod.containers.iter().all(|c| state.get(&c.name).is_none_or(|known| !known.running()));
    if let Some(succeeded) = outcome(pod, state) {
        return if succeeded { "Succeeded" } else { "Failed" };
    }
    let count = |list: &[Value], path: &str| list.iter().filter(|s| s.has(path)).count();
    let waiting =
        app.iter().filter(|s| s.has("state.waiting") && !s.has("lastState.terminated")).count();
    let running = count(app, "state.running");
    let exited = |s: &&Value| s.has("state.terminated") || s.has("lastState.terminated");
    let stopped = app.iter().filter(|s| !s.has("state.running")).filter(exited).count();
    if deleted && all_stopped && matches!(state.sandbox, Sandbox::Stopped { .. } | Sandbox::Absent)
    {
        // A deleted pod ends in a terminal phase, so that its owner counts it rightly.
        let clean = app.iter().all(|s| s.int("state.terminated.exitCode") == Some(0));
        return match clean && stopped == app.len() {
            true => "Succeeded",
            false if stopped > 0 || pod.restart_policy != RestartPolicy::Always => "Failed",
            false => "Pending",
        };
    }
    let init_pending =
        init.iter().zip(pod.init_containers()).any(|(status, container)| match container.role {
            Role::Sidecar => !status.flag("started") && running + stopped == 0,
            _ => status.int("state.terminated.exitCode") != Some(0) && running + stopped == 0,
        });
    match () {
        () if init_pending || waiting > 0 => "Pending",
        () if running > 0 || stopped > 0 => "Running",
        () => "Pending",
    }
}

fn conditions(
    now: Wall,
    pod: &Pod,
    state: &State,
    old: &Value,
    phase: &str,
    init: &[Value],
    app: &[Value],
) -> Vec<Value> {
    let sandbox_ready =
        matches!(&state.sandbox, Sandbox::Ready { ips, .. } if pod.host_network || !ips.is_empty());
    let containers_ready = containers_ready(pod, phase, init, app);
    let ready = match &containers_ready {
        Verdict::True => gates(pod, old),
        other => other.clone(),
    };
    let owned = [
        ("PodReadyToStartContainers", Verdict::of(sandbox_ready)),
        ("Initialized", initialized(pod, phase, init, app)),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", Verdict::True),
    ];
    let before = |kind: &str| old.list("conditions").iter().find(|c| c.str("type") == kind);
    let mut list: Vec<Value> =
        owned.iter().map(|(kind, verdict)| verdict.condition(now, kind, before(kind))).collect();
    // Not for a pod that broke its own limits: this one controllers may replace without counting it.
    if let Some(told) = state.failed.as_ref().filter(|told| told.message.starts_with(NODE_WAS_LOW))
        && before("DisruptionTarget").is_none()
    {
        list.push(json!({
            "type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet",
            "message": told.message, "lastProbeTime": null,
            "lastTransitionTime": api::time::format(now),
        }));
    }
    // Conditions of others (readiness gates, DisruptionTarget) stay as they are.
    for condition in old.list("conditions") {
        if !owned.iter().any(|(kind, _)| *kind == condition.str("type")) {
            list.push(condition.clone());
        }
    }
    list
}

/// How the message of an eviction begins that the node needed.
pub const NODE_WAS_LOW: &str = "The node was low on resource: ";

#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    True,
    TrueBecause(&'static str),
    False(&'static str, String),
}

impl Verdict {
    fn of(truth: bool) -> Verdict {
        if truth { Verdict::True } else { Verdict::False("", String::new()) }
    }

    fn condition(&self, now: Wall, kind: &str, before: Option<&Value>) -> Value {
        let (status, reason, message) = match self {
            Verdict::True => ("True", "", ""),
            Verdict::TrueBecause(reason) => ("True", *reason, ""),
            Verdict::False(reason, message) => ("False", *reason, message.as_str()),
        };
        let since = match before {
            Some(before) if before.str("status") == status && before.has("lastTransitionTime") => {
                before.at("lastTransitionTime").clone()
            }
            _ => api::time::format(now).into(),
        };
        let mut tree = json!({
            "type": kind, "status": status, "lastProbeTime": null, "lastTransitionTime": since,
        });
        if let Value::Object(map) = &mut tree {
            for (key, text) in [("reason", reason), ("message", message)] {
                if !text.is_empty() {
                    map.insert(key.into(), text.into());
                }
            }
        }
        tree
    }
}

fn bracketed(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn initialized(pod: &Pod, phase: &str, init: &[Value], app: &[Value]) -> Verdict {
    if phase == "Succeeded" {
        return Verdict::TrueBecause("PodCompleted");
    }
    if app.iter().any(|s| {
        s.has("state.running") || s.has("state.terminated") || s.has("lastState.terminated")
    }) {
        return Verdict::True;
    }
    let incomplete: Vec<&str> = pod
        .init_containers()
        .zip(init)
        .filter(|(container, status)| match container.role {
            Role::Sidecar => !status.flag("started"),
            _ => !status.flag("ready"),
        })
        .map(|(container, _)| &*container.name)
        .collect();
    match incomplete.is_empty() {
        true => Verdict::True,
        false => Verdict::False(
            "ContainersNotInitialized",
            format!("containers with incomplete status: {}", bracketed(&incomplete)),
        ),
    }
}

fn containers_ready(pod: &Pod, phase: &str, init: &[Value], app: &[Value]) -> Verdict {
    match phase {
        "Succeeded" => return Verdict::False("PodCompleted", String::new()),
        "Failed" => return Verdict::False("PodFailed", String::new()),
        _ => {}
    }
    let sidecars = pod.init_containers().zip(init).filter(|(c, _)| c.role == Role::Sidecar);
    let apps = pod.of_role(Role::App).zip(app);
    let unready: Vec<&str> = sidecars
        .chain(apps)
        .filter(|(_, status)| !status.flag("ready"))
        .map(|(container, _)| &*container.name)
        .collect();
    match unready.is_empty() {
        true => Verdict::True,
        false => Verdict::False(
            "ContainersNotReady",
            format!("containers with unready status: {}", bracketed(&unready)),
        ),
    }
}

fn gates(pod: &Pod, old: &Value) -> Verdict {
    let mut complaints = Vec::new();
    for gate in &pod.readiness_gates {
        match old.list("conditions").iter().find(|c| c.str("type") == gate) {
            None => complaints.push(format!(
                "corresponding condition of pod readiness gate \"{gate}\" does not exist."
            )),
            Some(condition) if condition.str("status") != "True" => complaints.push(format!(
                "the status of pod readiness gate \"{gate}\" is not \"True\", but {}",
                condition.str("status")
            )),
            Some(_) => {}
        }
    }
    match complaints.is_empty() {
        true => Verdict::True,
        false => Verdict::False("ReadinessGatesNotReady", complaints.join(", ")),
    }
}
