//! What Services ask of the nodes' own addresses (ServiceLB, external addresses), what nodes offer, and what was granted.
//!
//! The controller grants by `status.loadBalancer.ingress[].ports`, which only it writes; nodes serve what was granted
//! and not what a user has asked for since. Services and Nodes are read without decoding the rest of them, because
//! who looks for rivals reads all there are.

use std::net::IpAddr;

use serde_json::Value;
use stdx::{Arrange, OrdSet};
use wire::protobuf::{Reader, Wire};

use crate::lens::Lens;
use crate::object::Object;

/// Keeps a Service until its load balancer was taken away; upstream's.
pub const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";

/// A protocol, as the API spells it, and a port.
pub type Port = (&'static str, u16);

/// Ports of one Service. Each is named by the status, and compared with those of all others.
pub const PORTS_MAX: usize = 256;

/// What one Service's lists may multiply to: its ports with its addresses, with the ranges that may ask, and with its
/// endpoints. A Service of 400 kB, without any endpoint, made 300,000 entries, which took 160 MB of each node. What is
/// beyond is left out, of the ranges too: who is in one of those is refused.
pub const PRODUCT_MAX: usize = 16_384;

/// What a Service asks for, and what it has.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asks {
    pub is_balancer: bool,
    pub has_class: bool,
    pub has_finalizer: bool,
    /// It has more than `PORTS_MAX` ports, and none are told.
    pub has_too_many: bool,
    /// Its ports, sorted, each once; none where it asks for nothing of nodes.
    pub ports: Vec<Port>,
    pub external_ips: Vec<IpAddr>,
    pub created_secs: i64,
    /// The ports that its load balancer serves, sorted.
    pub granted: Vec<Port>,
    pub published: Vec<IpAddr>,
}

/// What a Node offers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Offers {
    pub is_ready: bool,
    pub external: Vec<IpAddr>,
    pub internal: Vec<IpAddr>,
    /// Key, value and effect.
    pub taints: Vec<[String; 3]>,
}

/// Tags of `Service`, `Node` and `Pod`, and their parts.
mod tag {
    pub(super) const METADATA: u32 = 1;
    pub(super) const SPEC: u32 = 2;
    pub(super) const STATUS: u32 = 3;
    pub(super) const CREATED: u32 = 8;
    pub(super) const ANNOTATIONS: u32 = 12;
    pub(super) const FINALIZERS: u32 = 14;
    pub(super) const PORTS: u32 = 1;
    pub(super) const TYPE: u32 = 4;
    pub(super) const EXTERNAL_IPS: u32 = 5;
    pub(super) const CLASS: u32 = 21;
    pub(super) const INGRESS_PORTS: u32 = 4;
    pub(super) const CONTAINERS: u32 = 2;
    pub(super) const INIT_CONTAINERS: u32 = 20;
    pub(super) const CONTAINER_PORTS: u32 = 6;
    pub(super) const HOST_IP: u32 = 5;
    pub(super) const NODE_NAME: u32 = 10;
    pub(super) const TAINTS: u32 = 5;
    pub(super) const CONDITIONS: u32 = 4;
    pub(super) const ADDRESSES: u32 = 5;
}

impl Asks {
    pub fn of(service: &Object) -> Asks {
        let mut asks = Asks::default();
        let mut ports = Vec::new();
        for (part, value) in fields(service.message().unwrap_or_default()) {
            for (tag, value) in fields(value.bytes().unwrap_or_default()) {
                let text = || value.str().unwrap_or_default();
                let bytes = value.bytes().unwrap_or_default();
                match (part, tag) {
                    (tag::METADATA, tag::CREATED) => asks.created_secs = number(bytes, 1),
                    (tag::METADATA, tag::FINALIZERS) => asks.has_finalizer |= text() == FINALIZER,
                    (tag::SPEC, tag::PORTS) if ports.len() > PORTS_MAX => {}
                    (tag::SPEC, tag::PORTS) => ports.push(bytes),
                    (tag::SPEC, tag::TYPE) => asks.is_balancer = text() == "LoadBalancer",
                    (tag::SPEC, tag::CLASS) => asks.has_class = true,
                    (tag::SPEC, tag::EXTERNAL_IPS) => {
                        asks.external_ips.extend(text().parse::<IpAddr>());
                    }
                    (tag::STATUS, 1) => asks.read_ingress(bytes),
                    _ => {}
                }
            }
        }
        if asks.is_balancer || !asks.external_ips.is_empty() {
            asks.has_too_many = ports.len() > PORTS_MAX;
            // Of `ServicePort`, protocol and port.
            let ports = ports.iter().take(PORTS_MAX).filter_map(|port| port_of(port, 2, 3));
            let ports = if asks.has_too_many { Vec::new() } else { ports.collect() };
            asks.ports = sorted(ports);
        }
        asks
    }

