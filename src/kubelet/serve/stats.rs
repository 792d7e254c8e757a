//! Figures: the stats summary, and metrics as Prometheus reads them.

use std::sync::{Arc, PoisonError};

use api::{Lens, LensMut, Status, Value, json};
use runtime::Stats;
use stdx::Arrange;
use stdx::metrics::{Text, number as count};
use stdx::time::{Mono, Wall};

use crate::node::{Node, facts::meminfo};
use crate::shared::{Shared, Slot, Snapshot};
use crate::volumes::directory_size;

/// Rates are computed over at least this long; a second look before then sees the same rate.
const RATE_MIN: std::time::Duration = std::time::Duration::from_secs(2);

/// `stats/v1alpha1 Summary`.
pub(crate) async fn summary(shared: &Arc<Shared>, node: &Node) -> Value {
    let now = rt::now();
    let time = api::time::format(now.wall);
    let machine = rt::unblock(Machine::read).await;
    let directory = shared.config.agent_directory.clone();
    let space = rt::unblock(move || sys::space::of(directory)).await.unwrap_or_default();
    let images = shared.runtime.images().usage().await.unwrap_or_default();
    let used = space.total_bytes.saturating_sub(space.free_bytes);
    let fs = |used: u64, inodes_used: u64| {
        json!({
            "time": time, "availableBytes": space.available_bytes,
            "capacityBytes": space.total_bytes, "usedBytes": used,
            "inodesFree": space.inodes_free, "inodes": space.inodes, "inodesUsed": inodes_used,
        })
    };
    let mut pods = Vec::new();
    for slot in shared.slots.all() {
        if let Some(stats) = pod_stats(shared, node, &slot, now.mono, &time, &fs).await {
            pods.push(stats);
        }
    }
    json!({
        "node": {
            "nodeName": shared.config.node_name,
            "startTime": api::time::format(node.started_at),
            "cpu": {
                "time": time,
                "usageNanoCores": rate(node, "node", machine.cpu_ns, now.mono),
                "usageCoreNanoSeconds": machine.cpu_ns,
            },
            "memory": {
                "time": time,
                "availableBytes": machine.memory_available,
                "usageBytes": machine.memory_total.saturating_sub(machine.memory_free),
                // The kernel keeps some free memory back, so that less may be available than is free.
                "workingSetBytes":
                    machine.memory_total.saturating_sub(machine.memory_available.max(machine.memory_free)),
                "rssBytes": machine.rss, "pageFaults": 0, "majorPageFaults": 0,
            },
            "fs": fs(used, space.inodes.saturating_sub(space.inodes_free)),
            "runtime": {"imageFs": fs(images.bytes, images.inodes)},
            "rlimit": {"time": time, "maxpid": machine.pid_max, "curproc": machine.tasks},
        },
        "pods": pods,
    })
}

async fn pod_stats(
    shared: &Shared,
    node: &Node,
    slot: &Slot,
    mono: Mono,
    time: &str,
    fs: &(impl Fn(u64, u64) -> Value + Sync),
) -> Option<Value> {
    let snapshot = slot.snapshot();
    let pod = snapshot.pod.clone()?;
    snapshot.sandbox.as_ref()?;
    let mut containers = Vec::new();
    let mut written = 0;
    for (name, ids) in &snapshot.containers {
        let Some(id) = &ids.current else { continue };
        let Some(status) = shared.runtime.container(id).filter(|c| c.exit().is_none()) else {
            continue;
        };
        let Ok(stats) = shared.runtime.container_stats(id, true).await else { continue };
        written += stats.writable_bytes;
        // With the rotated ones.
        let logs = status.log_path.as_deref().and_then(std::path::Path::parent);
        let logs = logs.map(std::path::Path::to_owned);
        let log_size = rt::unblock(move || logs.map(|directory| directory_size(&directory)));
        let (log_bytes, log_files) = log_size.await.unwrap_or_default();
        written += log_bytes;
        containers.push(json!({
            "name": name,
            "startTime": api::time::format(status.started_at.unwrap_or(status.created_at)),
            "cpu": cpu(node, id, &stats, mono, time),
            "memory": memory(&stats, time),
            "rootfs": fs(stats.writable_bytes, stats.writable_inodes),
            "logs": fs(log_bytes, log_files),
        }));
    }
    let mut tree = json!({
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": slot.uid},
        "startTime": snapshot.status.tree().at("startTime"),
        "containers": containers,
        "volume": volumes(&snapshot, time).await,
        "ephemeral-storage": fs(written, 0),
    });
    if let Ok(stats) = shared.runtime.cgroup_stats(&snapshot.cgroup).await {
        tree.set("cpu", cpu(node, &snapshot.cgroup, &stats, mono, time));
        tree.set("memory", memory(&stats, time));
        tree.set("process_stats", json!({"process_count": stats.pids.current}));
    }
    if let Some((received, sent)) = network(shared, &snapshot).filter(|_| !pod.host_network) {
        let interface = json!({"name": "eth0", "rxBytes": received, "rxErrors": 0, "txBytes": sent, "txErrors": 0});
        let mut network = interface.clone();
        network.set("time", time);
        network.set("interfaces", json!([interface]));
        tree.set("network", network);
    }
    Some(tree)
}

