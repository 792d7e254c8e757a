//! Which nodes serve a Service, and under which addresses.

use std::net::IpAddr;

use api::balance::{self, Asks, Offers, PORTS_MAX, Port};
use api::kinds::{ENDPOINT_SLICE, POD, SERVICE, SERVICE_NAME_LABEL};
use api::{Lens, Object, Value, View, json};
use stdx::Arrange;

use crate::support::nodes::{DAEMON_TOLERATED, tolerates};
use crate::support::settings::Reserved;

const ENABLE_LABEL: &str = "svccontroller.k3s.cattle.io/enablelb";
const POOL_LABEL: &str = "svccontroller.k3s.cattle.io/lbpool";
const TOLERATIONS: &str = "svccontroller.k3s.cattle.io/tolerations";
/// A larger Service is not served: the status would make it too large to store.
const BYTES_MAX: usize = 512 << 10;

/// Taints that k3s's pods stand by themselves, beside those that every DaemonSet's do.
const TOLERATED: [(&str, &str); 3] = [
    ("node-role.kubernetes.io/master", "NoSchedule"),
    ("node-role.kubernetes.io/control-plane", "NoSchedule"),
    ("CriticalAddonsOnly", ""),
];

/// There are nodes, but none with a ready endpoint, which `externalTrafficPolicy: Local` asks for.
pub(super) const NOT_READY: &str = "NoReadyEndpoints";
const NO_NODES: &str = "UnAvailableLoadBalancer";
const IN_USE: &str = "PortInUse";
const RESERVED: &str = "PortReserved";

/// What this is about of a node.
#[derive(Debug, Default)]
pub(super) struct Node {
    name: String,
    enable: Option<String>,
    pool: String,
    offers: Offers,
}

/// What came out: addresses in their order, and why there are not more.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) addresses: Vec<IpAddr>,
    /// A reason and a message.
    pub(super) refused: Option<(&'static str, String)>,
}

/// The Service that is judged.
type Wanted<'a> = (&'a Object, &'a Value, &'a Asks);

impl Node {
    pub(super) fn of(object: &Object) -> Node {
        Node {
            name: object.name().to_owned(),
            enable: object.label(ENABLE_LABEL).map(str::to_owned),
            pool: object.label(POOL_LABEL).unwrap_or("").to_owned(),
            offers: Offers::of(object),
        }
    }

    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.offers.external.contains(&address) || self.offers.internal.contains(&address)
    }

    fn takes(&self, pool: &str, tolerations: &[Value], is_chosen: bool) -> bool {
        let selected = !is_chosen
            || self.enable.as_deref() == Some("true") && (pool.is_empty() || pool == self.pool);
        let stands = |[key, value, effect]: &[String; 3]| {
            let by_itself =
                |(known, of): &&(&str, &str)| known == key && (of.is_empty() || of == effect);
            let taint = || json!({"key": key, "value": value, "effect": effect});
            !matches!(effect.as_str(), "NoSchedule" | "NoExecute")
                || TOLERATED.iter().chain(&DAEMON_TOLERATED).any(|known| by_itself(&known))
                || !tolerations.is_empty()
                    && tolerations.iter().any(|toleration| tolerates(toleration, &taint()))
        };
        selected && self.offers.is_ready && self.offers.taints.iter().all(stands)
    }
}

