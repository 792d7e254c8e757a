//! Entries for the pods of other nodes: the tunnel, its neighbours, routes. netplan says which, and what the
//! kernel has is compared with it, so that a start over pods that run changes nothing.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use api::kinds::NODE;
use api::{Object, Value};
use client::follow::{News, Selection, follow};
use client::{Client, PatchType, WatchEvent};
use netplan::Cidr;
use netplan::overlay::{Backend, Here, Nodes, Own, Peer, Refusal, VNI, VXLAN_PORT, family};
use stdx::backoff::Backoff;
use stdx::{Context, Error, Result};
use wire::rtnetlink as rtnl;

use crate::kernel::{EEXIST, Links};
use crate::node::NodeLink;
use crate::{Config, Shared, lock, sysctl};

const RETRY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
/// Changes that come together are one.
const SETTLE: Duration = Duration::from_millis(100);
/// The scope of addresses that count on one wire only.
const SCOPE_LINK: u8 = 253;
/// The smallest MTU of IPv4.
const MTU_MIN: u32 = 68;
/// Interfaces of a smaller one lose their IPv6.
const MTU_MIN_IPV6: u32 = 1280;

/// Who is asked about nodes.
#[derive(Clone, Debug)]
pub struct NodeClients {
    /// Sees all Nodes: the service proxy.
    pub all: Client,
    /// Writes this node's own: its kubelet.
    pub own: Client,
    /// Sees NetworkPolicies, Pods and Namespaces; `None`: nobody acts on policies.
    pub policies: Option<Client>,
}

/// The way to other nodes, and what is known of them.
#[derive(Debug)]
pub(crate) struct Overlay {
    backend: Backend,
    config: Config,
    /// One a family.
    ways: Vec<Way>,
    /// The Nodes were listed once: before that, nothing is known to be gone.
    listed: AtomicBool,
    /// The kernel has entries for others.
    has_peers: AtomicBool,
    wake: rt::Event,
}

/// The way to the pods of one family.
#[derive(Debug)]
struct Way {
    ipv6: bool,
    nodes: Mutex<Nodes>,
    /// Nodes that were complained about.
    refused: Mutex<Vec<Refusal>>,
}

/// The MTU of pods: whoever sends through the tunnel must leave it its room, and a pod does not change its
/// MTU when the second node comes.
pub(crate) fn pods_mtu(config: &Config, node: &NodeLink) -> u32 {
    let overhead = match config.backend {
        Some(Backend::Vxlan) => {
            family(config.cluster_cidrs.iter().any(|cidr| !cidr.is_ipv4())).overhead_bytes
        }
        Some(Backend::HostGw) | None => 0,
    };
    let ipv6 = config.pod_cidrs.iter().any(|cidr| !cidr.is_ipv4());
    let least = if ipv6 { MTU_MIN_IPV6 } else { MTU_MIN };
    config.mtu.unwrap_or(node.mtu.saturating_sub(overhead).max(least))
}

/// Removes what an earlier run made, as far as it is surely ours.
pub(crate) fn remove(config: &Config) -> Result<()> {
    let mut links = Links::open()?;
    for ipv6 in [false, true] {
        without_tunnel(&mut links, ipv6)?;
    }
    let mut ours = links.routes()?;
    ours.retain(|route| route.protocol == rtnl::PROTOCOL_K3RS && leads_to_pods(config, route));
    ours.iter().try_for_each(|route| links.delete_route(route))
}

/// Another flannel on this machine gives its tunnel an address by chance.
fn is_ours(link: &rtnl::Link) -> bool {
    link.kind == "vxlan" && link.mac.starts_with(&[0x0a, 0x58])
}

/// A route to a part of the cluster's pods by way of another node.
fn leads_to_pods(config: &Config, route: &rtnl::Route) -> bool {
    let inside = |(address, prefix): (IpAddr, u8)| {
        config.cluster_cidrs.iter().any(|c| c.prefix() <= prefix && c.contains(address))
    };
    route.gateway.is_some() && route.destination.is_some_and(inside)
}

