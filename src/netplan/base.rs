//! The rules that are there without any service: hooks, dispatch, masquerading, refusals.
//!
//! Hook layout: nat hooks translate; the filter hooks at priority 0 refuse what no service answers.
//! Network policies have filter chains of their own at priority 10 and 11, behind these, where addresses are
//! already those of pods.

use std::net::{IpAddr, SocketAddr};

use crate::address::{Cidr, Protocol};
use crate::flannel::{Backend, Settings, Tunnel};
use crate::plan::NodeInfo;
use crate::table::{Chain, Frontend, Hook, Key, Part, Rule, Set, SetKind, Table, Value, is_ipv6};

/// Chains and rules for the node's families, without any element.
pub(crate) fn table(node: &NodeInfo) -> Table {
    let mut table = Table { families: families(node), ..Table::default() };
    let mut add = |name: &'static str, hook: Option<Hook>, rules: Vec<Rule>| {
        table.chains.push((Chain::Fixed(name), hook, rules));
    };
    // Referred-to chains come before those that refer to them.
    add(
        "refuse",
        None,
        vec![vec![Part::Protocol(Protocol::Tcp), Part::RejectTcp], vec![Part::Reject]],
    );
    add("masquerade", None, vec![vec![Part::ClearMark], vec![Part::Masquerade]]);
    for ipv6 in families(node) {
        add(by_family(ipv6, "service4", "service6"), None, service_rules(node, ipv6));
        add(by_family(ipv6, "refused4", "refused6"), None, refused_rules(node, ipv6));
        add(by_family(ipv6, "translated4", "translated6"), None, translated_rules(node, ipv6));
        add(by_family(ipv6, "leaving4", "leaving6"), None, leaving_rules(node, ipv6));
    }
    let each = |four: &'static str, six: &'static str| -> Vec<Rule> {
        let jump = |ipv6: bool| {
            vec![Part::Family { ipv6 }, Part::Jump(Chain::Fixed(by_family(ipv6, four, six)))]
        };
        families(node).into_iter().map(jump).collect()
    };
    add("prerouting", Some(Hook::NatPrerouting), each("service4", "service6"));
    add("output", Some(Hook::NatOutput), each("service4", "service6"));
    let mut postrouting: Vec<Rule> =
        vec![vec![Part::Marked, Part::Goto(Chain::Fixed("masquerade"))]];
    for rule in each("translated4", "translated6") {
        postrouting.push([vec![Part::Translated { not: false }], rule].concat());
    }
    postrouting.extend(each("leaving4", "leaving6"));
    add("postrouting", Some(Hook::NatPostrouting), postrouting);
    let new = |rules: Vec<Rule>| -> Vec<Rule> {
        rules.into_iter().map(|rule| [vec![Part::StateNew], rule].concat()).collect()
    };
    let refuse = new(each("refused4", "refused6"));
    let mut input = vec![loopback_guard()];
    input.extend(tunnel_guard(node));
    input.extend(refuse.clone());
    add("filter-input", Some(Hook::FilterInput), input);
    let mut forward = stray_answers(node);
    forward.extend(tunnel_guard_of_others(node));
    forward.extend(refuse.clone());
    add("filter-forward", Some(Hook::FilterForward), forward);
    add("filter-output", Some(Hook::FilterOutput), refuse);
    // Two hooks, so that what one accepts still comes to the other. Empty while there is no policy.
    add("policy-open", None, Vec::new());
    add("policy-egress", Some(Hook::PolicyEgress), Vec::new());
    add("policy-ingress", Some(Hook::PolicyIngress), Vec::new());
    table
}

/// The rules of a `Chain::Balance`.
pub(crate) fn balancer_rules(chain: &Chain) -> Vec<Rule> {
    match chain {
        Chain::Balance { ipv6, local, n } => {
            let kind = if *local { SetKind::LocalEndpoints } else { SetKind::Endpoints };
            let set = Set { kind, ipv6: *ipv6 };
            vec![vec![Part::Family { ipv6: *ipv6 }, Part::Balance { set, n: *n }]]
        }
        _ => Vec::new(),
    }
}

/// What sends cluster DNS to this node's own server, and the balancers it uses.
pub(crate) fn dns_elements(dns: &[(IpAddr, SocketAddr)]) -> (Vec<(Set, Key, Value)>, Vec<Chain>) {
    const DNS_PORT: u16 = 53;
    let (mut elements, mut balancers) = (Vec::new(), Vec::new());
    for (address, server) in dns {
        let ipv6 = is_ipv6(*address);
        let chain = Chain::Balance { ipv6, local: false, n: 1 };
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let frontend = Frontend { address: *address, protocol, port: DNS_PORT };
            let set = |kind| Set { kind, ipv6 };
            let goto = Value::Goto(chain.clone());
            elements.push((set(SetKind::Services), Key::Frontend(frontend), goto));
            let target = Value::Target(*server);
            elements.push((set(SetKind::Endpoints), Key::Endpoint(frontend, 0), target));
        }
        balancers.push(chain);
    }
    (elements, balancers)
}