pub(super) fn choose(
    view: &View<'_>,
    (object, tree, asks): Wanted<'_>,
    nodes: &[Node],
    reserved: &Reserved,
) -> Found {
    let refused =
        |reason, message: String| Found { addresses: Vec::new(), refused: Some((reason, message)) };
    if is_too_large(object, asks) {
        let message =
            format!("more than {PORTS_MAX} ports, or larger than {} KiB", BYTES_MAX >> 10);
        return refused("TooLarge", message);
    }
    if let Some((protocol, port)) = asks.ports.iter().find(|port| reserved.has(**port)) {
        let message = format!("port {port}/{protocol} is the node's own, or one of the node ports");
        return refused(RESERVED, message);
    }
    let on = match candidates(object, nodes) {
        Ok(on) => on,
        Err(error) => return refused("SyncLoadBalancerFailed", error),
    };
    if !on.contains(&true) {
        return refused(NO_NODES, "There are no available nodes for LoadBalancer".into());
    }
    let pods = pods(view, asks);
    let rivals = rivals(view, (object, tree, asks), nodes, reserved);
    let own = Rival::new(object.clone(), asks, asks, nodes, on);
    let holders = holders(&own, &rivals);
    let (mut candidates, mut held) = (Vec::new(), Vec::new());
    for (idx, node) in nodes.iter().enumerate().filter(|(idx, _)| own.on[*idx]) {
        // Whatever came first, the node's rules have a pod's port before a Service's.
        let of_pod = pods.iter().find(|(on, ..)| *on == node.name);
        let of_pod = of_pod.map(|(_, port, pod)| (*port, "pod", pod));
        let of_service = holders[idx].map(|(_, port, rival)| (port, "service", rival));
        match of_pod.or(of_service) {
            Some(holder) => held.push((holder, node)),
            None => candidates.push(node),
        }
    }
    let in_use = held.first().map(|(((protocol, port), kind, holder), node)| {
        let others = match held.len() - 1 {
            0 => String::new(),
            n => format!(", and {n} more nodes are taken"),
        };
        let (namespace, name, on) = (holder.namespace(), holder.name(), &node.name);
        let message = format!(
            "port {port}/{protocol} is held by {kind} {namespace}/{name} on node {on}{others}"
        );
        (IN_USE, message)
    });
    if candidates.is_empty() {
        return Found { addresses: Vec::new(), refused: in_use };
    }
    if tree.str("spec.externalTrafficPolicy") == "Local" {
        let ready = ready_nodes(view, object);
        candidates.retain(|node| ready.binary_search(&node.name).is_ok());
        if candidates.is_empty() {
            let message = "externalTrafficPolicy is Local, and no node has a ready endpoint";
            return Found {
                addresses: Vec::new(),
                refused: in_use.or(Some((NOT_READY, message.into()))),
            };
        }
    }
    let addresses = addresses(tree, &candidates);
    let none = || (NO_NODES, "There are no available nodes for LoadBalancer".to_owned());
    let refused = in_use.or_else(|| addresses.is_empty().then(none));
    Found { addresses, refused }
}

fn is_too_large(object: &Object, asks: &Asks) -> bool {
    object.bytes().len() > BYTES_MAX || asks.has_too_many
}

/// Which nodes may serve a Service, as far as nobody else is concerned.
fn candidates(service: &Object, nodes: &[Node]) -> Result<Vec<bool>, String> {
    let text = balance::annotation(service, TOLERATIONS).unwrap_or("");
    let tolerations = balance::tolerations(text).map_err(|error| {
        format!("failed to parse tolerations from annotation {TOLERATIONS}: {error}")
    })?;
    let pool = service.label(POOL_LABEL).unwrap_or("");
    // Where any node says whether it serves, only those that say so do.
    let is_chosen = nodes.iter().any(|node| node.enable.is_some());
    Ok(nodes.iter().map(|node| node.takes(pool, &tolerations, is_chosen)).collect())
}

/// Who asks for one of the same ports, and where.
struct Rival {
    object: Object,
    created_secs: i64,
    /// Those of its ports that this is about.
    ports: Vec<Port>,
    granted: Vec<Port>,
    /// By node: it asks to be there, and it is.
    on: Vec<bool>,
    is_there: Vec<bool>,
}

impl Rival {
    /// Of `all` that a Service asks for, this is about what `one` asks for as well.
    fn new(object: Object, all: &Asks, one: &Asks, nodes: &[Node], on: Vec<bool>) -> Rival {
        let both = |ports: &[Port]| -> Vec<Port> {
            let shared = |port: &&Port| one.ports.binary_search(port).is_ok();
            ports.iter().filter(shared).copied().collect()
        };
        let is_there = |node: &Node| all.published.iter().any(|ip| node.has(*ip));
        Rival {
            object,
            created_secs: all.created_secs,
            ports: both(&all.ports),
            granted: both(&all.granted),
            on,
            is_there: nodes.iter().map(is_there).collect(),
        }
    }

    /// Who has a port keeps it; then the older comes first, then the first by name.
    fn rank(&self, is_there: bool, port: Port) -> Rank<'_> {
        let has = is_there && self.granted.binary_search(&port).is_ok();
        (!has, self.created_secs, self.object.namespace(), self.object.name())
    }
}

/// Of two that ask for a port, the smaller gets it.
type Rank<'r> = (bool, i64, &'r str, &'r str);

