//! What one Service asks of the rules: a pure function of the Service, its slices and the node.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use stdx::Arrange;

use crate::address::{Cidr, Protocol, is_special};
use crate::flannel::Tunnel;
use crate::objects::{Service, ServicePort, Slice};
use crate::table::{Chain, ClientSet, Frontend, Key, Part, Rule, Set, SetKind, Value, is_ipv6};

/// What the rules must know of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeInfo {
    pub node_name: String,
    /// Of its Node's label `topology.kubernetes.io/zone`; empty without.
    pub zone: String,
    /// The node's addresses as its Node has them, external ones too: load balancers are published under these.
    pub addresses: Vec<IpAddr>,
    /// This node's pods.
    pub pod_cidrs: Vec<Cidr>,
    pub cluster_cidrs: Vec<Cidr>,
    pub service_cidrs: Vec<Cidr>,
    /// Cluster DNS addresses and where the server of this node really listens.
    pub dns: Vec<(IpAddr, SocketAddr)>,
    pub bridge: String,
    /// Bridged packets pass the inet hooks; else connections within the bridge are masqueraded.
    pub bridge_netfilter: bool,
    /// Pods' IPv6 traffic that leaves the cluster gets the node's address (`--flannel-ipv6-masq`).
    pub masquerade_ipv6: bool,
    /// Node ports answer on local addresses in these blocks only; empty: on all.
    pub node_port_cidrs: Vec<Cidr>,
    /// Where node ports lie, both ends included: on an address of the node they are nobody else's.
    pub node_ports: (u16, u16),
    /// What the node itself serves on its addresses: no service and no pod takes these ports.
    pub own_ports: Vec<(Protocol, u16)>,
    /// Pods get their interfaces and addresses, and their way out, from plugins, wherever these lie.
    pub by_plugins: bool,
    /// Pods of other nodes are reached through it.
    pub tunnel: Option<Tunnel>,
    /// The node's addresses are loopback's, because it has no other.
    pub on_loopback: bool,
}

impl NodeInfo {
    /// Whether a service may answer on an external or load balancer address that a user wrote. Ports are not
    /// looked at here: which addresses are the node's own changes, and the rules ask the kernel about that.
    fn may_answer_on(&self, address: IpAddr) -> bool {
        let ours = self.service_cidrs.iter().chain(&self.cluster_cidrs).chain(&self.pod_cidrs);
        !is_special(address) && !ours.into_iter().any(|cidr| cidr.contains(address))
    }

    /// Whether a rule may lead to an endpoint. Slices are written by users, too.
    fn may_lead_to(&self, named: Named<'_>, address: IpAddr) -> bool {
        // A machine without any network serves the API on loopback.
        let api = self.on_loopback && (named.namespace, named.name) == ("default", "kubernetes");
        !is_special(address) || (api && address.is_loopback())
    }
}

/// One Service's part of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Sorted by set and key, each pair once.
    pub(crate) elements: Vec<(Set, Key, Value)>,
    pub(crate) chains: Vec<(Arc<str>, Vec<Rule>)>,
    pub(crate) client_sets: Vec<ClientSet>,
    /// `Chain::Balance` chains that the elements lead to.
    pub(crate) balancers: Vec<Chain>,
    /// The endpoints of each service port in the order of their indices.
    pub(crate) lists: Vec<PortEndpoints>,
    pub(crate) udp: Vec<UdpFrontend>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortEndpoints {
    frontend: Frontend,
    all: Vec<SocketAddr>,
    local: Vec<SocketAddr>,
}

/// Where UDP connections may now lead; others of the same destination are stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpFrontend {
    /// `None`: any address of the node (a node port or host port).
    pub address: Option<IpAddr>,
    pub port: u16,
    pub ipv6: bool,
    pub endpoints: Vec<SocketAddr>,
}

/// Which service is planned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

