//! Pods' interfaces: a veth pair each, one end in the pod, the other on the bridge.
//!
//! Everything here blocks for some hundred microseconds and runs inside `rt::unblock`.

use std::net::IpAddr;
use std::os::fd::AsRawFd;

use netplan::{Cidr, Name};
use stdx::{Context, Error, OrdMap, Result};
use wire::rtnetlink as rtnl;

use crate::addresses::{Addresses, Record, Sandboxes};
use crate::bridge::{gateway, mac_of};
use crate::kernel::{EEXIST, ENODEV, Links};
use crate::{Config, HostPort, PodInterface, PodRequest, bridge};

const POD_INTERFACE: &str = "eth0";

/// The sandboxes that have a network, and where their addresses come from.
#[derive(Debug)]
pub(crate) struct Pods {
    config: Config,
    addresses: Addresses,
    known: Sandboxes,
    mtu: u32,
}

/// The pods of this node that have a network.
#[derive(Clone, Debug, Default)]
pub(crate) struct LocalPods {
    pub(crate) names: OrdMap<IpAddr, Name>,
    /// The addresses behind each interface.
    pub(crate) ends: OrdMap<String, Vec<IpAddr>>,
}

/// A host port with the pod's address behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPortTarget {
    pub(crate) port: HostPort,
    pub(crate) pod: IpAddr,
}

impl Pods {
    /// Reads what the last run left and makes the bridge.
    pub(crate) fn open(config: Config, mtu: u32) -> Result<Pods> {
        let (addresses, known) =
            Addresses::open(config.address_directory.clone(), config.pod_cidrs.clone())?;
        let mut links = Links::open()?;
        bridge::ensure(&mut links, &config, mtu)?;
        Ok(Pods { config, addresses, known, mtu })
    }

    /// Makes the bridge again if someone deleted or changed it, and hangs the pods' ends on it.
    pub(crate) fn repair(&mut self, mtu: u32) -> Result<()> {
        self.mtu = mtu;
        let mut links = Links::open()?;
        let index = bridge::ensure(&mut links, &self.config, mtu)?;
        let all = links.all()?;
        for id in self.known.keys() {
            let name = host_interface(id);
            let off = all.iter().find(|link| link.name == name && link.master != index);
            if let Some(link) = off {
                log::warn!("interface {name}: was off the bridge {}, put back", self.config.bridge);
                attach(&mut links, link, index)?;
            }
        }
        Ok(())
    }