impl Overlay {
    pub(crate) fn new(config: &Config, backend: Backend) -> Overlay {
        let has = |ipv6: &bool| config.pod_cidrs.iter().any(|cidr| cidr.is_ipv4() != *ipv6);
        let way = |ipv6: bool| {
            let externals = &config.overlay_ips;
            let own = Own {
                node_name: config.node_name.clone(),
                backend,
                ipv6,
                pod_cidrs: config.pod_cidrs.clone(),
                cluster_cidrs: config.cluster_cidrs.clone(),
                service_cidrs: config.service_cidrs.clone(),
                external: externals.iter().copied().find(|address| address.is_ipv6() == ipv6),
            };
            Way { ipv6, nodes: Mutex::new(Nodes::new(own)), refused: Mutex::default() }
        };
        Overlay {
            backend,
            config: config.clone(),
            ways: [false, true].into_iter().filter(has).map(way).collect(),
            listed: AtomicBool::new(false),
            has_peers: AtomicBool::new(false),
            wake: rt::Event::new(),
        }
    }

    /// Interfaces changed; `moved` says that the node's own did.
    pub(crate) fn look_again(&self, moved: bool) {
        if moved || self.has_peers.load(Ordering::Relaxed) {
            self.wake.notify(usize::MAX);
        }
    }

    /// Takes in news of the Nodes. True if something follows from it.
    fn hear(&self, news: &News) -> bool {
        let set = |node: &Object| {
            let tree = node.tree();
            self.ways.iter().fold(false, |news, way| lock(&way.nodes).set(&tree) | news)
        };
        match news {
            News::Listed(list) => {
                let mut names: Vec<&str> = list.items.iter().map(Object::name).collect();
                stdx::Arrange::arrange(&mut names[..]);
                for way in &self.ways {
                    lock(&way.nodes).retain(&names);
                }
                for node in &list.items {
                    set(node);
                }
                self.listed.store(true, Ordering::Relaxed);
                true
            }
            News::Event(WatchEvent::Added(node) | WatchEvent::Modified(node)) => set(node),
            News::Event(WatchEvent::Deleted(node)) => {
                let gone = |news, way: &Way| lock(&way.nodes).remove(node.name()) | news;
                self.ways.iter().fold(false, gone)
            }
            News::Event(WatchEvent::Bookmark { .. }) => false,
        }
    }

    /// Makes the kernel's entries what they should be. The second part is what this node's own Node lacks.
    fn step(&self, node: &NodeLink) -> (Result<()>, Option<Value>) {
        if !self.listed.load(Ordering::Relaxed) {
            return (Ok(()), None);
        }
        let (mut errors, mut patch, mut n_peers) = (Errors(None), None, 0);
        for way in &self.ways {
            let seen = Links::open().and_then(|mut links| {
                let (index, here) = here(&mut links, &self.config, node, way.ipv6)?;
                Ok((links, index, here))
            });
            let (mut links, index, here) = match seen {
                Ok(seen) => seen,
                Err(error) => {
                    errors.note(Err(error));
                    continue;
                }
            };
            let (peers, refused, lacks) = {
                let nodes = lock(&way.nodes);
                let (peers, refused) = nodes.peers(&here);
                (peers, refused, nodes.annotations(&here))
            };
            n_peers += peers.len();
            way.complain(refused);
            patch = both(patch, lacks);
            errors.note(match (self.backend, here.address) {
                (Backend::Vxlan, Some(local)) if !peers.is_empty() => {
                    let vxlan = rtnl::Vxlan { id: VNI, link: index, local, port: VXLAN_PORT };
                    self.tunnel(&mut links, node, way, &vxlan).and_then(|device| {
                        apply(&mut links, &self.config, (way.ipv6, Some(device)), device, &peers)
                    })
                }
                _ => without_tunnel(&mut links, way.ipv6).and_then(|()| {
                    apply(&mut links, &self.config, (way.ipv6, None), index, &peers)
                }),
            });
        }
        self.has_peers.store(n_peers > 0, Ordering::Relaxed);
        (errors.0.map_or(Ok(()), Err), patch)
    }

