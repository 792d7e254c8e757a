//! What is kept of the objects that routes are made of, read from their trees.

use std::net::IpAddr;

use api::{Lens, Object, Value};

use crate::annotations::{RouterOptions, ServiceOptions};
use crate::rule::host;

/// What names the class in annotations.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// Of lists in one object, this many are looked at.
const ITEMS_MAX: usize = 4096;

/// An Ingress.
#[derive(Debug)]
pub(crate) struct Ingress {
    /// As it is stored, for events and its status.
    pub(crate) object: Object,
    pub(crate) class: Option<Box<str>>,
    pub(crate) class_annotation: Option<Box<str>>,
    pub(crate) rules: Vec<HostRule>,
    pub(crate) default: Option<Backend>,
    /// Secrets with certificates.
    pub(crate) secrets: Vec<Box<str>>,
    pub(crate) options: Result<RouterOptions, String>,
    /// When it was made, in seconds.
    pub(crate) created_secs: i64,
    /// Where its status says that it is.
    pub(crate) addresses: Vec<Value>,
}

#[derive(Debug)]
pub(crate) struct HostRule {
    /// `None` for all; what is no name is an error.
    pub(crate) host: Option<Result<Box<str>, String>>,
    pub(crate) paths: Vec<HttpPath>,
}

#[derive(Debug)]
pub(crate) struct HttpPath {
    pub(crate) path: Box<str>,
    pub(crate) kind: PathKind,
    pub(crate) backend: Backend,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathKind {
    Exact,
    Prefix,
    Implementation,
}

#[derive(Debug)]
pub(crate) enum Backend {
    Service {
        name: Box<str>,
        port: PortRef,
    },
    /// An object of another kind.
    Resource,
}

/// A port of a Service, by its number or name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PortRef {
    Number(i64),
    Name(Box<str>),
}

impl PortRef {
    /// A number, or a name; a number may be written as a text.
    pub(crate) fn read(tree: &Value) -> PortRef {
        match tree {
            Value::String(name) => match name.parse() {
                Ok(number) => PortRef::Number(number),
                Err(_) => PortRef::Name(name.as_str().into()),
            },
            number => PortRef::Number(number.as_i64().unwrap_or(0)),
        }
    }
}

impl std::fmt::Display for PortRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PortRef::Number(number) => number.fmt(f),
            PortRef::Name(name) => name.fmt(f),
        }
    }
}

impl Ingress {
    pub(crate) fn read(object: &Object) -> Ingress {
        let tree = object.tree();
        let spec = tree.at("spec");
        let rules = spec.list("rules").iter().take(ITEMS_MAX).map(|rule| HostRule {
            host: Some(rule.str("host")).filter(|name| !name.is_empty()).map(host),
            paths: rule.list("http.paths").iter().take(ITEMS_MAX).map(HttpPath::read).collect(),
        });
        let secrets = spec.list("tls").iter().take(ITEMS_MAX).map(|tls| tls.str("secretName"));
        Ingress {
            class: spec.at("ingressClassName").as_str().map(Into::into),
            class_annotation: tree.entry("metadata.annotations", CLASS_ANNOTATION).map(Into::into),
            rules: rules.collect(),
            default: spec.has("defaultBackend").then(|| Backend::read(spec.at("defaultBackend"))),
            secrets: secrets.filter(|name| !name.is_empty()).map(Into::into).collect(),
            options: RouterOptions::read(tree.pairs("metadata.annotations")),
            created_secs: created_secs(&tree),
            addresses: tree.list("status.loadBalancer.ingress").to_vec(),
            object: object.clone(),
        }
    }
}

pub(crate) fn created_secs(tree: &Value) -> i64 {
    api::time::parse(tree.str("metadata.creationTimestamp")).map_or(0, |time| time.secs())
}

impl HttpPath {
    fn read(tree: &Value) -> HttpPath {
        HttpPath {
            path: tree.str("path").into(),
            kind: match tree.str("pathType") {
                "Exact" => PathKind::Exact,
                "Prefix" => PathKind::Prefix,
                _ => PathKind::Implementation,
            },
            backend: Backend::read(tree.at("backend")),
        }
    }
}

impl Backend {
    fn read(tree: &Value) -> Backend {
        let service = tree.at("service");
        if service.is_null() {
            return Backend::Resource;
        }
        let port = match service.str("port.name") {
            "" => PortRef::Number(service.int("port.number").unwrap_or(0)),
            name => PortRef::Name(name.into()),
        };
        Backend::Service { name: service.str("name").into(), port }
    }
}

/// An IngressClass.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) controller: Box<str>,
}

impl Class {
    pub(crate) fn read(tree: &Value) -> Class {
        Class { controller: tree.str("spec.controller").into() }
    }
}

/// A Service.
#[derive(Debug)]
pub(crate) struct ServiceObject {
    pub(crate) object: Object,
    pub(crate) kind: Box<str>,
    pub(crate) external_name: Box<str>,
    pub(crate) cluster_ip: Option<IpAddr>,
    pub(crate) ports: Vec<ServicePort>,
    pub(crate) options: Result<ServiceOptions, String>,
    /// Where it is reached from outside, as an Ingress's status says it.
    pub(crate) addresses: Vec<Value>,
}

