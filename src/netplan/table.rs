//! The vocabulary of the rules: sets and their elements, chains and their rules, changes between two states.
//!
//! `Display` writes what `nft` would, so that snapshots read like a rule set.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::address::{Cidr, Protocol};

/// The one table, of family `inet`.
pub const TABLE: &str = "k3rs";

/// The packet mark's bit that asks for masquerading, kube-proxy's own.
pub const MASQUERADE_MARK: u32 = 0x4000;

/// The sets and maps, each once per address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetKind {
    /// `address . protocol . port : verdict`: where a connection to a cluster address goes on.
    Services,
    /// `address . protocol . port : verdict`: external and load balancer addresses, which come after all that
    /// the node itself serves.
    External,
    /// `protocol . port : verdict`
    NodePorts,
    /// `protocol . port : verdict`: what this node serves for load balancers, on any of its addresses.
    BalancerPorts,
    /// `cluster ip . protocol . port . index : address . port`: every usable endpoint of a service port.
    Endpoints,
    /// The same, of endpoints on this node only; for the `Local` traffic policies.
    LocalEndpoints,
    /// `protocol . port : address . port`
    HostPorts,
    /// `address . protocol . port : address . port`: host ports bound to one address.
    HostAddressPorts,
    /// `address . address`: a local endpoint that reaches itself through a service.
    Hairpin,
    /// `address . protocol . port : verdict`: services that cannot be served.
    Refused,
    /// `protocol . port : verdict`
    RefusedNodePorts,
    /// `address : verdict`: what a pod of this node may send.
    PolicyEgress,
    /// `address : verdict`: what it may be sent.
    PolicyIngress,
    /// `group . address`: whom policies' selectors mean.
    PolicyPeers,
    /// Intervals of `group . address`: address blocks of policies.
    PolicyBlocks,
    /// `address . protocol . port . name's number`: ports that policies name.
    PolicyPorts,
}

/// One set or map of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Set {
    pub kind: SetKind,
    pub ipv6: bool,
}

impl SetKind {
    pub const ALL: [SetKind; 16] = [
        SetKind::Services,
        SetKind::External,
        SetKind::NodePorts,
        SetKind::BalancerPorts,
        SetKind::Endpoints,
        SetKind::LocalEndpoints,
        SetKind::HostPorts,
        SetKind::HostAddressPorts,
        SetKind::Hairpin,
        SetKind::Refused,
        SetKind::RefusedNodePorts,
        SetKind::PolicyEgress,
        SetKind::PolicyIngress,
        SetKind::PolicyPeers,
        SetKind::PolicyBlocks,
        SetKind::PolicyPorts,
    ];
}

impl Set {
    pub fn name(self) -> &'static str {
        match (self.kind, self.ipv6) {
            (SetKind::Services, false) => "services4",
            (SetKind::Services, true) => "services6",
            (SetKind::External, false) => "external4",
            (SetKind::External, true) => "external6",
            (SetKind::NodePorts, false) => "node-ports4",
            (SetKind::NodePorts, true) => "node-ports6",
            (SetKind::BalancerPorts, false) => "balancer-ports4",
            (SetKind::BalancerPorts, true) => "balancer-ports6",
            (SetKind::Endpoints, false) => "endpoints4",
            (SetKind::Endpoints, true) => "endpoints6",
            (SetKind::LocalEndpoints, false) => "local-endpoints4",
            (SetKind::LocalEndpoints, true) => "local-endpoints6",
            (SetKind::HostPorts, false) => "host-ports4",
            (SetKind::HostPorts, true) => "host-ports6",
            (SetKind::HostAddressPorts, false) => "host-address-ports4",
            (SetKind::HostAddressPorts, true) => "host-address-ports6",
            (SetKind::Hairpin, false) => "hairpin4",
            (SetKind::Hairpin, true) => "hairpin6",
            (SetKind::Refused, false) => "refused4",
            (SetKind::Refused, true) => "refused6",
            (SetKind::RefusedNodePorts, false) => "refused-node-ports4",
            (SetKind::RefusedNodePorts, true) => "refused-node-ports6",
            (SetKind::PolicyEgress, false) => "policy-egress4",
            (SetKind::PolicyEgress, true) => "policy-egress6",
            (SetKind::PolicyIngress, false) => "policy-ingress4",
            (SetKind::PolicyIngress, true) => "policy-ingress6",
            (SetKind::PolicyPeers, false) => "policy-peers4",
            (SetKind::PolicyPeers, true) => "policy-peers6",
            (SetKind::PolicyBlocks, false) => "policy-blocks4",
            (SetKind::PolicyBlocks, true) => "policy-blocks6",
            (SetKind::PolicyPorts, false) => "policy-ports4",
            (SetKind::PolicyPorts, true) => "policy-ports6",
        }
    }
}

