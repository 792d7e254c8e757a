//! The bridge plugin: a pair of interfaces between a container and a bridge of the host, with addresses from an IPAM plugin.

use std::net::IpAddr;
use std::os::fd::AsRawFd;

use api::Lens;
use netplan::Cidr;
use serde_json::{Value, json};
use stdx::{Context, Error, Result};
use wire::rtnetlink as rtnl;

use super::call::{self, Call, Command, Failure, Kind, mac_text, refused};
use super::result::{self, Ip};
use super::{delegate, nat};
use crate::kernel::{EEXIST, Links};
use crate::sysctl;

/// The place of the container's interface in a result, behind the bridge and the host's end.
const CONTAINER: usize = 2;
/// Where nothing else is said; as the kernel makes pairs.
const MTU: u32 = 1500;

pub(super) fn run(call: &Call) -> Result<Option<Value>, Failure> {
    call.expect(&[
        ("bridge", Kind::Text),
        ("isGateway", Kind::Flag),
        ("isDefaultGateway", Kind::Flag),
        ("forceAddress", Kind::Flag),
        ("ipMasq", Kind::Flag),
        ("ipMasqBackend", Kind::Text),
        ("hairpinMode", Kind::Flag),
        ("promiscMode", Kind::Flag),
        ("portIsolation", Kind::Flag),
        ("enabledad", Kind::Flag),
        ("disableContainerInterface", Kind::Flag),
        ("macspoofchk", Kind::Flag),
        ("mtu", Kind::Number),
        ("vlan", Kind::Number),
        ("vlanTrunk", Kind::List),
        ("ipam", Kind::Object),
        ("ipam.type", Kind::Text),
        ("runtimeConfig.mac", Kind::Text),
    ])?;
    if let Some(other) =
        Some(call.conf.str("ipMasqBackend")).filter(|name| !["", "nftables"].contains(name))
    {
        return refused(format!("unknown ipmasq backend {other:?}"));
    }
    call.refuse("bridge", &["vlan", "vlanTrunk", "macspoofchk", "enabledad"])?;
    let mac = mac_of(call)?;
    match call.command {
        Command::Add => add(call, mac).map(Some),
        Command::Del => del(call).map(|()| None),
        Command::Check => check(call).map(|()| None),
        Command::Status => ipam(call, "STATUS").map(|_| None),
        Command::Gc => {
            ipam(call, "GC")?;
            Ok(nat::collect(call, nat::MASQUERADE).map(|()| None)?)
        }
        Command::Version => Ok(None),
    }
}

/// What a configuration of this plugin asks for.
#[derive(Debug)]
struct Wishes {
    bridge: String,
    mtu: u32,
    is_gateway: bool,
    is_default_gateway: bool,
    hairpin: bool,
    promiscuous: bool,
    is_down: bool,
}

impl Wishes {
    fn of(conf: &Value) -> Result<Wishes, Failure> {
        let mtu = conf.int("mtu").filter(|mtu| *mtu != 0).map(u32::try_from);
        let wishes = Wishes {
            bridge: match conf.str("bridge") {
                "" => "cni0".to_owned(),
                name => name.to_owned(),
            },
            mtu: mtu.transpose().context(|| "the MTU is out of range")?.unwrap_or(MTU),
            is_gateway: conf.flag("isGateway") || conf.flag("isDefaultGateway"),
            is_default_gateway: conf.flag("isDefaultGateway"),
            hairpin: conf.flag("hairpinMode"),
            promiscuous: conf.flag("promiscMode"),
            is_down: conf.flag("disableContainerInterface"),
        };
        if wishes.is_down && !conf.str("ipam.type").is_empty() {
            return refused("cannot use IPAM when DisableContainerInterface flag is set");
        }
        if wishes.hairpin && wishes.promiscuous {
            return refused("cannot set hairpin mode and promiscuous mode at the same time");
        }
        Ok(wishes)
    }
}

/// The hardware address that the container is to have, from wherever it may be said.
fn mac_of(call: &Call) -> Result<Option<[u8; 6]>, Failure> {
    let by_hand = call.arg("MAC")?.unwrap_or("");
    let said = [call.conf.str("runtimeConfig.mac"), call.conf.str("args.cni.mac"), by_hand];
    let first = said.into_iter().find(|text| !text.is_empty());
    Ok(first.map(call::mac).transpose()?)
}

