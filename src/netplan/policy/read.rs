//! The little that policies need of NetworkPolicies, Pods and Namespaces, read from their trees.

use std::net::IpAddr;

use api::Lens;
use api::selector::Selector;
use serde_json::Value as Tree;
use stdx::Arrange;

use crate::address::{Cidr, Protocol, is_special};

/// Rules of one policy, peers and ports of all of them together.
const PEERS_MAX: usize = 2048;
const PORTS_MAX: usize = 2048;
/// Blocks of one policy, exceptions included.
const BLOCKS_MAX: usize = 16_384;
/// Values of one policy's selectors.
const VALUES_MAX: usize = 4096;

pub(crate) type Labels = Vec<(Box<str>, Box<str>)>;

/// What is kept of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) labels: Labels,
    /// Of the cluster's; none where it has the node's network or has ended.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ports: Vec<(Protocol, Box<str>, u16)>,
    /// It has an address of its own, or will have one.
    pub(crate) counts: bool,
}

/// What is kept of a NetworkPolicy. Of a direction: `None` if it is not about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) selector: Selector,
    pub(crate) egress: Option<Vec<Allowed>>,
    pub(crate) ingress: Option<Vec<Allowed>>,
}

/// One rule: connections that match a peer and a port of it are allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// `None`: anybody.
    pub(crate) peers: Option<Peers>,
    /// `None`: whatever it is.
    pub(crate) ports: Option<Vec<Port>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peers {
    pub(crate) pods: Vec<PodPeers>,
    /// Sorted, without any overlap.
    pub(crate) blocks: Vec<(IpAddr, IpAddr)>,
}

/// Pods that two selectors select.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodPeers {
    /// The same for the same pods.
    pub(crate) key: Box<str>,
    /// The policy's own namespace, where it selects none.
    pub(crate) namespace: Result<Box<str>, Selector>,
    pub(crate) pods: Selector,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// From the first to the last; all of them from 0.
    Numbers(Protocol, u16, u16),
    Named(Protocol, Box<str>),
}

pub(crate) fn labels(tree: &Tree) -> Labels {
    tree.pairs("metadata.labels").map(|(key, value)| (key.into(), value.into())).collect()
}

pub(crate) fn selects(selector: &Selector, labels: &Labels) -> bool {
    selector.matches(labels.iter().map(|(key, value)| (&**key, &**value)))
}

impl Pod {
    pub(crate) fn from_tree(tree: &Tree, cluster: &[Cidr]) -> Pod {
        let ended = matches!(tree.str("status.phase"), "Succeeded" | "Failed");
        let counts = !ended && !tree.flag("spec.hostNetwork");
        let mut addresses = Vec::new();
        if counts {
            let all = tree.list("status.podIPs").iter().map(|entry| entry.str("ip"));
            let all = all.chain([tree.str("status.podIP")]).filter_map(|ip| ip.parse().ok());
            addresses.extend(all.filter(|ip: &IpAddr| {
                !is_special(*ip) && cluster.iter().any(|cidr| cidr.contains(*ip))
            }));
            addresses.arrange();
            addresses.dedup();
        }
        let mut ports = Vec::new();
        // A sidecar is an init container that goes on, and has ports as others.
        let init = tree.list("spec.initContainers").iter();
        let sidecars = init.filter(|container| container.str("restartPolicy") == "Always");
        for container in tree.list("spec.containers").iter().chain(sidecars) {
            for port in container.list("ports") {
                let number = port.int("containerPort").and_then(|port| u16::try_from(port).ok());
                let protocol = Protocol::from_name(port.str("protocol"));
                let name = port.str("name");
                if let (Some(number), Some(protocol), false) = (number, protocol, name.is_empty()) {
                    ports.push((protocol, name.into(), number));
                }
            }
        }
        Pod { labels: labels(tree), addresses, ports, counts }
    }
}

impl Policy {
    /// The second part says why it allows nothing, where it asks for more than can be kept.
    pub(crate) fn from_tree(tree: &Tree, namespace: &str) -> (Policy, Option<String>) {
        let spec = tree.at("spec");
        let types = spec.list("policyTypes");
        let about = |direction: &str| types.iter().any(|kind| kind.as_str() == Some(direction));
        // As upstream's defaults, for what did not get them.
        let egress = about("Egress") || (types.is_empty() && !spec.list("egress").is_empty());
        let ingress = about("Ingress") || types.is_empty();
        let mut budget = Budget::default();
        let selector = match spec.at("podSelector") {
            Tree::Null => Selector::everything(),
            selector => budget.selector(selector),
        };
        // What selects by too much isolates its whole namespace, rather than nobody.
        let selector = if budget.refusal().is_some() { Selector::everything() } else { selector };
        let mut rules = |list: &str, peers: &str| -> Vec<Allowed> {
            let rules = spec.list(list).iter();
            rules.map(|rule| allowed(rule, peers, namespace, &mut budget)).collect()
        };
        let (outgoing, incoming) = (rules("egress", "to"), rules("ingress", "from"));
        let refused = budget.refusal();
        let kept = |rules| if refused.is_some() { Vec::new() } else { rules };
        let policy = Policy {
            selector,
            egress: egress.then(|| kept(outgoing)),
            ingress: ingress.then(|| kept(incoming)),
        };
        (policy, refused)
    }

