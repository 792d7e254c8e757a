//! Rtnetlink: links, addresses, routes, neighbours and their change events as small structs.

use std::net::{IpAddr, Ipv4Addr};

use crate::netlink::{Message, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, Writer};
use crate::netlink::{NLM_F_ACK, NLM_F_REQUEST, read_u32};

pub const RTM_NEWLINK: u16 = 16;
pub const RTM_DELLINK: u16 = 17;
pub const RTM_GETLINK: u16 = 18;
pub const RTM_NEWADDR: u16 = 20;
pub const RTM_DELADDR: u16 = 21;
pub const RTM_GETADDR: u16 = 22;
pub const RTM_NEWROUTE: u16 = 24;
pub const RTM_DELROUTE: u16 = 25;
pub const RTM_GETROUTE: u16 = 26;
pub const RTM_NEWNEIGH: u16 = 28;
pub const RTM_DELNEIGH: u16 = 29;
pub const RTM_GETNEIGH: u16 = 30;

/// Multicast groups, as the bit mask that a socket binds to.
pub const GROUP_LINK: u32 = 0x1;
pub const GROUP_IPV4_ADDRESS: u32 = 0x10;
pub const GROUP_IPV4_ROUTE: u32 = 0x40;
pub const GROUP_IPV6_ADDRESS: u32 = 0x100;
pub const GROUP_IPV6_ROUTE: u32 = 0x400;

pub const IFF_UP: u32 = 0x1;
pub const IFF_LOOPBACK: u32 = 0x8;
pub const IFF_PROMISC: u32 = 0x100;

/// Our mark on routes: `ip route show proto 107`.
pub const PROTOCOL_K3RS: u8 = 107;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_HAIRPIN: u16 = 4;
const VETH_INFO_PEER: u16 = 1;
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LINK: u16 = 3;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LOCAL6: u16 = 17;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_TEMPORARY: u32 = 0x01;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;
const RT_TABLE_MAIN: u8 = 254;
const RTN_UNICAST: u8 = 1;
const RTNH_F_ONLINK: u32 = 4;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NTF_SELF: u8 = 2;
const NUD_PERMANENT: u16 = 0x80;

const AF_INET: u8 = 2;
const AF_BRIDGE: u8 = 7;
const AF_INET6: u8 = 10;

const LINK_HEADER_LEN: usize = 16;
const ADDRESS_HEADER_LEN: usize = 8;
const ROUTE_HEADER_LEN: usize = 12;
const NEIGHBOUR_HEADER_LEN: usize = 12;

/// A link as the kernel reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub flags: u32,
    pub name: String,
    pub mtu: u32,
    pub master: u32,
    /// Of a veth the other end, of a tunnel what it goes by: an index in the namespace where that is.
    pub parent: u32,
    pub mac: Vec<u8>,
    /// `bridge`, `veth`, ...; empty for hardware and loopback.
    pub kind: String,
}

/// An address on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub link: u32,
    pub address: IpAddr,
    pub prefix: u8,
    /// `0` is global, `253` link, `254` host.
    pub scope: u8,
    /// Temporary or deprecated: not to be advertised.
    pub passing: bool,
}

/// A unicast route. `destination` of `None` is the default route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    pub ipv6: bool,
    pub destination: Option<(IpAddr, u8)>,
    pub gateway: Option<IpAddr>,
    pub link: Option<u32>,
    pub source: Option<IpAddr>,
    pub metric: u32,
    pub table: u32,
    pub protocol: u8,
    pub on_link: bool,
}

/// A veth pair whose other end is born in another namespace.
#[derive(Clone, Debug)]
pub struct Veth<'a> {
    pub name: &'a str,
    pub peer: &'a str,
    /// File descriptor of the peer's namespace.
    pub peer_netns: i32,
    pub peer_mac: [u8; 6],
    pub mtu: u32,
    /// The bridge's index.
    pub master: u32,
}

/// A tunnel of Ethernet frames in UDP that learns nothing by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// The VNI: which of the tunnels on one port.
    pub id: u32,
    /// The link that packets leave by.
    pub link: u32,
    /// The source of those packets.
    pub local: IpAddr,
    pub port: u16,
}

/// How a link-layer address is reached, for good: nothing asks for it, nothing forgets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    pub link: u32,
    pub mac: [u8; 6],
    pub address: IpAddr,
    /// The entry says by which machine a tunnel reaches `mac` (fdb), not which `mac` `address` has.
    pub forwards: bool,
}

