//! Giving resources back before the kernel takes them: pressure, and which pod goes first.

use std::sync::Arc;
use std::time::Duration;

use api::quantity::Quantity;
use api::{Lens, Value};
use stdx::Arrange;
use stdx::time::Mono;

use crate::floors::Floors;
use crate::node::{Node, Pressure, facts::meminfo};
use crate::shared::{Shared, Slot, Snapshot};
use crate::volumes::directory_size;
use podplan::{NODE_WAS_LOW, Told, requests_of};

/// How often resources are looked at, as upstream.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Local storage limits are looked at every so many looks: `du` costs.
const STORAGE_EVERY: u32 = 2;
/// From this priority on a pod is not evicted unless static upstream peers would be.
const CRITICAL_PRIORITY: i64 = 2_000_000_000;

/// Watches the node's resources for the kubelet's life.
pub(crate) async fn run(node: Arc<Node>) {
    let mut seen: [Option<Mono>; 3] = [None; 3];
    let mut looks = 0u32;
    let mut leaving = None;
    let mut below_since = [None; 4];
    loop {
        rt::sleep(LOOK_EVERY).await;
        looks = looks.wrapping_add(1);
        let shared = &node.shared;
        let directory = shared.config.agent_directory.clone();
        let figures = rt::unblock(move || Figures::read(&directory)).await;
        let config = &shared.config;
        let now = rt::now().mono;
        let mut floors = figures.floors(&config.eviction_hard);
        let mut low = figures.below(floors);
        let mut grace = 0;
        if let Some(soft) = &config.eviction_soft {
            let soft_floors = figures.floors(&soft.floors);
            let is_low = soft_met(&mut below_since, figures.below(soft_floors), &soft.grace, now);
            for idx in 0..low.len() {
                if is_low[idx] && !low[idx] {
                    (low[idx], floors[idx], grace) =
                        (true, soft_floors[idx], soft.pod_grace_max_secs);
                }
            }
        }
        let [low_memory, few_bytes, few_inodes, low_pids] = low;
        let low_disk = few_bytes || few_inodes;
        let [memory_floor, disk_floor, ..] = floors;
        for (idx, low) in [low_memory, low_disk, low_pids].into_iter().enumerate() {
            if low {
                seen[idx] = Some(now);
            }
        }
        let lasts = |at: Option<Mono>| at.is_some_and(|at| now.since(at) < config.pressure_lasts);
        node.set_pressure(Pressure {
            memory: lasts(seen[0]),
            disk: lasts(seen[1]),
            pid: lasts(seen[2]),
        });
        if still_leaving(&leaving, now) {
            // What it holds comes back soon: nobody else must go for it.
        } else if low_memory {
            let floor = amount(memory_floor);
            tell_node(&node, "memory");
            let left = amount(figures.memory_available);
            leaving =
                evict_one(shared, Resource::Memory, (&floor, &left), grace).await.map(|s| (s, now));
        } else if low_disk {
            tell_node(&node, "ephemeral-storage");
            if !reclaim_disk(shared).await {
                let (floor, left) = (amount(disk_floor), amount(figures.disk_available));
                leaving = evict_one(shared, Resource::Disk, (&floor, &left), grace)
                    .await
                    .map(|s| (s, now));
            }
        }
        if looks.is_multiple_of(STORAGE_EVERY) {
            check_local_storage(shared).await;
        }
    }
}

/// Whether the pod that was evicted last still holds what it had, as long as it may take for that.
fn still_leaving(last: &Option<(Arc<Slot>, Mono)>, now: Mono) -> bool {
    /// As upstream.
    const LEAVES_WITHIN: Duration = Duration::from_secs(30);
    last.as_ref()
        .is_some_and(|(slot, since)| !slot.snapshot().terminal && now.since(*since) < LEAVES_WITHIN)
}