    /// Frees what belongs to no sandbox in `live`.
    pub(crate) fn recover(&mut self, live: &[String]) -> Result<()> {
        let gone: Vec<String> =
            self.known.keys().filter(|id| !live.contains(id)).cloned().collect();
        for id in &gone {
            log::info!("sandbox {id}: gone, its addresses are freed");
            self.remove(id)?;
        }
        // Links without any record: a crash came between the two removals.
        let mut links = Links::open()?;
        let kept: Vec<String> = self.known.keys().map(|id| host_interface(id)).collect();
        let Some(bridge) = links.find(&self.config.bridge)? else { return Ok(()) };
        for link in links.all()? {
            if link.kind == "veth" && link.master == bridge.index && !kept.contains(&link.name) {
                links.delete(&link)?;
            }
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, request: &PodRequest) -> Result<PodInterface> {
        let id = &request.sandbox_id;
        if id.is_empty() || id.contains('\n') {
            return Err(Error::new("add a pod's network: the sandbox id is empty or broken"));
        }
        let fresh = !self.known.contains_key(id);
        if fresh {
            let record = Record {
                sandbox_id: id.clone(),
                pod: format!("{}/{}", request.namespace, request.name),
                host_ports: request.host_ports.clone(),
            };
            let addresses = self.addresses.allocate(&record)?;
            self.known.insert(id.clone(), (record, addresses));
        }
        let connected = self.connect(request);
        if connected.is_err()
            && fresh
            && let Err(error) = self.remove(id)
        {
            log::warn!("sandbox {id}: undo a failed set-up of its network: {error}");
        }
        connected
    }

    pub(crate) fn remove(&mut self, id: &str) -> Result<()> {
        let mut links = Links::open()?;
        if let Some(link) = links.find(&host_interface(id))? {
            links.delete(&link)?;
        }
        if let Some((_, addresses)) = self.known.get(id) {
            self.addresses.release(addresses)?;
            self.known.remove(id);
        }
        Ok(())
    }

    pub(crate) fn addresses_of(&self, id: &str) -> Vec<IpAddr> {
        self.known.get(id).map(|(_, addresses)| addresses.clone()).unwrap_or_default()
    }

    /// Which pod has which address, and which interface leads to it.
    pub(crate) fn local(&self) -> LocalPods {
        let mut local = LocalPods::default();
        for (id, (record, addresses)) in &self.known {
            let Some((namespace, name)) = record.pod.split_once('/') else { continue };
            let names = addresses.iter().map(|ip| (*ip, (namespace.into(), name.into())));
            local.names.extend(names);
            local.ends.insert(host_interface(id), addresses.clone());
        }
        local
    }

    /// True if the sandbox has host ports.
    pub(crate) fn publishes(&self, id: &str) -> bool {
        self.known.get(id).is_some_and(|(record, _)| !record.host_ports.is_empty())
    }

    /// All host ports of all known sandboxes.
    pub(crate) fn host_ports(&self) -> Vec<HostPortTarget> {
        let mut all = Vec::new();
        for (record, addresses) in self.known.values() {
            all.extend(record.host_ports.iter().flat_map(|port| targets(port, addresses)));
        }
        all
    }

    /// An error that names what is missing.
    pub(crate) fn check(&self) -> Result<()> {
        let mut links = Links::open()?;
        let bridge = links
            .find(&self.config.bridge)?
            .context(|| format!("bridge {} is missing", self.config.bridge))?;
        for id in self.known.keys() {
            let name = host_interface(id);
            let link = links
                .find(&name)?
                .context(|| format!("interface {name} of sandbox {id} is missing"))?;
            if link.master != bridge.index {
                return Err(Error::new(format!(
                    "interface {name} of sandbox {id} is off the bridge"
                )));
            }
        }
        Ok(())
    }

    fn connect(&self, request: &PodRequest) -> Result<PodInterface> {
        let id = &request.sandbox_id;
        let addresses = self.addresses_of(id);
        let first = addresses.first().context(|| "no pod address block is configured")?;
        let mac = mac_of(*first);
        let name = host_interface(id);
        let mut host = Links::open()?;
        let bridge = match host.find(&self.config.bridge)? {
            Some(bridge) => bridge.index,
            None => bridge::ensure(&mut host, &self.config, self.mtu)?,
        };
        let netns = rt::fs::open(&request.netns)?;
        let mut pod = Links::open_in(&netns)?;
        if pod.find(POD_INTERFACE)?.is_none() {
            // A pair whose inner end is elsewhere is of a namespace that is going away.
            if let Some(stale) = host.find(&name)? {
                host.delete(&stale)?;
            }
            let veth = rtnl::Veth {
                name: &name,
                peer: POD_INTERFACE,
                peer_netns: netns.as_raw_fd(),
                peer_mac: mac,
                mtu: self.mtu,
                master: bridge,
            };
            host.change(
                || format!("make interface {name} for sandbox {id} (CONFIG_VETH, module veth)"),
                &[],
                |w, sequence| rtnl::create_veth(w, sequence, &veth),
            )?;
        }
        let link = host.find(&name)?.context(|| format!("interface {name} vanished"))?;
        attach(&mut host, &link, bridge)?;
        self.configure(&mut pod, &addresses)?;
        Ok(PodInterface {
            addresses,
            interface: POD_INTERFACE.to_owned(),
            host_interface: name,
            mac,
        })
    }

    /// Inside the pod: loopback, address, routes.
    fn configure(&self, pod: &mut Links, addresses: &[IpAddr]) -> Result<()> {
        const LOOPBACK: u32 = 1;
        pod.set_up(LOOPBACK, "lo")?;
        let link = pod.find(POD_INTERFACE)?.context(|| "the pod's interface vanished")?;
        for (address, cidr) in addresses.iter().zip(&self.config.pod_cidrs) {
            pod.set_address(link.index, POD_INTERFACE, *address, cidr.prefix())?;
        }
        pod.set_up(link.index, POD_INTERFACE)?;
        for cidr in &self.config.pod_cidrs {
            let route = |destination: Option<&Cidr>| rtnl::Route {
                ipv6: !cidr.is_ipv4(),
                destination: destination.map(|block| (block.first(), block.prefix())),
                gateway: gateway(cidr),
                link: Some(link.index),
                ..rtnl::Route::default()
            };
            pod.set_route(&route(None))?;
        }
        Ok(())
    }
}

/// Where a host port of the pod with these addresses leads.
pub(crate) fn targets(port: &HostPort, addresses: &[IpAddr]) -> Vec<HostPortTarget> {
    let family = |pod: &&IpAddr| port.host_ip.is_none_or(|ip| ip.is_ipv4() == pod.is_ipv4());
    let target = |pod: &IpAddr| HostPortTarget { port: port.clone(), pod: *pod };
    addresses.iter().filter(family).map(target).collect()
}

/// Removes bridge and pods' ends, by name and by what hangs on the bridge.
pub(crate) fn teardown(config: &Config) -> Result<()> {
    let mut links = Links::open()?;
    let Some(bridge) = links.find(&config.bridge)?.filter(|link| link.kind == "bridge") else {
        return Ok(());
    };
    for link in links.all()? {
        if link.kind == "veth" && link.master == bridge.index {
            links.delete(&link)?;
        }
    }
    links.delete(&bridge)
}

/// On the bridge, hairpin on, up.
fn attach(links: &mut Links, link: &rtnl::Link, bridge: u32) -> Result<()> {
    let name = &link.name;
    if link.master != bridge {
        links.change(
            || format!("put interface {name} on the bridge"),
            &[],
            |w, sequence| rtnl::set_master(w, sequence, link.index, bridge),
        )?;
    }
    links.change(
        || format!("set hairpin mode on {name}"),
        &[EEXIST, ENODEV],
        |w, sequence| rtnl::set_hairpin(w, sequence, link.index),
    )?;
    links.set_up(link.index, name)
}

/// The name of a sandbox's link on the node: at most 15 bytes, the same for the same id.
fn host_interface(id: &str) -> String {
    // FNV-1a: short, spread well, and stable over versions.
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("veth{:010x}", hash & 0xff_ffff_ffff)
}