/// Plans one Service. `previous` keeps the indices of endpoints that stay, so that a change costs
/// what changed.
pub(crate) fn plan<'s>(
    named: Named<'_>,
    service: &Service,
    slices: impl Iterator<Item = &'s Slice> + Clone,
    node: &NodeInfo,
    previous: Option<&Plan>,
) -> Plan {
    let mut plan = Plan::default();
    if service.headless || service.external_name.is_some() || service.foreign_proxy {
        return plan;
    }
    for cluster_ip in service.cluster_ips.iter().filter(|ip| !is_special(**ip)) {
        for port in &service.ports {
            let frontend =
                Frontend { address: *cluster_ip, protocol: port.protocol, port: port.port };
            let old =
                previous.and_then(|plan| plan.lists.iter().find(|list| list.frontend == frontend));
            let led = |ip| node.may_lead_to(named, ip);
            let n_max = crate::objects::beside(service.ports.len());
            let list = usable(frontend, port, slices.clone(), (&node.zone, &led), (old, n_max));
            let mut one = OnePort { named, service, port, node, list: &list, plan: &mut plan };
            one.plan();
            plan.lists.push(list);
        }
    }
    plan.elements.arrange_by_key(|(set, key, _)| (*set, *key));
    plan.elements.dedup_by(|a, b| (a.0, a.1) == (b.0, b.1));
    plan.balancers.arrange();
    plan.balancers.dedup();
    plan
}

/// The endpoints to use: the ready ones, or, when there are none, those that still serve while they
/// terminate; the same for the local ones alone. Where each ready one says which zones it is meant for, and one
/// of them means this node's, those of other zones are left out.
fn usable<'s>(
    frontend: Frontend,
    port: &ServicePort,
    slices: impl Iterator<Item = &'s Slice>,
    (zone, may_lead_to): (&str, &dyn Fn(IpAddr) -> bool),
    (old, n_max): (Option<&PortEndpoints>, usize),
) -> PortEndpoints {
    let mut found: Vec<(SocketAddr, bool, bool, Option<bool>)> = Vec::new();
    for slice in slices {
        let same =
            |p: &&crate::objects::SlicePort| p.name == port.name && p.protocol == port.protocol;
        let Some(target_port) = slice.ports.iter().find(same).map(|p| p.port) else { continue };
        for endpoint in &slice.endpoints {
            let usable = endpoint.ready || (endpoint.serving && endpoint.terminating);
            if !usable {
                continue;
            }
            let family = |a: &&IpAddr| is_ipv6(**a) == is_ipv6(frontend.address);
            // Only an endpoint's first address counts, as the API says.
            let address = endpoint.addresses.first().filter(family);
            if let Some(address) = address.filter(|address| may_lead_to(**address)) {
                found.push((
                    SocketAddr::new(*address, target_port),
                    endpoint.ready,
                    endpoint.local,
                    endpoint.hints.as_ref().map(|hints| hints.names(zone)),
                ));
            }
        }
    }
    found.arrange();
    // Where an address is listed twice, its ready entry (true sorts last) wins.
    found.reverse();
    found.dedup_by_key(|(address, ..)| *address);
    found.reverse();
    found.truncate(n_max);
    let ready = || found.iter().filter(|(_, ready, ..)| *ready).map(|(.., near)| *near);
    let by_zone = !zone.is_empty()
        && ready().all(|near| near.is_some())
        && ready().any(|near| near == Some(true));
    let pick = |local_only: bool| {
        let candidates = found.iter().filter(|(_, _, local, near)| match local_only {
            true => *local,
            false => !by_zone || *near == Some(true),
        });
        let ready: Vec<SocketAddr> =
            candidates.clone().filter(|(_, ready, ..)| *ready).map(|(a, ..)| *a).collect();
        match ready.is_empty() {
            true => candidates.map(|(a, ..)| *a).collect(),
            false => ready,
        }
    };
    let old_all = old.map_or(&[][..], |old| &old.all);
    let old_local = old.map_or(&[][..], |old| &old.local);
    PortEndpoints {
        frontend,
        all: keep_places(old_all, pick(false)),
        local: keep_places(old_local, pick(true)),
    }
}