async fn volumes(snapshot: &Snapshot, time: &str) -> Vec<Value> {
    let Some(mounted) = snapshot.mounted.clone() else { return Vec::new() };
    let time = time.to_owned();
    let pod = snapshot.pod.as_ref();
    let claims = pod.map_or(Vec::new(), |pod| claims_of(&pod.object.tree(), &pod.name));
    let namespace = pod.map_or(String::new(), |pod| pod.namespace.clone());
    rt::unblock(move || {
        mounted
            .iter()
            .filter_map(|(name, mounted)| {
                let space = sys::space::of(&mounted.path).ok()?;
                let (used, inodes) = directory_size(&mounted.path);
                let mut tree = json!({
                    "name": name, "time": time, "availableBytes": space.available_bytes,
                    "capacityBytes": space.total_bytes, "usedBytes": used,
                    "inodesFree": space.inodes_free, "inodes": space.inodes, "inodesUsed": inodes,
                });
                if let Some((_, claim)) = claims.iter().find(|(volume, _)| volume == name) {
                    tree.set("pvcRef", json!({"name": claim, "namespace": namespace}));
                }
                Some(tree)
            })
            .collect()
    })
    .await
}

fn cpu(node: &Node, key: &str, stats: &Stats, mono: Mono, time: &str) -> Value {
    json!({
        "time": time,
        "usageNanoCores": rate(node, key, stats.cpu.usage_ns, mono),
        "usageCoreNanoSeconds": stats.cpu.usage_ns,
    })
}

fn memory(stats: &Stats, time: &str) -> Value {
    let memory = &stats.memory;
    let mut tree = json!({
        "time": time, "usageBytes": memory.usage_bytes,
        "workingSetBytes": memory.working_set_bytes, "rssBytes": memory.rss_bytes,
        "pageFaults": memory.page_faults, "majorPageFaults": memory.major_page_faults,
    });
    if let Some(limit) = memory.limit_bytes {
        tree.set("availableBytes", limit.saturating_sub(memory.working_set_bytes));
    }
    tree
}

/// Billionths of a processor since the last sample of `key`.
fn rate(node: &Node, key: &str, total_ns: u64, now: Mono) -> u64 {
    /// Samples kept; those of containers long gone are pushed out.
    const SAMPLES_MAX: usize = 1024;
    let mut samples = node.samples.lock().unwrap_or_else(PoisonError::into_inner);
    if samples.len() >= SAMPLES_MAX && !samples.contains_key(key) {
        let oldest = samples.iter().min_by_key(|(_, sample)| sample.0).map(|(key, _)| key.clone());
        oldest.map(|key| samples.remove(&key));
    }
    match samples.get_mut(key) {
        Some((at, before, rate)) => {
            let passed = now.since(*at);
            if passed >= RATE_MIN {
                let nanos = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX).max(1);
                let used = u128::from(total_ns.saturating_sub(*before));
                *rate = u64::try_from(used * 1_000_000_000 / u128::from(nanos)).unwrap_or(0);
                (*at, *before) = (now, total_ns);
            }
            *rate
        }
        None => {
            samples.insert(key.to_owned(), (now, total_ns, 0));
            0
        }
    }
}

