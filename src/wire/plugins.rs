//! What a kubelet says to device plugins and they to it (v1beta1), and what it tells monitors of who has which device
//! (the pod resources API, v1).
//!
//! Tables as `message` reads and writes them, in the protocols' words.

use stdx::OrdMap;

use crate::message::{Packed, messages};

/// What the paths of the methods begin with.
pub const REGISTRATION: &str = "/v1beta1.Registration/";
pub const DEVICE_PLUGIN: &str = "/v1beta1.DevicePlugin/";
pub const POD_RESOURCES: &str = "/v1.PodResourcesLister/";

messages! {
    PluginOptions {
        1 pre_start_required: bool,
        2 get_preferred_allocation_available: bool,
    }

    RegisterRequest {
        1 version: String,
        2 endpoint: String,
        3 resource_name: String,
        4 options: PluginOptions,
    }

    ListAndWatchResponse {
        1 devices: Vec<Device>,
    }

    Device {
        1 id: String,
        2 health: String,
        3 topology: Option<Topology>,
    }

    Topology {
        1 nodes: Vec<NumaNode>,
    }

    NumaNode {
        1 id: i64,
    }

    PreferredAllocationRequest {
        1 container_requests: Vec<Preference>,
    }

    Preference {
        1 available: Vec<String>,
        2 must_include: Vec<String>,
        3 allocation_size: i32,
    }

    /// Of an allocation, a preference, a start: devices by their ids.
    DeviceIds {
        1 ids: Vec<String>,
    }

    /// What is asked for each of some containers, and what was preferred for it.
    OfContainers {
        1 containers: Vec<DeviceIds>,
    }

    AllocateResponse {
        1 containers: Vec<Allocated>,
    }

    /// What a container with its devices gets.
    Allocated {
        1 envs: OrdMap<String, String>,
        2 mounts: Vec<HostPath>,
        3 devices: Vec<DeviceSpec>,
        4 annotations: OrdMap<String, String>,
        5 cdi_devices: Vec<Named>,
    }

    HostPath {
        1 container_path: String,
        2 host_path: String,
        3 read_only: bool,
    }

    DeviceSpec {
        1 container_path: String,
        2 host_path: String,
        3 permissions: String,
    }

    Named {
        1 name: String,
    }

    /// What a kubelet keeps of an allocation: no protocol's, only its own file's.
    Holding {
        1 container: String,
        2 resource: String,
        3 ids: Vec<String>,
        4 gets: Allocated,
    }

    Holdings {
        1 all: Vec<Holding>,
    }

    ListPodResourcesResponse {
        1 pods: Vec<PodResources>,
    }

    PodResources {
        1 name: String,
        2 namespace: String,
        3 containers: Vec<ContainerResources>,
    }

    ContainerResources {
        1 name: String,
        2 devices: Vec<ContainerDevices>,
        3 cpu_ids: Packed,
    }

    ContainerDevices {
        1 resource_name: String,
        2 ids: Vec<String>,
        3 topology: Option<Topology>,
    }

    AllocatableResourcesResponse {
        1 devices: Vec<ContainerDevices>,
        2 cpu_ids: Packed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    #[test]
    fn an_allocation_is_read_as_a_plugin_writes_it() {
        // Environment A=b, and /dev/x at /dev/y with rw.
        let bytes =
            b"\x0a\x1e\x0a\x06\x0a\x01A\x12\x01b\x1a\x14\x0a\x06/dev/y\x12\x06/dev/x\x1a\x02rw";
        let read = AllocateResponse::decode(&bytes[..], 10).unwrap();
        let [one] = &read.containers[..] else { panic!("{read:?}") };
        assert_eq!(one.envs["A"], "b");
        assert_eq!((&*one.devices[0].host_path, &*one.devices[0].permissions), ("/dev/x", "rw"));
        assert_eq!(AllocateResponse::decode(&read.encode(), 10), Ok(read));
        assert!(AllocateResponse::decode(&bytes[..], 2).is_err(), "items are bounded");
    }
}