    /// Makes the tunnel what it should be, and nothing anew that is right already. Returns its index.
    fn tunnel(
        &self,
        links: &mut Links,
        node: &NodeLink,
        way: &Way,
        vxlan: &rtnl::Vxlan,
    ) -> Result<u32> {
        let name = family(way.ipv6).device;
        let (mac, base) = {
            let nodes = lock(&way.nodes);
            let both = nodes.mac().zip(nodes.base());
            both.context(|| format!("make {name}: this node has no pod range of its family"))?
        };
        let mtu = pods_mtu(&self.config, node);
        let mut found = links.find_vxlan(name)?;
        if let Some((link, _)) = found.take_if(|(_, known)| known.as_ref() != Some(vxlan)) {
            log::info!("the interface {name} was made for other settings, making it anew");
            links.delete(&link)?;
        }
        let link = match found {
            Some((link, _)) => link,
            None => {
                links.change(
                    || format!("make interface {name} (CONFIG_VXLAN, module vxlan)"),
                    &[EEXIST],
                    |w, sequence| rtnl::create_vxlan(w, sequence, name, mac, mtu, vxlan),
                )?;
                links.find(name)?.context(|| format!("interface {name} vanished"))?
            }
        };
        let index = link.index;
        if link.mtu != mtu {
            let what = || format!("set the MTU of {name} to {mtu}");
            links.change(what, &[], |w, sequence| rtnl::set_mtu(w, sequence, index, mtu))?;
        }
        if link.mac != mac {
            let what = || format!("set the hardware address of {name}");
            links.change(what, &[], |w, sequence| rtnl::set_mac(w, sequence, index, mac))?;
        }
        self.settings(way.ipv6, name);
        if link.flags & rtnl::IFF_UP == 0 {
            links.set_up(index, name)?;
        }
        let whole = family(way.ipv6).whole;
        let addresses = links.addresses()?.into_iter().filter(|address| address.link == index);
        let (right, wrong): (Vec<_>, Vec<_>) =
            addresses.partition(|held| (held.address, held.prefix) == (base, whole));
        if right.is_empty() {
            links.set_address(index, name, base, whole)?;
        }
        // Each interface of IPv6 has one that counts on its wire only.
        for held in wrong.into_iter().filter(|held| held.scope != SCOPE_LINK) {
            links.change(
                || format!("take {}/{} from {name}", held.address, held.prefix),
                &[],
                |w, sequence| {
                    rtnl::delete_address(w, sequence, index, held.address, held.prefix);
                },
            )?;
        }
        Ok(index)
    }

    fn settings(&self, ipv6: bool, name: &str) {
        let disable_ipv6 = format!("ipv6/conf/{name}/disable_ipv6");
        // Nobody at the other end says which router to use, and nobody there is told.
        if let Err(error) = sys::netns::distrust(name) {
            log::warn!("have {name} believe no router that a pod says it is: {error}");
        }
        if ipv6 {
            sysctl::set(&disable_ipv6, "0");
            return;
        }
        sysctl::set(&format!("ipv4/conf/{name}/send_redirects"), "0");
        if sysctl::is(&disable_ipv6, "0") {
            sysctl::set(&disable_ipv6, "1");
        }
        // Node ports answer on 127.0.0.1, as on the bridge, and the rules guard it the same.
        sysctl::set(&format!("ipv4/conf/{name}/route_localnet"), "1");
    }
}

impl Way {
    fn complain(&self, refused: Vec<Refusal>) {
        let mut known = lock(&self.refused);
        for (name, why) in refused.iter().filter(|refusal| !known.contains(refusal)) {
            log::warn!("node {name:?}: its pods are not reached from here: {why}");
        }
        *known = refused;
    }
}

/// Two patches of annotations as one.
fn both(one: Option<Value>, other: Option<Value>) -> Option<Value> {
    let (mut one, mut other) = match (one, other) {
        (Some(one), Some(other)) => (one, other),
        (one, other) => return one.or(other),
    };
    let of = |patch: &mut Value| patch["metadata"]["annotations"].take();
    if let (Value::Object(mut all), Value::Object(more)) = (of(&mut one), of(&mut other)) {
        all.extend(more);
        one["metadata"]["annotations"] = Value::Object(all);
    }
    Some(one)
}

fn without_tunnel(links: &mut Links, ipv6: bool) -> Result<()> {
    match links.find_vxlan(family(ipv6).device)? {
        Some((link, _)) if is_ours(&link) => links.delete(&link),
        _ => Ok(()),
    }
}

