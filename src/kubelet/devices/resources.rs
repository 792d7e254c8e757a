//! The pod resources API: which container has which devices, for monitors on this node.

use std::sync::Arc;

use api::Lens;
use podplan::Pod;
use stdx::OrdMap;
use wire::message::Message;
use wire::plugins::{
    AllocatableResourcesResponse, ContainerDevices, ContainerResources, Holding,
    ListPodResourcesResponse, PodResources,
};

use super::{Devices, State};

/// What a method answers of the pods that live; `None` if there is none of this name. None of them looks at its request.
pub(crate) fn answer(devices: &Devices, method: &str, live: Vec<Arc<Pod>>) -> Option<Vec<u8>> {
    match method {
        "List" => Some(list(devices, live).encode()),
        "GetAllocatableResources" => Some(allocatable(devices).encode()),
        _ => None,
    }
}

fn list(devices: &Devices, live: Vec<Arc<Pod>>) -> ListPodResourcesResponse {
    let state = devices.state();
    let pods = live.into_iter().map(|pod| {
        let tree = pod.object.tree();
        let held = state.held.get(pod.object.uid()).map_or(&[][..], Vec::as_slice);
        // Of init containers only those that stay are shown, as upstream.
        let sidecars = tree.list("spec.initContainers").iter();
        let sidecars = sidecars.filter(|it| it.str("restartPolicy") == "Always");
        let containers = sidecars.chain(tree.list("spec.containers"));
        PodResources {
            name: pod.name.clone(),
            namespace: pod.namespace.clone(),
            containers: containers.map(|it| of_container(&state, it.str("name"), held)).collect(),
        }
    });
    ListPodResourcesResponse { pods: pods.collect() }
}

fn of_container(state: &State, name: &str, held: &[Holding]) -> ContainerResources {
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
    ContainerResources { name: name.to_owned(), devices }
}

fn allocatable(devices: &Devices) -> AllocatableResourcesResponse {
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
    AllocatableResourcesResponse { devices: state.offers.iter().flat_map(of_offer).collect() }
}