fn add(call: &Call, mac: Option<[u8; 6]>) -> Result<Value, Failure> {
    let wishes = Wishes::of(&call.conf)?;
    let mut links = Links::open()?;
    let what = || format!("failed to create bridge {:?}", wishes.bridge);
    let bridge = ensure_bridge(&mut links, &wishes).context(what)?;
    let host = pair(call, &mut links, &wishes, &bridge, mac)?;
    let mut allocated = false;
    let made = (|| {
        let outcome = configure(call, &wishes, &bridge, &mut links, &mut allocated)?;
        let inside = call.inside(|| Links::open()?.find(&call.interface))?;
        let inside = inside.context(|| "the container's interface vanished")?;
        // The bridge may have got another hardware address with its first port.
        let bridge = links.find(&wishes.bridge)?.context(|| "the bridge vanished")?;
        let mut outcome = outcome;
        outcome["interfaces"] = json!([
            {"name": bridge.name, "mac": mac_text(&bridge.mac)},
            {"name": host.name, "mac": mac_text(&host.mac)},
            {"name": call.interface, "mac": mac_text(&inside.mac), "sandbox": call.netns},
        ]);
        let dns = result::dns(call.conf.at("dns"));
        if !dns.is_empty() {
            outcome["dns"] = dns.into();
        }
        Ok(outcome)
    })();
    if made.is_err() {
        // Who called may not call again to have it taken back.
        if let Err(error) = links.delete(&host) {
            log::warn!("{error}");
        }
        if allocated && let Err(failure) = ipam(call, "DEL") {
            log::warn!("{}", failure.message);
        }
    }
    made
}

fn ensure_bridge(links: &mut Links, wishes: &Wishes) -> Result<rtnl::Link> {
    let name = &wishes.bridge;
    if links.find(name)?.is_none() {
        // Given and not taken from its ports, it does not change with them.
        links.change(
            || format!("could not add {name:?}"),
            &[EEXIST],
            |w, sequence| rtnl::create_bridge(w, sequence, name, random_mac(), wishes.mtu),
        )?;
    }
    let link =
        links.find(name)?.context(|| format!("could not lookup {name:?}: Link not found"))?;
    if link.kind != "bridge" {
        return Err(Error::new(format!("{name:?} already exists but is not a bridge")));
    }
    if wishes.promiscuous {
        links.change(
            || format!("could not set promiscuous mode on {name:?}"),
            &[],
            |w, sequence| {
                rtnl::set_flags(w, sequence, link.index, rtnl::IFF_PROMISC, rtnl::IFF_PROMISC);
            },
        )?;
    }
    distrust(name);
    links.set_up(link.index, name)?;
    Ok(link)
}

/// Makes the pair; gives the host's end.
fn pair(
    call: &Call,
    links: &mut Links,
    wishes: &Wishes,
    bridge: &rtnl::Link,
    mac: Option<[u8; 6]>,
) -> Result<rtnl::Link> {
    let inside = &call.interface;
    let taken = call.inside(|| Links::open()?.find(inside))?;
    let netns = rt::fs::open(&call.netns)?;
    let mut octets = [0; 4];
    rt::random(&mut octets);
    let name = format!("veth{:08x}", u32::from_ne_bytes(octets));
    if taken.is_some() {
        return Err(Error::new(format!(
            "container veth name ({inside:?}) peer provided ({name:?}) already exists"
        )));
    }
    let veth = rtnl::Veth {
        name: &name,
        peer: inside,
        peer_netns: netns.as_raw_fd(),
        peer_mac: mac.unwrap_or_else(random_mac),
        mtu: wishes.mtu,
        master: bridge.index,
    };
    links.change(
        || "failed to make veth pair",
        &[],
        |w, sequence| rtnl::create_veth(w, sequence, &veth),
    )?;
    let host = links.find(&name)?.context(|| format!("failed to lookup {name:?}"))?;
    distrust(&name);
    if wishes.hairpin {
        links.change(
            || format!("failed to setup hairpin mode for {name}"),
            &[],
            |w, sequence| rtnl::set_hairpin(w, sequence, host.index),
        )?;
    }
    if call.conf.flag("portIsolation") {
        links.change(
            || format!("failed to set isolated on for {name}"),
            &[],
            |w, sequence| rtnl::set_isolated(w, sequence, host.index, true),
        )?;
    }
    links.set_up(host.index, &name)?;
    Ok(host)
}

