//! The bridge that pods hang on, and the kernel settings of a node that routes.

use std::net::IpAddr;

use netplan::Cidr;
use stdx::Result;
use wire::rtnetlink as rtnl;

use crate::kernel::{EEXIST, Links};
use crate::{Config, sysctl};

/// The bridge's own address in a block: its first host.
pub(crate) fn gateway(cidr: &Cidr) -> Option<IpAddr> {
    cidr.nth(1)
}

/// A hardware address made of an IP address: a pod that gets a freed address also gets its hardware
/// address, so neighbours' caches stay right.
pub(crate) fn mac_of(address: IpAddr) -> [u8; 6] {
    let tail = match address {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => {
            let o = v6.octets();
            [o[12], o[13], o[14], o[15]]
        }
    };
    [0x0a, 0x58, tail[0], tail[1], tail[2], tail[3]]
}

/// Makes the bridge what it should be, whatever it was; returns its index. Changes nothing that is
/// right already: it runs on every change event, and must not cause one itself.
pub(crate) fn ensure(links: &mut Links, config: &Config, mtu: u32) -> Result<u32> {
    let name = config.bridge.as_str();
    let first = config.pod_cidrs.first().and_then(gateway);
    let mac = mac_of(first.unwrap_or(IpAddr::from([0, 0, 0, 0])));
    if links.find(name)?.is_none() {
        links.change(
            || format!("make bridge {name} (CONFIG_BRIDGE, module bridge)"),
            &[EEXIST],
            |w, sequence| rtnl::create_bridge(w, sequence, name, mac, mtu),
        )?;
    }
    let Some(link) = links.find(name)? else {
        return Err(stdx::Error::new(format!("bridge {name} vanished while it was made")));
    };
    if link.kind != "bridge" {
        return Err(stdx::Error::new(format!(
            "interface {name} exists and is no bridge but {:?}",
            link.kind
        )));
    }
    if link.mtu != mtu {
        links.change(
            || format!("set the MTU of {name} to {mtu}"),
            &[],
            |w, sequence| rtnl::set_mtu(w, sequence, link.index, mtu),
        )?;
    }
    if link.mac != mac {
        links.change(
            || format!("set the hardware address of {name}"),
            &[],
            |w, sequence| rtnl::set_mac(w, sequence, link.index, mac),
        )?;
    }
    settings(links, config);
    settings_of_bridge(config);
    if link.flags & rtnl::IFF_UP == 0 {
        links.set_up(link.index, name)?;
    }
    set_addresses(links, config, link.index)?;
    set_service_routes(links, config, link.index)?;
    Ok(link.index)
}

/// Gives the bridge its addresses and takes those of former pod blocks away.
fn set_addresses(links: &mut Links, config: &Config, index: u32) -> Result<()> {
    let wanted: Vec<(IpAddr, u8)> =
        config.pod_cidrs.iter().filter_map(|cidr| Some((gateway(cidr)?, cidr.prefix()))).collect();
    let mut present = links.addresses()?;
    present.retain(|address| address.link == index);
    for (address, prefix) in &wanted {
        if !present.iter().any(|old| (old.address, old.prefix) == (*address, *prefix)) {
            links.set_address(index, &config.bridge, *address, *prefix)?;
        }
    }
    const SCOPE_LINK: u8 = 253;
    for old in present {
        let ours = wanted.contains(&(old.address, old.prefix));
        if ours || old.scope == SCOPE_LINK {
            continue;
        }
        links.change(
            || format!("take {}/{} from {}", old.address, old.prefix, config.bridge),
            &[],
            |w, sequence| rtnl::delete_address(w, sequence, index, old.address, old.prefix),
        )?;
    }
    Ok(())
}