    pub(crate) fn rules(&self, direction: usize) -> Option<&Vec<Allowed>> {
        if direction == super::EGRESS { self.egress.as_ref() } else { self.ingress.as_ref() }
    }
}

/// How much a policy asked for. What goes beyond a bound is not read any more.
#[derive(Default)]
struct Budget {
    peers: usize,
    ports: usize,
    blocks: usize,
    values: usize,
}

impl Budget {
    fn refusal(&self) -> Option<String> {
        [
            (self.peers, PEERS_MAX, "rules and peers"),
            (self.ports, PORTS_MAX, "ports"),
            (self.blocks, BLOCKS_MAX, "address blocks"),
            (self.values, VALUES_MAX, "labels in selectors"),
        ]
        .iter()
        .find(|(has, max, _)| has > max)
        .map(|(_, max, what)| format!("more than {max} {what}"))
    }

    fn selector(&mut self, tree: &Tree) -> Selector {
        let terms = tree.list("matchExpressions");
        let values = terms.iter().map(|term| 1 + term.list("values").len());
        self.values += tree.pairs("matchLabels").count() + values.sum::<usize>();
        match self.values > VALUES_MAX {
            true => Selector::nothing(),
            false => Selector::from_label_selector(tree),
        }
    }
}

fn allowed(rule: &Tree, peers: &str, namespace: &str, budget: &mut Budget) -> Allowed {
    let (peers, ports) = (rule.list(peers), rule.list("ports"));
    // Blocks of one rule are one set, whatever their number; every other peer costs a rule.
    budget.peers += 1 + peers.iter().filter(|peer| !peer.has("ipBlock")).count();
    budget.ports += ports.len();
    if budget.refusal().is_some() {
        return Allowed::default();
    }
    let ports = (!ports.is_empty()).then(|| ports.iter().filter_map(port).collect());
    if peers.is_empty() {
        return Allowed { peers: None, ports };
    }
    let mut found = Peers::default();
    for peer in peers {
        match peer.at("ipBlock") {
            Tree::Null => found.pods.extend(pod_peers(peer, namespace, budget)),
            block => blocks(block, &mut found.blocks, budget),
        }
    }
    found.pods.arrange_by(|a, b| a.key.cmp(&b.key));
    found.pods.dedup_by(|a, b| a.key == b.key);
    merge(&mut found.blocks);
    Allowed { peers: Some(found), ports }
}

fn pod_peers(peer: &Tree, namespace: &str, budget: &mut Budget) -> Option<PodPeers> {
    let (of_namespaces, of_pods) = (peer.at("namespaceSelector"), peer.at("podSelector"));
    let pods = match of_pods {
        Tree::Null => Selector::everything(),
        selector => budget.selector(selector),
    };
    let (scope, namespace) = match of_namespaces {
        Tree::Null => (format!("={namespace}"), Ok(namespace.into())),
        selector => (Selector::text(selector), Err(budget.selector(selector))),
    };
    // Nobody has two selectors of one peer absent: validation wants one.
    let empty = of_namespaces.is_null() && of_pods.is_null();
    let nothing = pods.nothing || namespace.as_ref().is_err_and(|selector| selector.nothing);
    let key = format!("{scope}|{}", Selector::text(of_pods)).into();
    (!empty && !nothing).then_some(PodPeers { key, namespace, pods })
}

fn port(tree: &Tree) -> Option<Port> {
    let protocol = Protocol::from_name(tree.str("protocol"))?;
    match tree.at("port") {
        Tree::Null => Some(Port::Numbers(protocol, 0, u16::MAX)),
        Tree::String(name) => Some(Port::Named(protocol, name.as_str().into())),
        number => {
            let first = u16::try_from(number.as_i64()?).ok()?;
            let last = tree.int("endPort").map_or(Some(first), |last| u16::try_from(last).ok())?;
            Some(Port::Numbers(protocol, first, last))
        }
    }
}

/// A block without its exceptions, as ranges.
fn blocks(tree: &Tree, found: &mut Vec<(IpAddr, IpAddr)>, budget: &mut Budget) {
    let except = tree.list("except");
    budget.blocks += 1 + except.len();
    let Ok(block) = tree.str("cidr").parse::<Cidr>() else { return };
    if budget.refusal().is_some() {
        return;
    }
    let mut holes: Vec<(IpAddr, IpAddr)> = except
        .iter()
        .filter_map(|text| text.as_str()?.parse::<Cidr>().ok())
        .filter(|hole| hole.is_ipv4() == block.is_ipv4())
        .map(|hole| (hole.first(), hole.last()))
        .collect();
    merge(&mut holes);
    let mut from = Some(block.first());
    for (first, last) in holes {
        let Some(start) = from else { return };
        if last < start || first > block.last() {
            continue;
        }
        if start < first {
            found.extend(step(first, false).map(|end| (start, end)));
        }
        from = step(last, true);
    }
    found.extend(from.filter(|start| *start <= block.last()).map(|start| (start, block.last())));
}

