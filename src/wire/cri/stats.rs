//! What pods, containers and images use.

use stdx::OrdMap;

use super::{ContainerMetadata, MetricType, PodSandboxMetadata};
use crate::message::messages;

messages! {
    Int64Value {
        1 value: i64,
    }

    PodSandboxStatsRequest {
        1 pod_sandbox_id: String,
    }

    PodSandboxStatsResponse {
        1 stats: PodSandboxStats,
    }

    PodSandboxStatsFilter {
        1 id: String,
        2 label_selector: OrdMap<String, String>,
    }

    ListPodSandboxStatsRequest {
        1 filter: PodSandboxStatsFilter,
    }

    ListPodSandboxStatsResponse {
        1 stats: Vec<PodSandboxStats>,
    }

    PodSandboxAttributes {
        1 id: String,
        2 metadata: PodSandboxMetadata,
        3 labels: OrdMap<String, String>,
        4 annotations: OrdMap<String, String>,
    }

    PodSandboxStats {
        1 attributes: PodSandboxAttributes,
        2 linux: Option<LinuxPodSandboxStats>,
    }

    LinuxPodSandboxStats {
        1 cpu: Option<CpuUsage>,
        2 memory: Option<MemoryUsage>,
        3 network: Option<NetworkUsage>,
        4 process: Option<ProcessUsage>,
        5 containers: Vec<ContainerStats>,
    }

    NetworkUsage {
        1 timestamp: i64,
        2 default_interface: Option<NetworkInterfaceUsage>,
        3 interfaces: Vec<NetworkInterfaceUsage>,
    }

    NetworkInterfaceUsage {
        1 name: String,
        2 rx_bytes: Option<UInt64Value>,
        3 rx_errors: Option<UInt64Value>,
        4 tx_bytes: Option<UInt64Value>,
        5 tx_errors: Option<UInt64Value>,
    }

    ProcessUsage {
        1 timestamp: i64,
        2 process_count: Option<UInt64Value>,
    }

    UInt64Value {
        1 value: u64,
    }

    FilesystemIdentifier {
        1 mountpoint: String,
    }

    FilesystemUsage {
        1 timestamp: i64,
        2 fs_id: FilesystemIdentifier,
        3 used_bytes: Option<UInt64Value>,
        4 inodes_used: Option<UInt64Value>,
    }

    ContainerStatsRequest {
        1 container_id: String,
    }

    ContainerStatsResponse {
        1 stats: ContainerStats,
    }

    ListContainerStatsRequest {
        1 filter: ContainerStatsFilter,
    }

    ContainerStatsFilter {
        1 id: String,
        2 pod_sandbox_id: String,
        3 label_selector: OrdMap<String, String>,
    }

    ListContainerStatsResponse {
        1 stats: Vec<ContainerStats>,
    }

    ContainerAttributes {
        1 id: String,
        2 metadata: ContainerMetadata,
        3 labels: OrdMap<String, String>,
        4 annotations: OrdMap<String, String>,
    }

    ContainerStats {
        1 attributes: ContainerAttributes,
        2 cpu: Option<CpuUsage>,
        3 memory: Option<MemoryUsage>,
        4 writable_layer: Option<FilesystemUsage>,
        5 swap: Option<SwapUsage>,
    }

    CpuUsage {
        1 timestamp: i64,
        2 usage_core_nano_seconds: Option<UInt64Value>,
        3 usage_nano_cores: Option<UInt64Value>,
    }

    MemoryUsage {
        1 timestamp: i64,
        2 working_set_bytes: Option<UInt64Value>,
        3 available_bytes: Option<UInt64Value>,
        4 usage_bytes: Option<UInt64Value>,
        5 rss_bytes: Option<UInt64Value>,
        6 page_faults: Option<UInt64Value>,
        7 major_page_faults: Option<UInt64Value>,
    }

    SwapUsage {
        1 timestamp: i64,
        2 swap_available_bytes: Option<UInt64Value>,
        3 swap_usage_bytes: Option<UInt64Value>,
    }

    ListMetricDescriptorsRequest {}

    ListMetricDescriptorsResponse {
        1 descriptors: Vec<MetricDescriptor>,
    }

    MetricDescriptor {
        1 name: String,
        2 help: String,
        3 label_keys: Vec<String>,
    }

    ListPodSandboxMetricsRequest {}

    ListPodSandboxMetricsResponse {
        1 pod_metrics: Vec<PodSandboxMetrics>,
    }

    PodSandboxMetrics {
        1 pod_sandbox_id: String,
        2 metrics: Vec<Metric>,
        3 container_metrics: Vec<ContainerMetrics>,
    }

    ContainerMetrics {
        1 container_id: String,
        2 metrics: Vec<Metric>,
    }

    Metric {
        1 name: String,
        2 timestamp: i64,
        3 metric_type: MetricType,
        4 label_values: Vec<String>,
        5 value: Option<UInt64Value>,
    }
}
