//! What the rules say of one connection: to find those that lost their permission.

use std::net::{IpAddr, SocketAddr};

use stdx::OrdMap;

use super::{EGRESS, INGRESS, Policies};
use crate::address::Protocol;
use crate::table::{Chain, Frontend, Key, Part, Rule, Set, SetKind, is_ipv6};

/// Judges many connections by the same rules.
pub(crate) struct Judge<'a> {
    policies: &'a Policies,
    chains: OrdMap<&'a str, &'a Vec<Rule>>,
}

/// The first packet of a connection, addressed to who answers.
#[derive(Clone, Copy)]
struct Packet {
    protocol: Protocol,
    source: IpAddr,
    destination: SocketAddr,
}

impl Policies {
    pub(crate) fn judge(&self) -> Judge<'_> {
        let chains = self.chains().map(|(name, rules)| (&**name, rules)).collect();
        Judge { policies: self, chains }
    }
}

impl Judge<'_> {
    /// Whether a connection may begin, as far as the pods of this node are concerned.
    pub(crate) fn allows(
        &self,
        protocol: Protocol,
        source: IpAddr,
        destination: SocketAddr,
    ) -> bool {
        let packet = Packet { protocol, source, destination };
        let policies = self.policies;
        let passes = |direction: usize, address: IpAddr| match policies.placed.get(&address) {
            Some(held) => held[direction]
                .as_ref()
                .is_none_or(|isolation| self.run(&isolation.rules, packet, 0).unwrap_or(false)),
            None => !policies.local.contains_key(&address),
        };
        let to = destination.ip();
        source == to || (passes(EGRESS, source) && passes(INGRESS, to))
    }

    /// `None`: no rule says anything.
    fn run(&self, rules: &[Rule], packet: Packet, depth: usize) -> Option<bool> {
        /// Pods' chains lead to policies', and these to their ports'.
        const DEPTH_MAX: usize = 3;
        rules.iter().filter(|_| depth < DEPTH_MAX).find_map(|rule| {
            let (verdict, matches) = rule.split_last()?;
            if !matches.iter().all(|part| self.matches(part, packet)) {
                return None;
            }
            match verdict {
                Part::Accept => Some(true),
                Part::Jump(Chain::Named(chain)) => {
                    self.run(self.chains.get(&**chain)?, packet, depth + 1)
                }
                _ => Some(false),
            }
        })
    }

    fn matches(&self, part: &Part, packet: Packet) -> bool {
        let Packet { protocol, source, destination } = packet;
        let counts = &self.policies.counts;
        match part {
            Part::Family { ipv6 } => is_ipv6(source) == *ipv6,
            Part::Protocol(wanted) => *wanted == protocol,
            Part::DestinationPorts { protocol: wanted, first, last } => {
                *wanted == protocol && (*first..=*last).contains(&destination.port())
            }
            Part::Member { set, group, source: of_source } => {
                let address = if *of_source { source } else { destination.ip() };
                let last = if is_ipv6(address) { [255; 16].into() } else { [255; 4].into() };
                let upto = (*set, Key::Member(*group, address, last));
                let before = counts.range(..=upto).next_back().map(|(key, _)| *key);
                matches!(before, Some((in_set, Key::Member(of, from, to)))
                    if in_set == *set && of == *group && from <= address && address <= to)
            }
            Part::NamedPort { ipv6, id } => {
                let set = Set { kind: SetKind::PolicyPorts, ipv6: *ipv6 };
                let (address, port) = (destination.ip(), destination.port());
                let frontend = Frontend { address, protocol, port };
                counts.contains_key(&(set, Key::Endpoint(frontend, *id)))
            }
            _ => false,
        }
    }
}
