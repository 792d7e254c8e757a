//! A pod as its node sees it: what to do with it, and what to say about it.
//!
//! `step` decides, `status` describes, `state` remembers what was asked for and what came back; `admit`
//! finds a pod its place among the others of the node. The kubelet carries it out, and the simulator's
//! nodes do. A brain: no I/O, no clock, no `.await`.

mod admit;
mod cpu_checkpoint;
mod cpu_policy;
mod cpus;
mod cpuset;
mod crash;
mod handler;
mod history;
mod patch;
#[cfg(test)]
mod powercut_tests;
mod probe;
mod state;
mod status;
mod step;
#[cfg(test)]
mod step_tests;

pub use admit::{Admission, NodeView, Share, admit, requests as requests_of};
pub use cpu_checkpoint::{cpu_checkpoint, read_cpu_checkpoint};
pub use cpu_policy::{CpuState, StaticPolicy};
pub use cpus::{Cpu, Topology};
pub use cpuset::CpuSet;
pub use handler::{Handler, Port, Probe};
pub use history::{Record, began, counts, ended, from_text, to_text};
pub use patch::{covers, status_patch};
pub use probe::{ProbeKind, ProbeOutcome};
pub use state::{
    Done, Exit, MESSAGE_MAX_BYTES, Sandbox, Seen, SeenState, State, Told, UNKNOWN, Volumes, cut,
};
pub use status::{Addresses, NODE_WAS_LOW, generate as generate_status};
pub use step::{Request, step, terminating};

use std::time::Duration;

use api::{Lens, Object, Value};
use stdx::time::Wall;

/// A pod's own words, read once for each version of the object.
#[derive(Clone, Debug)]
pub struct Pod {
    /// The stored object, shared with the informer.
    pub object: Object,
    /// The key of everything: of a static pod the manifest's hash, not its mirror's uid.
    pub uid: String,
    pub name: String,
    pub namespace: String,
    pub restart_policy: RestartPolicy,
    pub grace_secs: i64,
    /// When deletion was asked for, with the grace of that request.
    pub deleting_grace_secs: Option<i64>,
    pub active_deadline: Option<Duration>,
    pub host_network: bool,
    pub share_processes: bool,
    pub containers: Vec<Container>,
    pub readiness_gates: Vec<String>,
    /// `status.phase` as the API has it.
    pub phase: String,
    /// From a manifest on this node, not from the API.
    pub is_static: bool,
    /// And the manifest is of a URL.
    pub is_of_url: bool,
    /// `spec.priority`.
    pub priority: i64,
    /// What it takes of the node.
    pub share: Share,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next.
    Init,
    /// An init container with `restartPolicy: Always`: starts in turn, then stays.
    Sidecar,
    App,
    Ephemeral,
}

#[derive(Clone, Debug)]
pub struct Container {
    pub name: String,
    pub role: Role,
    /// Index in its own list of the spec.
    pub idx: usize,
    pub image: String,
    pub liveness: Option<Probe>,
    pub readiness: Option<Probe>,
    pub startup: Option<Probe>,
    pub pre_stop: bool,
}

impl Container {
    /// The path that events about this container name.
    pub fn field_path(&self) -> String {
        let list = match self.role {
            Role::Init | Role::Sidecar => "initContainers",
            Role::App => "containers",
            Role::Ephemeral => "ephemeralContainers",
        };
        format!("spec.{list}{{{}}}", self.name)
    }

    /// Where its spec is in the pod's tree.
    pub fn tree_path(&self) -> String {
        let list = match self.role {
            Role::Init | Role::Sidecar => "initContainers",
            Role::App => "containers",
            Role::Ephemeral => "ephemeralContainers",
        };
        format!("spec.{list}.{}", self.idx)
    }
}

/// Annotations upstream's kubelet puts on pods from manifests.
pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
pub const CONFIG_SEEN: &str = "kubernetes.io/config.seen";

