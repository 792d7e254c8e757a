//! The whole rule model: fed with objects, it says what to change in the table, or what the table is.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use api::Lens;
use serde_json::Value as Tree;
use stdx::{Arrange, OrdMap, OrdSet};

use crate::address::Protocol;
use crate::base;
use crate::objects::{Service, Slice};
pub use crate::owners::Name;
use crate::owners::{OWNER_DNS, Owners};
use crate::plan::{Named, NodeInfo, Plan, UdpFrontend, plan};
use crate::policy::{At, EGRESS, INGRESS, Policies};
use crate::table::{Chain, Changes, Frontend, Key, Rule, Set, SetKind, Table, Value, is_ipv6};

/// Services, their endpoints, host ports, and the rules that follow from them.
#[derive(Debug)]
pub struct Model {
    node: NodeInfo,
    services: OrdMap<Name, Entry>,
    /// Which services an address has reverse names of.
    reverse: OrdSet<(IpAddr, Name)>,
    /// Services with a health check node port.
    health: OrdSet<Name>,
    /// Which service a slice belongs to.
    slices: OrdMap<Name, Box<str>>,
    owners: Owners,
    next_owner: u32,
    /// Services to be planned again.
    dirty: OrdSet<Name>,
    host_ports: Vec<(Set, Key, Value)>,
    new_host_ports: Option<Vec<HostPort>>,
    /// How many services use each balancer, and which of them are in the table.
    balancers: OrdMap<Chain, usize>,
    balancers_made: OrdSet<Chain>,
    changed_udp: Vec<UdpFrontend>,
    /// `None` while there are none.
    policies: Option<Box<Policies>>,
    policy_changes: Changes,
}

/// What policies are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyObject {
    Namespace,
    Pod,
    Policy,
}

/// A service name that has a Service, slices, or both.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) service: Option<Service>,
    /// By their names; few, so that a list is smallest.
    pub(crate) slices: Vec<(Box<str>, Slice)>,
    owner: u32,
    plan: Plan,
    /// What the reverse index has of it.
    named: Vec<IpAddr>,
}

/// A pod's port on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub host_ip: Option<IpAddr>,
    pub protocol: Protocol,
    pub host_port: u16,
    pub target: SocketAddr,
}

/// What a load balancer may ask of this node about one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub port: u16,
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub local_endpoints: usize,
}

const OWNER_HOST_PORTS: u32 = 1;
const OWNER_POLICIES: u32 = 2;
const FIRST_SERVICE_OWNER: u32 = 3;

impl Model {
    pub fn new(node: NodeInfo) -> Model {
        let mut model = Model {
            node,
            services: OrdMap::new(),
            reverse: OrdSet::new(),
            health: OrdSet::new(),
            slices: OrdMap::new(),
            owners: Owners::default(),
            next_owner: FIRST_SERVICE_OWNER,
            dirty: OrdSet::new(),
            host_ports: Vec::new(),
            new_host_ports: None,
            balancers: OrdMap::new(),
            balancers_made: OrdSet::new(),
            changed_udp: Vec::new(),
            policies: None,
            policy_changes: Changes::default(),
        };
        let (elements, balancers) = base::dns_elements(&model.node.dns);
        for (set, key, value) in elements {
            model.owners.claim(OWNER_DNS, (set, key), value);
        }
        for chain in balancers {
            *model.balancers.entry(chain).or_default() += 1;
        }
        model.changes();
        model
    }

    pub fn node(&self) -> &NodeInfo {
        &self.node
    }

    /// The node's addresses, as its Node tells them, are these now.
    pub fn set_addresses(&mut self, addresses: Vec<IpAddr>) {
        if self.node.addresses == addresses {
            return;
        }
        self.node.addresses = addresses;
        let balances = |entry: &Entry| {
            entry.service.as_ref().is_some_and(|service| !service.load_balancer_ips.is_empty())
        };
        let concerned = self.services.iter().filter(|(_, entry)| balances(entry));
        self.dirty.extend(concerned.map(|(name, _)| name.clone()));
    }

