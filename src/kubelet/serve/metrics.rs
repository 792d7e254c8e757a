//! Metrics as Prometheus reads them: the kubelet's own, and those of the node, its pods and containers.

use std::sync::Arc;
use std::time::Duration;

use api::Status;
use runtime::Stats;
use stdx::Arrange;
use stdx::metrics::{Text, number as count};
use stdx::time::Wall;

use super::stats::{Machine, claims_of, network};
use crate::drivers;
use crate::node::Node;
use crate::shared::Shared;

/// How often volumes are walked through, as upstream: a pod may have put any number of files into one.
const CLAIMS_EVERY: Duration = Duration::from_secs(60);

/// The Prometheus text of `/metrics`, `/metrics/cadvisor` or `/metrics/resource`.
pub(crate) async fn text(shared: &Arc<Shared>, node: &Node, path: &str) -> Result<String, Status> {
    match path {
        "/metrics" => {
            let mut text = own(shared);
            text.out.push_str(&claims(shared).await);
            Ok(text.out)
        }
        "/metrics/probes" => {
            let mut text = Text::default();
            let find = |uid: &str| {
                let slot = shared.slots.get(uid)?;
                Some((slot.namespace.clone(), slot.name.clone()))
            };
            shared.figures.write_probes(find, &mut text);
            Ok(text.out)
        }
        "/metrics/resource" => Ok(resource(shared).await),
        "/metrics/cadvisor" => Ok(cadvisor(shared, node).await),
        _ => Err(Status::new(
            api::status::Reason::NotFound,
            "the server could not find the requested resource",
        )),
    }
}

fn own(shared: &Shared) -> Text {
    let mut text = Text::default();
    let (mut running, mut pods) = (0u64, 0u64);
    for slot in shared.slots.all() {
        let snapshot = slot.snapshot();
        pods += u64::from(!snapshot.terminal && snapshot.sandbox.is_some());
        let alive = snapshot.containers.values().filter(|ids| {
            let id = ids.current.as_deref();
            id.and_then(|id| shared.runtime.container(id)).is_some_and(|c| c.exit().is_none())
        });
        running += u64::try_from(alive.count()).unwrap_or(0);
    }
    text.family("kubelet_node_name", "gauge", "The node's name. The count is always 1.");
    text.sample("kubelet_node_name", &[("node", &shared.config.node_name)], 1.0, None);
    text.family("kubelet_running_pods", "gauge", "Number of pods that have a running pod sandbox");
    text.sample("kubelet_running_pods", &[], count(pods), None);
    text.family("kubelet_running_containers", "gauge", "Number of containers currently running");
    text.sample(
        "kubelet_running_containers",
        &[("container_state", "running")],
        count(running),
        None,
    );
    shared.figures.write(&mut text);
    shared.network.write_figures(&mut text);
    client::write_requests(&mut text);
    rt::own_figures(&mut text);
    text
}

/// How full the volumes of claims are, as far as they are directories of this machine.
async fn claims(shared: &Shared) -> Arc<str> {
    let now = rt::now().mono;
    let mut kept = shared.figures.claims.lock().await;
    match &*kept {
        Some((at, text)) if now.since(*at) < CLAIMS_EVERY => Arc::clone(text),
        _ => {
            let text: Arc<str> = measure_claims(shared).await.into();
            *kept = Some((now, Arc::clone(&text)));
            text
        }
    }
}