/// Bytes received and sent in the sandbox's network namespace.
fn network(shared: &Shared, snapshot: &Snapshot) -> Option<(u64, u64)> {
    let sandbox = shared.runtime.sandbox(snapshot.sandbox.as_deref()?)?;
    let text = rt::fs::read_small_text(format!("/proc/{}/net/dev", sandbox.shim_pid)).ok()?;
    interface_bytes(&text, "eth0")
}

fn interface_bytes(text: &str, interface: &str) -> Option<(u64, u64)> {
    let line =
        text.lines().find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    Some((words.first()?.parse().ok()?, words.get(8)?.parse().ok()?))
}

/// The whole machine.
#[derive(Debug, Default)]
struct Machine {
    cpu_ns: u64,
    memory_total: u64,
    memory_free: u64,
    memory_available: u64,
    rss: u64,
    pid_max: u64,
    tasks: u64,
}

impl Machine {
    /// Blocking.
    fn read() -> Machine {
        let text = |path: &str| rt::fs::read_small_text(path).unwrap_or_default();
        let memory = text("/proc/meminfo");
        let loadavg = text("/proc/loadavg");
        Machine {
            cpu_ns: busy_ns(&text("/proc/stat"), sys::space::clock_ticks()),
            memory_total: meminfo(&memory, "MemTotal"),
            memory_free: meminfo(&memory, "MemFree"),
            memory_available: meminfo(&memory, "MemAvailable"),
            rss: meminfo(&memory, "AnonPages"),
            pid_max: text("/proc/sys/kernel/pid_max").trim().parse().unwrap_or(0),
            tasks: loadavg
                .split_whitespace()
                .nth(3)
                .and_then(|word| word.split_once('/')?.1.parse().ok())
                .unwrap_or(0),
        }
    }
}

/// Time that processors were not idle, from the first line of `/proc/stat`.
fn busy_ns(stat: &str, ticks_per_sec: u64) -> u64 {
    let Some(line) = stat.lines().next() else { return 0 };
    let ticks: u64 = line
        .split_whitespace()
        .skip(1)
        .take(8)
        .enumerate()
        // user nice system IDLE IOWAIT irq softirq steal
        .filter(|(idx, _)| *idx != 3 && *idx != 4)
        .filter_map(|(_, word)| word.parse::<u64>().ok())
        .sum();
    ticks.saturating_mul(1_000_000_000 / ticks_per_sec.max(1))
}