    /// The zone of the node, as its Node tells it, is this now.
    pub fn set_zone(&mut self, zone: String) {
        if self.node.zone == zone {
            return;
        }
        self.node.zone = zone;
        let has_hints = |entry: &Entry| {
            let mut endpoints = entry.slices.iter().flat_map(|(_, slice)| &slice.endpoints);
            endpoints.any(|endpoint| endpoint.hints.is_some())
        };
        let concerned = self.services.iter().filter(|(_, entry)| has_hints(entry));
        self.dirty.extend(concerned.map(|(name, _)| name.clone()));
    }

    /// A Service came or changed.
    pub fn set_service(&mut self, tree: &Tree) {
        let name = name_of(tree);
        let entry = self.services.entry(name.clone()).or_default();
        entry.service = Some(Service::from_tree(tree));
        self.dirty.insert(name);
    }

    pub fn remove_service(&mut self, namespace: &str, name: &str) {
        let name: Name = (namespace.into(), name.into());
        if let Some(entry) = self.services.get_mut(&name) {
            entry.service = None;
            self.dirty.insert(name);
        }
    }

    /// An EndpointSlice came or changed.
    pub fn set_slice(&mut self, tree: &Tree) {
        let slice_name = name_of(tree);
        let service: Box<str> = Slice::service_name(tree).into();
        if self.slices.get(&slice_name).is_some_and(|old| *old != service) {
            self.remove_slice(&slice_name.0, &slice_name.1);
        }
        if service.is_empty() {
            return;
        }
        let name: Name = (slice_name.0.clone(), service.clone());
        let slice = Slice::from_tree(tree, &self.node.node_name);
        let entry = self.services.entry(name.clone()).or_default();
        match entry.slices.iter_mut().find(|(name, _)| *name == slice_name.1) {
            Some((_, known)) => *known = slice,
            None => entry.slices.push((slice_name.1.clone(), slice)),
        }
        self.slices.insert(slice_name, service);
        self.dirty.insert(name);
    }

    pub fn remove_slice(&mut self, namespace: &str, name: &str) {
        let slice_name: Name = (namespace.into(), name.into());
        let Some(service) = self.slices.remove(&slice_name) else { return };
        let name: Name = (slice_name.0, service);
        if let Some(entry) = self.services.get_mut(&name) {
            entry.slices.retain(|(name, _)| *name != slice_name.1);
            self.dirty.insert(name);
        }
    }

    /// All host ports of this node's pods, replacing the former list.
    pub fn set_host_ports(&mut self, host_ports: Vec<HostPort>) {
        self.new_host_ports = Some(host_ports);
    }

    /// Begins to judge this node's pods, all of which are shut until they are known, or ends it.
    pub fn set_policies(&mut self, on: bool) {
        if self.policies.is_some() == on {
            return;
        }
        let families = base::families(&self.node);
        for (direction, name) in [(EGRESS, "policy-egress"), (INGRESS, "policy-ingress")] {
            let rules = crate::policy::base_rules(&self.node, &families, direction);
            let rules = if on { rules } else { Vec::new() };
            self.policy_changes.set_rules.push((Chain::Fixed(name), rules));
        }
        match on {
            true => {
                let cluster = self.node.cluster_cidrs.clone();
                let policies = Policies::new(OWNER_POLICIES, cluster, families);
                self.policies = Some(Box::new(policies));
            }
            false => {
                self.with_policies(Policies::clear);
                self.policies = None;
            }
        }
    }

    /// Whether this node's pods are judged.
    pub fn has_policies(&self) -> bool {
        self.policies.is_some()
    }

    /// An object that policies are made of came, changed or (`None`) went. Without effect while they are off.
    pub fn set_policy_object(
        &mut self,
        of: PolicyObject,
        namespace: &str,
        name: &str,
        tree: Option<&Tree>,
    ) {
        let key: Name = (namespace.into(), name.into());
        self.with_policies(|policies, at| match of {
            PolicyObject::Namespace => policies.set_namespace(name, tree, at),
            PolicyObject::Pod => policies.set_pod(&key, tree, at),
            PolicyObject::Policy => policies.set_policy(key, tree, at),
        });
    }