async fn measure_claims(shared: &Shared) -> String {
    let mut found = Vec::new();
    for slot in shared.slots.all() {
        let snapshot = slot.snapshot();
        let (Some(pod), Some(mounted)) = (&snapshot.pod, &snapshot.mounted) else { continue };
        for (volume, claim) in claims_of(&pod.object.tree(), &pod.name) {
            if let Some(mounted) = mounted.get(&volume).filter(|mounted| !mounted.block) {
                found.push((pod.namespace.clone(), claim, mounted.path.clone()));
            }
        }
    }
    found.arrange();
    found.dedup_by(|a, b| (&a.0, &a.1) == (&b.0, &b.1));
    let mut measured = Vec::new();
    for (namespace, claim, path) in found {
        if let Some((space, used)) = drivers::measure(shared, path).await {
            measured.push((namespace, claim, space, used));
        }
    }
    let mut text = Text::default();
    type Value = fn(&sys::space::Space, (u64, u64)) -> u64;
    let families: [(&str, &str, Value); 6] = [
        ("available_bytes", "Number of available bytes in the volume", |it, _| it.available_bytes),
        ("capacity_bytes", "Capacity in bytes of the volume", |it, _| it.total_bytes),
        ("used_bytes", "Number of used bytes in the volume", |_, used| used.0),
        ("inodes", "Maximum number of inodes in the volume", |it, _| it.inodes),
        ("inodes_free", "Number of free inodes in the volume", |it, _| it.inodes_free),
        ("inodes_used", "Number of used inodes in the volume", |_, used| used.1),
    ];
    for (name, help, value) in families {
        let name = format!("kubelet_volume_stats_{name}");
        text.family(&name, "gauge", help);
        for (namespace, claim, space, used) in &measured {
            let labels = [("namespace", &**namespace), ("persistentvolumeclaim", &**claim)];
            text.sample(&name, &labels, count(value(space, *used)), None);
        }
    }
    text.out
}

/// One container or pod as metrics name it.
struct Measured {
    namespace: String,
    pod: String,
    /// Empty for the pod as a whole.
    container: String,
    image: String,
    id: String,
    started: Option<Wall>,
    stats: Stats,
    network: Option<(u64, u64)>,
}

async fn measure(shared: &Shared) -> Vec<Measured> {
    let mut all = Vec::new();
    for slot in shared.slots.all() {
        let snapshot = slot.snapshot();
        let Some(pod) = snapshot.pod.clone().filter(|_| snapshot.sandbox.is_some()) else {
            continue;
        };
        let measured = |container: &str, stats| Measured {
            namespace: pod.namespace.clone(),
            pod: pod.name.clone(),
            container: container.to_owned(),
            image: String::new(),
            id: String::new(),
            started: None,
            stats,
            network: None,
        };
        for (name, ids) in &snapshot.containers {
            let status = ids.current.as_deref().and_then(|id| shared.runtime.container(id));
            let Some(status) = status.filter(|status| status.exit().is_none()) else { continue };
            let Ok(stats) = shared.runtime.container_stats(&status.id, false).await else {
                continue;
            };
            all.push(Measured {
                image: status.image.clone(),
                id: status.cgroup.clone(),
                started: status.started_at,
                ..measured(name, stats)
            });
        }
        if let Ok(stats) = shared.runtime.cgroup_stats(&snapshot.cgroup).await {
            all.push(Measured {
                id: snapshot.cgroup.clone(),
                network: network(shared, &snapshot).filter(|_| !pod.host_network),
                ..measured("", stats)
            });
        }
    }
    all
}

