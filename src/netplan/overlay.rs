//! How pods of several nodes reach each other: from Nodes to the peers that this node has entries for.
//!
//! What nodes say of themselves is flannel's (`flannel.alpha.coreos.com/*`), so that its nodes and ours
//! understand each other. A kubelet writes its own Node: whatever is said there is hostile until it is
//! looked at here.

use std::net::IpAddr;

use api::Lens;
use serde_json::{Value, json};
use stdx::{Arrange, OrdMap};

use crate::address::{Cidr, is_special};

/// Nodes that are looked at, as upstream's limit of a cluster; those beyond have no entries.
pub const NODES_MAX: usize = 5000;
/// flannel's tunnel: VNI and UDP port.
pub const VNI: u32 = 1;
pub const VXLAN_PORT: u16 = 8472;
/// Longest `backend-data` that is read; flannel's has 46 bytes.
const BACKEND_DATA_MAX_BYTES: usize = 512;

const PREFIX: &str = "flannel.alpha.coreos.com/";
const TYPE: &str = "flannel.alpha.coreos.com/backend-type";
const MANAGED: &str = "flannel.alpha.coreos.com/kube-subnet-manager";

/// What is flannel's of one family: pods of IPv6 have a tunnel of their own, over IPv6.
#[derive(Debug)]
pub struct Family {
    /// The tunnel's name.
    pub device: &'static str,
    /// What a packet grows by on its way through the tunnel.
    pub overhead_bytes: u32,
    /// Bits of an address.
    pub whole: u8,
    data: &'static str,
    public_ip: &'static str,
    overwrite: &'static str,
}

/// How flannel names what it has of a family.
pub fn family(ipv6: bool) -> &'static Family {
    const IPV4: Family = Family {
        device: "flannel.1",
        overhead_bytes: 50,
        whole: 32,
        data: "flannel.alpha.coreos.com/backend-data",
        public_ip: "flannel.alpha.coreos.com/public-ip",
        overwrite: "flannel.alpha.coreos.com/public-ip-overwrite",
    };
    const IPV6: Family = Family {
        device: "flannel-v6.1",
        overhead_bytes: 70,
        whole: 128,
        data: "flannel.alpha.coreos.com/backend-v6-data",
        public_ip: "flannel.alpha.coreos.com/public-ipv6",
        overwrite: "flannel.alpha.coreos.com/public-ipv6-overwrite",
    };
    if ipv6 { &IPV6 } else { &IPV4 }
}

/// How packets get to another node (`--flannel-backend`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// In UDP.
    Vxlan,
    /// As they are, for all nodes are neighbours.
    HostGw,
}

impl Backend {
    /// As flags and annotations spell it.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Vxlan => "vxlan",
            Backend::HostGw => "host-gw",
        }
    }
}

/// What is the same for as long as the node runs.
#[derive(Clone, Debug)]
pub struct Own {
    pub node_name: String,
    pub backend: Backend,
    /// The family whose pods are reached.
    pub ipv6: bool,
    pub pod_cidrs: Vec<Cidr>,
    pub cluster_cidrs: Vec<Cidr>,
    pub service_cidrs: Vec<Cidr>,
    /// The address that others reach this node by, where it is not the interface's.
    pub external: Option<IpAddr>,
}

/// What this node's interfaces are now.
#[derive(Clone, Debug, Default)]
pub struct Here {
    /// The interface's own address; `None` while there is none but loopback's.
    pub address: Option<IpAddr>,
    /// All addresses of the node with their prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
    /// The blocks that are on the wire of the node's interface.
    pub on_link: Vec<Cidr>,
}

/// Another node that pods are reached through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    pub block: Cidr,
    pub address: IpAddr,
    /// Of its end of the tunnel; zeroes where there is none.
    pub mac: [u8; 6],
}

/// A node that has no entries, and why.
pub type Refusal = (Box<str>, String);

/// What is known of the Nodes.
#[derive(Debug)]
pub struct Nodes {
    own: Own,
    /// By name.
    claims: OrdMap<Box<str>, Claim>,
    /// This node's own annotations, as far as they are flannel's; `None` while its Node is not known.
    said: Option<Vec<(Box<str>, Box<str>)>>,
}

