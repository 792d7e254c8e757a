//! Applies netplan: links, addresses, one nftables table, the cluster DNS server.
//!
//! Owns every link, route, netns mount and rule that k3rs makes on a node. Knows Services and
//! EndpointSlices only through `netplan`; must not know pods' specs or containers.
//!
//! Invariants: nothing outside the table `inet k3rs` is ever touched; every change of rules is one
//! atomic transaction; an address file exists before the address is used and goes after it.

use std::net::IpAddr;
use std::path::PathBuf;

use client::Informers;
pub use netplan::{Cidr, Protocol};
use stdx::{Error, Result};

/// What a node's network is made of. Lists hold one entry a family, IPv4 first.
#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    /// `--node-ip`; empty: detected, and followed when it changes.
    pub node_ips: Vec<IpAddr>,
    /// `--flannel-iface`: the interface whose addresses are the node's.
    pub node_interface: Option<String>,
    /// This node's part of `cluster_cidrs`.
    pub pod_cidrs: Vec<Cidr>,
    pub cluster_cidrs: Vec<Cidr>,
    pub service_cidrs: Vec<Cidr>,
    /// `--cluster-dns`.
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// Where upstream name servers are read from: `--resolv-conf` or `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// One small file per address in use: `<data-dir>/agent/net/addresses`.
    pub address_directory: PathBuf,
    /// Bind mounts of network namespaces: `/run/k3s/netns`.
    pub netns_directory: PathBuf,
    /// The bridge's name: `cni0`.
    pub bridge: String,
    /// `None`: that of the node's interface.
    pub mtu: Option<u32>,
}

/// One `hostPort` of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// `None`: every address of the node.
    pub host_ip: Option<IpAddr>,
    pub protocol: Protocol,
    pub host_port: u16,
    pub container_port: u16,
}

/// A sandbox that wants a network.
#[derive(Clone, Debug)]
pub struct PodRequest {
    pub sandbox_id: String,
    pub namespace: String,
    pub name: String,
    /// A bind-mounted network namespace or `/proc/<pid>/ns/net`.
    pub netns: PathBuf,
    pub host_ports: Vec<HostPort>,
}

/// What a sandbox got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodInterface {
    pub addresses: Vec<IpAddr>,
    /// Inside the pod: `eth0`.
    pub interface: String,
    /// Its other end on the node.
    pub host_interface: String,
    pub mac: [u8; 6],
}

/// The network of one node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Net {}

impl Net {
    /// Makes the bridge, sets sysctls, loads the rules in one transaction, starts cluster DNS, and
    /// follows Services, EndpointSlices and the node's addresses from then on.
    /// Calls `want` on `informers` for the kinds it needs; it may be called before they are synced.
    pub async fn start(_config: Config, _informers: Informers) -> Result<Net> {
        Err(Error::new("start the network: not built yet"))
    }

    /// Frees the addresses and links of sandboxes that are not in `live`. Call once, before `add_pod`.
    pub async fn recover(&self, _live: &[String]) -> Result<()> {
        Ok(())
    }

    /// Gives a sandbox its interface, addresses, routes and host ports. Idempotent per sandbox id:
    /// a second call with the same id and namespace answers the same.
    pub async fn add_pod(&self, _request: PodRequest) -> Result<PodInterface> {
        Err(Error::new("add a pod: not built yet"))
    }

    /// Takes all of it back. Idempotent; an unknown id is fine, and so is a vanished namespace.
    pub async fn remove_pod(&self, _sandbox_id: &str) -> Result<()> {
        Ok(())
    }

    /// The addresses of a sandbox that `add_pod` or `recover` knows.
    pub fn pod_addresses(&self, _sandbox_id: &str) -> Vec<IpAddr> {
        Vec::new()
    }

    /// The node's own addresses now, IPv4 first; never loopback unless there is nothing else.
    pub fn node_ips(&self) -> Vec<IpAddr> {
        Vec::new()
    }

    /// Completes at the next change of [`Net::node_ips`].
    pub async fn node_ips_changed(&self) {}

    /// An error if the bridge or the rules are not as they should be.
    pub async fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// The node's addresses, before anything is started: those of `interface`, or of the interface with
/// the default route, or the first that is not loopback.
pub fn detect_node_ips(_interface: Option<&str>) -> Result<Vec<IpAddr>> {
    Err(Error::new("detect the node's addresses: not built yet"))
}

/// Makes an empty network namespace, kept alive by a bind mount at `path`.
pub fn create_netns(_path: &std::path::Path) -> Result<()> {
    Err(Error::new("create a network namespace: not built yet"))
}

/// Unmounts and removes it. Idempotent.
pub fn delete_netns(_path: &std::path::Path) -> Result<()> {
    Ok(())
}

/// Removes bridge, pods' links, routes, nft table, address files and namespace mounts; for uninstall.
/// Works without a running [`Net`]; collects all errors into one.
pub async fn teardown(_config: &Config) -> Result<()> {
    Ok(())
}