type Holder<'r> = (Rank<'r>, Port, &'r Object);

/// By node: who comes before the Service there, and at which port.
fn holders<'r>(own: &Rival, rivals: &'r [Rival]) -> Vec<Option<Holder<'r>>> {
    let mut holders: Vec<Option<Holder<'r>>> = vec![None; own.on.len()];
    for rival in rivals {
        let before = |is_there, own_is_there| {
            let ranks = rival.ports.iter().map(|port| (rival.rank(is_there, *port), *port));
            ranks.filter(|(rank, port)| *rank < own.rank(own_is_there, *port)).min()
        };
        // The nodes differ in nothing else, and there may be many.
        let before = [false, true].map(|there| [false, true].map(|own| before(there, own)));
        for (idx, holder) in holders.iter_mut().enumerate() {
            let at = before[usize::from(rival.is_there[idx])][usize::from(own.is_there[idx])];
            let Some((rank, port)) = at.filter(|_| rival.on[idx]) else { continue };
            if holder.is_none_or(|(known, ..)| rank < known) {
                *holder = Some((rank, port, &rival.object));
            }
        }
    }
    holders
}

fn rivals(
    view: &View<'_>,
    (object, _, asks): Wanted<'_>,
    nodes: &[Node],
    reserved: &Reserved,
) -> Vec<Rival> {
    let mut found = Vec::new();
    for other in view.list(&SERVICE, None) {
        let others = Asks::of(&other);
        let is_itself = (other.namespace(), other.name()) == (object.namespace(), object.name());
        if is_itself || other.deleting() || !others.share(asks) {
            continue;
        }
        let balances = others.is_balancer
            && !others.has_class
            && !is_too_large(&other, &others)
            && !others.ports.iter().any(|port| reserved.has(*port));
        let mut on = match balances {
            true => candidates(&other, nodes).unwrap_or_default(),
            false => Vec::new(),
        };
        on.resize(nodes.len(), false);
        for (node, on) in nodes.iter().zip(&mut on) {
            *on |= others.external_ips.iter().any(|ip| node.has(*ip));
        }
        if on.contains(&true) {
            found.push(Rival::new(other, &others, asks, nodes, on));
        }
    }
    found
}

/// Pods that take one of the ports, each with its node and the port.
fn pods(view: &View<'_>, asks: &Asks) -> Vec<(String, Port, Object)> {
    let mut found = Vec::new();
    for pod in view.list(&POD, None) {
        let (node, ports) = balance::host_ports(&pod);
        let taken = ports.into_iter().find(|port| asks.ports.binary_search(port).is_ok());
        if let Some(port) = taken {
            found.push((node.to_owned(), port, pod.clone()));
        }
    }
    found
}

/// The names of nodes with a ready pod of the Service, sorted.
fn ready_nodes(view: &View<'_>, service: &Object) -> Vec<String> {
    let mut names = Vec::new();
    for slice in view.list(&ENDPOINT_SLICE, Some(service.namespace())) {
        if slice.label(SERVICE_NAME_LABEL) != Some(service.name()) {
            continue;
        }
        for endpoint in slice.tree().list("endpoints") {
            if endpoint.str("targetRef.kind") == "Pod" && endpoint.flag("conditions.ready") {
                names.push(endpoint.str("nodeName").to_owned());
            }
        }
    }
    names.arrange();
    names.dedup();
    names
}

/// External addresses if any of these nodes has one, else internal ones: the families in the Service's order, each
/// in the order of its texts.
fn addresses(tree: &Value, nodes: &[&Node]) -> Vec<IpAddr> {
    let external = nodes.iter().any(|node| !node.offers.external.is_empty());
    let of = |node: &&'_ Node| match external {
        true => node.offers.external.clone(),
        false => node.offers.internal.clone(),
    };
    let mut all: Vec<IpAddr> = nodes.iter().flat_map(of).filter(|ip| !ip.is_loopback()).collect();
    all.arrange_by_key(ToString::to_string);
    all.dedup();
    let (ipv6, ipv4): (Vec<IpAddr>, Vec<IpAddr>) = all.into_iter().partition(IpAddr::is_ipv6);
    let families = tree.list("spec.ipFamilies").iter();
    families.flat_map(|family| if family == "IPv6" { &ipv6 } else { &ipv4 }).copied().collect()
}