/// Which soft floors the node is below of for as long as they bear it.
fn soft_met(
    since: &mut [Option<Mono>; 4],
    below: [bool; 4],
    grace: &[Duration; 4],
    now: Mono,
) -> [bool; 4] {
    let mut met = [false; 4];
    for idx in 0..below.len() {
        since[idx] = if below[idx] { since[idx].or(Some(now)) } else { None };
        met[idx] = since[idx].is_some_and(|since| now.since(since) >= grace[idx]);
    }
    met
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Memory,
    Disk,
}

#[derive(Debug)]
struct Figures {
    memory_total: u64,
    memory_available: u64,
    disk_total: u64,
    disk_available: u64,
    inodes: u64,
    inodes_free: u64,
    pid_max: u64,
    pids_free: u64,
}

impl Figures {
    /// In the order of the fields of [`Floors`].
    fn floors(&self, floors: &Floors) -> [u64; 4] {
        [
            floors.memory.of(self.memory_total),
            floors.disk.of(self.disk_total),
            floors.inodes.of(self.inodes),
            floors.pids.of(self.pid_max),
        ]
    }

    fn below(&self, floors: [u64; 4]) -> [bool; 4] {
        let left = [self.memory_available, self.disk_available, self.inodes_free, self.pids_free];
        std::array::from_fn(|idx| left[idx] < floors[idx])
    }

    fn read(directory: &std::path::Path) -> Figures {
        let text = |path: &str| rt::fs::read_small_text(path).unwrap_or_default();
        let memory = text("/proc/meminfo");
        let space = sys::space::of(directory).unwrap_or_default();
        let pid_max: u64 = text("/proc/sys/kernel/pid_max").trim().parse().unwrap_or(32768);
        // `running/total` is the fourth word.
        let loadavg = text("/proc/loadavg");
        let tasks =
            loadavg.split_whitespace().nth(3).and_then(|w| w.split_once('/')?.1.parse().ok());
        Figures {
            memory_total: meminfo(&memory, "MemTotal"),
            memory_available: meminfo(&memory, "MemAvailable"),
            disk_total: space.total_bytes,
            disk_available: space.available_bytes,
            inodes: space.inodes,
            inodes_free: space.inodes_free,
            pid_max,
            pids_free: pid_max.saturating_sub(tasks.unwrap_or(0)),
        }
    }
}

fn amount(bytes: u64) -> String {
    Quantity::from_bytes(i64::try_from(bytes / 1024 * 1024).unwrap_or(i64::MAX)).to_string()
}

fn tell_node(node: &Node, resource: &str) {
    if let Some(object) = node.shared.node().object {
        let message = format!("Attempting to reclaim {resource}");
        node.shared.recorder.warning(&object, "EvictionThresholdMet", message);
    }
}

/// Unused images first; true if that freed anything.
async fn reclaim_disk(shared: &Shared) -> bool {
    match shared.runtime.images().collect_garbage(u64::MAX, Duration::ZERO).await {
        Ok(freed) => freed > 0,
        Err(error) => {
            log::warn!("reclaim disk: {error}");
            false
        }
    }
}

/// One pod's claim to stay.
#[derive(Clone, Debug, PartialEq)]
struct Candidate {
    idx: usize,
    usage: u64,
    request: u64,
    priority: i64,
}

/// Who goes first: who uses more than it asked for, then the lower priority, then the greater excess.
fn rank(candidates: &mut [Candidate]) {
    let over = |c: &Candidate| c.usage > c.request;
    let excess = |c: &Candidate| i128::from(c.usage) - i128::from(c.request);
    candidates.arrange_by(|a, b| {
        over(b)
            .cmp(&over(a))
            .then_with(|| a.priority.cmp(&b.priority))
            .then_with(|| excess(b).cmp(&excess(a)))
    });
}