/// Gives the container its addresses and routes, the bridge its own; the result without interfaces.
fn configure(
    call: &Call,
    wishes: &Wishes,
    bridge: &rtnl::Link,
    links: &mut Links,
    allocated: &mut bool,
) -> Result<Value, Failure> {
    if call.conf.str("ipam.type").is_empty() {
        if !wishes.is_down {
            call.inside(|| {
                let mut links = Links::open()?;
                let found = links.find(&call.interface)?.context(|| "failed to retrieve link")?;
                links.set_up(found.index, &found.name)
            })?;
        }
        return Ok(json!({}));
    }
    let given = ipam(call, "ADD")?.unwrap_or_default();
    *allocated = true;
    let mut ips = result::ips(&given)?;
    if ips.is_empty() {
        return refused("IPAM plugin returned missing IP config");
    }
    let mut routes = given.list("routes").to_vec();
    gateways(wishes, &mut ips, &mut routes);
    let trees: Vec<Value> = ips.iter().map(Ip::to_tree).collect();
    let outcome = json!({"ips": trees, "routes": routes, "dns": given.at("dns")});
    let ways = result::routes(&outcome)?;
    refuse_tables(&routes)?;
    call.inside(|| settle(&call.interface, &ips, &ways))?;
    if wishes.is_gateway {
        for ip in &ips {
            let Some(gateway) = ip.gateway else { continue };
            let forced = call.conf.flag("forceAddress");
            set_gateway(links, bridge, (gateway, ip.prefix), forced)
                .context(|| "failed to set bridge addr")?;
        }
        // What the bridge has of itself stays what it is.
        if let Ok(mac) = bridge.mac.as_slice().try_into()
            && mac != [0; 6]
        {
            links.change(
                || "could not set bridge's mac",
                &[],
                |w, sequence| rtnl::set_mac(w, sequence, bridge.index, mac),
            )?;
        }
        for (is_ipv4, name) in [(true, "ipv4/ip_forward"), (false, "ipv6/conf/all/forwarding")] {
            let has = ips.iter().any(|ip| ip.address.is_ipv4() == is_ipv4);
            if has && !sysctl::set(name, "1") {
                return refused(format!("failed to enable forwarding: net/{name}"));
            }
        }
    }
    if call.conf.flag("ipMasq") {
        nat::masquerade(call, &ips)?;
    }
    Ok(outcome)
}

/// Says whose the addresses are, by which gateway they go, and that all else goes there if so wished.
fn gateways(wishes: &Wishes, ips: &mut [Ip], routes: &mut Vec<Value>) {
    for ip in ips {
        ip.interface = Some(CONTAINER);
        if ip.gateway.is_none() && wishes.is_gateway {
            ip.gateway = Cidr::new(ip.address, ip.prefix).and_then(|network| network.nth(1));
        }
        let default = if ip.address.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        let has = |route: &Value| route.str("dst") == default && !route.str("gw").is_empty();
        if wishes.is_default_gateway
            && !routes.iter().any(has)
            && let Some(gateway) = ip.gateway
        {
            routes.push(json!({"dst": default, "gw": gateway.to_string()}));
        }
    }
}

fn refuse_tables(routes: &[Value]) -> Result<(), Failure> {
    for route in routes {
        if let Some(key) = ["table", "scope"].into_iter().find(|key| route.has(key)) {
            let why = format!("a route's {key} is not supported by the bridge plugin of k3rs");
            return refused(why);
        }
    }
    Ok(())
}

/// In the container: addresses, up, routes.
fn settle(name: &str, ips: &[Ip], routes: &[result::Route]) -> Result<()> {
    let mut links = Links::open()?;
    let link = links.find(name)?.context(|| format!("failed to lookup {name:?}"))?;
    let ipv6 = ips.iter().any(|ip| ip.address.is_ipv6());
    if ipv6 {
        for (key, value) in [
            ("conf/lo/disable_ipv6".to_owned(), "0"),
            (format!("conf/{name}/disable_ipv6"), "0"),
            (format!("conf/{name}/keep_addr_on_down"), "1"),
        ] {
            if !sysctl::set(&format!("ipv6/{key}"), value) {
                return Err(Error::new(format!(
                    "failed to enable IPv6 for interface {name:?} ({key})"
                )));
            }
        }
    }
    // Addresses are announced when they come: who had one before is forgotten.
    sysctl::set(&format!("ipv4/conf/{name}/arp_notify"), "1");
    for ip in ips {
        links.set_address(link.index, name, ip.address, ip.prefix)?;
    }
    links.set_up(link.index, name)?;
    for route in routes {
        let (to, prefix) = route.to;
        let of_family = |ip: &&Ip| ip.address.is_ipv4() == to.is_ipv4();
        let own = ips.iter().filter(of_family).find_map(|ip| ip.gateway);
        const PROTOCOL_BOOT: u8 = 3;
        links.set_route(&rtnl::Route {
            ipv6: to.is_ipv6(),
            destination: (prefix != 0).then_some((to, prefix)),
            gateway: route.gateway.or(own),
            link: Some(link.index),
            metric: route.priority,
            protocol: PROTOCOL_BOOT,
            ..rtnl::Route::default()
        })?;
    }
    Ok(())
}

