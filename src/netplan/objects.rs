//! The little that rules and names need of Services and EndpointSlices, read from their trees.

use std::net::IpAddr;

use api::Lens;
use serde_json::Value;

use crate::address::{Cidr, Protocol};

/// What is kept of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    pub cluster_ips: Vec<IpAddr>,
    pub headless: bool,
    /// `ExternalName`: the name it stands for.
    pub external_name: Option<Box<str>>,
    pub external_ips: Vec<IpAddr>,
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
    /// Another proxy is asked to handle it; names are still answered.
    pub foreign_proxy: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub name: Box<str>,
    pub protocol: Protocol,
    pub port: u16,
    pub node_port: u16,
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
        Service {
            headless,
            external_name: (kind == "ExternalName").then(|| spec.str("externalName").into()),
            external_ips: addresses(spec.list("externalIPs")),
            load_balancer_ips: match kind {
                "LoadBalancer" => load_balancer_ips(tree),
                _ => Vec::new(),
            },
            source_ranges: match kind {
                "LoadBalancer" => source_ranges(tree),
                _ => Vec::new(),
            },
            ports: spec.list("ports").iter().filter_map(|p| service_port(p, exposed)).collect(),
            affinity_secs: affine.then(|| u32::try_from(timeout).unwrap_or(1).max(1)),
            internal_local: spec.str("internalTrafficPolicy") == "Local",
            external_local: spec.str("externalTrafficPolicy") == "Local",
            health_check_node_port: port(spec.int("healthCheckNodePort")),
            publish_not_ready: spec.flag("publishNotReadyAddresses"),
            foreign_proxy: tree
                .entry("metadata.labels", "service.kubernetes.io/service-proxy-name")
                .is_some(),
            cluster_ips: if kind == "ExternalName" { Vec::new() } else { cluster_ips },
        }
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
        Slice {
            ports: ports.collect(),
            endpoints: tree.list("endpoints").iter().map(|e| endpoint(e, node_name)).collect(),
        }
    }

    /// The Service it belongs to.
    pub fn service_name(tree: &Value) -> &str {
        tree.entry("metadata.labels", "kubernetes.io/service-name").unwrap_or("")
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
    }
}

fn service_port(tree: &Value, exposed: bool) -> Option<ServicePort> {
    Some(ServicePort {
        name: tree.str("name").into(),
        protocol: Protocol::from_name(tree.str("protocol"))?,
        port: u16::try_from(tree.int("port")?).ok()?,
        node_port: if exposed { port(tree.int("nodePort")) } else { 0 },
    })
}

fn load_balancer_ips(tree: &Value) -> Vec<IpAddr> {
    let ingress = tree.list("status.loadBalancer.ingress").iter();
    ingress
        .filter(|i| i.str("ipMode") != "Proxy")
        .filter_map(|i| i.str("ip").parse().ok())
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

fn port(number: Option<i64>) -> u16 {
    number.and_then(|number| u16::try_from(number).ok()).unwrap_or(0)
}
