//! The node's own addresses: which they are, and when they change.

use std::net::IpAddr;

use rt::Async;
use stdx::Arrange;
use stdx::{Context, Error, Result};
use sys::netlink::{Family, Netlink};
use wire::rtnetlink as rtnl;

use crate::kernel::Links;

/// What bridges and veth pairs take at most; loopback, where it is all there is, has one more.
const MTU_MAX: u32 = 65_535;

/// What the node's place in the network looks like now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeLink {
    pub(crate) interface: String,
    pub(crate) mtu: u32,
    /// IPv4 first; at most one of each family.
    pub(crate) addresses: Vec<IpAddr>,
}

/// The link that `interface` names; or that has the `given` address; or that of the default route;
/// or the first with an address that is not loopback and not `bridge`; or loopback.
pub(crate) fn detect(
    interface: Option<&str>,
    given: Option<IpAddr>,
    bridge: &str,
) -> Result<NodeLink> {
    let mut kernel = Links::open()?;
    let links = kernel.all()?;
    let addresses = kernel.addresses()?;
    let routes = kernel.routes()?;
    let holder = addresses.iter().find(|a| Some(a.address) == given).map(|a| a.link);
    let holder = holder.and_then(|index| links.iter().find(|link| link.index == index));
    let interface = interface.or(holder.map(|link| link.name.as_str()));
    choose(&links, &addresses, &routes, interface, bridge)
}

/// As [`detect`]; loopback while there is nothing else.
pub(crate) fn detect_or_loopback(
    interface: Option<&str>,
    given: Option<IpAddr>,
    bridge: &str,
) -> Result<NodeLink> {
    detect(interface, given, bridge).or_else(|error| {
        log::warn!("{error}: going on with loopback until there is one");
        detect(Some("lo"), None, bridge)
    })
}

/// Sets loopback up, as an init does: without it not even this machine can be reached.
pub(crate) fn set_loopback_up() -> Result<()> {
    let mut kernel = Links::open()?;
    let found = kernel.all()?.into_iter().find(|l| l.flags & rtnl::IFF_LOOPBACK != 0);
    match found.filter(|link| link.flags & rtnl::IFF_UP == 0) {
        Some(link) => kernel.set_up(link.index, &link.name),
        None => Ok(()),
    }
}

fn choose(
    links: &[rtnl::Link],
    addresses: &[rtnl::Address],
    routes: &[rtnl::Route],
    interface: Option<&str>,
    bridge: &str,
) -> Result<NodeLink> {
    let on = |index: u32| {
        let source = default_source(routes, index);
        let of_family = |ipv4: bool| {
            let mut usable = addresses
                .iter()
                .filter(|a| a.link == index && a.address.is_ipv4() == ipv4 && usable(a));
            let preferred = usable.clone().find(|a| Some(a.address) == source);
            preferred.or(usable.next()).map(|a| a.address)
        };
        [of_family(true), of_family(false)].into_iter().flatten().collect::<Vec<IpAddr>>()
    };
    let described = |link: &rtnl::Link| NodeLink {
        interface: link.name.clone(),
        mtu: link.mtu.min(MTU_MAX),
        addresses: on(link.index),
    };
    if let Some(name) = interface {
        let link = links
            .iter()
            .find(|link| link.name == name)
            .context(|| format!("find the node's interface {name}"))?;
        let found = described(link);
        return match found.addresses.is_empty() {
            true => Err(Error::new(format!("the node's interface {name} has no address"))),
            false => Ok(found),
        };
    }
    let mut defaults: Vec<&rtnl::Route> =
        routes.iter().filter(|route| route.destination.is_none()).collect();
    defaults.arrange_by_key(|route| (route.ipv6, route.metric));
    let by_route = defaults.iter().filter_map(|route| route.link);
    let is_ours = |link: &&rtnl::Link| link.name != bridge && link.master == 0;
    let plain =
        |link: &&rtnl::Link| link.flags & (rtnl::IFF_LOOPBACK | rtnl::IFF_UP) == rtnl::IFF_UP;
    let physical = links.iter().filter(plain).filter(is_ours);
    let loopback = links.iter().filter(|link| link.flags & rtnl::IFF_LOOPBACK != 0);
    // Software bridges (docker0 and the like) come after real links.
    let (bridges, real): (Vec<_>, Vec<_>) = physical.partition(|link| link.kind == "bridge");
    by_route
        .filter_map(|index| links.iter().find(|link| link.index == index))
        .chain(real)
        .chain(bridges)
        .chain(loopback)
        .map(described)
        .find(|found| !found.addresses.is_empty())
        .context(|| "find the node's address: no interface has one")
}