/// Gives the bridge a gateway's address, unless it has one that does not go with it.
fn set_gateway(
    links: &mut Links,
    bridge: &rtnl::Link,
    (gateway, prefix): (IpAddr, u8),
    forced: bool,
) -> Result<()> {
    const SCOPE_LINK: u8 = 253;
    let name = &bridge.name;
    let wanted = Cidr::new(gateway, prefix).context(|| "read a gateway's network")?;
    let mut present = links.addresses()?;
    present.retain(|found| {
        found.link == bridge.index
            && found.address.is_ipv4() == gateway.is_ipv4()
            && found.scope != SCOPE_LINK
    });
    for old in present {
        if (old.address, old.prefix) == (gateway, prefix) {
            return Ok(());
        }
        let overlaps = wanted.contains(old.address)
            || Cidr::new(old.address, old.prefix).is_some_and(|block| block.contains(gateway));
        match (gateway.is_ipv4() || overlaps, forced) {
            (false, _) => {}
            (true, false) => {
                return Err(Error::new(format!(
                    "{name:?} already has an IP address different from {gateway}/{prefix}"
                )));
            }
            (true, true) => links.change(
                || format!("could not remove IP address from {name:?}"),
                &[],
                |w, sequence| {
                    rtnl::delete_address(w, sequence, bridge.index, old.address, old.prefix);
                },
            )?,
        }
    }
    links.set_address(bridge.index, name, gateway, prefix)
}

fn del(call: &Call) -> Result<(), Failure> {
    if !call.is_gone() {
        call.inside(|| {
            let mut links = Links::open()?;
            match links.find(&call.interface)? {
                Some(link) => links.delete(&link),
                None => Ok(()),
            }
        })?;
    }
    ipam(call, "DEL")?;
    // By name, so that it goes even where the namespace went first.
    Ok(nat::delete(&nat::table_of(nat::MASQUERADE, call))?)
}

fn check(call: &Call) -> Result<(), Failure> {
    let wishes = Wishes::of(&call.conf)?;
    ipam(call, "CHECK")?;
    let before = result::before(call)?.context(|| "Required prevResult missing")?;
    let interfaces = before.list("interfaces");
    let named = |name: &str, sandbox: &str| {
        let is_it = |one: &&Value| one.str("name") == name && one.str("sandbox") == sandbox;
        interfaces.iter().find(is_it).cloned().unwrap_or_default()
    };
    let mut links = Links::open()?;
    let bridge = named(&wishes.bridge, "");
    let found = links.find(&wishes.bridge)?;
    let found = found.context(|| format!("Interface name {} not found", wishes.bridge))?;
    if found.kind != "bridge" {
        let why = format!("Interface {} does not have link type of bridge", wishes.bridge);
        return refused(why);
    }
    same_mac(&bridge, &found).map_err(|mac| {
        Error::new(format!("Bridge interface {} Mac doesn't match: {mac}", wishes.bridge))
    })?;
    let inside = named(&call.interface, &call.netns);
    if inside.is_null() {
        return refused(format!("CNI created interface in container {} not found", call.interface));
    }
    let peer = call.peer()?;
    let all = links.all()?;
    let is_ours = |link: &&rtnl::Link| link.index == peer && link.master == found.index;
    let host = all.iter().find(is_ours);
    let host = host.filter(|link| interfaces.iter().any(|one| one.str("name") == link.name));
    if host.is_none() {
        return refused(format!("CNI veth created for bridge {} was not found", wishes.bridge));
    }
    let (ips, routes) = (result::ips(&before)?, result::routes(&before)?);
    Ok(call.inside(|| {
        let mut links = Links::open()?;
        let link = links.find(&call.interface)?.context(|| "the interface vanished")?;
        same_mac(&inside, &link).map_err(|mac| {
            let name = &call.interface;
            Error::new(format!("Interface {name} Mac {mac} doesn't match container Mac"))
        })?;
        let addresses = links.addresses()?;
        for ip in ips.iter().filter(|ip| ip.interface == Some(CONTAINER)) {
            let is_there = addresses.iter().any(|found| {
                found.link == link.index && (found.address, found.prefix) == (ip.address, ip.prefix)
            });
            if !is_there {
                let name = &call.interface;
                return Err(Error::new(format!(
                    "Failed to match addr {} on interface {name}",
                    ip.address
                )));
            }
        }
        let present = links.routes()?;
        for route in &routes {
            let (to, prefix) = route.to;
            let is_there = present.iter().any(|found| {
                let same = match found.destination {
                    None => prefix == 0 && found.ipv6 == to.is_ipv6(),
                    Some(destination) => destination == (to, prefix),
                };
                same && (route.gateway.is_none() || found.gateway == route.gateway)
            });
            if !is_there {
                return Err(Error::new(format!(
                    "Expected Route {to}/{prefix} not found in routing table"
                )));
            }
        }
        Ok(())
    })?)
}

