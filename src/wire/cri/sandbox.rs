//! Pods' sandboxes: what they share, and how they are.

use stdx::OrdMap;

use super::{
    ContainerStatus, Int64Value, LinuxContainerResources, NamespaceMode, PodSandboxState,
    ProfileType, Protocol, SupplementalGroupsPolicy,
};
use crate::message::{Packed, messages};

messages! {
    DNSConfig {
        1 servers: Vec<String>,
        2 searches: Vec<String>,
        3 options: Vec<String>,
    }

    PortMapping {
        1 protocol: Protocol,
        2 container_port: i32,
        3 host_port: i32,
        4 host_ip: String,
    }

    IDMapping {
        1 host_id: u32,
        2 container_id: u32,
        3 length: u32,
    }

    UserNamespace {
        1 mode: NamespaceMode,
        2 uids: Vec<IDMapping>,
        3 gids: Vec<IDMapping>,
    }

    NamespaceOption {
        1 network: NamespaceMode,
        2 pid: NamespaceMode,
        3 ipc: NamespaceMode,
        4 target_id: String,
        5 userns_options: Option<UserNamespace>,
    }

    LinuxSandboxSecurityContext {
        1 namespace_options: Option<NamespaceOption>,
        3 run_as_user: Option<Int64Value>,
        8 run_as_group: Option<Int64Value>,
        4 readonly_rootfs: bool,
        5 supplemental_groups: Packed,
        11 supplemental_groups_policy: SupplementalGroupsPolicy,
        6 privileged: bool,
        9 seccomp: Option<SecurityProfile>,
        10 apparmor: Option<SecurityProfile>,
        7 seccomp_profile_path: String,
    }

    SecurityProfile {
        1 profile_type: ProfileType,
        2 localhost_ref: String,
    }

    LinuxPodSandboxConfig {
        1 cgroup_parent: String,
        2 security_context: LinuxSandboxSecurityContext,
        3 sysctls: OrdMap<String, String>,
        4 overhead: LinuxContainerResources,
        5 resources: LinuxContainerResources,
    }

    PodSandboxMetadata {
        1 name: String,
        2 uid: String,
        3 namespace: String,
        4 attempt: u32,
    }

    PodSandboxConfig {
        1 metadata: PodSandboxMetadata,
        2 hostname: String,
        3 log_directory: String,
        4 dns_config: DNSConfig,
        5 port_mappings: Vec<PortMapping>,
        6 labels: OrdMap<String, String>,
        7 annotations: OrdMap<String, String>,
        8 linux: LinuxPodSandboxConfig,
    }

    RunPodSandboxRequest {
        1 config: PodSandboxConfig,
        2 runtime_handler: String,
    }

    RunPodSandboxResponse {
        1 pod_sandbox_id: String,
    }

    StopPodSandboxRequest {
        1 pod_sandbox_id: String,
    }

    StopPodSandboxResponse {}

    RemovePodSandboxRequest {
        1 pod_sandbox_id: String,
    }

    RemovePodSandboxResponse {}

    PodSandboxStatusRequest {
        1 pod_sandbox_id: String,
        2 verbose: bool,
    }

    PodIP {
        1 ip: String,
    }

    PodSandboxNetworkStatus {
        1 ip: String,
        2 additional_ips: Vec<PodIP>,
    }

    Namespace {
        2 options: NamespaceOption,
    }

    LinuxPodSandboxStatus {
        1 namespaces: Namespace,
    }

    PodSandboxStatus {
        1 id: String,
        2 metadata: PodSandboxMetadata,
        3 state: PodSandboxState,
        4 created_at: i64,
        5 network: Option<PodSandboxNetworkStatus>,
        6 linux: LinuxPodSandboxStatus,
        7 labels: OrdMap<String, String>,
        8 annotations: OrdMap<String, String>,
        9 runtime_handler: String,
    }

    PodSandboxStatusResponse {
        1 status: PodSandboxStatus,
        2 info: OrdMap<String, String>,
        3 containers_statuses: Vec<ContainerStatus>,
        4 timestamp: i64,
    }

    PodSandboxStateValue {
        1 state: PodSandboxState,
    }

    PodSandboxFilter {
        1 id: String,
        2 state: Option<PodSandboxStateValue>,
        3 label_selector: OrdMap<String, String>,
    }

    ListPodSandboxRequest {
        1 filter: PodSandboxFilter,
    }

    PodSandbox {
        1 id: String,
        2 metadata: PodSandboxMetadata,
        3 state: PodSandboxState,
        4 created_at: i64,
        5 labels: OrdMap<String, String>,
        6 annotations: OrdMap<String, String>,
        7 runtime_handler: String,
    }

    ListPodSandboxResponse {
        1 items: Vec<PodSandbox>,
    }

    PortForwardRequest {
        1 pod_sandbox_id: String,
        2 port: Packed,
    }

    PortForwardResponse {
        1 url: String,
    }
}
