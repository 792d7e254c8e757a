//! What `kubectl get pods` shows: READY, STATUS and RESTARTS out of container statuses.

use api::custom::is_true;
use api::lens::Lens;
use api::pod::restartable;
use serde_json::Value;
use stdx::time::Wall;

use crate::ages::since;
use crate::column::Column;
use crate::print::or_none;

pub(crate) const COLUMNS: &[Column<'static>] = &[
    Column::with("Ready", |tree, _| {
        let summary = Summary::of(tree);
        format!("{}/{}", summary.n_ready, summary.n_containers).into()
    }),
    Column::with("Status", |tree, _| Summary::of(tree).status.into()),
    Column::with("Restarts", restarts),
    Column::AGE,
    Column::with("IP", |tree, _| or_none(tree.str("status.podIPs.0.ip"))).wide(),
    Column::with("Node", |tree, _| or_none(tree.str("spec.nodeName"))).wide(),
    Column::with("Nominated Node", |tree, _| or_none(tree.str("status.nominatedNodeName"))).wide(),
    Column::with("Readiness Gates", |tree, _| readiness_gates(tree)).wide(),
];

fn restarts(tree: &Value, now: Wall) -> Value {
    let summary = Summary::of(tree);
    match summary.last_restart {
        "" => summary.n_restarts.to_string().into(),
        _ if summary.n_restarts == 0 => "0".into(),
        last => format!("{} ({} ago)", summary.n_restarts, since(last, now)).into(),
    }
}

fn readiness_gates(tree: &Value) -> Value {
    let gates = tree.list("spec.readinessGates");
    let n_true = gates.iter().filter(|gate| is_true(tree, gate.str("conditionType"))).count();
    if gates.is_empty() { "<none>".into() } else { format!("{n_true}/{}", gates.len()).into() }
}

/// Source: pkg/printers/internalversion `printPod`.
struct Summary<'a> {
    n_ready: usize,
    n_containers: usize,
    n_restarts: i64,
    /// RFC 3339 in UTC compares as text.
    last_restart: &'a str,
    status: String,
}