/// The node's interface and addresses as they are now.
fn here(links: &mut Links, config: &Config, node: &NodeLink, ipv6: bool) -> Result<(u32, Here)> {
    let index = links.find(&node.interface)?.map_or(0, |link| link.index);
    let addresses = links.addresses()?;
    let own = config.node_ips.iter().chain(&node.addresses).copied();
    let address = own.filter(|address| !address.is_loopback()).find(|a| a.is_ipv6() == ipv6);
    let wire = addresses.iter().filter(|address| address.link == index);
    let on_link = wire.filter_map(|a| Cidr::new(a.address, a.prefix)).collect();
    let addresses = addresses.iter().map(|held| (held.address, held.prefix)).collect();
    Ok((index, Here { address, addresses, on_link }))
}

/// Gives the kernel the entries for `peers` and takes others away: what both have is not touched. `by` is the
/// link that routes lead to, `tunnel` the same if it is one.
fn apply(
    links: &mut Links,
    config: &Config,
    (ipv6, tunnel): (bool, Option<u32>),
    by: u32,
    peers: &[Peer],
) -> Result<()> {
    let mut errors = Errors(None);
    let routes: Vec<rtnl::Route> = peers
        .iter()
        .map(|peer| rtnl::Route {
            ipv6,
            destination: Some((peer.block.first(), peer.block.prefix())),
            gateway: Some(if tunnel.is_some() { peer.block.first() } else { peer.address }),
            link: Some(by),
            on_link: tunnel.is_some(),
            ..rtnl::Route::default()
        })
        .collect();
    let mut present = links.routes()?;
    present.retain(|route| {
        let ours = route.protocol == rtnl::PROTOCOL_K3RS || route.link == tunnel;
        route.ipv6 == ipv6 && ours && leads_to_pods(config, route)
    });
    for old in &present {
        // One to the same pods by another way is replaced below.
        if !routes.iter().any(|route| route.destination == old.destination) {
            log::info!("pods of another node are reached no more: {}", shown(old));
            errors.note(links.delete_route(old));
        }
    }
    if let Some(device) = tunnel {
        errors.note(neighbours(links, (device, ipv6), peers));
    }
    let same = |a: &rtnl::Route, b: &rtnl::Route| {
        let of = |r: &rtnl::Route| (r.destination, r.gateway, r.link, r.on_link);
        of(a) == of(b)
    };
    for (route, peer) in routes.iter().zip(peers) {
        if !present.iter().any(|old| same(old, route)) {
            log::info!("pods of another node are reached: {} at {}", shown(route), peer.address);
            errors.note(links.set_route(route));
        }
    }
    errors.0.map_or(Ok(()), Err)
}

/// Tells the tunnel where each node's end of it is.
fn neighbours(links: &mut Links, (device, ipv6): (u32, bool), peers: &[Peer]) -> Result<()> {
    let mut errors = Errors(None);
    let entry = |peer: &Peer, address: IpAddr, forwards: bool| rtnl::Neighbour {
        link: device,
        mac: peer.mac,
        address,
        forwards,
    };
    let wanted: Vec<rtnl::Neighbour> = peers
        .iter()
        .flat_map(|peer| [entry(peer, peer.address, true), entry(peer, peer.block.first(), false)])
        .collect();
    let present = links.neighbours(device, ipv6)?;
    for old in present.iter().filter(|old| !wanted.contains(old)) {
        errors.note(links.delete_neighbour(old));
    }
    for new in wanted.iter().filter(|new| !present.contains(new)) {
        errors.note(links.set_neighbour(new));
    }
    errors.0.map_or(Ok(()), Err)
}

fn shown(route: &rtnl::Route) -> String {
    route.destination.map_or_else(String::new, |(address, prefix)| format!("{address}/{prefix}"))
}

/// The first of several errors: what fails for one node must not cut off the others.
struct Errors(Option<Error>);

impl Errors {
    fn note(&mut self, result: Result<()>) {
        if let Err(error) = result {
            self.0.get_or_insert(error);
        }
    }
}

/// Follows the Nodes for as long as the network lives.
pub(crate) async fn watch(weak: Weak<Shared>, client: Client) {
    let selection =
        Selection { kind: &NODE, namespace: String::new(), field_selector: String::new() };
    let mut hear = |news: News| {
        let Some(shared) = weak.upgrade() else { return false };
        if let Some(overlay) = &shared.overlay
            && overlay.hear(&news)
        {
            overlay.wake.notify(usize::MAX);
        }
        true
    };
    follow(client, selection, RETRY, &mut hear).await;
}