/// What a node says of itself. Texts are kept only to complain about them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    /// Older nodes come first where two claim the same.
    created: Box<str>,
    block: Cidr,
    told: Result<(IpAddr, [u8; 6]), String>,
}

impl Nodes {
    pub fn new(own: Own) -> Nodes {
        Nodes { own, claims: OrdMap::new(), said: None }
    }

    /// Takes in a Node. True if it said something new.
    pub fn set(&mut self, tree: &Value) -> bool {
        let name = tree.str("metadata.name");
        if name == self.own.node_name {
            let all = tree.at("metadata.annotations").as_object().into_iter().flatten();
            let ours = all.filter(|(key, _)| key.starts_with(PREFIX));
            let ours = ours.filter_map(|(key, value)| Some((&**key, value.as_str()?)));
            let said = ours.map(|(key, value)| (key.into(), value.into())).collect();
            return self.said.replace(said).as_ref() != self.said.as_ref();
        }
        let claim = claim(tree, &self.own);
        match claim {
            None => self.claims.remove(name).is_some(),
            Some(claim) if self.claims.get(name) == Some(&claim) => false,
            Some(_) if self.claims.len() >= NODES_MAX && !self.claims.contains_key(name) => false,
            Some(claim) => {
                self.claims.insert(name.into(), claim);
                true
            }
        }
    }

    /// A Node is gone. True if anything follows from it.
    pub fn remove(&mut self, name: &str) -> bool {
        if name == self.own.node_name {
            return self.said.take().is_some();
        }
        self.claims.remove(name).is_some()
    }

    /// Forgets every node that is not in `names`, which is sorted. True if there was one.
    pub fn retain(&mut self, names: &[&str]) -> bool {
        let before = self.claims.len();
        self.claims.retain(|name, _| names.binary_search(&&**name).is_ok());
        let is_gone = names.binary_search(&&*self.own.node_name).is_err();
        (is_gone && self.said.take().is_some()) || before != self.claims.len()
    }

    /// The nodes to have entries for, sorted, and those that are refused.
    pub fn peers(&self, here: &Here) -> (Vec<Peer>, Vec<Refusal>) {
        let (mut peers, mut refused) = (Vec::new(), Vec::new());
        if here.address.is_none() {
            return (peers, refused);
        }
        let mut claims: Vec<(&Box<str>, &Claim)> = self.claims.iter().collect();
        claims.arrange_by(|a, b| (&a.1.created, a.0).cmp(&(&b.1.created, b.0)));
        let mut taken = Taken::default();
        for (name, claim) in claims {
            match self.judge(claim, here, &taken) {
                Ok(peer) => {
                    taken.blocks.insert(peer.block.first(), (peer.block, name));
                    taken.macs.insert(peer.mac, (peer.address, name));
                    peers.push(peer);
                }
                Err(why) => refused.push((name.clone(), why)),
            }
        }
        peers.arrange();
        (peers, refused)
    }

    fn judge(&self, claim: &Claim, here: &Here, taken: &Taken<'_>) -> Result<Peer, String> {
        let own = &self.own;
        let (address, mac) = claim.told.clone()?;
        let block = claim.block;
        let overlaps = |other: &Cidr| overlap(&block, other);
        let inside = |c: &Cidr| c.prefix() <= block.prefix() && c.contains(block.first());
        if !own.cluster_cidrs.iter().any(inside) {
            return Err(format!("its pod range {block} is outside the cluster's"));
        }
        if own.pod_cidrs.iter().any(overlaps) {
            return Err(format!("its pod range {block} overlaps this node's"));
        }
        if own.service_cidrs.iter().any(overlaps) {
            return Err(format!("its pod range {block} overlaps the services'"));
        }
        if let Some((held, _)) = here.addresses.iter().find(|(a, _)| block.contains(*a)) {
            return Err(format!("its pod range {block} holds the address {held} of this node"));
        }
        if let Some(other) = taken.overlapping(&block) {
            return Err(format!("its pod range {block} overlaps that of node {other}"));
        }
        self.judge_address(address, here)?;
        if own.backend == Backend::Vxlan {
            if Some(mac) == self.mac() {
                return Err(format!("its hardware address {} is this node's", Mac(mac)));
            }
            // A machine that came back under another name still has its old Node beside it.
            if let Some((held, other)) = taken.macs.get(&mac)
                && *held != address
            {
                return Err(format!("its hardware address {} is that of node {other}", Mac(mac)));
            }
        }
        Ok(Peer { block, address, mac })
    }