/// Evicts the pod that is first in line, and says which.
async fn evict_one(
    shared: &Shared,
    resource: Resource,
    (floor, left): (&str, &str),
    grace_max_secs: i64,
) -> Option<Arc<Slot>> {
    let slots: Vec<(Arc<Slot>, Snapshot)> = shared
        .slots
        .all()
        .into_iter()
        .map(|slot| {
            let snapshot = slot.snapshot();
            (slot, snapshot)
        })
        .filter(|(_, snapshot)| !snapshot.terminal && snapshot.sandbox.is_some())
        .collect();
    let name = if resource == Resource::Memory { "memory" } else { "ephemeral-storage" };
    let mut candidates = Vec::new();
    for (idx, (slot, snapshot)) in slots.iter().enumerate() {
        let Some(pod) = &snapshot.pod else { continue };
        if pod.priority >= CRITICAL_PRIORITY || pod.is_static {
            continue;
        }
        let usage = match resource {
            Resource::Memory => shared
                .runtime
                .cgroup_stats(&snapshot.cgroup)
                .await
                .map_or(0, |stats| stats.memory.working_set_bytes),
            Resource::Disk => disk_usage(shared, &slot.uid, snapshot).await,
        };
        let request = requests_of(&pod.object.tree(), name).units();
        let request = u64::try_from(request).unwrap_or(0);
        candidates.push(Candidate { idx, usage, request, priority: pod.priority });
    }
    rank(&mut candidates);
    let Some(first) = candidates.first() else {
        log::warn!("eviction: {name} is low and there is no pod to evict");
        return None;
    };
    let (slot, snapshot) = &slots[first.idx];
    let container = snapshot.containers.keys().next().cloned().unwrap_or_default();
    let message = format!(
        "{NODE_WAS_LOW}{name}. Threshold quantity: {floor}, available: {left}. Container {container} was using {}, request is {}, has larger consumption of {name}. ",
        amount(first.usage),
        amount(first.request),
    );
    let asked = |pod: &Arc<podplan::Pod>| {
        pod.object.tree().int("spec.terminationGracePeriodSeconds").unwrap_or(30)
    };
    let grace = snapshot.pod.as_ref().map_or(0, asked).min(grace_max_secs);
    let signal = if resource == Resource::Memory { "memory.available" } else { "nodefs.available" };
    shared.figures.evicted(signal);
    evict(shared, slot, snapshot, message, Some(grace));
    Some(Arc::clone(slot))
}

fn evict(shared: &Shared, slot: &Slot, snapshot: &Snapshot, message: String, grace: Option<i64>) {
    log::warn!("pod {}/{}: evicted: {message}", slot.namespace, slot.name);
    if let Some(pod) = &snapshot.pod {
        shared.recorder.warning(&pod.object, "Evicted", message.clone());
    }
    slot.post(|inbox| inbox.evict = Some((Told::new("Evicted", message), grace)));
}

/// Writable layers, logs and emptyDirs on disk.
async fn disk_usage(shared: &Shared, uid: &str, snapshot: &Snapshot) -> u64 {
    let mut total = 0;
    for ids in snapshot.containers.values() {
        if let Some(id) = &ids.current
            && let Ok(stats) = shared.runtime.container_stats(id, true).await
        {
            total += stats.writable_bytes;
        }
    }
    let directory = shared.config.pod_directory(uid);
    let logs = snapshot
        .pod
        .as_ref()
        .map(|pod| shared.config.pod_log_directory(&pod.namespace, &pod.name, uid));
    total
        + rt::unblock(move || {
            // Volumes that subPaths are bound from count where they are, if they are the pod's.
            let parts = rt::fs::list_dir(&directory).unwrap_or_default();
            let own = parts.iter().filter(|part| !part.ends_with("volume-subpaths"));
            own.map(|part| directory_size(part).0).sum::<u64>()
                + logs.map_or(0, |logs| directory_size(&logs).0)
        })
        .await
}

/// Evicts pods over their own limits: emptyDir sizes and ephemeral-storage.
async fn check_local_storage(shared: &Shared) {
    for slot in shared.slots.all() {
        let snapshot = slot.snapshot();
        let Some(pod) = snapshot.pod.clone().filter(|_| !snapshot.terminal) else { continue };
        let tree = pod.object.tree();
        if let Some(message) = over_limit(shared, &slot.uid, &snapshot, &tree).await {
            shared.figures.evicted(match () {
                () if message.contains("EmptyDir") => "emptydirfs.limit",
                () if message.starts_with("Container") => "ephemeralcontainerfs.limit",
                () => "ephemeralpodfs.limit",
            });
            evict(shared, &slot, &snapshot, message, Some(0));
        }
    }
}