/// A family of samples about containers or pods: name, type, help, and where its value is.
type Family = (&'static str, &'static str, &'static str, fn(&Measured) -> Option<f64>);

fn cpu(m: &Measured) -> Option<f64> {
    Some(count(m.stats.cpu.usage_ns) / 1e9)
}

fn working_set(m: &Measured) -> Option<f64> {
    Some(count(m.stats.memory.working_set_bytes))
}

/// cAdvisor's, of containers and of pods as a whole.
static CADVISOR: &[Family] = &[
    (
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed in seconds.",
        cpu,
    ),
    (
        "container_cpu_cfs_periods_total",
        "counter",
        "Number of elapsed enforcement period intervals.",
        |m| Some(count(m.stats.cpu.periods)),
    ),
    (
        "container_cpu_cfs_throttled_periods_total",
        "counter",
        "Number of throttled period intervals.",
        |m| Some(count(m.stats.cpu.throttled_periods)),
    ),
    (
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        |m| Some(count(m.stats.memory.usage_bytes)),
    ),
    ("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", working_set),
    ("container_memory_rss", "gauge", "Size of RSS in bytes.", |m| {
        Some(count(m.stats.memory.rss_bytes))
    }),
    ("container_spec_memory_limit_bytes", "gauge", "Memory limit for the container.", |m| {
        m.stats.memory.limit_bytes.map(count)
    }),
    ("container_processes", "gauge", "Number of processes running inside the container.", |m| {
        Some(count(m.stats.pids.current))
    }),
    (
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds.",
        |m| m.started.map(seconds),
    ),
    (
        "container_network_receive_bytes_total",
        "counter",
        "Cumulative count of bytes received",
        |m| m.network.map(|n| count(n.0)),
    ),
    (
        "container_network_transmit_bytes_total",
        "counter",
        "Cumulative count of bytes transmitted",
        |m| m.network.map(|n| count(n.1)),
    ),
];

/// The resource endpoint's, of containers.
static CONTAINERS: &[Family] = &[
    (
        "container_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
        cpu,
    ),
    (
        "container_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the container in bytes",
        working_set,
    ),
    (
        "container_start_time_seconds",
        "gauge",
        "[STABLE] Start time of the container since unix epoch in seconds",
        |m| m.started.map(seconds),
    ),
];

/// The resource endpoint's, of pods.
static PODS: &[Family] = &[
    (
        "pod_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
        cpu,
    ),
    (
        "pod_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the pod in bytes",
        working_set,
    ),
];

/// The text of `/metrics/cadvisor`.
async fn cadvisor(shared: &Arc<Shared>, node: &Node) -> String {
    let mut text = Text::default();
    let all = measure(shared).await;
    for (name, kind, help, read) in CADVISOR {
        text.family(name, kind, help);
        for m in &all {
            let Some(value) = read(m) else { continue };
            let mut labels = vec![
                ("container", &*m.container),
                ("id", &*m.id),
                ("image", &*m.image),
                ("name", ""),
                ("namespace", &*m.namespace),
                ("pod", &*m.pod),
            ];
            if m.network.is_some() && name.contains("_network_") {
                labels.push(("interface", "eth0"));
            }
            text.sample(name, &labels, value, Some(m.stats.at));
        }
    }
    text.family("machine_cpu_cores", "gauge", "Number of logical CPU cores.");
    text.sample("machine_cpu_cores", &[], count(node.facts.cpus), None);
    text.family("machine_memory_bytes", "gauge", "Amount of memory installed on the machine.");
    text.sample("machine_memory_bytes", &[], count(node.facts.memory_bytes), None);
    text.out
}

/// The text of `/metrics/resource`.
async fn resource(shared: &Arc<Shared>) -> String {
    let mut text = Text::default();
    let now = rt::now().wall;
    let all = measure(shared).await;
    for (name, kind, help, read) in CONTAINERS {
        text.family(name, kind, help);
        for m in all.iter().filter(|m| !m.container.is_empty()) {
            let labels =
                [("container", &*m.container), ("namespace", &*m.namespace), ("pod", &*m.pod)];
            if let Some(value) = read(m) {
                let at = (!name.contains("start_time")).then_some(m.stats.at);
                text.sample(name, &labels, value, at);
            }
        }
    }
    write_machine(&mut text, now).await;
    for (name, kind, help, read) in PODS {
        text.family(name, kind, help);
        for m in all.iter().filter(|m| m.container.is_empty()) {
            let labels = [("namespace", &*m.namespace), ("pod", &*m.pod)];
            text.sample(name, &labels, read(m).unwrap_or(0.0), Some(m.stats.at));
        }
    }
    for name in ["resource_scrape_error", "scrape_error"] {
        text.family(
            name,
            "gauge",
            "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
        );
        text.sample(name, &[], 0.0, None);
    }
    text.out
}

/// The resource endpoint's, of the machine, at `now`.
async fn write_machine(text: &mut Text, now: Wall) {
    let machine = rt::unblock(Machine::read).await;
    let name = "node_cpu_usage_seconds_total";
    let help = "[STABLE] Cumulative cpu time consumed by the node in core-seconds";
    text.family(name, "counter", help);
    text.sample(name, &[], count(machine.cpu_ns) / 1e9, Some(now));
    let name = "node_memory_working_set_bytes";
    let help = "[STABLE] Current working set of the node in bytes";
    text.family(name, "gauge", help);
    let working = machine.memory_total.saturating_sub(machine.memory_available);
    text.sample(name, &[], count(working), Some(now));
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus samples are doubles")]
fn seconds(at: Wall) -> f64 {
    at.0 as f64 / 1e9
}