    /// Packets go to `address`: it must be that of one other machine.
    fn judge_address(&self, ip: IpAddr, here: &Here) -> Result<(), String> {
        let own = &self.own;
        let address = ip;
        if is_special(ip) {
            return Err(format!("its address {address} is no machine's"));
        }
        if own.external == Some(ip) || here.addresses.iter().any(|(a, _)| *a == ip) {
            return Err(format!("its address {address} is this node's"));
        }
        if own.cluster_cidrs.iter().chain(&own.service_cidrs).any(|cidr| cidr.contains(ip)) {
            return Err(format!("its address {address} is a pod's or a service's"));
        }
        let point_to_point = family(own.ipv6).whole - 1;
        let subnets = here
            .addresses
            .iter()
            .filter(|(a, prefix)| a.is_ipv6() == own.ipv6 && *prefix < point_to_point);
        let mut subnets = subnets.filter_map(|(a, prefix)| Cidr::new(*a, *prefix));
        // The last of IPv6 is one as others.
        if subnets.any(|subnet| ip == subnet.first() || (!own.ipv6 && ip == subnet.last())) {
            return Err(format!("its address {address} is that of a whole network"));
        }
        if own.backend == Backend::HostGw && !here.on_link.iter().any(|c| c.contains(ip)) {
            return Err(format!(
                "its address {address} is not in the network of this node's interface, as --flannel-backend=host-gw needs it"
            ));
        }
        Ok(())
    }

    /// This node's end of the tunnel: made of its pod range, so that it is the same after every start.
    pub fn mac(&self) -> Option<[u8; 6]> {
        let block = self.block()?;
        let [a, b, c, d] = match block.first() {
            IpAddr::V4(base) => base.octets(),
            // The bits in which blocks of one size differ.
            IpAddr::V6(base) => {
                let bits = base.to_bits().checked_shr(128 - u32::from(block.prefix())).unwrap_or(0);
                let [.., a, b, c, d] = bits.to_be_bytes();
                [a, b, c, d]
            }
        };
        Some([0x0a, 0x58, a, b, c, d])
    }

    /// The tunnel's own address: the first of the node's pod range, which no pod has.
    pub fn base(&self) -> Option<IpAddr> {
        self.block().map(Cidr::first)
    }

    fn block(&self) -> Option<&Cidr> {
        self.own.pod_cidrs.iter().find(|cidr| cidr.is_ipv4() != self.own.ipv6)
    }

