//! Network policies: which connections this node's pods may have, as chains and elements.
//!
//! A pod of this node is looked up by its address, once as the one who sends and once as the one who receives. It
//! leads to a chain of the policies that isolate it, which pods with the same policies share, or to an empty one. Each
//! policy is a chain; who is meant by selectors is in one set, as group and address, so that a pod that
//! comes or goes changes elements of its own and nothing else.

mod compile;
mod judge;
mod read;

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value as Tree;
use stdx::{Arrange, OrdMap, OrdSet};

use crate::address::{Cidr, Protocol};
use crate::owners::{Name, Owners};
use crate::table::{Chain, Changes, Frontend, Key, Rule, Set, SetKind, Value, is_ipv6};
pub(crate) use compile::base_rules;
use read::{Labels, Pod, PodPeers, Policy};

/// The two directions, as indices.
pub(crate) const EGRESS: usize = 0;
pub(crate) const INGRESS: usize = 1;

/// Elements of all policies' sets together; beyond it peers are missing, and so are not allowed.
const ELEMENTS_MAX: usize = 262_144;

/// All policies that count on this node, and whom they are about.
#[derive(Debug)]
pub(crate) struct Policies {
    owner: u32,
    cluster: Vec<Cidr>,
    families: Vec<bool>,
    namespaces: OrdMap<Box<str>, Labels>,
    pods: OrdMap<Name, Pod>,
    policies: OrdMap<Name, u32>,
    /// By their ids: one that changed is a new one, and the old one ends when no pod is led to it any more.
    entries: OrdMap<u32, Entry>,
    /// This node's pods, by the address that they were given, and the other way round.
    local: OrdMap<IpAddr, Name>,
    own: OrdMap<Name, Vec<IpAddr>>,
    placed: OrdMap<IpAddr, [Option<Arc<Isolation>>; 2]>,
    isolations: OrdMap<(usize, Vec<u32>), Arc<Isolation>>,
    groups: OrdMap<Box<str>, Group>,
    ports: OrdMap<(Protocol, Box<str>), Shared>,
    /// How many pods each element stands for.
    counts: OrdMap<(Set, Key), u32>,
    next_id: u32,
    is_full: bool,
    /// Permissions may have gone.
    changed: bool,
    refused: Vec<(Name, String)>,
}

/// A policy, and for each direction its chains, while a pod of this node needs them.
#[derive(Debug)]
struct Entry {
    policy: Policy,
    active: [Option<Active>; 2],
}

#[derive(Debug, Default)]
struct Active {
    users: usize,
    /// The first is where others jump to.
    chains: Vec<(Arc<str>, Vec<Rule>)>,
    /// What it holds on to.
    groups: Vec<Box<str>>,
    ports: Vec<(Protocol, Box<str>)>,
    blocks: Vec<(Set, Key)>,
}

/// Pods with the same policies in one direction.
#[derive(Debug)]
struct Isolation {
    direction: usize,
    policies: Vec<u32>,
    chain: Arc<str>,
    rules: Vec<Rule>,
}

/// Pods that selectors mean.
#[derive(Debug)]
struct Group {
    shared: Shared,
    peers: PodPeers,
}

#[derive(Clone, Copy, Debug)]
struct Shared {
    id: u32,
    users: usize,
}

impl Policies {
    pub(crate) fn new(owner: u32, cluster: Vec<Cidr>, families: Vec<bool>) -> Policies {
        Policies {
            owner,
            cluster,
            families,
            namespaces: OrdMap::new(),
            pods: OrdMap::new(),
            policies: OrdMap::new(),
            entries: OrdMap::new(),
            local: OrdMap::new(),
            own: OrdMap::new(),
            placed: OrdMap::new(),
            isolations: OrdMap::new(),
            groups: OrdMap::new(),
            ports: OrdMap::new(),
            counts: OrdMap::new(),
            next_id: 0,
            is_full: false,
            changed: false,
            refused: Vec::new(),
        }
    }

    /// A policy came, changed or (`None`) went.
    pub(crate) fn set_policy(&mut self, name: Name, tree: Option<&Tree>, at: &mut At<'_>) {
        let read = tree.map(|tree| Policy::from_tree(tree, &name.0));
        let (policy, refused) = read.map_or((None, None), |(policy, why)| (Some(policy), why));
        let held = self.policies.get(&name).and_then(|id| self.entries.get(id));
        if held.map(|entry| &entry.policy) == policy.as_ref() {
            return;
        }
        self.changed = true;
        self.refused.extend(refused.map(|why| (name.clone(), why)));
        let old = self.policies.remove(&name);
        let new = policy.map(|policy| {
            let id = self.fresh_id();
            self.policies.insert(name.clone(), id);
            self.entries.insert(id, Entry { policy, active: [None, None] });
            id
        });
        let concerned = [old, new];
        for address in self.selected(&name.0, concerned) {
            self.place(address, at);
        }
        old.map(|id| self.entries.remove(&id));
        if self.is_full && self.counts.len() < ELEMENTS_MAX {
            self.is_full = false;
            self.fill_again(at);
        }
    }