/// Keeps entries, and this node's annotations, as the Nodes say.
pub(crate) async fn run(weak: Weak<Shared>, client: Client) {
    let mut failures = 0;
    loop {
        let Some(shared) = weak.upgrade() else { return };
        let Some(overlay) = &shared.overlay else { return };
        let woken = overlay.wake.listen();
        let worker = Arc::clone(&shared);
        let step = rt::unblock(move || {
            let node = lock(&worker.node).clone();
            worker.overlay.as_ref().map(|overlay| overlay.step(&node))
        });
        let (applied, patch) = step.await.unwrap_or((Ok(()), None));
        let mut failed = false;
        if let Err(error) = applied {
            log::warn!("pods of other nodes: {error}");
            failed = true;
        }
        let name = shared.config.node_name.clone();
        drop(shared);
        if let Some(patch) = patch
            && let Err(status) = client.patch(&NODE, "", &name, "", PatchType::Merge, patch).await
        {
            log::debug!("annotate node {name}: {status}");
            failed = true;
        }
        failures = if failed { failures + 1 } else { 0 };
        match failed {
            true => rt::future::or(woken, rt::sleep(RETRY.delay(failures))).await,
            false => woken.await,
        }
        rt::sleep(SETTLE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::path::PathBuf;

    use serde_json::json;
    use sys::netlink::{Family, Netlink};
    use wire::netlink::messages;

    use super::*;

    const DEVICE: &str = "flannel.1";

    /// A node at 192.0.2.10, in a network namespace; skipped where none can be made.
    fn in_a_namespace(name: &str, test: impl FnOnce(&mut World) + Send) {
        let path = std::env::temp_dir().join(format!("k3rs-overlay-{name}-{}", std::process::id()));
        let ran = sys::netns::run_in_new(|| {
            let test = std::panic::AssertUnwindSafe(|| test(&mut World::new(path.clone())));
            let result = std::panic::catch_unwind(test);
            let _ = sys::netns::delete(&path);
            result
        });
        match ran {
            Err(error) => println!("skipped, no network namespace can be made: {error}"),
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Ok(Ok(())) => {}
        }
    }

    struct World {
        links: Links,
        node: NodeLink,
        events: Netlink,
    }

    impl World {
        fn new(path: PathBuf) -> World {
            let mut links = Links::open().unwrap();
            sys::netns::create(&path).unwrap();
            let other = rt::fs::open(&path).unwrap();
            let bridge = "br";
            links
                .change(String::new, &[], |w, s| rtnl::create_bridge(w, s, bridge, [2; 6], 1500))
                .unwrap();
            let veth = rtnl::Veth {
                name: "eth0",
                peer: "eth0",
                peer_netns: other.as_raw_fd(),
                peer_mac: [2; 6],
                mtu: 1500,
                master: links.find(bridge).unwrap().unwrap().index,
            };
            links.change(String::new, &[], |w, s| rtnl::create_veth(w, s, &veth)).unwrap();
            let eth0 = links.find("eth0").unwrap().unwrap().index;
            links.change(String::new, &[], |w, s| rtnl::set_master(w, s, eth0, 0)).unwrap();
            links.set_up(eth0, "eth0").unwrap();
            links.set_address(eth0, "eth0", "192.0.2.10".parse().unwrap(), 24).unwrap();
            let mut far = Links::open_in(&other).unwrap();
            let index = far.find("eth0").unwrap().unwrap().index;
            far.set_up(index, "eth0").unwrap();
            let node = NodeLink {
                interface: "eth0".into(),
                mtu: 1500,
                addresses: vec!["192.0.2.10".parse().unwrap()],
            };
            const LINKS_NEIGHBOURS_ADDRESSES_ROUTES: u32 = 0x1 | 0x4 | 0x10 | 0x40;
            let events = Netlink::subscribe(Family::Route, LINKS_NEIGHBOURS_ADDRESSES_ROUTES);
            World { links, node, events: events.unwrap() }
        }

        /// Routes by way of other nodes, and what the tunnel knows, as text.
        fn entries(&mut self) -> String {
            let mut all: Vec<String> = Vec::new();
            for route in self.links.routes().unwrap().iter().filter(|r| r.gateway.is_some()) {
                let by = if route.on_link { " onlink" } else { "" };
                all.push(format!("{} via {}{by}", shown(route), route.gateway.unwrap()));
            }
            if let Some((tunnel, _)) = self.links.find_vxlan(DEVICE).unwrap() {
                for entry in self.links.neighbours(tunnel.index, false).unwrap() {
                    let to = if entry.forwards { "dst" } else { "is" };
                    all.push(format!("{:02x} {to} {}", entry.mac[5], entry.address));
                }
            }
            stdx::Arrange::arrange(&mut all[..]);
            all.join(", ")
        }

        /// What the kernel told of changes since the last call: the blocks of routes, and how many others.
        fn changed(&self) -> (Vec<String>, usize) {
            let (mut routes, mut others) = (Vec::new(), 0);
            let mut buf = Vec::new();
            while self.events.receive(&mut buf).is_ok() {
                for message in messages(&buf).flatten() {
                    match message.kind {
                        rtnl::RTM_NEWROUTE | rtnl::RTM_DELROUTE => {
                            routes.extend(rtnl::parse_route(&message).map(|route| shown(&route)));
                        }
                        _ => others += 1,
                    }
                }
            }
            (routes, others)
        }
    }

    fn config(backend: Backend) -> Config {
        let cidr = |text: &str| vec![text.parse().unwrap()];
        Config {
            node_name: "me".into(),
            pod_cidrs: cidr("10.42.0.0/24"),
            cluster_cidrs: cidr("10.42.0.0/16"),
            service_cidrs: cidr("10.43.0.0/16"),
            bridge: "cni0".into(),
            backend: Some(backend),
            node_ports: (30000, 32767),
            ..Config::default()
        }
    }

    fn overlay(backend: Backend, nodes: &[(u8, &str)]) -> Overlay {
        let overlay = Overlay::new(&config(backend), backend);
        for (n, address) in nodes {
            tell(&overlay, *n, address);
        }
        overlay.listed.store(true, Ordering::Relaxed);
        overlay
    }

    /// Node `n` has the block 10.42.n.0/24 and a hardware address that ends in n.
    fn tell(overlay: &Overlay, n: u8, address: &str) {
        let data = match overlay.backend {
            Backend::Vxlan => format!(r#"{{"VNI":1,"VtepMAC":"5e:00:00:00:00:{n:02x}"}}"#),
            Backend::HostGw => "null".into(),
        };
        lock(&overlay.ways[0].nodes).set(&json!({
            "metadata": {"name": format!("n{n}"), "annotations": {
                "flannel.alpha.coreos.com/kube-subnet-manager": "true",
                "flannel.alpha.coreos.com/backend-type": overlay.backend.name(),
                "flannel.alpha.coreos.com/backend-data": data,
                "flannel.alpha.coreos.com/public-ip": address,
            }},
            "spec": {"podCIDRs": [format!("10.42.{n}.0/24")]},
        }));
    }

    #[test]
    fn the_tunnel_has_what_the_nodes_say_and_nothing_else_is_touched() {
        in_a_namespace("vxlan", |world| {
            let step = |world: &World, overlay: &Overlay| overlay.step(&world.node).0.unwrap();
            let first = overlay(Backend::Vxlan, &[]);
            step(world, &first);
            assert!(world.links.find(DEVICE).unwrap().is_none(), "one node needs no tunnel");
            for n in [1, 2] {
                tell(&first, n, &format!("192.0.2.1{n}"));
            }
            step(world, &first);
            let two = "01 dst 192.0.2.11, 01 is 10.42.1.0, 02 dst 192.0.2.12, 02 is 10.42.2.0, \
                10.42.1.0/24 via 10.42.1.0 onlink, 10.42.2.0/24 via 10.42.2.0 onlink";
            assert_eq!(world.entries(), two);
            let (tunnel, vxlan) = world.links.find_vxlan(DEVICE).unwrap().unwrap();
            assert_eq!((tunnel.mtu, &*tunnel.mac), (1450, &[0x0a, 0x58, 10, 42, 0, 0][..]));
            assert_eq!(vxlan.unwrap().local.to_string(), "192.0.2.10");
            for (what, value) in [
                ("ipv4/conf/flannel.1/accept_redirects", "0"),
                ("ipv4/conf/flannel.1/send_redirects", "0"),
                ("ipv6/conf/flannel.1/disable_ipv6", "1"),
            ] {
                assert!(sysctl::is(what, value), "{what}");
            }
            let held = world.links.addresses().unwrap().into_iter();
            let held = held.filter(|a| a.link == tunnel.index).map(|a| (a.address, a.prefix));
            assert_eq!(held.collect::<Vec<_>>(), [("10.42.0.0".parse::<IpAddr>().unwrap(), 32)]);

            // A start over what is there: nothing changes, and before the Nodes are known nothing goes.
            world.changed();
            let again = overlay(Backend::Vxlan, &[(2, "192.0.2.12"), (1, "192.0.2.11")]);
            again.listed.store(false, Ordering::Relaxed);
            tell(&again, 3, "192.0.2.13");
            step(world, &again);
            lock(&again.ways[0].nodes).remove("n3");
            again.listed.store(true, Ordering::Relaxed);
            step(world, &again);
            assert_eq!(world.changed(), (Vec::new(), 0));

            // One node moves, one goes: the other's entries are not touched.
            tell(&again, 2, "192.0.2.99");
            step(world, &again);
            assert_eq!(world.entries(), two.replace("02 dst 192.0.2.12", "02 dst 192.0.2.99"));
            assert_eq!(world.changed().0, Vec::<String>::new(), "its route is the same");
            lock(&again.ways[0].nodes).remove("n2");
            step(world, &again);
            assert_eq!(world.changed().0, ["10.42.2.0/24"]);
            let one = "01 dst 192.0.2.11, 01 is 10.42.1.0, 10.42.1.0/24 via 10.42.1.0 onlink";
            assert_eq!(world.entries(), one);

            // Somebody takes it away; the node's address changes; nobody is left.
            world.links.delete(&tunnel).unwrap();
            assert_eq!(world.entries(), "");
            step(world, &again);
            assert_eq!(world.entries(), one);
            let eth0 = world.links.find("eth0").unwrap().unwrap().index;
            world.links.set_address(eth0, "eth0", "198.51.100.1".parse().unwrap(), 24).unwrap();
            world.node.addresses = vec!["198.51.100.1".parse().unwrap()];
            step(world, &again);
            assert_eq!(world.entries(), one);
            let (_, vxlan) = world.links.find_vxlan(DEVICE).unwrap().unwrap();
            assert_eq!(vxlan.unwrap().local.to_string(), "198.51.100.1");
            lock(&again.ways[0].nodes).remove("n1");
            step(world, &again);
            assert!(world.links.find(DEVICE).unwrap().is_none());
        });
    }

    #[test]
    fn pods_of_both_families_have_a_tunnel_each() {
        in_a_namespace("both", |world| {
            if !sysctl::is("ipv6/conf/eth0/disable_ipv6", "0") {
                return println!("skipped, there is no IPv6");
            }
            let eth0 = world.links.find("eth0").unwrap().unwrap().index;
            world.links.set_address(eth0, "eth0", "fd00::10".parse().unwrap(), 64).unwrap();
            world.node.addresses.push("fd00::10".parse().unwrap());
            let mut config = config(Backend::Vxlan);
            config.pod_cidrs.push("fd42::/64".parse().unwrap());
            config.cluster_cidrs.push("fd42::/56".parse().unwrap());
            let overlay = Overlay::new(&config, Backend::Vxlan);
            overlay.listed.store(true, Ordering::Relaxed);
            for way in &overlay.ways {
                lock(&way.nodes).set(&json!({
                    "metadata": {"name": "n1", "annotations": {
                        "flannel.alpha.coreos.com/kube-subnet-manager": "true",
                        "flannel.alpha.coreos.com/backend-type": "vxlan",
                        "flannel.alpha.coreos.com/backend-data": r#"{"VNI":1,"VtepMAC":"5e:00:00:00:00:01"}"#,
                        "flannel.alpha.coreos.com/backend-v6-data": r#"{"VNI":1,"VtepMAC":"5e:00:00:00:06:01"}"#,
                        "flannel.alpha.coreos.com/public-ip": "192.0.2.11",
                        "flannel.alpha.coreos.com/public-ipv6": "fd00::11",
                    }},
                    "spec": {"podCIDRs": ["10.42.1.0/24", "fd42:0:0:1::/64"]},
                }));
                lock(&way.nodes).set(&json!({"metadata": {"name": "me"}}));
            }
            let (done, patch) = overlay.step(&world.node);
            done.unwrap();
            let notes = patch.unwrap()["metadata"]["annotations"].as_object().unwrap().len();
            assert_eq!(notes, 6, "of both families");
            let (six, vxlan) = world.links.find_vxlan("flannel-v6.1").unwrap().unwrap();
            assert_eq!((six.mtu, vxlan.unwrap().local.to_string().as_str()), (1430, "fd00::10"));
            assert_eq!(world.links.find(DEVICE).unwrap().unwrap().mtu, 1430);
            let mut entries: Vec<String> = world
                .links
                .neighbours(six.index, true)
                .unwrap()
                .iter()
                .map(|n| format!("{:02x}{:02x} {} {}", n.mac[4], n.mac[5], n.address, n.forwards))
                .collect();
            stdx::Arrange::arrange(&mut entries[..]);
            assert_eq!(entries, ["0601 fd00::11 true", "0601 fd42:0:0:1:: false"]);
            let routes = world.links.routes().unwrap();
            let to = |text: &str| Some((text.parse::<IpAddr>().unwrap(), 64));
            let way = routes.iter().find(|route| route.destination == to("fd42:0:0:1::")).unwrap();
            assert_eq!((way.link, way.on_link), (Some(six.index), true));
            // A start over it changes nothing; without anybody else nothing is left.
            world.changed();
            overlay.step(&world.node).0.unwrap();
            assert_eq!(world.changed(), (Vec::new(), 0));
            for way in &overlay.ways {
                lock(&way.nodes).remove("n1");
            }
            overlay.step(&world.node).0.unwrap();
            assert!(world.links.find("flannel-v6.1").unwrap().is_none());
            assert!(world.links.find(DEVICE).unwrap().is_none());
        });
    }

    #[test]
    fn neighbours_are_routed_to_and_the_backend_can_change() {
        in_a_namespace("host-gw", |world| {
            let vxlan = overlay(Backend::Vxlan, &[(1, "192.0.2.11")]);
            vxlan.step(&world.node).0.unwrap();
            let nodes = [(1, "192.0.2.11"), (2, "192.0.2.12"), (3, "203.0.113.7")];
            let host_gw = overlay(Backend::HostGw, &nodes);
            host_gw.step(&world.node).0.unwrap();
            assert_eq!(world.entries(), "10.42.1.0/24 via 192.0.2.11, 10.42.2.0/24 via 192.0.2.12");
            let why = lock(&host_gw.ways[0].refused).clone();
            assert!(
                why.len() == 1 && &*why[0].0 == "n3" && why[0].1.contains("host-gw"),
                "{why:?}"
            );
            world.changed();
            host_gw.step(&world.node).0.unwrap();
            assert_eq!(world.changed(), (Vec::new(), 0));
            tell(&host_gw, 2, "192.0.2.13");
            host_gw.step(&world.node).0.unwrap();
            assert_eq!(world.changed().0, ["10.42.2.0/24"]);
            vxlan.step(&world.node).0.unwrap();
            let back = "01 dst 192.0.2.11, 01 is 10.42.1.0, 10.42.1.0/24 via 10.42.1.0 onlink";
            assert_eq!(world.entries(), back);
            // Routes of others stay, also into the cluster's range.
            let foreign = rtnl::Route {
                destination: Some(("10.42.7.0".parse().unwrap(), 24)),
                gateway: "192.0.2.1".parse().ok(),
                protocol: 4,
                ..rtnl::Route::default()
            };
            world.links.set_route(&foreign).unwrap();
            vxlan.step(&world.node).0.unwrap();
            remove(&config(Backend::Vxlan)).unwrap();
            assert_eq!(world.entries(), "10.42.7.0/24 via 192.0.2.1");
            // A tunnel of another flannel is not ours to remove.
            let eth0 = world.links.find("eth0").unwrap().unwrap().index;
            let local = "192.0.2.10".parse().unwrap();
            let theirs = rtnl::Vxlan { id: VNI, link: eth0, local, port: VXLAN_PORT };
            let make = |w: &mut wire::netlink::Writer, s| {
                rtnl::create_vxlan(w, s, DEVICE, [0x5e, 0, 0, 0, 0, 1], 1450, &theirs);
            };
            world.links.change(String::new, &[], make).unwrap();
            remove(&config(Backend::Vxlan)).unwrap();
            assert!(world.links.find(DEVICE).unwrap().is_some());
        });
    }
}