    /// The addresses of this node's pods, replacing the former ones.
    pub fn set_local_pods(&mut self, local: &OrdMap<IpAddr, Name>) {
        self.with_policies(|policies, at| policies.set_local(local, at));
    }

    /// True once after connections may have lost their permission.
    pub fn take_policies_changed(&mut self) -> bool {
        self.policies.as_mut().is_some_and(|policies| policies.take_changed())
    }

    /// Policies that ask for more than can be kept, and so allow nothing; why.
    pub fn take_refused_policies(&mut self) -> Vec<(Name, String)> {
        self.policies.as_mut().map(|policies| policies.take_refused()).unwrap_or_default()
    }

    /// Keeps those connections (protocol, who began it, who answers) that may not be.
    pub fn retain_forbidden<T>(
        &self,
        connections: &mut Vec<T>,
        what: impl Fn(&T) -> (Protocol, IpAddr, SocketAddr),
    ) {
        let Some(policies) = &self.policies else { return connections.clear() };
        let judge = policies.judge();
        connections.retain(|connection| {
            let (protocol, source, destination) = what(connection);
            !judge.allows(protocol, source, destination)
        });
    }

    fn with_policies(&mut self, work: impl FnOnce(&mut Policies, &mut At<'_>)) {
        if let Some(policies) = &mut self.policies {
            let changes = &mut self.policy_changes;
            work(policies, &mut At { owners: &mut self.owners, changes });
        }
    }

    /// What changed since the last call. Costs what changed.
    pub fn changes(&mut self) -> Changes {
        let mut changes = std::mem::take(&mut self.policy_changes);
        if let Some(host_ports) = self.new_host_ports.take() {
            self.replan_host_ports(&host_ports);
        }
        let mut dirty: Vec<Name> = std::mem::take(&mut self.dirty).into_iter().collect();
        // Where several want one element, the first to ask gets it. At a start all ask at once.
        dirty.arrange_by_key(|name| {
            let service = self.services.get(name).and_then(|entry| entry.service.as_ref());
            service.map_or(0, |service| service.created_secs)
        });
        for name in dirty {
            self.replan(&name, &mut changes);
        }
        self.settle_balancers(&mut changes);
        self.owners.tell(&mut changes);
        changes
    }

    /// The whole table as of the last [`Model::changes`].
    pub fn table(&self) -> Table {
        let mut table = base::table(&self.node);
        for chain in self.balancers.keys() {
            table.chains.push((chain.clone(), None, base::balancer_rules(chain)));
        }
        let planned = self.services.values().map(|entry| &entry.plan);
        for plan in planned {
            table.client_sets.extend(plan.client_sets.iter().cloned());
            let chains = plan.chains.iter();
            table.chains.extend(
                chains.map(|(name, rules)| (Chain::Named(name.clone()), None, rules.clone())),
            );
        }
        if let Some(policies) = &self.policies {
            for (chain, _, rules) in &mut table.chains {
                let direction = match chain {
                    Chain::Fixed("policy-egress") => EGRESS,
                    Chain::Fixed("policy-ingress") => INGRESS,
                    _ => continue,
                };
                *rules = crate::policy::base_rules(&self.node, &table.families, direction);
            }
            let chains = policies.chains();
            table.chains.extend(
                chains.map(|(name, rules)| (Chain::Named(name.clone()), None, rules.clone())),
            );
        }
        let owned = self.owners.held.iter();
        table.elements =
            owned.map(|((set, key), (_, value))| (*set, *key, value.clone())).collect();
        table
    }

    /// The UDP frontends of services that changed since the last call: connections to them that lead
    /// elsewhere than to these endpoints are stale.
    pub fn take_changed_udp(&mut self) -> Vec<UdpFrontend> {
        std::mem::take(&mut self.changed_udp)
    }

    /// Services with a health check node port, in port order.
    pub fn health_checks(&self) -> Vec<HealthCheck> {
        let check = |name: &Name| {
            let entry = self.services.get(name)?;
            let port = entry.service.as_ref()?.health_check_node_port;
            let (namespace, name) = name.clone();
            Some(HealthCheck { port, namespace, name, local_endpoints: entry.local_endpoints() })
        };
        let mut checks: Vec<HealthCheck> = self.health.iter().filter_map(check).collect();
        checks.arrange_by_key(|check| check.port);
        checks
    }

    pub(crate) fn entry(&self, namespace: &str, name: &str) -> Option<&Entry> {
        self.services.get(&(namespace.into(), name.into()))
    }

    /// The services that have reverse names for an address.
    pub(crate) fn services_with(&self, address: IpAddr) -> impl Iterator<Item = &Name> {
        let from: (IpAddr, Name) = (address, ("".into(), "".into()));
        let range = self.reverse.range(from..);
        range.take_while(move |(known, _)| *known == address).map(|(_, name)| name)
    }

    /// True if any service, with or without endpoints, is in the namespace.
    pub(crate) fn has_namespace(&self, namespace: &str) -> bool {
        let from: Name = (namespace.into(), "".into());
        self.services.range(from..).next().is_some_and(|((ns, _), _)| &**ns == namespace)
    }

    fn replan(&mut self, name: &Name, changes: &mut Changes) {
        let Some(entry) = self.services.get_mut(name) else { return };
        if entry.owner == 0 {
            entry.owner = self.next_owner;
            self.next_owner += 1;
        }
        let named = Named { namespace: &name.0, name: &name.1 };
        let new = match &entry.service {
            Some(service) => plan(named, service, entry.slices(), &self.node, Some(&entry.plan)),
            None => Plan::default(),
        };
        let owner = entry.owner;
        let new_named = entry.named_addresses();
        let old_named = std::mem::replace(&mut entry.named, new_named.clone());
        let has_health = entry
            .service
            .as_ref()
            .is_some_and(|service| service.health_check_node_port != 0 && service.external_local);
        let old = std::mem::replace(&mut entry.plan, new.clone());
        if entry.service.is_none() && entry.slices.is_empty() {
            self.services.remove(name);
        }
        self.index(name, &old_named, &new_named);
        match has_health {
            true => self.health.insert(name.clone()),
            false => self.health.remove(name),
        };
        self.owners.replace(owner, &old.elements, &new.elements);
        diff_chains(&old, &new, changes);
        for chain in &new.balancers {
            *self.balancers.entry(chain.clone()).or_default() += 1;
        }
        for chain in &old.balancers {
            if let Some(count) = self.balancers.get_mut(chain) {
                *count -= 1;
            }
        }
        if old.udp != new.udp {
            let gone = old.udp.into_iter().filter(|o| {
                !new.udp.iter().any(|n| (n.address, n.port, n.ipv6) == (o.address, o.port, o.ipv6))
            });
            let gone: Vec<UdpFrontend> =
                gone.map(|frontend| UdpFrontend { endpoints: Vec::new(), ..frontend }).collect();
            self.changed_udp.extend(new.udp);
            self.changed_udp.extend(gone);
        }
    }

    fn index(&mut self, name: &Name, old: &[IpAddr], new: &[IpAddr]) {
        for address in old.iter().filter(|address| !new.contains(address)) {
            self.reverse.remove(&(*address, name.clone()));
        }
        for address in new.iter().filter(|address| !old.contains(address)) {
            self.reverse.insert((*address, name.clone()));
        }
    }

    fn replan_host_ports(&mut self, host_ports: &[HostPort]) {
        let mut new: Vec<(Set, Key, Value)> = host_ports.iter().map(host_port_element).collect();
        new.extend(host_ports.iter().map(|port| {
            let address = port.target.ip();
            let set = Set { kind: SetKind::Hairpin, ipv6: is_ipv6(address) };
            (set, Key::Itself(address), Value::None)
        }));
        new.arrange_by_key(|(set, key, _)| (*set, *key));
        new.dedup_by(|a, b| (a.0, a.1) == (b.0, b.1));
        let old = std::mem::replace(&mut self.host_ports, new.clone());
        self.owners.replace(OWNER_HOST_PORTS, &old, &new);
        if old == new {
            return;
        }
        for element in old.iter().filter(|e| !new.contains(e)).chain(&new) {
            self.changed_udp.extend(host_port_frontend(element, &new));
        }
    }

    /// Makes the balancers that got their first user, drops those without any.
    fn settle_balancers(&mut self, changes: &mut Changes) {
        let made = &mut self.balancers_made;
        self.balancers.retain(|chain, count| {
            if *count > 0 && made.insert(chain.clone()) {
                changes.add_chains.push(chain.clone());
                changes.set_rules.push((chain.clone(), base::balancer_rules(chain)));
            } else if *count == 0 && made.remove(chain) {
                changes.delete_chains.push(chain.clone());
            }
            *count > 0
        });
    }
}

impl Entry {
    pub(crate) fn slices(&self) -> impl Iterator<Item = &Slice> + Clone {
        self.slices.iter().map(|(_, slice)| slice)
    }