impl Pod {
    pub fn read(object: &Object) -> Pod {
        let tree = object.tree();
        let source = tree.entry("metadata.annotations", CONFIG_SOURCE).unwrap_or("api");
        let mut containers = Vec::new();
        for (list, role) in [
            ("spec.initContainers", Role::Init),
            ("spec.containers", Role::App),
            ("spec.ephemeralContainers", Role::Ephemeral),
        ] {
            for (idx, container) in tree.list(list).iter().enumerate() {
                containers.push(read_container(container, idx, role));
            }
        }
        // Kept as long as the pod.
        containers.shrink_to_fit();
        let grace_secs = tree.int("spec.terminationGracePeriodSeconds").unwrap_or(30);
        Pod {
            uid: object.uid().to_owned(),
            name: object.name().to_owned(),
            namespace: object.namespace().to_owned(),
            restart_policy: match tree.str("spec.restartPolicy") {
                "Never" => RestartPolicy::Never,
                "OnFailure" => RestartPolicy::OnFailure,
                _ => RestartPolicy::Always,
            },
            grace_secs,
            deleting_grace_secs: object
                .deleting()
                .then(|| tree.int("metadata.deletionGracePeriodSeconds").unwrap_or(grace_secs)),
            active_deadline: tree
                .int("spec.activeDeadlineSeconds")
                .and_then(|secs| u64::try_from(secs).ok())
                .map(Duration::from_secs),
            host_network: tree.flag("spec.hostNetwork"),
            share_processes: tree.flag("spec.shareProcessNamespace"),
            readiness_gates: tree
                .list("spec.readinessGates")
                .iter()
                .map(|gate| gate.str("conditionType").to_owned())
                .collect(),
            phase: tree.str("status.phase").to_owned(),
            is_static: source != "api",
            is_of_url: source == "http",
            priority: tree.int("spec.priority").unwrap_or(0),
            containers,
            share: Share::of(&tree),
            object: object.clone(),
        }
    }

    /// `name_namespace(uid)`, as upstream's messages name pods.
    pub fn long_name(&self) -> String {
        format!("{}_{}({})", self.name, self.namespace, self.uid)
    }

    pub fn of_role(&self, role: Role) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(move |container| container.role == role)
    }

    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// Init containers and sidecars, in their order.
    pub fn init_containers(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|c| matches!(c.role, Role::Init | Role::Sidecar))
    }

    pub fn has_init_containers(&self) -> bool {
        self.init_containers().next().is_some()
    }
}

fn read_container(tree: &Value, idx: usize, role: Role) -> Container {
    let role = match role {
        Role::Init if tree.str("restartPolicy") == "Always" => Role::Sidecar,
        role => role,
    };
    Container {
        name: tree.str("name").to_owned(),
        role,
        idx,
        image: tree.str("image").to_owned(),
        liveness: Probe::read(tree.at("livenessProbe")),
        readiness: Probe::read(tree.at("readinessProbe")),
        startup: Probe::read(tree.at("startupProbe")),
        pre_stop: tree.has("lifecycle.preStop"),
    }
}

/// What upstream calls the QoS class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    BestEffort,
    Burstable,
    Guaranteed,
}

impl Qos {
    pub fn as_str(self) -> &'static str {
        match self {
            Qos::BestEffort => "BestEffort",
            Qos::Burstable => "Burstable",
            Qos::Guaranteed => "Guaranteed",
        }
    }

    /// Of a pod's tree: by cpu and memory of all app and init containers.
    pub fn of(pod: &Value) -> Qos {
        let mut any = false;
        let mut guaranteed = true;
        let lists = [pod.list("spec.initContainers"), pod.list("spec.containers")];
        for container in lists.into_iter().flatten() {
            for resource in ["cpu", "memory"] {
                let limit = quantity(container.at("resources.limits").get(resource));
                let request = quantity(container.at("resources.requests").get(resource));
                let limit = limit.filter(|q| !q.is_zero());
                let request = request.filter(|q| !q.is_zero()).or(limit);
                any |= limit.is_some() || request.is_some();
                guaranteed &= limit.is_some() && limit == request;
            }
        }
        match (any, guaranteed) {
            (false, _) => Qos::BestEffort,
            (true, true) => Qos::Guaranteed,
            (true, false) => Qos::Burstable,
        }
    }
}

fn quantity(tree: Option<&Value>) -> Option<api::quantity::Quantity> {
    tree.and_then(api::quantity::Quantity::from_tree)
}

/// A wall-clock time of a tree, if it is one.
pub fn time_at(tree: &Value, path: &str) -> Option<Wall> {
    api::time::parse(tree.str(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn qos_classes() {
        let pod = |requests: Value, limits: Value| json!({"spec": {"containers": [{"name": "a", "resources": {"requests": requests, "limits": limits}}]}});
        for (requests, limits, want) in [
            (json!({}), json!({}), Qos::BestEffort),
            (json!({"cpu": "0"}), json!({}), Qos::BestEffort),
            (json!({"cpu": "100m"}), json!({}), Qos::Burstable),
            (json!({}), json!({"cpu": "1"}), Qos::Burstable),
            (json!({}), json!({"cpu": "1", "memory": "1Gi"}), Qos::Guaranteed),
            (
                json!({"cpu": "1000m", "memory": "1Gi"}),
                json!({"cpu": "1", "memory": "1024Mi"}),
                Qos::Guaranteed,
            ),
            (
                json!({"cpu": "500m", "memory": "1Gi"}),
                json!({"cpu": "1", "memory": "1Gi"}),
                Qos::Burstable,
            ),
        ] {
            assert_eq!(
                Qos::of(&pod(requests.clone(), limits.clone())),
                want,
                "{requests} {limits}"
            );
        }
    }
}
