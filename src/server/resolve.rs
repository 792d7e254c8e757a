//! Where a Service is: one of its ready endpoints, as the API knows them.
//!
//! The network that carries Service addresses is the node's, and a server may have none.

use std::net::IpAddr;

use api::kinds::{ENDPOINT_SLICE, ENDPOINTS, SERVICE};
use api::{Lens, Value};
use client::ListOptions;
use store::Store;

use crate::storage::{self, list};

/// The address and port of a random ready endpoint behind a Service's port.
///
/// # Errors
/// Why there is none, in upstream's words.
pub(crate) async fn service(
    store: &Store,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<(String, u16), String> {
    let found = storage::find(store, &SERVICE, namespace, name).await;
    let service = found.map_err(|status| status.to_string())?;
    let service = service.ok_or_else(|| format!("service {name:?} not found"))?.tree();
    if service.str("spec.type") == "ExternalName" {
        return Ok((service.str("spec.externalName").to_owned(), port));
    }
    if service.str("spec.clusterIP") == "None" {
        return Err("cannot route to service with ClusterIP \"None\"".into());
    }
    let is_it = |item: &&Value| item.int("port") == Some(port.into());
    let port_name = service.list("spec.ports").iter().find(is_it).map(|item| item.str("name"));
    let Some(port_name) = port_name else {
        return Err(format!("no service port {port} found for service {name:?}"));
    };
    let mut all = of_slices(store, namespace, name, port_name).await?;
    if all.is_empty() {
        all = of_endpoints(store, namespace, name, port_name).await?;
    }
    match all.len() {
        0 => Err(format!("no endpoints available for service {name:?}")),
        n => {
            let chosen = usize::try_from(rt::random_u64() % n as u64).unwrap_or(0);
            Ok(all.swap_remove(chosen))
        }
    }
}

/// An address that may be an endpoint: never this machine's loopback or a link's own.
fn usable(text: &str) -> Option<String> {
    let address: IpAddr = text.parse().ok()?;
    rt::net::is_far(address).then(|| address.to_string())
}

fn port_of(ports: &[Value], name: &str) -> Option<u16> {
    let port = ports.iter().find(|port| port.str("name") == name)?;
    port.int("port").and_then(|port| port.try_into().ok())
}

async fn of_slices(
    store: &Store,
    namespace: &str,
    name: &str,
    port: &str,
) -> Result<Vec<(String, u16)>, String> {
    let options = ListOptions {
        label_selector: format!("kubernetes.io/service-name={name}"),
        ..ListOptions::default()
    };
    let found = list::list(store, &ENDPOINT_SLICE, namespace, &options).await;
    let slices = found.map_err(|status| status.to_string())?;
    let mut all = Vec::new();
    for slice in slices.items.iter().map(|slice| slice.tree()) {
        let Some(port) = port_of(slice.list("ports"), port) else { continue };
        let ready = slice.list("endpoints").iter().filter(|endpoint| {
            // Absent is ready.
            endpoint.at("conditions.ready").as_bool().unwrap_or(true)
        });
        // Each address of an endpoint is as good as the first, which alone is used.
        let first = ready.filter_map(|endpoint| endpoint.list("addresses").first()?.as_str());
        all.extend(first.filter_map(usable).map(|address| (address, port)));
    }
    Ok(all)
}

async fn of_endpoints(
    store: &Store,
    namespace: &str,
    name: &str,
    port: &str,
) -> Result<Vec<(String, u16)>, String> {
    let found = storage::find(store, &ENDPOINTS, namespace, name).await;
    let Some(endpoints) = found.map_err(|status| status.to_string())? else {
        return Ok(Vec::new());
    };
    let tree = endpoints.tree();
    let mut all = Vec::new();
    for subset in tree.list("subsets") {
        let Some(port) = port_of(subset.list("ports"), port) else { continue };
        let addresses = subset.list("addresses").iter().map(|address| address.str("ip"));
        all.extend(addresses.filter_map(usable).map(|address| (address, port)));
    }
    Ok(all)
}
