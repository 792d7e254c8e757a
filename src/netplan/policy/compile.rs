//! Policies as rules: one chain a policy and direction, made while a pod of this node needs it.

use std::sync::Arc;

use super::read::{Allowed, Peers, PodPeers, Port};
use super::{Active, At, EGRESS, Group, INGRESS, Policies, Shared, WAYS, peer_key, port_key};
use crate::address::Protocol;
use crate::owners::Name;
use crate::plan::NodeInfo;
use crate::table::{Chain, Key, Part, Rule, Set, SetKind, is_ipv6};

/// The rules before any policy's, of a direction.
///
/// Each packet of the direction in which a connection began is judged, not only the first: so one whose permission
/// went ends. Answers pass, and so does what a pod sends to itself. The node and its own pods are not asked.
/// A pod that nothing is known of yet has no connection but those that it has.
pub(crate) fn base_rules(node: &NodeInfo, families: &[bool], direction: usize) -> Vec<Rule> {
    let (kind, chain_of_bridge): (SetKind, fn(Arc<str>) -> Part) = match direction {
        EGRESS => (SetKind::PolicyEgress, |name| Part::InputInterface { name, not: false }),
        _ => (SetKind::PolicyIngress, |name| Part::OutputInterface { name, not: false }),
    };
    let mut rules = vec![vec![Part::Reply, Part::Accept], vec![Part::Related, Part::Accept]];
    for ipv6 in [false, true] {
        let family = Part::Family { ipv6 };
        if families.contains(&ipv6) {
            rules.push(vec![family.clone(), Part::Hairpin { ipv6 }, Part::Accept]);
            rules.push(vec![family, Part::Dispatch(Set { kind, ipv6 })]);
        } else {
            // Of a family without addresses pods have some of their own making.
            let bridge = chain_of_bridge(node.bridge.as_str().into());
            rules.push(vec![family, bridge, Part::Drop]);
        }
    }
    for cidr in &node.pod_cidrs {
        let (cidr, not) = (*cidr, false);
        let own = match direction {
            EGRESS => Part::Source { cidr, not },
            _ => Part::Destination { cidr, not },
        };
        rules.push(vec![Part::Family { ipv6: !cidr.is_ipv4() }, own, Part::Drop]);
    }
    rules
}

pub(super) fn jump(chain: &Arc<str>) -> Part {
    Part::Jump(Chain::Named(chain.clone()))
}

/// What no policy allows is refused, as k3s does: the sender is told, and a connection ends.
pub(super) fn refuse() -> Rule {
    vec![Part::Goto(Chain::Fixed("refuse"))]
}

