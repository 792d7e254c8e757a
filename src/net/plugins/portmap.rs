//! The portmap plugin: ports of the host that lead to a container, by nftables.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use api::Lens;
use netplan::{Protocol, UdpFrontend};
use serde_json::Value;
use stdx::{Context, Error, Result};

use super::call::{Call, Command, Failure, Kind, refused};
use super::nat::{self, HOST_PORTS, Rule, Table};
use super::result;
use crate::kernel::Links;

/// Ports of a container.
const PORTS_MAX: usize = 1024;
const CHAIN: &str = "hostports";

/// One port of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    /// `None`: at all of the host's addresses.
    host: Option<IpAddr>,
    host_port: u16,
    container_port: u16,
    protocol: Protocol,
}

pub(super) fn run(call: &Call) -> Result<Option<Value>, Failure> {
    call.expect(&[
        ("backend", Kind::Text),
        ("snat", Kind::Flag),
        ("masqAll", Kind::Flag),
        ("markMasqBit", Kind::Number),
        ("runtimeConfig.portMappings", Kind::List),
    ])?;
    if let Some(other) =
        Some(call.conf.str("backend")).filter(|name| !["", "nftables"].contains(name))
    {
        return refused(format!("failed to parse config: unrecognized backend {other:?}"));
    }
    call.refuse("portmap", &["externalSetMarkChain", "conditionsV4", "conditionsV6"])?;
    if call.conf.int("markMasqBit").is_some_and(|bit| bit > 31) {
        return refused("failed to parse config: MasqMarkBit must be between 0 and 31");
    }
    let before = result::before(call)?;
    let ports = ports(&call.conf)?;
    match (call.command, before) {
        (Command::Add, None) => refused("must be called as chained plugin"),
        (Command::Add, Some(before)) => {
            if !ports.is_empty() {
                add(call, &ports, &addresses(&before, &call.interface)?)?;
            }
            Ok(Some(before))
        }
        (Command::Del, _) => {
            nat::delete(&nat::table_of(HOST_PORTS, call))?;
            forget(&ports, &[]);
            Ok(None)
        }
        (Command::Check, None) => refused("Required prevResult missing"),
        (Command::Check, Some(before)) => {
            let (_, n_wanted) = rules(call, &ports, &addresses(&before, &call.interface)?)?;
            match nat::count(&nat::table_of(HOST_PORTS, call))? {
                Some(n_found) if n_found >= n_wanted => Ok(None),
                None if ports.is_empty() => Ok(None),
                _ => refused(format!("missing hostport rules in {CHAIN:?} chain")),
            }
        }
        (Command::Gc, _) => Ok(nat::collect(call, HOST_PORTS).map(|()| None)?),
        (Command::Status | Command::Version, _) => Ok(None),
    }
}

fn add(call: &Call, ports: &[Port], pods: &[IpAddr]) -> Result<()> {
    let what = || "unable to set up nftables rules for port mappings";
    let name = nat::table_of(HOST_PORTS, call);
    let (rules, _) = rules(call, ports, pods)?;
    let mut table = Table::new(&name);
    table.chain(CHAIN);
    table.prerouting();
    table.output();
    table.postrouting();
    for (chain, rule) in &rules {
        table.rule(chain, rule);
    }
    table.commit().context(what)?;
    forget(ports, pods);
    match pods.iter().find(|pod| pod.is_ipv4()).filter(|_| translates(call)) {
        Some(pod) => let_localhost_through(*pod),
        None => Ok(()),
    }
}

/// The rules, with the chain that each belongs to, and how many there are.
fn rules(
    call: &Call,
    ports: &[Port],
    pods: &[IpAddr],
) -> Result<(Vec<(&'static str, Rule<'static>)>, usize)> {
    let mut rules =
        vec![("prerouting", Rule::to_here().jump(CHAIN)), ("output", Rule::to_here().jump(CHAIN))];
    for pod in pods {
        for port in
            ports.iter().filter(|port| port.host.is_none_or(|ip| ip.is_ipv4() == pod.is_ipv4()))
        {
            let mut rule = Rule::of(*pod);
            if let Some(host) = port.host.filter(|host| !host.is_unspecified()) {
                rule = rule.to(nat::alone(host)?);
            }
            let rule = rule.at_port(port.protocol.number(), port.host_port);
            rules.push((CHAIN, rule.lead_to(*pod, port.container_port)));
        }
        if !translates(call) {
            continue;
        }
        // The container that asks itself by the host's port, and the host that does so from 127.0.0.1.
        let to_pod = |rule: Rule<'static>| Ok::<_, Error>(rule.to(nat::alone(*pod)?).masquerade());
        match call.conf.flag("masqAll") {
            true => rules.push(("postrouting", to_pod(Rule::of(*pod))?)),
            false => {
                rules.push(("postrouting", to_pod(Rule::of(*pod).from(nat::alone(*pod)?))?));
                if pod.is_ipv4() {
                    let here = nat::alone(Ipv4Addr::LOCALHOST.into())?;
                    rules.push(("postrouting", to_pod(Rule::of(*pod).from(here))?));
                }
            }
        }
    }
    let n_rules = rules.len();
    Ok((rules, n_rules))
}

fn translates(call: &Call) -> bool {
    call.conf.at("snat").as_bool().unwrap_or(true)
}