    /// Whether both ask for one port.
    pub fn share(&self, other: &Asks) -> bool {
        self.ports.iter().any(|port| other.ports.binary_search(port).is_ok())
    }

    fn read_ingress(&mut self, status: &[u8]) {
        for (_, ingress) in fields(status) {
            let ingress = ingress.bytes().unwrap_or_default();
            self.published.extend(texts(ingress)[0].parse::<IpAddr>());
            if self.granted.is_empty() {
                let ports = fields(ingress).filter(|(tag, _)| *tag == tag::INGRESS_PORTS);
                // Of `PortStatus`, those without an error.
                let ports = ports.filter_map(|(_, port)| {
                    let port = port.bytes().ok()?;
                    texts(port)[2].is_empty().then(|| port_of(port, 2, 1))?
                });
                self.granted = sorted(ports.take(PORTS_MAX).collect());
            }
        }
    }
}

impl Offers {
    pub fn of(node: &Object) -> Offers {
        let mut offers = Offers::default();
        for (tag, value) in fields(node.message().unwrap_or_default()) {
            for (part, value) in fields(value.bytes().unwrap_or_default()) {
                let [first, second, third] = texts(value.bytes().unwrap_or_default());
                match (tag, part) {
                    (tag::SPEC, tag::TAINTS) => {
                        offers.taints.push([first.into(), second.into(), third.into()]);
                    }
                    (tag::STATUS, tag::CONDITIONS) if first == "Ready" => {
                        offers.is_ready = second == "True";
                    }
                    (tag::STATUS, tag::ADDRESSES) => match first {
                        "ExternalIP" => offers.external.extend(second.parse::<IpAddr>()),
                        "InternalIP" => offers.internal.extend(second.parse::<IpAddr>()),
                        _ => {}
                    },
                    _ => {}
                }
            }
        }
        offers
    }
}

/// The node of a pod that is not finished, and the ports that it takes there, on more than loopback.
pub fn host_ports(pod: &Object) -> (&str, Vec<Port>) {
    let (mut node, mut ports) = ("", Vec::new());
    for (part, value) in fields(pod.message().unwrap_or_default()) {
        for (tag, value) in fields(value.bytes().unwrap_or_default()) {
            let text = || value.str().unwrap_or_default();
            match (part, tag) {
                (tag::SPEC, tag::NODE_NAME) => node = text(),
                (tag::SPEC, tag::CONTAINERS | tag::INIT_CONTAINERS) => {
                    let container = fields(value.bytes().unwrap_or_default());
                    for (_, port) in container.filter(|(tag, _)| *tag == tag::CONTAINER_PORTS) {
                        let port = port.bytes().unwrap_or_default();
                        let mut host_ip = fields(port).filter(|(tag, _)| *tag == tag::HOST_IP);
                        let on_loopback = host_ip.any(|(_, ip)| {
                            ip.str()
                                .unwrap_or_default()
                                .parse()
                                .is_ok_and(|ip: IpAddr| ip.is_loopback())
                        });
                        // Of `ContainerPort`, protocol and host port.
                        let port = port_of(port, 4, 2).filter(|(_, number)| *number != 0);
                        ports.extend(port.filter(|_| !on_loopback && ports.len() < PORTS_MAX));
                    }
                }
                // Its phase.
                (tag::STATUS, 1) if matches!(text(), "Succeeded" | "Failed") => {
                    return ("", Vec::new());
                }
                _ => {}
            }
        }
    }
    if node.is_empty() { ("", Vec::new()) } else { (node, ports) }
}

/// An annotation, read from the bytes.
pub fn annotation<'o>(object: &'o Object, key: &str) -> Option<&'o str> {
    let metadata = fields(object.message()?).find(|(tag, _)| *tag == tag::METADATA)?.1;
    let mut entries = fields(metadata.bytes().ok()?).filter(|(tag, _)| *tag == tag::ANNOTATIONS);
    entries.find_map(|(_, entry)| {
        let [name, value, _] = texts(entry.bytes().ok()?);
        (name == key).then_some(value)
    })
}

/// The ports that a Service's load balancer serves, where it says so.
pub fn granted(service: &Value) -> Option<OrdSet<Port>> {
    let ingress = service.list("status.loadBalancer.ingress").iter();
    let ports = ingress.map(|one| one.list("ports")).find(|ports| !ports.is_empty())?;
    let served = ports.iter().filter(|port| port.str("error").is_empty());
    let port = |port: &Value| {
        Some((protocol(port.str("protocol")), u16::try_from(port.int("port")?).ok()?))
    };
    Some(served.filter_map(port).collect())
}