/// An element's key; which shape depends on its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Frontend(Frontend),
    Port(Protocol, u16),
    Endpoint(Frontend, u32),
    /// The same address twice.
    Itself(IpAddr),
    Address(IpAddr),
    /// A group, and the first and the last of its addresses; both are one, but in sets of intervals.
    Member(u32, IpAddr, IpAddr),
}

/// An address, protocol and port that a service answers on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    pub address: IpAddr,
    pub protocol: Protocol,
    pub port: u16,
}

/// What an element leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    None,
    Drop,
    Goto(Chain),
    Target(SocketAddr),
}

/// A chain's name, small where it can be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Chain {
    Fixed(&'static str),
    /// Picks one of `n` endpoints of the service that was addressed.
    Balance {
        ipv6: bool,
        local: bool,
        n: u32,
    },
    /// A chain of one service port.
    Named(Arc<str>),
}

/// One match or statement of a rule, left to right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Family {
        ipv6: bool,
    },
    Protocol(Protocol),
    Source {
        cidr: Cidr,
        not: bool,
    },
    Destination {
        cidr: Cidr,
        not: bool,
    },
    OriginalDestination(Cidr),
    /// The transport protocol, and a destination port from `first` to `last`.
    DestinationPorts {
        protocol: Protocol,
        first: u16,
        last: u16,
    },
    InputInterface {
        name: Arc<str>,
        not: bool,
    },
    OutputInterface {
        name: Arc<str>,
        not: bool,
    },
    SourceLocal,
    DestinationLocal {
        not: bool,
    },
    StateNew,
    StateInvalid,
    /// It goes the other way than the first packet of its connection.
    Reply,
    /// An error about a connection.
    Related,
    Translated {
        not: bool,
    },
    Marked,
    SetMark,
    ClearMark,
    /// Source and destination are one pair of the hairpin set.
    Hairpin {
        ipv6: bool,
    },
    /// The source or destination address is in a group.
    Member {
        set: Set,
        group: u32,
        source: bool,
    },
    /// The destination has a port of the name with this number.
    NamedPort {
        ipv6: bool,
        id: u32,
    },
    /// The source address is in a client set.
    KnownClient {
        set: Arc<str>,
        ipv6: bool,
    },
    /// Remembers the source address, or refreshes it.
    RememberClient {
        set: Arc<str>,
        ipv6: bool,
        timeout_secs: u32,
    },
    /// True once in `n` times.
    OneIn(u32),
    /// Looks the packet's destination up and goes where the map says.
    Dispatch(Set),
    /// To one of the `n` endpoints of the addressed service in the set.
    Balance {
        set: Set,
        n: u32,
    },
    /// To one of these, which are of one family and at least one.
    DnatAmong(Vec<SocketAddr>),
    /// To where the map says for the packet's destination.
    DnatByMap(Set),
    Dnat(SocketAddr),
    Masquerade,
    RejectTcp,
    Reject,
    Accept,
    Drop,
    Return,
    Jump(Chain),
    Goto(Chain),
}

pub type Rule = Vec<Part>;

/// A base chain's place in the packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    NatPrerouting,
    NatOutput,
    NatPostrouting,
    FilterInput,
    FilterForward,
    FilterOutput,
    PolicyEgress,
    PolicyIngress,
}

/// A set of clients that were sent to one endpoint (session affinity).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientSet {
    pub name: Arc<str>,
    pub ipv6: bool,
    pub timeout_secs: u32,
}

/// Everything: what replaces the table.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub client_sets: Vec<ClientSet>,
    pub chains: Vec<(Chain, Option<Hook>, Vec<Rule>)>,
    pub elements: Vec<(Set, Key, Value)>,
    /// There is something of this family to match; the sets are made for it.
    pub families: Vec<bool>,
}