    /// A pod came, changed or went.
    pub(crate) fn set_pod(&mut self, name: &Name, tree: Option<&Tree>, at: &mut At<'_>) {
        let new = tree.map(|tree| Pod::from_tree(tree, &self.cluster));
        if self.pods.get(name) == new.as_ref() {
            return;
        }
        self.count_pod(name, false, at);
        match new {
            Some(pod) => self.pods.insert(name.clone(), pod),
            None => self.pods.remove(name),
        };
        self.count_pod(name, true, at);
        for address in self.own.get(name).cloned().unwrap_or_default() {
            self.place(address, at);
        }
    }

    /// A namespace came, changed its labels or went.
    pub(crate) fn set_namespace(&mut self, name: &str, tree: Option<&Tree>, at: &mut At<'_>) {
        let new = tree.map(read::labels);
        if self.namespaces.get(name) == new.as_ref() {
            return;
        }
        let pods = self.pods_of(name);
        for pod in &pods {
            self.count_pod(pod, false, at);
        }
        match new {
            Some(labels) => self.namespaces.insert(name.into(), labels),
            None => self.namespaces.remove(name),
        };
        for pod in &pods {
            self.count_pod(pod, true, at);
        }
    }

    /// All pods of this node that have an address.
    pub(crate) fn set_local(&mut self, local: &OrdMap<IpAddr, Name>, at: &mut At<'_>) {
        let all = self.local.iter().chain(local);
        let differs = |address: &IpAddr| self.local.get(address) != local.get(address);
        let addresses: OrdSet<IpAddr> = all.map(|(address, _)| *address).filter(differs).collect();
        for address in addresses {
            let names = [self.local.get(&address).cloned(), local.get(&address).cloned()];
            for name in names.iter().flatten() {
                self.count_pod(name, false, at);
            }
            match &names[1] {
                Some(name) => self.local.insert(address, name.clone()),
                None => self.local.remove(&address),
            };
            if let Some(held) = names[0].as_ref().and_then(|name| self.own.get_mut(name)) {
                held.retain(|own| *own != address);
            }
            if let Some(name) = &names[1] {
                self.own.entry(name.clone()).or_default().push(address);
            }
            self.own.retain(|_, held| !held.is_empty());
            for name in names.iter().flatten() {
                self.count_pod(name, true, at);
            }
            self.place(address, at);
        }
    }

    /// Takes everything out of the table.
    pub(crate) fn clear(&mut self, at: &mut At<'_>) {
        self.set_local(&OrdMap::new(), at);
    }

    pub(crate) fn chains(&self) -> impl Iterator<Item = (&Arc<str>, &Vec<Rule>)> {
        let isolations = self.isolations.values().map(|held| (&held.chain, &held.rules));
        let active = self.entries.values().flat_map(|entry| entry.active.iter().flatten());
        let chains = active.flat_map(|active| &active.chains);
        chains.map(|(name, rules)| (name, rules)).chain(isolations)
    }

    /// True once after connections may have lost their permission.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Policies that ask for more than can be kept, and what.
    pub(crate) fn take_refused(&mut self) -> Vec<(Name, String)> {
        std::mem::take(&mut self.refused)
    }

    /// The addresses of a namespace's pods of this node that one of some policies selects.
    fn selected(&self, namespace: &str, policies: [Option<u32>; 2]) -> Vec<IpAddr> {
        let from: Name = (namespace.into(), "".into());
        let own = self.own.range(from..).take_while(|((ns, _), _)| &**ns == namespace);
        let policies = policies.map(|id| id.and_then(|id| self.entries.get(&id)));
        let is_selected = |name: &Name| {
            let Some(pod) = self.pods.get(name) else { return false };
            let mut known = policies.iter().flatten();
            known.any(|entry| read::selects(&entry.policy.selector, &pod.labels))
        };
        own.filter(|(name, _)| is_selected(name)).flat_map(|(_, held)| held.clone()).collect()
    }

