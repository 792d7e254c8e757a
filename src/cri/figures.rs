//! What containers and sandboxes use, as CRI's statistics and metrics have it.
//!
//! Read when somebody asks, from cgroups and writable layers. The rate of CPU is what was used since the last time
//! that somebody asked, so one number is kept for each container that was asked for.

use runtime::{ContainerStatus, Id, SandboxStatus, Stats};
use stdx::time::Mono;
use wire::cri::{
    ContainerAttributes, ContainerMetrics, ContainerStats, ContainerStatsFilter,
    ContainerStatsRequest, ContainerStatsResponse, CpuUsage, FilesystemIdentifier, FilesystemUsage,
    LinuxPodSandboxStats, ListContainerStatsRequest, ListContainerStatsResponse,
    ListMetricDescriptorsResponse, ListPodSandboxMetricsResponse, ListPodSandboxStatsRequest,
    ListPodSandboxStatsResponse, MemoryUsage, Metric, MetricDescriptor, MetricType,
    NetworkInterfaceUsage, NetworkUsage, PodSandboxAttributes, PodSandboxMetrics, PodSandboxStats,
    PodSandboxStatsRequest, PodSandboxStatsResponse, ProcessUsage, UInt64Value,
};

use crate::refusal::Answer;
use crate::{Shared, lock, shown};

/// A reading of CPU time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    at: Mono,
    cpu_ns: u64,
}

/// A figure of a container by the name that cAdvisor gives it.
struct Figure {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    read: fn(&Stats) -> u64,
}

const LABELS: [&str; 3] = ["id", "name", "image"];

const FIGURES: [Figure; 6] = [
    Figure {
        name: "container_cpu_usage_seconds_total",
        help: "Cumulative cpu time consumed in seconds.",
        kind: MetricType::COUNTER,
        read: |stats| stats.cpu.usage_ns / 1_000_000_000,
    },
    Figure {
        name: "container_memory_usage_bytes",
        help: "Current memory usage in bytes, including all memory regardless of when it was accessed",
        kind: MetricType::GAUGE,
        read: |stats| stats.memory.usage_bytes,
    },
    Figure {
        name: "container_memory_working_set_bytes",
        help: "Current working set in bytes.",
        kind: MetricType::GAUGE,
        read: |stats| stats.memory.working_set_bytes,
    },
    Figure {
        name: "container_memory_rss",
        help: "Size of RSS in bytes.",
        kind: MetricType::GAUGE,
        read: |stats| stats.memory.rss_bytes,
    },
    Figure {
        name: "container_memory_failures_total",
        help: "Cumulative count of memory allocation failures.",
        kind: MetricType::COUNTER,
        read: |stats| stats.memory.page_faults,
    },
    Figure {
        name: "container_processes",
        help: "Number of processes running inside the container.",
        kind: MetricType::GAUGE,
        read: |stats| stats.pids.current,
    },
];