fn default_source(routes: &[rtnl::Route], index: u32) -> Option<IpAddr> {
    let route = routes.iter().find(|r| r.destination.is_none() && r.link == Some(index))?;
    route.source
}

/// Addresses that other nodes can use; loopback's own count only on loopback.
fn usable(address: &rtnl::Address) -> bool {
    const SCOPE_LINK: u8 = 253;
    !address.passing && address.scope != SCOPE_LINK
}

/// Tells of changes of links, addresses and routes, in bursts.
#[derive(Debug)]
pub(crate) struct LinkEvents(Async<Netlink>);

impl LinkEvents {
    pub(crate) fn subscribe() -> Result<LinkEvents> {
        let groups = rtnl::GROUP_LINK
            | rtnl::GROUP_IPV4_ADDRESS
            | rtnl::GROUP_IPV4_ROUTE
            | rtnl::GROUP_IPV6_ADDRESS
            | rtnl::GROUP_IPV6_ROUTE;
        let what = || "follow changes of the node's interfaces";
        let socket = Netlink::subscribe(Family::Route, groups).context(what)?;
        Ok(LinkEvents(Async::new(socket).context(what)?))
    }

    /// Completes when something changed; events may have been lost or have come together, so the
    /// caller looks at the whole.
    pub(crate) async fn changed(&self) -> Result<()> {
        let mut buf = Vec::new();
        const ENOBUFS: i32 = 105;
        let waited = self.0.read_with(|socket| match socket.receive(&mut buf) {
            Err(error) if error.raw_os_error() == Some(ENOBUFS) => Ok(()),
            result => result,
        });
        waited.await.context(|| "receive changes of the node's interfaces")?;
        while self.0.get_ref().receive(&mut buf).is_ok() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: &str) -> rtnl::Link {
        let flags = if name == "lo" { rtnl::IFF_LOOPBACK | rtnl::IFF_UP } else { rtnl::IFF_UP };
        let (name, kind) = (name.to_owned(), kind.to_owned());
        rtnl::Link { index, flags, name, kind, mtu: 1500, ..rtnl::Link::default() }
    }

    fn address(link: u32, text: &str, scope: u8) -> rtnl::Address {
        let address = text.parse().unwrap();
        rtnl::Address { link, address, prefix: 24, scope, passing: false }
    }

    fn default_route(link: u32, metric: u32) -> rtnl::Route {
        rtnl::Route { link: Some(link), metric, ..rtnl::Route::default() }
    }

    #[test]
    fn the_default_route_decides_and_its_absence_is_survived() {
        let links = [
            link(1, "lo", ""),
            link(2, "docker0", "bridge"),
            link(3, "eth0", ""),
            link(4, "wlan0", ""),
            link(5, "cni0", "bridge"),
        ];
        let addresses = [
            address(1, "127.0.0.1", 254),
            address(2, "172.17.0.1", 0),
            address(3, "192.168.1.2", 0),
            address(3, "fe80::1", 253),
            address(3, "fd00::2", 0),
            address(4, "192.168.2.2", 0),
            address(5, "10.42.0.1", 0),
        ];
        let pick = |routes: &[rtnl::Route], n: usize, interface: Option<&str>| {
            let found = choose(&links, &addresses[..n], routes, interface, "cni0");
            match found {
                Ok(found) => format!("{} {:?}", found.interface, found.addresses),
                Err(error) => error.to_string(),
            }
        };
        let both = [default_route(3, 100), default_route(4, 50)];
        assert_eq!(pick(&both, 7, None), "wlan0 [192.168.2.2]");
        assert_eq!(pick(&[], 7, None), "eth0 [192.168.1.2, fd00::2]");
        assert_eq!(pick(&both, 7, Some("docker0")), "docker0 [172.17.0.1]");
        assert_eq!(pick(&[], 2, None), "docker0 [172.17.0.1]");
        assert_eq!(pick(&[], 1, None), "lo [127.0.0.1]");
        assert_eq!(pick(&[], 1, Some("eth0")), "the node's interface eth0 has no address");
        assert_eq!(pick(&[], 7, Some("x")), "find the node's interface x");
    }
}