    /// Leads an address of this node to the chains of its pod; one that is not known yet leads nowhere, and
    /// the rules behind drop what is its.
    fn place(&mut self, address: IpAddr, at: &mut At<'_>) {
        let pod = self.local.get(&address).and_then(|name| Some((name, self.pods.get(name)?)));
        let wanted = pod.map(|(name, pod)| {
            let select = |direction| self.isolating(name, pod, direction);
            [select(EGRESS), select(INGRESS)]
        });
        let new = wanted.map(|[egress, ingress]| {
            [self.isolation(EGRESS, egress, at), self.isolation(INGRESS, ingress, at)]
        });
        let old = match &new {
            Some(new) => self.placed.insert(address, new.clone()),
            None => self.placed.remove(&address),
        };
        let value = |held: Option<&Arc<Isolation>>| {
            Value::Goto(held.map_or(Chain::Fixed("policy-open"), |isolation| {
                Chain::Named(isolation.chain.clone())
            }))
        };
        for direction in [EGRESS, INGRESS] {
            let before = old.as_ref().map(|both| value(both[direction].as_ref()));
            let after = new.as_ref().map(|both| value(both[direction].as_ref()));
            self.changed |= before.is_some() && after.is_some() && before != after;
            let key = (place_of(direction, address), Key::Address(address));
            at.owners.put(self.owner, key, before.as_ref(), after);
        }
        let itself = (Set { kind: SetKind::Hairpin, ipv6: is_ipv6(address) }, Key::Itself(address));
        let held = |is: bool| is.then_some(Value::None);
        at.owners.put(self.owner, itself, held(old.is_some()).as_ref(), held(new.is_some()));
        drop(new);
        for isolation in old.into_iter().flatten().flatten() {
            self.leave(isolation, at);
        }
    }

    /// The policies that isolate a pod in a direction.
    fn isolating(&self, name: &Name, pod: &Pod, direction: usize) -> Vec<u32> {
        let from: Name = (name.0.clone(), "".into());
        let here = self.policies.range(from..).take_while(|((ns, _), _)| *ns == name.0);
        let isolates = |id: &&u32| {
            self.entries.get(id).is_some_and(|Entry { policy, .. }| {
                policy.rules(direction).is_some() && read::selects(&policy.selector, &pod.labels)
            })
        };
        let mut ids: Vec<u32> = here.map(|(_, id)| id).filter(isolates).copied().collect();
        ids.arrange();
        ids
    }

    /// The chain of pods with these policies; made if it is not there. `None` without any.
    fn isolation(
        &mut self,
        direction: usize,
        policies: Vec<u32>,
        at: &mut At<'_>,
    ) -> Option<Arc<Isolation>> {
        if policies.is_empty() {
            return None;
        }
        let key = (direction, policies);
        if let Some(held) = self.isolations.get(&key) {
            return Some(held.clone());
        }
        let policies = key.1.clone();
        let mut rules = Vec::with_capacity(policies.len() + 1);
        for id in &policies {
            let chain = self.activate(*id, direction, at);
            rules.extend(chain.map(|chain| vec![compile::jump(&chain)]));
        }
        rules.push(compile::refuse());
        let chain: Arc<str> = format!("isolated-{}-{}", WAYS[direction], self.fresh_id()).into();
        at.changes.add_chains.push(Chain::Named(chain.clone()));
        at.changes.set_rules.push((Chain::Named(chain.clone()), rules.clone()));
        let isolation = Arc::new(Isolation { direction, policies, chain, rules });
        self.isolations.insert(key, isolation.clone());
        Some(isolation)
    }

    /// Ends an isolation with its last pod.
    fn leave(&mut self, isolation: Arc<Isolation>, at: &mut At<'_>) {
        const HERE_AND_IN_THE_INDEX: usize = 2;
        if Arc::strong_count(&isolation) > HERE_AND_IN_THE_INDEX {
            return;
        }
        self.isolations.remove(&(isolation.direction, isolation.policies.clone()));
        at.changes.delete_chains.push(Chain::Named(isolation.chain.clone()));
        for id in &isolation.policies {
            self.deactivate(*id, isolation.direction, at);
        }
    }