    /// Distinct local addresses that serve.
    fn local_endpoints(&self) -> usize {
        let endpoints = self.slices().flat_map(|slice| &slice.endpoints);
        let serving = endpoints.filter(|e| e.local && e.ready);
        serving.filter_map(|e| e.addresses.first()).collect::<OrdSet<&IpAddr>>().len()
    }
}

fn diff_chains(old: &Plan, new: &Plan, changes: &mut Changes) {
    let find = |plan: &'_ [(Arc<str>, Vec<Rule>)], name: &Arc<str>| -> Option<usize> {
        plan.iter().position(|(known, _)| known == name)
    };
    for (name, rules) in &new.chains {
        let before = find(&old.chains, name);
        if before.is_none() {
            changes.add_chains.push(Chain::Named(name.clone()));
        }
        if before.is_none_or(|idx| old.chains[idx].1 != *rules) {
            changes.set_rules.push((Chain::Named(name.clone()), rules.clone()));
        }
    }
    for (name, _) in &old.chains {
        if find(&new.chains, name).is_none() {
            changes.delete_chains.push(Chain::Named(name.clone()));
        }
    }
    let same = |a: &crate::table::ClientSet, b: &crate::table::ClientSet| a.name == b.name;
    for set in &new.client_sets {
        // A changed timeout is in the rules; the set itself stays with its clients.
        if !old.client_sets.iter().any(|known| same(known, set)) {
            changes.add_client_sets.push(set.clone());
        }
    }
    for set in &old.client_sets {
        if !new.client_sets.iter().any(|known| same(known, set)) {
            changes.delete_client_sets.push(set.clone());
        }
    }
}