const CREATE: u16 = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;

pub fn create_bridge(w: &mut Writer, sequence: u32, name: &str, mac: [u8; 6], mtu: u32) {
    w.message(RTM_NEWLINK, CREATE, sequence, |w| {
        link_header(w, 0, 0, 0);
        w.str(IFLA_IFNAME, name);
        w.bytes(IFLA_ADDRESS, &mac);
        w.u32(IFLA_MTU, mtu);
        w.nest(IFLA_LINKINFO, |w| w.str(IFLA_INFO_KIND, "bridge"));
    });
}

pub fn create_veth(w: &mut Writer, sequence: u32, veth: &Veth<'_>) {
    w.message(RTM_NEWLINK, CREATE, sequence, |w| {
        link_header(w, 0, 0, 0);
        w.str(IFLA_IFNAME, veth.name);
        w.u32(IFLA_MTU, veth.mtu);
        w.u32(IFLA_MASTER, veth.master);
        w.nest(IFLA_LINKINFO, |w| {
            w.str(IFLA_INFO_KIND, "veth");
            w.nest(IFLA_INFO_DATA, |w| {
                w.nest(VETH_INFO_PEER, |w| {
                    link_header(w, 0, 0, 0);
                    w.str(IFLA_IFNAME, veth.peer);
                    w.bytes(IFLA_ADDRESS, &veth.peer_mac);
                    w.u32(IFLA_MTU, veth.mtu);
                    w.u32(IFLA_NET_NS_FD, veth.peer_netns.cast_unsigned());
                });
            });
        });
    });
}

/// `mtu` is that of the tunnel itself.
pub fn create_vxlan(
    w: &mut Writer,
    sequence: u32,
    name: &str,
    mac: [u8; 6],
    mtu: u32,
    vxlan: &Vxlan,
) {
    w.message(RTM_NEWLINK, CREATE, sequence, |w| {
        link_header(w, 0, 0, 0);
        w.str(IFLA_IFNAME, name);
        w.bytes(IFLA_ADDRESS, &mac);
        w.u32(IFLA_MTU, mtu);
        w.nest(IFLA_LINKINFO, |w| {
            w.str(IFLA_INFO_KIND, "vxlan");
            w.nest(IFLA_INFO_DATA, |w| {
                w.u32(IFLA_VXLAN_ID, vxlan.id);
                w.u32(IFLA_VXLAN_LINK, vxlan.link);
                let is_ipv4 = vxlan.local.is_ipv4();
                w.address(if is_ipv4 { IFLA_VXLAN_LOCAL } else { IFLA_VXLAN_LOCAL6 }, vxlan.local);
                w.u8(IFLA_VXLAN_LEARNING, 0);
                w.be16(IFLA_VXLAN_PORT, vxlan.port);
            });
        });
    });
}

/// `mtu` is that of the tunnel itself; its key and its peers are given to it in another way.
pub fn create_wireguard(w: &mut Writer, sequence: u32, name: &str, mtu: u32) {
    w.message(RTM_NEWLINK, CREATE, sequence, |w| {
        link_header(w, 0, 0, 0);
        w.str(IFLA_IFNAME, name);
        w.u32(IFLA_MTU, mtu);
        w.nest(IFLA_LINKINFO, |w| w.str(IFLA_INFO_KIND, "wireguard"));
    });
}

/// A device that gives back what goes out by it as if it had come in; up.
pub fn create_ifb(w: &mut Writer, sequence: u32, name: &str, mtu: u32) {
    w.message(RTM_NEWLINK, CREATE, sequence, |w| {
        link_header(w, 0, IFF_UP, IFF_UP);
        w.str(IFLA_IFNAME, name);
        w.u32(IFLA_MTU, mtu);
        w.nest(IFLA_LINKINFO, |w| w.str(IFLA_INFO_KIND, "ifb"));
    });
}

/// Lets a bridge port send a frame back where it came from.
pub fn set_hairpin(w: &mut Writer, sequence: u32, index: u32) {
    w.message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, sequence, |w| {
        link_header(w, index, 0, 0);
        w.nest(IFLA_LINKINFO, |w| {
            w.str(IFLA_INFO_SLAVE_KIND, "bridge");
            w.nest(IFLA_INFO_SLAVE_DATA, |w| w.u8(IFLA_BRPORT_HAIRPIN, 1));
        });
    });
}