/// Sorts ranges, and makes one of those that overlap or touch.
fn merge(ranges: &mut Vec<(IpAddr, IpAddr)>) {
    ranges.arrange();
    ranges.dedup_by(|next, kept| {
        let touches = step(kept.1, true).is_none_or(|after| next.0 <= after);
        let joins = next.0.is_ipv4() == kept.0.is_ipv4() && touches;
        if joins {
            kept.1 = kept.1.max(next.1);
        }
        joins
    });
}

/// The address after (`up`) or before.
fn step(address: IpAddr, up: bool) -> Option<IpAddr> {
    let by = |at: u128, max: u128| if up { (at < max).then(|| at + 1) } else { at.checked_sub(1) };
    match address {
        IpAddr::V4(v4) => {
            let next = by(v4.to_bits().into(), u32::MAX.into())?;
            Some(IpAddr::V4(u32::try_from(next).ok()?.into()))
        }
        IpAddr::V6(v6) => Some(IpAddr::V6(by(v6.to_bits(), u128::MAX)?.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn blocks_lose_their_exceptions() {
        for (cidr, except, expected) in [
            ("10.0.0.0/30", &[][..], "10.0.0.0-10.0.0.3"),
            ("10.0.0.0/24", &["10.0.0.0/25"], "10.0.0.128-10.0.0.255"),
            ("10.0.0.0/24", &["10.0.0.128/25"], "10.0.0.0-10.0.0.127"),
            (
                "10.0.0.0/24",
                &["10.0.0.8/29", "10.0.0.4/32", "10.0.0.10/32"],
                "10.0.0.0-10.0.0.3 10.0.0.5-10.0.0.7 10.0.0.16-10.0.0.255",
            ),
            ("10.0.0.0/24", &["10.0.0.0/25", "10.0.0.128/25"], ""),
            ("0.0.0.0/0", &["255.255.255.255/32"], "0.0.0.0-255.255.255.254"),
            ("0.0.0.0/0", &["10.0.0.0/8"], "0.0.0.0-9.255.255.255 11.0.0.0-255.255.255.255"),
            ("fd00::/126", &["fd00::1/128"], "fd00::-fd00:: fd00::2-fd00::3"),
            ("nonsense", &[], ""),
        ] {
            let (mut found, mut budget) = (Vec::new(), Budget::default());
            blocks(&json!({"cidr": cidr, "except": except}), &mut found, &mut budget);
            let found: Vec<String> = found.iter().map(|(a, b)| format!("{a}-{b}")).collect();
            assert_eq!(found.join(" "), expected, "{cidr} {except:?}");
        }
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut ranges = vec![
            (ip("10.0.0.5"), ip("10.0.0.9")),
            (ip("10.0.0.0"), ip("10.0.0.4")),
            (ip("fd00::"), ip("fd00::1")),
            (ip("10.0.0.7"), ip("10.0.0.8")),
            (ip("255.255.255.255"), ip("255.255.255.255")),
        ];
        merge(&mut ranges);
        assert_eq!(ranges.len(), 3, "{ranges:?}");
        assert_eq!(ranges[0], (ip("10.0.0.0"), ip("10.0.0.9")));
    }

    #[test]
    fn types_default_as_upstream_and_bounds_leave_nothing_allowed() {
        let read = |spec: Tree| Policy::from_tree(&json!({"spec": spec}), "ns");
        let shape = |spec: Tree| {
            let policy = read(spec).0;
            (policy.ingress.map(|rules| rules.len()), policy.egress.map(|rules| rules.len()))
        };
        assert_eq!(shape(json!({"podSelector": {}})), (Some(0), None));
        assert_eq!(shape(json!({"podSelector": {}, "egress": [{}]})), (Some(0), Some(1)));
        assert_eq!(shape(json!({"policyTypes": ["Egress"], "ingress": [{}]})), (None, Some(0)));
        let many: Vec<Tree> = (0..3000)
            .map(|n| json!({"podSelector": {"matchLabels": {"n": n.to_string()}}}))
            .collect();
        let (policy, refused) = read(json!({"podSelector": {}, "ingress": [{"from": many}]}));
        assert_eq!(refused.unwrap(), "more than 2048 rules and peers");
        assert_eq!(policy.ingress.unwrap().len(), 0);
        let except: Vec<String> =
            (0..20_000).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect();
        let block = json!([{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": except}}]}]);
        let (_, refused) = read(json!({"podSelector": {}, "egress": block}));
        assert_eq!(refused.unwrap(), "more than 16384 address blocks");
        let values: Vec<String> = (0..5000).map(|n| n.to_string()).collect();
        let term =
            json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": values}]});
        let (policy, refused) = read(json!({"podSelector": term}));
        assert!(refused.is_some() && policy.selector.is_everything());
    }
}
