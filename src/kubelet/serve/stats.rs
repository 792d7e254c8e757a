//! The stats summary, and what figures of pods and of the machine are read for it and for metrics.

use std::sync::{Arc, PoisonError};

use api::{Lens, LensMut, Value, json};
use runtime::Stats;
use stdx::time::Mono;

use crate::drivers;
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
        "volume": volumes(shared, &snapshot, time).await,
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

async fn volumes(shared: &Shared, snapshot: &Snapshot, time: &str) -> Vec<Value> {
    let Some(mounted) = snapshot.mounted.clone() else { return Vec::new() };
    let pod = snapshot.pod.as_ref();
    let claims = pod.map_or(Vec::new(), |pod| claims_of(&pod.object.tree(), &pod.name));
    let namespace = pod.map_or(String::new(), |pod| pod.namespace.clone());
    let mut told = Vec::new();
    for (name, mounted) in mounted.iter().filter(|(_, mounted)| !mounted.block) {
        let measured = drivers::measure(shared, mounted.path.clone()).await;
        let Some((space, (used, inodes))) = measured else { continue };
        let mut tree = json!({
            "name": name, "time": time, "availableBytes": space.available_bytes,
            "capacityBytes": space.total_bytes, "usedBytes": used,
            "inodesFree": space.inodes_free, "inodes": space.inodes, "inodesUsed": inodes,
        });
        if let Some((_, claim)) = claims.iter().find(|(volume, _)| volume == name) {
            tree.set("pvcRef", json!({"name": claim, "namespace": namespace}));
        }
        told.push(tree);
    }
    told
}

/// The volumes of a pod that claims stand for, with the claims' names.
pub(super) fn claims_of(pod: &Value, name: &str) -> Vec<(String, String)> {
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
pub(super) fn network(shared: &Shared, snapshot: &Snapshot) -> Option<(u64, u64)> {
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
pub(super) struct Machine {
    pub(super) cpu_ns: u64,
    pub(super) memory_total: u64,
    memory_free: u64,
    pub(super) memory_available: u64,
    rss: u64,
    pid_max: u64,
    tasks: u64,
}

impl Machine {
    /// Blocking.
    pub(super) fn read() -> Machine {
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