/// Whether a port of a bridge reaches no other port that is alone, too.
pub fn set_isolated(w: &mut Writer, sequence: u32, index: u32, isolated: bool) {
    const IFLA_BRPORT_ISOLATED: u16 = 33;
    w.message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, sequence, |w| {
        link_header(w, index, 0, 0);
        w.nest(IFLA_LINKINFO, |w| {
            w.str(IFLA_INFO_SLAVE_KIND, "bridge");
            w.nest(IFLA_INFO_SLAVE_DATA, |w| w.u8(IFLA_BRPORT_ISOLATED, u8::from(isolated)));
        });
    });
}

/// Puts a link on a bridge.
pub fn set_master(w: &mut Writer, sequence: u32, index: u32, master: u32) {
    w.message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, sequence, |w| {
        link_header(w, index, 0, 0);
        w.u32(IFLA_MASTER, master);
    });
}

pub fn set_up(w: &mut Writer, sequence: u32, index: u32) {
    w.message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, sequence, |w| {
        link_header(w, index, IFF_UP, IFF_UP);
    });
}

/// Sets those of a link's flags that are in `mask`.
pub fn set_flags(w: &mut Writer, sequence: u32, index: u32, flags: u32, mask: u32) {
    w.message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, sequence, |w| {
        link_header(w, index, flags, mask);
    });
}

pub fn set_mtu(w: &mut Writer, sequence: u32, index: u32, mtu: u32) {
    w.message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, sequence, |w| {
        link_header(w, index, 0, 0);
        w.u32(IFLA_MTU, mtu);
    });
}

/// Changes the hardware address of a link.
pub fn set_mac(w: &mut Writer, sequence: u32, index: u32, mac: [u8; 6]) {
    w.message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, sequence, |w| {
        link_header(w, index, 0, 0);
        w.bytes(IFLA_ADDRESS, &mac);
    });
}

pub fn delete_link(w: &mut Writer, sequence: u32, index: u32) {
    w.message(RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK, sequence, |w| link_header(w, index, 0, 0));
}

/// One link by name.
pub fn find_link(w: &mut Writer, sequence: u32, name: &str) {
    w.message(RTM_GETLINK, NLM_F_REQUEST | NLM_F_ACK, sequence, |w| {
        link_header(w, 0, 0, 0);
        w.str(IFLA_IFNAME, name);
    });
}

pub fn dump_links(w: &mut Writer, sequence: u32) {
    w.message(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, sequence, |w| link_header(w, 0, 0, 0));
}

/// Adds an address, or does nothing if the same one is there.
pub fn set_address(w: &mut Writer, sequence: u32, link: u32, address: IpAddr, prefix: u8) {
    let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    w.message(RTM_NEWADDR, flags, sequence, |w| {
        w.raw(&[family(address), prefix, 0, 0]);
        w.raw(&link.to_ne_bytes());
        w.address(IFA_LOCAL, address);
        w.address(IFA_ADDRESS, address);
        w.u32(IFA_FLAGS, IFA_F_NODAD);
    });
}

pub fn delete_address(w: &mut Writer, sequence: u32, link: u32, address: IpAddr, prefix: u8) {
    w.message(RTM_DELADDR, NLM_F_REQUEST | NLM_F_ACK, sequence, |w| {
        w.raw(&[family(address), prefix, 0, 0]);
        w.raw(&link.to_ne_bytes());
        w.address(IFA_LOCAL, address);
    });
}

pub fn dump_addresses(w: &mut Writer, sequence: u32) {
    w.message(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, sequence, |w| w.raw(&[0; 8]));
}

/// Adds or replaces a route.
pub fn set_route(w: &mut Writer, sequence: u32, route: &Route) {
    let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    w.message(RTM_NEWROUTE, flags, sequence, |w| route_body(w, route));
}

pub fn delete_route(w: &mut Writer, sequence: u32, route: &Route) {
    w.message(RTM_DELROUTE, NLM_F_REQUEST | NLM_F_ACK, sequence, |w| route_body(w, route));
}

pub fn dump_routes(w: &mut Writer, sequence: u32) {
    w.message(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, sequence, |w| w.raw(&[0; 12]));
}

/// Adds or replaces an entry.
pub fn set_neighbour(w: &mut Writer, sequence: u32, neighbour: &Neighbour) {
    let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    w.message(RTM_NEWNEIGH, flags, sequence, |w| neighbour_body(w, neighbour));
}

