//! The pod resources API: which container has which devices and CPUs, for monitors on this node.

use std::sync::Arc;

use api::Lens;
use podplan::Pod;
use stdx::OrdMap;
use wire::message::{Message, Packed};
use wire::plugins::{
    AllocatableResourcesResponse, ContainerDevices, ContainerResources, Holding,
    ListPodResourcesResponse, PodResources,
};

use super::{Devices, State};
use crate::cpus::Cpus;

/// What a method answers of the pods that live; `None` if there is none of this name. None of them looks at its request.
pub(crate) fn answer(
    devices: &Devices,
    cpus: Option<&Cpus>,
    method: &str,
    live: Vec<Arc<Pod>>,
) -> Option<Vec<u8>> {
    match method {
        "List" => Some(list(devices, cpus, live).encode()),
        "GetAllocatableResources" => Some(allocatable(devices, cpus).encode()),
        _ => None,
    }
}

fn list(devices: &Devices, cpus: Option<&Cpus>, live: Vec<Arc<Pod>>) -> ListPodResourcesResponse {
    let state = devices.state();
    let pods = live.into_iter().map(|pod| {
        let tree = pod.object.tree();
        let held = state.held.get(pod.object.uid()).map_or(&[][..], Vec::as_slice);
        // Of init containers only those that stay are shown, as upstream.
        let sidecars = tree.list("spec.initContainers").iter();
        let sidecars = sidecars.filter(|it| it.str("restartPolicy") == "Always");
        let containers = sidecars.chain(tree.list("spec.containers"));
        let exclusive = |name: &str| cpus.map(|cpus| cpus.exclusive(pod.object.uid(), name));
        PodResources {
            name: pod.name.clone(),
            namespace: pod.namespace.clone(),
            containers: containers
                .map(|it| {
                    let name = it.str("name");
                    let devices = of_container(&state, name, held);
                    let cpu_ids = Packed(exclusive(name).unwrap_or_default());
                    ContainerResources { name: name.to_owned(), devices, cpu_ids }
                })
                .collect(),
        }
    });
    ListPodResourcesResponse { pods: pods.collect() }
}

fn of_container(state: &State, name: &str, held: &[Holding]) -> Vec<ContainerDevices> {
    let mut devices = Vec::new();
    for holding in held.iter().filter(|holding| holding.container == name) {
        let offered = state.offers.get(&holding.resource);
        for id in &holding.ids {
            devices.push(ContainerDevices {
                resource_name: holding.resource.clone(),
                ids: vec![id.clone()],
                topology: offered.and_then(|it| it.devices.get(id)?.topology.clone()),
            });
        }
    }
    devices
}

fn allocatable(devices: &Devices, cpus: Option<&Cpus>) -> AllocatableResourcesResponse {
    let state = devices.state();
    let of_offer = |(name, offer): (&String, &super::Offer)| -> Vec<ContainerDevices> {
        let healthy: OrdMap<_, _> = offer.devices.iter().filter(|(_, it)| it.is_healthy).collect();
        let one = |(id, it): (&String, &super::Offered)| ContainerDevices {
            resource_name: name.clone(),
            ids: vec![id.clone()],
            topology: it.topology.clone(),
        };
        healthy.into_iter().map(one).collect()
    };
    AllocatableResourcesResponse {
        devices: state.offers.iter().flat_map(of_offer).collect(),
        cpu_ids: Packed(cpus.map(Cpus::allocatable).unwrap_or_default()),
    }
}
