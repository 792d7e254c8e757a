//! Containers: what they are made of, how they are, and processes in them.

use stdx::{OrdMap, Sensitive};

use super::{
    ContainerEventType, ContainerState, IDMapping, ImageSpec, Int64Value, MountPropagation,
    NamespaceOption, PodSandboxConfig, PodSandboxStatus, SecurityProfile, SupplementalGroupsPolicy,
};
use crate::message::{Bytes, Packed, messages};

messages! {
    Mount {
        1 container_path: String,
        2 host_path: String,
        3 readonly: bool,
        5 propagation: MountPropagation,
        6 uid_mappings: Vec<IDMapping>,
        7 gid_mappings: Vec<IDMapping>,
        8 recursive_read_only: bool,
        9 image: Option<ImageSpec>,
    }

    KeyValue {
        1 key: String,
        2 value: Sensitive,
    }

    LinuxContainerResources {
        1 cpu_period: i64,
        2 cpu_quota: i64,
        3 cpu_shares: i64,
        4 memory_limit_in_bytes: i64,
        5 oom_score_adj: i64,
        6 cpuset_cpus: String,
        7 cpuset_mems: String,
        8 hugepage_limits: Vec<HugepageLimit>,
        9 unified: OrdMap<String, String>,
        10 memory_swap_limit_in_bytes: i64,
    }

    HugepageLimit {
        1 page_size: String,
        2 limit: u64,
    }

    Capability {
        1 add_capabilities: Vec<String>,
        2 drop_capabilities: Vec<String>,
        3 add_ambient_capabilities: Vec<String>,
    }

    LinuxContainerSecurityContext {
        1 capabilities: Capability,
        2 privileged: bool,
        3 namespace_options: Option<NamespaceOption>,
        5 run_as_user: Option<Int64Value>,
        12 run_as_group: Option<Int64Value>,
        6 run_as_username: String,
        7 readonly_rootfs: bool,
        8 supplemental_groups: Packed,
        17 supplemental_groups_policy: SupplementalGroupsPolicy,
        11 no_new_privs: bool,
        13 masked_paths: Vec<String>,
        14 readonly_paths: Vec<String>,
        15 seccomp: Option<SecurityProfile>,
        16 apparmor: Option<SecurityProfile>,
        9 apparmor_profile: String,
        10 seccomp_profile_path: String,
    }

    LinuxContainerConfig {
        1 resources: LinuxContainerResources,
        2 security_context: LinuxContainerSecurityContext,
    }

    LinuxContainerUser {
        1 uid: i64,
        2 gid: i64,
        3 supplemental_groups: Packed,
    }

    ContainerMetadata {
        1 name: String,
        2 attempt: u32,
    }

    Device {
        1 container_path: String,
        2 host_path: String,
        3 permissions: String,
    }

    CDIDevice {
        1 name: String,
    }

    ContainerConfig {
        1 metadata: ContainerMetadata,
        2 image: ImageSpec,
        3 command: Vec<Sensitive>,
        4 args: Vec<Sensitive>,
        5 working_dir: String,
        6 envs: Vec<KeyValue>,
        7 mounts: Vec<Mount>,
        8 devices: Vec<Device>,
        9 labels: OrdMap<String, String>,
        10 annotations: OrdMap<String, String>,
        11 log_path: String,
        12 stdin: bool,
        13 stdin_once: bool,
        14 tty: bool,
        15 linux: LinuxContainerConfig,
        17 cdi_devices: Vec<CDIDevice>,
    }

    CreateContainerRequest {
        1 pod_sandbox_id: String,
        2 config: ContainerConfig,
        3 sandbox_config: PodSandboxConfig,
    }

    CreateContainerResponse {
        1 container_id: String,
    }

    StartContainerRequest {
        1 container_id: String,
    }

    StartContainerResponse {}

    StopContainerRequest {
        1 container_id: String,
        2 timeout: i64,
    }

    StopContainerResponse {}

    RemoveContainerRequest {
        1 container_id: String,
    }

    RemoveContainerResponse {}

    ContainerStateValue {
        1 state: ContainerState,
    }

    ContainerFilter {
        1 id: String,
        2 state: Option<ContainerStateValue>,
        3 pod_sandbox_id: String,
        4 label_selector: OrdMap<String, String>,
    }

    ListContainersRequest {
        1 filter: ContainerFilter,
    }

    Container {
        1 id: String,
        2 pod_sandbox_id: String,
        3 metadata: ContainerMetadata,
        4 image: ImageSpec,
        5 image_ref: String,
        6 state: ContainerState,
        7 created_at: i64,
        8 labels: OrdMap<String, String>,
        9 annotations: OrdMap<String, String>,
        10 image_id: String,
    }

    ListContainersResponse {
        1 containers: Vec<Container>,
    }

    ContainerStatusRequest {
        1 container_id: String,
        2 verbose: bool,
    }

    ContainerStatus {
        1 id: String,
        2 metadata: ContainerMetadata,
        3 state: ContainerState,
        4 created_at: i64,
        5 started_at: i64,
        6 finished_at: i64,
        7 exit_code: i32,
        8 image: ImageSpec,
        9 image_ref: String,
        10 reason: String,
        11 message: String,
        12 labels: OrdMap<String, String>,
        13 annotations: OrdMap<String, String>,
        14 mounts: Vec<Mount>,
        15 log_path: String,
        16 resources: Option<ContainerResources>,
        17 image_id: String,
        18 user: Option<ContainerUser>,
    }

    ContainerStatusResponse {
        1 status: ContainerStatus,
        2 info: OrdMap<String, String>,
    }

    ContainerResources {
        1 linux: LinuxContainerResources,
    }

    ContainerUser {
        1 linux: LinuxContainerUser,
    }

    UpdateContainerResourcesRequest {
        1 container_id: String,
        2 linux: Option<LinuxContainerResources>,
        4 annotations: OrdMap<String, String>,
    }

    UpdateContainerResourcesResponse {}

    ExecSyncRequest {
        1 container_id: String,
        2 cmd: Vec<String>,
        3 timeout: i64,
    }

    ExecSyncResponse {
        1 stdout: Bytes,
        2 stderr: Bytes,
        3 exit_code: i32,
    }

    ExecRequest {
        1 container_id: String,
        2 cmd: Vec<String>,
        3 tty: bool,
        4 stdin: bool,
        5 stdout: bool,
        6 stderr: bool,
    }

    ExecResponse {
        1 url: String,
    }

    AttachRequest {
        1 container_id: String,
        2 stdin: bool,
        3 tty: bool,
        4 stdout: bool,
        5 stderr: bool,
    }

    AttachResponse {
        1 url: String,
    }

    ReopenContainerLogRequest {
        1 container_id: String,
    }

    ReopenContainerLogResponse {}

    CheckpointContainerRequest {
        1 container_id: String,
        2 location: String,
        3 timeout: i64,
    }

    CheckpointContainerResponse {}

    GetEventsRequest {}

    ContainerEventResponse {
        1 container_id: String,
        2 container_event_type: ContainerEventType,
        3 created_at: i64,
        4 pod_sandbox_status: Option<PodSandboxStatus>,
        5 containers_statuses: Vec<ContainerStatus>,
    }
}
