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
use crate::flannel::{Backend, End, Mac, PublicKey, Settings, family};

/// Nodes that are looked at, as upstream's limit of a cluster; those beyond have no entries.
pub const NODES_MAX: usize = 5000;
/// Longest `backend-data` that is read; flannel's has 46 bytes.
const BACKEND_DATA_MAX_BYTES: usize = 512;

const PREFIX: &str = "flannel.alpha.coreos.com/";
const TYPE: &str = "flannel.alpha.coreos.com/backend-type";
const MANAGED: &str = "flannel.alpha.coreos.com/kube-subnet-manager";

/// What is the same for as long as the node runs.
#[derive(Clone, Debug)]
pub struct Own {
    pub node_name: String,
    pub backend: Backend,
    pub settings: Settings,
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
    pub end: End,
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
    /// This node's own, once there is the device.
    key: Option<PublicKey>,
}

/// What a node says of itself. Texts are kept only to complain about them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    /// Older nodes come first where two claim the same.
    created: Box<str>,
    block: Cidr,
    told: Result<(IpAddr, End), String>,
}

impl Nodes {
    pub fn new(own: Own) -> Nodes {
        Nodes { own, claims: OrdMap::new(), said: None, key: None }
    }

    /// Says which key the device of this node has.
    pub fn set_key(&mut self, key: PublicKey) {
        self.key = Some(key);
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
                    taken.ends.insert(peer.end, (peer.address, name));
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
        let (address, end) = claim.told.clone()?;
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
        if end != End::None {
            if Some(end) == self.end() {
                return Err(format!("its {end} is this node's"));
            }
            // A machine that came back under another name still has its old Node beside it.
            if let Some((held, other)) = taken.ends.get(&end)
                && *held != address
            {
                return Err(format!("its {end} is that of node {other}"));
            }
        }
        Ok(Peer { block, address, end })
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

    /// Whom this node is for others; `None` if it has no end of a tunnel, or not yet.
    fn end(&self) -> Option<End> {
        match self.own.backend {
            Backend::HostGw => None,
            Backend::Vxlan => self.mac().map(End::Mac),
            Backend::WireGuard => self.key.map(End::Key),
        }
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
            Backend::Vxlan => {
                let vni = self.own.settings.vni;
                format!(r#"{{"VNI":{vni},"VtepMAC":"{}"}}"#, Mac(self.mac()?))
            }
            Backend::HostGw => "null".to_owned(),
            Backend::WireGuard => format!(r#"{{"PublicKey":"{}"}}"#, self.key?),
        };
        let external = self.own.external.map(|address| (names.overwrite, address.to_string()));
        let wanted = [
            (TYPE, self.own.backend.flannel_name().to_owned()),
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
    ends: OrdMap<End, (IpAddr, &'a str)>,
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
        let wanted = backend.flannel_name();
        if name != wanted {
            return Err(format!("its backend is {:?}, not {wanted}", shown(name)));
        }
        let text = annotation(names.public_ip);
        let of_family =
            |address: &IpAddr| address.is_ipv6() == own.ipv6 && address.to_canonical() == *address;
        let address = text.parse::<IpAddr>().ok().filter(of_family);
        let address = address.ok_or_else(|| format!("its address is {:?}", shown(text)))?;
        Ok((address, end_of_tunnel(annotation(names.data), own)?))
    };
    Some(Claim {
        created: shown(tree.str("metadata.creationTimestamp")).into(),
        block,
        told: told(),
    })
}

/// What `backend-data` says.
fn end_of_tunnel(data: &str, own: &Own) -> Result<End, String> {
    if own.backend == Backend::HostGw {
        return Ok(End::None);
    }
    let unread = || format!("its backend-data is {:?}", shown(data));
    if data.len() > BACKEND_DATA_MAX_BYTES {
        return Err(unread());
    }
    let tree: Value = serde_json::from_str(data).map_err(|_| unread())?;
    if own.backend == Backend::WireGuard {
        return PublicKey::parse(tree.str("PublicKey")).map(End::Key).ok_or_else(unread);
    }
    let vni = own.settings.vni;
    if tree.int("VNI") != Some(i64::from(vni)) {
        return Err(format!("{}, and VNI {vni} is wanted", unread()));
    }
    let mac = parse_mac(tree.str("VtepMAC")).ok_or_else(unread)?;
    let is_group = mac[0] & 1 != 0;
    match is_group || mac == [0; 6] {
        true => Err(format!("its hardware address {} is no machine's", Mac(mac))),
        false => Ok(End::Mac(mac)),
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

#[cfg(test)]
mod tests;
