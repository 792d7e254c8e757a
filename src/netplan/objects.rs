//! The little that rules and names need of Services and EndpointSlices, read from their trees.

use std::net::IpAddr;

use api::Lens;
use api::balance::PRODUCT_MAX;
use serde_json::Value;

use crate::address::{Cidr, Protocol};

/// How many of a list may be kept that multiplies with another of `n`.
pub(crate) fn beside(n: usize) -> usize {
    (PRODUCT_MAX / n.max(1)).max(1)
}

/// Labels of Services that kube-proxy leaves alone, whatever their value: one names another proxy, the other wants none.
const FOREIGN: [&str; 2] =
    ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"];

/// What is kept of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    pub cluster_ips: Vec<IpAddr>,
    pub headless: bool,
    /// `ExternalName`: the name it stands for.
    pub external_name: Option<Box<str>>,
    pub external_ips: Vec<IpAddr>,
    /// When it was made, in seconds: of two that want one element the older comes first.
    pub created_secs: i64,
    /// Load balancer addresses that the node itself answers for.
    pub load_balancer_ips: Vec<IpAddr>,
    pub source_ranges: Vec<Cidr>,
    pub ports: Vec<ServicePort>,
    /// `sessionAffinity: ClientIP` and its timeout.
    pub affinity_secs: Option<u32>,
    pub internal_local: bool,
    pub external_local: bool,
    pub health_check_node_port: u16,
    pub publish_not_ready: bool,
    /// Another proxy is asked to handle it, or none; names are still answered.
    pub foreign_proxy: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub name: Box<str>,
    pub protocol: Protocol,
    pub port: u16,
    pub node_port: u16,
    /// The load balancer's addresses have it: where the status names ports (ServiceLB does), it is one of those.
    pub balanced: bool,
}

/// What is kept of an EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    pub ports: Vec<SlicePort>,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    pub name: Box<str>,
    pub protocol: Protocol,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub addresses: Vec<IpAddr>,
    pub hostname: Option<Box<str>>,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    /// It runs on this node.
    pub local: bool,
    /// Whom it is meant for; most are for everybody.
    pub hints: Option<Box<Hints>>,
}

/// The zones whose clients an endpoint is meant for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hints(Box<[Box<str>]>);

impl Hints {
    pub(crate) fn names(&self, zone: &str) -> bool {
        self.0.iter().any(|name| **name == *zone)
    }
}

impl Service {
    pub fn from_tree(tree: &Value) -> Service {
        const DEFAULT_AFFINITY_SECS: i64 = 10_800;
        let spec = tree.at("spec");
        let kind = spec.str("type");
        let mut cluster_ips = addresses(spec.list("clusterIPs"));
        let single = spec.str("clusterIP");
        if cluster_ips.is_empty() {
            cluster_ips.extend(single.parse::<IpAddr>());
        }
        let headless = single == "None";
        let exposed = matches!(kind, "NodePort" | "LoadBalancer");
        let affine = spec.str("sessionAffinity") == "ClientIP";
        let timeout = spec.int("sessionAffinityConfig.clientIP.timeoutSeconds");
        let timeout = timeout.unwrap_or(DEFAULT_AFFINITY_SECS);
        let granted = api::balance::granted(tree);
        let balanced = |p: &Value| {
            let port = (api::balance::protocol(p.str("protocol")), port(p.int("port")));
            kind == "LoadBalancer" && granted.as_ref().is_none_or(|all| all.contains(&port))
        };
        let ports = spec.list("ports").iter();
        let ports = ports.filter_map(|p| service_port(p, exposed, balanced(p)));
        let mut service = Service {
            headless,
            external_name: (kind == "ExternalName").then(|| spec.str("externalName").into()),
            external_ips: addresses(spec.list("externalIPs")),
            created_secs: api::time::parse(tree.str("metadata.creationTimestamp"))
                .map_or(0, |time| time.secs()),
            load_balancer_ips: match kind {
                "LoadBalancer" => load_balancer_ips(tree),
                _ => Vec::new(),
            },
            source_ranges: match kind {
                "LoadBalancer" => source_ranges(tree),
                _ => Vec::new(),
            },
            ports: ports.take(PRODUCT_MAX).collect(),
            affinity_secs: affine.then(|| u32::try_from(timeout).unwrap_or(1).max(1)),
            internal_local: spec.str("internalTrafficPolicy") == "Local",
            external_local: spec.str("externalTrafficPolicy") == "Local",
            health_check_node_port: port(spec.int("healthCheckNodePort")),
            publish_not_ready: spec.flag("publishNotReadyAddresses"),
            foreign_proxy: FOREIGN
                .iter()
                .any(|label| tree.entry("metadata.labels", label).is_some()),
            cluster_ips: if kind == "ExternalName" { Vec::new() } else { cluster_ips },
        };
        let (n_ports, n_max) = (spec.list("ports").len(), beside(service.ports.len()));
        let cut = [
            n_ports > PRODUCT_MAX,
            shorten(&mut service.cluster_ips, n_max),
            shorten(&mut service.external_ips, n_max),
            service.load_balancer_ips.len() > n_max,
            shorten(&mut service.source_ranges, n_max),
        ];
        if cut.contains(&true) {
            let (namespace, name) = (tree.str("metadata.namespace"), tree.str("metadata.name"));
            log::warn!(
                "service {namespace}/{name}: {n_ports} ports with its addresses or source ranges make more than {PRODUCT_MAX} rules, and the rest is left out"
            );
        }
        service
    }
}