    /// The annotations of this node's Node that are not as they should be; `None` if all are.
    pub fn annotations(&self, here: &Here) -> Option<Value> {
        let said = self.said.as_ref()?;
        let names = family(self.own.ipv6);
        let said = |key: &str| said.iter().find(|(k, _)| **k == *key).map(|(_, value)| &**value);
        // An administrator's word counts more than what the interface has, as flannel has it.
        let overwrite = said(names.overwrite).and_then(|text| text.parse().ok());
        let address = self.own.external.or(overwrite).or(here.address)?;
        let data = match self.own.backend {
            Backend::Vxlan => format!(r#"{{"VNI":{VNI},"VtepMAC":"{}"}}"#, Mac(self.mac()?)),
            Backend::HostGw => "null".to_owned(),
        };
        let external = self.own.external.map(|address| (names.overwrite, address.to_string()));
        let wanted = [
            (TYPE, self.own.backend.name().to_owned()),
            (names.data, data),
            (names.public_ip, address.to_string()),
            (MANAGED, "true".to_owned()),
        ];
        let wanted = wanted.into_iter().chain(external);
        let missing = wanted.filter(|(key, value)| said(key) != Some(&**value));
        let missing: api::Map<String, Value> =
            missing.map(|(key, value)| (key.to_owned(), value.into())).collect();
        (!missing.is_empty()).then(|| json!({"metadata": {"annotations": missing}}))
    }
}

/// What older nodes hold.
#[derive(Default)]
struct Taken<'a> {
    /// By their first addresses; none overlaps another.
    blocks: OrdMap<IpAddr, (Cidr, &'a str)>,
    macs: OrdMap<[u8; 6], (IpAddr, &'a str)>,
}

impl Taken<'_> {
    fn overlapping(&self, block: &Cidr) -> Option<&str> {
        let (_, (held, name)) = self.blocks.range(..=block.last()).next_back()?;
        overlap(held, block).then_some(name)
    }
}

fn overlap(a: &Cidr, b: &Cidr) -> bool {
    a.contains(b.first()) || b.contains(a.first())
}

/// What a Node claims; `None` if it does not take part, or not yet.
fn claim(tree: &Value, own: &Own) -> Option<Claim> {
    let (backend, names) = (own.backend, family(own.ipv6));
    let annotation = |key: &str| tree.entry("metadata.annotations", key).unwrap_or("");
    if annotation(MANAGED) != "true" {
        return None;
    }
    let blocks = tree.list("spec.podCIDRs").iter().filter_map(Value::as_str);
    let mut blocks = blocks.chain([tree.str("spec.podCIDR")]).filter_map(|text| text.parse().ok());
    let block = blocks.find(|block: &Cidr| block.is_ipv4() != own.ipv6)?;
    let told = || {
        let name = annotation(TYPE);
        if name != backend.name() {
            return Err(format!("its backend is {:?}, not {}", shown(name), backend.name()));
        }
        let text = annotation(names.public_ip);
        let of_family =
            |address: &IpAddr| address.is_ipv6() == own.ipv6 && address.to_canonical() == *address;
        let address = text.parse::<IpAddr>().ok().filter(of_family);
        let address = address.ok_or_else(|| format!("its address is {:?}", shown(text)))?;
        let mac = match backend {
            Backend::Vxlan => end_of_tunnel(annotation(names.data))?,
            Backend::HostGw => [0; 6],
        };
        Ok((address, mac))
    };
    Some(Claim {
        created: shown(tree.str("metadata.creationTimestamp")).into(),
        block,
        told: told(),
    })
}

/// The hardware address in `backend-data`.
fn end_of_tunnel(data: &str) -> Result<[u8; 6], String> {
    let unread = || format!("its backend-data is {:?}", shown(data));
    if data.len() > BACKEND_DATA_MAX_BYTES {
        return Err(unread());
    }
    let tree: Value = serde_json::from_str(data).map_err(|_| unread())?;
    if tree.int("VNI") != Some(i64::from(VNI)) {
        return Err(format!("{}, and VNI {VNI} is wanted", unread()));
    }
    let mac = parse_mac(tree.str("VtepMAC")).ok_or_else(unread)?;
    let is_group = mac[0] & 1 != 0;
    match is_group || mac == [0; 6] {
        true => Err(format!("its hardware address {} is no machine's", Mac(mac))),
        false => Ok(mac),
    }
}

/// Six bytes as `0a:58:0a:2a:00:00`.
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// The beginning of what somebody wrote.
fn shown(text: &str) -> &str {
    const SHOWN_MAX_BYTES: usize = 64;
    &text[..text.floor_char_boundary(SHOWN_MAX_BYTES)]
}

/// A hardware address as people and flannel write it.
struct Mac([u8; 6]);

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (idx, byte) in self.0.iter().enumerate() {
            let colon = if idx == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &str = "flannel.alpha.coreos.com/backend-data";
    const PUBLIC_IP: &str = "flannel.alpha.coreos.com/public-ip";
    const OVERWRITE: &str = "flannel.alpha.coreos.com/public-ip-overwrite";

    fn own(backend: Backend) -> Nodes {
        let cidr = |text: &str| vec![text.parse().unwrap()];
        Nodes::new(Own {
            node_name: "me".into(),
            backend,
            ipv6: false,
            pod_cidrs: cidr("10.42.0.0/24"),
            cluster_cidrs: cidr("10.42.0.0/16"),
            service_cidrs: cidr("10.42.240.0/20"),
            external: None,
        })
    }

    fn here() -> Here {
        Here {
            address: "192.0.2.10".parse().ok(),
            addresses: vec![
                ("192.0.2.10".parse().unwrap(), 24),
                ("10.42.0.1".parse().unwrap(), 24),
                ("10.42.99.9".parse().unwrap(), 32),
            ],
            on_link: vec!["192.0.2.0/24".parse().unwrap()],
        }
    }

    /// A Node as a stock flannel writes it: name, age, pod range, public address, hardware address.
    fn node(name: &str, second: u32, block: &str, address: &str, mac: &str) -> Value {
        json!({
            "metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"), "annotations": {
                MANAGED: "true", TYPE: "vxlan", PUBLIC_IP: address,
                DATA: format!(r#"{{"VNI":1,"VtepMAC":"{mac}"}}"#),
            }},
            "spec": {"podCIDR": block, "podCIDRs": [block]},
        })
    }

