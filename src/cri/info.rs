//! What the runtime says of itself.

use serde_json::json;
use stdx::OrdMap;
use wire::cri::{
    CgroupDriver, LinuxRuntimeConfiguration, RuntimeCondition, RuntimeConfigResponse,
    RuntimeFeatures, RuntimeHandler, RuntimeHandlerFeatures, RuntimeStatus, StatusRequest,
    StatusResponse, VersionResponse,
};

use crate::Shared;

impl Shared {
    pub(crate) fn version(&self) -> VersionResponse {
        VersionResponse {
            // The version of the kubelet's side of the protocol, as containerd has it.
            version: "0.1.0".into(),
            // The name is what tools look for; the version tells who answers.
            runtime_name: "containerd".into(),
            runtime_version: self.config.version.clone(),
            runtime_api_version: "v1".into(),
        }
    }

    pub(crate) fn status(&self, request: &StatusRequest) -> StatusResponse {
        let condition = |kind: &str, failed: Option<(&str, String)>| RuntimeCondition {
            kind: kind.into(),
            status: failed.is_none(),
            reason: failed.as_ref().map(|(reason, _)| (*reason).into()).unwrap_or_default(),
            message: failed.map(|(_, message)| message).unwrap_or_default(),
        };
        let network = self.network.not_ready().map(|why| ("NetworkPluginNotReady", why));
        let handler = |name: &str| RuntimeHandler {
            name: name.into(),
            features: RuntimeHandlerFeatures {
                recursive_read_only_mounts: true,
                user_namespaces: false,
            },
        };
        StatusResponse {
            status: RuntimeStatus {
                conditions: vec![
                    condition("RuntimeReady", None),
                    condition("NetworkReady", network),
                ],
            },
            info: if request.verbose { self.verbose_info() } else { OrdMap::new() },
            runtime_handlers: vec![handler(""), handler("runc")],
            features: RuntimeFeatures { supplemental_groups_policy: true },
        }
    }

    /// What `crictl info` shows: JSON texts by name.
    fn verbose_info(&self) -> OrdMap<String, String> {
        let root = self.config.images.display().to_string();
        let config = json!({
            "containerd": {
                "snapshotter": "overlayfs",
                "defaultRuntimeName": "runc",
                "runtimes": {"runc": {"runtimeType": "io.k3rs.shim.v1", "snapshotter": ""}},
            },
            "enableSelinux": false,
            "disableApparmor": true,
            "streamServerAddress": "127.0.0.1",
            "streamServerPort": "0",
            "containerdRootDir": root,
            "rootDir": root,
            "stateDir": self.config.state.display().to_string(),
        });
        [
            ("config", config.to_string()),
            (
                "lastCNILoadStatus",
                json!(self.network.not_ready().unwrap_or("OK".into())).to_string(),
            ),
        ]
        .into_iter()
        .map(|(name, text)| (name.to_owned(), text))
        .collect()
    }

    pub(crate) fn runtime_config(&self) -> RuntimeConfigResponse {
        RuntimeConfigResponse {
            linux: LinuxRuntimeConfiguration { cgroup_driver: CgroupDriver::CGROUPFS },
        }
    }
}