fn ports(conf: &Value) -> Result<Vec<Port>> {
    let list = conf.list("runtimeConfig.portMappings");
    if list.len() > PORTS_MAX {
        return Err(Error::new(format!("more than {PORTS_MAX} port mappings")));
    }
    let read = |tree: &Value| {
        let number = |key: &str, word: &str| {
            let port = tree.int(key).and_then(|port| u16::try_from(port).ok());
            let port = port.filter(|port| *port != 0);
            port.context(|| format!("Invalid {word} port number: {}", tree.at(key)))
        };
        let name = match tree.str("protocol") {
            "" => "tcp",
            name => name,
        };
        let protocol = Protocol::from_name(&name.to_ascii_uppercase());
        let host = match tree.str("hostIP") {
            "" => None,
            text => Some(text.parse().context(|| format!("invalid IP address: {text}"))?),
        };
        Ok(Port {
            container_port: number("containerPort", "container")?,
            host_port: number("hostPort", "host")?,
            protocol: protocol.context(|| format!("unknown protocol {name:?}"))?,
            host,
        })
    };
    list.iter().map(read).collect::<Result<Vec<Port>>>().context(|| "failed to parse config")
}

/// The container's address of each family, IPv4 first.
fn addresses(before: &Value, interface: &str) -> Result<Vec<IpAddr>> {
    let interfaces = before.list("interfaces");
    let is_inside = |idx: usize| match interfaces.get(idx) {
        Some(found) => found.str("name") == interface && !found.str("sandbox").is_empty(),
        None => true,
    };
    let mut found = result::ips(before)?;
    found.retain(|ip| ip.interface.is_none_or(is_inside));
    let of_family = |ipv6: bool| found.iter().find(|ip| ip.address.is_ipv6() == ipv6);
    Ok([of_family(false), of_family(true)].into_iter().flatten().map(|ip| ip.address).collect())
}

/// Forgets connections over UDP that lead elsewhere: they have no end, and would go on. That it fails is only said.
fn forget(ports: &[Port], pods: &[IpAddr]) {
    let udp = ports.iter().filter(|port| port.protocol == Protocol::Udp);
    let both = udp.flat_map(|port| [false, true].map(|ipv6| (port, ipv6)));
    let of_family = both.filter(|(port, ipv6)| port.host.is_none_or(|ip| ip.is_ipv6() == *ipv6));
    let frontends: Vec<UdpFrontend> = of_family
        .map(|(port, ipv6)| UdpFrontend {
            ipv6,
            address: port.host.filter(|host| !host.is_unspecified()),
            port: port.host_port,
            endpoints: {
                let pods = pods.iter().filter(|pod| pod.is_ipv6() == ipv6);
                pods.map(|pod| SocketAddr::new(*pod, port.container_port)).collect()
            },
        })
        .collect();
    if let Err(error) = crate::conntrack::forget_stale(&frontends) {
        log::warn!("failed to delete stale UDP conntrack entries: {error}");
    }
}

/// Lets packets from 127.0.0.1 out by the interface that leads to the container.
fn let_localhost_through(pod: IpAddr) -> Result<()> {
    let mut links = Links::open()?;
    let leads = |address: &wire::rtnetlink::Address| {
        netplan::Cidr::new(address.address, address.prefix).is_some_and(|block| block.contains(pod))
    };
    let Some(address) = links.addresses()?.into_iter().find(leads) else { return Ok(()) };
    let links = links.all()?;
    let Some(link) = links.iter().find(|link| link.index == address.link) else { return Ok(()) };
    let name = format!("ipv4/conf/{}/route_localnet", link.name);
    match crate::sysctl::set(&name, "1") {
        true => Ok(()),
        false => Err(Error::new(format!("unable to enable route_localnet: {}", link.name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mapped(ports: Value) -> std::result::Result<Option<Value>, String> {
        let conf = json!({"name": "n", "cniVersion": "1.0.0", "prevResult": {}, "runtimeConfig": {"portMappings": ports}});
        run(&Call::test(Command::Status, conf)).map_err(|failure| failure.message)
    }

    #[test]
    fn mappings_are_read_or_refused() {
        let read = |tree: Value| ports(&json!({"runtimeConfig": {"portMappings": [tree]}}));
        let port = read(
            json!({"hostPort": 80, "containerPort": 8080, "protocol": "UDP", "hostIP": "::1"}),
        )
        .unwrap();
        let expected = Port {
            host: Some("::1".parse().unwrap()),
            host_port: 80,
            container_port: 8080,
            protocol: Protocol::Udp,
        };
        assert_eq!(port, [expected]);
        for (tree, why) in [
            (
                json!({"hostPort": 0, "containerPort": 1}),
                "failed to parse config: Invalid host port number: 0",
            ),
            (
                json!({"hostPort": 1, "containerPort": 70000}),
                "failed to parse config: Invalid container port number: 70000",
            ),
            (
                json!({"hostPort": 1, "containerPort": 1, "protocol": "x"}),
                "failed to parse config: unknown protocol \"x\"",
            ),
        ] {
            assert_eq!(mapped(json!([tree])), Err(why.to_owned()));
        }
        assert!(mapped(json!(vec![json!({}); PORTS_MAX + 1])).is_err());
        assert_eq!(mapped(json!([])), Ok(None));
    }

    #[test]
    fn whose_addresses_are_meant() {
        let before = json!({
            "interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": "/n"}, {"name": "eth1", "sandbox": "/n"}],
            "ips": [{"interface": 0, "address": "10.0.0.1/8"}, {"interface": 2, "address": "10.0.0.3/8"},
                {"interface": 1, "address": "fd00::2/64"}, {"interface": 1, "address": "10.0.0.2/8"}],
        });
        let shown: Vec<String> =
            addresses(&before, "eth0").unwrap().iter().map(IpAddr::to_string).collect();
        assert_eq!(shown, ["10.0.0.2", "fd00::2"]);
    }
}