impl Policies {
    /// The chain of a policy in a direction, made with its first user.
    pub(super) fn activate(
        &mut self,
        id: u32,
        direction: usize,
        at: &mut At<'_>,
    ) -> Option<Arc<str>> {
        let entry = self.entries.get_mut(&id)?;
        if let Some(active) = &mut entry.active[direction] {
            active.users += 1;
            return active.chains.first().map(|(chain, _)| chain.clone());
        }
        let rules = entry.policy.rules(direction)?.clone();
        let name: Arc<str> = format!("policy-{}-{}", WAYS[direction], self.fresh_id()).into();
        let mut active = Active { users: 1, ..Active::default() };
        active.chains.push((name.clone(), Vec::new()));
        for rule in &rules {
            self.compile(rule, direction, &mut active, at);
        }
        for (chain, rules) in &active.chains {
            at.changes.add_chains.push(Chain::Named(chain.clone()));
            at.changes.set_rules.push((Chain::Named(chain.clone()), rules.clone()));
        }
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.active[direction] = Some(active);
        }
        Some(name)
    }

    /// Takes it back with its last user.
    pub(super) fn deactivate(&mut self, id: u32, direction: usize, at: &mut At<'_>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let Some(active) = &mut entry.active[direction] else { return };
        active.users -= 1;
        if active.users > 0 {
            return;
        }
        let Some(active) = entry.active[direction].take() else { return };
        let chains = active.chains.into_iter().map(|(chain, _)| Chain::Named(chain));
        at.changes.delete_chains.extend(chains);
        for key in active.groups {
            self.release_group(&key, at);
        }
        for port in active.ports {
            self.release_port(&port, at);
        }
        for block in active.blocks {
            self.count(block, false, at);
        }
    }

    fn compile(&mut self, rule: &Allowed, direction: usize, active: &mut Active, at: &mut At<'_>) {
        let peers = match &rule.peers {
            None => vec![Vec::new()],
            Some(peers) => self.peer_lines(peers, direction, active, at),
        };
        let ports = match &rule.ports {
            None => vec![Vec::new()],
            Some(ports) => self.port_lines(ports, active, at),
        };
        let line = |peer: &Rule, port: &Rule, end: Part| {
            peer.iter().chain(port).cloned().chain([end]).collect::<Rule>()
        };
        let mut rules = Vec::new();
        if peers.len().min(ports.len()) <= 1 {
            for peer in &peers {
                rules.extend(ports.iter().map(|port| line(peer, port, Part::Accept)));
            }
        } else {
            let name = format!("{}-{}", active.chains[0].0, active.chains.len()).into();
            rules.extend(peers.iter().map(|peer| line(peer, &Vec::new(), jump(&name))));
            let ports = ports.iter().map(|port| line(&Vec::new(), port, Part::Accept));
            active.chains.push((name, ports.collect()));
        }
        active.chains[0].1.extend(rules);
    }

    fn peer_lines(
        &mut self,
        peers: &Peers,
        direction: usize,
        active: &mut Active,
        at: &mut At<'_>,
    ) -> Vec<Rule> {
        let source = direction == INGRESS;
        let families = self.families.clone();
        let mut lines = Vec::new();
        let mut line = |kind, ipv6, group| {
            let set = Set { kind, ipv6 };
            lines.push(vec![Part::Family { ipv6 }, Part::Member { set, group, source }]);
        };
        for selected in &peers.pods {
            let group = self.group(selected, at);
            active.groups.push(selected.key.clone());
            families.iter().for_each(|ipv6| line(SetKind::PolicyPeers, *ipv6, group));
        }
        if peers.blocks.is_empty() {
            return lines;
        }
        let group = self.fresh_id();
        for ipv6 in families {
            let mut any = false;
            for (first, last) in peers.blocks.iter().filter(|(first, _)| is_ipv6(*first) == ipv6) {
                let set = Set { kind: SetKind::PolicyBlocks, ipv6 };
                let block = (set, Key::Member(group, *first, *last));
                active.blocks.push(block);
                self.count(block, true, at);
                any = true;
            }
            if any {
                line(SetKind::PolicyBlocks, ipv6, group);
            }
        }
        lines
    }

    fn port_lines(&mut self, ports: &[Port], active: &mut Active, at: &mut At<'_>) -> Vec<Rule> {
        let mut lines = Vec::new();
        for port in ports {
            match port {
                Port::Numbers(protocol, 0, u16::MAX) => lines.push(vec![Part::Protocol(*protocol)]),
                Port::Numbers(protocol, first, last) => {
                    let (protocol, first, last) = (*protocol, *first, *last);
                    lines.push(vec![Part::DestinationPorts { protocol, first, last }]);
                }
                Port::Named(protocol, name) => {
                    let key = (*protocol, name.clone());
                    let id = self.named_port(&key, at);
                    active.ports.push(key);
                    lines.extend(self.families.iter().map(|ipv6| {
                        vec![Part::Family { ipv6: *ipv6 }, Part::NamedPort { ipv6: *ipv6, id }]
                    }));
                }
            }
        }
        lines
    }

    /// The number of a group of pods, which is filled when its first user comes.
    fn group(&mut self, peers: &PodPeers, at: &mut At<'_>) -> u32 {
        if let Some(group) = self.groups.get_mut(&peers.key) {
            group.shared.users += 1;
            return group.shared.id;
        }
        let id = self.fresh_id();
        let group = Group { shared: Shared { id, users: 1 }, peers: peers.clone() };
        for key in self.members(&group) {
            self.count(key, true, at);
        }
        self.groups.insert(peers.key.clone(), group);
        id
    }

    fn release_group(&mut self, key: &str, at: &mut At<'_>) {
        let Some(group) = self.groups.get_mut(key) else { return };
        group.shared.users -= 1;
        if group.shared.users > 0 {
            return;
        }
        let Some(group) = self.groups.remove(key) else { return };
        for key in self.members(&group) {
            self.count(key, false, at);
        }
    }

    fn members(&self, group: &Group) -> Vec<(Set, Key)> {
        let mut keys = Vec::new();
        for (name, pod) in self.pods.iter().filter(|(name, pod)| self.is_in(group, name, pod)) {
            let addresses = self.addresses_of(name, pod);
            keys.extend(addresses.into_iter().map(|ip| peer_key(group.shared.id, ip)));
        }
        keys
    }

    /// The number of all ports of a name, whosever they are.
    fn named_port(&mut self, key: &(Protocol, Box<str>), at: &mut At<'_>) -> u32 {
        if let Some(shared) = self.ports.get_mut(key) {
            shared.users += 1;
            return shared.id;
        }
        let id = self.fresh_id();
        for key in self.numbers(key, id) {
            self.count(key, true, at);
        }
        self.ports.insert(key.clone(), Shared { id, users: 1 });
        id
    }

    fn release_port(&mut self, key: &(Protocol, Box<str>), at: &mut At<'_>) {
        let Some(shared) = self.ports.get_mut(key) else { return };
        shared.users -= 1;
        if shared.users > 0 {
            return;
        }
        let id = shared.id;
        self.ports.remove(key);
        for key in self.numbers(key, id) {
            self.count(key, false, at);
        }
    }

    fn numbers(&self, (protocol, wanted): &(Protocol, Box<str>), id: u32) -> Vec<(Set, Key)> {
        let mut keys = Vec::new();
        let mut add = |name: &Name, pod: &super::Pod, port: u16| {
            let addresses = self.addresses_of(name, pod);
            keys.extend(addresses.into_iter().map(|ip| port_key(id, ip, *protocol, port)));
        };
        for (name, pod) in &self.pods {
            let named = pod.ports.iter().filter(|(p, n, _)| (p, n) == (protocol, wanted));
            named.for_each(|(.., port)| add(name, pod, *port));
        }
        keys
    }
}