    fn verdict(nodes: &Nodes) -> String {
        let (peers, refused) = nodes.peers(&here());
        let peers = peers.iter().map(|p| format!("{} by {} {}", p.block, p.address, Mac(p.mac)));
        peers
            .chain(refused.iter().map(|(name, why)| format!("{name}: {why}")))
            .collect::<Vec<_>>()
            .join("; ")
    }

    const MAC: &str = "5e:1f:00:00:00:02";

    #[test]
    fn what_nodes_say_of_themselves_is_looked_at() {
        for (block, address, mac, expected) in [
            ("10.42.1.0/24", "192.0.2.11", MAC, "10.42.1.0/24 by 192.0.2.11 5e:1f:00:00:00:02"),
            ("10.42.1.0/24", "203.0.113.7", MAC, "10.42.1.0/24 by 203.0.113.7 5e:1f:00:00:00:02"),
            (
                "10.42.0.128/25",
                "192.0.2.11",
                MAC,
                "n: its pod range 10.42.0.128/25 overlaps this node's",
            ),
            (
                "10.42.0.0/16",
                "192.0.2.11",
                MAC,
                "n: its pod range 10.42.0.0/16 overlaps this node's",
            ),
            ("0.0.0.0/0", "192.0.2.11", MAC, "n: its pod range 0.0.0.0/0 is outside the cluster's"),
            (
                "192.0.2.0/24",
                "192.0.2.11",
                MAC,
                "n: its pod range 192.0.2.0/24 is outside the cluster's",
            ),
            (
                "10.42.241.0/24",
                "192.0.2.11",
                MAC,
                "n: its pod range 10.42.241.0/24 overlaps the services'",
            ),
            (
                "10.42.99.0/24",
                "192.0.2.11",
                MAC,
                "n: its pod range 10.42.99.0/24 holds the address 10.42.99.9 of this node",
            ),
            ("10.42.1.0/24", "127.0.0.1", MAC, "n: its address 127.0.0.1 is no machine's"),
            (
                "10.42.1.0/24",
                "169.254.169.254",
                MAC,
                "n: its address 169.254.169.254 is no machine's",
            ),
            ("10.42.1.0/24", "224.0.0.1", MAC, "n: its address 224.0.0.1 is no machine's"),
            (
                "10.42.1.0/24",
                "255.255.255.255",
                MAC,
                "n: its address 255.255.255.255 is no machine's",
            ),
            (
                "10.42.1.0/24",
                "192.0.2.255",
                MAC,
                "n: its address 192.0.2.255 is that of a whole network",
            ),
            ("10.42.1.0/24", "192.0.2.10", MAC, "n: its address 192.0.2.10 is this node's"),
            (
                "10.42.1.0/24",
                "10.42.7.7",
                MAC,
                "n: its address 10.42.7.7 is a pod's or a service's",
            ),
            ("10.42.1.0/24", "fd00::1", MAC, "n: its address is \"fd00::1\""),
            (
                "10.42.1.0/24",
                "192.0.2.11",
                "01:00:5e:00:00:01",
                "n: its hardware address 01:00:5e:00:00:01 is no machine's",
            ),
            (
                "10.42.1.0/24",
                "192.0.2.11",
                "ff:ff:ff:ff:ff:ff",
                "n: its hardware address ff:ff:ff:ff:ff:ff is no machine's",
            ),
            (
                "10.42.1.0/24",
                "192.0.2.11",
                "00:00:00:00:00:00",
                "n: its hardware address 00:00:00:00:00:00 is no machine's",
            ),
            (
                "10.42.1.0/24",
                "192.0.2.11",
                "0a:58:0a:2a:00:00",
                "n: its hardware address 0a:58:0a:2a:00:00 is this node's",
            ),
            (
                "10.42.1.0/24",
                "192.0.2.11",
                "5e:1f",
                "n: its backend-data is \"{\\\"VNI\\\":1,\\\"VtepMAC\\\":\\\"5e:1f\\\"}\"",
            ),
            ("fd00::/64", "192.0.2.11", MAC, ""),
            ("nonsense", "192.0.2.11", MAC, ""),
        ] {
            let mut nodes = own(Backend::Vxlan);
            nodes.set(&node("n", 1, block, address, mac));
            assert_eq!(verdict(&nodes), expected, "{block} {address} {mac}");
        }
        for (key, value, expected) in [
            (TYPE, "host-gw", "n: its backend is \"host-gw\", not vxlan"),
            (
                DATA,
                r#"{"VNI":2,"VtepMAC":"5e:1f:00:00:00:02"}"#,
                "n: its backend-data is \"{\\\"VNI\\\":2,\\\"VtepMAC\\\":\\\"5e:1f:00:00:00:02\\\"}\", and VNI 1 is wanted",
            ),
            (DATA, "null", "n: its backend-data is \"null\", and VNI 1 is wanted"),
            (MANAGED, "false", ""),
        ] {
            let mut nodes = own(Backend::Vxlan);
            let mut tree = node("n", 1, "10.42.1.0/24", "192.0.2.11", MAC);
            tree["metadata"]["annotations"][key] = value.into();
            nodes.set(&tree);
            assert_eq!(verdict(&nodes), expected, "{key} {value}");
        }
        let mut nodes = own(Backend::Vxlan);
        let mut tree = node("n", 1, "10.42.1.0/24", "192.0.2.11", MAC);
        tree["metadata"]["annotations"][DATA] = "[".repeat(100_000).into();
        nodes.set(&tree);
        assert_eq!(nodes.peers(&here()).1[0].1.len(), "its backend-data is \"\"".len() + 64);
    }

