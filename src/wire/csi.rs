//! What a kubelet says to plugins on its node: their registration, and the node's half of the Container Storage Interface 1.x.
//!
//! Tables as `message` reads and writes them, in the protocols' words. Secrets cannot be printed.

use stdx::{OrdMap, Sensitive};

use crate::message::{messages, one_of, open_enums};

/// What the paths of the methods begin with.
pub const REGISTRATION: &str = "/pluginregistration.Registration/";
pub const NODE: &str = "/csi.v1.Node/";

open_enums! {
    AccessMode {
        SINGLE_NODE_WRITER = 1,
        SINGLE_NODE_READER_ONLY = 2,
        MULTI_NODE_READER_ONLY = 3,
        MULTI_NODE_SINGLE_WRITER = 4,
        MULTI_NODE_MULTI_WRITER = 5,
        SINGLE_NODE_SINGLE_WRITER = 6,
        SINGLE_NODE_MULTI_WRITER = 7,
    }
    Capability {
        STAGE_UNSTAGE_VOLUME = 1,
        GET_VOLUME_STATS = 2,
        EXPAND_VOLUME = 3,
        VOLUME_CONDITION = 4,
        SINGLE_NODE_MULTI_WRITER = 5,
        VOLUME_MOUNT_GROUP = 6,
    }
    Unit { BYTES = 1, INODES = 2, }
}

one_of! {
    /// How a volume is to be used: raw, or with its file system.
    Access {
        1 Block(Empty),
        2 Mount(MountVolume),
    }
}

messages! {
    Empty {}

    PluginInfo {
        1 kind: String,
        2 name: String,
        3 endpoint: String,
        4 supported_versions: Vec<String>,
    }

    RegistrationStatus {
        1 plugin_registered: bool,
        2 error: String,
    }

    /// An entry of a map of secrets.
    Secret {
        1 key: String,
        2 value: Sensitive,
    }

    MountVolume {
        1 fs_type: String,
        2 mount_flags: Vec<String>,
        3 volume_mount_group: String,
    }

    Mode {
        1 mode: AccessMode,
    }

    Topology {
        1 segments: OrdMap<String, String>,
    }

    NodeGetInfoResponse {
        1 node_id: String,
        2 max_volumes_per_node: i64,
        3 accessible_topology: Option<Topology>,
    }

    NodeGetCapabilitiesResponse {
        1 capabilities: Vec<NodeServiceCapability>,
    }

    NodeServiceCapability {
        1 rpc: Rpc,
    }

    Rpc {
        1 kind: Capability,
    }

    NodeUnstageVolumeRequest {
        1 volume_id: String,
        2 staging_target_path: String,
    }

    NodeUnpublishVolumeRequest {
        1 volume_id: String,
        2 target_path: String,
    }

    NodeGetVolumeStatsRequest {
        1 volume_id: String,
        2 volume_path: String,
        3 staging_target_path: String,
    }

    NodeGetVolumeStatsResponse {
        1 usage: Vec<VolumeUsage>,
    }

    VolumeUsage {
        1 available: i64,
        2 total: i64,
        3 used: i64,
        4 unit: Unit,
    }

    CapacityRange {
        1 required_bytes: i64,
        2 limit_bytes: i64,
    }

    NodeExpandVolumeResponse {
        1 capacity_bytes: i64,
    }
}

/// `VolumeCapability`: a choice and a mode in one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeCapability {
    pub access: Access,
    pub mode: Mode,
}

impl crate::message::Message for VolumeCapability {
    fn put_fields(&self, out: &mut Vec<u8>) {
        self.access.put_fields(out);
        crate::message::put_all(&[(3, &self.mode)], out);
    }
    fn field(&mut self, number: u32) -> Option<&mut dyn crate::message::Field> {
        match number {
            3 => Some(&mut self.mode),
            number => self.access.field(number),
        }
    }
}
crate::message::embedded!(VolumeCapability);

messages! {
    NodeStageVolumeRequest {
        1 volume_id: String,
        2 publish_context: OrdMap<String, String>,
        3 staging_target_path: String,
        4 volume_capability: VolumeCapability,
        5 secrets: Vec<Secret>,
        6 volume_context: OrdMap<String, String>,
    }

    NodePublishVolumeRequest {
        1 volume_id: String,
        2 publish_context: OrdMap<String, String>,
        3 staging_target_path: String,
        4 target_path: String,
        5 volume_capability: VolumeCapability,
        6 readonly: bool,
        7 secrets: Vec<Secret>,
        8 volume_context: OrdMap<String, String>,
    }

    NodeExpandVolumeRequest {
        1 volume_id: String,
        2 volume_path: String,
        3 capacity_range: CapacityRange,
        4 staging_target_path: String,
        5 volume_capability: VolumeCapability,
        6 secrets: Vec<Secret>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use stdx::prng::Prng;

    #[test]
    fn a_request_is_written_as_drivers_read_it() {
        let mount = MountVolume { fs_type: "xfs".into(), ..MountVolume::default() };
        let request = NodePublishVolumeRequest {
            volume_id: "v".into(),
            volume_capability: VolumeCapability {
                access: Access::Mount(mount),
                mode: Mode { mode: AccessMode::SINGLE_NODE_WRITER },
            },
            secrets: vec![Secret { key: "k".into(), value: "hush".into() }],
            ..NodePublishVolumeRequest::default()
        };
        let bytes = request.encode();
        assert_eq!(
            bytes,
            b"\x0a\x01v\x2a\x0b\x12\x05\x0a\x03xfs\x1a\x02\x08\x01\x3a\x09\x0a\x01k\x12\x04hush"
        );
        assert_eq!(NodePublishVolumeRequest::decode(&bytes, 9), Ok(request.clone()));
        assert!(!format!("{request:?}").contains("hush"));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut prng = Prng::new(11);
        for _ in 0..20_000 {
            let mut bytes = vec![0; usize::try_from(prng.below(60)).unwrap_or(0)];
            prng.fill(&mut bytes);
            let _ = NodePublishVolumeRequest::decode(&bytes, 100);
            let _ = NodeGetInfoResponse::decode(&bytes, 100);
            let _ = PluginInfo::decode(&bytes, 100);
            let _ = NodeGetCapabilitiesResponse::decode(&bytes, 100);
        }
    }
}