async fn over_limit(
    shared: &Shared,
    uid: &str,
    snapshot: &Snapshot,
    tree: &Value,
) -> Option<String> {
    for volume in tree.list("spec.volumes") {
        let limit = volume.at("emptyDir").get("sizeLimit").and_then(Quantity::from_tree);
        let Some(limit) = limit.filter(|limit| !limit.is_zero()) else { continue };
        // A tmpfs keeps its own limit.
        let on_disk = volume.str("emptyDir.medium").is_empty();
        let mounted = snapshot.mounted.as_ref()?.get(volume.str("name"))?.path.clone();
        if on_disk {
            let used = rt::unblock(move || directory_size(&mounted).0).await;
            if used > u64::try_from(limit.units()).unwrap_or(u64::MAX) {
                return Some(format!(
                    "Usage of EmptyDir volume \"{}\" exceeds the limit \"{limit}\". ",
                    volume.str("name")
                ));
            }
        }
    }
    let mut total_limit: Option<i64> = None;
    for container in tree.list("spec.containers") {
        let limit = container
            .at("resources.limits")
            .get("ephemeral-storage")
            .and_then(Quantity::from_tree)
            .filter(|limit| !limit.is_zero());
        let Some(limit) = limit else { continue };
        // As upstream: who has none adds nothing, and the pod still has a limit.
        total_limit = Some(total_limit.unwrap_or(0).saturating_add(limit.units()));
        let name = container.str("name");
        let id = snapshot.containers.get(name).and_then(|ids| ids.current.clone());
        let Some(id) = id else { continue };
        let stats = shared.runtime.container_stats(&id, true).await.ok()?;
        let pod = snapshot.pod.as_ref()?;
        let logs = shared.config.pod_log_directory(&pod.namespace, &pod.name, uid).join(name);
        let log_bytes = rt::unblock(move || directory_size(&logs).0).await;
        if stats.writable_bytes.saturating_add(log_bytes)
            > u64::try_from(limit.units()).unwrap_or(u64::MAX)
        {
            return Some(format!(
                "Container {name} exceeded its local ephemeral storage limit \"{limit}\". "
            ));
        }
    }
    let limit = total_limit.filter(|limit| *limit > 0)?;
    let used = disk_usage(shared, uid, snapshot).await;
    (used > u64::try_from(limit).unwrap_or(u64::MAX)).then(|| {
        let limit = Quantity::from_bytes(limit);
        format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. ")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greediest_and_least_important_go_first() {
        let candidate = |idx, usage, request, priority| Candidate { idx, usage, request, priority };
        let mut all = vec![
            candidate(0, 50, 100, 0),
            candidate(1, 200, 100, 10),
            candidate(2, 150, 100, 0),
            candidate(3, 300, 100, 0),
            candidate(4, 60, 100, -5),
        ];
        rank(&mut all);
        assert_eq!(all.iter().map(|c| c.idx).collect::<Vec<_>>(), [3, 2, 1, 4, 0]);
    }

    #[test]
    fn soft_floors_count_after_their_time() {
        let (mut since, grace) = ([None; 4], [Duration::from_secs(30); 4]);
        let at = |secs: u64| Mono(secs * 1_000_000_000);
        let disk = [false, true, false, false];
        assert_eq!(soft_met(&mut since, disk, &grace, at(10)), [false; 4]);
        assert_eq!(soft_met(&mut since, disk, &grace, at(30)), [false; 4]);
        assert_eq!(soft_met(&mut since, disk, &grace, at(40)), disk);
        assert_eq!(soft_met(&mut since, [false; 4], &grace, at(50)), [false; 4]);
        assert_eq!(soft_met(&mut since, disk, &grace, at(60)), [false; 4], "it begins anew");
    }

    #[test]
    fn figures_are_read() {
        let figures = Figures::read(std::path::Path::new("/"));
        assert!(figures.memory_available > 0 && figures.disk_total > 0 && figures.pids_free > 0);
    }
}