pub fn delete_neighbour(w: &mut Writer, sequence: u32, neighbour: &Neighbour) {
    let flags = NLM_F_REQUEST | NLM_F_ACK;
    w.message(RTM_DELNEIGH, flags, sequence, |w| neighbour_body(w, neighbour));
}

/// The neighbours of all links, in IPv4 or IPv6.
pub fn dump_neighbours(w: &mut Writer, sequence: u32, ipv6: bool) {
    w.message(RTM_GETNEIGH, NLM_F_REQUEST | NLM_F_DUMP, sequence, |w| {
        w.raw(&[if ipv6 { AF_INET6 } else { AF_INET }, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    });
}

/// The forwarding entries of one link. The kernel takes the header of a link for this, not a neighbour's.
pub fn dump_forwarding(w: &mut Writer, sequence: u32, link: u32) {
    w.message(RTM_GETNEIGH, NLM_F_REQUEST | NLM_F_DUMP, sequence, |w| {
        w.raw(&[AF_BRIDGE, 0, 0, 0]);
        w.raw(&link.to_ne_bytes());
        w.raw(&[0; 8]);
    });
}

/// Reads a `RTM_NEWNEIGH`; `None` for entries that pass, or lead to no address.
pub fn parse_neighbour(message: &Message<'_>) -> Option<Neighbour> {
    let header = message.payload.get(..NEIGHBOUR_HEADER_LEN)?;
    if u16::from_ne_bytes([header[8], header[9]]) & NUD_PERMANENT == 0 {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in message.attributes(NEIGHBOUR_HEADER_LEN) {
        match attribute.kind {
            NDA_DST => address = attribute.address(),
            NDA_LLADDR => mac = attribute.value.try_into().ok(),
            _ => {}
        }
    }
    Some(Neighbour {
        link: read_u32(header, 4)?,
        mac: mac?,
        address: address?,
        forwards: header[0] == AF_BRIDGE,
    })
}

/// Reads what a `RTM_NEWLINK` says of a tunnel; `None` for other links, and for one that learns.
pub fn parse_vxlan(message: &Message<'_>) -> Option<Vxlan> {
    let mut vxlan = Vxlan { id: 0, link: 0, local: Ipv4Addr::UNSPECIFIED.into(), port: 0 };
    let info = message.attributes(LINK_HEADER_LEN).find(|a| a.kind == IFLA_LINKINFO)?;
    if info.nested().find(|a| a.kind == IFLA_INFO_KIND)?.str() != Some("vxlan") {
        return None;
    }
    for attribute in info.nested().find(|a| a.kind == IFLA_INFO_DATA)?.nested() {
        match attribute.kind {
            IFLA_VXLAN_ID => vxlan.id = attribute.u32()?,
            IFLA_VXLAN_LINK => vxlan.link = attribute.u32()?,
            IFLA_VXLAN_LOCAL | IFLA_VXLAN_LOCAL6 => vxlan.local = attribute.address()?,
            IFLA_VXLAN_LEARNING if attribute.u8() != Some(0) => return None,
            IFLA_VXLAN_PORT => vxlan.port = attribute.be16()?,
            _ => {}
        }
    }
    Some(vxlan)
}

/// Reads a `RTM_NEWLINK` or `RTM_DELLINK`.
pub fn parse_link(message: &Message<'_>) -> Option<Link> {
    let mut link = Link {
        index: read_u32(message.payload, 4)?,
        flags: read_u32(message.payload, 8)?,
        ..Link::default()
    };
    for attribute in message.attributes(LINK_HEADER_LEN) {
        match attribute.kind {
            IFLA_IFNAME => link.name = attribute.str()?.to_owned(),
            IFLA_MTU => link.mtu = attribute.u32()?,
            IFLA_MASTER => link.master = attribute.u32()?,
            IFLA_LINK => link.parent = attribute.u32()?,
            IFLA_ADDRESS => link.mac = attribute.value.to_vec(),
            IFLA_LINKINFO => {
                let kind = attribute.nested().find(|inner| inner.kind == IFLA_INFO_KIND);
                link.kind = kind.and_then(|kind| kind.str()).unwrap_or("").to_owned();
            }
            _ => {}
        }
    }
    Some(link)
}

/// Reads a `RTM_NEWADDR` or `RTM_DELADDR`.
pub fn parse_address(message: &Message<'_>) -> Option<Address> {
    let header = message.payload.get(..ADDRESS_HEADER_LEN)?;
    let mut flags = u32::from(header[2]);
    let (mut local, mut peer) = (None, None);
    for attribute in message.attributes(ADDRESS_HEADER_LEN) {
        match attribute.kind {
            IFA_LOCAL => local = attribute.address(),
            IFA_ADDRESS => peer = attribute.address(),
            IFA_FLAGS => flags = attribute.u32()?,
            _ => {}
        }
    }
    Some(Address {
        link: read_u32(header, 4)?,
        address: local.or(peer)?,
        prefix: header[1],
        scope: header[3],
        passing: flags & (IFA_F_DEPRECATED | IFA_F_TEMPORARY) != 0,
    })
}

/// Reads a `RTM_NEWROUTE` or `RTM_DELROUTE`; `None` for other than unicast routes.
pub fn parse_route(message: &Message<'_>) -> Option<Route> {
    let header = message.payload.get(..ROUTE_HEADER_LEN)?;
    if header[7] != RTN_UNICAST {
        return None;
    }
    let mut route = Route {
        ipv6: header[0] == AF_INET6,
        table: u32::from(header[4]),
        protocol: header[5],
        on_link: read_u32(header, 8)? & RTNH_F_ONLINK != 0,
        ..Route::default()
    };
    for attribute in message.attributes(ROUTE_HEADER_LEN) {
        match attribute.kind {
            RTA_DST => route.destination = Some((attribute.address()?, header[1])),
            RTA_OIF => route.link = attribute.u32(),
            RTA_GATEWAY => route.gateway = attribute.address(),
            RTA_PRIORITY => route.metric = attribute.u32()?,
            RTA_PREFSRC => route.source = attribute.address(),
            RTA_TABLE => route.table = attribute.u32()?,
            _ => {}
        }
    }
    Some(route)
}

/// True for an attribute list of a route event that concerns the main table.
pub fn is_main_table(route: &Route) -> bool {
    route.table == u32::from(RT_TABLE_MAIN)
}

fn route_body(w: &mut Writer, route: &Route) {
    const SCOPE_LINK: u8 = 253;
    let prefix = route.destination.map_or(0, |(_, prefix)| prefix);
    let family = if route.ipv6 { AF_INET6 } else { AF_INET };
    let scope = match route.gateway {
        None if !route.ipv6 => SCOPE_LINK,
        _ => 0,
    };
    let protocol = if route.protocol == 0 { PROTOCOL_K3RS } else { route.protocol };
    w.raw(&[family, prefix, 0, 0, RT_TABLE_MAIN, protocol, scope, RTN_UNICAST]);
    w.raw(&(if route.on_link { RTNH_F_ONLINK } else { 0 }).to_ne_bytes());
    if let Some((destination, _)) = route.destination {
        w.address(RTA_DST, destination);
    }
    if let Some(gateway) = route.gateway {
        w.address(RTA_GATEWAY, gateway);
    }
    if let Some(link) = route.link {
        w.u32(RTA_OIF, link);
    }
    if let Some(source) = route.source {
        w.address(RTA_PREFSRC, source);
    }
    if route.metric != 0 {
        w.u32(RTA_PRIORITY, route.metric);
    }
}

fn neighbour_body(w: &mut Writer, neighbour: &Neighbour) {
    let (family, flags) = match neighbour.forwards {
        true => (AF_BRIDGE, NTF_SELF),
        false => (family(neighbour.address), 0),
    };
    w.raw(&[family, 0, 0, 0]);
    w.raw(&neighbour.link.to_ne_bytes());
    let [low, high] = NUD_PERMANENT.to_ne_bytes();
    w.raw(&[low, high, flags, if neighbour.forwards { 0 } else { RTN_UNICAST }]);
    w.address(NDA_DST, neighbour.address);
    w.bytes(NDA_LLADDR, &neighbour.mac);
}

fn link_header(w: &mut Writer, index: u32, flags: u32, change: u32) {
    w.raw(&[0; 4]);
    w.raw(&index.to_ne_bytes());
    w.raw(&flags.to_ne_bytes());
    w.raw(&change.to_ne_bytes());
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::messages;
    use stdx::prng::Prng;

    #[test]
    fn a_route_survives_the_round_trip() {
        let route = Route {
            destination: Some(("10.43.0.0".parse().unwrap(), 16)),
            link: Some(3),
            source: "10.42.0.1".parse().ok(),
            metric: 5,
            table: 254,
            protocol: PROTOCOL_K3RS,
            ..Route::default()
        };
        let mut w = Writer::new();
        set_route(&mut w, 1, &route);
        let buf = w.finish().unwrap();
        assert_eq!(parse_route(&messages(&buf).next().unwrap().unwrap()), Some(route));
    }

    fn hex(write: impl FnOnce(&mut Writer)) -> (String, Vec<u8>) {
        let mut w = Writer::new();
        write(&mut w);
        let buf = w.finish().unwrap();
        (buf.iter().map(|byte| format!("{byte:02x}")).collect(), buf)
    }

    /// As the kernel's headers have it, after the message's own header.
    #[cfg(target_endian = "little")]
    #[test]
    fn tunnels_and_their_entries_are_as_the_kernel_reads_them() {
        let vxlan =
            Vxlan { id: 1, link: 2, local: Ipv4Addr::new(192, 0, 2, 10).into(), port: 8472 };
        let (text, buf) =
            hex(|w| create_vxlan(w, 1, "flannel.1", [2, 0, 0, 0, 0, 1], 1450, &vxlan));
        let expected = concat!(
            "00000000000000000000000000000000", // a new link
            "0e000300666c616e6e656c2e31000000", // flannel.1
            "0a0001000200000000010000",         // its address
            "08000400aa050000",                 // its MTU
            "3c001280",
            "0a00010076786c616e000000", // of kind vxlan
            "2c000280",
            "0800010001000000",
            "0800030002000000",
            "08000400c000020a",
            "0500070000000000",
            "06000f0021180000", // nolearning, port 8472
        );
        assert_eq!(&text[32..], expected);
        assert_eq!(parse_vxlan(&messages(&buf).next().unwrap().unwrap()), Some(vxlan));
        let over_ipv6 = Vxlan { local: "fd00::10".parse().unwrap(), ..vxlan };
        let mut w = Writer::default();
        create_vxlan(&mut w, 1, "flannel-v6.1", [2, 0, 0, 0, 0, 1], 1430, &over_ipv6);
        let buf = w.finish().unwrap();
        assert_eq!(parse_vxlan(&messages(&buf).next().unwrap().unwrap()), Some(over_ipv6));
        for (forwards, address, expected) in [
            (true, "192.0.2.11", "07000000050000008000020008000100c000020b"),
            (false, "10.42.1.0", "020000000500000080000001080001000a2a0100"),
        ] {
            let address = address.parse().unwrap();
            let entry = Neighbour { link: 5, mac: [2, 0, 0, 0, 0, 7], address, forwards };
            let (text, buf) = hex(|w| set_neighbour(w, 1, &entry));
            let rest = "0a0002000200000000070000";
            assert_eq!(&text[32..], format!("{expected}{rest}"));
            assert_eq!(parse_neighbour(&messages(&buf).next().unwrap().unwrap()), Some(entry));
        }
    }

    #[test]
    fn mutated_messages_never_panic() {
        let mut w = Writer::new();
        let veth =
            Veth { name: "a", peer: "b", peer_netns: 3, peer_mac: [2; 6], mtu: 1500, master: 4 };
        create_veth(&mut w, 1, &veth);
        set_address(&mut w, 2, 9, "fd00::1".parse().unwrap(), 64);
        let vxlan = Vxlan { id: 1, link: 2, local: Ipv4Addr::LOCALHOST.into(), port: 8472 };
        create_vxlan(&mut w, 3, "v", [2; 6], 1450, &vxlan);
        let address = "10.42.1.0".parse().unwrap();
        set_neighbour(&mut w, 4, &Neighbour { link: 1, mac: [2; 6], address, forwards: true });
        let good = w.finish().unwrap();
        let mut prng = Prng::new(2);
        for _ in 0..20_000 {
            let mut buf = good.clone();
            for _ in 0..=prng.below(3) {
                let idx = prng.below(buf.len() as u64) as usize;
                buf[idx] = prng.next_u64() as u8;
            }
            buf.truncate(prng.below(buf.len() as u64 + 1) as usize);
            for message in messages(&buf).flatten() {
                let _ = (parse_link(&message), parse_address(&message), parse_route(&message));
                let _ = (parse_vxlan(&message), parse_neighbour(&message));
            }
        }
    }
}