/// Reads the tolerations in an annotation, as JSON or YAML, by k3s's rules.
///
/// # Errors
/// Why they are none, in k3s's words where it has some.
pub fn tolerations(text: &str) -> Result<Vec<Value>, String> {
    const BYTES_MAX: usize = 16 << 10;
    if text.len() > BYTES_MAX {
        return Err(format!("longer than {BYTES_MAX} bytes"));
    }
    let list = match wire::yaml::parse_one(text).map_err(|error| error.to_string())? {
        Value::Array(list) => list,
        Value::Null => Vec::new(),
        _ => return Err("not a list".into()),
    };
    for (idx, toleration) in list.iter().enumerate() {
        let exists = toleration.str("operator") == "Exists";
        let why = if !toleration.is_object() {
            "not an object"
        } else if toleration.str("key").is_empty() && !exists {
            "toleration with empty key must have operator 'Exists'"
        } else if exists && !toleration.str("value").is_empty() {
            "toleration with operator 'Exists' must have an empty value"
        } else {
            continue;
        };
        return Err(format!("validation failed for toleration {idx}: {why}"));
    }
    Ok(list)
}

/// The API's spelling of a protocol.
pub fn protocol(name: &str) -> &'static str {
    match name {
        "UDP" => "UDP",
        "SCTP" => "SCTP",
        _ => "TCP",
    }
}

fn port_of(bytes: &[u8], protocol_tag: u32, port_tag: u32) -> Option<Port> {
    let name = fields(bytes).find(|(tag, _)| *tag == protocol_tag);
    let name = name.map_or("", |(_, value)| value.str().unwrap_or_default());
    Some((protocol(name), u16::try_from(number(bytes, port_tag)).ok()?))
}

fn number(bytes: &[u8], wanted: u32) -> i64 {
    let found = fields(bytes).find(|(tag, _)| *tag == wanted);
    found.map_or(0, |(_, value)| value.int().unwrap_or(0))
}

fn sorted(mut ports: Vec<Port>) -> Vec<Port> {
    ports.arrange();
    ports.dedup();
    ports
}

/// The first three fields of a message, where they are texts.
fn texts(bytes: &[u8]) -> [&str; 3] {
    let mut found = [""; 3];
    for (tag, value) in fields(bytes) {
        if let (Some(place), Ok(text)) =
            (found.get_mut((tag as usize).wrapping_sub(1)), value.str())
        {
            *place = text;
        }
    }
    found
}