/// The Prometheus text of `/metrics`, `/metrics/cadvisor` or `/metrics/resource`.
pub(crate) async fn metrics(
    shared: &Arc<Shared>,
    node: &Node,
    path: &str,
) -> Result<String, Status> {
    match path {
        "/metrics" => {
            let mut text = own(shared);
            text.out.push_str(&claims(shared).await);
            Ok(text.out)
        }
        "/metrics/probes" => {
            let mut text = Text::default();
            shared.figures.write_probes(&shared.slots, &mut text);
            Ok(text.out)
        }
        "/metrics/resource" => Ok(families(shared, node, false).await),
        "/metrics/cadvisor" => Ok(families(shared, node, true).await),
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
    rt::own_figures(&mut text);
    text
}

/// How full the volumes of claims are, as far as they are directories of this machine.
async fn claims(shared: &Shared) -> String {
    let mut found = Vec::new();
    for slot in shared.slots.all() {
        let snapshot = slot.snapshot();
        let (Some(pod), Some(mounted)) = (&snapshot.pod, &snapshot.mounted) else { continue };
        for (volume, claim) in claims_of(&pod.object.tree(), &pod.name) {
            if let Some(mounted) = mounted.get(&volume) {
                found.push((pod.namespace.clone(), claim, mounted.path.clone()));
            }
        }
    }
    found.arrange();
    found.dedup_by(|a, b| (&a.0, &a.1) == (&b.0, &b.1));
    rt::unblock(move || {
        let measured = found.into_iter().filter_map(|(namespace, claim, path)| {
            Some((namespace, claim, sys::space::of(&path).ok()?, directory_size(&path)))
        });
        let measured: Vec<_> = measured.collect();
        let mut text = Text::default();
        type Value = fn(&sys::space::Space, (u64, u64)) -> u64;
        let families: [(&str, &str, Value); 6] = [
            ("available_bytes", "Number of available bytes in the volume", |it, _| {
                it.available_bytes
            }),
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
    })
    .await
}

/// The volumes of a pod that claims stand for, with the claims' names.
fn claims_of(pod: &Value, name: &str) -> Vec<(String, String)> {
    let volumes = pod.list("spec.volumes").iter().filter_map(|volume| {
        let own = volume.str("name");
        let claim = match volume.str("persistentVolumeClaim.claimName") {
            "" if volume.has("ephemeral") => format!("{name}-{own}"),
            "" => return None,
            claim => claim.to_owned(),
        };
        Some((own.to_owned(), claim))
    });
    volumes.collect()
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

async fn families(shared: &Arc<Shared>, node: &Node, cadvisor: bool) -> String {
    let mut text = Text::default();
    let now = rt::now().wall;
    let all = measure(shared).await;
    let machine = rt::unblock(Machine::read).await;
    type Read = fn(&Measured) -> Option<f64>;
    let cpu: Read = |m| Some(count(m.stats.cpu.usage_ns) / 1e9);
    let working_set: Read = |m| Some(count(m.stats.memory.working_set_bytes));
    if cadvisor {
        let list: &[(&str, &str, &str, Read)] = &[
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
            (
                "container_memory_working_set_bytes",
                "gauge",
                "Current working set in bytes.",
                working_set,
            ),
            ("container_memory_rss", "gauge", "Size of RSS in bytes.", |m| {
                Some(count(m.stats.memory.rss_bytes))
            }),
            (
                "container_spec_memory_limit_bytes",
                "gauge",
                "Memory limit for the container.",
                |m| m.stats.memory.limit_bytes.map(count),
            ),
            (
                "container_processes",
                "gauge",
                "Number of processes running inside the container.",
                |m| Some(count(m.stats.pids.current)),
            ),
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
        for (name, kind, help, read) in list {
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
        return text.out;
    }
    let containers = || all.iter().filter(|m| !m.container.is_empty());
    let labels = |m: &Measured| [m.container.clone(), m.namespace.clone(), m.pod.clone()];
    let list: &[(&str, &str, &str, Read)] = &[
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
    for (name, kind, help, read) in list {
        text.family(name, kind, help);
        for m in containers() {
            let [container, namespace, pod] = labels(m);
            let labels = [("container", &*container), ("namespace", &*namespace), ("pod", &*pod)];
            if let Some(value) = read(m) {
                let at = (!name.contains("start_time")).then_some(m.stats.at);
                text.sample(name, &labels, value, at);
            }
        }
    }
    text.family(
        "node_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
    );
    text.sample("node_cpu_usage_seconds_total", &[], count(machine.cpu_ns) / 1e9, Some(now));
    text.family(
        "node_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the node in bytes",
    );
    let working = machine.memory_total.saturating_sub(machine.memory_available);
    text.sample("node_memory_working_set_bytes", &[], count(working), Some(now));
    for (name, kind, help, read) in [
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
    ] {
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

#[expect(clippy::cast_precision_loss, reason = "Prometheus samples are doubles")]
fn seconds(at: Wall) -> f64 {
    at.0 as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let dev = "Inter-|\n  lo: 1 2 3 4 5 6 7 8 9 10\n  eth0: 100 1 0 0 0 0 0 0 200 2 0 0\n";
        assert_eq!(interface_bytes(dev, "eth0"), Some((100, 200)));
        assert_eq!(interface_bytes(dev, "eth1"), None);
        assert_eq!(busy_ns("cpu  1 2 3 1000 1000 4 5 6 7\n", 100), 21 * 10_000_000);
        assert!(Machine::read().memory_total > 0);
    }
}