/// Whether an interface has the hardware address that a result says; what it says if not.
fn same_mac(told: &Value, link: &rtnl::Link) -> std::result::Result<(), String> {
    match told.str("mac") {
        "" => Ok(()),
        mac if mac == mac_text(&link.mac) => Ok(()),
        mac => Err(mac.to_owned()),
    }
}

/// Asks the IPAM plugin, if there is one.
fn ipam(call: &Call, command: &str) -> Result<Option<Value>, Failure> {
    match call.conf.str("ipam.type") {
        "" => Ok(None),
        kind => delegate::ask(call, kind, command, &call.input),
    }
}

/// No router's word counts on an interface of ours.
fn distrust(name: &str) {
    sysctl::set(&format!("ipv6/conf/{name}/accept_ra"), "0");
}

fn random_mac() -> [u8; 6] {
    let mut mac = [0; 6];
    rt::random(&mut mac);
    // Of one interface, and nobody's product.
    mac[0] = mac[0] & 0xfe | 0x02;
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(conf: Value) -> String {
        match run(&Call::test(Command::Add, conf)) {
            Ok(_) => "done".to_owned(),
            Err(failure) => failure.message,
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (conf, why) in [
            (json!({"vlan": 5}), "vlan is not supported by the bridge plugin of k3rs"),
            (
                json!({"vlanTrunk": [{"id": 1}]}),
                "vlanTrunk is not supported by the bridge plugin of k3rs",
            ),
            (
                json!({"macspoofchk": true}),
                "macspoofchk is not supported by the bridge plugin of k3rs",
            ),
            (json!({"ipMasqBackend": "iptables"}), "unknown ipmasq backend \"iptables\""),
            (
                json!({"hairpinMode": true, "promiscMode": true}),
                "cannot set hairpin mode and promiscuous mode at the same time",
            ),
            (
                json!({"disableContainerInterface": true, "ipam": {"type": "x"}}),
                "cannot use IPAM when DisableContainerInterface flag is set",
            ),
            (
                json!({"isGateway": "yes"}),
                "failed to load netconf: isGateway is no boolean: \"yes\"",
            ),
            (
                json!({"runtimeConfig": {"mac": "x"}}),
                "address x: invalid MAC address: invalid digit found in string",
            ),
        ] {
            assert_eq!(said(conf), why);
        }
    }

    #[test]
    fn gateways_and_default_routes() {
        let check = |conf: Value, routes: Value, expected: &str| {
            let mut ips = result::ips(&json!({"ips": [{"address": "10.0.0.9/24"}, {"address": "fd00::9/64", "gateway": "fd00::5"}]})).unwrap();
            let mut routes = routes.as_array().unwrap().clone();
            gateways(&Wishes::of(&conf).unwrap(), &mut ips, &mut routes);
            let shown: Vec<String> =
                ips.iter().map(|ip| ip.gateway.map_or("-".into(), |ip| ip.to_string())).collect();
            assert_eq!(format!("{} {}", shown.join(" "), Value::from(routes)), expected);
        };
        check(json!({}), json!([]), "- fd00::5 []");
        check(json!({"isGateway": true}), json!([]), "10.0.0.1 fd00::5 []");
        check(
            json!({"isDefaultGateway": true}),
            json!([{"dst": "0.0.0.0/0", "gw": "10.0.0.7"}]),
            r#"10.0.0.1 fd00::5 [{"dst":"0.0.0.0/0","gw":"10.0.0.7"},{"dst":"::/0","gw":"fd00::5"}]"#,
        );
    }
}