    #[test]
    fn the_older_node_keeps_what_a_younger_one_claims() {
        let old = node("z-old", 1, "10.42.1.0/24", "192.0.2.11", MAC);
        let wide = node("a-wide", 2, "10.42.0.0/17", "192.0.2.12", "5e:1f:00:00:00:03");
        let inner = node("b-inner", 3, "10.42.1.128/25", "192.0.2.12", "5e:1f:00:00:00:04");
        let thief = node("c-thief", 4, "10.42.4.0/24", "192.0.2.13", MAC);
        let renamed = node("d-renamed", 5, "10.42.5.0/24", "192.0.2.11", MAC);
        let expected = "10.42.1.0/24 by 192.0.2.11 5e:1f:00:00:00:02; 10.42.5.0/24 by 192.0.2.11 5e:1f:00:00:00:02; \
            a-wide: its pod range 10.42.0.0/17 overlaps this node's; \
            b-inner: its pod range 10.42.1.128/25 overlaps that of node z-old; \
            c-thief: its hardware address 5e:1f:00:00:00:02 is that of node z-old";
        let all = [&old, &wide, &inner, &thief, &renamed];
        for first in 0..all.len() {
            let mut nodes = own(Backend::Vxlan);
            for idx in 0..all.len() {
                assert!(nodes.set(all[(first + idx) % all.len()]));
            }
            assert!(!nodes.set(&old), "nothing new");
            assert_eq!(verdict(&nodes), expected, "whatever comes first");
        }
        let mut nodes = own(Backend::Vxlan);
        for tree in all {
            nodes.set(tree);
        }
        assert!(nodes.remove("z-old") && !nodes.remove("z-old"));
        assert!(verdict(&nodes).contains("10.42.1.128/25 by 192.0.2.12"));
        assert!(nodes.retain(&["a-wide", "b-inner"]) && !nodes.retain(&["a-wide", "b-inner"]));
        assert_eq!(nodes.claims.len(), 2);
    }