/// What to do to the table, in this order, in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub add_client_sets: Vec<ClientSet>,
    pub add_chains: Vec<Chain>,
    pub delete_elements: Vec<(Set, Key, Value)>,
    /// Replaces all rules of the chain.
    pub set_rules: Vec<(Chain, Vec<Rule>)>,
    pub add_elements: Vec<(Set, Key, Value)>,
    /// Their rules go first, of all of them.
    pub delete_chains: Vec<Chain>,
    pub delete_client_sets: Vec<ClientSet>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.add_client_sets.is_empty()
            && self.add_chains.is_empty()
            && self.delete_elements.is_empty()
            && self.set_rules.is_empty()
            && self.add_elements.is_empty()
            && self.delete_chains.is_empty()
            && self.delete_client_sets.is_empty()
    }
}

/// An address is of IPv6 as the maps see it.
pub(crate) fn is_ipv6(address: IpAddr) -> bool {
    address.is_ipv6()
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Chain::Fixed(name) => f.write_str(name),
            Chain::Balance { ipv6, local, n } => {
                let scope = if *local { "local" } else { "balance" };
                write!(f, "{scope}{}-{n}", if *ipv6 { 6 } else { 4 })
            }
            Chain::Named(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} . {} . {}", self.address, self.protocol.lower(), self.port)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Frontend(frontend) => frontend.fmt(f),
            Key::Port(protocol, port) => write!(f, "{} . {port}", protocol.lower()),
            Key::Endpoint(frontend, idx) => write!(f, "{frontend} . {idx}"),
            Key::Itself(address) => write!(f, "{address} . {address}"),
            Key::Address(address) => address.fmt(f),
            Key::Member(group, first, last) if first == last => write!(f, "{group} . {first}"),
            Key::Member(group, first, last) => write!(f, "{group} . {first}-{last}"),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::None => Ok(()),
            Value::Drop => f.write_str(" : drop"),
            Value::Goto(chain) => write!(f, " : goto {chain}"),
            Value::Target(target) => write!(f, " : {} . {}", target.ip(), target.port()),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = |ipv6: &bool| if *ipv6 { "ip6" } else { "ip" };
        let of = |cidr: &Cidr| if cidr.is_ipv4() { "ip" } else { "ip6" };
        let op = |not: &bool| if *not { "!= " } else { "" };
        match self {
            Part::Family { ipv6 } => write!(f, "meta nfproto ipv{}", if *ipv6 { 6 } else { 4 }),
            Part::Protocol(protocol) => write!(f, "meta l4proto {}", protocol.lower()),
            Part::Source { cidr, not } => write!(f, "{} saddr {}{cidr}", of(cidr), op(not)),
            Part::Destination { cidr, not } => write!(f, "{} daddr {}{cidr}", of(cidr), op(not)),
            Part::OriginalDestination(cidr) => write!(f, "ct original {} daddr {cidr}", of(cidr)),
            Part::DestinationPorts { protocol, first, last } if first == last => {
                write!(f, "{} dport {first}", protocol.lower())
            }
            Part::DestinationPorts { protocol, first, last } => {
                write!(f, "{} dport {first}-{last}", protocol.lower())
            }
            Part::InputInterface { name, not } => write!(f, "iifname {}\"{name}\"", op(not)),
            Part::OutputInterface { name, not } => write!(f, "oifname {}\"{name}\"", op(not)),
            Part::SourceLocal => f.write_str("fib saddr type local"),
            Part::DestinationLocal { not } => write!(f, "fib daddr type {}local", op(not)),
            Part::StateNew => f.write_str("ct state new"),
            Part::StateInvalid => f.write_str("ct state invalid"),
            Part::Reply => f.write_str("ct direction reply"),
            Part::Related => f.write_str("ct state related"),
            Part::Member { set, group, source } => {
                let end = if *source { "saddr" } else { "daddr" };
                write!(f, "{group} . {} {end} @{}", ip(&set.ipv6), set.name())
            }
            Part::NamedPort { ipv6, id } => {
                let set = Set { kind: SetKind::PolicyPorts, ipv6: *ipv6 };
                write!(f, "{} . {id} @{}", looked_up(set), set.name())
            }
            Part::Translated { not } => write!(f, "ct status {}dnat", op(not)),
            Part::Marked => write!(f, "meta mark & {MASQUERADE_MARK:#x} != 0"),
            Part::SetMark => write!(f, "meta mark set meta mark | {MASQUERADE_MARK:#x}"),
            Part::ClearMark => write!(f, "meta mark set meta mark & {:#x}", !MASQUERADE_MARK),
            Part::Hairpin { ipv6 } => {
                let set = Set { kind: SetKind::Hairpin, ipv6: *ipv6 };
                write!(f, "{0} saddr . {0} daddr @{1}", ip(ipv6), set.name())
            }
            Part::KnownClient { set, ipv6 } => write!(f, "{} saddr @{set}", ip(ipv6)),
            Part::RememberClient { set, ipv6, timeout_secs } => {
                write!(f, "update @{set} {{ {} saddr timeout {timeout_secs}s }}", ip(ipv6))
            }
            Part::OneIn(n) => write!(f, "numgen random mod {n} == 0"),
            Part::Dispatch(set) => write!(f, "{} vmap @{}", looked_up(*set), set.name()),
            Part::Balance { set, n } => {
                let (ip, key, name) = (ip(&set.ipv6), looked_up(*set), set.name());
                write!(f, "dnat {ip} to {key} . numgen random mod {n} map @{name}")
            }
            Part::DnatAmong(targets) => {
                let entry = |(idx, target)| format!("{idx} : {target}");
                let entries: Vec<String> = targets.iter().enumerate().map(entry).collect();
                let n = targets.len();
                write!(f, "dnat to numgen random mod {n} map {{ {} }}", entries.join(", "))
            }
            Part::DnatByMap(set) => {
                write!(f, "dnat {} to {} map @{}", ip(&set.ipv6), looked_up(*set), set.name())
            }
            Part::Dnat(target) => write!(f, "dnat to {target}"),
            Part::Masquerade => f.write_str("masquerade fully-random"),
            Part::RejectTcp => f.write_str("reject with tcp reset"),
            Part::Reject => f.write_str("reject with icmpx port-unreachable"),
            Part::Accept => f.write_str("accept"),
            Part::Drop => f.write_str("drop"),
            Part::Return => f.write_str("return"),
            Part::Jump(chain) => write!(f, "jump {chain}"),
            Part::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

fn looked_up(set: Set) -> String {
    match set.kind {
        SetKind::NodePorts
        | SetKind::BalancerPorts
        | SetKind::RefusedNodePorts
        | SetKind::HostPorts => "meta l4proto . th dport".to_owned(),
        SetKind::PolicyEgress => format!("{} saddr", if set.ipv6 { "ip6" } else { "ip" }),
        SetKind::PolicyIngress => format!("{} daddr", if set.ipv6 { "ip6" } else { "ip" }),
        _ => format!("{} daddr . meta l4proto . th dport", if set.ipv6 { "ip6" } else { "ip" }),
    }
}

fn write_rules(f: &mut fmt::Formatter<'_>, rules: &[Rule]) -> fmt::Result {
    for rule in rules {
        let parts: Vec<String> = rule.iter().map(Part::to_string).collect();
        writeln!(f, "  {}", parts.join(" "))?;
    }
    Ok(())
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (chain, hook, rules) in &self.chains {
            match hook {
                Some(hook) => writeln!(f, "chain {chain} ({hook:?})")?,
                None => writeln!(f, "chain {chain}")?,
            }
            write_rules(f, rules)?;
        }
        for set in &self.client_sets {
            writeln!(f, "set {} timeout {}s", set.name, set.timeout_secs)?;
        }
        for (set, key, value) in &self.elements {
            writeln!(f, "{} {key}{value}", set.name())?;
        }
        Ok(())
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for set in &self.add_client_sets {
            writeln!(f, "+ set {} timeout {}s", set.name, set.timeout_secs)?;
        }
        for chain in &self.add_chains {
            writeln!(f, "+ chain {chain}")?;
        }
        for (set, key, value) in &self.delete_elements {
            writeln!(f, "- {} {key}{value}", set.name())?;
        }
        for (chain, rules) in &self.set_rules {
            writeln!(f, "= chain {chain}")?;
            write_rules(f, rules)?;
        }
        for (set, key, value) in &self.add_elements {
            writeln!(f, "+ {} {key}{value}", set.name())?;
        }
        for chain in &self.delete_chains {
            writeln!(f, "- chain {chain}")?;
        }
        for set in &self.delete_client_sets {
            writeln!(f, "- set {}", set.name)?;
        }
        Ok(())
    }
}