fn fields(bytes: &[u8]) -> impl Iterator<Item = (u32, Wire<'_>)> {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(move || reader.next().ok().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{NODE, POD, SERVICE};
    use serde_json::json;

    #[test]
    fn what_is_asked_for_is_read_from_the_bytes() {
        let ports = json!([{"port": 80}, {"port": 53, "protocol": "UDP"}, {"port": 80, "protocol": "TCP", "name": "x"}]);
        let service = |finalizer: &str, spec: Value, ports: &Value| {
            let mut tree = json!({"metadata": {"name": "s", "namespace": "n", "creationTimestamp": "1970-01-01T00:01:05Z", "finalizers": ["a", finalizer]}, "spec": spec});
            tree["spec"]["ports"] = ports.clone();
            tree
        };
        let asks = |tree: &Value| Asks::of(&Object::from_tree(&SERVICE, tree).unwrap());
        let both = vec![("TCP", 80), ("UDP", 53)];
        let base = || Asks { created_secs: 65, ..Asks::default() };
        let balancer = || Asks { is_balancer: true, ports: both.clone(), ..base() };
        let external_ips = vec!["192.0.2.1".parse().unwrap()];
        for (finalizer, spec, want) in [
            ("b", json!({}), base()),
            ("b", json!({"type": "ClusterIP"}), base()),
            (
                FINALIZER,
                json!({"type": "LoadBalancer"}),
                Asks { has_finalizer: true, ..balancer() },
            ),
            (
                "b",
                json!({"type": "LoadBalancer", "loadBalancerClass": "a.b/c"}),
                Asks { has_class: true, ..balancer() },
            ),
            (
                "b",
                json!({"type": "ClusterIP", "externalIPs": ["192.0.2.1"]}),
                Asks { external_ips, ports: both.clone(), ..base() },
            ),
        ] {
            assert_eq!(asks(&service(finalizer, spec.clone(), &ports)), want, "{spec}");
        }
        let mut tree = service("b", json!({"type": "LoadBalancer"}), &ports);
        let granted = json!([{"port": 53, "protocol": "UDP"}, {"port": 80, "protocol": "TCP"}, {"port": 8, "protocol": "TCP", "error": "e"}]);
        tree["status"] = json!({"loadBalancer": {"ingress": [{"hostname": "h"}, {"ip": "192.0.2.1", "ipMode": "VIP", "ports": granted}, {"ip": "fd00::1"}]}});
        let published = ["192.0.2.1", "fd00::1"].map(|ip| ip.parse().unwrap()).into();
        assert_eq!(asks(&tree), Asks { granted: both.clone(), published, ..balancer() });
        let many: Value = (1..=257).map(|port| json!({"port": port})).collect();
        let found = asks(&service("b", json!({"type": "LoadBalancer"}), &many));
        assert_eq!(found, Asks { has_too_many: true, ports: Vec::new(), ..balancer() });
        let one = |port: u16| Asks { ports: vec![("TCP", port)], ..Asks::default() };
        assert!(one(80).share(&one(80)) && !one(80).share(&one(81)) && !one(80).share(&base()));
    }

    #[test]
    fn what_was_granted_is_in_the_status() {
        let service = |ingress: Value| json!({"status": {"loadBalancer": {"ingress": ingress}}});
        let ports = json!([{"port": 80, "protocol": "TCP"}, {"port": 81, "protocol": "TCP", "error": "x/y"}, {"port": 53, "protocol": "UDP"}]);
        assert_eq!(granted(&service(json!([{"ip": "192.0.2.1"}]))), None);
        assert_eq!(granted(&json!({})), None);
        let found = granted(&service(json!([{"ip": "192.0.2.1", "ports": ports}])));
        assert_eq!(found, Some([("TCP", 80), ("UDP", 53)].into()));
    }

    #[test]
    fn what_a_node_offers_is_read_from_the_bytes() {
        let tree = json!({"metadata": {"name": "n"}, "spec": {"podCIDR": "10.42.0.0/24", "taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "DiskPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "ExternalIP", "address": "fd00::1"}, {"type": "Hostname", "address": "n"}]}});
        let found = Offers::of(&Object::from_tree(&NODE, &tree).unwrap());
        let want = Offers {
            is_ready: true,
            external: vec!["fd00::1".parse().unwrap()],
            internal: vec!["192.0.2.1".parse().unwrap()],
            taints: vec![["k", "v", "NoSchedule"].map(String::from)],
        };
        assert_eq!(found, want);
    }

    #[test]
    fn what_a_pod_takes_of_its_node_is_read_from_the_bytes() {
        let pod = |spec: Value, phase: &str| {
            let tree = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec, "status": {"phase": phase}});
            let object = Object::from_tree(&POD, &tree).unwrap();
            let (node, ports) = host_ports(&object);
            (node.to_owned(), ports)
        };
        let spec = |node: &str| {
            let ports = json!([{"containerPort": 1}, {"containerPort": 2, "hostPort": 80}, {"containerPort": 3, "hostPort": 53, "protocol": "UDP", "hostIP": "192.0.2.1"},
                {"containerPort": 4, "hostPort": 81, "hostIP": "127.0.0.1"}]);
            let early = json!([{"containerPort": 5, "hostPort": 82, "protocol": "TCP"}]);
            json!({"nodeName": node, "containers": [{"name": "a"}, {"name": "b", "ports": ports}], "initContainers": [{"name": "c", "ports": early}]})
        };
        let all = vec![("TCP", 80), ("UDP", 53), ("TCP", 82)];
        assert_eq!(pod(spec("n1"), "Running"), ("n1".into(), all.clone()));
        assert_eq!(pod(spec("n1"), "Pending"), ("n1".into(), all));
        for (node, phase) in [("", "Pending"), ("n1", "Succeeded"), ("n1", "Failed")] {
            assert_eq!(pod(spec(node), phase), (String::new(), Vec::new()), "{node} {phase}");
        }
    }

    #[test]
    fn tolerations_are_json_or_yaml() {
        let one = json!([{"key": "a", "operator": "Exists"}]);
        for (text, want) in [
            ("", Ok(json!([]))),
            ("[{\"key\": \"a\", \"operator\": \"Exists\"}]", Ok(one.clone())),
            ("- key: a\n  operator: Exists\n", Ok(one)),
            ("key: a", Err("not a list")),
            ("- a", Err("validation failed for toleration 0: not an object")),
            (
                "- operator: Equal",
                Err(
                    "validation failed for toleration 0: toleration with empty key must have operator 'Exists'",
                ),
            ),
            (
                "- {operator: Exists, value: x}",
                Err(
                    "validation failed for toleration 0: toleration with operator 'Exists' must have an empty value",
                ),
            ),
        ] {
            assert_eq!(tolerations(text).map(Value::from), want.map_err(String::from), "{text}");
        }
        assert!(tolerations(&"#".repeat(17 << 10)).is_err());
        assert!(tolerations("[").is_err());
    }
}
