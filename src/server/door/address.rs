//! Which addresses a proxy connects to: those of the cluster, never this machine's own.
//!
//! Statuses and endpoints are written by nodes and users, and a proxy speaks from where the server
//! stands: what listens on loopback or answers on link-local addresses trusts who is there.

use std::net::IpAddr;

use api::kinds::POD;
use api::{Lens, Status, Value};

use crate::core::Core;
use crate::storage;

/// The kubelet's port, which is reached through the node's door only.
pub(super) const KUBELET_PORT: u16 = 10_250;

/// An address that a proxy may connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proxyable {
    pub(super) address: IpAddr,
    /// It is one of this machine's: a pod of the host's network has it.
    pub(super) own: bool,
}

/// Upstream's answer.
pub(super) fn not_allowed() -> Status {
    Status::bad_request("address not allowed")
}

/// Upstream's `IsProxyableIP` (Go's `IsGlobalUnicast`), also for IPv4 addresses written as IPv6.
fn global_unicast(text: &str) -> Option<IpAddr> {
    let address = text.parse::<IpAddr>().ok().filter(|address| rt::net::is_far(*address))?;
    Some(address.to_canonical())
}

async fn checked(text: &str) -> Result<Proxyable, Status> {
    let address = global_unicast(text).ok_or_else(not_allowed)?;
    // Only an address of this machine can be bound.
    let own = rt::net::UdpSocket::bind((address, 0)).await.is_ok();
    Ok(Proxyable { address, own })
}

/// A node's address.
///
/// # Errors
/// 400 if it is this machine's own, or special.
pub(super) async fn of_node(text: &str) -> Result<Proxyable, Status> {
    let found = checked(text).await?;
    if found.own { Err(not_allowed()) } else { Ok(found) }
}

/// The address of a node's kubelet.
///
/// # Errors
/// 400 if it is special, or leads to something else on this machine.
pub(super) async fn of_kubelet(text: &str, port: u16) -> Result<IpAddr, Status> {
    let found = checked(text).await?;
    match found.own && port != KUBELET_PORT {
        true => Err(not_allowed()),
        false => Ok(found.address),
    }
}

/// A pod's address.
///
/// # Errors
/// 400 if the pod cannot have that address.
pub(super) async fn of_pod(core: &Core, pod: &Value) -> Result<Proxyable, Status> {
    let found = checked(pod.str("status.podIP")).await?;
    let of_service = core.config.service_cidrs.iter().any(|c| c.index(found.address).is_some());
    if of_service || (found.own && !pod.flag("spec.hostNetwork")) {
        return Err(not_allowed());
    }
    Ok(found)
}

/// The pod that stands behind an endpoint (upstream's `isValidAddress`), with its address.
pub(super) async fn behind(
    core: &Core,
    namespace: &str,
    endpoint: &Value,
) -> Option<(Value, Proxyable)> {
    let target = endpoint.at("targetRef");
    if target.str("kind") != "Pod" || target.str("namespace") != namespace {
        return None;
    }
    let found = storage::find(&core.store, &POD, namespace, target.str("name")).await;
    let mut pod = found.ok().flatten()?.tree();
    let address = endpoint.str("ip");
    let has = pod.str("status.podIP") == address
        || pod.list("status.podIPs").iter().any(|ip| ip.str("ip") == address);
    if !has {
        return None;
    }
    // The one of its addresses that the endpoint names.
    api::LensMut::set(&mut pod, "status.podIP", address);
    let address = of_pod(core, &pod).await.ok()?;
    Some((pod, address))
}

impl Proxyable {
    /// Whether a port there may be connected to: on this machine not those of k3rs itself.
    ///
    /// # Errors
    /// 400
    pub(super) fn port(self, core: &Core, port: u16) -> Result<(), Status> {
        let ours = port == KUBELET_PORT || port == core.config.advertise_port;
        if self.own && ours { Err(not_allowed()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_global_unicast_addresses_are_proxied_to() {
        for good in ["10.42.0.5", "192.168.1.1", "fd00::1", "2001:db8::1", "::ffff:10.0.0.1"] {
            assert!(global_unicast(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "localhost",
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "255.255.255.255",
            "169.254.169.254",
            "224.0.0.1",
            "239.1.1.1",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "0:0:0:0:0:ffff:7f00:1",
            "::ffff:169.254.169.254",
            "::ffff:0.0.0.0",
            "10.0.0.1%eth0",
            "127.0.0.1:80",
            "0x7f.1",
            "2130706433",
        ] {
            assert!(global_unicast(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn this_machines_addresses_are_known() {
        rt::block_on(async {
            assert!(checked("127.0.0.1").await.is_err());
            // Of the range for documentation: nobody's.
            assert!(!checked("192.0.2.250").await.unwrap().own);
        });
    }
}