/// Cluster addresses first, which only the server gives out. On the node's own addresses, which the kernel knows
/// best, come its own ports, node ports, pods' host ports, and last what a user wrote into a Service.
fn service_rules(node: &NodeInfo, ipv6: bool) -> Vec<Rule> {
    let family = Part::Family { ipv6 };
    let external = dispatch(SetKind::External, ipv6);
    let mut rules = vec![vec![family.clone(), dispatch(SetKind::Services, ipv6)]];
    let elsewhere = Part::DestinationLocal { not: true };
    rules.push(vec![family.clone(), elsewhere.clone(), external.clone()]);
    rules.push(vec![family.clone(), elsewhere, Part::Return]);
    rules.extend(served_by_the_node(node, ipv6));
    let host_address_ports = Set { kind: SetKind::HostAddressPorts, ipv6 };
    let host_ports = Set { kind: SetKind::HostPorts, ipv6 };
    let ranges: Vec<&Cidr> = of_family(&node.node_port_cidrs, ipv6).collect();
    if node.node_port_cidrs.is_empty() {
        rules.push(vec![family.clone(), dispatch(SetKind::NodePorts, ipv6)]);
    }
    for cidr in ranges {
        let here = Part::Destination { cidr: *cidr, not: false };
        rules.push(vec![family.clone(), here, dispatch(SetKind::NodePorts, ipv6)]);
    }
    rules.push(vec![family.clone(), Part::DnatByMap(host_address_ports)]);
    rules.push(vec![family.clone(), Part::DnatByMap(host_ports)]);
    rules.extend(taken_by_node_ports(node, ipv6));
    rules.push(vec![family.clone(), external]);
    // Load balancers are for others: what programs of the host have on loopback stays theirs.
    let elsewhere = Part::Destination { cidr: Cidr::loopback(ipv6), not: true };
    rules.push(vec![family, elsewhere, dispatch(SetKind::BalancerPorts, ipv6)]);
    rules
}

/// Leaves alone what the node itself serves on any of its addresses.
fn served_by_the_node(node: &NodeInfo, ipv6: bool) -> Vec<Rule> {
    let one = |(protocol, port): &(Protocol, u16)| local_ports(ipv6, *protocol, (*port, *port));
    node.own_ports.iter().map(one).collect()
}

/// Leaves alone what is a node port's, used or not.
fn taken_by_node_ports(node: &NodeInfo, ipv6: bool) -> Vec<Rule> {
    let one = |protocol| local_ports(ipv6, protocol, node.node_ports);
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].map(one).into()
}

fn local_ports(ipv6: bool, protocol: Protocol, (first, last): (u16, u16)) -> Rule {
    let ports = Part::DestinationPorts { protocol, first, last };
    vec![Part::Family { ipv6 }, ports, Part::DestinationLocal { not: false }, Part::Return]
}

/// What still has a service's address when it is about to be delivered: nobody answers there.
fn refused_rules(node: &NodeInfo, ipv6: bool) -> Vec<Rule> {
    let family = Part::Family { ipv6 };
    let mut rules = served_by_the_node(node, ipv6);
    let local = Part::DestinationLocal { not: false };
    rules.push(vec![family.clone(), local, dispatch(SetKind::RefusedNodePorts, ipv6)]);
    rules.extend(taken_by_node_ports(node, ipv6));
    rules.push(vec![family.clone(), dispatch(SetKind::Refused, ipv6)]);
    for cidr in of_family(&node.service_cidrs, ipv6) {
        let destination = Part::Destination { cidr: *cidr, not: false };
        rules.push(vec![family.clone(), destination, Part::Goto(Chain::Fixed("refuse"))]);
    }
    rules
}

/// Connections whose destination was rewritten, and that would not find back otherwise.
fn translated_rules(node: &NodeInfo, ipv6: bool) -> Vec<Rule> {
    let family = Part::Family { ipv6 };
    let mut rules = vec![vec![family.clone(), Part::Hairpin { ipv6 }, Part::Masquerade]];
    let leaving = Part::OutputInterface { name: "lo".into(), not: true };
    let from = Part::Source { cidr: Cidr::loopback(ipv6), not: false };
    rules.push(vec![family.clone(), from, leaving, Part::Masquerade]);
    for service in of_family(&node.service_cidrs, ipv6) {
        for cluster in of_family(&node.cluster_cidrs, ipv6) {
            let outside = Part::Source { cidr: *cluster, not: true };
            let to_service = Part::OriginalDestination(*service);
            rules.push(vec![family.clone(), outside, to_service, Part::Masquerade]);
        }
    }
    if !node.bridge_netfilter {
        for cidr in of_family(&node.pod_cidrs, ipv6) {
            let from = Part::Source { cidr: *cidr, not: false };
            let to = Part::Destination { cidr: *cidr, not: false };
            rules.push(vec![family.clone(), from, to, Part::Masquerade]);
        }
    }
    rules
}