impl Slice {
    /// `node_name` says which endpoints are local. Slices of names (`addressType: FQDN`) are empty.
    pub fn from_tree(tree: &Value, node_name: &str) -> Slice {
        let ports = tree.list("ports").iter().filter_map(|p| {
            Some(SlicePort {
                name: p.str("name").into(),
                protocol: Protocol::from_name(p.str("protocol"))?,
                port: u16::try_from(p.int("port")?).ok()?,
            })
        });
        // As many of each as upstream takes in one slice.
        const PORTS_MAX: usize = 20_000;
        const ENDPOINTS_MAX: usize = 1000;
        Slice {
            ports: ports.take(PORTS_MAX).collect(),
            endpoints: tree
                .list("endpoints")
                .iter()
                .take(ENDPOINTS_MAX)
                .map(|e| endpoint(e, node_name))
                .collect(),
        }
    }

    /// The Service it belongs to.
    pub(crate) fn service_name(tree: &Value) -> &str {
        tree.entry("metadata.labels", api::kinds::SERVICE_NAME_LABEL).unwrap_or("")
    }
}

fn endpoint(tree: &Value, node_name: &str) -> Endpoint {
    // An absent condition means: ready, and serving as it is ready.
    let ready = tree.at("conditions.ready").as_bool().unwrap_or(true);
    Endpoint {
        addresses: addresses(tree.list("addresses")),
        hostname: Some(tree.str("hostname")).filter(|name| !name.is_empty()).map(Into::into),
        ready,
        serving: tree.at("conditions.serving").as_bool().unwrap_or(ready),
        terminating: tree.flag("conditions.terminating"),
        local: !node_name.is_empty() && tree.str("nodeName") == node_name,
        hints: hints(tree.list("hints.forZones")),
    }
}

fn hints(zones: &[Value]) -> Option<Box<Hints>> {
    /// As many as upstream takes.
    const ZONES_MAX: usize = 8;
    let names = zones.iter().take(ZONES_MAX).map(|zone| zone.str("name").into());
    (!zones.is_empty()).then(|| Box::new(Hints(names.collect())))
}

fn service_port(tree: &Value, exposed: bool, balanced: bool) -> Option<ServicePort> {
    Some(ServicePort {
        name: tree.str("name").into(),
        protocol: Protocol::from_name(tree.str("protocol"))?,
        port: u16::try_from(tree.int("port")?).ok()?,
        node_port: if exposed { port(tree.int("nodePort")) } else { 0 },
        balanced,
    })
}

fn load_balancer_ips(tree: &Value) -> Vec<IpAddr> {
    let ingress = tree.list("status.loadBalancer.ingress").iter();
    ingress
        .filter(|i| i.str("ipMode") != "Proxy")
        .filter_map(|i| i.str("ip").parse().ok())
        .take(PRODUCT_MAX)
        .collect()
}

fn source_ranges(tree: &Value) -> Vec<Cidr> {
    tree.list("spec.loadBalancerSourceRanges")
        .iter()
        .filter_map(|range| range.as_str()?.trim().parse().ok())
        .collect()
}

fn addresses(list: &[Value]) -> Vec<IpAddr> {
    list.iter().filter_map(|address| address.as_str()?.parse().ok()).collect()
}

/// Keeps the first `n_max`; whether there were more.
fn shorten<T>(list: &mut Vec<T>, n_max: usize) -> bool {
    let is_long = list.len() > n_max;
    list.truncate(n_max);
    is_long
}

fn port(number: Option<i64>) -> u16 {
    number.and_then(|number| u16::try_from(number).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_do_not_multiply_without_bound() {
        let many: Vec<String> =
            (0..2500).map(|n| format!("203.0.{}.{}", n / 250, n % 250 + 1)).collect();
        let ranges: Vec<String> = many.iter().map(|address| format!("{address}/32")).collect();
        for (n_ports, n_addresses) in [(1, 2500), (100, 163), (1000, 16), (30_000, 1)] {
            let ports: Vec<Value> =
                (1..=n_ports).map(|n| json!({"port": n, "protocol": "TCP"})).collect();
            let service = Service::from_tree(&json!({"spec": {
                "type": "LoadBalancer", "clusterIP": "10.43.0.9", "ports": ports, "externalIPs": many,
                "loadBalancerSourceRanges": ranges,
            }}));
            assert_eq!(service.ports.len(), n_ports.min(PRODUCT_MAX));
            assert_eq!(service.external_ips.len(), n_addresses, "beside {n_ports} ports");
            assert_eq!(service.source_ranges.len(), n_addresses);
            assert_eq!(service.cluster_ips.len(), 1);
        }
    }
}