/// Orders `new` (sorted) so that what was in `old` keeps its index where that still exists.
fn keep_places(old: &[SocketAddr], new: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let stays = |idx: usize| old.get(idx).filter(|a| new.binary_search(a).is_ok());
    let mut placed: Vec<Option<SocketAddr>> =
        (0..new.len()).map(|idx| stays(idx).copied()).collect();
    let mut kept: Vec<SocketAddr> = placed.iter().flatten().copied().collect();
    kept.arrange();
    let mut rest = new.iter().filter(|a| kept.binary_search(a).is_err());
    for place in &mut placed {
        if place.is_none() {
            *place = rest.next().copied();
        }
    }
    placed.into_iter().flatten().collect()
}

struct OnePort<'a> {
    named: Named<'a>,
    service: &'a Service,
    port: &'a ServicePort,
    node: &'a NodeInfo,
    list: &'a PortEndpoints,
    plan: &'a mut Plan,
}

impl OnePort<'_> {
    fn plan(&mut self) {
        let external: Vec<Frontend> =
            self.frontends(&self.service.external_ips).chain(self.balanced()).collect();
        let is_exposed = !external.is_empty() || self.port.node_port != 0;
        self.cluster_ip();
        if is_exposed {
            self.exposed(&external);
        }
        if self.list.all.is_empty() {
            self.udp(&external);
            return;
        }
        let local_used = self.service.internal_local || (is_exposed && self.service.external_local);
        match self.service.affinity_secs {
            Some(timeout_secs) => self.affinity(timeout_secs, local_used),
            None if self.service.internal_local => {
                self.endpoints(SetKind::LocalEndpoints, &self.list.local);
            }
            None => self.endpoints(SetKind::Endpoints, &self.list.all),
        }
        for target in &self.list.local {
            let by_plugin = self.node.by_plugins && !self.node.addresses.contains(&target.ip());
            if by_plugin || self.node.pod_cidrs.iter().any(|cidr| cidr.contains(target.ip())) {
                self.element(SetKind::Hairpin, Key::Itself(target.ip()), Value::None);
            }
        }
        self.udp(&external);
    }

    /// The addresses that a user wrote and that a service may have.
    fn frontends(&self, addresses: &[IpAddr]) -> impl Iterator<Item = Frontend> {
        let usable = |ip: &&IpAddr| is_ipv6(**ip) == self.ipv6() && self.node.may_answer_on(**ip);
        addresses
            .iter()
            .filter(usable)
            .map(|address| Frontend { address: *address, ..self.list.frontend })
    }

    /// The addresses of its load balancer.
    fn balanced(&self) -> impl Iterator<Item = Frontend> {
        let n_max = match self.port.balanced {
            true => crate::objects::beside(self.service.ports.len()),
            false => 0,
        };
        self.frontends(&self.service.load_balancer_ips).take(n_max)
    }

    /// Its port, if this node is one of those that serve it: such a node answers on all its addresses, for behind
    /// a router that translates, packets do not come to the published one.
    fn on_this_node(&self) -> Option<Key> {
        let mut published = self.frontends(&self.service.load_balancer_ips);
        let is_here = published.any(|frontend| self.node.addresses.contains(&frontend.address));
        (is_here && self.port.balanced).then_some(Key::Port(self.port.protocol, self.port.port))
    }

    fn cluster_ip(&mut self) {
        let key = Key::Frontend(self.list.frontend);
        let local = self.service.internal_local;
        let n = if local { self.list.local.len() } else { self.list.all.len() };
        // Without any endpoint the packet keeps its destination, which the filter hooks refuse.
        if self.list.all.is_empty() {
            return;
        }
        if n == 0 {
            return self.element(SetKind::Services, key, Value::Drop);
        }
        let chain = match self.service.affinity_secs {
            Some(_) => Chain::Named(self.affinity_name(local)),
            None => {
                let n = u32::try_from(n).unwrap_or(u32::MAX);
                let chain = Chain::Balance { ipv6: self.ipv6(), local, n };
                self.plan.balancers.push(chain.clone());
                chain
            }
        };
        self.element(SetKind::Services, key, Value::Goto(chain));
    }

    /// Node port, external and load balancer addresses.
    fn exposed(&mut self, external: &[Frontend]) {
        let node_port = Some(self.port.node_port).filter(|port| *port != 0);
        let node_port = node_port.map(|port| Key::Port(self.port.protocol, port));
        if self.list.all.is_empty() {
            let refuse = || Value::Goto(Chain::Fixed("refuse"));
            for frontend in external {
                self.element(SetKind::Refused, Key::Frontend(*frontend), refuse());
            }
            if let Some(key) = node_port {
                self.element(SetKind::RefusedNodePorts, key, refuse());
            }
            return;
        }
        let name = self.chain_name("external");
        let goto = || Value::Goto(Chain::Named(name.clone()));
        // First, because the first of several elements with one key counts.
        self.firewall(&name);
        for frontend in external {
            self.element(SetKind::External, Key::Frontend(*frontend), goto());
        }
        if let Some(key) = node_port {
            self.element(SetKind::NodePorts, key, goto());
        }
        if let Some(key) = self.on_this_node() {
            self.element(SetKind::BalancerPorts, key, goto());
        }
        let rules = self.external_rules();
        self.plan.chains.push((name, rules));
    }

    fn external_rules(&self) -> Vec<Rule> {
        let to_all = self.choose(false);
        if !self.service.external_local {
            return vec![vec![Part::SetMark], vec![to_all]];
        }
        let mut rules = Vec::new();
        // Clients inside the cluster are served by any endpoint; only outside traffic is kept local.
        for cidr in self.node.cluster_cidrs.iter().filter(|c| c.is_ipv4() != self.ipv6()) {
            rules.push(vec![Part::Source { cidr: *cidr, not: false }, to_all.clone()]);
        }
        rules.push(vec![Part::SourceLocal, Part::SetMark]);
        rules.push(vec![Part::SourceLocal, to_all]);
        rules.push(vec![match self.list.local.is_empty() {
            true => Part::Drop,
            false => self.choose(true),
        }]);
        rules
    }

    fn choose(&self, local: bool) -> Part {
        if self.service.affinity_secs.is_some() {
            return Part::Goto(Chain::Named(self.affinity_name(local)));
        }
        let targets = if local { &self.list.local } else { &self.list.all };
        Part::DnatAmong(targets.clone())
    }

    /// `loadBalancerSourceRanges`: who may go on to the chain `allowed`. It is asked only where the service is
    /// served, so that it refuses nobody what is not the service's.
    fn firewall(&mut self, allowed: &Arc<str>) {
        let ipv6 = self.ipv6();
        let ranges: Vec<Cidr> =
            self.service.source_ranges.iter().filter(|r| r.is_ipv4() != ipv6).copied().collect();
        if ranges.is_empty() {
            return;
        }
        let name = self.chain_name("firewall");
        let goto = || Value::Goto(Chain::Named(name.clone()));
        let frontends: Vec<Frontend> = self.balanced().collect();
        for frontend in frontends {
            self.element(SetKind::External, Key::Frontend(frontend), goto());
        }
        if let Some(key) = self.on_this_node() {
            self.element(SetKind::BalancerPorts, key, goto());
        }
        let go_on = || Part::Goto(Chain::Named(allowed.clone()));
        // The node itself is no outsider.
        let mut rules: Vec<Rule> = vec![vec![Part::SourceLocal, go_on()]];
        rules.extend(
            ranges.into_iter().map(|cidr| vec![Part::Source { cidr, not: false }, go_on()]),
        );
        rules.push(vec![Part::Drop]);
        self.plan.chains.push((name, rules));
    }

    fn endpoints(&mut self, kind: SetKind, targets: &[SocketAddr]) {
        for (idx, target) in (0u32..).zip(targets) {
            let key = Key::Endpoint(self.list.frontend, idx);
            self.element(kind, key, Value::Target(*target));
        }
    }

    /// Session affinity: a chain that knows each endpoint's clients, and a chain and a client set
    /// per endpoint.
    fn affinity(&mut self, timeout_secs: u32, local_used: bool) {
        let ipv6 = self.ipv6();
        let list = self.list;
        let mut targets: Vec<SocketAddr> = list.all.iter().chain(&list.local).copied().collect();
        targets.arrange();
        targets.dedup();
        for target in &targets {
            let (chain, set) =
                (self.endpoint_name("endpoint", target), self.endpoint_name("clients", target));
            let remember = Part::RememberClient { set: set.clone(), ipv6, timeout_secs };
            let rules = vec![
                vec![Part::Family { ipv6 }, remember],
                vec![Part::Family { ipv6 }, Part::Dnat(*target)],
            ];
            self.plan.chains.push((chain, rules));
            self.plan.client_sets.push(ClientSet { name: set, ipv6, timeout_secs });
        }
        let all = self.affinity_rules(&list.all);
        self.plan.chains.push((self.affinity_name(false), all));
        if local_used && !list.local.is_empty() {
            let local = self.affinity_rules(&list.local);
            self.plan.chains.push((self.affinity_name(true), local));
        }
    }

    fn affinity_rules(&self, targets: &[SocketAddr]) -> Vec<Rule> {
        let ipv6 = self.ipv6();
        let goto = |target| Part::Goto(Chain::Named(self.endpoint_name("endpoint", target)));
        let known = targets.iter().map(|target| {
            let set = self.endpoint_name("clients", target);
            vec![Part::Family { ipv6 }, Part::KnownClient { set, ipv6 }, goto(target)]
        });
        let chosen =
            targets.iter().zip((1..=targets.len()).rev()).map(|(target, left)| match left {
                1 => vec![goto(target)],
                _ => vec![Part::OneIn(u32::try_from(left).unwrap_or(u32::MAX)), goto(target)],
            });
        known.chain(chosen).collect()
    }

    fn udp(&mut self, external: &[Frontend]) {
        if self.port.protocol != Protocol::Udp {
            return;
        }
        let mut endpoints = self.list.all.clone();
        endpoints.extend(&self.list.local);
        endpoints.arrange();
        endpoints.dedup();
        let one = |address, port| UdpFrontend {
            address,
            port,
            ipv6: self.ipv6(),
            endpoints: endpoints.clone(),
        };
        let mut frontends = vec![one(Some(self.list.frontend.address), self.port.port)];
        frontends.extend(external.iter().map(|f| one(Some(f.address), f.port)));
        if self.port.node_port != 0 {
            frontends.push(one(None, self.port.node_port));
        }
        if self.on_this_node().is_some() {
            frontends.push(one(None, self.port.port));
        }
        self.plan.udp.extend(frontends);
    }

    fn element(&mut self, kind: SetKind, key: Key, value: Value) {
        self.plan.elements.push((Set { kind, ipv6: self.ipv6() }, key, value));
    }

    fn ipv6(&self) -> bool {
        is_ipv6(self.list.frontend.address)
    }

    fn affinity_name(&self, local: bool) -> Arc<str> {
        self.chain_name(if local { "affinity-local" } else { "affinity" })
    }

    fn chain_name(&self, what: &str) -> Arc<str> {
        let family = if self.ipv6() { 6 } else { 4 };
        let Named { namespace, name } = self.named;
        let ServicePort { protocol, port, .. } = self.port;
        format!("{what}{family}/{namespace}/{name}/{}/{port}", protocol.lower()).into()
    }

    /// A colon would end a name in nft's syntax.
    fn endpoint_name(&self, what: &str, target: &SocketAddr) -> Arc<str> {
        let address = target.ip().to_string().replace(':', "_");
        format!("{}/{address}/{}", self.chain_name(what), target.port()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_keep_their_places() {
        let a = |n: u16| SocketAddr::new(IpAddr::from([10, 0, 0, 1]), n);
        let list = |ns: &[u16]| ns.iter().map(|n| a(*n)).collect::<Vec<_>>();
        let check = |old: &[u16], new: &[u16], expected: &[u16]| {
            assert_eq!(keep_places(&list(old), list(new)), list(expected), "{old:?} -> {new:?}");
        };
        check(&[], &[1, 2, 3], &[1, 2, 3]);
        check(&[2, 1, 3], &[1, 2, 3, 4], &[2, 1, 3, 4]);
        check(&[2, 1, 3], &[1, 3], &[3, 1]);
        check(&[1, 2, 3], &[2, 5, 6], &[5, 2, 6]);
        check(&[1, 2, 3], &[], &[]);
    }
}