impl<'a> Summary<'a> {
    fn of(tree: &'a Value) -> Summary<'a> {
        let init_containers = tree.list("spec.initContainers");
        let is_sidecar =
            |name: &str| init_containers.iter().any(|c| c.str("name") == name && restartable(c));
        let n_sidecars = init_containers.iter().filter(|c| restartable(c)).count();
        let phase = tree.str("status.phase");
        let mut summary = Summary {
            n_ready: 0,
            n_containers: tree.list("spec.containers").len() + n_sidecars,
            n_restarts: 0,
            last_restart: "",
            status: match tree.str("status.reason") {
                "" => phase.to_owned(),
                reason => reason.to_owned(),
            },
        };
        let gated =
            |c: &Value| c.str("type") == "PodScheduled" && c.str("reason") == "SchedulingGated";
        if tree.list("status.conditions").iter().any(gated) {
            summary.status = "SchedulingGated".into();
        }
        let mut initializing = false;
        let (mut sidecar_restarts, mut sidecar_last_restart) = (0, "");
        for (idx, status) in tree.list("status.initContainerStatuses").iter().enumerate() {
            let sidecar = is_sidecar(status.str("name"));
            summary.count_restarts(status);
            if sidecar {
                sidecar_restarts += status.int("restartCount").unwrap_or(0);
                sidecar_last_restart =
                    sidecar_last_restart.max(status.str("lastState.terminated.finishedAt"));
            }
            let terminated = status.at("state.terminated");
            if !terminated.is_null() && terminated.int("exitCode").unwrap_or(0) == 0 {
                continue;
            }
            if sidecar && status.flag("started") {
                summary.n_ready += usize::from(status.flag("ready"));
                continue;
            }
            summary.status = match status.str("state.waiting.reason") {
                _ if !terminated.is_null() => format!("Init:{}", ended(terminated)),
                "" | "PodInitializing" => format!("Init:{idx}/{}", init_containers.len()),
                reason => format!("Init:{reason}"),
            };
            initializing = true;
            break;
        }
        if !initializing || is_true(tree, "Initialized") {
            summary.n_restarts = sidecar_restarts;
            summary.last_restart = sidecar_last_restart;
            summary.main_containers(tree);
        }
        if tree.has("metadata.deletionTimestamp") {
            if tree.str("status.reason") == "NodeLost" {
                summary.status = "Unknown".into();
            } else if !matches!(phase, "Succeeded" | "Failed") {
                summary.status = "Terminating".into();
            }
        }
        summary
    }

    fn main_containers(&mut self, tree: &'a Value) {
        let mut any_running = false;
        for status in tree.list("status.containerStatuses").iter().rev() {
            self.count_restarts(status);
            let terminated = status.at("state.terminated");
            match status.str("state.waiting.reason") {
                "" if !terminated.is_null() => self.status = ended(terminated),
                "" => {
                    if status.flag("ready") && status.has("state.running") {
                        any_running = true;
                        self.n_ready += 1;
                    }
                }
                reason => self.status = reason.to_owned(),
            }
        }
        if self.status == "Completed" && any_running {
            let ready = is_true(tree, "Ready");
            self.status = if ready { "Running".into() } else { "NotReady".into() };
        }
    }

    fn count_restarts(&mut self, status: &'a Value) {
        self.n_restarts += status.int("restartCount").unwrap_or(0);
        self.last_restart = self.last_restart.max(status.str("lastState.terminated.finishedAt"));
    }
}

/// Why a container ended.
fn ended(terminated: &Value) -> String {
    match (terminated.str("reason"), terminated.int("signal").unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", terminated.int("exitCode").unwrap_or(0)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cells(tree: &Value) -> String {
        let now = Wall::from_secs(1_704_067_200 + 600);
        let row = crate::table::row(&api::kinds::POD, tree, now, crate::table::IncludeObject::None);
        let cells: Vec<String> =
            row.list("cells")[1..4].iter().map(|c| c.as_str().unwrap_or("?").to_owned()).collect();
        cells.join(" ")
    }

    #[test]
    fn statuses_read_as_upstream() {
        let spec = json!({"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]});
        let pod =
            |status: Value| json!({"metadata": {"name": "p"}, "spec": spec, "status": status});
        let waiting =
            |reason: &str| json!({"state": {"waiting": {"reason": reason}}, "restartCount": 0});
        for (status, want) in [
            (json!({"phase": "Pending"}), "0/2 Pending 0"),
            (
                json!({"phase": "Pending", "initContainerStatuses": [{"state": {"running": {}}}]}),
                "0/2 Init:0/1 0",
            ),
            (
                json!({"phase": "Pending", "initContainerStatuses": [waiting("ImagePullBackOff")]}),
                "0/2 Init:ImagePullBackOff 0",
            ),
            (
                json!({"phase": "Pending", "initContainerStatuses": [
                    {"state": {"terminated": {"exitCode": 3}}, "restartCount": 2}]}),
                "0/2 Init:ExitCode:3 2",
            ),
            (
                json!({"phase": "Running", "containerStatuses": [
                    {"state": {"running": {}}, "ready": true, "restartCount": 1,
                     "lastState": {"terminated": {"finishedAt": "2024-01-01T00:05:00Z"}}},
                    {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 4}]}),
                "1/2 CrashLoopBackOff 5 (5m ago)",
            ),
            (
                json!({"phase": "Succeeded", "containerStatuses": [
                    {"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}),
                "0/2 Completed 0",
            ),
            (json!({"phase": "Failed", "reason": "Evicted"}), "0/2 Evicted 0"),
        ] {
            assert_eq!(cells(&pod(status.clone())), want, "{status}");
        }
        let mut deleted = pod(json!({"phase": "Running"}));
        deleted["metadata"]["deletionTimestamp"] = "2024-01-01T00:00:00Z".into();
        assert_eq!(cells(&deleted), "0/2 Terminating 0");
    }
}