    #[test]
    fn neighbours_only_for_host_gw() {
        let mut nodes = own(Backend::HostGw);
        let mut told = |name: &str, address: &str, block: &str| {
            let mut tree = node(name, 1, block, address, MAC);
            tree["metadata"]["annotations"][TYPE] = "host-gw".into();
            tree["metadata"]["annotations"][DATA] = "null".into();
            nodes.set(&tree);
        };
        told("near", "192.0.2.11", "10.42.1.0/24");
        told("far", "203.0.113.7", "10.42.2.0/24");
        assert_eq!(
            verdict(&nodes),
            "10.42.1.0/24 by 192.0.2.11 00:00:00:00:00:00; far: its address 203.0.113.7 is not in the network of \
             this node's interface, as --flannel-backend=host-gw needs it"
        );
        assert_eq!(
            nodes.peers(&Here::default()),
            (Vec::new(), Vec::new()),
            "no address, no entries"
        );
    }

    #[test]
    fn pods_of_ipv6_have_ways_of_their_own() {
        let six = |backend: Backend, pod_cidr: &str| {
            let cidr = |text: &str| text.parse().unwrap();
            Nodes::new(Own {
                node_name: "me".into(),
                backend,
                ipv6: true,
                pod_cidrs: vec![cidr("10.42.0.0/24"), cidr(pod_cidr)],
                cluster_cidrs: vec![cidr("10.42.0.0/16"), cidr("fd42::/56")],
                service_cidrs: vec![cidr("10.43.0.0/16"), cidr("fd43::/112")],
                external: None,
            })
        };
        let here = Here {
            address: "fd00::10".parse().ok(),
            addresses: vec![("fd00::10".parse().unwrap(), 64), ("192.0.2.10".parse().unwrap(), 24)],
            on_link: vec!["fd00::/64".parse().unwrap()],
        };
        let told = |backend: Backend, address: &str, block: &str| {
            let mut tree = node("n", 1, "10.42.1.0/24", "192.0.2.11", MAC);
            let notes = &mut tree["metadata"]["annotations"];
            notes[TYPE] = backend.name().into();
            notes["flannel.alpha.coreos.com/public-ipv6"] = address.into();
            notes["flannel.alpha.coreos.com/backend-v6-data"] =
                format!(r#"{{"VNI":1,"VtepMAC":"{MAC}"}}"#).into();
            tree["spec"]["podCIDRs"] = json!(["10.42.1.0/24", block]);
            tree
        };
        const BLOCK: &str = "fd42:0:0:1::/64";
        for (backend, address, block, expected) in [
            (Backend::Vxlan, "fd00::11", BLOCK, "fd42:0:0:1::/64 by fd00::11 5e:1f:00:00:00:02"),
            (
                Backend::Vxlan,
                "2001:db8:7::1",
                BLOCK,
                "fd42:0:0:1::/64 by 2001:db8:7::1 5e:1f:00:00:00:02",
            ),
            (
                Backend::Vxlan,
                "fd00::ffff:ffff:ffff:ffff",
                BLOCK,
                "fd42:0:0:1::/64 by fd00::ffff:ffff:ffff:ffff 5e:1f:00:00:00:02",
            ),
            (Backend::HostGw, "fd00::11", BLOCK, "fd42:0:0:1::/64 by fd00::11 5e:1f:00:00:00:02"),
            (
                Backend::HostGw,
                "2001:db8:7::1",
                BLOCK,
                "n: its address 2001:db8:7::1 is not in the network of this node's interface, as --flannel-backend=host-gw needs it",
            ),
            (Backend::Vxlan, "192.0.2.11", BLOCK, "n: its address is \"192.0.2.11\""),
            (Backend::Vxlan, "::ffff:192.0.2.11", BLOCK, "n: its address is \"::ffff:192.0.2.11\""),
            (Backend::Vxlan, "fe80::1", BLOCK, "n: its address fe80::1 is no machine's"),
            (Backend::Vxlan, "ff02::1", BLOCK, "n: its address ff02::1 is no machine's"),
            (Backend::Vxlan, "::1", BLOCK, "n: its address ::1 is no machine's"),
            (Backend::Vxlan, "fd00::10", BLOCK, "n: its address fd00::10 is this node's"),
            (Backend::Vxlan, "fd00::", BLOCK, "n: its address fd00:: is that of a whole network"),
            (Backend::Vxlan, "fd42::9", BLOCK, "n: its address fd42::9 is a pod's or a service's"),
            (
                Backend::Vxlan,
                "fd00::11",
                "fd42::/60",
                "n: its pod range fd42::/60 overlaps this node's",
            ),
            (
                Backend::Vxlan,
                "fd00::11",
                "fd00::/64",
                "n: its pod range fd00::/64 is outside the cluster's",
            ),
            (Backend::Vxlan, "fd00::11", "10.42.2.0/24", ""),
        ] {
            let mut nodes = six(backend, "fd42::/64");
            nodes.set(&told(backend, address, block));
            let (peers, refused) = nodes.peers(&here);
            let mac = |peer: &Peer| {
                if backend == Backend::Vxlan { peer.mac } else { [0x5e, 0x1f, 0, 0, 0, 2] }
            };
            let peers =
                peers.iter().map(|p| format!("{} by {} {}", p.block, p.address, Mac(mac(p))));
            let all: Vec<String> =
                peers.chain(refused.iter().map(|(name, why)| format!("{name}: {why}"))).collect();
            assert_eq!(all.join("; "), expected, "{address} {block}");
        }
        for (block, mac) in [
            ("fd42::/64", "0a:58:00:00:00:00"),
            ("fd42:0:0:ab::/64", "0a:58:00:00:00:ab"),
            ("fd42::7:0:0:0/80", "0a:58:00:00:00:07"),
            ("fd42::70/124", "0a:58:00:00:00:07"),
        ] {
            let nodes = six(Backend::Vxlan, block);
            assert_eq!(Mac(nodes.mac().unwrap()).to_string(), mac, "{block}");
        }
        let mut nodes = six(Backend::Vxlan, "fd42::/64");
        nodes.set(&json!({"metadata": {"name": "me"}}));
        assert_eq!(
            nodes.annotations(&here).unwrap(),
            json!({"metadata": {"annotations": {
                "flannel.alpha.coreos.com/backend-v6-data": "{\"VNI\":1,\"VtepMAC\":\"0a:58:00:00:00:00\"}",
                "flannel.alpha.coreos.com/backend-type": "vxlan",
                "flannel.alpha.coreos.com/kube-subnet-manager": "true",
                "flannel.alpha.coreos.com/public-ipv6": "fd00::10",
            }}})
        );
    }

    #[test]
    fn the_nodes_own_annotations_are_flannels() {
        let mut nodes = own(Backend::Vxlan);
        assert_eq!(nodes.annotations(&here()), None, "its Node is not there yet");
        let mut tree = json!({"metadata": {"name": "me", "annotations": {"a": "b"}}});
        assert!(nodes.set(&tree));
        let patch = nodes.annotations(&here()).unwrap();
        let expected = json!({"metadata": {"annotations": {
            "flannel.alpha.coreos.com/backend-data": "{\"VNI\":1,\"VtepMAC\":\"0a:58:0a:2a:00:00\"}",
            "flannel.alpha.coreos.com/backend-type": "vxlan",
            "flannel.alpha.coreos.com/kube-subnet-manager": "true",
            "flannel.alpha.coreos.com/public-ip": "192.0.2.10",
        }}});
        assert_eq!(patch, expected);
        tree["metadata"]["annotations"] = expected["metadata"]["annotations"].clone();
        assert!(nodes.set(&tree) && !nodes.set(&tree));
        assert_eq!(nodes.annotations(&here()), None);
        tree["metadata"]["annotations"][OVERWRITE] = "203.0.113.7".into();
        nodes.set(&tree);
        let patch = json!({"metadata": {"annotations": {PUBLIC_IP: "203.0.113.7"}}});
        assert_eq!(nodes.annotations(&here()), Some(patch));
        nodes.own.external = "198.51.100.1".parse().ok();
        let patch = json!({"metadata": {"annotations": {PUBLIC_IP: "198.51.100.1", OVERWRITE: "198.51.100.1"}}});
        assert_eq!(nodes.annotations(&here()), Some(patch));
        nodes.own.external = None;
        nodes.own.backend = Backend::HostGw;
        let patch = nodes.annotations(&here()).unwrap();
        assert_eq!(patch["metadata"]["annotations"][DATA], "null");
        assert!(nodes.remove("me"));
        assert_eq!(nodes.annotations(&here()), None);
    }
}