#[derive(Debug)]
pub(crate) struct ServicePort {
    pub(crate) name: Box<str>,
    pub(crate) number: i64,
    pub(crate) udp: bool,
    pub(crate) h2c: bool,
    /// Its `appProtocol` says that it speaks TLS.
    pub(crate) tls: bool,
}

impl ServiceObject {
    pub(crate) fn read(object: &Object) -> ServiceObject {
        let tree = object.tree();
        let ports = tree.list("spec.ports").iter().take(ITEMS_MAX);
        let ports = ports.filter_map(|port| is_udp(port).map(|udp| (port, udp)));
        ServiceObject {
            kind: tree.str("spec.type").into(),
            external_name: tree.str("spec.externalName").into(),
            cluster_ip: tree.str("spec.clusterIP").parse().ok(),
            ports: ports
                .map(|(port, udp)| ServicePort {
                    udp,
                    name: port.str("name").into(),
                    number: port.int("port").unwrap_or(0),
                    h2c: port.str("appProtocol") == "kubernetes.io/h2c",
                    tls: matches!(port.str("appProtocol"), "https" | "kubernetes.io/wss"),
                })
                .collect(),
            options: ServiceOptions::read(tree.pairs("metadata.annotations")),
            addresses: addresses(&tree),
            object: object.clone(),
        }
    }

    /// A port of TCP, or of UDP.
    pub(crate) fn port(&self, wanted: &PortRef, udp: bool) -> Option<&ServicePort> {
        self.ports.iter().filter(|port| port.udp == udp).find(|port| match wanted {
            PortRef::Number(number) => port.number == *number,
            PortRef::Name(name) => port.name == *name,
        })
    }
}

/// Whether a port is one of UDP; `None` if it is not one of TCP either.
fn is_udp(port: &Value) -> Option<bool> {
    match port.str("protocol") {
        "" | "TCP" => Some(false),
        "UDP" => Some(true),
        _ => None,
    }
}

/// As an Ingress of it is reached: what the load balancer gave, or addresses that lead to it anyway.
fn addresses(tree: &Value) -> Vec<Value> {
    let one = |entry: &Value| {
        let mut kept = api::Map::new();
        for field in ["ip", "hostname", "ports"] {
            if entry.has(field) {
                kept.insert(field.into(), entry.at(field).clone());
            }
        }
        Value::Object(kept)
    };
    match tree.str("spec.type") {
        "ExternalName" => vec![api::json!({"hostname": tree.str("spec.externalName")})],
        "LoadBalancer" => {
            tree.list("status.loadBalancer.ingress").iter().take(ITEMS_MAX).map(one).collect()
        }
        _ => {
            let external = tree.list("spec.externalIPs").iter().take(ITEMS_MAX);
            external.map(|ip| api::json!({"ip": ip})).collect()
        }
    }
}

/// Where a service is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// A name or an address.
    pub host: String,
    pub port: u16,
    /// Takes requests of new clients.
    pub ready: bool,
}

/// An EndpointSlice.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) service: Box<str>,
    /// Name, number, and whether it is of UDP.
    ports: Vec<(Box<str>, u16, bool)>,
    endpoints: Vec<(IpAddr, bool)>,
}

impl Slice {
    pub(crate) fn read(tree: &Value) -> Slice {
        let service = tree.entry("metadata.labels", api::kinds::SERVICE_NAME_LABEL);
        let ports = tree.list("ports").iter().take(ITEMS_MAX).filter_map(|port| {
            let number = port.int("port").and_then(|number| u16::try_from(number).ok())?;
            Some((port.str("name").into(), number, is_udp(port)?))
        });
        let endpoints = tree.list("endpoints").iter().take(ITEMS_MAX).filter_map(|endpoint| {
            // An absent condition means: ready, and serving as it is ready.
            let conditions = endpoint.at("conditions");
            let ready = conditions.at("ready").as_bool().unwrap_or(true);
            let serving = conditions.at("serving").as_bool().unwrap_or(ready);
            // All addresses of an endpoint are the same one; consumers use the first.
            let address = endpoint.list("addresses").first()?.as_str()?.parse().ok()?;
            (ready || serving).then_some((address, ready))
        });
        Slice {
            service: service.unwrap_or("").into(),
            ports: ports.collect(),
            endpoints: endpoints.collect(),
        }
    }

    /// Where a Service's port is reached.
    pub(crate) fn endpoints(&self, of: &ServicePort) -> impl Iterator<Item = Endpoint> + '_ {
        let mut ports = self.ports.iter();
        let port = ports.find(|(name, _, udp)| *name == of.name && *udp == of.udp);
        let port = port.map(|(_, port, _)| *port);
        let endpoints = self.endpoints.iter();
        endpoints.filter_map(move |&(address, ready)| {
            Some(Endpoint { host: address.to_string(), port: port?, ready })
        })
    }
}