    /// Adds what a pod is in the sets, or takes it back.
    fn count_pod(&mut self, name: &Name, add: bool, at: &mut At<'_>) {
        let Some(pod) = self.pods.get(name) else { return };
        let addresses = self.addresses_of(name, pod);
        let mut keys = Vec::new();
        for group in self.groups.values().filter(|group| self.is_in(group, name, pod)) {
            keys.extend(addresses.iter().map(|ip| peer_key(group.shared.id, *ip)));
        }
        if !self.ports.is_empty() {
            for (protocol, port_name, port) in &pod.ports {
                let Some(shared) = self.ports.get(&(*protocol, port_name.clone())) else {
                    continue;
                };
                let one = |ip: &IpAddr| port_key(shared.id, *ip, *protocol, *port);
                keys.extend(addresses.iter().map(one));
            }
        }
        for key in keys {
            self.count(key, add, at);
        }
    }

    /// What its status says, and what it was just given here.
    fn addresses_of(&self, name: &Name, pod: &Pod) -> Vec<IpAddr> {
        let own = self.own.get(name).into_iter().flatten().filter(|_| pod.counts);
        let mut addresses: Vec<IpAddr> = pod.addresses.iter().chain(own).copied().collect();
        addresses.arrange();
        addresses.dedup();
        addresses
    }

    fn is_in(&self, group: &Group, name: &Name, pod: &Pod) -> bool {
        let of_namespace = match &group.peers.namespace {
            Ok(own) => *own == name.0,
            Err(selector) => {
                let labels = self.namespaces.get(&name.0);
                labels.is_some_and(|labels| read::selects(selector, labels))
            }
        };
        of_namespace && read::selects(&group.peers.pods, &pod.labels)
    }

    fn count(&mut self, key: (Set, Key), add: bool, at: &mut At<'_>) {
        let has_room = self.counts.len() < ELEMENTS_MAX;
        match (self.counts.get_mut(&key), add) {
            (Some(count), true) => *count += 1,
            (Some(count), false) if *count > 1 => *count -= 1,
            (Some(_), false) => {
                self.counts.remove(&key);
                self.changed = true;
                at.owners.put(self.owner, key, Some(&Value::None), None);
            }
            (None, true) if has_room => {
                self.counts.insert(key, 1);
                at.owners.put(self.owner, key, None, Some(Value::None));
            }
            (None, true) => {
                if !self.is_full {
                    log::warn!(
                        "network policies: more than {ELEMENTS_MAX} peers, others are not allowed"
                    );
                }
                self.is_full = true;
            }
            (None, false) => {}
        }
    }

    /// Counts everything anew, after there was no room for all of it.
    fn fill_again(&mut self, at: &mut At<'_>) {
        let kinds = [SetKind::PolicyPeers, SetKind::PolicyPorts];
        let held: Vec<(Set, Key)> =
            self.counts.keys().filter(|(set, _)| kinds.contains(&set.kind)).copied().collect();
        for key in held {
            self.counts.remove(&key);
            at.owners.put(self.owner, key, Some(&Value::None), None);
        }
        for name in self.pods.keys().cloned().collect::<Vec<_>>() {
            self.count_pod(&name, true, at);
        }
        let active = self.entries.values().flat_map(|entry| entry.active.iter().flatten());
        let blocks = active.flat_map(|active| active.blocks.clone());
        for block in blocks.collect::<Vec<_>>() {
            if !self.counts.contains_key(&block) {
                self.count(block, true, at);
            }
        }
    }

    fn pods_of(&self, namespace: &str) -> Vec<Name> {
        let from: Name = (namespace.into(), "".into());
        let pods = self.pods.range(from..).take_while(|((ns, _), _)| &**ns == namespace);
        pods.map(|(name, _)| name.clone()).collect()
    }

    fn fresh_id(&mut self) -> u32 {
        // Ranges of neighbours must not touch: the next number is left out.
        self.next_id = self.next_id.wrapping_add(2);
        self.next_id
    }
}

/// Where changes go.
pub(crate) struct At<'a> {
    pub(crate) owners: &'a mut Owners,
    pub(crate) changes: &'a mut Changes,
}

const WAYS: [&str; 2] = ["egress", "ingress"];

fn place_of(direction: usize, address: IpAddr) -> Set {
    let kind = if direction == EGRESS { SetKind::PolicyEgress } else { SetKind::PolicyIngress };
    Set { kind, ipv6: is_ipv6(address) }
}

fn peer_key(group: u32, address: IpAddr) -> (Set, Key) {
    let set = Set { kind: SetKind::PolicyPeers, ipv6: is_ipv6(address) };
    (set, Key::Member(group, address, address))
}

fn port_key(id: u32, address: IpAddr, protocol: Protocol, port: u16) -> (Set, Key) {
    let set = Set { kind: SetKind::PolicyPorts, ipv6: is_ipv6(address) };
    (set, Key::Endpoint(Frontend { address, protocol, port }, id))
}