/// Services are reachable from the node itself even where it has no default route: packets to
/// service addresses need some route before they are rewritten.
fn set_service_routes(links: &mut Links, config: &Config, index: u32) -> Result<()> {
    let present = links.routes()?;
    for cidr in &config.service_cidrs {
        let same_family = |block: &&Cidr| block.is_ipv4() == cidr.is_ipv4();
        let Some(source) = config.pod_cidrs.iter().find(same_family).and_then(gateway) else {
            continue;
        };
        let destination = Some((cidr.first(), cidr.prefix()));
        if present.iter().any(|r| r.destination == destination && r.link == Some(index)) {
            continue;
        }
        links.set_route(&rtnl::Route {
            ipv6: !cidr.is_ipv4(),
            destination,
            link: Some(index),
            source: Some(source),
            ..rtnl::Route::default()
        })?;
    }
    Ok(())
}

/// A machine that routes hears no router advertisements unless it is told to; as with k3s that is its administrator's
/// to say, who may have relied on them.
fn warn_of_routers(links: &mut Links, config: &Config) {
    const FROM_ROUTERS: u8 = 9;
    let forwards = sysctl::is("ipv6/conf/all/forwarding", "1");
    if forwards || config.pod_cidrs.iter().all(Cidr::is_ipv4) {
        return;
    }
    let (Ok(routes), Ok(all)) = (links.routes(), links.all()) else { return };
    let announced = |r: &&rtnl::Route| r.destination.is_none() && r.protocol == FROM_ROUTERS;
    for route in routes.iter().filter(|route| route.ipv6).filter(announced) {
        let Some(link) = all.iter().find(|link| route.link == Some(link.index)) else { continue };
        let name = format!("ipv6/conf/{}/accept_ra", link.name);
        if sysctl::is(&name, "1") {
            log::warn!(
                "the IPv6 default route by {} comes from router advertisements, and a node that routes hears none: set net.ipv6.conf.{}.accept_ra to 2 (or net.ipv6.conf.all.accept_ra, before the interface is there)",
                link.name,
                link.name
            );
        }
    }
}

/// Sets what routing needs, whoever makes the pods' interfaces. What is missing warns, and works without where it can.
pub(crate) fn settings(links: &mut Links, config: &Config) {
    warn_of_routers(links, config);
    sysctl::set("ipv4/ip_forward", "1");
    for (name, value) in &config.sysctls {
        sysctl::set(&format!("netfilter/{name}"), value);
    }
    // Traffic to services may leave where it came in; pods must not be told to go there directly.
    // The kernel takes the larger of both settings, and other interfaces have their own.
    sysctl::set("ipv4/conf/all/send_redirects", "0");
    if sysctl::is("bridge/bridge-nf-call-iptables", "0") {
        sysctl::set("bridge/bridge-nf-call-iptables", "1");
    }
    if config.pod_cidrs.iter().any(|cidr| !cidr.is_ipv4()) {
        sysctl::set("ipv6/conf/all/forwarding", "1");
        if sysctl::is("bridge/bridge-nf-call-ip6tables", "0") {
            sysctl::set("bridge/bridge-nf-call-ip6tables", "1");
        }
    }
}

/// Sets what hairpin and node ports need of the bridge.
fn settings_of_bridge(config: &Config) {
    let bridge = &config.bridge;
    if let Err(error) = sys::netns::distrust(bridge) {
        log::warn!("have {bridge} believe no router that a pod says it is: {error}");
    }
    // Node ports answer on 127.0.0.1 too; the rules keep pods away from the node's loopback services.
    sysctl::set(&format!("ipv4/conf/{bridge}/route_localnet"), "1");
    sysctl::set(&format!("ipv4/conf/{bridge}/send_redirects"), "0");
    if config.pod_cidrs.iter().any(|cidr| !cidr.is_ipv4()) {
        sysctl::set(&format!("ipv6/conf/{bridge}/disable_ipv6"), "0");
        sysctl::set(&format!("ipv6/conf/{bridge}/accept_dad"), "0");
    }
}

/// True if bridged packets pass the inet hooks, so that replies between pods of one bridge are
/// translated back. Where not, such connections must be masqueraded.
pub(crate) fn has_netfilter() -> bool {
    sysctl::is("bridge/bridge-nf-call-iptables", "1")
}