fn host_port_element(port: &HostPort) -> (Set, Key, Value) {
    let ipv6 = is_ipv6(port.target.ip());
    let value = Value::Target(port.target);
    match port.host_ip.filter(|ip| !ip.is_unspecified()) {
        None => {
            let key = Key::Port(port.protocol, port.host_port);
            (Set { kind: SetKind::HostPorts, ipv6 }, key, value)
        }
        Some(address) => {
            let frontend = Frontend { address, protocol: port.protocol, port: port.host_port };
            (Set { kind: SetKind::HostAddressPorts, ipv6 }, Key::Frontend(frontend), value)
        }
    }
}

/// What UDP connections to a host port may lead to now.
fn host_port_frontend(
    (set, key, _): &(Set, Key, Value),
    now: &[(Set, Key, Value)],
) -> Option<UdpFrontend> {
    let (address, port) = match key {
        Key::Port(Protocol::Udp, port) => (None, *port),
        Key::Frontend(Frontend { address, protocol: Protocol::Udp, port }) => {
            (Some(*address), *port)
        }
        _ => return None,
    };
    let target = now.iter().find(|(s, k, _)| (s, k) == (set, key)).map(|(.., value)| value);
    let endpoints = match target {
        Some(Value::Target(target)) => vec![*target],
        _ => Vec::new(),
    };
    Some(UdpFrontend { address, port, ipv6: set.ipv6, endpoints })
}

fn name_of(tree: &Tree) -> Name {
    (tree.str("metadata.namespace").into(), tree.str("metadata.name").into())
}