fn number(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

impl Shared {
    pub(crate) async fn container_stats(
        &self,
        request: &ContainerStatsRequest,
    ) -> Answer<ContainerStatsResponse> {
        let container = self.container(&request.container_id)?;
        Ok(ContainerStatsResponse { stats: self.stats_of(&container).await? })
    }

    /// Of those that run, as containerd has it. One that ends meanwhile is left out.
    pub(crate) async fn list_container_stats(
        &self,
        request: &ListContainerStatsRequest,
    ) -> ListContainerStatsResponse {
        let filter = &request.filter;
        let mut containers = self.runtime.containers();
        lock(&self.sampled).retain(|id, _| containers.iter().any(|one| one.id == *id));
        // Those that have ended, too, with nothing but their names, as containerd has it.
        containers.retain(|one| is_wanted(filter, one));
        let mut stats = Vec::new();
        for container in containers {
            stats.extend(self.stats_of(&container).await.ok());
        }
        ListContainerStatsResponse { stats }
    }

    async fn stats_of(&self, container: &ContainerStatus) -> Answer<ContainerStats> {
        let attributes = ContainerAttributes {
            id: container.id.to_string(),
            metadata: shown::container_metadata(container),
            labels: container.labels.clone(),
            annotations: container.annotations.clone(),
        };
        if container.exit().is_some() {
            return Ok(ContainerStats { attributes, ..ContainerStats::default() });
        }
        let stats = self.runtime.container_stats(&container.id, true).await?;
        let rate = self.sampled(&container.id, stats.cpu.usage_ns);
        let writable_layer = FilesystemUsage {
            timestamp: stats.at.0,
            fs_id: FilesystemIdentifier { mountpoint: self.config.images.display().to_string() },
            used_bytes: number(stats.writable_bytes),
            inodes_used: number(stats.writable_inodes),
        };
        Ok(ContainerStats {
            attributes,
            cpu: Some(cpu(&stats, rate)),
            memory: Some(memory(&stats)),
            writable_layer: Some(writable_layer),
            swap: None,
        })
    }

    /// Nanoseconds of CPU a second since the last reading; `None` the first time.
    fn sampled(&self, id: &Id, cpu_ns: u64) -> Option<u64> {
        let sample = Sample { at: rt::now().mono, cpu_ns };
        let old = lock(&self.sampled).insert(id.clone(), sample)?;
        rate(old, sample)
    }

    pub(crate) async fn sandbox_stats(
        &self,
        request: &PodSandboxStatsRequest,
    ) -> Answer<PodSandboxStatsResponse> {
        let sandbox = self.sandbox(&request.pod_sandbox_id)?;
        Ok(PodSandboxStatsResponse { stats: self.stats_of_sandbox(&sandbox).await })
    }

    pub(crate) async fn list_sandbox_stats(
        &self,
        request: &ListPodSandboxStatsRequest,
    ) -> ListPodSandboxStatsResponse {
        let filter = &request.filter;
        let mut stats = Vec::new();
        for sandbox in self.runtime.sandboxes() {
            if sandbox.state == runtime::SandboxState::Ready
                && sandbox.id.starts_with(&filter.id)
                && shown::selects(&filter.label_selector, &sandbox.labels)
            {
                stats.push(self.stats_of_sandbox(&sandbox).await);
            }
        }
        ListPodSandboxStatsResponse { stats }
    }

    /// What cannot be read, because the sandbox ends, is left out.
    async fn stats_of_sandbox(&self, sandbox: &SandboxStatus) -> PodSandboxStats {
        let attributes = PodSandboxAttributes {
            id: sandbox.id.to_string(),
            metadata: shown::sandbox_metadata(sandbox),
            labels: sandbox.labels.clone(),
            annotations: sandbox.annotations.clone(),
        };
        let filter =
            ContainerStatsFilter { pod_sandbox_id: sandbox.id.to_string(), ..Default::default() };
        let request = ListContainerStatsRequest { filter };
        let mut containers = self.list_container_stats(&request).await.stats;
        containers.retain(|one| one.cpu.is_some());
        let mut linux = LinuxPodSandboxStats { containers, ..LinuxPodSandboxStats::default() };
        if let Ok(stats) = self.runtime.cgroup_stats(&sandbox.cgroup_parent).await {
            let rate = self.sampled(&sandbox.id, stats.cpu.usage_ns);
            linux.cpu = Some(cpu(&stats, rate));
            linux.memory = Some(memory(&stats));
            linux.process = Some(ProcessUsage {
                timestamp: stats.at.0,
                process_count: number(stats.pids.current),
            });
        }
        if !sandbox.host_network {
            let path = format!("/proc/{}/net/dev", sandbox.shim_pid);
            let text = rt::unblock(move || rt::fs::read_small_text(path)).await;
            linux.network = text.ok().and_then(|text| network(&text));
        }
        PodSandboxStats { attributes, linux: Some(linux) }
    }

    pub(crate) fn metric_descriptors(&self) -> ListMetricDescriptorsResponse {
        let descriptors = FIGURES.iter().map(|figure| MetricDescriptor {
            name: figure.name.into(),
            help: figure.help.into(),
            label_keys: LABELS.iter().map(|label| (*label).to_owned()).collect(),
        });
        ListMetricDescriptorsResponse { descriptors: descriptors.collect() }
    }

    pub(crate) async fn list_metrics(&self) -> ListPodSandboxMetricsResponse {
        let mut pods: Vec<PodSandboxMetrics> = Vec::new();
        for container in self.runtime.containers() {
            if container.exit().is_some() {
                continue;
            }
            let Ok(stats) = self.runtime.container_stats(&container.id, false).await else {
                continue;
            };
            let at = match pods.iter().position(|pod| *pod.pod_sandbox_id == *container.sandbox) {
                Some(at) => at,
                None => {
                    let pod_sandbox_id = container.sandbox.to_string();
                    pods.push(PodSandboxMetrics { pod_sandbox_id, ..PodSandboxMetrics::default() });
                    pods.len() - 1
                }
            };
            let labels = [container.cgroup, container.name, container.image];
            let metrics = FIGURES.iter().map(|figure| Metric {
                name: figure.name.into(),
                timestamp: stats.at.0,
                metric_type: figure.kind,
                label_values: labels.to_vec(),
                value: number((figure.read)(&stats)),
            });
            pods[at].container_metrics.push(ContainerMetrics {
                container_id: container.id.to_string(),
                metrics: metrics.collect(),
            });
        }
        ListPodSandboxMetricsResponse { pod_metrics: pods }
    }
}

fn is_wanted(filter: &ContainerStatsFilter, container: &ContainerStatus) -> bool {
    container.id.starts_with(&filter.id)
        && container.sandbox.starts_with(&filter.pod_sandbox_id)
        && shown::selects(&filter.label_selector, &container.labels)
}

fn rate(old: Sample, new: Sample) -> Option<u64> {
    let elapsed = new.at.since(old.at).as_nanos();
    let used = u128::from(new.cpu_ns.checked_sub(old.cpu_ns)?);
    u64::try_from((used * 1_000_000_000).checked_div(elapsed)?).ok()
}

fn cpu(stats: &Stats, rate: Option<u64>) -> CpuUsage {
    CpuUsage {
        timestamp: stats.at.0,
        usage_core_nano_seconds: number(stats.cpu.usage_ns),
        usage_nano_cores: rate.and_then(number),
    }
}

fn memory(stats: &Stats) -> MemoryUsage {
    let memory = &stats.memory;
    let available = memory.limit_bytes.map(|limit| limit.saturating_sub(memory.working_set_bytes));
    MemoryUsage {
        timestamp: stats.at.0,
        working_set_bytes: number(memory.working_set_bytes),
        available_bytes: available.and_then(number),
        usage_bytes: number(memory.usage_bytes),
        rss_bytes: number(memory.rss_bytes),
        page_faults: number(memory.page_faults),
        major_page_faults: number(memory.major_page_faults),
    }
}

/// `eth0` of what `/proc/<pid>/net/dev` says.
fn network(text: &str) -> Option<NetworkUsage> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:"))?;
    let words: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let word = |at: usize| words.get(at).copied().and_then(number);
    let interface = NetworkInterfaceUsage {
        name: "eth0".into(),
        rx_bytes: word(0),
        rx_errors: word(2),
        tx_bytes: word(8),
        tx_errors: word(10),
    };
    Some(NetworkUsage {
        timestamp: rt::now().wall.0,
        default_interface: Some(interface.clone()),
        interfaces: vec![interface],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second_and_never_of_nothing() {
        let at = |ms: u64, cpu_ns| Sample { at: Mono(ms * 1_000_000), cpu_ns };
        assert_eq!(rate(at(0, 0), at(500, 250_000_000)), Some(500_000_000));
        assert_eq!(rate(at(5, 0), at(5, 9)), None, "no time has passed");
        assert_eq!(rate(at(0, 9), at(5, 0)), None, "the count began anew");
    }

    #[test]
    fn the_network_is_read_by_columns() {
        let text =
            "Inter-|\n face |\n    lo: 1 2 3 4 5 6 7 8 9\n  eth0: 10 1 2 0 0 0 0 0 20 1 3 0\n";
        let usage = network(text).unwrap().default_interface.unwrap();
        assert_eq!((usage.rx_bytes, usage.tx_bytes), (number(10), number(20)));
        assert_eq!((usage.rx_errors, usage.tx_errors), (number(2), number(3)));
        assert_eq!(network("lo: 1"), None);
    }
}
