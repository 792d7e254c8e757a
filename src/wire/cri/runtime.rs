//! The runtime as a whole.

use stdx::OrdMap;

use super::CgroupDriver;
use crate::message::messages;

messages! {
    VersionRequest {
        1 version: String,
    }

    VersionResponse {
        1 version: String,
        2 runtime_name: String,
        3 runtime_version: String,
        4 runtime_api_version: String,
    }

    NetworkConfig {
        1 pod_cidr: String,
    }

    RuntimeConfig {
        1 network_config: NetworkConfig,
    }

    UpdateRuntimeConfigRequest {
        1 runtime_config: RuntimeConfig,
    }

    UpdateRuntimeConfigResponse {}

    RuntimeCondition {
        1 kind: String,
        2 status: bool,
        3 reason: String,
        4 message: String,
    }

    RuntimeStatus {
        1 conditions: Vec<RuntimeCondition>,
    }

    StatusRequest {
        1 verbose: bool,
    }

    RuntimeHandlerFeatures {
        1 recursive_read_only_mounts: bool,
        2 user_namespaces: bool,
    }

    RuntimeHandler {
        1 name: String,
        2 features: RuntimeHandlerFeatures,
    }

    RuntimeFeatures {
        1 supplemental_groups_policy: bool,
    }

    StatusResponse {
        1 status: RuntimeStatus,
        2 info: OrdMap<String, String>,
        3 runtime_handlers: Vec<RuntimeHandler>,
        4 features: RuntimeFeatures,
    }

    RuntimeConfigRequest {}

    RuntimeConfigResponse {
        1 linux: LinuxRuntimeConfiguration,
    }

    LinuxRuntimeConfiguration {
        1 cgroup_driver: CgroupDriver,
    }
}