/// Pods' traffic that leaves the cluster.
fn leaving_rules(node: &NodeInfo, ipv6: bool) -> Vec<Rule> {
    if node.by_plugins || (ipv6 && !node.masquerade_ipv6) {
        return Vec::new();
    }
    let multicast = match ipv6 {
        false => Cidr::new(IpAddr::from([224, 0, 0, 0]), 4),
        true => Cidr::new(IpAddr::from([0xff00, 0, 0, 0, 0, 0, 0, 0]), 8),
    };
    let rule = |pods: &Cidr| {
        let mut rule = vec![Part::Family { ipv6 }, Part::Source { cidr: *pods, not: false }];
        let inside = of_family(&node.cluster_cidrs, ipv6).copied();
        rule.extend(inside.map(|cidr| Part::Destination { cidr, not: true }));
        rule.extend(multicast.map(|cidr| Part::Destination { cidr, not: true }));
        let bridge = node.bridge.as_str().into();
        rule.extend([Part::OutputInterface { name: bridge, not: true }, Part::Masquerade]);
        rule
    };
    of_family(&node.pod_cidrs, ipv6).map(rule).collect()
}

/// A pod's packet that fits no connection is not translated back: with the pod's own address it would
/// make the client reset a good connection to a service.
fn stray_answers(node: &NodeInfo) -> Vec<Rule> {
    let stray = |cidr: &Cidr| {
        let from_pod = Part::Source { cidr: *cidr, not: false };
        vec![Part::Family { ipv6: !cidr.is_ipv4() }, from_pod, Part::StateInvalid, Part::Drop]
    };
    node.pod_cidrs.iter().map(stray).collect()
}

/// Node ports work on 127.0.0.1, for which the kernel must route such addresses; nobody from
/// outside may use that to reach services that listen on loopback only.
fn loopback_guard() -> Rule {
    let from_outside = Part::InputInterface { name: "lo".into(), not: true };
    let mut rule = vec![Part::Family { ipv6: false }, from_outside];
    rule.push(Part::Destination { cidr: Cidr::loopback(false), not: false });
    rule.extend([Part::Translated { not: true }, Part::Drop]);
    rule
}

/// The tunnel believes every packet that comes to its port: none may come from a pod, of this node or another.
fn tunnel_guard(node: &NodeInfo) -> Vec<Rule> {
    let mut rules = Vec::new();
    let Some(tunnel) = node.tunnel else { return rules };
    let settings = Settings { vni: tunnel.vni, ..Settings::default() };
    for ipv6 in families(node) {
        for name in [&node.bridge, &settings.device(Backend::Vxlan, ipv6)] {
            rules.push([to_the_tunnel(ipv6, name, tunnel), vec![Part::Drop]].concat());
        }
    }
    rules
}

/// What leaves the cluster does so with this node's address, which other nodes believe. Between pods the port
/// is theirs.
fn tunnel_guard_of_others(node: &NodeInfo) -> Vec<Rule> {
    let Some(tunnel) = node.tunnel else { return Vec::new() };
    let one = |ipv6: bool| {
        let mut rule = to_the_tunnel(ipv6, &node.bridge, tunnel);
        let pods = of_family(&node.cluster_cidrs, ipv6);
        rule.extend(pods.map(|cidr| Part::Destination { cidr: *cidr, not: true }));
        rule.push(Part::Drop);
        rule
    };
    families(node).into_iter().map(one).collect()
}

fn to_the_tunnel(ipv6: bool, from: &str, tunnel: Tunnel) -> Rule {
    let (protocol, first, last) = (Protocol::Udp, tunnel.port, tunnel.port);
    vec![
        Part::Family { ipv6 },
        Part::InputInterface { name: from.into(), not: false },
        Part::DestinationPorts { protocol, first, last },
    ]
}

pub(crate) fn families(node: &NodeInfo) -> Vec<bool> {
    let all = || node.pod_cidrs.iter().chain(&node.service_cidrs);
    [false, true].into_iter().filter(|ipv6| all().any(|c| c.is_ipv4() != *ipv6)).collect()
}

fn of_family(cidrs: &[Cidr], ipv6: bool) -> impl Iterator<Item = &Cidr> {
    cidrs.iter().filter(move |cidr| cidr.is_ipv4() != ipv6)
}

fn dispatch(kind: SetKind, ipv6: bool) -> Part {
    Part::Dispatch(Set { kind, ipv6 })
}

fn by_family(ipv6: bool, four: &'static str, six: &'static str) -> &'static str {
    if ipv6 { six } else { four }
}
